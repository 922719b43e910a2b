//! What can go wrong, in words a user can act on.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_sys as sys;
use rustix::io::Errno;

/// The result of an operation of the runtime.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. `Display` names the object; the cause is its `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed while doing something that the user can recognise.
    #[error("{doing}")]
    System {
        /// What was being done, as a fragment: `mount proc at /proc`.
        doing: String,
        /// The call.
        source: sys::Error,
    },
    /// A document is not what the specification asks for.
    #[error(transparent)]
    Parse(#[from] bulkhead_spec::ParseError),
    /// A value of config.json is understood but not valid.
    #[error("config.json: {pointer}: {reason}")]
    Invalid {
        /// JSON pointer of the value (RFC 6901).
        pointer: String,
        /// Why it is not valid and what would be.
        reason: String,
    },
    /// The bundle lacks something.
    #[error("bundle {}: {reason}", bundle.display())]
    Bundle {
        /// Directory of the bundle.
        bundle: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A container of this id exists. The first words are runc's: engines compare them.
    #[error("container with given ID already exists: {id:?} (`bulkrun delete {id}` removes it)")]
    Exists {
        /// Id of the container.
        id: String,
    },
    /// No container has this id. The text is runc's: engines compare it.
    #[error("container does not exist: {id:?}")]
    NotFound {
        /// Id of the container.
        id: String,
    },
    /// The container's state forbids the operation.
    #[error("cannot {operation} a container that is {status}")]
    State {
        /// The verb.
        operation: &'static str,
        /// What the container is.
        status: crate::lifecycle::Status,
    },
    /// A file of the state directory cannot be used.
    #[error("state of container {id:?}: {reason}")]
    Damaged {
        /// Id of the container.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The record was written by another version of this program, which may have made more than this one can remove.
    #[error("state of container {id:?}: its record has version {version}; this program knows {known}")]
    Version {
        /// Id of the container.
        id: String,
        /// The record's version.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// A signal asked the command to end while it was making something.
    #[error("interrupted by {signal}")]
    Interrupted {
        /// The signal.
        signal: bulkhead_sys::signal::Signal,
    },
    /// Another command holds the container for too long.
    #[error(
        "container {id:?} is being changed by another command{}, which has not finished for {} s",
        holder.map_or_else(String::new, |pid| format!(" (process {pid})")),
        patience.as_secs()
    )]
    Busy {
        /// Id of the container.
        id: String,
        /// Who holds it, if that is known.
        holder: Option<i32>,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The container's process failed before it became the user's program. The words are runc's.
    #[error("unable to start container process: error during container init: {}", chain.join(": "))]
    Init {
        /// The chain of errors in the child, outermost first.
        chain: Vec<String>,
    },
    /// As [`Error::Init`], for a process that joins a container.
    #[error("unable to start container process: {}", chain.join(": "))]
    Joining {
        /// The chain of errors in the child, outermost first.
        chain: Vec<String>,
    },
    /// The container's process ended before it said what was wrong.
    #[error("the container's process ended while it was being set up: {how}{hint}")]
    InitDied {
        /// Its exit status or signal.
        how: String,
        /// What is the likely cause.
        hint: &'static str,
    },
    /// A security module refused a label.
    #[error("set the {module} label {label:?} (is {module} enabled on this host, and the label loaded?)")]
    Label {
        /// Name of the security module.
        module: &'static str,
        /// The profile or context.
        label: String,
        /// What refused it.
        source: Box<Error>,
    },
    /// A hook failed. The first words are runc's, the last crun's.
    #[error("error running {kind} hook #{index}: {}: {kind} hook {reason}", path.display())]
    Hook {
        /// Name of the hook's list in config.json.
        kind: &'static str,
        /// Position in the list, from 0.
        index: usize,
        /// The program.
        path: PathBuf,
        /// How it failed: what follows `the hook`.
        reason: String,
    },
    /// CRIU is missing, cannot do what is asked, or says why it failed.
    #[error("{reason}")]
    Criu {
        /// Why, in words that runc uses where it has any.
        reason: String,
    },
    /// A control group refused something.
    #[error(transparent)]
    Cgroup(#[from] bulkhead_cgroup::Error),
    /// A process cannot join the container's cgroups. The words are runc's, which prints a number of the process.
    #[error("error adding pid of the new process to cgroups")]
    Adding(#[source] bulkhead_cgroup::Error),
    /// The seccomp profile cannot be compiled.
    #[error("config.json: /linux/seccomp")]
    Seccomp(#[source] bulkhead_seccomp::Error),
    /// The kernel does not execute the program. The words are runc's: people look for them in logs.
    #[error("exec {program}: {reason}")]
    Execute {
        /// Its path in the container.
        program: String,
        /// What the kernel says.
        reason: String,
        /// What that may mean.
        source: Option<Hint>,
    },
    /// The request itself makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// What may be behind an error, where the kernel says little.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0}")]
pub struct Hint(pub &'static str);

impl Error {
    /// Returns all that runc says when the container's first process is not executed, a sentence without a time: its
    /// process says that itself, where a log has no part in it.
    #[must_use]
    pub fn of_program(&self) -> Option<&str> {
        match self {
            Self::Init { chain } | Self::Joining { chain } => {
                chain.first().map(String::as_str).filter(|text| text.starts_with("exec "))
            }
            _ => None,
        }
    }

    /// Names the place in config.json of what a system call failed for.
    #[must_use]
    pub fn at(self, pointer: &str) -> Self {
        self.within(|| format!("config.json: {pointer}"))
    }

    /// Says of what a system call that failed was a part.
    #[must_use]
    pub fn within(self, what: impl FnOnce() -> String) -> Self {
        match self {
            Self::System { doing, source } => Self::System { doing: format!("{}: {doing}", what()), source },
            other => other,
        }
    }

    /// Returns an [`Error::Invalid`].
    pub fn invalid(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), reason: reason.into() }
    }
}

/// Says what a system call was for, on the failing path only.
pub trait Doing<T> {
    /// Adds `doing()` to the error.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for sys::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::System { doing: doing().into(), source })
    }
}

impl<T> Doing<T> for std::result::Result<T, Errno> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| {
            let doing = doing().into();
            Error::System { source: sys::Error::new("the kernel says", errno), doing }
        })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        sys::Call::call(self, || "the kernel says").doing(doing)
    }
}

/// Says what an error of the standard library means, in the words of our own.
pub(crate) fn words(error: &std::io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(errno) => sys::Error::new("", errno).text(),
        None => error.to_string(),
    }
}

/// Lists an error and its sources, outermost first, without repeating what an outer text already ends with.
pub fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        chain.push(source.to_string());
        next = source.source();
    }
    chain
}
