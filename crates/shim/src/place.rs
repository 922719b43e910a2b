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
