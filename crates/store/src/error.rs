//! What can go wrong with the store.

use std::fmt;
use std::path::PathBuf;

use bulkhead_image::DigestError;

use crate::{Digest, NameError, layer};

/// The result of an operation on the store.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A place that cannot be used.
    #[error("{} {reason}", path.display())]
    Place {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// A digest that is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Something that was given, or read, and is wrong in itself.
    #[error("{subject} {reason}")]
    Invalid {
        /// Such as `volume name "a b"`.
        subject: String,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is nothing of that name, id or prefix of an id.
    #[error("no such {noun}: {wanted}")]
    NotFound {
        /// What was looked for.
        noun: Noun,
        /// As it was asked for.
        wanted: String,
    },
    /// A prefix that several ids have.
    #[error("{noun} {wanted} is ambiguous: {}", matches.join(", "))]
    Ambiguous {
        /// What was looked for.
        noun: Noun,
        /// As it was asked for.
        wanted: String,
        /// What it may mean.
        matches: Vec<String>,
    },
    /// A name or id that something else has.
    #[error("{noun} name {name:?} is in use by {by}")]
    NameTaken {
        /// What was to be named.
        noun: Noun,
        /// The name.
        name: String,
        /// The id of what has it.
        by: String,
    },
    /// Something that containers use.
    #[error("{noun} {name} is in use by container {}", by.join(", "))]
    InUse {
        /// What was to be removed.
        noun: Noun,
        /// Its name or id.
        name: String,
        /// The containers' names.
        by: Vec<String>,
    },
    /// An image that was asked for by its id, and has names in several repositories.
    #[error("image {id} has several names ({}): name one, or force the removal of all", names.join(", "))]
    SeveralNames {
        /// The image.
        id: Digest,
        /// Its names.
        names: Vec<String>,
    },
    /// A database that a later version of this program made.
    #[error(
        "{} has version {found}, and this program knows {known} and older: use the program that made it, or a newer one",
        path.display()
    )]
    Future {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// Something in the store that is not what it was.
    #[error("{subject} is damaged: {reason}")]
    Damaged {
        /// Such as `blob sha256:…`.
        subject: String,
        /// What was found.
        reason: String,
    },
    /// Something came that is not what was asked for.
    #[error("{subject} has the digest {found} and not {expected}")]
    WrongDigest {
        /// Such as `layer blobs/sha256/…`.
        subject: String,
        /// What it was to have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// An archive of images that is refused.
    #[error("image archive: {entry} {reason}")]
    Archive {
        /// The entry, or the document and the place in it.
        entry: String,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// A layer that could not be unpacked or packed.
    #[error("{doing}")]
    Layer {
        /// What was being done.
        doing: String,
        /// What is wrong.
        source: layer::Error,
    },
    /// The database failed.
    #[error("{doing}")]
    Database {
        /// What was being done.
        doing: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A file or directory of the store failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// What a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It is not there.
    NotFound,
    /// It may be one of several.
    Ambiguous,
    /// It contradicts what is there.
    Conflict,
    /// What was asked for, or what was read, is wrong in itself.
    Invalid,
    /// The store is not as it should be.
    Damaged,
    /// The machine would not.
    Failed,
}

impl Error {
    /// Tells what kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ambiguous { .. } => Kind::Ambiguous,
            Self::NameTaken { .. } | Self::InUse { .. } | Self::SeveralNames { .. } => Kind::Conflict,
            Self::Digest(_)
            | Self::Invalid { .. }
            | Self::Name(_)
            | Self::WrongDigest { .. }
            | Self::Archive { .. } => Kind::Invalid,
            Self::Layer { source, .. } => match source.kind() {
                layer::Kind::Damaged | layer::Kind::Refused => Kind::Invalid,
                layer::Kind::Failed => Kind::Failed,
            },
            Self::Damaged { .. } => Kind::Damaged,
            Self::Place { .. } | Self::Future { .. } | Self::Database { .. } | Self::Io { .. } => {
                Kind::Failed
            }
        }
    }
}

impl Error {
    /// Tells whether the database found no room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => crate::database::lacks_room(source),
            _ => false,
        }
    }

    /// Writes the whole chain in one line.
    pub(crate) fn with_sources(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// A kind of thing that has names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// An image.
    Image,
    /// A container.
    Container,
    /// A volume.
    Volume,
    /// A pod.
    Pod,
    /// A network.
    Network,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Pod => "pod",
            Self::Network => "network",
        })
    }
}

/// Says on the failing path what was being done.
pub(crate) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing().into(), source })
    }
}

impl<T> Doing<T> for std::result::Result<T, rustix::io::Errno> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::Io { doing: doing().into(), source: errno.into() })
    }
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Database { doing: doing().into(), source })
    }
}
