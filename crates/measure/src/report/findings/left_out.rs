//! What a run had no time for: tasks with fewer blocks than they were to have, and not known well enough without them.

use serde::Serialize;

use crate::plan::{LEFT, Rank, Task};
use crate::results::Results;

/// Tasks of one kind that have fewer blocks than they were to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What they are: `start and work`, or the name of a task that is of no kind.
    pub of: String,
    /// The fewest blocks that one of them has.
    pub fewest: usize,
    /// The most that one of them has.
    pub most: usize,
    /// The most that they were to have, if that takes so many to know them.
    pub planned: usize,
}

/// In the plan's order.
pub(super) fn of(results: &Results) -> Vec<LeftOut> {
    let mut all: Vec<LeftOut> = Vec::new();
    for task in &results.plan().tasks {
        let blocks = results.whole_blocks(task);
        if blocks >= task.most || blocks >= task.least && results.is_known(task) {
            continue;
        }
        let of = kind(task);
        match all.iter_mut().find(|left| left.of == of) {
            Some(left) => {
                left.fewest = left.fewest.min(blocks);
                left.most = left.most.max(blocks);
                left.planned = left.planned.max(task.most);
            }
            None => all.push(LeftOut { of, fewest: blocks, most: blocks, planned: task.most }),
        }
    }
    all
}

fn kind(task: &Task) -> String {
    match task.rank() {
        Rank::Row => "start, life and work".to_owned(),
        Rank::Pair => "victims beside antagonists".to_owned(),
        Rank::Count => "the kernel's code".to_owned(),
        Rank::Beside if task.quantities.iter().any(|quantity| quantity.name == LEFT) => {
            "what hogs leave".to_owned()
        }
        Rank::Beside => task.name.clone(),
    }
}
