//! The engine itself: where everything lies, and which programs it starts.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bulkhead_store::{Places, Store};

use crate::error::{Doing, Result};
use crate::program;

/// Containers, images and volumes of one user of the machine.
///
/// It is cheap to open: every command opens one, and any number of them work on the same things at once.
///
/// # Life cycle of a container
/// ```text
/// create ── start ─┬─ stop, kill ─┬─ start …
///                  │  restart     └─ remove
///                  ├─ pause ── unpause
///                  └─ exec, logs, attach, top, stats, copy …
/// run = create and start, with fewer steps
/// ```
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) programs: Programs,
    boot: OnceLock<String>,
}

/// The programs that an engine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `bulkmon`, which stays with a container.
    pub monitor: PathBuf,
    /// The runtime of containers that name none, `bulkrun`.
    pub runtime: PathBuf,
    /// `bulkhead`, by which a monitor removes a container that nobody waits for.
    pub engine: PathBuf,
}

impl Programs {
    /// Finds each beside the running program, else in PATH.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is in neither.
    pub fn of_installation() -> Result<Self> {
        Ok(Self {
            monitor: program::find("bulkmon")?,
            runtime: program::find("bulkrun")?,
            engine: program::find("bulkhead")?,
        })
    }
}

impl Engine {
    /// Opens the engine of these places with the programs of this installation.
    ///
    /// # Errors
    /// As [`Store::open`]; [`Error::Invalid`] for a program that is not installed.
    pub fn open(places: &Places) -> Result<Self> {
        Self::with(places, Programs::of_installation()?)
    }

    /// Opens the engine of these places with other programs.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with(places: &Places, programs: Programs) -> Result<Self> {
        Ok(Self { store: Store::open(places)?, programs, boot: OnceLock::new() })
    }

    /// Returns the images, and the records of everything.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns where everything lies.
    pub fn places(&self) -> &Places {
        self.store.places()
    }

    /// Returns the id of this boot of the machine.
    pub(crate) fn boot(&self) -> Result<&str> {
        if let Some(boot) = self.boot.get() {
            return Ok(boot);
        }
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
        Ok(self.boot.get_or_init(|| text.trim_end().to_owned()))
    }
}

/// Returns the time in nanoseconds since 1970 (UTC).
pub(crate) fn now() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
