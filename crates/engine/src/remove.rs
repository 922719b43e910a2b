//! Removing a container with all that belongs to it.

use std::fs;
use std::io;
use std::path::Path;

use bulkhead_store::Kind;

use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::known::Known;
use crate::stop::AT_ONCE;

/// How a container is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// What becomes of its processes.
    pub force: Force,
    /// What becomes of its anonymous volumes.
    pub volumes: Volumes,
}

/// Whether what is in use is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Force {
    /// It is not.
    #[default]
    No,
    /// Its use is ended first.
    Yes,
}

/// What becomes of a container's anonymous volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Volumes {
    /// They stay.
    #[default]
    Keep,
    /// They go, unless others use them.
    Remove,
}

impl Removal {
    /// What `--rm` means.
    pub const OF_ITSELF: Self = Self { force: Force::No, volumes: Volumes::Remove };
}

impl Engine {
    /// Removes a container and returns its id.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) for one that has processes, unless their end is forced.
    pub fn remove(&self, wanted: &str, removal: Removal) -> Result<String> {
        let mut known = self.find(wanted)?;
        let id = known.record.id.clone();
        loop {
            if known.life.state.is_active() {
                if removal.force == Force::No {
                    return Err(known.refuses("remove"));
                }
                self.thaw(&known)?;
                self.end(&known, AT_ONCE)?;
            }
            let _held = self.hold(&id)?;
            // Somebody else may have started or removed it meanwhile.
            known = match self.store.container(&id) {
                Ok(record) => self.know(record)?,
                Err(error) if error.kind() == Kind::NotFound => return Ok(id),
                Err(error) => return Err(error.into()),
            };
            if !known.life.state.is_active() {
                self.take_apart(&known, removal.volumes)?;
                return Ok(id);
            }
        }
    }

    /// Removes the parts of a container that has no processes, and its record last.
    pub(crate) fn take_apart(&self, known: &Known, volumes: Volumes) -> Result<()> {
        let id = &known.record.id;
        self.store.begin_removal(id)?;
        if known.life.lost.is_some() && known.status.as_ref().is_some_and(|status| !status.lost) {
            // Whatever its monitor left. The runtime need not know it: then it is gone.
            drop(known.runtime(self)?.run("delete", &known.record.name, &["--force", id]));
        }
        clear(&self.places().container_run(id))?;
        clear(&self.places().container(id))?;
        self.store.delete_container(id)?;
        if volumes == Volumes::Remove {
            for name in &known.document.anonymous {
                match self.store.delete_volume(name) {
                    Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
                    deleted => deleted?,
                }
            }
        }
        self.tell(known, "destroy");
        Ok(())
    }
}

/// Removes a directory of the engine's and all in it. One that is not there is gone already.
pub(crate) fn clear(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("remove {}", directory.display())),
    }
}
