//! Who has a process that outlives its runtime: its parent until just before its program is executed is a process in between,
//! and then whoever adopts orphans.
//!
//! A program may ask to be killed when its parent ends (PR_SET_PDEATHSIG of prctl(2)). If its parent is a runtime that is about
//! to leave it alone, it depends on who is faster whether it lives. So the parent has ended before the program begins. Until
//! then it is there and waits for nobody: the number of its child stays that child's own, also when it has died.
//!
//! ```text
//!   runtime ── clone3 ──▶ keeper ── clone3 ──▶ process
//!      │◀── Born + pidfd ────┤                    │  is set up
//!      ├── end of stream ───▶┘ ends               │  is adopted
//!      ├── Continue ─────────────────────────────▶│  executes the program
//!      └ ends
//! ```

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bulkhead_sys::{credentials, process};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clone::LAST_BREATH;
use crate::handshake;
use crate::watch::until_readable;

/// Who the process's parent is when its program is executed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Custody {
    /// The runtime, which stays; or the program waits until it has gone.
    #[default]
    Runtime,
    /// Who adopts orphans: the nearest subreaper, or the first process of the pid namespace.
    Adopter,
}

/// The parent of a process that will be left alone.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// It ends when this does.
    socket: Option<handshake::Parent>,
    pidfd: OwnedFd,
}

impl Keeper {
    pub(crate) fn new(socket: handshake::Parent, pidfd: OwnedFd) -> Self {
        Self { socket: Some(socket), pidfd }
    }
}

/// It ends, and its child has been adopted afterwards.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.socket = None;
        // One that somebody has stopped is no reason to wait for ever.
        let _ = until_readable(&self.pidfd, Some(LAST_BREATH), None);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// The keeper's side: it has nothing that others could want or wait for, and ends with the socket or the runtime. It waits for its
/// child only then, if that is dead.
///
/// As in the container's process, owners of closed descriptors must not be dropped afterwards.
pub(crate) fn keep(socket: &handshake::Child) {
    let _ = credentials::set_dumpable(false);
    let own = socket.as_fd().as_raw_fd().unsigned_abs();
    if process::close_all_but(0, vec![own]).is_ok() {
        while handshake::wait_on(socket, 1).is_ok_and(|message| !message.bytes.is_empty()) {}
        // One that has died, since it could not begin, would be left to whoever adopts it, and its pid namespace could not end before
        // that waits for it.
        let _ = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
