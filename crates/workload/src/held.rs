//! A program that stops before it becomes another one, so that whoever watches sees that one from its first call.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use bulkhead_sys::offspring;
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};

use crate::error::{Error, Result};

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Order {
    /// Sought in PATH unless it is a path.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
}

/// Stops by SIGSTOP, and after SIGCONT becomes the program.
pub(crate) fn run(order: &Order) -> Result<()> {
    // Stopped, it would outlive whoever was to let it go on.
    offspring::end_with_parent()?;
    let stopped = kill_process(getpid(), Signal::STOP);
    stopped.map_err(|errno| Error::io("stop")(errno.into()))?;
    let alone = set_parent_process_death_signal(None);
    alone.map_err(|errno| Error::io("prctl(PR_SET_PDEATHSIG)")(errno.into()))?;
    Err(Error::io("execute the program")(Command::new(&order.program).args(&order.arguments).exec()))
}
