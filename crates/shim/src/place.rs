//! The files of a monitor in its run directory, which lies below `/run` and goes with the machine.
//!
//! | file | what | writer |
//! |---|---|---|
//! | `order.json` | what the monitor is to do ([`Order`](crate::Order)) | engine, before the monitor starts |
//! | `lock` | locked (flock(2)) for as long as the monitor lives | monitor |
//! | `sock` | its socket, mode 0600 | monitor |
//! | `pid` | the container's process, as the runtime wrote it | runtime |
//! | `runtime.log` | what the runtime had to say | runtime |
//! | `console` | the socket by which the runtime hands over a terminal; only during a start | monitor |
//! | `check.pid` | the process of a health check | runtime |
//! | `ns-network`, `ns-ipc` … | links to the namespaces that the monitor holds for its container's pod | monitor |
//! | `joined-network`, `joined-user` … | links to the namespaces of other containers that this one joins when it is started | monitor |
//! | `shm` | where the pod's `/dev/shm` is mounted, in the monitor's own mount namespace | engine |

use std::path::{Path, PathBuf};

use crate::order::NamespaceKind;

/// Returns the link to a namespace that a monitor holds. Whoever opens it must know that the monitor lives: the number of a
/// dead process may be another's.
pub fn namespace(run_directory: &Path, kind: NamespaceKind) -> PathBuf {
    run_directory.join(format!("ns-{}", name(kind)))
}

/// Returns the link to a namespace of another container. It leads there only during a start.
pub fn joined(run_directory: &Path, kind: NamespaceKind) -> PathBuf {
    run_directory.join(format!("joined-{}", name(kind)))
}

fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "network",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Pid => "pid",
        NamespaceKind::User => "user",
        NamespaceKind::Memory => "memory",
    }
}

/// The directory on which a monitor mounts the `/dev/shm` of its container's pod.
pub const SHARED_MEMORY: &str = "shm";
/// What the monitor is to do.
pub const ORDER: &str = "order.json";
/// The lock that a monitor holds while it lives.
pub const LOCK: &str = "lock";
/// The monitor's socket.
pub const SOCKET: &str = "sock";
/// The runtime's pid file.
pub const PID: &str = "pid";
/// The runtime's log.
pub const RUNTIME_LOG: &str = "runtime.log";
/// The console socket.
pub const CONSOLE: &str = "console";
/// The pid file of a health check.
pub const CHECK_PID: &str = "check.pid";
