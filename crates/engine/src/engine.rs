//! The engine itself: where everything lies, and which programs it starts.

use std::path::PathBuf;
use std::sync::OnceLock;

use bulkhead_store::{Places, Store};

use crate::error::{Doing, Result};
use crate::hold::Waiting;
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
    /// Those that were chosen; others are looked for when one is needed, since most commands need none.
    programs: Option<Programs>,
    boot: OnceLock<String>,
    /// Whoever is told that something is waited for.
    told: Option<fn(&Waiting)>,
}

/// The programs that an engine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `bulkmon`, which stays with a container.
    pub monitor: PathBuf,
    /// The runtime of containers that name none, `bulkrun`.
    pub runtime: PathBuf,
    /// `bulkdns`, which answers for the names of a network's containers.
    pub names: PathBuf,
    /// `bulkproxy`, which carries ports of the host to a container.
    pub ports: PathBuf,
    /// `bulkhead`, by which a monitor removes a container that nobody waits for.
    pub engine: PathBuf,
}

impl Programs {
    /// Finds each beside the running program, else in PATH.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for one that is in neither.
    pub fn of_installation() -> Result<Self> {
        Ok(Self {
            monitor: program::find("bulkmon")?,
            runtime: program::find("bulkrun")?,
            names: program::find("bulkdns")?,
            ports: program::find("bulkproxy")?,
            engine: program::find("bulkhead")?,
        })
    }
}

impl Engine {
    /// Opens the engine of these places with the programs of this installation, each of which is beside the running program
    /// or in PATH; one that is missing is an error when it is needed.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(places: &Places) -> Result<Self> {
        Ok(Self { store: Store::open(places)?, programs: None, boot: OnceLock::new(), told: None })
    }

    /// Opens the engine of these places with other programs.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with(places: &Places, programs: Programs) -> Result<Self> {
        Ok(Self { store: Store::open(places)?, programs: Some(programs), boot: OnceLock::new(), told: None })
    }

    /// Has somebody told when an operation waits for another, once for each time, a second after it began to.
    pub fn telling(mut self, told: fn(&Waiting)) -> Self {
        self.told = Some(told);
        self
    }

    /// Tells that something is waited for.
    pub(crate) fn notice(&self, waiting: &Waiting) {
        if let Some(told) = self.told {
            told(waiting);
        }
    }

    /// Returns the images, and the records of everything.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns where everything lies.
    pub fn places(&self) -> &Places {
        self.store.places()
    }

    /// Finds `bulkmon`, which stays with a container.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when it is not installed, as the others.
    pub(crate) fn monitor(&self) -> Result<PathBuf> {
        self.program("bulkmon", |programs| &programs.monitor)
    }

    /// Finds `bulkrun`, the runtime of containers that name none.
    pub(crate) fn own_runtime(&self) -> Result<PathBuf> {
        self.program("bulkrun", |programs| &programs.runtime)
    }

    /// Finds `bulkdns`, which answers for the names of a network's containers.
    pub(crate) fn names(&self) -> Result<PathBuf> {
        self.program("bulkdns", |programs| &programs.names)
    }

    /// Finds `bulkproxy`, which carries ports of the host to a container.
    pub(crate) fn ports(&self) -> Result<PathBuf> {
        self.program("bulkproxy", |programs| &programs.ports)
    }

    /// Finds `bulkhead`, by which a monitor removes a container that nobody waits for.
    pub(crate) fn command(&self) -> Result<PathBuf> {
        self.program("bulkhead", |programs| &programs.engine)
    }

    fn program(&self, name: &str, chosen: fn(&Programs) -> &PathBuf) -> Result<PathBuf> {
        self.programs.as_ref().map_or_else(|| program::find(name), |programs| Ok(chosen(programs).clone()))
    }

    /// Returns the id of this boot of the machine.
    pub(crate) fn boot(&self) -> Result<&str> {
        if let Some(boot) = self.boot.get() {
            return Ok(boot);
        }
        let boot = bulkhead_sys::identity::boot().doing(|| "read the identity of this boot")?;
        Ok(self.boot.get_or_init(|| boot))
    }
}

/// Returns the time in nanoseconds since 1970 (UTC).
pub(crate) fn now() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_looked_at_without_any_program() {
        let scratch = bulkhead_testkit::Scratch::new();
        let places = Places { root: scratch.path().join("root"), run: scratch.path().join("run") };
        let engine = Engine::open(&places).unwrap();
        assert_eq!(engine.store().images().unwrap(), []);
        // Beside this program there is none.
        if program::in_path("bulkmon").is_none() {
            let error = engine.monitor().unwrap_err().to_string();
            assert!(error.contains("bulkmon") && error.contains("nor in PATH"), "{error}");
        }
    }
}
