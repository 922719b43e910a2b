//! How a process enters a cgroup without waiting.
//!
//! Writing a pid to `cgroup.procs` takes a lock for which the kernel waits until every CPU has passed a quiescent
//! state: 5 to 18 ms on an idle machine. Two ways need no such wait: clone3(2) with CLONE_INTO_CGROUP into a v2
//! cgroup, and a single-threaded process that writes `0`, itself, into the `tasks` file of a v1 cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};

use crate::cgroup::{Cgroup, Member};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::host::Version;
use crate::path::SubCgroups;

/// How often a process that is still being made is moved again, and the pause between.
const ATTEMPTS: u32 = 5;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(30);

/// The doors of a cgroup, for a child that is about to be made.
#[derive(Debug)]
pub struct Joiner<'a> {
    cgroup: &'a Cgroup,
    v1: Vec<(&'a Member, Option<OwnedFd>)>,
}

/// Who opens the `tasks` files of v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    /// The maker of the child: the child will have lost the right, in a user namespace of its own.
    OpenedByParent,
    /// The child, which has the same rights. Its maker then has nothing to close.
    OpenedByChild,
}

impl Cgroup {
    /// Has the systemd that made the cgroup move a process into it, or into a sub-cgroup, where nobody else may.
    ///
    /// # Errors
    /// [`Error::NoCgroup`] for a cgroup that no systemd made, [`Error::Systemd`] when it will not either.
    pub fn attach_by_systemd(&self, pid: i32, subs: &SubCgroups) -> Result<()> {
        match &self.scope {
            Some(scope) => scope.attach(pid, subs.below(&[])),
            None => Err(Error::NoCgroup { action: "have the process moved", controller: "systemd" }),
        }
    }

    /// Opens the v2 directory, if there is one.
    pub fn v2_directory(&self) -> Option<BorrowedFd<'_>> {
        self.v2().and_then(|member| member.dir().ok()).map(Dir::fd)
    }

    /// Opens the v2 directory and, for a child that cannot, the `tasks` file of every v1 directory.
    ///
    /// # Errors
    /// [`Error::System`] when one cannot be opened.
    pub fn joiner(&self, doors: Doors) -> Result<Joiner<'_>> {
        if let Some(member) = self.v2() {
            member.dir()?;
        }
        let v1 = self.members.iter().filter(|member| member.version == Version::V1);
        let open = |member| match doors {
            Doors::OpenedByParent => open_tasks(member).map(Some),
            Doors::OpenedByChild => Ok(None),
        };
        let v1 = v1.map(|member| Ok((member, open(member)?)));
        Ok(Joiner { cgroup: self, v1: v1.collect::<Result<_>>()? })
    }
}

fn open_tasks(member: &Member) -> Result<OwnedFd> {
    member.open_to_write("tasks")
}

impl Joiner<'_> {
    /// Returns the v2 directory for clone3(2) with CLONE_INTO_CGROUP, if the container has one.
    pub fn into_cgroup_fd(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.v2_directory()
    }

    /// Moves the calling process into every v1 cgroup. It must be single-threaded, as a fresh child is.
    ///
    /// # Errors
    /// [`Error::System`], among others with ENOSPC when a cpuset has no CPUs.
    pub fn join_self(&self) -> Result<()> {
        self.v1.iter().try_for_each(|(member, opened)| {
            let by_child = if opened.is_none() { Some(open_tasks(member)?) } else { None };
            let Some(tasks) = opened.as_ref().or(by_child.as_ref()) else { return Ok(()) };
            match retry_on_intr(|| rustix::io::write(tasks.as_fd(), b"0")) {
                Ok(_) => Ok(()),
                // What kernels before 5.6 and some controllers say to a lone thread.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => write_procs(member, "0"),
                Err(errno) => Err(Error::system(&member.path, "write(tasks, \"0\")", errno)),
            }
        })
    }

    /// Moves the calling process into the v2 cgroup, where CLONE_INTO_CGROUP was not possible. Slow.
    ///
    /// # Errors
    /// [`Error::NoRoom`] where the cgroup can hold no process, [`Error::NoEntry`] where the process may not leave its
    /// own for it, [`Error::System`] otherwise.
    pub fn join_self_v2(&self) -> Result<()> {
        let Some(member) = self.cgroup.v2() else { return Ok(()) };
        write_procs(member, "0").map_err(|error| {
            let (cgroup, is_denied) = (member.path.clone(), error.is_denied());
            match error.errno() {
                Some(errno @ (Errno::BUSY | Errno::OPNOTSUPP)) => Error::NoRoom { cgroup, errno },
                _ if is_denied => Error::NoEntry { cgroup, source: Box::new(error) },
                _ => error,
            }
        })
    }

    /// Moves another process, all its threads, into every cgroup. Slow; a fallback.
    ///
    /// # Errors
    /// [`Error::System`] with ESRCH when the process is gone.
    pub fn join_other(&self, pid: i32) -> Result<()> {
        self.cgroup.members.iter().try_for_each(|member| write_procs(member, &pid.to_string()))
    }
}

/// Writes to `cgroup.procs`; EINVAL may mean a process that is not complete yet.
fn write_procs(member: &Member, pid: &str) -> Result<()> {
    let dir = member.dir()?;
    for _ in 1..ATTEMPTS {
        match dir.write("cgroup.procs", pid) {
            Err(error) if error.errno() == Some(Errno::INVAL) => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    dir.write("cgroup.procs", pid)
}
