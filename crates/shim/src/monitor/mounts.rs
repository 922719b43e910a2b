//! Mounts that only this process and its children see: a root made of layers, and parts of what containers can change.
//!
//! The monitor leaves the host's mount namespace for a copy. There the mount on which its directory lies stops telling its
//! peers what is mounted on it, the mounts are made, and that mount becomes the peer that it was (since Linux 5.15; before,
//! it stays private). All other mounts are peers of the host's throughout, so that what a container mounts in a volume that
//! it shares with the host is seen there. What was mounted ends with the namespace.
//!
//! What a container has of others that run is had anew for each of its starts, in the same way.
//!
//! A part is looked up inside what it is a part of (openat2(2), RESOLVE_IN_ROOT), whatever links lead elsewhere there at
//! that moment or later, and what was found is mounted at a path that no container can change. Only who is in a mount
//! namespace can copy a mount of it, so the monitor goes into that of the other container and comes back.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sys::mount::{self, Attributes, Propagation, Reach};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{mountinfo, path};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};

use super::error::{Doing, Error, Result};
use super::overlay;
use crate::order::{Overlay, Part, Whole};
use crate::status::Process;

/// The way back to the host's mount namespace, and where this one differs from it.
#[derive(Debug)]
pub(super) struct Home {
    mounts: File,
    /// The mount on which the monitor's directory lies: the host's,
    peer: OwnedFd,
    /// and this process's.
    own: OwnedFd,
}

impl Home {
    /// Comes back, for what is to see and to remove the directories below the mounts.
    pub(super) fn enter(&self) -> Result<()> {
        namespace::join(self.mounts.as_fd(), Kind::Mount).doing(|| "come back to the host's mounts")
    }

    /// Mounts parts of what these processes of others have mounted, in the place of what an earlier start had.
    pub(super) fn renew(&self, parts: &[(&Part, Process)]) -> Result<()> {
        self.silently(|| {
            parts.iter().try_for_each(|(part, process)| {
                leave(&part.at)?;
                place(&part.at, &copy_from(process, &part.path)?)
            })
        })
    }

    /// Changes what is mounted on the mount of the monitor's directory, of which the host hears nothing.
    fn silently(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let silent = Attributes::default().with_propagation(Propagation::Private);
        mount::set_attached(self.own.as_fd(), silent, Reach::Mount)
            .doing(|| "mount what the container is made of")?;
        let done = work();
        // A kernel that cannot do this leaves it private, and one that was private has no group to join.
        let _ = rustix::mount::move_mount(
            &self.peer,
            "",
            &self.own,
            "",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
                | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
                | MoveMountFlags::MOVE_MOUNT_SET_GROUP,
        );
        done
    }
}

/// A tree that is attached nowhere, and the directory on which it is to be mounted.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) tree: OwnedFd,
    pub(super) at: PathBuf,
}

/// Makes the mounts that an order asks for and that last, all of them in the monitor's directory, and returns the way back to
/// the host's; where none are asked for, nothing changes.
pub(super) fn make(
    overlay: Option<&Overlay>,
    parts: &[Part],
    memory: Option<Detached>,
) -> Result<Option<Home>> {
    let doing = || "mount what the container is made of";
    let first = overlay.map(|overlay| &overlay.at).or_else(|| parts.first().map(|part| &part.at));
    let first = first.or_else(|| memory.as_ref().map(|memory| &memory.at));
    let Some(directory) = first.and_then(|at| at.parent()) else { return Ok(None) };
    let below = mount_below(directory)?;
    let mounts = File::open("/proc/self/ns/mnt").doing(doing)?;
    let peer = open(&below)?;
    namespace::unshare(Kind::Mount).doing(doing)?;
    let home = Home { mounts, peer, own: open(&below)? };
    home.silently(|| {
        overlay.map_or(Ok(()), overlay::mount)?;
        for Part { of, path, at } in parts {
            match of {
                Whole::Directory(directory) => {
                    let tree = copy(&open(directory)?, path);
                    place(at, &tree.doing(|| format!("mount {} at {}", path.display(), at.display()))?)?;
                }
                Whole::Process(process) => place(at, &copy_from(process, path)?)?,
                // Before each start.
                Whole::Container(_) => {}
            }
        }
        match memory {
            Some(Detached { tree, at }) => mount::attach(tree, open(&at)?)
                .doing(|| format!("mount the pod's /dev/shm at {}", at.display())),
            None => Ok(()),
        }
    })?;
    Ok(Some(home))
}

/// Unmounts what is mounted at a place; nothing is no error.
fn leave(at: &Path) -> Result<()> {
    match rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).doing(|| format!("unmount {}", at.display())),
    }
}

/// Mounts a part where the runtime looks for it.
fn place(at: &Path, tree: &OwnedFd) -> Result<()> {
    let doing = || format!("mount a part at {}", at.display());
    let kind = FileType::from_raw_mode(rustix::fs::fstat(tree).doing(doing)?.st_mode);
    make_place(at, kind).doing(doing)?;
    let target = path::open_host(at, OFlags::PATH | OFlags::NOFOLLOW).doing(doing)?;
    mount::attach(tree, &target).doing(doing)
}

/// Copies what is at a path inside a root as a tree that is attached nowhere.
fn copy(root: impl AsFd, path: &Path) -> bulkhead_sys::Result<OwnedFd> {
    let found = path::open_in_root(root, path, OFlags::PATH)?;
    mount::clone_tree(&found, Path::new(""), Reach::Tree)
}

/// Copies it in the mount namespace of another process.
pub(super) fn copy_from(process: &Process, path: &Path) -> Result<OwnedFd> {
    let doing = || format!("find {} of process {}", path.display(), process.pid);
    let of_process = |name: &str| format!("/proc/{}/{name}", process.pid);
    let there = File::open(of_process("ns/mnt")).doing(doing)?;
    let root = open(Path::new(&of_process("root")))?;
    // It had its number before both were opened, so both are its own.
    if !process.runs() {
        return Err(Error::Usage(format!("process {} of the other container has ended", process.pid)));
    }
    let here = File::open("/proc/self/ns/mnt").doing(doing)?;
    let own_root = open(Path::new("/"))?;
    namespace::join(there.as_fd(), Kind::Mount).doing(doing)?;
    let copied = copy(&root, path);
    come_back(&here, &own_root);
    copied.doing(doing)
}

/// Comes back from the mounts of another container, or ends this process on the spot: there every path is the container's,
/// also those of the runtime and of the status.
fn come_back(mounts: &File, root: &OwnedFd) {
    let is_back = namespace::join(mounts.as_fd(), Kind::Mount).is_ok()
        && rustix::process::fchdir(root).is_ok()
        && rustix::process::chroot(".").is_ok();
    if !is_back {
        std::process::abort();
    }
}

/// Makes the file or directory on which a part is mounted, in a directory that only we can change.
fn make_place(at: &Path, kind: FileType) -> std::result::Result<(), Errno> {
    let made = if kind == FileType::Directory {
        rustix::fs::mkdir(at, Mode::RWXU)
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::open(at, flags, Mode::RUSR).map(drop)
    };
    match made {
        // From an earlier start.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Finds the root of the mount that a directory lies on.
fn mount_below(directory: &Path) -> Result<PathBuf> {
    let doing = || format!("find the mount of {}", directory.display());
    let place = mountinfo::place(open(directory)?.as_fd()).doing(doing)?;
    let mounts = mountinfo::read().doing(doing)?;
    let mount = mounts.into_iter().find(|mount| mount.id == place.mount);
    mount.map(|mount| mount.point).ok_or(Errno::NOENT).doing(doing)
}

/// Opens a directory of the host.
pub(super) fn open(directory: &Path) -> Result<OwnedFd> {
    path::open_host(directory, OFlags::PATH | OFlags::DIRECTORY)
        .doing(|| format!("open {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    /// It cannot go on in this process, and does not end in it either: so it is tried in another one.
    #[test]
    fn who_cannot_come_back_goes_nowhere() {
        const THERE: &str = "BULKHEAD_TEST_IS_THERE";
        if std::env::var_os(THERE).is_some() {
            let no_namespace = File::open("/dev/null").unwrap();
            return come_back(&no_namespace, &open(Path::new("/")).unwrap());
        }
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args(["--exact", "monitor::mounts::tests::who_cannot_come_back_goes_nowhere"]);
        let status = other.env(THERE, "1").output().unwrap().status;
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    }
}
