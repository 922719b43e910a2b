//! What a runtime tells about a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::field::{closed_list, nullable, unset};

/// The state of a container, as hooks get it and as `state` prints it.
///
/// `rootfs`, `created` and `owner` are not the specification's; runc prints them and engines read them. The order of
/// the fields is that of runc's output. Source: `runtime.md`, "State".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification that this document follows.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The container's process as the host sees it; `Some(0)` is what runc prints when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Where it is in its life cycle.
    pub status: ContainerState,
    /// The absolute path of the bundle.
    pub bundle: String,
    /// The absolute path of the root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<String>,
    /// When the container was created, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The annotations of its configuration.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user who owns it; runc's `state` leaves it empty, its `list` does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

closed_list! {
    /// Where a container is in its life cycle.
    pub enum ContainerState: "container state" {
        /// Being made.
        Creating = "creating",
        /// Made; its program has not started.
        Created = "created",
        /// Its program runs.
        Running = "running",
        /// Its processes are frozen. Not the specification's, but every runtime's.
        Paused = "paused",
        /// Its process has exited.
        Stopped = "stopped",
    }
}

/// The name under which [`ContainerProcessState::fds`] lists the descriptor of seccomp notifications.
pub const SECCOMP_FD_NAME: &str = "seccompFd";

/// What is sent to the listener of seccomp notifications, beside the descriptors themselves.
///
/// Source: `config-linux.md`, "The Container Process State".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProcessState {
    /// The version of the specification that this document follows.
    pub oci_version: String,
    /// The names of the descriptors, in the order in which they are sent.
    pub fds: Vec<String>,
    /// The process that is filtered, as the runtime sees it.
    pub pid: i32,
    /// The configuration's `listenerMetadata`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub metadata: String,
    /// The state of the container.
    pub state: State,
}
