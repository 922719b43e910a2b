//! What can go wrong.

use bulkhead_sys as sys;

/// The result of anything here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why there is no line of JSON.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line makes no sense.
    #[error("{0}\nbulkload --help lists what there is")]
    Usage(String),
    /// A system call failed.
    #[error(transparent)]
    Call(#[from] sys::Error),
    /// Something of the standard library failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// Why it was not.
        source: std::io::Error,
    },
    /// The file in which a task or a hog writes cannot be made.
    #[error("make a file in {directory}: {source}; --directory names a place that can be written")]
    Scratch {
        /// Where.
        directory: String,
        /// Why it was not.
        source: std::io::Error,
    },
    /// The embedded database failed.
    #[error("database: {0}")]
    Database(Box<redb::Error>),
    /// What was done had not the result that it must have, or had none.
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    /// Names what the standard library was asked for.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Takes any of the database's errors.
    pub(crate) fn database(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}
