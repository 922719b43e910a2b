//! Fills memory up to its bound, goes over it a few times so that it stays, gives it back and begins again.

use std::hint::black_box;

use bulkhead_sys::memory::Region;

use super::{Share, go_first};
use crate::pace::{now, sleep_until};
use crate::work::PAGE;

const MIB: usize = 1 << 20;

/// How often each page is touched before it is given back.
const PASSES: usize = 4;

/// What passes before memory that was refused is asked for again.
const PAUSE: u64 = 1_000_000;

pub(super) fn live(share: &Share<'_>) {
    if !share.holds_on {
        go_first();
    }
    while now() < share.end {
        match Region::map(share.mib * MIB) {
            Ok(mut region) => fill(region.bytes(), share),
            Err(_) => {
                share.slot.refuse();
                sleep_until(now() + PAUSE);
            }
        }
        share.slot.hold(0);
    }
}

fn fill(bytes: &mut [u8], share: &Share<'_>) {
    for pass in 1..=PASSES {
        for (number, chunk) in bytes.chunks_mut(MIB).enumerate() {
            if now() >= share.end {
                return;
            }
            chunk.iter_mut().step_by(PAGE).for_each(|byte| *byte = black_box(pass as u8));
            share.slot.count((chunk.len() / PAGE) as u64);
            if pass == 1 {
                share.slot.hold(number as u64 + 1);
            }
        }
    }
}
