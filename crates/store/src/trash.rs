//! How a tree goes: out of its place by one rename, then bit by bit.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use crate::error::{Doing as _, Error, Result};
use crate::{Store, layer};

/// What an entry of `ingest` is called that waits for its deletion: anybody may do it.
pub(crate) const PREFIX: &str = "trash-";

impl Store {
    /// Returns a path in `ingest` that nothing has, for something to be renamed to.
    pub(crate) fn trash(&self) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Unique on the machine also where processes in several pid namespaces share a store.
        let unique = format!("{PREFIX}{}-{number}-{:x}", std::process::id(), crate::store::now());
        self.places.ingest().join(unique)
    }
}

/// Deletes what was moved away; nothing there is no error.
pub(crate) fn empty(trash: &Path) -> Result<()> {
    /// How often another may be at it at the same time.
    const ATTEMPTS: usize = 100;
    let (Some(parent), Some(name)) = (trash.parent(), trash.file_name()) else { return Ok(()) };
    let doing = || format!("delete {}", trash.display());
    let parent = File::open(parent).doing(doing)?;
    let mut removed = Ok(());
    for _ in 0..ATTEMPTS {
        removed = layer::remove(parent.as_fd(), name);
        match &removed {
            // A directory that goes while it is read.
            Err(layer::Error::Machine { source, .. }) if source.errno() == Errno::NOENT => {}
            _ => break,
        }
    }
    removed.map_err(|source| Error::Layer { doing: doing(), source })
}
