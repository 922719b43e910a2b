//! What can go wrong, in words a user can act on.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::container::State;

/// The result of an operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. `Display` names the object; the cause is its `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is called what was asked for.
    #[error("no {what} is called {wanted:?}")]
    NotFound {
        /// The kind of thing.
        what: Noun,
        /// What was asked for.
        wanted: String,
        /// A name that is nearly that.
        similar: Option<String>,
    },
    /// The beginning of an id begins several.
    #[error("{wanted:?} is the beginning of more than one {what}: {}", matches.join(", "))]
    Ambiguous {
        /// The kind of thing.
        what: Noun,
        /// What was asked for.
        wanted: String,
        /// All that begin so.
        matches: Vec<String>,
    },
    /// Another container has the name.
    #[error("the name {name:?} is taken by container {}", crate::id::short(by))]
    NameTaken {
        /// The name.
        name: String,
        /// The id of the one that has it.
        by: String,
    },
    /// Something is used by containers, so that it cannot go.
    #[error("{what} {name} is used by {}", by.join(", "))]
    InUse {
        /// The kind of thing.
        what: Noun,
        /// Its name.
        name: String,
        /// The containers that use it.
        by: Vec<String>,
    },
    /// The container's state forbids the operation.
    #[error("cannot {operation} container {name}, which is {state}")]
    State {
        /// The verb.
        operation: &'static str,
        /// The container's name.
        name: String,
        /// What it is.
        state: State,
    },
    /// What was asked for cannot be.
    #[error("{what}: {reason}")]
    Invalid {
        /// The value, with the name that its user gave it.
        what: String,
        /// Why it cannot be and what could.
        reason: String,
    },
    /// The container's process could not be started.
    #[error("start container {name}: {reason}")]
    Start {
        /// The container's name.
        name: String,
        /// 126 when the program cannot be executed, 127 when it is not there, else 125.
        code: u8,
        /// The runtime's words.
        reason: String,
    },
    /// The runtime refused another operation.
    #[error("{verb} container {name}: {reason}")]
    Runtime {
        /// The runtime's verb.
        verb: &'static str,
        /// The container's name.
        name: String,
        /// The runtime's words.
        reason: String,
    },
    /// The machine refused something.
    #[error("{doing}")]
    System {
        /// What was being done, as a fragment: `write bundle of web`.
        doing: String,
        /// The call.
        source: io::Error,
    },
    /// A file of the engine cannot be used.
    #[error("{what}: {reason}")]
    Damaged {
        /// The file or record.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A kind of thing that has names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
        })
    }
}

/// Kinds of errors that a caller can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is not there.
    NotFound,
    /// More than one is meant.
    Ambiguous,
    /// It is taken, used, or in the wrong state.
    Conflict,
    /// It cannot be asked for.
    Invalid,
    /// The machine or a program refused.
    Failed,
    /// What the engine wrote is not what it reads.
    Damaged,
}

impl Error {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ambiguous { .. } => Kind::Ambiguous,
            Self::NameTaken { .. } | Self::InUse { .. } | Self::State { .. } => Kind::Conflict,
            Self::Invalid { .. } => Kind::Invalid,
            Self::Start { .. } | Self::Runtime { .. } | Self::System { .. } => Kind::Failed,
            Self::Damaged { .. } => Kind::Damaged,
        }
    }

    /// Returns the code with which `run`, `create` and `start` end: 126 for a program that cannot be executed, 127 for one
    /// that is not there, 125 for all else (docker's).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { code, .. } => *code,
            _ => 125,
        }
    }

    /// Returns what to do next, when that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { similar: Some(similar), .. } => Some(format!("did you mean {similar}?")),
            Self::NotFound { what: Noun::Container, .. } => Some("`bulkhead ps -a` lists containers".into()),
            Self::NotFound { what: Noun::Volume, .. } => Some("`bulkhead volume ls` lists volumes".into()),
            Self::NameTaken { name, .. } => {
                Some(format!("`bulkhead rm {name}` removes it, `bulkhead rename {name} …` gives it another"))
            }
            Self::State { operation: "remove", name, .. } => {
                Some(format!("`bulkhead stop {name}` first, or `bulkhead rm -f {name}`"))
            }
            Self::State { state: State::Paused, name, .. } => {
                Some(format!("`bulkhead unpause {name}` first"))
            }
            Self::State { state: State::Created | State::Exited, name, .. } => {
                Some(format!("`bulkhead start {name}` starts it"))
            }
            _ => None,
        }
    }
}

/// Says what was being done when a call failed.
pub(crate) trait Doing<T> {
    /// Turns the error of a call into one of the engine's.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::System { doing: doing().into(), source })
    }
}

impl<T> Doing<T> for bulkhead_sys::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::System { doing: doing().into(), source: source.into() })
    }
}

impl<T> Doing<T> for std::result::Result<T, Errno> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::System { doing: doing().into(), source: errno.into() })
    }
}
