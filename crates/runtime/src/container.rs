//! A container that exists: its record, its process, its cgroup, its end.

use std::os::fd::OwnedFd;
use std::path::Path;

use bulkhead_cgroup::{Cgroup, Freezer};
use bulkhead_sys::identity::Stat;
use bulkhead_sys::{process, signal};
use rustix::io::Errno;

use crate::clone::LAST_BREATH;
use crate::error::{Doing, Error, Result};
use crate::gate;
use crate::hooks::{Document, Runner};
use crate::host;
use crate::id::ContainerId;
use crate::idmap;
use crate::lifecycle::{self, Observed, Status};
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::ending::{Ending, Others};
use crate::plan::stored::Stored;
use crate::resctrl::Tree;
use crate::state::{State, StateDir};
use crate::watch::until_readable;

/// A container that was created.
#[derive(Debug)]
pub struct Container {
    /// Its state directory.
    pub dir: StateDir,
    /// Its record.
    pub state: State,
}

impl Container {
    /// Finds a container, whatever other commands are doing to it.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Damaged`] for one whose creation was interrupted.
    pub fn find(root: &Path, id: &ContainerId) -> Result<Self> {
        let dir = StateDir::open(root, id)?;
        if let Some(state) = dir.load()? {
            return Ok(Self { dir, state });
        }
        // Another command is about to write the record, or to remove the directory: it holds the lock until then.
        let state = dir.lock_created()?;
        dir.unlock()?;
        Ok(Self { dir, state })
    }

    /// Finds a container and locks it against other commands.
    ///
    /// # Errors
    /// As [`Container::find`].
    pub fn lock(root: &Path, id: &ContainerId) -> Result<Self> {
        let dir = StateDir::open(root, id)?;
        let state = dir.lock_created()?;
        Ok(Self { dir, state })
    }

    /// Asks the kernel what the container is doing.
    ///
    /// # Errors
    /// A cgroup or gate that cannot be looked at.
    pub fn status(&self) -> Result<Status> {
        let alive = self.is_alive()?;
        let observed = Observed {
            ready: self.state.ready,
            alive,
            frozen: alive && self.cgroup().freezer_state()? == Freezer::Frozen,
            gated: alive && gate::is_closed(&self.dir)?,
        };
        Ok(lifecycle::status(observed))
    }

    /// Returns the pid of its first process, while that lives.
    ///
    /// # Errors
    /// As [`host::process_stat`].
    pub fn pid(&self) -> Result<Option<i32>> {
        Ok(if self.is_alive()? { self.state.process.map(|process| process.pid) } else { None })
    }

    /// Tells whether its first process is the recorded one and has not ended.
    fn is_alive(&self) -> Result<bool> {
        Ok(self.process_stat()?.is_some_and(|found| found.alive))
    }

    /// Tells whether its first process has ended or is about to: nothing can be started in its namespaces any more.
    ///
    /// # Errors
    /// As [`host::process_stat`].
    pub fn is_ending(&self) -> Result<bool> {
        Ok(self.process_stat()?.is_none_or(|found| found.exiting || !found.alive))
    }

    /// Looks at its first process; `None` when that is gone, whoever has its pid now.
    fn process_stat(&self) -> Result<Option<Stat>> {
        let Some(recorded) = self.state.process else { return Ok(None) };
        let found = host::process_stat(recorded.pid)?.filter(|found| found.start == recorded.start_time);
        Ok(if found.is_some() && host::boot_id()? == self.state.boot_id { found } else { None })
    }

    /// Opens its first process; `None` when that has ended, whoever has its pid now.
    ///
    /// # Errors
    /// As pidfd_open(2) and [`host::process_stat`]: a process that cannot be asked about may well live.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let Some(recorded) = self.state.process else { return Ok(None) };
        let pidfd = match process::open_pidfd(recorded.pid) {
            Err(error) if error.errno() == Errno::SRCH => return Ok(None),
            opened => opened.doing(|| "open the container's process")?,
        };
        // Asked after opening: if it is the recorded process now, the descriptor refers to it.
        Ok(self.is_alive()?.then_some(pidfd))
    }

    /// Finds its cgroup.
    pub fn cgroup(&self) -> Cgroup {
        Cgroup::open(&self.state.cgroup)
    }

    /// Tells whether a process is in its cgroup, whatever became of the first.
    ///
    /// # Errors
    /// As open(2) of `cgroup.procs`.
    pub fn has_processes(&self) -> Result<bool> {
        let cgroup = self.cgroup();
        Ok(!cgroup.paths().is_empty() && !cgroup.is_empty()?)
    }

    /// Decides again what its configuration means, with the user namespace that it has.
    ///
    /// # Errors
    /// As [`Stored::plan`], and as open(2) of its first process's maps.
    pub fn plan(&self, stored: &Stored) -> Result<Plan> {
        let pid = self.state.process.map(|process| process.pid).unwrap_or_default();
        stored.plan(&self.state.bundle, &|| idmap::of_process(pid))
    }

    /// Reads the configuration that it was created with.
    ///
    /// # Errors
    /// A copy that is missing or damaged; [`Error::NotFound`] when the container was deleted meanwhile.
    pub fn stored(&self) -> Result<Stored> {
        Stored::read(&self.dir).map_err(|error| match self.dir.load() {
            // Deletion begins with the record.
            Ok(None) => Error::NotFound { id: self.state.id.clone() },
            _ => error,
        })
    }

    /// Kills all its processes and waits until its first one has ended.
    ///
    /// # Errors
    /// A process that does not end, which only the kernel can cause.
    pub fn kill(&self) -> Result<()> {
        let pidfd = self.pidfd()?;
        if let Some(pidfd) = &pidfd {
            // It may end by itself in between.
            let _ = process::signal(pidfd, signal::KILL);
        }
        self.cgroup().kill_all(signal::KILL)?;
        match pidfd {
            Some(pidfd) if !until_readable(&pidfd, Some(LAST_BREATH), None)? => {
                Err(Error::Usage(format!("container {} does not end although it was killed", self.state.id)))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is left of a container that has ended.
    ///
    /// # Errors
    /// A cgroup that cannot be removed; the record stays then, so that it can be tried again.
    pub fn remove(self, log: &Log) -> Result<()> {
        // A creation that was interrupted while the copy was written ran no hook.
        let ending = self.stored().and_then(|stored| stored.ending()).unwrap_or_default();
        self.end(&ending, log)
    }

    /// Removes its class of service, as far as that is its own; where the file system is gone, so is that.
    fn leave_class(&self) -> Result<()> {
        let Some(record) = &self.state.rdt else { return Ok(()) };
        match Tree::find() {
            Err(Error::Invalid { .. }) => Ok(()),
            tree => tree?.remove(record),
        }
    }

    /// Removes what is left of a container that has ended, knowing what its configuration says about that.
    ///
    /// # Errors
    /// As [`Container::remove`].
    pub fn end(self, ending: &Ending, log: &Log) -> Result<()> {
        let cgroup = self.cgroup();
        let release = || {
            if ending.others == Others::MayLive {
                cgroup.kill_all(signal::KILL)?;
            }
            cgroup.remove()
        };
        // Twice, if need be: a foreground `run` has nobody after it to try again.
        release().or_else(|_| release())?;
        self.leave_class()?;
        log.debug(format_args!("the cgroup of container {} is gone", self.state.id));
        let document = Document::new(&self.state, None);
        let runner = Runner { document: &document, status: Status::Stopped, watch: None, given: &[] };
        for warning in runner.run_all("poststop", &ending.hooks) {
            log.warn(warning);
        }
        log.debug(format_args!("container {} is removed", self.state.id));
        self.dir.remove()
    }
}

/// Removes what an interrupted creation left, as far as it was recorded.
///
/// # Errors
/// As [`Container::remove`].
pub fn remove_leftovers(dir: StateDir, log: &Log) -> Result<()> {
    match dir.load() {
        Ok(Some(state)) => {
            let container = Container { dir, state };
            container.kill()?;
            container.remove(log)
        }
        Ok(None) => dir.remove(),
        Err(error @ Error::Damaged { .. }) => {
            log.warn(format!("{error}: only the record is removed, since nothing says what belongs to it"));
            dir.remove()
        }
        Err(error) => Err(error),
    }
}
