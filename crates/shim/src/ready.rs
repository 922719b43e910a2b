//! What a monitor says once, through a pipe, to whoever started it: a line of JSON, and the pipe is closed.

use serde::{Deserialize, Serialize};

use crate::status::Process;

/// How the first start ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ready {
    /// The container's process runs.
    Running(Process),
    /// It does not.
    Failed(Failure),
}

/// Why a container was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind of reason it is.
    pub kind: FailureKind,
    /// The reason, in the words of who found it, such as the runtime.
    pub message: String,
}

/// The kinds of reasons that docker's exit codes tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The monitor or the runtime could not do it.
    Runtime,
    /// The command is there but cannot be executed.
    CannotExecute,
    /// The command is not there.
    NotFound,
}

impl FailureKind {
    /// The code with which `docker run` ends.
    pub fn code(self) -> u8 {
        match self {
            Self::Runtime => 125,
            Self::CannotExecute => 126,
            Self::NotFound => 127,
        }
    }
}
