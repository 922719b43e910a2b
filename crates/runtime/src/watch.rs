//! Signals that arrive at a runtime in the foreground.
//!
//! They are blocked from the start and read from a descriptor. Once the container's process runs they are passed on to
//! it; while it is being made, those that ask a program to end make an error of the making, which is then undone.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_sys::signal::{self, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::error::{Doing, Error, Result};
use crate::host;

/// Signals that mean the runtime itself: a fault must end it, and those of job control stop it.
const OWN: [i32; 10] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Signals that ask a program to end.
pub(crate) const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Signals that arrive from now on are kept for the container.
#[derive(Debug)]
pub struct Watch {
    signals: OwnedFd,
    /// What came before the container's process was there.
    early: RefCell<Vec<i32>>,
}

impl Watch {
    /// Begins to keep signals; as a subreaper the runtime also inherits the container's orphans.
    ///
    /// # Errors
    /// EMFILE at the limit of descriptors.
    pub fn begin(subreaper: bool) -> Result<Self> {
        if subreaper {
            let own = Some(rustix::process::getpid());
            rustix::process::set_child_subreaper(own)
                .doing(|| "become the reaper of the container's orphans")?;
        }
        let own = OWN.iter().fold(0_u64, |bits, signal| bits | 1 << (signal - 1));
        let kept = signal::Set(!own);
        signal::set_mask(kept).doing(|| "keep signals for the container")?;
        let signals = signal::descriptor(kept).doing(|| "open a descriptor for signals")?;
        Ok(Self { signals, early: RefCell::default() })
    }

    /// Returns the signals that arrived while the container's process was made, oldest first.
    pub(crate) fn early(&self) -> Vec<i32> {
        self.early.take()
    }

    /// Returns the signals that have arrived since, oldest first.
    ///
    /// # Errors
    /// As read(2).
    pub(crate) fn arrived(&self) -> Result<Vec<i32>> {
        signal::read_descriptor(&self.signals).doing(|| "read a signal")
    }

    /// Keeps what has arrived for later, unless it asks a program to end.
    fn keep(&self) -> Result<()> {
        let signals = self.arrived()?;
        // What the caller ignores, as nohup(1) does, is not meant for the runtime.
        let ignored = |number| host::ignored_signals().is_some_and(|ignored| ignored.has(number));
        let mut ending = signals.iter().filter(|number| ENDING.contains(number));
        if let Some(&number) = ending.find(|&&number| !ignored(number)) {
            return Err(Error::Interrupted { signal: Signal::from(number) });
        }
        self.early.borrow_mut().extend(signals);
        Ok(())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// Waits, while a container or process is being made, until `descriptor` can be read, at most for `limit`; tells whether
/// it can. Without a watch a signal has its usual effect.
///
/// # Errors
/// [`Error::Interrupted`] when a signal comes that asks a program to end.
pub(crate) fn until_readable(
    descriptor: impl AsFd,
    limit: Option<Duration>,
    watch: Option<&Watch>,
) -> Result<bool> {
    until_one_readable(&[descriptor.as_fd()], limit, watch)
}

/// The same for any of several descriptors.
///
/// # Errors
/// As [`until_readable`].
pub(crate) fn until_one_readable(
    descriptors: &[BorrowedFd<'_>],
    limit: Option<Duration>,
    watch: Option<&Watch>,
) -> Result<bool> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let mut fds: Vec<_> =
            descriptors.iter().map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).collect();
        fds.extend(watch.map(|watch| PollFd::new(watch, PollFlags::IN)));
        let left = end.map(|end| timespec(end.saturating_duration_since(Instant::now())));
        let ready = retry_on_intr(|| poll(&mut fds, left.as_ref())).doing(|| "wait")?;
        if ready == 0 {
            return Ok(false);
        }
        if fds.iter().take(descriptors.len()).any(|fd| !fd.revents().is_empty()) {
            return Ok(true);
        }
        drop(fds);
        watch.map_or(Ok(()), Watch::keep)?;
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
