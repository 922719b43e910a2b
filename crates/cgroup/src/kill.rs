//! Signals to every process of a container, none escaping by forking meanwhile.

use std::os::fd::OwnedFd;

use bulkhead_sys::process;
use rustix::io::Errno;

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::freeze::Freezer;

/// The number of SIGKILL.
const SIGKILL: i32 = 9;

/// How often a tree that could not be frozen is looked through for processes forked meanwhile.
const ROUNDS: usize = 64;

impl Cgroup {
    /// Sends a signal to all processes of the container, those in sub-cgroups included. A cgroup that is gone has
    /// none, which is success.
    ///
    /// SIGKILL is one write where the kernel has `cgroup.kill` (Linux 5.14). Else the tree is frozen, signalled
    /// through pidfds and thawed, so that nothing forks away; a tree that was frozen before is left thawed after
    /// SIGKILL, so that it can die, and frozen after any other signal.
    ///
    /// # Errors
    /// [`Error::System`] when processes cannot be listed or may not be signalled.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal == SIGKILL && self.kill_by_file()? {
            if self.v1("freezer").is_none() {
                return Ok(());
            }
            // Beside v1, its freezer may keep the killed from dying, and somebody may have moved a process out of the
            // v2 cgroup.
            return unless_gone(self.thaw()).and_then(|()| self.signal_listed(signal));
        }
        self.signal_tree(signal)
    }

    /// Writes `cgroup.kill`; tells whether there is one.
    fn kill_by_file(&self) -> Result<bool> {
        let Some(member) = self.v2() else { return Ok(false) };
        match member.dir().and_then(|dir| dir.write("cgroup.kill", "1")) {
            Ok(()) => Ok(true),
            // An older kernel, no such cgroup any more, or a threaded one.
            Err(error) if error.is_gone() || error.errno() == Some(Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn signal_tree(&self, signal: i32) -> Result<()> {
        let before = self.freezer_state().unwrap_or(Freezer::Unknown);
        if self.is_empty()? && before != Freezer::Frozen {
            return Ok(());
        }
        let frozen = before == Freezer::Frozen || self.freeze().is_ok();
        let rounds = if frozen || signal != SIGKILL { 1 } else { ROUNDS };
        let result = (0..rounds).try_for_each(|_| self.signal_listed(signal));
        if frozen && (before != Freezer::Frozen || signal == SIGKILL) {
            return result.and(unless_gone(self.thaw()));
        }
        result
    }

    /// Signals the processes that are listed now.
    fn signal_listed(&self, signal: i32) -> Result<()> {
        // A number may have come to mean another process between the list and the pidfd. The second list tells: who
        // is in it and had a pidfd before it was read is the process that we hold.
        let held: Vec<(i32, OwnedFd)> = self
            .procs()?
            .into_iter()
            .filter_map(|pid| process::open_pidfd(pid).ok().map(|pidfd| (pid, pidfd)))
            .collect();
        let members = self.procs()?;
        for (pid, pidfd) in held.iter().filter(|(pid, _)| members.contains(pid)) {
            match process::signal(pidfd, signal) {
                Err(error) if error.errno() != Errno::SRCH => {
                    return Err(Error::System { cgroup: format!("member {pid}"), source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unless_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    }
}
