//! Which wall starts soonest, as far as comparisons within blocks tell.

use crate::plan::{AGAIN, BARE, BOOT, FIRST_BYTE};
use crate::results::Results;
use crate::stats::{FEWEST_PAIRS, Verdict};

/// By the median of their first bytes. A rank by medians alone would be decided by noise.
pub(super) fn of(results: &Results) -> Vec<String> {
    let Some(task) = results.plan().task(BOOT) else { return Vec::new() };
    let Some(quantity) = task.quantities.iter().find(|quantity| quantity.name == FIRST_BYTE) else {
        return Vec::new();
    };
    let experiment = results.experiment(task, quantity);
    let walls =
        experiment.names().iter().enumerate().filter(|(_, name)| ![BARE, AGAIN].contains(&name.as_str()));
    let walls =
        walls.filter_map(|(wall, name)| Some((wall, experiment.summary(wall).median?.estimate, name)));
    let walls = Vec::from_iter(walls);
    if experiment.len() < FEWEST_PAIRS || walls.len() < 2 {
        return Vec::new();
    }
    let beats = |one: usize, other: usize| {
        experiment.compare(one, other).is_some_and(|comparison| comparison.verdict == Verdict::Faster)
    };
    let is_beaten = |wall: usize| walls.iter().any(|(other, ..)| beats(*other, wall));
    let mut soonest = Vec::from_iter(walls.iter().filter(|(wall, ..)| !is_beaten(*wall)));
    // Where blocks failed, a third wall may have beaten one that the first does not.
    if let [(first, ..)] = soonest[..] {
        soonest.extend(walls.iter().filter(|(wall, ..)| wall != first && !beats(*first, *wall)));
    }
    soonest.sort_by(|one, other| one.1.total_cmp(&other.1));
    soonest.into_iter().map(|(.., name)| (*name).clone()).collect()
}
