//! What host and guest tell each other.
//!
//! The host writes one [`Job`] into the payload. The guest answers with [`Word`]s, one JSON line each, on a serial
//! port that nothing else uses:
//!
//! ```text
//!   guest: Ready                        it has booted
//!   guest: Started, Ended               for each test; several may run at once
//!   guest: Exited                       a command has ended, or all tests have
//!   guest: Failed                       instead: it could not begin
//!   guest powers itself off
//! ```

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is process 1 of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Init {
    /// systemd with its bus and the login manager.
    Systemd,
    /// A loop of ours that mounts what every Linux has, and gives every controller to the root's children.
    Bare,
}

impl Init {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Bare => "bare",
        }
    }
}

/// Which security module a guest has, of those that give labels to processes. Without a choice it is the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SecurityModule {
    AppArmor,
    SeLinux,
}

impl SecurityModule {
    pub(super) const ALL: [Self; 2] = [Self::AppArmor, Self::SeLinux];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AppArmor => "apparmor",
            Self::SeLinux => "selinux",
        }
    }
}

/// All that a guest is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) init: Init,
    pub(super) module: Option<SecurityModule>,
    /// Files and directories of the payload that appear at their host's paths.
    pub(super) places: Vec<PathBuf>,
    /// The host's cache, for what is looked for by its place there. Only what is among `places` is in the guest.
    pub(super) cache: PathBuf,
    pub(super) work: Work,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    Command {
        words: Vec<String>,
        /// Looked through for programs before the system's directories.
        search: PathBuf,
    },
    /// Each with how long it may take.
    Tests(Vec<(Test, Duration)>),
}

/// One test of a program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) program: PathBuf,
    /// The package's directory, in which cargo runs its tests.
    pub(super) directory: PathBuf,
    /// Package and test target, as in `bulkhead-cgroup::real`.
    pub(super) target: String,
    pub(super) name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    Ready,
    /// A test by its number in the job.
    Started(usize),
    Ended {
        test: usize,
        outcome: Outcome,
        took: Duration,
    },
    /// The code of a command.
    Exited(i32),
    Failed(String),
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Passed,
    /// It said why it cannot run.
    Skipped(String),
    /// With the end of what it printed.
    Failed(String),
}
