//! What is asked for when a process joins a container.

use bulkhead_shim::protocol::Size;
use serde::{Deserialize, Serialize};

use super::{UserSpec, Variable};

/// A process that joins a container (`exec`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `--env` and lines of `--env-file`, over those of the container.
    pub environment: Vec<Variable>,
    /// `--user`; without it the container's.
    pub user: Option<UserSpec>,
    /// `--workdir`; without it the container's.
    pub directory: Option<String>,
    /// Its standard streams are a terminal (`--tty`).
    pub terminal: bool,
    /// The size of that terminal at first.
    pub size: Option<Size>,
    /// It has all that the host's root may (`--privileged`).
    pub privileged: bool,
}
