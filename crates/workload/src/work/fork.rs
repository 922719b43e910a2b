//! Making a process.

use bulkhead_sys::offspring;

use super::Work;
use crate::error::{Error, Result};

/// What the child ends with: no failure ends with this.
const STATUS: u8 = 42;

/// Needs nothing.
pub(super) struct Fork;

impl Work for Fork {
    fn turn(&mut self) -> Result<()> {
        let status = offspring::fork(|| STATUS)?.wait()?;
        match status.exit_status() {
            Some(code) if code == i32::from(STATUS) => Ok(()),
            _ => Err(Error::Wrong(format!("a child ended with {status:?}"))),
        }
    }
}
