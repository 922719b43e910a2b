//! Whether the machine became another one while it was measured: what bare processes did at first, and in the end.

use serde::Serialize;

use crate::plan::{AGAIN, Axis, BARE};
use crate::results::Results;
use crate::stats::{FEWEST_PAIRS, median};

/// One deciding quantity of the bare processes over the time of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// The task.
    pub task: String,
    /// The quantity.
    pub quantity: String,
    /// Of the quantity.
    pub unit: String,
    /// The median of the first third of the blocks.
    pub first: f64,
    /// The median of the last third.
    pub last: f64,
    /// From the beginning of the task's first turn to that of its last, minutes; None where the journal has no times.
    pub minutes: Option<f64>,
}

/// In the plan's order; a quantity with fewer than six blocks is not there.
pub(super) fn of(results: &Results) -> Vec<Drift> {
    let tasks = results.plan().tasks.iter().filter(|task| task.axis == Axis::Performance);
    let all = tasks.flat_map(|task| {
        task.quantities.iter().filter(|quantity| task.decides(quantity)).filter_map(|quantity| {
            let experiment = results.experiment(task, quantity);
            let names = experiment.names().iter().enumerate();
            let bare = Vec::from_iter(names.filter(|(_, name)| [BARE, AGAIN].contains(&name.as_str())));
            let third = |which: fn(&[f64]) -> &[f64]| {
                let amounts = bare.iter().map(|(platform, _)| experiment.amounts(*platform));
                let amounts = amounts.filter(|amounts| amounts.len() >= FEWEST_PAIRS);
                median(&Vec::from_iter(amounts.flat_map(|amounts| which(&amounts).to_vec())))
            };
            Some(Drift {
                task: task.name.clone(),
                quantity: quantity.name.clone(),
                unit: quantity.unit.clone(),
                first: third(|amounts| &amounts[..amounts.len() / 3])?,
                last: third(|amounts| &amounts[amounts.len() - amounts.len() / 3..])?,
                minutes: minutes(results, &task.name),
            })
        })
    });
    all.collect()
}

fn minutes(results: &Results, task: &str) -> Option<f64> {
    let began = || results.turns.iter().filter(|turn| turn.task == task).filter_map(|turn| turn.began);
    Some((began().max()? - began().min()?) as f64 / 60_000.0)
}

impl Drift {
    /// The last third divided by the first.
    pub fn change(&self) -> f64 {
        self.last / self.first
    }
}
