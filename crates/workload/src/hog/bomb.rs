//! A fork bomb with a bound: makers make processes as fast as they can, and wait for the oldest when they have too many.

use std::collections::VecDeque;

use bulkhead_sys::offspring::{self, Offspring};

use super::cpu::compute_until;
use super::{Share, go_first, is_a_limit};
use crate::error::{Error, Result};
use crate::pace::{now, sleep_until};

/// How long each process computes: about as long as it takes to make one.
const LIFE: u64 = 100_000;

/// What passes before a maker without children tries again.
const PAUSE: u64 = 1_000_000;

/// How many of so many processes are makers.
pub(super) fn makers(tasks: usize) -> usize {
    (tasks / 16).clamp(1, 16)
}

/// The life of a maker.
pub(super) fn live(share: &Share<'_>) -> Result<()> {
    let most = share.tasks - 1;
    if most == 0 {
        return Err(Error::Usage("a fork bomb has two tasks at least: one makes the others".to_owned()));
    }
    // A process that has ended takes memory for a while, and thousands do so under a limit.
    go_first();
    let mut children: VecDeque<Offspring> = VecDeque::with_capacity(most);
    while now() < share.end {
        if children.len() == most {
            wait_for_oldest(&mut children)?;
        }
        match offspring::fork(|| {
            compute_until(now() + LIFE, || {});
            0
        }) {
            Ok(child) => {
                children.push_back(child);
                share.slot.count(1);
                share.slot.hold(1 + children.len() as u64);
            }
            Err(error) if is_a_limit(&error) => {
                share.slot.refuse();
                wait_for_oldest(&mut children)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    // Those that are left are killed and waited for as they are dropped.
    Ok(())
}

fn wait_for_oldest(children: &mut VecDeque<Offspring>) -> Result<()> {
    match children.pop_front() {
        Some(oldest) => oldest.wait().map(drop).map_err(Error::from),
        None => {
            sleep_until(now() + PAUSE);
            Ok(())
        }
    }
}
