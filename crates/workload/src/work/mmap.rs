//! Getting memory from the kernel and giving it back.

use std::hint::black_box;

use bulkhead_sys::memory::Region;

use super::Work;
use crate::error::Result;

/// Pages in a turn.
pub(super) const PAGES: u64 = 256;

/// The size that pages are taken to have; where they are larger some are touched twice.
pub(crate) const PAGE: usize = 4096;

/// Needs nothing.
pub(super) struct Mmap;

impl Work for Mmap {
    fn turn(&mut self) -> Result<()> {
        let mut region = Region::map(PAGES as usize * PAGE)?;
        region.bytes().iter_mut().step_by(PAGE).for_each(|byte| *byte = black_box(1));
        Ok(())
    }
}
