//! Changing containers that are there: their names, limits and restart policies.

use bulkhead_shim::client;
use bulkhead_shim::protocol::ToMonitor;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::name;
use crate::request::Restart;

impl Engine {
    /// Gives a container another name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be; when another container has it.
    pub fn rename(&self, wanted: &str, new: &str) -> Result<()> {
        name::check(new)?;
        let known = self.find(wanted)?;
        self.store.rename_container(&known.record.id, new)?;
        self.tell(&known, "rename");
        Ok(())
    }

    /// Gives a container another restart policy, also while it runs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a container that is to remove itself.
    pub fn set_restart(&self, wanted: &str, restart: Restart) -> Result<()> {
        let known = self.find(wanted)?;
        if known.document.request.remove && restart != Restart::default() {
            return Err(Error::Invalid {
                what: format!("restart policy {restart} of container {}", known.record.name),
                reason: "it removes itself at its end".into(),
            });
        }
        self.change(&known.record.id, |document| document.request.restart = restart)?;
        if known.life.state.is_active() {
            match client::request(
                &self.places().container_run(&known.record.id),
                &ToMonitor::Policy(restart.0),
            ) {
                // It has ended meanwhile, and reads its record when it is started.
                Err(client::Error::NoMonitor { .. }) => {}
                asked => asked?,
            }
        }
        self.tell(&known, "update");
        Ok(())
    }
}
