//! What can go wrong with networks from elsewhere.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::key::Key;
use super::plugin::Verb;
use super::version::Version;

/// The result of something about networks from elsewhere.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with networks from elsewhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refuses something.
    #[error("{doing}")]
    System {
        /// What was tried.
        doing: String,
        /// What it said.
        source: io::Error,
    },
    /// A file that describes a network is wrong.
    #[error("{}: {field} {reason}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The field, as `plugins[1].type`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No network of a name is described.
    #[error("no network {name} is described in {}{}", directory.display(), others(known, refused))]
    NotFound {
        /// Its name.
        name: String,
        /// Where was looked.
        directory: PathBuf,
        /// The names of those that are.
        known: Vec<String>,
        /// What is wrong with files there, which may be the one.
        refused: Vec<String>,
    },
    /// A name or a value cannot be given to plugins.
    #[error("{what} {value:?} {reason}")]
    Name {
        /// What it is for.
        what: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// The program of a plugin is not there.
    #[error(
        "the plugin {plugin} of network {network} is in none of the directories for plugins (CNI_PATH), {}; install it there, as \
         Debian does with the package containernetworking-plugins, or name its directory",
        joined(path)
    )]
    NoPlugin {
        /// The network that wants it.
        network: String,
        /// Its type.
        plugin: String,
        /// The directories.
        path: Vec<PathBuf>,
    },
    /// No plugin of a network takes what is asked for.
    #[error(
        "no plugin of network {network} takes {capability}; ask for none, or have one there that has it among its `capabilities`"
    )]
    NoCapability {
        /// The network.
        network: String,
        /// As `portMappings`.
        capability: String,
    },
    /// The plugins of a network have no version of the specification in common.
    #[error(
        "the plugin {plugin} of network {network} speaks no version of the specification that the network has: {}",
        listed(versions)
    )]
    NoVersion {
        /// The network.
        network: String,
        /// The first plugin that has none.
        plugin: String,
        /// Those of the network.
        versions: Vec<Version>,
    },
    /// A plugin refuses.
    #[error("the plugin {plugin} refuses {verb}: {refusal}")]
    Refused {
        /// Its type.
        plugin: String,
        /// What it was asked for.
        verb: Verb,
        /// What it says.
        refusal: Box<Refusal>,
    },
    /// A plugin ended badly and did not say why as it should.
    #[error("the plugin {plugin} {ending} at {verb}{}", said(output))]
    Failed {
        /// Its type.
        plugin: String,
        /// What it was asked for.
        verb: Verb,
        /// How it ended.
        ending: Ending,
        /// The end of what it said instead.
        output: String,
    },
    /// What a plugin answers is not understood.
    #[error("the plugin {plugin} answers {verb} with what is not understood: {reason}")]
    Garbled {
        /// Its type.
        plugin: String,
        /// What it was asked for.
        verb: Verb,
        /// What is wrong with it.
        reason: String,
    },
    /// An attachment could neither be made nor be taken back.
    #[error("it was attached in part, which could not be taken back ({then}) and goes when it is deleted")]
    Left {
        /// Why it could not be made.
        #[source]
        first: Box<Error>,
        /// Why it could not be taken back.
        then: String,
    },
    /// An attachment is there already, or what is left of one.
    #[error("{0} is attached already, or was left by a crash; delete it first")]
    Present(Key),
    /// An attachment was never made.
    #[error("{0} is not attached")]
    Missing(Key),
    /// A plugin that somebody started for an attachment still runs.
    #[error(
        "{what} is held by a plugin that still runs, or by another process of ours{}; wait for it, or end it",
        pids(holders)
    )]
    Busy {
        /// The attachment, or the directory of all.
        what: String,
        /// Who has the lock open.
        holders: Vec<u32>,
    },
    /// What was written down of an attachment cannot be read.
    #[error("{}: {reason}", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    pub(super) fn name(what: &'static str, value: &str, reason: &'static str) -> Self {
        Self::Name { what, value: value.to_owned(), reason }
    }

    /// The error with all that caused it.
    pub(super) fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            told = format!("{told}: {error}");
            cause = error.source();
        }
        told
    }

    /// What a plugin said when it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Left { first, .. } => first.refusal(),
            _ => None,
        }
    }
}

/// Says what was tried when the system refused it.
pub(super) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::System { doing: doing().into(), source: error.into() })
    }
}

/// What a plugin says when it refuses, see the specification's "Error".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for programs.
    pub code: Code,
    /// Why, in short.
    pub message: String,
    /// Why, at length; often empty.
    pub details: String,
    /// The end of what it wrote to its standard error; often empty.
    pub output: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, details, output } = self;
        let message = if message.is_empty() { "it does not say why" } else { message };
        write!(f, "{message}")?;
        if !details.is_empty() {
            write!(f, ": {details}")?;
        }
        write!(f, " ({code})")?;
        f.write_str(&said(output))
    }
}

/// The number by which a plugin says why it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 1.
    Version,
    /// 2.
    Field,
    /// 3: the container is not known, or does not exist; nothing is to be cleaned up.
    UnknownContainer,
    /// 4.
    Environment,
    /// 5.
    Io,
    /// 6.
    Decode,
    /// 7.
    Config,
    /// 11.
    TryAgain,
    /// 50, of STATUS: it can make no attachment.
    Unavailable,
    /// 51, of STATUS: and what is attached may suffer.
    Limited,
    /// Another one; from 100 on they are the plugin's own.
    Other(u64),
}

impl Code {
    pub(super) fn of(number: u64) -> Self {
        match number {
            1 => Self::Version,
            2 => Self::Field,
            3 => Self::UnknownContainer,
            4 => Self::Environment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::Config,
            11 => Self::TryAgain,
            50 => Self::Unavailable,
            51 => Self::Limited,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "code 1, incompatible version",
            Self::Field => "code 2, unsupported field",
            Self::UnknownContainer => "code 3, unknown container",
            Self::Environment => "code 4, invalid environment",
            Self::Io => "code 5, input or output failed",
            Self::Decode => "code 6, not understood",
            Self::Config => "code 7, invalid configuration",
            Self::TryAgain => "code 11, try again later",
            Self::Unavailable => "code 50, not available",
            Self::Limited => "code 51, not available, and what is attached may suffer",
            Self::Other(number) => return write!(f, "code {number}"),
        })
    }
}

/// How a plugin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, or by a signal.
    Status(ExitStatus),
    /// It was killed since it took longer than this.
    TimedOut(Duration),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt as _;
        match self {
            Self::Status(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "ended with {code}"),
                (None, signal) => write!(f, "was ended by signal {}", signal.unwrap_or_default()),
            },
            Self::TimedOut(limit) => {
                write!(f, "was killed, since it took more than {} s,", limit.as_secs_f32())
            }
        }
    }
}

fn others(known: &[String], refused: &[String]) -> String {
    let mut text = match known {
        [] => ", nor is another".to_owned(),
        known => format!("; there are {}", known.join(", ")),
    };
    if !refused.is_empty() {
        text = format!("{text}. Not understood: {}", refused.join("; "));
    }
    text
}

fn joined(path: &[PathBuf]) -> String {
    Vec::from_iter(path.iter().map(|directory| directory.display().to_string())).join(":")
}

fn listed(versions: &[Version]) -> String {
    Vec::from_iter(versions.iter().map(ToString::to_string)).join(", ")
}

/// What a plugin wrote, in one line.
fn said(output: &str) -> String {
    let lines = Vec::from_iter(output.lines().map(str::trim).filter(|line| !line.is_empty()));
    if lines.is_empty() { String::new() } else { format!("; it says: {}", lines.join(" | ")) }
}

fn pids(holders: &[u32]) -> String {
    match holders {
        [] => String::new(),
        holders => {
            let pids = Vec::from_iter(holders.iter().map(u32::to_string));
            format!(" (process {})", pids.join(", "))
        }
    }
}
