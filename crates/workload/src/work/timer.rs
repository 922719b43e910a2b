//! Being woken in time: nothing is done but to wait for the intended time, by which the open loop counts.

use super::Work;
use crate::error::Result;

/// Needs nothing.
pub(super) struct Timer;

impl Work for Timer {
    fn turn(&mut self) -> Result<()> {
        Ok(())
    }
}
