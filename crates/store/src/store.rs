//! The store as a whole.

use std::time::SystemTime;

use crate::Places;
use crate::database::Database;
use crate::error::Result;

/// The images, records and volumes of one user of the machine.
///
/// It may be shared between threads; one statement of the database runs at a time.
#[derive(Debug)]
pub struct Store {
    pub(crate) places: Places,
    pub(crate) database: Database,
}

impl Store {
    /// Opens the store, and makes what is missing of it.
    ///
    /// # Errors
    /// [`Error::Future`](crate::Error::Future) for a database of a later version, [`Error::Place`](crate::Error::Place)
    /// for directories that are not the caller's own.
    pub fn open(places: &Places) -> Result<Self> {
        places.make()?;
        Ok(Self { places: places.clone(), database: Database::open(&places.database())? })
    }

    /// Returns where it lies.
    pub fn places(&self) -> &Places {
        &self.places
    }
}

/// Returns the time, in nanoseconds since 1970 (UTC), as records have it.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
