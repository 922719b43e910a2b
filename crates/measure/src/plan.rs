//! What is to be measured: tasks, the quantities that each gives, and how often.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::FEWEST_PAIRS;

/// The second name under which the bare process takes part, so that every task carries its own A/A test.
pub const AGAIN: &str = "bare again";

/// The platform that the others are compared with.
pub const BARE: &str = "bare";

/// The task whose times to the first byte are shown as a distribution.
pub const BOOT: &str = "boot";

/// The quantity of [`BOOT`] for that.
pub const FIRST_BYTE: &str = "first byte";

/// The task, and its quantity, that counts the system calls which a sandbox's filters let through.
pub const SURFACE: &str = "calls let through";

/// The quantity T of a [`Pair`]: the victim's rate beside the antagonist, divided by its rate alone.
pub const RATE_KEPT: &str = "T";

/// The quantity Q of a [`Pair`]: the victim's p90 alone, divided by its p90 beside the antagonist.
pub const TAIL_KEPT: &str = "Q";

/// The quantity of a task that looks what is left beside a hog: a share of what there is alone.
pub const LEFT: &str = "left";

/// Begins the name of each task that looks what each further sandbox takes.
pub const DENSITY: &str = "density, ";

/// Begins the name of each task that is work of the workload.
pub const WORK: &str = "work ";

/// Begins the name of each task of the heavy profile.
pub const HEAVY: &str = "heavy ";

/// One of the three axioms (docs/measure.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// How much of the host's kernel runs on behalf of the application.
    Isolation,
    /// What one sandbox can do to another.
    Noninterference,
    /// What the wall costs.
    Performance,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A few rows that together take minutes.
    Quick,
    /// All of them, until they are decided.
    Full,
}

/// What a task is to a run that has not time for everything, in the order in which it is given some (docs/measure.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It is decided: start, life and work.
    Row,
    /// A victim beside an antagonist; all of these are judged together.
    Pair,
    /// What runs of the kernel is counted.
    Count,
    /// Anything else: what stands beside.
    Beside,
}

/// Which direction of a quantity is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Times, sizes, counts of calls.
    Less,
    /// Rates and shares.
    More,
}

/// One number that a task gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantity {
    /// Unique within its task: `first byte`.
    pub name: String,
    /// As it is printed behind the number: `ms`, `KiB`, `1/s`; empty for a share or a count.
    pub unit: String,
    /// The good direction.
    pub better: Better,
    /// Whether the run goes on until the comparison with [`BARE`] is known well enough.
    pub decides: bool,
}

/// Something that is done once for each platform in each block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique within the plan: `boot`, `cpu beside fork bomb, limits`.
    pub name: String,
    /// The axiom that it belongs to.
    pub axis: Axis,
    /// One sentence for the report: what is done, and what the numbers mean.
    pub says: String,
    /// For a task of temporal noninterference, which gives [`RATE_KEPT`] and mostly [`TAIL_KEPT`]: who meets whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Pair>,
    /// Turns a second of the open loop in which its latencies are taken, the same on every platform; None where it gives
    /// none, and before a run has chosen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What it gives.
    pub quantities: Vec<Quantity>,
    /// Blocks that are measured in any case, while the budget lasts.
    pub least: usize,
    /// Blocks after which the task ends, known well enough or not.
    pub most: usize,
}

/// A victim with a fixed task, and its antagonist in a sandbox beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// What the victim does: `cpu`, `fork`.
    pub victim: String,
    /// What the antagonist does: `cpu`, `fork bomb`.
    pub antagonist: String,
    /// Whether both are limited.
    pub limits: Limits,
    /// The share of its rate that a fair scheduler owes the victim; None when nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
}

/// Whether the sandboxes of a pair have limits of memory, CPU and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limits {
    /// They have.
    With,
    /// They have none.
    Without,
}

/// Everything that one run is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order of the report; [`BARE`] first.
    pub platforms: Vec<String>,
    /// In the order in which a block goes through them.
    pub tasks: Vec<Task>,
    /// Seeds the orders.
    pub seed: u64,
}

impl Axis {
    /// In the order of a run: what is short and tells most comes first.
    pub const ALL: [Self; 3] = [Self::Performance, Self::Isolation, Self::Noninterference];

    /// As it is typed and printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolation => "isolation",
            Self::Noninterference => "noninterference",
            Self::Performance => "performance",
        }
    }
}

impl Limits {
    /// As it is printed.
    pub fn words(self) -> &'static str {
        match self {
            Self::With => "with limits",
            Self::Without => "without limits",
        }
    }
}

impl Quantity {
    /// A quantity of which less is better, and which is compared until it is known well enough.
    pub fn less(name: &str, unit: &str) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned(), better: Better::Less, decides: true }
    }

    /// A quantity of which more is better, and which is compared until it is known well enough.
    pub fn more(name: &str, unit: &str) -> Self {
        Self { better: Better::More, ..Self::less(name, unit) }
    }

    /// The same, for the record only.
    #[must_use]
    pub fn beside(self) -> Self {
        Self { decides: false, ..self }
    }
}

impl Task {
    /// What it is to a run that has not time for everything.
    pub fn rank(&self) -> Rank {
        if self.pair.is_some() {
            Rank::Pair
        } else if self.quantities.iter().any(|quantity| quantity.decides) {
            Rank::Row
        } else if self.axis == Axis::Isolation {
            Rank::Count
        } else {
            Rank::Beside
        }
    }

    /// Whether a run wants this quantity of it decided, and plans the blocks without which nothing is.
    pub fn decides(&self, quantity: &Quantity) -> bool {
        quantity.decides && self.most >= FEWEST_PAIRS
    }

    /// Whether its numbers mean the same as those of `other`. How often it is done may differ, and the rate of its open loop, which
    /// a run finds out.
    pub fn means(&self, other: &Self) -> bool {
        let Self { name, axis, says, pair, rate: _, quantities, least: _, most: _ } = self;
        (name, axis, says) == (&other.name, &other.axis, &other.says)
            && (pair, quantities) == (&other.pair, &other.quantities)
    }
}

impl Plan {
    /// The time that a short run is meant to take: well below five minutes for bare and four platforms on two processors, where one
    /// block of everything takes one, and a minute more for each further platform.
    pub fn short_time(&self) -> Duration {
        const PLATFORMS: usize = 5;
        let platforms = self.platforms.iter().filter(|name| *name != AGAIN).count();
        let more = u32::try_from(platforms.saturating_sub(PLATFORMS)).unwrap_or(u32::MAX);
        Duration::from_secs(280) + Duration::from_secs(60).saturating_mul(more)
    }

    /// The task of this name.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_has_less_than_five_minutes_for_five_platforms() {
        let time = |platforms: &[&str]| {
            let platforms = platforms.iter().map(|name| (*name).to_owned()).collect();
            Plan { platforms, tasks: Vec::new(), seed: 1 }.short_time().as_secs()
        };
        assert_eq!(time(&[BARE, AGAIN]), 280);
        assert_eq!(time(&[BARE, AGAIN, "bulkrun", "crun", "runc", "runsc"]), 280);
        assert_eq!(time(&[BARE, AGAIN, "bulkrun", "crun", "runc", "runsc", "podman", "docker"]), 400);
    }
}
