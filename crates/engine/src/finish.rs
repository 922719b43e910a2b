//! Removals of containers whose commands were killed: the next command that removes something, or that wants the name,
//! finishes them.
//!
//! Others leave them alone: a layer may be large, and nobody who runs a container expects to wait for that.

use bulkhead_store::{ContainerRecord, Kind, Stage};

use crate::engine::Engine;
use crate::error::Result;
use crate::mend::volumes_of;

impl Engine {
    /// Finishes the removals that were begun and that nobody is at. One that fails is told by a check, and is nothing that
    /// the caller asked for.
    ///
    /// # Errors
    /// As the database.
    pub fn finish_removals(&self) -> Result<()> {
        for record in self.store.leaving_containers()? {
            drop(self.finish_removal_of(&record));
        }
        Ok(())
    }

    /// Finishes the removal of whoever has the name that somebody else wants; tells whether the name is free now. Why it is not
    /// is nothing that the caller asked for: the name is taken.
    pub(crate) fn frees_name(&self, by: &str) -> bool {
        let finished = || self.finish_removal_of(&self.store.container(by)?);
        finished().unwrap_or_else(|error| error.kind() == Kind::NotFound)
    }

    /// Finishes a removal if it was begun and nobody is at it; tells whether the container is gone.
    fn finish_removal_of(&self, record: &ContainerRecord) -> Result<bool> {
        let id = &record.id;
        if record.stage != Stage::Removing {
            return Ok(false);
        }
        let held = self.try_hold(id)?;
        if held.is_none() && self.places().container(id).exists() {
            return Ok(false);
        }
        let Some(known) = self.know_again(id)? else { return Ok(true) };
        // What a runtime has to end takes its time, and the word of who asks for it.
        if known.life.state.is_active() || known.has_state(self) {
            return Ok(false);
        }
        // A monitor that lives has it removed itself.
        let Some(claim) = self.claim(&known)? else { return Ok(false) };
        self.take_apart(&known, volumes_of(&known), &claim)?;
        Ok(true)
    }
}
