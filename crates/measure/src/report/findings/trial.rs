//! The A/A test: bare against bare, in which there is nothing to be found. Each axis has its own: what vouches for times
//! says nothing of what neighbours keep.

use serde::Serialize;

use crate::plan::{AGAIN, Axis, BARE};
use crate::stats::FEWEST_PAIRS;

use super::{Row, Standing};

/// How often an interval of 95 % misses the truth by chance: of seven or eight blocks, where most is interpolated, in up to 6 of
/// 100 experiments.
const MISSES: f64 = 0.06;

/// More misses than come by chance once in a hundred runs are no chance.
const CHANCE: f64 = 0.01;

/// What came out of bare against bare for the quantities of one axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// The axis.
    pub axis: Axis,
    /// How it ended.
    pub end: TrialEnd,
    /// Quantities that were compared.
    pub compared: usize,
    /// How many of these were measured often enough to tell.
    pub quantities: usize,
    /// How many of their intervals contain 1.
    pub contain_one: usize,
    /// Where a difference beyond the margin was found, though there is none: `task · quantity`.
    pub found: Vec<String>,
    /// Of all that were compared: `task · quantity` whose ratio is furthest from 1, and how far, as a factor above 1.
    pub furthest: Option<(String, f64)>,
    /// Quantities of which one of the two gave no number at least once, and the other did.
    pub one_sided: Vec<String>,
}

/// How an A/A test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialEnd {
    /// Nothing was found.
    Passed,
    /// Something was found.
    Failed,
    /// There is too little to tell.
    NotMade,
}

/// One for each axis of which anything was measured, in the order of a run.
pub(super) fn of(rows: &[Row]) -> Vec<Trial> {
    Axis::ALL.into_iter().filter_map(|axis| of_axis(axis, rows)).collect()
}

fn of_axis(axis: Axis, rows: &[Row]) -> Option<Trial> {
    let rows = rows.iter().filter(|row| row.axis == axis);
    let rows = Vec::from_iter(rows.filter(|row| row.cells.iter().any(|cell| cell.measured > 0)));
    if rows.is_empty() {
        return None;
    }
    let again = rows.iter().filter_map(|row| Some((*row, row.cell(AGAIN)?.against_bare?)));
    let compared = Vec::from_iter(again);
    let told = Vec::from_iter(compared.iter().filter(|(_, against)| against.pairs >= FEWEST_PAIRS));
    let holds = |low: f64, high: f64| low <= 1.0 && 1.0 <= high;
    let contain_one = told.iter().filter(|(_, against)| holds(against.ratio.low, against.ratio.high)).count();
    let differs = |standing| matches!(standing, Standing::Better | Standing::Worse);
    let found = told.iter().filter(|(_, against)| differs(against.standing));
    let found = Vec::from_iter(found.map(|(row, _)| row.title()));
    let end = if told.is_empty() {
        TrialEnd::NotMade
    } else if found.is_empty() && at_least(told.len() - contain_one, told.len()) >= CHANCE {
        TrialEnd::Passed
    } else {
        TrialEnd::Failed
    };
    let apart = compared.iter().map(|(row, against)| (row, against.ratio.estimate.ln().abs().exp()));
    let furthest = apart.max_by(|one, other| one.1.total_cmp(&other.1));
    Some(Trial {
        axis,
        end,
        compared: compared.len(),
        quantities: told.len(),
        contain_one,
        found,
        furthest: furthest.map(|(row, apart)| (row.title(), apart)),
        one_sided: rows.iter().filter(|row| is_one_sided(row)).map(|row| row.title()).collect(),
    })
}

/// Whether one of the two bare processes gave fewer numbers than the other because it failed.
fn is_one_sided(row: &Row) -> bool {
    let (Some(one), Some(other)) = (row.cell(BARE), row.cell(AGAIN)) else { return false };
    one.measured != other.measured && !(one.failures.is_empty() && other.failures.is_empty())
}

/// The probability that at least `misses` of `trials` intervals miss by chance.
fn at_least(misses: usize, trials: usize) -> f64 {
    let mut term = (1.0 - MISSES).powi(i32::try_from(trials).unwrap_or(i32::MAX));
    let mut below = 0.0;
    for count in 0..misses {
        below += term;
        term *= (trials - count) as f64 / (count + 1) as f64 * MISSES / (1.0 - MISSES);
    }
    1.0 - below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_the_binomial_one() {
        for (misses, trials, expected) in
            [(0, 20, 1.0), (1, 1, 0.06), (2, 2, 0.0036), (1, 2, 0.1164), (4, 20, 0.0290), (5, 20, 0.0056)]
        {
            let chance = at_least(misses, trials);
            assert!((chance - expected).abs() < 1e-4, "{misses} of {trials}: {chance}");
        }
    }
}
