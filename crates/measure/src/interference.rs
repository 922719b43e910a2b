//! What one sandbox can do to another: in time (`temporal`, over the `matrix` of pairs), in what is left (`capacity`) and in space (`spatial`, over
//! the `probes`).
//!
//! What is to be done (`matrix`, `probes`) and what follows from what was seen (`kept`, `judge`) is pure; only `temporal`,
//! `spatial` and its `witness` touch the machine.

use crate::arena::Arena;
use crate::error::Error;
use crate::plan::{Size, Task};
use crate::platform::Platform;
use crate::record::Finding;

mod capacity;
mod judge;
mod kept;
pub(crate) mod matrix;
mod probes;
mod spatial;
mod temporal;
mod witness;

pub use temporal::Alone;
pub(crate) use witness::sweep;

/// How many attempts there are, and which of them have no witness on this host, with the reason.
///
/// # Errors
/// When no witness can be laid out at all.
pub(crate) fn unwitnessed() -> Result<(usize, Vec<String>), Error> {
    spatial::unwitnessed()
}

/// The most processes that an antagonist has at a time, and the most MiB.
pub(crate) fn greatest() -> (u32, u32) {
    matrix::greatest()
}

/// The tasks of this axis in a run of this size.
pub(crate) fn tasks(size: Size) -> Vec<Task> {
    let first = std::iter::once(spatial::task(size)).chain(capacity::tasks(size));
    first.chain(matrix::pairs(size).map(|meeting| meeting.task(size))).collect()
}

/// Does `task` once; nothing when it is none of this axis.
pub(crate) fn take(
    task: &Task,
    arena: &Arena,
    platform: &Platform,
    block: usize,
    alone: &mut Alone,
) -> Option<Vec<Finding>> {
    if task.name == spatial::NAME {
        return Some(spatial::take(arena, platform));
    }
    if let Some(capacity) = capacity::Capacity::named(&task.name) {
        return Some(vec![capacity.take(arena, platform)]);
    }
    let meeting = matrix::Meeting::of(task)?;
    Some(temporal::meet(&meeting, arena, platform, block, alone))
}
