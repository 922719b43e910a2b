//! The first process of a pod whose containers share their processes: a namespace of processes lives no longer than its
//! first. It waits for whatever is orphaned there. No signal from within ends it, since the kernel gives the first process
//! none that it has no handler for; from outside SIGKILL does.

use bulkhead_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

use crate::ready::FailureKind;

/// Stays until it is killed; returns an exit status when it cannot stay.
pub(crate) fn run() -> u8 {
    let Err(error) = serve();
    eprintln!("bulkmon pod: {error}");
    FailureKind::Runtime.code()
}

fn serve() -> Result<std::convert::Infallible, std::io::Error> {
    let signals = signal::descriptor(signal::Set(1 << (libc::SIGCHLD - 1)))?;
    loop {
        // At first, too: an orphan may have ended before its signal was watched.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        match poll(&mut [PollFd::new(&signals, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        signal::read_descriptor(&signals)?;
    }
}
