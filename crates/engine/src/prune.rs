//! Removing what nobody uses.

use bulkhead_store::{Kind, Measure, room};

use crate::container::State;
use crate::engine::Engine;
use crate::error::Result;
use crate::filter::Filters;
use crate::remove::{Force, Removal, Volumes};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The ids of containers, or the names of volumes.
    pub names: Vec<String>,
    /// Bytes on disk that were freed.
    pub bytes: u64,
}

/// Which unused volumes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// Those that were made for containers without a name for them.
    Anonymous,
    /// All.
    Any,
}

impl Engine {
    /// Removes the containers that fit and have no processes, and that were made before a moment, if there is one.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a filter that cannot be.
    pub fn prune_containers(&self, filters: &Filters, until: Option<u64>) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        self.finish_removals()?;
        for container in self.containers(filters)? {
            let is_old = until.is_none_or(|until| container.created < until);
            if !is_old || !matches!(container.state, State::Created | State::Exited) {
                continue;
            }
            let bytes = room(&container.directory, Measure::Blocks)?;
            let removal = Removal { force: Force::No, volumes: Volumes::Keep };
            match self.remove(&container.id, removal) {
                // Started or removed meanwhile.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                removed => {
                    pruned.names.push(removed?);
                    pruned.bytes += bytes;
                }
            }
        }
        Ok(pruned)
    }

    /// Removes the volumes that fit and that no container uses.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a filter that cannot be.
    pub fn prune_volumes(&self, filters: &Filters, unused: Unused) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for volume in self.volumes(filters)? {
            if !volume.used_by.is_empty() || unused == Unused::Anonymous && !volume.anonymous {
                continue;
            }
            let bytes = room(&volume.mountpoint, Measure::Blocks)?;
            match self.remove_volume(&volume.name, Force::No) {
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                removed => {
                    removed?;
                    pruned.names.push(volume.name);
                    pruned.bytes += bytes;
                }
            }
        }
        Ok(pruned)
    }
}
