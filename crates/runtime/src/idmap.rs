//! Writing the identity maps of a user namespace: as root, through newuidmap(1) and newgidmap(1), or for one's own id.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_spec::IdMapping;
use bulkhead_sys::mount::{Attributes, Reach, set_attributes};
use bulkhead_sys::namespace::Kind;
use bulkhead_sys::{namespace, path, process};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::{Doing, Error, Result};
use crate::plan::mounts::MappedBy;
use crate::plan::namespaces::{IdMaps, host_id, map_text};
use crate::{clone, passwd};

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

/// Returns the maps of a user namespace for which nobody has written any, from what the host sets aside for the caller in
/// `/etc/subuid` and `/etc/subgid` (subuid(5)): root gets its range from the container's id 0 on, and never itself; an
/// ordinary user is the container's root, with the range behind, or alone without one, as under `unshare --map-root-user`.
///
/// # Errors
/// Root without a range; a file that cannot be read.
pub(crate) fn of_caller() -> Result<IdMaps> {
    let uid = rustix::process::geteuid().as_raw();
    let name = passwd::name(uid);
    let maps = |file: &str, pointer: &str, own: u32| {
        let text = match std::fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.doing(|| format!("read {file}"))?,
        };
        maps_of(uid, own, range_in(&String::from_utf8_lossy(&text), &name, uid)).ok_or_else(|| {
            let reason = format!(
                "a new user namespace needs a mapping of its ids: write uidMappings and gidMappings, \
                 or give root a range in {file} (root:100000:65536)"
            );
            Error::invalid(pointer, reason)
        })
    };
    let uids = maps("/etc/subuid", "/linux/uidMappings", uid)?;
    let gids = maps("/etc/subgid", "/linux/gidMappings", rustix::process::getegid().as_raw())?;
    Ok(IdMaps { uids, gids })
}

/// `own` is the caller's user or group, `range` the first id and the number of those set aside for it.
fn maps_of(caller: u32, own: u32, range: Option<(u32, u32)>) -> Option<Vec<IdMapping>> {
    let behind = |container_id| {
        range.map(|(host_id, size)| IdMapping { container_id, host_id, size }).into_iter().collect::<Vec<_>>()
    };
    if caller == 0 {
        // A range that begins with root is none that could be lent.
        return Some(behind(0)).filter(|maps| maps.first().is_some_and(|map| map.host_id != 0));
    }
    let mut maps = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    maps.extend(behind(1));
    Some(maps)
}

/// Finds a user's first range, by name or number; both files go by users.
fn range_in(text: &str, name: &str, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let (owner, range) = line.split_once(':')?;
        let (first, size) = range.split_once(':')?;
        let (first, size) = (first.trim().parse().ok()?, size.trim().parse().ok()?);
        (size > 0 && (owner == name || owner.parse() == Ok(uid))).then_some((first, size))
    })
}

/// Reads the maps of the user namespace that process `pid` is in.
///
/// # Errors
/// As open(2) of `/proc/PID/uid_map`.
pub(crate) fn of_process(pid: i32) -> Result<IdMaps> {
    Ok(IdMaps { uids: map_of(pid, "uid_map")?, gids: map_of(pid, "gid_map")? })
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
    let uid = rustix::process::geteuid().as_raw();
    if is_single(&maps.uids, uid) {
        own("uid_map", &map_text(&maps.uids))?;
    } else {
        UIDS.map(pid, &maps.uids, uid)?;
    }
    if groups(maps, privileged) == Groups::Denied {
        own("setgroups", "deny")?;
        own("gid_map", &map_text(&maps.gids))
    } else {
        GIDS.map(pid, &maps.gids, rustix::process::getegid().as_raw())
    }
}

/// Translates a user of the user namespace that process `pid` is in to the caller's; `None` for one who is not mapped.
///
/// # Errors
/// As open(2) of `/proc/PID/uid_map`.
pub(crate) fn host_uid(pid: i32, uid: u32) -> Result<Option<u32>> {
    Ok(host_id(&map_of(pid, "uid_map")?, uid))
}

fn map_of(pid: i32, file: &str) -> Result<Vec<IdMapping>> {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    let parse = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
        let (container_id, host_id, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(IdMapping { container_id, host_id, size })
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// Tells whether a map is one that an unprivileged process may write itself: its own id and nothing else.
fn is_single(maps: &[IdMapping], own: u32) -> bool {
    matches!(maps, [map] if map.host_id == own && map.size == 1)
}

/// What maps ranges for an ordinary user: a program, the file of the ranges that it goes by, what config.json calls the
/// maps, and the capability that it needs.
struct Helper {
    program: &'static str,
    file: &'static str,
    mappings: &'static str,
    capability: &'static str,
}

const UIDS: Helper =
    Helper { program: "newuidmap", file: "/etc/subuid", mappings: "uidMappings", capability: "CAP_SETUID" };

const GIDS: Helper =
    Helper { program: "newgidmap", file: "/etc/subgid", mappings: "gidMappings", capability: "CAP_SETGID" };

impl Helper {
    /// Maps the ids of a caller whose own is `own`.
    fn map(&self, pid: i32, maps: &[IdMapping], own: u32) -> Result<()> {
        let mut command = Command::new(self.program);
        // What it says is looked at.
        command.arg(pid.to_string()).env("LC_ALL", "C");
        for map in maps {
            command.args([map.container_id, map.host_id, map.size].map(|number| number.to_string()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = match process::spawn(&mut command).and_then(Child::wait_with_output) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Usage(self.missing()));
            }
            output => output.doing(|| format!("run {}", self.program))?,
        };
        if output.status.success() {
            return Ok(());
        }
        let user = passwd::name(rustix::process::geteuid().as_raw());
        let said = String::from_utf8_lossy(&output.stderr);
        // Both files go by users, whom a number names, too.
        Err(Error::Usage(self.refusal(maps, own, user.trim_start_matches('#'), &said)))
    }

    fn missing(&self) -> String {
        let Self { program, file, mappings, .. } = self;
        format!(
            "no program {program} is in PATH, without which an ordinary user cannot have the ids of {file}: install it \
             (Debian: package uidmap, Fedora: shadow-utils), or let {mappings} be of size 1 and of one's own id"
        )
    }

    fn refusal(&self, maps: &[IdMapping], own: u32, user: &str, said: &str) -> String {
        let Self { program, file, mappings, capability } = self;
        let said = said.trim();
        let said = said.strip_prefix(program).map_or(said, |said| said.trim_start_matches([':', ' ']));
        let way = if said.contains("not allowed") {
            let lines = maps.iter().filter(|map| !is_single(std::slice::from_ref(map), own));
            let lines: Vec<_> = lines.map(|map| format!("{user}:{}:{}", map.host_id, map.size)).collect();
            let lines = lines.join(" and ");
            format!("{file} must have {lines}, or {mappings} keep to the ids that it has for this user")
        } else {
            format!(
                "for the ids of {file} it must be set-user-id root or have {capability} as a file capability, \
                 which a mount with nosuid and no_new_privs take away"
            )
        };
        format!("{program} refused the identity map ({said}): {way}")
    }
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

/// Returns the host's ids of whoever sets the user namespace up that maps a mount: its root, or the first that it has.
///
/// # Errors
/// As for joining a user namespace.
pub(crate) fn root_on_host(by: &MappedBy) -> Result<(u32, u32)> {
    let maps = match by {
        MappedBy::Maps(maps) => maps.clone(),
        MappedBy::Namespace(_) => seen_maps(namespace_of(by)?.as_fd())?,
    };
    let ids = host_id(&maps.uids, maps.first_uid()).zip(host_id(&maps.gids, maps.first_gid()));
    ids.ok_or_else(|| Error::Usage("the user namespace that maps the layers has nobody in it".into()))
}

/// Makes a user namespace that exists only to carry maps, for an idmapped mount, and returns its descriptor.
///
/// # Errors
/// As clone3(2) and [`write`].
fn namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let request = clone::Request { namespaces: Kind::User.flag(), ..clone::Request::default() };
    while_held(
        &request,
        || Ok(()),
        |pid| {
            write(pid, maps, true)?;
            let link = format!("/proc/{pid}/ns/user");
            path::open_host(link.as_ref(), OFlags::RDONLY)
                .doing(|| "open the user namespace of an idmapped mount")
        },
    )
}

/// Reads the maps of a user namespace as the runtime sees them, whose own may be any: somebody goes there for it.
fn seen_maps(namespace: BorrowedFd<'_>) -> Result<IdMaps> {
    let enter =
        || namespace::join(namespace, Kind::User).doing(|| "enter the user namespace that maps a mount");
    while_held(&clone::Request::default(), enter, of_process)
}

/// Does something with a process that has done `enter` and then waits for its end.
fn while_held<T>(
    request: &clone::Request<'_>,
    enter: impl Fn() -> Result<()>,
    with: impl FnOnce(i32) -> Result<T>,
) -> Result<T> {
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .doing(|| "make a pipe to the process that holds a user namespace")
    };
    let ((hold, release), (entered, tell)) = (pipe()?, pipe()?);
    let (mut release, mut tell) = (Some(release), Some(tell));
    let child = clone::spawn(request, || {
        // With the copy of the writing end gone, the read ends when the parent does.
        drop(release.take());
        if enter().is_err() {
            return 1;
        }
        let _ = tell.take().map(|tell| rustix::io::write(&tell, b"."));
        let _ = rustix::io::read(&hold, &mut [0_u8; 1]);
        0
    })
    .doing(|| "make the process that holds a user namespace")?;
    drop(tell.take());
    let result = match retry_on_intr(|| rustix::io::read(&entered, &mut [0_u8; 1])) {
        Ok(1) => with(child.pid),
        _ => Err(Error::Usage("the user namespace that maps a mount cannot be entered".into())),
    };
    drop(release.take());
    let _ = process::signal(&child.pidfd, rustix::process::Signal::KILL.as_raw());
    waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
        .doing(|| "wait for the holder of a user namespace")?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text =
            "broken\nroot:\nother:5:5\nroot:100000:0\nroot:x:5\n0:7:8\nroot:100000:65536\n\nu:200000:9 \n";
        assert_eq!(range_in(text, "root", 0), Some((7, 8)));
        assert_eq!(range_in(text, "u", 1000), Some((200_000, 9)));
        assert_eq!(range_in(text, "#5", 5), None);
        assert_eq!(range_in("a:1:4294967296\n", "a", 1), None);
    }

    #[test]
    fn root_of_the_host_is_never_lent() {
        let shown = |caller, own, range| {
            let maps = maps_of(caller, own, range)?;
            Some(map_text(&maps))
        };
        assert_eq!(shown(0, 0, Some((100_000, 10))).as_deref(), Some("0 100000 10\n"));
        for range in [None, Some((0, 65536))] {
            assert_eq!(shown(0, 0, range), None, "{range:?}");
        }
        assert_eq!(shown(1000, 1001, None).as_deref(), Some("0 1001 1\n"));
        assert_eq!(shown(1000, 1001, Some((7, 8))).as_deref(), Some("0 1001 1\n1 7 8\n"));
    }

    #[test]
    fn a_helper_that_refuses_is_told_with_the_way_out() {
        let map = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let maps = [map(0, 1000, 1), map(1, 300_000, 70_000), map(70_001, 1001, 1)];
        let said = "newgidmap: gid range [1-70001) -> [300000-370000) not allowed\n";
        assert_eq!(
            GIDS.refusal(&maps, 1000, "u", said),
            "newgidmap refused the identity map (gid range [1-70001) -> [300000-370000) not allowed): /etc/subgid must \
             have u:300000:70000 and u:1001:1, or gidMappings keep to the ids that it has for this user"
        );
        let said = "newuidmap: write to uid_map failed: Operation not permitted\n";
        assert_eq!(
            UIDS.refusal(&maps, 1000, "u", said),
            "newuidmap refused the identity map (write to uid_map failed: Operation not permitted): for the ids of \
             /etc/subuid it must be set-user-id root or have CAP_SETUID as a file capability, which a mount with nosuid and \
             no_new_privs take away"
        );
    }
}
