//! Memory bandwidth: memcpy(3) between two regions that no cache of today holds whole.

use std::hint::black_box;
use std::path::Path;

use bulkhead_sys::memory::Region;

use super::Work;
use crate::error::{Error, Result};

/// What a turn copies.
pub(super) const MIB: u64 = 32;

/// Two regions of the same length.
pub(crate) struct Copying {
    from: Region,
    to: Region,
    turns: u8,
}

pub(super) fn begin(_: &Path) -> Result<Box<dyn Work>> {
    Ok(Box::new(Copying::new((MIB as usize) << 20)?))
}

impl Copying {
    /// Maps two regions of `length` bytes, a page or more.
    pub(crate) fn new(length: usize) -> Result<Self> {
        let mut from = Region::map(length)?;
        // Pages that were never written are all the same page of zeroes.
        from.bytes().fill(1);
        Ok(Self { from, to: Region::map(length)?, turns: 0 })
    }

    /// Copies once, and checks that the last byte has arrived.
    pub(crate) fn copy(&mut self) -> Result<()> {
        let (from, to) = (self.from.bytes(), self.to.bytes());
        self.turns = self.turns.wrapping_add(1);
        let last = from.len() - 1;
        from[last] = self.turns;
        to.copy_from_slice(black_box(from));
        if black_box(to)[last] == self.turns {
            Ok(())
        } else {
            Err(Error::Wrong("what was copied is not what was there".to_owned()))
        }
    }
}

impl Work for Copying {
    fn turn(&mut self) -> Result<()> {
        self.copy()
    }
}
