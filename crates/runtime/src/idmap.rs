//! Writing the identity maps of a user namespace: as root, through newuidmap(1) and newgidmap(1), or for one's own id.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_spec::IdMapping;
use bulkhead_sys::mount::{Attributes, Reach, set_attributes};
use bulkhead_sys::namespace::Kind;
use bulkhead_sys::{path, process};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clone;
use crate::error::{Doing, Error, Result};
use crate::plan::mounts::MappedBy;
use crate::plan::namespaces::{IdMaps, host_id, map_text};

/// Whether the process can set supplementary groups in its user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    /// setgroups(2) works.
    Allowed,
    /// It is denied for good, the price of an unprivileged gid map.
    Denied,
}

/// Decides, before the namespace exists, whether its processes will be able to set groups.
///
/// The kernel lets an unprivileged process map its own group only if setgroups(2) is denied; newgidmap(1) needs no such
/// thing.
fn groups(maps: &IdMaps, privileged: bool) -> Groups {
    if !privileged && is_single(&maps.gids, rustix::process::getegid().as_raw()) {
        Groups::Denied
    } else {
        Groups::Allowed
    }
}

/// Reads whether process `pid`, or `self`, can set groups in the user namespace that it is in.
///
/// # Errors
/// As open(2) of `/proc/PID/setgroups`.
pub(crate) fn groups_of(pid: &str) -> Result<Groups> {
    let path = format!("/proc/{pid}/setgroups");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    Ok(if text.trim_end() == "deny" { Groups::Denied } else { Groups::Allowed })
}

/// Writes the maps of the user namespace of process `pid`, a child of the caller.
///
/// # Errors
/// EPERM for ids that the caller may not map, and a helper program that is missing or refuses.
pub(crate) fn write(pid: i32, maps: &IdMaps, privileged: bool) -> Result<()> {
    let own = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, text).doing(|| format!("write {:?} to {path}", text.trim_end()))
    };
    if privileged {
        own("uid_map", &map_text(&maps.uids))?;
        return own("gid_map", &map_text(&maps.gids));
    }
    if is_single(&maps.uids, rustix::process::geteuid().as_raw()) {
        own("uid_map", &map_text(&maps.uids))?;
    } else {
        helper("newuidmap", pid, &maps.uids)?;
    }
    if groups(maps, privileged) == Groups::Denied {
        own("setgroups", "deny")?;
        own("gid_map", &map_text(&maps.gids))
    } else {
        helper("newgidmap", pid, &maps.gids)
    }
}

/// Translates a user of the user namespace that process `pid` is in to the caller's; `None` for one who is not mapped.
///
/// # Errors
/// As open(2) of `/proc/PID/uid_map`.
pub(crate) fn host_uid(pid: i32, uid: u32) -> Result<Option<u32>> {
    let path = format!("/proc/{pid}/uid_map");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    let parse = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
        let (container_id, host_id, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(IdMapping { container_id, host_id, size })
    };
    let maps: Vec<_> = text.lines().filter_map(parse).collect();
    Ok(host_id(&maps, uid))
}

/// Tells whether a map is one that an unprivileged process may write itself: its own id and nothing else.
fn is_single(maps: &[IdMapping], own: u32) -> bool {
    matches!(maps, [map] if map.host_id == own && map.size == 1)
}

fn helper(program: &str, pid: i32, maps: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.container_id, map.host_id, map.size].map(|number| number.to_string()));
    }
    let file = if program == "newuidmap" { "/etc/subuid" } else { "/etc/subgid" };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = process::spawn(&mut command).and_then(Child::wait_with_output).doing(|| {
        format!("run {program}: mapping more than one's own id as an ordinary user needs it (Debian: package uidmap)")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Usage(format!(
        "{program} refused the identity map ({said}); the ranges of {file} are what is allowed"
    )))
}

/// Returns the user namespace that maps a mount: one made for it, or the one at a path.
///
/// # Errors
/// As [`namespace`] and open(2).
pub(crate) fn namespace_of(by: &MappedBy) -> Result<OwnedFd> {
    match by {
        MappedBy::Maps(maps) => namespace(maps),
        MappedBy::Namespace(path) => {
            path::open_host(path, OFlags::RDONLY).doing(|| "open the user namespace that maps a mount")
        }
    }
}

/// Shows the ids in a detached tree, the one of `path`, as a user namespace maps them.
///
/// # Errors
/// EINVAL and EPERM, in words.
pub(crate) fn map_tree(tree: &OwnedFd, namespace: BorrowedFd<'_>, reach: Reach, path: &Path) -> Result<()> {
    set_attributes(tree.as_fd(), Attributes::default().with_idmap(namespace), reach).map_err(|source| {
        let why = match source.errno() {
            Errno::INVAL => ": its file system cannot, or is mapped already",
            Errno::PERM => ": the runtime lacks CAP_SYS_ADMIN over its file system",
            Errno::NOSYS => ": that takes Linux 5.12",
            _ => "",
        };
        Error::System { doing: format!("map the ids of {}{why}", path.display()), source }
    })
}

/// Makes a user namespace that exists only to carry maps, for an idmapped mount, and returns its descriptor.
///
/// # Errors
/// As clone3(2) and [`write`].
fn namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let (hold, release) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .doing(|| "make a pipe to the process that holds a user namespace")?;
    let request = clone::Request { namespaces: Kind::User.flag(), ..clone::Request::default() };
    let mut release = Some(release);
    let child = clone::spawn(&request, || {
        // With the copy of the writing end gone, the read ends when the parent does.
        drop(release.take());
        let _ = rustix::io::read(&hold, &mut [0_u8; 1]);
        0
    })
    .doing(|| "make a user namespace for an idmapped mount")?;
    let result = write(child.pid, maps, true).and_then(|()| {
        let link = format!("/proc/{}/ns/user", child.pid);
        path::open_host(link.as_ref(), OFlags::RDONLY)
            .doing(|| "open the user namespace of an idmapped mount")
    });
    drop(release.take());
    let _ = process::signal(&child.pidfd, rustix::process::Signal::KILL.as_raw());
    waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
        .doing(|| "wait for the holder of a user namespace")?;
    result
}
