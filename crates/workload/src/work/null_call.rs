//! The cheapest system call: getppid(2), which the C library does not remember.

use std::hint::black_box;

use super::Work;
use crate::error::Result;

/// Calls in a turn, so many that looking at the clock does not count.
pub(super) const CALLS: u64 = 1000;

/// Needs nothing.
pub(super) struct NullCall;

impl Work for NullCall {
    fn turn(&mut self) -> Result<()> {
        for _ in 0..CALLS {
            black_box(rustix::process::getppid());
        }
        Ok(())
    }
}
