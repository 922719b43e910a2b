//! Finding, and where needed making, the place inside the container's root where something is mounted.
//!
//! Every step is a lookup by openat2(2) that cannot leave the root, and what is found is used as a descriptor: an image
//! or another container that exchanges a directory for a link while we look can send us elsewhere *inside* the root at
//! most.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sys::{self as sys, path};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

/// Directories of an image that must be what they seem: a link there is refused, not followed.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How many links to nowhere are followed, as many as the kernel follows links.
const LINKS: usize = 40;

/// Opens the directory `destination` inside `root`, making what is missing, also behind links to nowhere.
///
/// # Errors
/// A link at `/proc`, `/sys` or `/dev`, ENOTDIR, EROFS.
pub(crate) fn directory(root: BorrowedFd<'_>, destination: &Path) -> Result<OwnedFd> {
    let mut destination = destination.to_owned();
    for _ in 0..LINKS {
        if let Some(found) = open(root, &destination, OFlags::PATH | OFlags::DIRECTORY)? {
            return Ok(found);
        }
        match make_directories(root, &destination)? {
            Made::Directory(made) => return Ok(made),
            Made::Elsewhere(path) => destination = path,
        }
    }
    Err(too_many_links(&destination))
}

/// Opens the file `destination` inside `root`, making an empty one, and directories, where they are missing.
///
/// A link to nowhere is followed inside the root, and what it names is made: `/etc/resolv.conf` is one in many images.
///
/// # Errors
/// As [`directory`].
pub(crate) fn file(root: BorrowedFd<'_>, destination: &Path) -> Result<OwnedFd> {
    let mut destination = destination.to_owned();
    for _ in 0..LINKS {
        if let Some(found) = open(root, &destination, OFlags::PATH)? {
            return Ok(found);
        }
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(Error::Usage(format!("{} cannot be a file", destination.display())));
        };
        let directory = directory(root, parent)?;
        match link_target(directory.as_fd(), name) {
            Some(link) => destination = parent.join(link),
            None => {
                return file_at(directory.as_fd(), name)
                    .doing(|| format!("make the mount point {}", destination.display()));
            }
        }
    }
    Err(too_many_links(&destination))
}

/// Makes `destination` inside `root` a link with this content, and directories where they are missing. One that is there
/// already will do.
///
/// # Errors
/// EEXIST for anything else that is there, and as [`directory`].
pub(crate) fn link(root: BorrowedFd<'_>, destination: &Path, content: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
        return Err(Error::Usage(format!("{} cannot be a link", destination.display())));
    };
    let directory = directory(root, parent)?;
    match rustix::fs::symlinkat(content, &directory, Path::new(name)) {
        Err(Errno::EXIST) if link_target(directory.as_fd(), name).as_deref() == Some(content) => Ok(()),
        other => other.doing(|| format!("copy a link to {}", destination.display())),
    }
}

/// Opens what `destination` is inside `root`, which must be there.
///
/// # Errors
/// ENOENT, and as [`directory`].
pub(crate) fn existing(root: BorrowedFd<'_>, destination: &Path) -> Result<OwnedFd> {
    open(root, destination, OFlags::PATH)?.ok_or_else(|| {
        Error::Usage(format!("nothing is at {} in the container's root to remount", destination.display()))
    })
}

fn too_many_links(destination: &Path) -> Error {
    Error::Usage(format!("too many symbolic links at {} in the container's root", destination.display()))
}

fn link_target(directory: BorrowedFd<'_>, name: &OsStr) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let link = rustix::fs::readlinkat(directory, Path::new(name), Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes())))
}

/// Opens the file `name` in `directory` without following a link, making an empty one where it is missing.
///
/// # Errors
/// As openat(2).
pub(crate) fn file_at(directory: BorrowedFd<'_>, name: &OsStr) -> sys::Result<OwnedFd> {
    let name = Path::new(name);
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let create = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL;
    match path::open_beneath(directory, name, create, mode) {
        Err(error) if error.errno() == Errno::EXIST => {
            path::open_beneath(directory, name, OFlags::PATH, Mode::empty())
        }
        other => other,
    }
}

/// Opens what `destination` is inside `root`; `None` when it is not there.
///
/// # Errors
/// As openat2(2), and a link at `/proc`, `/sys` or `/dev`.
pub(crate) fn open(root: BorrowedFd<'_>, destination: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
    let own = OWN.iter().any(|own| destination == Path::new(own));
    let result = if own {
        let relative = destination.strip_prefix("/").unwrap_or(destination);
        path::open_beneath(root, relative, flags, Mode::empty())
    } else {
        path::open_in_root(root, destination, flags)
    };
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.errno() == Errno::NOENT => Ok(None),
        Err(error) if own && error.errno() == Errno::LOOP => Err(Error::Usage(format!(
            "the image's {} is a symbolic link; file systems there must be mounted on ordinary directory",
            destination.display()
        ))),
        Err(error) => Err(error).doing(|| format!("open {} in the container's root", destination.display())),
    }
}

/// What making a directory came to.
enum Made {
    Directory(OwnedFd),
    /// A link to nowhere is in the way: this is the path that it stands for.
    Elsewhere(PathBuf),
}

fn make_directories(root: BorrowedFd<'_>, destination: &Path) -> Result<Made> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    let mut prefix = PathBuf::from("/");
    let mut directory: Option<OwnedFd> = None;
    let mut names = destination.components();
    names.next();
    while let Some(name) = names.next() {
        let parent = prefix.clone();
        let name = name.as_os_str();
        prefix.push(name);
        // The caller has looked for the whole path already.
        let is_last = names.as_path().as_os_str().is_empty();
        let found = match if is_last { None } else { open(root, &prefix, flags)? } {
            Some(found) => found,
            None => {
                let at = directory.as_ref().map_or(root, AsFd::as_fd);
                match rustix::fs::mkdirat(at, name, mode) {
                    Ok(()) => {}
                    // Somebody else was quicker, or a link to nowhere has this name.
                    Err(Errno::EXIST) => {
                        if let Some(link) = link_target(at, name) {
                            return Ok(Made::Elsewhere(parent.join(link).join(names.as_path())));
                        }
                    }
                    Err(errno) => {
                        return Err(errno).doing(|| format!("make the directory {}", prefix.display()));
                    }
                }
                open(root, &prefix, flags)?
                    .ok_or_else(|| Error::Usage(format!("{} vanished while it was made", prefix.display())))?
            }
        };
        directory = Some(found);
    }
    directory
        .map(Made::Directory)
        .ok_or_else(|| Error::Usage(format!("{} cannot be made", destination.display())))
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    struct Root(PathBuf, OwnedFd, #[expect(dead_code, reason = "it is removed at the end")] Scratch);

    impl Root {
        fn new() -> Self {
            let scratch = Scratch::new();
            let path = scratch.path().join("root");
            std::fs::create_dir(&path).unwrap();
            let root = path::open_host(&path, OFlags::PATH | OFlags::DIRECTORY).unwrap();
            Self(path, root, scratch)
        }

        fn link(&self, to: &str, name: &str) {
            std::os::unix::fs::symlink(to, self.0.join(name)).unwrap();
        }
    }

    #[test]
    fn missing_directories_are_made() {
        let root = Root::new();
        directory(root.1.as_fd(), Path::new("/a/b/c")).unwrap();
        assert!(root.0.join("a/b/c").is_dir());
    }

    #[test]
    fn a_link_to_nowhere_is_followed_inside_the_root() {
        let root = Root::new();
        std::fs::create_dir(root.0.join("etc")).unwrap();
        root.link("../run/resolve/stub.conf", "etc/resolv.conf");
        root.link("/var/elsewhere", "data");
        file(root.1.as_fd(), Path::new("/etc/resolv.conf")).unwrap();
        directory(root.1.as_fd(), Path::new("/data/x")).unwrap();
        assert!(root.0.join("run/resolve/stub.conf").is_file());
        assert!(root.0.join("var/elsewhere/x").is_dir());
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let root = Root::new();
        root.link("/../../../../tmp/bulkhead-target-escape", "out");
        directory(root.1.as_fd(), Path::new("/out/x")).unwrap();
        assert!(root.0.join("tmp/bulkhead-target-escape/x").is_dir());
        assert!(!Path::new("/tmp/bulkhead-target-escape").exists());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let root = Root::new();
        root.link("b", "a");
        root.link("a", "b");
        assert!(directory(root.1.as_fd(), Path::new("/a/x")).is_err());
    }

    #[test]
    fn proc_sys_and_dev_must_not_be_links() {
        let root = Root::new();
        root.link("/tmp", "proc");
        let error = directory(root.1.as_fd(), Path::new("/proc")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the image's /proc is a symbolic link; file systems there must be mounted on ordinary directory"
        );
    }
}
