//! The directories of a layer that is being unpacked, as descriptors.
//!
//! An archive decides which paths there are, so none of them is given to the kernel but below the layer's own directory
//! and without links (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS). A link on the way to an entry is followed
//! here, step by step, as docker's chroot would follow it; one that leads to nothing, or climbs out of the layer, is
//! refused instead (out of the root of plain files, nothing leads). Packages that were made for different systems meet in such images: `lib -> usr/lib`, then
//! `lib/libc.so`.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bulkhead_sys::Call;
use bulkhead_sys::path::open_beneath;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::Quoted;
use super::{Error, Marks, Result, is_kernels, overlay, place};

/// How many links may be on the way to one entry, as in the kernel.
const LINKS: usize = 40;

/// The tree below a directory. The directory of the last entry stays open, since the next one is most likely there, too.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    marks: Option<Marks>,
    last: Option<Directory>,
    last_target: Option<Directory>,
    /// Directories that no entry told of so far, which were made for what lies in them.
    implied: Vec<Vec<u8>>,
}

/// A directory that was found.
#[derive(Debug)]
pub(super) struct Directory {
    /// How it was asked for.
    asked: Vec<u8>,
    /// Where it is, without links.
    path: Vec<u8>,
    /// A descriptor that only stands for its path (O_PATH).
    fd: OwnedFd,
}

impl Directory {
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What happens to a directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Made,
    Refused,
}

impl<'a> Tree<'a> {
    /// Begins in a directory. Whiteouts and opaque directories exist if there are marks for them.
    pub(super) fn new(root: BorrowedFd<'a>, marks: Option<Marks>) -> Self {
        Self { root, marks, last: None, last_target: None, implied: Vec::new() }
    }

    /// Returns the tree's own directory.
    pub(super) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// Finds the directory in which `entry` is to be, and makes what is missing of it.
    pub(super) fn parent(&mut self, asked: &[u8], entry: &[u8]) -> Result<&Directory> {
        let kept = self.last.take().filter(|directory| directory.asked == asked);
        let found = match kept {
            Some(directory) => directory,
            None => self.find(asked, entry, Missing::Made)?,
        };
        Ok(self.last.insert(found))
    }

    /// Finds the directory in which the file is that the hard link `entry` leads to, and that of the entry itself, which
    /// [`Tree::parent`] must have found before.
    pub(super) fn parents(
        &mut self,
        target: &[u8],
        entry: &[u8],
    ) -> Result<Option<(&Directory, &Directory)>> {
        let kept = self.last_target.take().filter(|directory| directory.asked == target);
        let found = match kept {
            Some(directory) => directory,
            None => self.find(target, entry, Missing::Refused)?,
        };
        let target = self.last_target.insert(found);
        Ok(self.last.as_ref().map(|own| (&*target, own)))
    }

    /// Forgets the directories that are open: one of them, or one above, may not be where it was.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.last_target = None;
    }

    /// Returns the directories that were made since the last call.
    pub(super) fn take_implied(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.implied)
    }

    fn find(&mut self, asked: &[u8], entry: &[u8], missing: Missing) -> Result<Directory> {
        let found = self.found(asked, entry, missing)?;
        // Among plain files there may be a mount of the kernel's, where our rights would change the host.
        if self.marks.is_none() && is_kernels(&found.fd).map_err(Error::machine("look at", &found.path))? {
            return Err(Error::entry(entry, "would lie where the kernel is seen, and no files are kept"));
        }
        Ok(found)
    }

    fn found(&mut self, asked: &[u8], entry: &[u8], missing: Missing) -> Result<Directory> {
        match self.open(asked) {
            Ok(fd) => Ok(Directory { asked: asked.to_vec(), path: asked.to_vec(), fd }),
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let (path, fd) = self.walk(asked, entry, missing)?;
                Ok(Directory { asked: asked.to_vec(), path, fd })
            }
            Err(error) => Err(Error::machine("open the directory", asked)(error)),
        }
    }

    /// Opens a directory by its whole path, without links: one call in most cases.
    pub(super) fn open(&self, path: &[u8]) -> bulkhead_sys::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        open_directory(self.root, path)
    }

    fn walk(&mut self, asked: &[u8], entry: &[u8], missing: Missing) -> Result<(Vec<u8>, OwnedFd)> {
        let mut walk = Walk {
            at: Vec::new(),
            fd: self.open(b"").map_err(Error::machine("open the root of", b""))?,
            rest: names(asked).collect(),
            links: 0,
            of_link: 0,
        };
        while let Some(step) = walk.rest.pop_front() {
            let is_of_link = walk.of_link > 0;
            walk.of_link = walk.of_link.saturating_sub(1);
            if step == b".." {
                walk.at = match (place::split(&walk.at), self.marks) {
                    (Some((above, _)), _) => above.to_vec(),
                    // Where plain files go is somebody's root, above which is nothing, as in a chroot.
                    (None, None) => Vec::new(),
                    (None, Some(_)) => {
                        return Err(Error::entry(entry, "lies behind a link that leads out of the layer"));
                    }
                };
                let opened = self.open(&walk.at);
                walk.fd = opened.map_err(Error::machine("open the directory", &walk.at))?;
                continue;
            }
            let next = place::Place::within(&walk.at, &step).bytes().to_vec();
            walk.fd = match open_directory(&walk.fd, &step) {
                Ok(fd) => fd,
                Err(error) if error.errno() == Errno::LOOP => {
                    self.follow(&mut walk, &step, entry)?;
                    continue;
                }
                Err(error) if error.errno() == Errno::NOENT && is_of_link => {
                    let fault =
                        format!("lies behind a link to {}, which the layer does not have", Quoted(&next));
                    return Err(Error::entry(entry, fault));
                }
                Err(error) if error.errno() == Errno::NOENT && missing == Missing::Refused => {
                    let fault =
                        format!("is a hard link into {}, which the layer does not have", Quoted(&next));
                    return Err(Error::entry(entry, fault));
                }
                Err(error) if error.errno() == Errno::NOENT => self.make(&walk.fd, &step, &next)?,
                Err(error) if error.errno() == Errno::NOTDIR && missing == Missing::Made => {
                    self.make_over_whiteout(&walk.fd, &step, &next, entry)?
                }
                Err(error) => return Err(Error::machine("open the directory", &next)(error)),
            };
            walk.at = next;
        }
        Ok((walk.at, walk.fd))
    }

    fn follow(&self, walk: &mut Walk, step: &[u8], entry: &[u8]) -> Result<()> {
        walk.links += 1;
        if walk.links > LINKS {
            return Err(Error::entry(entry, "lies behind links that lead to each other"));
        }
        let target = rustix::fs::readlinkat(&walk.fd, step, Vec::new())
            .call(|| format!("readlinkat({:?})", String::from_utf8_lossy(step)))
            .map_err(Error::machine("read the link", step))?
            .into_bytes();
        if target.starts_with(b"/") {
            walk.at.clear();
            walk.fd = self.open(b"").map_err(Error::machine("open the root of", b""))?;
        }
        let steps: Vec<Vec<u8>> = names(&target).collect();
        // What is left of an outer link is still that link's.
        walk.of_link += steps.len();
        for step in steps.into_iter().rev() {
            walk.rest.push_front(step);
        }
        Ok(())
    }

    fn make(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd> {
        let failed = Error::machine("make the directory", path);
        make_directory(parent, name, Mode::RWXU).map_err(failed)?;
        self.implied.push(path.to_vec());
        open_directory(parent, name).map_err(failed)
    }

    /// Makes a directory where a whiteout is: what lower layers had there stays gone.
    fn make_over_whiteout(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        entry: &[u8],
    ) -> Result<OwnedFd> {
        let stat = overlay::look(parent, name).map_err(Error::machine("look at", path))?;
        let Some(marks) = self.marks.filter(|_| overlay::is_whiteout(&stat)) else {
            let fault = format!("lies below {}, which is no directory", Quoted(path));
            return Err(Error::entry(entry, fault));
        };
        let failed = Error::machine("remove the whiteout of", path);
        remove_file(parent, name).map_err(failed)?;
        let fd = self.make(parent, name, path)?;
        overlay::make_opaque(&fd, marks).map_err(Error::machine("make opaque", path))?;
        Ok(fd)
    }
}

/// The state of a walk along links.
struct Walk {
    at: Vec<u8>,
    fd: OwnedFd,
    rest: VecDeque<Vec<u8>>,
    links: usize,
    /// How many of the next steps are those of a link, and not of the entry's own name.
    of_link: usize,
}

/// Returns the names of a path; of a link's target also `..`.
fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

/// Opens a directory as a place to make files in.
pub(super) fn open_directory(directory: impl AsFd, path: &[u8]) -> bulkhead_sys::Result<OwnedFd> {
    let path = Path::new(OsStr::from_bytes(path));
    open_beneath(directory, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
}

/// Makes a directory.
pub(super) fn make_directory(parent: impl AsFd, name: &[u8], mode: Mode) -> bulkhead_sys::Result<()> {
    rustix::fs::mkdirat(parent, name, mode)
        .call(|| format!("mkdirat({:?}, {:#o})", String::from_utf8_lossy(name), mode.as_raw_mode()))
}

/// Removes what is no directory.
pub(super) fn remove_file(parent: impl AsFd, name: &[u8]) -> bulkhead_sys::Result<()> {
    rustix::fs::unlinkat(parent, name, AtFlags::empty())
        .call(|| format!("unlinkat({:?})", String::from_utf8_lossy(name)))
}
