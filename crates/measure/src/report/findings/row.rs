//! One quantity of one task: each platform's figures, and each against the bare process.

use serde::Serialize;

use crate::plan::{Axis, BARE, Better, HEAVY, Quantity, Task, WORK};
use crate::results::Results;
use crate::stats::{Comparison, Estimate, Experiment, Verdict};

use super::Reason;

/// A quantity on all platforms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task's name.
    pub task: String,
    /// What the task is for.
    pub axis: Axis,
    /// The task in a sentence.
    pub says: String,
    /// The quantity's name.
    pub quantity: String,
    /// Printed behind the number.
    pub unit: String,
    /// The good direction.
    pub better: Better,
    /// Whether the run wanted this decided, and planned as many blocks as that takes.
    pub decides: bool,
    /// Blocks that were measured.
    pub blocks: usize,
    /// Bare against bare was found different ([`Trial::found`](super::Trial::found)): whatever is said of this quantity is in doubt.
    pub in_doubt: bool,
    /// In the plan's order.
    pub cells: Vec<Cell>,
}

/// A quantity on one platform.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The platform.
    pub platform: String,
    /// Runs that gave a number.
    pub measured: usize,
    /// How many of these stand in a disturbed block.
    pub disturbed: usize,
    /// Why the others gave none.
    pub failures: Vec<Reason>,
    /// The least number, as it was measured; None without any.
    pub least: Option<f64>,
    /// The median with its 95 % interval; None without any number.
    pub median: Option<Estimate>,
    /// Against the bare process; None for that itself, and where no block measured both.
    pub against_bare: Option<Against>,
}

/// A platform against the bare process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Against {
    /// The platform's amount divided by bare's, with its 95 % interval.
    pub ratio: Estimate,
    /// The blocks that this rests on.
    pub pairs: usize,
    /// What that allows to claim.
    pub standing: Standing,
}

/// A verdict in which the good direction is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// By more than the margin.
    Better,
    /// Within the margin.
    Equal,
    /// By more than the margin.
    Worse,
    /// The interval is too wide, or there are too few blocks.
    NotDecided,
}

pub(super) fn of(results: &Results) -> Vec<Row> {
    let quantities = results
        .plan()
        .tasks
        .iter()
        .flat_map(|task| task.quantities.iter().map(move |quantity| (task, quantity)));
    quantities.map(|(task, quantity)| row(results, task, quantity)).collect()
}

fn row(results: &Results, task: &Task, quantity: &Quantity) -> Row {
    let experiment = results.experiment(task, quantity);
    let bare = experiment.names().iter().position(|name| name == BARE);
    let cells =
        (0..experiment.names().len()).map(|platform| cell(&experiment, platform, bare, quantity.better));
    let cells = Vec::from_iter(cells);
    Row {
        task: task.name.clone(),
        axis: task.axis,
        says: task.says.clone(),
        quantity: quantity.name.clone(),
        unit: quantity.unit.clone(),
        better: quantity.better,
        decides: task.decides(quantity),
        blocks: experiment.len(),
        in_doubt: false,
        cells,
    }
}

fn cell(experiment: &Experiment, platform: usize, bare: Option<usize>, better: Better) -> Cell {
    let summary = experiment.summary(platform);
    let other = bare.filter(|bare| *bare != platform);
    Cell {
        platform: summary.name,
        measured: summary.measured,
        disturbed: summary.disturbed,
        failures: Reason::of_failures(summary.failures),
        least: summary.least.map(crate::stats::Amount::value),
        median: summary.median,
        against_bare: other.and_then(|bare| experiment.compare(platform, bare)).map(|comparison| {
            let Comparison { ratio, pairs, verdict } = comparison;
            Against { ratio, pairs, standing: Standing::of(verdict, better) }
        }),
    }
}

impl Row {
    /// `task · quantity`
    pub fn title(&self) -> String {
        format!("{} · {}", self.task, self.quantity)
    }

    /// Whether it is about what programs do all day, and not about the life of a sandbox.
    pub fn is_work(&self) -> bool {
        self.axis == Axis::Performance && [WORK, HEAVY].iter().any(|begin| self.task.starts_with(begin))
    }

    /// One platform's figures.
    pub fn cell(&self, platform: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.platform == platform)
    }

    /// How many times as bad as bare a ratio is: above 1 is worse, whichever direction is good.
    pub fn cost(&self, ratio: Estimate) -> Estimate {
        match self.better {
            Better::Less => ratio,
            Better::More => {
                Estimate { estimate: 1.0 / ratio.estimate, low: 1.0 / ratio.high, high: 1.0 / ratio.low }
            }
        }
    }
}

impl Standing {
    /// A smaller amount is what [`Verdict::Faster`] means.
    pub fn of(verdict: Verdict, better: Better) -> Self {
        match (verdict, better) {
            (Verdict::Equal, _) => Self::Equal,
            (Verdict::NotDecided, _) => Self::NotDecided,
            (Verdict::Faster, Better::Less) | (Verdict::Slower, Better::More) => Self::Better,
            (Verdict::Slower, Better::Less) | (Verdict::Faster, Better::More) => Self::Worse,
        }
    }

    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Equal => "equal",
            Self::Worse => "worse",
            Self::NotDecided => "not decided",
        }
    }
}
