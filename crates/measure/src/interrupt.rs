//! A command that makes something on the machine takes it away again, also when it is interrupted.
//!
//! Such a command calls [`watch`] before it makes anything. From then on Ctrl-C and its kin end nothing by themselves:
//! [`check`] and [`wait`] fail, and what was made goes on the way out, as after any error.

use std::fmt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use bulkhead_sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::{Doing as _, Error};

/// What a terminal, a service manager and a closed window send.
const SIGNALS: &[(Signal, &str)] =
    &[(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP")];

/// A signal may come between a look at what came and the call that waits, so that does not wait longer.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// One of the signals came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted(Signal);

impl Interrupted {
    /// The exit code by which a shell knows a program that was ended by this signal.
    pub fn code(self) -> u8 {
        u8::try_from(128 + self.0.as_raw()).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = SIGNALS.iter().find(|(signal, _)| *signal == self.0);
        write!(formatter, "interrupted by {}", named.map_or("a signal", |(_, name)| name))
    }
}

impl std::error::Error for Interrupted {}

/// From now on the signals are only noted.
///
/// # Errors
/// When the system does not let them be noted.
pub fn watch() -> Result<(), Error> {
    let noted = SIGNALS.iter().try_for_each(|(signal, _)| signal::note(signal.as_raw()));
    noted.doing(|| "watch for signals".to_owned())
}

/// Fails when one of the signals came.
///
/// # Errors
/// [`Interrupted`]
pub fn check() -> Result<(), Interrupted> {
    let noted = signal::noted();
    let came = SIGNALS.iter().find(|(signal, _)| noted.has(signal.as_raw()));
    came.map_or(Ok(()), |(signal, _)| Err(Interrupted(*signal)))
}

/// Waits for the end of `child`. Once a signal came, the child has `grace` to end by itself, then this fails.
///
/// # Errors
/// [`Error::Interrupted`] while the child still runs, or what the system says.
pub fn wait(child: &mut Child, grace: Duration) -> Result<ExitStatus, Error> {
    let ended = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .doing(|| "watch a program that was started".to_owned())?;
    let mut end = None;
    loop {
        if let Some(status) = child.try_wait().doing(|| "wait for a program".to_owned())? {
            return Ok(status);
        }
        if let Err(interrupted) = check() {
            let end = end.get_or_insert_with(|| {
                pass_on(interrupted, child);
                Instant::now() + grace
            });
            if Instant::now() >= *end {
                return Err(interrupted.into());
            }
        }
        // Interrupted or not, what there is to see is looked at next.
        let _ = rustix::event::poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&LOOK));
    }
}

/// A terminal's Ctrl-C reaches the child by itself, and a second one means more to many programs.
fn pass_on(Interrupted(signal): Interrupted, child: &Child) {
    if signal != Signal::INT {
        // A child that is gone needs none.
        let _ = rustix::process::kill_process(Pid::from_child(child), signal);
    }
}
