//! What keeps a monitor from starting a container.

use std::io;

/// The result of a step.
pub(super) type Result<T> = std::result::Result<T, Error>;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Something that only another order, or nobody else's monitor, mends.
    #[error("{0}")]
    Usage(String),
    /// The machine did not let it.
    #[error("{doing}")]
    System {
        /// The step, such as "open the log".
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Names the step on the failing path only.
pub(super) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::System { doing: doing().into(), source: error.into() })
    }
}
