//! A directory in memory for what is kept no longer than the machine runs.
//!
//! That is `/run` by default for everybody who takes part, which is a tmpfs on a machine with systemd. Where it is a disk's, files that others
//! removed a moment before would be measured, too: ext4 does not give an inode again for seconds, and walks past all of these.

use std::path::Path;

use anyhow::{Context as _, Result};
use bulkhead_measure::claim::{self, Claim};

use super::platform::PREFIX;
use crate::tmpfs;

/// The first that is in memory is taken; the second is so on every Linux.
const PLACES: [&str; 2] = ["/run", "/dev/shm"];

/// The directory, which is removed when this is dropped.
pub(super) struct Memory(Claim);

impl Memory {
    /// Makes one, and removes what others left that were killed.
    pub(super) fn make() -> Result<Self> {
        let place = PLACES.iter().map(Path::new).find(|place| tmpfs::is_at(place).unwrap_or(false));
        let place = place.with_context(|| format!("find a tmpfs: none of {} is one", PLACES.join(", ")))?;
        claim::abandoned(place, PREFIX)?.iter().try_for_each(Claim::remove)?;
        Ok(Self(Claim::make(place, PREFIX)?))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            eprintln!("{error:#}");
        }
    }
}
