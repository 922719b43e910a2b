//! After a crash, and after a boot.

use bulkhead_shim::order::Restart;

use crate::container::State;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::known::Known;
use crate::life::Lost;

/// What was done to something, or why it could not be.
#[derive(Debug)]
pub struct Mended {
    /// What it is, and what was wrong with it.
    pub what: String,
    /// How it went.
    pub result: Result<()>,
}

impl Engine {
    /// Finishes what commands that were killed have begun, and starts containers again whose monitors died.
    ///
    /// # Errors
    /// When what is there cannot be looked at; what cannot be mended is told in its place.
    pub fn recover(&self) -> Result<Vec<Mended>> {
        let mend = |leftover| Mended { what: format!("{leftover}"), result: self.mend(&leftover) };
        // What no program can mend is told by a check.
        let found = self.leftovers()?.into_iter().filter(|leftover| leftover.remedy().is_some());
        Ok(found.map(mend).collect())
    }

    /// Starts containers after a boot as their policies have it: `always`, `unless-stopped` when it was not stopped, and
    /// `on-failure` when the machine went down under it or it had failed. What crashes left is mended first.
    ///
    /// # Errors
    /// As [`Engine::recover`].
    pub fn restart_all(&self) -> Result<Vec<Mended>> {
        let mut done = self.recover()?;
        // The oldest first: others may share its namespaces.
        for record in self.store.containers()?.into_iter().rev() {
            let name = record.name.clone();
            match self.know(record) {
                Ok(known) if is_due(&known) => {
                    let what = format!("container {name}: it is to be started after a boot");
                    let result = self.start(&known.record.id, None).map(drop);
                    done.push(Mended { what, result });
                }
                // One that nobody can read was told above.
                Ok(_) | Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

/// Tells whether a container's policy wants it to run after a boot.
fn is_due(known: &Known) -> bool {
    let has_failed = known.life.exit_code.is_some_and(|code| code != 0);
    // Of what a power loss took the status, nobody knows whether it was stopped.
    let was_started =
        known.life.lost == Some(Lost::Status) || known.status.as_ref().is_some_and(|it| it.started.is_some());
    was_started
        && known.life.state == State::Exited
        && match known.document.request.restart.0 {
            Restart::No => false,
            Restart::Always => true,
            Restart::UnlessStopped => !known.is_stopped(),
            Restart::OnFailure { .. } => !known.is_stopped() && has_failed,
        }
}
