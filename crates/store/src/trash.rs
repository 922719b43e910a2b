//! How a tree goes: out of its place by one rename, then bit by bit.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Store;
use crate::error::{Doing as _, Result};

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
    let removed = match fs::symlink_metadata(trash) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(trash),
        Ok(_) => fs::remove_file(trash),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("delete {}", trash.display())),
    }
}
