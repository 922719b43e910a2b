//! What the processes of a hog have done, in memory that they share.

use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_sys::memory::Counters;

use crate::error::Result;

/// Numbers of all processes: what was done, what was refused, the most that was held at a time.
const COMMON: usize = 3;

/// The numbers; behind the common ones stands for each share what it holds.
pub(super) struct Tally(Counters);

/// Where one process counts.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    numbers: &'a [AtomicU64],
    own: &'a AtomicU64,
}

impl Tally {
    /// For so many shares.
    pub(super) fn new(shares: usize) -> Result<Self> {
        Ok(Self(Counters::map(COMMON + shares)?))
    }

    /// Where the process with this share counts.
    pub(super) fn slot(&self, share: usize) -> Slot<'_> {
        let numbers = self.0.numbers();
        Slot { numbers, own: &numbers[COMMON + share] }
    }

    /// What was done.
    pub(super) fn count(&self) -> u64 {
        self.common(0)
    }

    /// What was asked for in vain.
    pub(super) fn refused(&self) -> u64 {
        self.common(1)
    }

    /// The most that was held at a time.
    pub(super) fn most(&self) -> u64 {
        self.common(2)
    }

    fn common(&self, place: usize) -> u64 {
        self.0.numbers()[place].load(Ordering::Relaxed)
    }
}

impl Slot<'_> {
    /// So much was done.
    pub(super) fn count(self, amount: u64) {
        self.numbers[0].fetch_add(amount, Ordering::Relaxed);
    }

    /// Something was refused.
    pub(super) fn refuse(self) {
        self.numbers[1].fetch_add(1, Ordering::Relaxed);
    }

    /// This share now holds so much.
    pub(super) fn hold(self, amount: u64) {
        // In one order for all: else each of two that do this at once may miss the other.
        self.own.store(amount, Ordering::SeqCst);
        let all = self.numbers[COMMON..].iter().map(|number| number.load(Ordering::SeqCst)).sum();
        self.numbers[2].fetch_max(all, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_over_all_shares() {
        let tally = Tally::new(2).unwrap();
        tally.slot(0).hold(5);
        tally.slot(1).hold(4);
        tally.slot(0).hold(1);
        tally.slot(1).hold(6);
        tally.slot(1).count(3);
        tally.slot(0).refuse();
        assert_eq!((tally.most(), tally.count(), tally.refused()), (9, 3, 1));
    }
}
