//! Programs of the host's or the container's that run at fixed points of the life cycle.

use serde::{Deserialize, Serialize};

use crate::field::{nullable, unset};

/// Lists the hooks of each kind, in the order in which they run.
///
/// Source: `config.md`, "POSIX-platform Hooks".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated: as `create_runtime`, and before it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub prestart: Vec<Hook>,
    /// Run during `create` in the runtime's namespaces, before the root is changed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub create_runtime: Vec<Hook>,
    /// Run during `create` in the container's namespaces, before the root is changed; paths are the runtime's.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub create_container: Vec<Hook>,
    /// Run during `start` in the container, before its program; paths are the container's.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub start_container: Vec<Hook>,
    /// Run in the runtime's namespaces after the program has started, before `start` returns.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub poststart: Vec<Hook>,
    /// Run in the runtime's namespaces after the container is deleted, before `delete` returns.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub poststop: Vec<Hook>,
}

/// Describes one program to run; it gets the container's [`State`](crate::State) on standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The executable, an absolute path.
    pub path: String,
    /// All arguments, the first being the program's name, as for execv.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// The whole environment, each `NAME=value`; without one it has that of whoever runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The seconds after which it is killed; the specification wants more than 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}
