//! What crashes left, as far as it is the engine's: half made and half removed containers, files and states without a
//! record. Each is found by looking, so that nothing has to be written for it beforehand.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_shim::order::Restart;
use bulkhead_store::{Kind, Stage};

use crate::container::State;
use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::id;
use crate::known::Known;
use crate::life::Lost;
use crate::remove::{Volumes, clear};
use crate::volume::VolumeDocument;

/// Something that should not be there.
#[derive(Debug)]
pub(crate) enum Leftover {
    /// A container whose removal was begun.
    HalfRemoved(Known),
    /// A container whose maker died before it ran, and that was to remove itself.
    Abandoned(Known),
    /// A container that was to remove itself and has ended.
    Ended(Known),
    /// A container whose policy starts it again, and whose monitor died.
    Lost(Known),
    /// A directory that no container has.
    Directory(PathBuf),
    /// What a runtime knows of a container that is not there: its states' directory, and the container's id.
    State(PathBuf, String),
    /// A volume of a container that is not there.
    Volume(String),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfRemoved(known) => write!(f, "container {}: its removal was begun", known.record.name),
            Self::Abandoned(known) => {
                write!(f, "container {}: its maker died before it was started", known.record.name)
            }
            Self::Ended(known) => {
                write!(f, "container {}: it was to be removed at its end", known.record.name)
            }
            Self::Lost(known) => {
                write!(f, "container {}: its monitor died, it is to be started", known.record.name)
            }
            Self::Directory(path) => write!(f, "{}: no container has this directory", path.display()),
            Self::State(states, id) => {
                write!(f, "{}: no container has the id {}", states.display(), id::short(id))
            }
            Self::Volume(name) => write!(f, "volume {}: its container is gone", id::short(name)),
        }
    }
}

impl Engine {
    /// Finds what crashes left.
    pub(crate) fn leftovers(&self) -> Result<Vec<Leftover>> {
        // Directories first: what has no record afterwards never gets one, since records come before and go after.
        let directories = self.directories()?;
        let states = self.states()?;
        let volumes = self.store.volumes()?;
        let records = self.store.containers()?;
        let ids: BTreeSet<String> = records.iter().map(|record| record.id.clone()).collect();
        let mut found = Vec::new();
        for record in records {
            found.extend(self.leftover_of(self.know(record)?)?);
        }
        let has_record =
            |path: &Path| path.file_name().and_then(OsStr::to_str).is_some_and(|id| ids.contains(id));
        found.extend(directories.into_iter().filter(|path| !has_record(path)).map(Leftover::Directory));
        let unknown = states.into_iter().filter(|(_, id)| !ids.contains(id));
        found.extend(unknown.map(|(states, id)| Leftover::State(states, id)));
        for record in volumes {
            let goes_with = VolumeDocument::read(&record)?.goes_with;
            if goes_with.is_some_and(|id| !ids.contains(&id))
                && self.store.volume_users(&record.name)?.is_empty()
            {
                found.push(Leftover::Volume(record.name));
            }
        }
        Ok(found)
    }

    fn leftover_of(&self, known: Known) -> Result<Option<Leftover>> {
        if known.record.stage == Stage::Removing {
            return Ok(Some(Leftover::HalfRemoved(known)));
        }
        let goes = known.document.request.remove;
        Ok(match known.life.state {
            State::Created if goes && !self.is_being_made(&known)? => Some(Leftover::Abandoned(known)),
            State::Exited if goes => Some(Leftover::Ended(known)),
            State::Exited if known.life.lost == Some(Lost::Monitor) && starts_again(&known) => {
                Some(Leftover::Lost(known))
            }
            _ => None,
        })
    }

    /// Tells whether somebody lives who means to start the container.
    fn is_being_made(&self, known: &Known) -> Result<bool> {
        let boot = self.boot()?;
        let maker = known.document.maker.as_ref();
        Ok(maker.is_none_or(|maker| maker.boot == boot && maker.process.runs()))
    }

    /// Mends what was found. What somebody else mended meanwhile is no error.
    pub(crate) fn mend(&self, leftover: &Leftover) -> Result<()> {
        match leftover {
            Leftover::HalfRemoved(known) | Leftover::Abandoned(known) | Leftover::Ended(known) => {
                let _held = self.hold(&known.record.id)?;
                match self.know_again(&known.record.id)? {
                    Some(known) if !known.life.state.is_active() => {
                        self.take_apart(&known, volumes_of(&known))
                    }
                    _ => Ok(()),
                }
            }
            Leftover::Lost(known) => self.start(&known.record.id, None).map(drop),
            Leftover::Directory(path) => clear(path),
            Leftover::State(states, id) => {
                let name = states.file_name().and_then(OsStr::to_str).unwrap_or_default();
                self.runtime(Some(name))?.run("delete", id::short(id), &["--force", id]).map(drop)
            }
            Leftover::Volume(name) => match self.store.delete_volume(name) {
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => Ok(()),
                deleted => Ok(deleted?),
            },
        }
    }

    /// Lists the directories of containers.
    fn directories(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for parent in [self.places().container(""), self.places().container_run("")] {
            found.extend(entries(&parent)?);
        }
        Ok(found)
    }

    /// Lists what runtimes know of containers.
    fn states(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        for states in entries(&self.places().runtime(""))? {
            for state in entries(&states)? {
                let id = state.file_name().and_then(OsStr::to_str).filter(|id| id::is_id(id));
                found.extend(id.map(|id| (states.clone(), id.to_owned())));
            }
        }
        Ok(found)
    }
}

fn volumes_of(known: &Known) -> Volumes {
    if known.document.request.remove { Volumes::Remove } else { Volumes::Keep }
}

/// Tells whether the policy of a container whose end nobody saw starts it again.
pub(crate) fn starts_again(known: &Known) -> bool {
    let is_stopped = known.status.as_ref().is_some_and(|status| status.stopped);
    !is_stopped && known.document.request.restart.0 != Restart::No
}

/// Lists a directory's entries; none when it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(doing)?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).doing(doing)).collect()
}
