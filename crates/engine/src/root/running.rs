//! The root of a container that runs, with all that is mounted in it.

use std::os::fd::OwnedFd;

use bulkhead_shim::status::Process;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Doing, Result};

/// Opens the root directory of a process; `None` when it has ended.
///
/// # Errors
/// EACCES without the rights over the process, see proc_pid_root(5).
pub(crate) fn of_process(process: Process) -> Result<Option<OwnedFd>> {
    let doing = || format!("open the root of process {}", process.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match openat(CWD, format!("/proc/{}/root", process.pid), flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => return Ok(None),
        other => other.doing(doing)?,
    };
    // It has had its number since before its root was opened, so the root is its own.
    Ok(process.runs().then_some(root))
}
