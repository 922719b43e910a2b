//! Path lookups that cannot leave the directory they start in.
//!
//! A path that an image or a container can influence is resolved here and used as a descriptor from then on
//! (ARCHITECTURE.md, invariant 4). See openat2(2).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Call, Result};

/// How often a lookup is repeated after EAGAIN, which any rename on the machine can cause while `..` is resolved.
const ATTEMPTS: usize = 128;

/// Opens `path` as a process that has `root` as its root directory would: `..` and absolute links stay inside.
///
/// Magic links (`/proc/PID/fd/N`) are refused.
///
/// # Errors
/// ENOENT and ENOTDIR as open(2), ELOOP for magic links, EAGAIN when renames never stopped racing the lookup.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    resolve(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `directory`; a link, a `..` or an absolute path that leaves it is EXDEV, any symlink ELOOP.
///
/// # Errors
/// As openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
pub fn open_beneath(directory: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    resolve(directory, path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Opens `path` below `directory` without following a link or crossing into another mount.
///
/// This is how files of a procfs of our own are written: a file system that somebody mounted over a part of it is
/// EXDEV instead of a label that silently goes nowhere.
///
/// # Errors
/// As openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_XDEV.
pub fn open_on_mount(directory: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    resolve(directory, path, flags, Mode::empty(), rules)
}

/// Opens a path of the *host*, following links. Never for a path that an image can influence.
///
/// # Errors
/// As open(2).
pub fn open_host(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("openat(AT_FDCWD, {path:?}, {flags:?})"))
}

fn resolve(dir: impl AsFd, path: &Path, flags: OFlags, mode: Mode, rules: ResolveFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = rustix::fs::openat2(&dir, path, flags, mode, rules);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result.call(|| format!("openat2({path:?}, {flags:?}, {rules:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> std::path::PathBuf {
        let unique = format!("bulkhead-sys-path-{}-{:?}", std::process::id(), std::thread::current().id());
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn an_absolute_link_stays_inside_the_root() {
        let dir = scratch();
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/hostname"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
        let root = open_host(&dir, OFlags::PATH | OFlags::DIRECTORY).unwrap();
        let file = open_in_root(&root, Path::new("link/../../etc/hostname"), OFlags::RDONLY).unwrap();
        assert_eq!(std::io::read_to_string(std::fs::File::from(file)).unwrap(), "inside");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn beneath_refuses_links_and_dots_that_leave() {
        let dir = scratch();
        std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
        let root = open_host(&dir, OFlags::PATH | OFlags::DIRECTORY).unwrap();
        let open =
            |p: &str| open_beneath(&root, Path::new(p), OFlags::PATH, Mode::empty()).unwrap_err().errno();
        assert_eq!(open("link/passwd"), Errno::LOOP);
        assert_eq!(open("../x"), Errno::XDEV);
        assert_eq!(open("/etc"), Errno::XDEV);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn magic_links_are_refused() {
        let root = open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).unwrap();
        let error =
            open_in_root(&root, Path::new("/proc/self/root"), OFlags::PATH | OFlags::DIRECTORY).unwrap_err();
        assert_eq!(error.errno(), Errno::LOOP);
    }
}
