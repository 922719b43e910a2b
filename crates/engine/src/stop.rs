//! Ending, freezing and signalling containers.

use std::fs::File;
use std::io::ErrorKind;
use std::time::Duration;

use bulkhead_shim::client;
use bulkhead_shim::order::Restart;
use bulkhead_shim::protocol::ToMonitor;

use bulkhead_store::Durability;

use crate::container::State;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::hold::Held;
use crate::known::Known;
use crate::start::Cause;

pub use bulkhead_shim::protocol::{Grace, Stop};

impl Engine {
    /// Stops a container: its signal, and SIGKILL when the grace period is over. It is not started again by its policy. One
    /// that has ended already is no error.
    ///
    /// # Errors
    /// [`Error::State`] for a container that is being removed.
    pub fn stop(&self, wanted: &str, stop: &Stop) -> Result<()> {
        self.stop_held(wanted, stop, None)
    }

    /// As [`Engine::stop`], for who may hold it.
    fn stop_held(&self, wanted: &str, stop: &Stop, held: Option<&Held>) -> Result<()> {
        let known = self.find(wanted)?;
        match known.life.state {
            // It is about to end, or has ended.
            State::Removing if known.document.request.remove => self.end_alone(&known, *stop, held),
            State::Removing => Err(known.refuses("stop")),
            // Nobody is there to note that it is not to be started again, as it would be after a reboot.
            State::Exited if known.is_to_be_given_up() => self.give_up(&known),
            State::Created => Ok(()),
            // Whoever stopped it may have been killed before that was on the disk.
            State::Exited => self.keep_status(&known),
            State::Starting | State::Running | State::Paused | State::Restarting => {
                self.thaw(&known)?;
                self.end_alone(&known, *stop, held)?;
                self.keep_status(&known)?;
                // Its end comes before its having been stopped.
                if let Some(known) = self.know_again(&known.record.id)?
                    && known.is_to_be_given_up()
                {
                    // Its monitor died over it, and has not noted that.
                    self.give_up(&known)?;
                }
                if held.is_none() {
                    self.unplug_stopped(&known.record.id);
                }
                self.tell(&known, "stop");
                Ok(())
            }
        }
    }

    /// Stops a container, if it runs, and starts it again.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub fn restart(&self, wanted: &str, stop: &Stop) -> Result<()> {
        let known = self.find(wanted)?;
        let id = &known.record.id;
        // One that removes itself waits with that, and finds that it runs again.
        let held = if known.document.request.remove { self.hold(id)? } else { None };
        if known.life.state.is_active() {
            self.stop_held(id, stop, held.as_ref())?;
        }
        match held {
            Some(held) => self.start_held(id, Some(held), (None, Cause::Wanted))?,
            None => self.start(id, None)?,
        };
        self.tell(&known, "restart");
        Ok(())
    }

    /// Sends a container's first process a signal. SIGKILL, and the signal that stops it, count as a stop; after SIGKILL it has ended.
    ///
    /// # Errors
    /// [`Error::State`] when it does not run, [`Error::Survives`] when it has not ended 10 seconds after SIGKILL.
    pub fn kill(&self, wanted: &str, signal: i32) -> Result<()> {
        let known = self.find(wanted)?;
        if !matches!(known.life.state, State::Running | State::Paused | State::Restarting) {
            return Err(known.refuses("kill"));
        }
        if signal == KILL {
            self.thaw(&known)?;
            self.end_in_time(&known)?;
            self.unplug_stopped(&known.record.id);
            // What was sent is told with the end, but for what a monitor of yesterday saw, which notes no signals.
            if let Some(known) = self.know_again(&known.record.id)?
                && known.status.as_ref().is_none_or(|status| status.sent.is_empty())
            {
                self.tell_kill(&known, KILL);
            }
        } else {
            match self.is_astray(&known)? {
                true => self.signal_astray(&known, signal)?,
                false => self.ask(&known, "kill", &ToMonitor::Signal(signal))?,
            }
            self.tell_kill(&known, signal);
        }
        // It may count as a stop, which matters to a policy after a boot.
        if known.document.request.restart.0 != Restart::No {
            self.keep_status(&known)?;
        }
        Ok(())
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// [`Error::State`] when it does not run, [`Error::Runtime`] where the machine cannot freeze them.
    pub fn pause(&self, wanted: &str) -> Result<()> {
        let known = self.find(wanted)?;
        let _held = self.hold(&known.record.id)?;
        let known = self.find(&known.record.id)?;
        if known.life.state != State::Running {
            return Err(known.refuses("pause"));
        }
        // Recorded before it is so: a crash between leaves a container that `unpause` takes.
        self.change(&known.record.id, Durability::Process, |document| document.paused = known.life.process)?;
        let paused = known.runtime(self)?.run("pause", &known.record.name, &[&known.record.id]);
        if paused.is_err() {
            self.change(&known.record.id, Durability::Process, |document| document.paused = None)?;
        }
        paused?;
        self.tell(&known, "pause");
        Ok(())
    }

    /// Lets the processes of a frozen container go on.
    ///
    /// # Errors
    /// [`Error::State`] when it is not frozen.
    pub fn unpause(&self, wanted: &str) -> Result<()> {
        let known = self.find(wanted)?;
        let _held = self.hold(&known.record.id)?;
        let known = self.find(&known.record.id)?;
        if known.life.state != State::Paused {
            return Err(known.refuses("unpause"));
        }
        self.thaw(&known)?;
        self.tell(&known, "unpause");
        Ok(())
    }

    /// Notes that a container which nobody watches is not to be started again.
    pub(crate) fn give_up(&self, known: &Known) -> Result<()> {
        let started = known.status.as_ref().and_then(|status| status.started);
        self.change(&known.record.id, Durability::PowerLoss, |document| document.given_up = started)
    }

    /// Has what a monitor wrote outlive a power loss, so that what was stopped is not started after it. What removes itself is
    /// removed after it, too.
    fn keep_status(&self, known: &Known) -> Result<()> {
        if known.document.request.remove {
            return Ok(());
        }
        let directory = self.places().container(&known.record.id);
        let path = self.status_of(&known.record.id, &known.document);
        let doing = || format!("sync the status of container {}", known.record.name);
        let sync = || {
            File::open(&path)?.sync_data()?;
            // It took the place of an older one.
            File::open(&directory)?.sync_all()
        };
        match sync() {
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            synced => synced.doing(doing),
        }
    }

    /// As [`Engine::end`]. One whose monitor nobody reaches is held meanwhile, lest somebody starts it or removes it; who wants its
    /// end at once does not wait for who has been more patient.
    fn end_alone(&self, known: &Known, stop: Stop, held: Option<&Held>) -> Result<()> {
        if held.is_some() || !self.is_astray(known)? {
            return self.end(known, stop);
        }
        let id = &known.record.id;
        let _held = if stop == AT_ONCE { self.try_hold(id)? } else { self.hold(id)? };
        match self.know_again(id)? {
            Some(known) if known.life.state.is_active() => self.end(&known, stop),
            _ => Ok(()),
        }
    }

    /// Ends a container that has processes, and returns when it has none.
    pub(crate) fn end(&self, known: &Known, stop: Stop) -> Result<()> {
        match client::request(&self.places().container_run(&known.record.id), &ToMonitor::Stop(stop)) {
            // It has ended meanwhile by itself, or cannot be reached.
            Err(client::Error::NoMonitor { .. }) => self.end_astray(known, stop),
            other => Ok(other?),
        }
    }

    /// Sends SIGKILL and returns when the container has ended, as docker's: what comes next may remove it.
    fn end_in_time(&self, known: &Known) -> Result<()> {
        let sent = client::ask(&self.places().container_run(&known.record.id), &ToMonitor::Stop(AT_ONCE));
        let asked = match sent {
            Err(client::Error::NoMonitor { .. }) => {
                return self.end_alone(known, AT_ONCE, None);
            }
            sent => sent?,
        };
        match asked.wait(Some(PATIENCE)) {
            // What follows its end, such as hooks, has limits of its own.
            Err(client::Error::Unanswered { .. })
                if known.life.process.is_some_and(|first| !first.runs()) =>
            {
                self.end(known, AT_ONCE)
            }
            Err(client::Error::Unanswered { .. }) => Err(Error::Survives { name: known.record.name.clone() }),
            Err(client::Error::NoMonitor { .. }) => self.end_astray(known, AT_ONCE),
            other => Ok(other?),
        }
    }

    fn tell_kill(&self, known: &Known, signal: i32) {
        self.tell_with(known, "kill", ("signal", &signal.to_string()));
    }

    /// Lets a container go on if it is frozen: a frozen process ends by no signal.
    pub(crate) fn thaw(&self, known: &Known) -> Result<()> {
        // What cannot be reached is ended by its cgroups.
        if known.life.state != State::Paused || self.is_astray(known)? {
            return Ok(());
        }
        let resumed = known.runtime(self)?.run("resume", &known.record.name, &[&known.record.id]);
        match resumed {
            // A crash may have left a record of a pause that never came.
            Err(error) if !known.is_frozen(self)? => drop(error),
            other => drop(other?),
        }
        self.change(&known.record.id, Durability::Process, |document| document.paused = None)
    }

    /// Asks a container's monitor for something.
    pub(crate) fn ask(&self, known: &Known, operation: &'static str, what: &ToMonitor<'_>) -> Result<()> {
        match client::request(&self.places().container_run(&known.record.id), what) {
            Err(client::Error::NoMonitor { .. }) => {
                Err(Error::State { operation, name: known.record.name.clone(), state: State::Exited })
            }
            other => Ok(other?),
        }
    }
}

/// How long a container that was killed may take to end (docker's).
const PATIENCE: Duration = Duration::from_secs(10);

/// SIGKILL.
pub(crate) const KILL: i32 = 9;

/// Ends a container at once.
pub(crate) const AT_ONCE: Stop = Stop { signal: Some(KILL), grace: Some(Grace::Seconds(0)) };
