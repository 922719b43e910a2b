//! Where a program begins that does without the standard library's start-up.
//!
//! That start-up reads `/proc/self/maps`, prepares a second stack for a handler of stack overflows, and looks at the
//! standard streams: sixteen system calls that a program of one thread which lives for milliseconds has no use for.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use crate::signal;

/// Makes `$run`, a function that returns the exit status, the program's main function, in a crate with `#![no_main]`.
///
/// What the function prints must be flushed by itself: nobody does that at the end.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main() -> i32 {
            $crate::program::begin($run)
        }
    };
}

/// Does what [`entry!`](crate::entry) does, for a program that never looks at its stack.
///
/// What else of the unwinder a program links would bring the function that this replaces along: then it cannot be linked.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        $crate::entry!($run);

        // Where there are no tables for unwinding there is no trace of the stack to print. Said where the optimiser sees
        // it, it drops what the standard library brings to print one, which is a twentieth of the program.
        #[cfg(not(debug_assertions))]
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Backtrace(
            _visit: *const std::ffi::c_void,
            _context: *mut std::ffi::c_void,
        ) -> std::ffi::c_int {
            $crate::program::END_OF_STACK
        }
    };
}

/// `_URC_END_OF_STACK` of unwind.h (Itanium C++ ABI, section 1.2.1).
#[doc(hidden)]
pub const END_OF_STACK: std::ffi::c_int = 5;

/// Runs a program as the standard library would: the standard streams are open, so that no file gets their numbers, and
/// a closed pipe is an error to handle, not the program's death.
pub fn begin(run: fn() -> u8) -> i32 {
    open_streams();
    // It cannot fail for this signal.
    let _ = signal::ignore(libc::SIGPIPE);
    run().into()
}

/// Opens the null device for each standard stream that the caller has closed.
fn open_streams() {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut polled = streams.map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::empty()));
    if poll(&mut polled, Some(&Timespec::default())).is_err() {
        return;
    }
    let closed = polled.iter().filter(|polled| polled.revents().contains(PollFlags::NVAL)).count();
    for _ in 0..closed {
        // The lowest free number is one of the three. It stays open for good.
        if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
            let _ = std::os::fd::IntoRawFd::into_raw_fd(null);
        }
    }
}
