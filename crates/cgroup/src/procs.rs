//! The processes of a cgroup.

use rustix::io::Errno;

use crate::cgroup::{Cgroup, Member};
use crate::dir::{Dir, read_proc};
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
    let mut top = Kind::Unknown;
    walk(dir, &mut |dir| {
        match (dir.read("cgroup.procs"), top) {
            // A threaded cgroup lists only threads; the processes are listed by the nearest domain above it.
            (Err(error), _) if error.errno() == Some(Errno::OPNOTSUPP) => {
                if top == Kind::Unknown {
                    top = Kind::Threaded;
                }
                if top == Kind::Threaded {
                    pids.extend(
                        listed(dir, "cgroup.threads", &dir.read("cgroup.threads")?)?.filter_map(process_of),
                    );
                }
            }
            (text, _) => {
                pids.extend(listed(dir, "cgroup.procs", &text?)?);
                top = Kind::Domain;
            }
        }
        Ok(())
    })?;
    if top == Kind::Threaded {
        pids.sort_unstable();
        pids.dedup();
    }
    Ok(pids)
}

/// What the uppermost of some directories is: all below a threaded one are threaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Domain,
    Threaded,
}

/// Finds the process of a thread that has not ended.
fn process_of(thread: i32) -> Option<i32> {
    let status = read_proc(&format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
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

/// Reads a list of numbers; 0 stands for one outside the caller's pid namespace and is left out.
fn listed<'a>(dir: &Dir, file: &str, text: &'a str) -> Result<impl Iterator<Item = i32> + use<'a>> {
    if let Some(line) = text.lines().find(|line| line.parse::<i32>().is_err()) {
        return Err(Error::Malformed { file: format!("{}/{file}", dir.path()), line: line.to_owned() });
    }
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0))
}
