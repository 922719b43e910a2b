//! The processes of a cgroup.

use rustix::io::Errno;

use crate::cgroup::{Cgroup, Member};
use crate::dir::Dir;
use crate::error::{Error, Result};

/// v1 controllers by whose hierarchy a container's processes are told, best first: the one that freezes them, then
/// one that they can hardly have left.
const PREFERRED: [&str; 4] = ["freezer", "devices", "pids", "memory"];

impl Cgroup {
    /// Lists the processes of the container, those in sub-cgroups included; none for a cgroup that is gone.
    ///
    /// # Errors
    /// [`Error::System`] when a directory cannot be read.
    pub fn procs(&self) -> Result<Vec<i32>> {
        match self.told_by().map(Member::dir) {
            None => Ok(Vec::new()),
            Some(Err(error)) if error.is_gone() => Ok(Vec::new()),
            Some(dir) => below(dir?),
        }
    }

    /// Tells whether the container has no process.
    ///
    /// # Errors
    /// As [`Cgroup::procs`].
    pub fn is_empty(&self) -> Result<bool> {
        self.procs().map(|pids| pids.is_empty())
    }

    /// Tells whether the directory by which the processes are told exists.
    pub fn exists(&self) -> bool {
        self.told_by().is_some_and(|member| Dir::open(&member.path).is_ok())
    }

    /// Returns the member by whose hierarchy the processes are told.
    fn told_by(&self) -> Option<&Member> {
        let preferred = PREFERRED.iter().find_map(|name| self.v1(name));
        preferred.or_else(|| self.v2()).or_else(|| self.members.first())
    }
}

/// Counts the processes in a directory and below it.
pub(crate) fn count(dir: &Dir) -> Result<usize> {
    below(dir).map(|pids| pids.len())
}

/// Lists the processes in a directory and below it.
pub(crate) fn below(dir: &Dir) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    walk(dir, &mut |dir| {
        pids.append(&mut listed(dir)?);
        Ok(())
    })?;
    Ok(pids)
}

/// Visits a directory, then all below it; those that vanish meanwhile count as never there.
pub(crate) fn walk(dir: &Dir, visit: &mut impl FnMut(&Dir) -> Result<()>) -> Result<()> {
    let unless_gone = |result: Result<()>| match result {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    };
    unless_gone(visit(dir))?;
    let children = match dir.children() {
        Err(error) if error.is_gone() => return Ok(()),
        children => children?,
    };
    for name in children {
        match dir.open_below(&name) {
            Err(error) if error.is_gone() => {}
            child => unless_gone(walk(&child?, visit))?,
        }
    }
    Ok(())
}

/// Lists the processes in one directory; 0 stands for one outside the caller's pid namespace and is left out.
fn listed(dir: &Dir) -> Result<Vec<i32>> {
    let text = match dir.read("cgroup.procs") {
        // A threaded cgroup lists only threads.
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => dir.read("cgroup.threads")?,
        text => text?,
    };
    text.lines()
        .map(|line| {
            line.parse::<i32>().map_err(|_| Error::Malformed {
                file: format!("{}/cgroup.procs", dir.path()),
                line: line.to_owned(),
            })
        })
        .filter(|pid| !matches!(pid, Ok(0)))
        .collect()
}
