//! What a container changed, as `docker diff` tells it.
//!
//! The rules are docker's (`archive.ChangesDirs`): a file that was copied up and is as it was is no change; neither is a
//! directory with another time. A directory in which something changed is a change. What is below a new directory is
//! new, and of what is below a deleted one nothing is told.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::owner::{Owner, Owners};
use super::place::Place;
use super::{Error, Marks, Result, listing, overlay};

/// One file that is not as in the layers below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Its path in the container, which begins with a slash.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there: `A`.
    Added,
    /// It, or something in it, was other: `C`.
    Modified,
    /// It is not there any more: `D`.
    Deleted,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "A",
            Self::Modified => "C",
            Self::Deleted => "D",
        })
    }
}

/// How layers are compared.
#[derive(Debug, Clone, Copy)]
pub struct Compare<'a> {
    /// How deletions are marked.
    pub marks: Marks,
    /// Whose the files of the writable layer are in the container.
    pub owners: Owners<'a>,
    /// Paths, relative to the root, that are passed over with all below them: what the runtime made to mount on.
    pub skip: &'a [PathBuf],
}

/// Compares a writable layer with those below it, of which the topmost comes first. The changes are in order.
///
/// # Errors
/// [`Error::Machine`] when something cannot be read.
pub fn changes(upper: BorrowedFd<'_>, lower: &[BorrowedFd<'_>], how: &Compare<'_>) -> Result<Vec<Change>> {
    let mut comparison = Comparison { upper, lower, how, found: BTreeMap::new(), pending: Vec::new() };
    let all = (0..lower.len()).collect();
    comparison.pending.push(Pending { path: Vec::new(), lower: all, view: View::Merged });
    while let Some(directory) = comparison.pending.pop() {
        comparison.directory(&directory)?;
    }
    Ok(comparison.finish())
}

struct Comparison<'a> {
    upper: BorrowedFd<'a>,
    lower: &'a [BorrowedFd<'a>],
    how: &'a Compare<'a>,
    found: BTreeMap<PathBuf, ChangeKind>,
    pending: Vec<Pending>,
}

/// A directory of the writable layer that is still to be compared.
struct Pending {
    path: Vec<u8>,
    /// Which lower layers have parts of it that could be seen, the topmost first.
    lower: Vec<usize>,
    view: View,
}

/// What is seen of the lower layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// What the writable layer does not have or delete.
    Merged,
    /// Nothing: the directory, or one above, is opaque.
    Hidden,
}

/// The parts of one directory in the lower layers.
struct Parts(Vec<(usize, OwnedFd)>);

impl Comparison<'_> {
    fn directory(&mut self, pending: &Pending) -> Result<()> {
        let path = pending.path.as_slice();
        let failed = Error::machine("read the directory", path);
        let directory = listing::open(self.upper, path).map_err(failed)?;
        let names = listing::names(&directory).map_err(failed)?;
        let parts = self.parts(pending)?;
        let is_hiding = pending.view == View::Hidden
            || !path.is_empty() && overlay::is_opaque(&directory, self.how.marks).map_err(failed)?;
        let view = if is_hiding { View::Hidden } else { View::Merged };
        for name in &names {
            let place = Place::within(path, name);
            if !self.is_skipped(place.bytes()) {
                self.file(&directory, name, place.bytes(), &parts, view)?;
            }
        }
        if view == View::Hidden {
            let there: BTreeSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
            for name in parts.names().map_err(failed)? {
                let place = Place::within(path, &name);
                if !there.contains(name.as_slice()) && !self.is_skipped(place.bytes()) {
                    self.note(place.bytes(), ChangeKind::Deleted);
                }
            }
        }
        Ok(())
    }

    fn parts(&self, pending: &Pending) -> Result<Parts> {
        let open = |layer: &usize| {
            let opened = listing::open(self.lower[*layer], &pending.path);
            opened.map(|fd| (*layer, fd)).map_err(Error::machine("open the directory", &pending.path))
        };
        Ok(Parts(pending.lower.iter().map(open).collect::<Result<_>>()?))
    }

    fn file(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &[u8],
        parts: &Parts,
        view: View,
    ) -> Result<()> {
        let failed = Error::machine("look at", path);
        let stat = match overlay::look(directory, name) {
            // The container may be running.
            Err(error) if error.errno() == Errno::NOENT => return Ok(()),
            stat => stat.map_err(failed)?,
        };
        let below = parts.find(name).map_err(failed)?;
        let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if overlay::is_whiteout(&stat) {
            if below.is_some() {
                self.note(path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        match &below {
            None => self.note(path, ChangeKind::Added),
            Some((part, old)) => {
                if self.differ(directory, &stat, part, old, name).map_err(failed)? {
                    self.note(path, ChangeKind::Modified);
                }
            }
        }
        if is_directory(&stat) {
            let is_merged = below.is_some_and(|(_, old)| is_directory(&old));
            let lower =
                if is_merged { parts.below(name, self.how.marks).map_err(failed)? } else { Vec::new() };
            self.pending.push(Pending { path: path.to_vec(), lower, view });
        }
        Ok(())
    }

    /// Compares what docker compares.
    fn differ(
        &self,
        directory: &OwnedFd,
        new: &Stat,
        part: &OwnedFd,
        old: &Stat,
        name: &[u8],
    ) -> bulkhead_sys::Result<bool> {
        let owner = Owner { user: new.st_uid, group: new.st_gid };
        // A number that nobody in the container has is a change, if to nobody.
        let owner = self.how.owners.of_file(owner, name).unwrap_or(owner);
        if new.st_mode != old.st_mode
            || (owner.user, owner.group) != (old.st_uid, old.st_gid)
            || new.st_rdev != old.st_rdev
        {
            return Ok(true);
        }
        if FileType::from_raw_mode(new.st_mode) == FileType::Directory {
            return Ok(false);
        }
        // Layers that docker made have whole seconds.
        let same_nanoseconds = new.st_mtime_nsec == old.st_mtime_nsec || old.st_mtime_nsec == 0;
        if new.st_size != old.st_size || new.st_mtime != old.st_mtime || !same_nanoseconds {
            return Ok(true);
        }
        const CAPABILITY: &[u8] = b"security.capability";
        Ok(listing::xattr(directory, name, CAPABILITY)? != listing::xattr(part, name, CAPABILITY)?)
    }

    fn is_skipped(&self, path: &[u8]) -> bool {
        self.how.skip.iter().any(|skipped| skipped.as_os_str().as_bytes() == path)
    }

    fn note(&mut self, path: &[u8], kind: ChangeKind) {
        self.found.insert(Path::new("/").join(OsStr::from_bytes(path)), kind);
    }

    /// Adds the directories above each change.
    fn finish(mut self) -> Vec<Change> {
        let paths: Vec<PathBuf> = self.found.keys().cloned().collect();
        for path in &paths {
            for above in path.ancestors().skip(1).filter(|above| *above != Path::new("/")) {
                self.found.entry(above.to_owned()).or_insert(ChangeKind::Modified);
            }
        }
        self.found.into_iter().map(|(path, kind)| Change { path, kind }).collect()
    }
}

impl Parts {
    /// Finds what a name was before the writable layer: in the topmost part that says anything about it.
    fn find(&self, name: &[u8]) -> bulkhead_sys::Result<Option<(&OwnedFd, Stat)>> {
        for (_, part) in &self.0 {
            match overlay::look(part, name) {
                Ok(stat) if overlay::is_whiteout(&stat) => return Ok(None),
                Ok(stat) => return Ok(Some((part, stat))),
                Err(error) if error.errno() == Errno::NOENT => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Finds the layers that have parts of a directory in this one: down to the first that hides those below.
    fn below(&self, name: &[u8], marks: Marks) -> bulkhead_sys::Result<Vec<usize>> {
        let mut found = Vec::new();
        for (layer, part) in &self.0 {
            let directory = match listing::open(part, name) {
                Ok(directory) => directory,
                Err(error) if error.errno() == Errno::NOENT => continue,
                // A whiteout, or a file.
                Err(error) if matches!(error.errno(), Errno::NOTDIR | Errno::LOOP) => break,
                Err(error) => return Err(error),
            };
            found.push(*layer);
            if overlay::is_opaque(directory.as_fd(), marks)? {
                break;
            }
        }
        Ok(found)
    }

    /// Returns the names that were seen before the writable layer, in order.
    fn names(&self) -> bulkhead_sys::Result<Vec<Vec<u8>>> {
        let mut told = BTreeMap::new();
        for (_, part) in &self.0 {
            for name in listing::names(part)? {
                if let Entry::Vacant(untold) = told.entry(name) {
                    let is_there = !overlay::is_whiteout(&overlay::look(part, untold.key())?);
                    untold.insert(is_there);
                }
            }
        }
        Ok(told.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect())
    }
}
