//! What can go wrong while images come and go.

use std::io;

/// The result of moving an image.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed move of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry refuses it, or cannot be reached.
    #[error(transparent)]
    Registry(#[from] bulkhead_registry::Error),
    /// The store refuses it.
    #[error(transparent)]
    Store(#[from] bulkhead_store::Error),
    /// What was found is no image, or what was named no name.
    #[error("{what} {reason}")]
    Invalid {
        /// The name.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was read or written fails.
    #[error("{doing}")]
    Stream {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}
