//! What one sandbox can do to another: in time (`temporal`, over the `matrix` of pairs).
//!
//! What is to be done (`matrix`) and what follows from what was seen (`kept`) is pure; only `temporal` starts anything.

use crate::arena::Arena;
use crate::plan::{Size, Task};
use crate::platform::Platform;
use crate::record::Finding;

mod kept;
mod matrix;
mod temporal;

pub use temporal::Alone;

/// The tasks of this axis in a run of this size.
pub(crate) fn tasks(size: Size) -> Vec<Task> {
    matrix::pairs(size).map(|meeting| meeting.task(size)).collect()
}

/// Does `task` once; nothing when it is none of this axis.
pub(crate) fn take(
    task: &Task,
    arena: &Arena,
    platform: &Platform,
    block: usize,
    alone: &mut Alone,
) -> Option<Vec<Finding>> {
    let meeting = matrix::Meeting::of(task)?;
    Some(temporal::meet(&meeting, arena, platform, block, alone))
}
