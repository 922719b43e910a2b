//! Computes without end.

use std::hint::black_box;

use super::Share;
use crate::pace::now;
use crate::work::primes;

/// About a tenth of a millisecond.
const BOUND: u32 = 2500;

pub(super) fn live(share: &Share<'_>) {
    share.slot.hold(1);
    compute_until(share.end, || share.slot.count(1));
}

/// Computes until [`now`] is `end`, and tells of each round.
pub(super) fn compute_until(end: u64, mut round: impl FnMut()) {
    while now() < end {
        black_box(primes(black_box(BOUND)));
        round();
    }
}
