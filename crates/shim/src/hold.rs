//! Keeping a terminal that somebody has left (docker's detach keys of `exec`): what runs in it goes on, what it says is
//! heard by nobody, and the last of those that have it open ends this.

use bulkhead_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Bytes that are thrown away at once: a terminal holds no more.
const CHUNK: usize = 4096;

/// Reads the terminal that is the standard input until nobody has it open; returns the exit status.
pub(crate) fn run() -> u8 {
    // The signals of the terminal that its person types at are not meant for this. Who leads a session already has his own.
    let _ = rustix::process::setsid();
    // Its caller waits for the end of this pipe.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    if null.and_then(rustix::stdio::dup2_stdout).is_err() {
        return 1;
    }
    // Whoever started this may have blocked them.
    let _ = signal::set_mask(signal::Set::EMPTY);
    let terminal = rustix::stdio::stdin();
    let mut bytes = [0; CHUNK];
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(terminal, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return 1,
        }
        match rustix::io::read(terminal, &mut bytes) {
            // A terminal that nobody has open at the other end (EIO), or a pipe without writers.
            Ok(0) | Err(Errno::IO) => return 0,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}
