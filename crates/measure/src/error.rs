//! What ends a measurement. What fails on one platform is a finding and no error.

use std::io;

use crate::interrupt::Interrupted;
use crate::record::JournalError;
use crate::report::ReportError;
use crate::stats::Failure;

/// Why there is nothing to measure, or why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("{what}")]
    System {
        /// What was tried: `make /tmp/x`.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// One of the signals of [`crate::interrupt`] came.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Something is missing or makes no sense; the sentence says what to do.
    #[error("{0}")]
    Unusable(String),
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The report could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl Error {
    /// The signal, if this is an interruption.
    pub fn interruption(&self) -> Option<Interrupted> {
        match self {
            Self::Interrupted(interrupted) => Some(*interrupted),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

/// Says what was tried when the system refuses it.
pub(crate) trait Doing<T> {
    /// `what` is a verb and its object: `make /tmp/x`.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::System { what: what(), source: error.into() })
    }
}
