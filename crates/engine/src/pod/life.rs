//! What is done to all containers of a pod.

use bulkhead_store::{Kind, PodRecord};

use crate::container::State;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::stop::Stop;

/// A container of a pod that could not be changed as the others were.
#[derive(Debug)]
pub struct Failed {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: Error,
}

impl Engine {
    /// Starts all containers of a pod that do not run, the oldest first, and returns the pod's id.
    ///
    /// # Errors
    /// [`Error::Pod`] with what could not be started, after all others were; [`Error::Invalid`] without any.
    pub fn start_pod(&self, wanted: &str) -> Result<String> {
        let record = self.find_pod(wanted)?;
        if self.store.containers_of_pod(&record.id)?.is_empty() {
            return Err(Error::Invalid {
                what: format!("pod {}", record.name),
                reason: "it has no containers; `bulkhead run --pod` puts one into it".into(),
            });
        }
        let started = self.each(&record, "start", |id, state| match state {
            State::Created | State::Exited => self.start(id, None).map(drop),
            _ => Ok(()),
        });
        self.told_of_pod(&record, "start", started)
    }

    /// Stops all containers of a pod, and returns the pod's id.
    ///
    /// # Errors
    /// [`Error::Pod`] with what could not be stopped, after all others were.
    pub fn stop_pod(&self, wanted: &str, stop: &Stop) -> Result<String> {
        let record = self.find_pod(wanted)?;
        let stopped = self.stop_all(&record, stop);
        self.told_of_pod(&record, "stop", stopped)
    }

    /// Stops all containers of a pod and starts them again, and returns the pod's id. What they share is made anew.
    ///
    /// # Errors
    /// As [`Engine::stop_pod`] and [`Engine::start_pod`].
    pub fn restart_pod(&self, wanted: &str, stop: &Stop) -> Result<String> {
        let record = self.find_pod(wanted)?;
        self.stop_all(&record, stop)?;
        let started = self.each(&record, "start", |id, _| self.start(id, None).map(drop));
        self.told_of_pod(&record, "restart", started)
    }

    /// Sends the first process of each container that runs a signal, and returns the pod's id.
    ///
    /// # Errors
    /// [`Error::Pod`] with what it could not be sent to, after all others have it.
    pub fn kill_pod(&self, wanted: &str, signal: i32) -> Result<String> {
        let record = self.find_pod(wanted)?;
        let killed = self.each(&record, "kill", |id, state| match state {
            State::Running | State::Paused | State::Restarting => self.kill(id, signal),
            _ => Ok(()),
        });
        self.told_of_pod(&record, "kill", killed)
    }

    /// Freezes the containers of a pod that run, and returns the pod's id.
    ///
    /// # Errors
    /// [`Error::Pod`] with what could not be frozen, after all others were.
    pub fn pause_pod(&self, wanted: &str) -> Result<String> {
        let record = self.find_pod(wanted)?;
        let paused = self.each(&record, "pause", |id, state| match state {
            State::Running => self.pause(id),
            _ => Ok(()),
        });
        self.told_of_pod(&record, "pause", paused)
    }

    /// Lets the containers of a pod go on that are frozen, and returns the pod's id.
    ///
    /// # Errors
    /// [`Error::Pod`] with what could not be, after all others were.
    pub fn unpause_pod(&self, wanted: &str) -> Result<String> {
        let record = self.find_pod(wanted)?;
        let resumed = self.each(&record, "unpause", |id, state| match state {
            State::Paused => self.unpause(id),
            _ => Ok(()),
        });
        self.told_of_pod(&record, "unpause", resumed)
    }

    fn stop_all(&self, record: &PodRecord, stop: &Stop) -> Result<()> {
        let stopped = self.each(record, "stop", |id, _| self.stop(id, stop));
        let _held = self.hold_directory(&self.places().pod(&record.id), || format!("pod {}", record.name))?;
        let members = self.store.containers_of_pod(&record.id)?;
        let runs =
            |id: &str| Ok::<_, Error>(self.know_again(id)?.is_some_and(|known| known.life.state.is_active()));
        let mut is_used = false;
        for member in members {
            is_used |= runs(&member.id)?;
        }
        // With processes in common the first of them is the pod's own.
        if !is_used {
            self.end_first(record)?;
        }
        stopped
    }

    /// Does something to each container, also after it failed for one.
    fn each(
        &self,
        record: &PodRecord,
        operation: &'static str,
        mut act: impl FnMut(&str, State) -> Result<()>,
    ) -> Result<()> {
        let mut failed = Vec::new();
        for member in self.store.containers_of_pod(&record.id)? {
            let name = member.name.clone();
            let id = member.id.clone();
            match self.know(member).and_then(|known| act(&id, known.life.state)) {
                // It removed itself meanwhile.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => failed.push(Failed { name, error }),
                Ok(()) => {}
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(Error::Pod { operation, name: record.name.clone(), failed }),
        }
    }

    fn told_of_pod(&self, record: &PodRecord, action: &str, done: Result<()>) -> Result<String> {
        done?;
        self.tell_pod(record, action);
        Ok(record.id.clone())
    }
}
