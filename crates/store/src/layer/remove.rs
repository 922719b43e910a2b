//! Trees that go away, by descriptors.
//!
//! What is below may be anything that a container made: trees of any depth, directories that nobody may read, links to
//! everywhere, files that the kernel keeps. No path is longer than one name, no link is followed, nothing of another
//! mount is touched, and at most [`OPEN`] directories are open at once.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bulkhead_sys::Call;
use bulkhead_sys::path::{open_beneath, open_on_mount};
use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{Error, Result};

/// How many directories are open at once. Those above are found again by `..`, and compared with what they were.
const OPEN: usize = 64;

/// How often a directory is read again because something is still, or again, in it.
const ATTEMPTS: usize = 16;

/// Removes a file, or a directory with all that is in it. What is not there is removed.
///
/// # Errors
/// [`Error::Kept`] for what is immutable or mounted on, else [`Error::Machine`]. What could be removed before is.
pub fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    remove_bytes(parent, name.as_bytes())
}

/// Removes all that is in a directory, which may be open for its path only.
///
/// # Errors
/// As [`remove`].
pub fn empty(directory: BorrowedFd<'_>) -> Result<()> {
    let top = open(directory, b".").map_err(Error::machine("open", b"."))?;
    Removal { levels: Vec::new() }.run(top, b"")
}

pub(super) fn remove_bytes(parent: impl AsFd, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // What unlink(2) says of a directory depends on its rights before it depends on its type.
        Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) if is_directory(&parent, name) => {}
        Err(errno) => return Err(explain(&parent, name, name, errno)),
    }
    match open(&parent, name) {
        Ok(top) => Removal { levels: Vec::new() }.run(top, name)?,
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        Err(error) => return Err(explain_open(name, error)),
    }
    match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(explain(&parent, name, name, errno)),
    }
}

struct Removal {
    /// The directories from the top to the one that is being emptied.
    levels: Vec<Level>,
}

struct Level {
    name: Vec<u8>,
    identity: (u64, u64),
    /// Closed when there are many below.
    fd: Option<OwnedFd>,
    /// Directories in it, which come when all files are gone.
    below: Vec<Vec<u8>>,
    attempts: usize,
}

impl Removal {
    /// Empties a directory. What is below one comes before it; the stack is ours, since a tree may be deeper than any.
    fn run(mut self, top: OwnedFd, name: &[u8]) -> Result<()> {
        self.enter(top, name.to_vec())?;
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.below.pop() {
                let fd = self.directory()?;
                match open(&fd, &name) {
                    Ok(directory) => self.enter(directory, name)?,
                    Err(error) if error.errno() == Errno::NOENT => {}
                    Err(error) => return Err(explain_open(&self.path(&name), error)),
                }
                continue;
            }
            let Some(done) = self.levels.pop() else { break };
            if self.levels.is_empty() {
                break;
            }
            let parent = self.reopened(&done)?;
            match rustix::fs::unlinkat(&parent, done.name.as_slice(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) if done.attempts < ATTEMPTS => {
                    // Somebody made something there, or the file system passed over it.
                    let attempts = done.attempts + 1;
                    if let Ok(directory) = open(&parent, &done.name) {
                        self.enter(directory, done.name)?;
                        if let Some(level) = self.levels.last_mut() {
                            level.attempts = attempts;
                        }
                    }
                }
                Err(errno) => return Err(explain(&parent, &done.name, &self.path(&done.name), errno)),
            }
        }
        Ok(())
    }

    /// Removes the files of a directory, and makes it the one whose directories are next.
    fn enter(&mut self, fd: OwnedFd, name: Vec<u8>) -> Result<()> {
        let failed = Error::machine("look at", &name);
        let stat = rustix::fs::fstat(&fd).call(|| "fstat").map_err(failed)?;
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(far) = self.levels.len().checked_sub(OPEN) {
            self.levels[far].fd = None;
        }
        self.levels.push(Level { name, identity, fd: None, below: Vec::new(), attempts: 0 });
        let below = self.remove_files(&fd)?;
        if let Some(level) = self.levels.last_mut() {
            level.fd = Some(fd);
            level.below = below;
        }
        Ok(())
    }

    fn remove_files(&self, directory: &OwnedFd) -> Result<Vec<Vec<u8>>> {
        let mut below = Vec::new();
        let mut opened_up = false;
        let mut buffer = [const { MaybeUninit::uninit() }; 32 * 1024];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.call(|| "getdents64");
            let entry =
                entry.map_err(|source| Error::machine("read the directory", &self.path(b""))(source))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                below.push(name.to_vec());
                continue;
            }
            let mut removed = rustix::fs::unlinkat(directory, name, AtFlags::empty());
            if matches!(removed, Err(Errno::ACCESS)) && !opened_up {
                // An owner who is not root may have taken the right to write from himself.
                opened_up = true;
                let _ = rustix::fs::fchmod(directory, Mode::RWXU);
                removed = rustix::fs::unlinkat(directory, name, AtFlags::empty());
            }
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => below.push(name.to_vec()),
                Err(errno) => return Err(explain(directory, name, &self.path(name), errno)),
            }
        }
        if !below.is_empty() && !opened_up && !rustix::process::geteuid().is_root() {
            let _ = rustix::fs::fchmod(directory, Mode::RWXU);
        }
        Ok(below)
    }

    /// Returns the directory that is being emptied.
    fn directory(&self) -> Result<OwnedFd> {
        let gone = || Error::Kept { path: self.path(b""), reason: "is not where it was: try again" };
        let fd = self.levels.last().and_then(|level| level.fd.as_ref()).ok_or_else(gone)?;
        rustix::io::fcntl_dupfd_cloexec(fd, 0)
            .call(|| "fcntl(F_DUPFD_CLOEXEC)")
            .map_err(|source| Error::machine("open", &self.path(b""))(source))
    }

    /// Returns the directory above one that is done, and opens it again if it was closed.
    fn reopened(&mut self, done: &Level) -> Result<OwnedFd> {
        // Only where it is told: a path is as long as the tree is deep.
        let path = || self.path(&done.name);
        let failed = |source| Error::machine("open the directory above", &path())(source);
        let moved =
            || Error::Kept { path: path(), reason: "is not where it was: something moves it; try again" };
        let level = self.levels.last().ok_or_else(moved)?;
        if level.fd.is_none() {
            let below = done.fd.as_ref().ok_or_else(moved)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = rustix::fs::openat(below, "..", flags, Mode::empty());
            let above = above.call(|| "openat(\"..\")").map_err(failed)?;
            let stat = rustix::fs::fstat(&above).call(|| "fstat").map_err(failed)?;
            if (stat.st_dev, stat.st_ino) != level.identity {
                return Err(moved());
            }
            if let Some(level) = self.levels.last_mut() {
                level.fd = Some(above);
            }
        }
        self.directory()
    }

    fn path(&self, name: &[u8]) -> Vec<u8> {
        let names = self.levels.iter().map(|level| level.name.as_slice()).chain([name]);
        names.filter(|name| !name.is_empty()).collect::<Vec<_>>().join(&b'/')
    }
}

/// Opens a directory of the same mount, also one that its owner may not read.
fn open(parent: impl AsFd, name: &[u8]) -> bulkhead_sys::Result<OwnedFd> {
    let path = Path::new(OsStr::from_bytes(name));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match open_on_mount(&parent, path, flags) {
        Err(error) if error.errno() == Errno::ACCESS => {
            let closed = open_on_mount(&parent, path, OFlags::PATH | OFlags::DIRECTORY)?;
            let in_proc = format!("/proc/self/fd/{}", closed.as_raw_fd());
            rustix::fs::chmod(&in_proc, Mode::RWXU).call(|| format!("chmod({in_proc:?}, 0700)"))?;
            open_on_mount(&parent, path, flags)
        }
        opened => opened,
    }
}

fn is_directory(parent: impl AsFd, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn explain_open(path: &[u8], source: bulkhead_sys::Error) -> Error {
    match source.errno() {
        Errno::XDEV => Error::Kept {
            path: path.to_vec(),
            reason: "is not removed, since something is mounted on it: unmount that first",
        },
        _ => Error::Machine { doing: "open the directory", path: path.to_vec(), source },
    }
}

/// Finds out why a file stays.
fn explain(directory: impl AsFd, name: &[u8], path: &[u8], errno: Errno) -> Error {
    let kept = |reason| Error::Kept { path: path.to_vec(), reason };
    match errno {
        Errno::BUSY => kept("is not removed, since something is mounted on it: unmount that first"),
        Errno::PERM if keeps(&directory, name) => {
            kept("is immutable: take that from it with `chattr -i -a` first")
        }
        Errno::PERM if keeps(&directory, b".") => {
            kept("lies in a directory that is immutable: take that from it with `chattr -i -a` first")
        }
        errno => {
            let call = format!("unlinkat({:?})", String::from_utf8_lossy(name));
            let source = bulkhead_sys::Error::new(call, errno);
            Error::Machine { doing: "remove", path: path.to_vec(), source }
        }
    }
}

/// Says whether a file or directory has a flag by which the kernel keeps it.
fn keeps(directory: impl AsFd, name: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(name));
    // Only files and directories have flags, and a pipe must not be waited for.
    let opened = open_beneath(directory, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    opened
        .ok()
        .and_then(|fd| rustix::fs::ioctl_getflags(fd).ok())
        .is_some_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
}
