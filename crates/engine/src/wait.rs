//! Waiting for the end of containers.

use bulkhead_shim::client::{self, Event};
use bulkhead_shim::protocol::{Attach, Then};
use bulkhead_store::Kind;

use crate::engine::Engine;
use crate::error::Result;
use crate::known::Known;
use crate::watch::Watch;

/// Until when is waited (docker's `--condition`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Until {
    /// It does not run, and will not without anybody's doing.
    #[default]
    NotRunning,
    /// It ends the next time, even if its policy starts it again.
    NextExit,
    /// It is gone.
    Removed,
}

impl Engine {
    /// Waits for a container and returns the code of its last end; 0 when it never ran.
    ///
    /// # Errors
    /// When it is not there.
    pub fn wait(&self, wanted: &str, until: Until) -> Result<u8> {
        let known = self.find(wanted)?;
        let id = known.record.id.clone();
        // Watched before anything is asked, so that no change falls between.
        let status = self.status_of(&id, &known.document);
        let directory = self.places().container(&id);
        let of_status = status.parent().filter(|_| until != Until::Removed).unwrap_or(&directory);
        let watch = match Watch::new(of_status).or_else(|_| Watch::new(&directory)) {
            Ok(watch) => Some(watch),
            Err(_) if until == Until::Removed => None,
            Err(error) => return Err(error),
        };
        let ended_before = known.status.as_ref().and_then(|status| status.finished);
        let mut code = known.life.exit_code.unwrap_or(0);
        let mut current = Some(known);
        while let Some(known) = current {
            if known.life.state.is_active() {
                if let Some(ended) = self.follow(&known, until)? {
                    code = ended;
                    if until == Until::NextExit {
                        return Ok(code);
                    }
                }
            } else {
                // What removes itself may be gone but for its name.
                code = known.life.exit_code.unwrap_or(code);
                let has_ended = known.status.as_ref().and_then(|status| status.finished) != ended_before;
                if until == Until::NotRunning || until == Until::NextExit && has_ended {
                    return Ok(code);
                }
                if let Some(watch) = &watch {
                    watch.wait()?;
                }
            }
            current = self.know_again(&id)?;
        }
        Ok(code)
    }

    /// Looks at a container again; `None` when it is gone.
    pub(crate) fn know_again(&self, id: &str) -> Result<Option<Known>> {
        match self.store.container(id) {
            Ok(record) => Ok(Some(self.know(record)?)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Hears a container's monitor until it tells an end; `None` when it went without a word.
    fn follow(&self, known: &Known, until: Until) -> Result<Option<u8>> {
        let run = self.places().container_run(&known.record.id);
        let mut attachment = match client::connect(&run, Attach::default()) {
            // It is about to write its status, or was killed: the next look tells.
            Err(client::Error::NoMonitor { .. }) => return Ok(None),
            connected => connected?,
        };
        let mut code = None;
        while let Some(event) = attachment.next()? {
            if let Event::Exited(exit) = event {
                code = Some(exit.code);
                if exit.then == Then::Ends || until == Until::NextExit {
                    break;
                }
            }
        }
        Ok(code)
    }
}
