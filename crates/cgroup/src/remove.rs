//! Removing what was made, and nothing else.

use std::time::Duration;

use rustix::fs::{AtFlags, CWD};
use rustix::io::{Errno, retry_on_intr};

use crate::cgroup::Cgroup;
use crate::dir::Dir;
use crate::error::{Error, Result};

/// A process that has ended leaves its cgroup a moment later, so a busy one is tried again: after 1, 2, 4 … ms, in
/// all about a second.
const ROUNDS: u32 = 10;

impl Cgroup {
    /// Removes the container's directories with all sub-cgroups, then the parents that were made for it and serve
    /// nobody else; systemd removes what it made, if it can be asked. What does not exist counts as removed; a directory that was there
    /// before keeps its place.
    ///
    /// # Errors
    /// [`Error::System`] with EBUSY when a process stayed for about a second, or when rights are lacking.
    pub fn remove(&self) -> Result<()> {
        let mut left: Vec<(&str, bool)> = self
            .members
            .iter()
            .map(|member| (member.path.as_str(), self.made_itself(&member.path)))
            .collect();
        let mut pause = Duration::from_millis(1);
        for round in 0.. {
            let mut failure = None;
            left.retain(|(path, made)| match remove_tree(path, *made) {
                Ok(()) => false,
                Err(error) => {
                    failure = Some(error);
                    true
                }
            });
            match failure {
                None => break,
                Some(error) if round == ROUNDS || error.errno() != Some(Errno::BUSY) => return Err(error),
                Some(_) => std::thread::sleep(pause),
            }
            pause *= 2;
        }
        let is_parent = |path: &&String| !self.members.iter().any(|member| member.path == **path);
        for path in self.made().iter().rev().filter(is_parent) {
            // Other containers may have come to use a parent; the last of them removes it.
            let _ = remove_directory(path);
        }
        let directory = self.v2().map_or("", |member| member.path.as_str());
        match self.scope.as_ref().map_or(Ok(()), |scope| scope.remove(directory)) {
            // Who made it cannot be asked. A user's systemd ends with the last session, and all its cgroups with it; what
            // another has left goes without it.
            Err(error @ (Error::NoSystemd { .. } | Error::Bus { .. })) => {
                remove_tree(directory, true).map_err(|_| error)
            }
            removed => removed,
        }
    }

    /// Removes the directories that were just made; nobody is in them yet, and others are not looked into: they may
    /// belong to a container that runs.
    pub(crate) fn undo(&self) {
        for path in self.made().iter().rev() {
            // The error that led here is the one that explains; what could not be undone is still in the record.
            let _ = remove_directory(path);
        }
    }

    fn made_itself(&self, path: &str) -> bool {
        self.made().iter().any(|made| made == path)
    }
}

/// Removes a directory, or only its sub-cgroups where it is not ours to remove.
fn remove_tree(path: &str, itself: bool) -> Result<()> {
    if itself {
        match remove_directory(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.errno() != Some(Errno::BUSY) => return Err(error),
            Err(_) => {}
        }
    }
    match Dir::open(path) {
        Err(error) if error.is_gone() => return Ok(()),
        dir => remove_below(&dir?)?,
    }
    if itself { remove_directory(path) } else { Ok(()) }
}

fn remove_below(dir: &Dir) -> Result<()> {
    for name in dir.children()? {
        match dir.remove_child(&name) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(dir.error(format!("rmdir({name:?})"), errno)),
        }
        match dir.open_below(&name) {
            Err(error) if error.is_gone() => continue,
            child => remove_below(&child?)?,
        }
        match dir.remove_child(&name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(dir.error(format!("rmdir({name:?})"), errno)),
        }
    }
    Ok(())
}

fn remove_directory(path: &str) -> Result<()> {
    match retry_on_intr(|| rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // kernfs says EBUSY for sub-cgroups as well as for processes.
        Err(Errno::BUSY | Errno::NOTEMPTY) => Err(Error::system(path, "rmdir()", Errno::BUSY)),
        // A read-only mount says so even about what does not exist.
        Err(Errno::ROFS) if Dir::open(path).is_err_and(|error| error.is_gone()) => Ok(()),
        Err(errno) => Err(Error::system(path, "rmdir()", errno)),
    }
}
