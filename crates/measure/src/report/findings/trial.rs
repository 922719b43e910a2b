//! The A/A test: bare against bare, in which there is nothing to be found. Each axis has its own: what vouches for times
//! says nothing of what neighbours keep.
//!
//! What is tested is what the report claims something of. Of times and rates these are the quantities that have a verdict. Of
//! neighbours it is what victims keep in the mean of all pairs: T and Q of single pairs have none, and share a victim's reading
//! alone, so that one slow moment moves several of them at once.

use serde::Serialize;

use crate::plan::{AGAIN, Axis, BARE, LEFT};
use crate::results::Results;
use crate::stats::{Comparison, FEWEST_PAIRS, Verdict, chance};

use super::{Interference, Row};

/// How often an interval of 95 % misses the truth by chance: of seven or eight blocks, where most is interpolated, in up to 6 of
/// 100 experiments.
const MISSES: f64 = 0.06;

/// More misses than come by chance once in a hundred runs are no chance.
const CHANCE: f64 = 0.01;

/// How often at most anything is found of all that an axis compares, where there is nothing.
const ANY: f64 = 0.05;

/// What came out of bare against bare for one axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// The axis.
    pub axis: Axis,
    /// How it ended.
    pub end: TrialEnd,
    /// What was compared: quantities, and of neighbours means over pairs.
    pub compared: usize,
    /// How many of these were measured often enough to tell.
    pub quantities: usize,
    /// How many of their intervals contain 1.
    pub contain_one: usize,
    /// Where a difference beyond the margin was found, though there is none: `task · quantity`, or whose mean.
    pub found: Vec<String>,
    /// Of all quantities, those of single pairs included: `task · quantity` whose ratio is furthest from 1, and how far, as a
    /// factor above 1.
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

/// Something of which bare is compared with bare.
struct Compared {
    title: String,
    ratios: Vec<f64>,
    comparison: Comparison,
}

/// One for each axis of which anything was measured, in the order of a run.
pub(super) fn of(rows: &[Row], interference: &[Interference], results: &Results) -> Vec<Trial> {
    let of_axis = |axis: Axis| {
        // What a hog leaves has its own control, of both bare processes together.
        let rows = rows.iter().filter(|row| row.axis == axis && row.quantity != LEFT);
        let rows = Vec::from_iter(rows.filter(|row| row.cells.iter().any(|cell| cell.measured > 0)));
        let compared = match axis {
            Axis::Noninterference => means(interference),
            Axis::Performance => quantities(rows.iter().copied().filter(|row| row.decides), results),
            Axis::Isolation => quantities(rows.iter().copied(), results),
        };
        (!rows.is_empty()).then(|| judge(axis, &rows, &compared))
    };
    Axis::ALL.into_iter().filter_map(of_axis).collect()
}

fn quantities<'a>(rows: impl Iterator<Item = &'a Row>, results: &Results) -> Vec<Compared> {
    let compared = rows.filter_map(|row| {
        let task = results.plan().task(&row.task)?;
        let quantity = task.quantities.iter().find(|quantity| quantity.name == row.quantity)?;
        let experiment = results.experiment(task, quantity);
        let place = |name: &str| experiment.names().iter().position(|known| known == name);
        Compared::of(row.title(), experiment.ratios(place(AGAIN)?, place(BARE)?))
    });
    compared.collect()
}

fn means(interference: &[Interference]) -> Vec<Compared> {
    let all = interference.iter().filter_map(|interference| {
        let limits = interference.limits.words();
        Compared::of(format!("what victims keep in the mean, {limits}"), interference.again_to_bare())
    });
    all.collect()
}

fn judge(axis: Axis, rows: &[&Row], compared: &[Compared]) -> Trial {
    let told = Vec::from_iter(compared.iter().filter(|one| one.ratios.len() >= FEWEST_PAIRS));
    let contain_one = told.iter().filter(|one| one.contains_one()).count();
    let found = told.iter().filter(|one| one.differs(told.len()));
    let found = Vec::from_iter(found.map(|one| one.title.clone()));
    let end = if told.is_empty() {
        TrialEnd::NotMade
    } else if found.is_empty() && at_least(told.len() - contain_one, told.len()) >= CHANCE {
        TrialEnd::Passed
    } else {
        TrialEnd::Failed
    };
    let again = rows.iter().filter_map(|row| Some((row, row.cell(AGAIN)?.against_bare?)));
    let apart = again.map(|(row, against)| (row.title(), against.ratio.estimate.ln().abs().exp()));
    Trial {
        axis,
        end,
        compared: compared.len(),
        quantities: told.len(),
        contain_one,
        found,
        furthest: apart.max_by(|one, other| one.1.total_cmp(&other.1)),
        one_sided: rows.iter().filter(|row| is_one_sided(row)).map(|row| row.title()).collect(),
    }
}

impl Compared {
    fn of(title: String, ratios: Vec<f64>) -> Option<Self> {
        let comparison = Comparison::of_ratios(&ratios)?;
        Some(Self { title, ratios, comparison })
    }

    fn contains_one(&self) -> bool {
        self.comparison.ratio.low <= 1.0 && 1.0 <= self.comparison.ratio.high
    }

    /// Whether this one of so many lies beyond the margin, and not by chance: in all of them together chance does that [`ANY`] times.
    fn differs(&self, of: usize) -> bool {
        matches!(self.comparison.verdict, Verdict::Faster | Verdict::Slower)
            && chance(&self.ratios) <= ANY / of as f64
    }
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
