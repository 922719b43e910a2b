//! What a journal says, before it is put into words, tables and plots: pure, and the JSON of the report.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::{AGAIN, BARE, BOOT, FIRST_BYTE};
use crate::record::{End, Measured};
use crate::results::Results;
use crate::stats::Failure;

mod calls;
mod capacity;
mod drift;
mod footprint;
mod interference;
mod left_out;
mod literature;
mod probe;
mod row;
mod soonest;
mod trial;

pub use capacity::{Capacity, Keeps, Kept};
pub use drift::Drift;
pub use footprint::{Entered, Footprints, Sampled, Share};
pub use interference::{Interference, Mean, Meeting, Neighbour};
pub use left_out::LeftOut;
pub use literature::{Accord, Claim, Test};
pub use probe::{Attempt, Probes, Score, is_moot};
pub use row::{Against, Cell, Row, Standing};
pub use trial::{Trial, TrialEnd};

/// The version of the JSON's form.
const FORM: u32 = 5;

/// The fact that tells where the places of the kernel's functions are from.
pub(super) const PLACES: &str = "functions placed by";

/// The fact that tells which other journals answer claims.
const JOINED: &str = "claims answered by the journals of";

/// Everything that a report says.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// The version of this form.
    pub form: u32,
    /// Facts about the machine.
    pub environment: BTreeMap<String, String>,
    /// What was measured, in the order of the report.
    pub platforms: Vec<Measured>,
    /// Why the last session ended; None when it was killed or goes on.
    pub end: Option<End>,
    /// What there was no time for.
    pub left_out: Vec<LeftOut>,
    /// How many turns were taken.
    pub turns: usize,
    /// What disturbed turns, and how many.
    pub disturbances: Vec<Reason>,
    /// What bare processes did at first and in the end.
    pub drifts: Vec<Drift>,
    /// Bare against bare, axis by axis.
    pub trials: Vec<Trial>,
    /// Every quantity of every task, in the plan's order.
    pub rows: Vec<Row>,
    /// The times of each start, ascending, in the unit of [`FIRST_BYTE`]; empty where nothing started.
    pub starts: Vec<Starts>,
    /// The walls than which none is found to start sooner, by the median of their first bytes; empty where blocks are too few
    /// to tell, or walls.
    pub soonest: Vec<String>,
    /// Victims beside antagonists, with limits first.
    pub interference: Vec<Interference>,
    /// What victims kept beside hogs.
    pub capacities: Vec<Capacity>,
    /// What the spatial probes found.
    pub probes: Probes,
    /// Which code of the kernel ran, a table for each part and level.
    pub footprints: Vec<Footprints>,
    /// What others found, set beside this.
    pub literature: Vec<Claim>,
}

/// Another journal of the same machine, which answers what the report's own leaves open.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Where it is, in words.
    pub place: String,
    /// What it holds.
    pub results: Results,
}

/// Something that was told more than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// In words.
    pub reason: String,
    /// How often.
    pub count: usize,
}

/// The times of one platform's starts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Starts {
    /// Whose.
    pub platform: String,
    /// Ascending.
    pub times: Vec<f64>,
}

impl Findings {
    /// Works everything out.
    pub fn of(results: &Results) -> Self {
        let mut rows = row::of(results);
        let interference = interference::of(results);
        let trials = trial::of(&rows, &interference, results);
        for row in &mut rows {
            row.in_doubt = trials.iter().any(|trial| trial.found.contains(&row.title()));
        }
        let mut findings = Self {
            form: FORM,
            environment: environment(results),
            platforms: platforms(results),
            end: results.end,
            left_out: left_out::of(results),
            turns: results.turns.len(),
            disturbances: Reason::count(results.turns.iter().filter_map(|turn| turn.disturbance.clone())),
            drifts: drift::of(results),
            trials,
            rows,
            starts: starts(results),
            soonest: soonest::of(results),
            interference,
            capacities: capacity::of(results),
            probes: probe::of(results),
            footprints: footprint::of(results),
            literature: Vec::new(),
        };
        findings.literature = literature::of(&findings, results);
        findings
    }

    /// The same, where published claims that this journal leaves open are answered by the others, in their order.
    pub fn joined(results: &Results, others: &[Joined]) -> Self {
        let mut findings = Self::of(results);
        for Joined { place, results: other } in others {
            let measured = other.run.environment.get("measured at");
            let from = measured.map_or(place.clone(), |at| format!("{place}, measured {at}"));
            literature::join(&mut findings.literature, Self::of(other).literature, &from);
            let told = findings.environment.entry(JOINED.to_owned()).or_default();
            *told = if told.is_empty() { from } else { format!("{told}; {from}") };
        }
        findings
    }

    /// The names of all but the A/A test's second bare process.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.platforms.iter().map(|platform| platform.name.as_str()).filter(|name| *name != AGAIN)
    }

    /// The names of the walls: neither of the bare processes.
    pub fn walls(&self) -> impl Iterator<Item = &str> + Clone {
        self.names().filter(|name| *name != BARE)
    }

    /// One quantity of one task.
    pub fn row(&self, task: &str, quantity: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.task == task && row.quantity == quantity)
    }

    /// The time to the first byte.
    pub fn first_byte(&self) -> Option<&Row> {
        self.row(BOOT, FIRST_BYTE)
    }
}

impl Reason {
    /// Counts equal reasons, the most frequent first, else in the order of their first mention.
    pub fn count(reasons: impl IntoIterator<Item = String>) -> Vec<Self> {
        let mut counted: Vec<Self> = Vec::new();
        for reason in reasons {
            match counted.iter_mut().find(|known| known.reason == reason) {
                Some(known) => known.count += 1,
                None => counted.push(Self { reason, count: 1 }),
            }
        }
        counted.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        counted
    }

    fn of_failures(failures: Vec<Failure>) -> Vec<Self> {
        Self::count(failures.into_iter().map(|failure| failure.0))
    }
}

/// With what the functions of the kernel were put into directories by.
fn environment(results: &Results) -> BTreeMap<String, String> {
    let mut environment = results.run.environment.clone();
    if let Some(places) = &results.places {
        environment.insert(PLACES.to_owned(), places.source.clone());
    }
    environment
}

/// In the plan's order, also those of which the journal knows no more than the name.
fn platforms(results: &Results) -> Vec<Measured> {
    let known = |name: &String| results.run.platforms.iter().find(|measured| measured.name == *name).cloned();
    let nameless = |name: &String| Measured {
        name: name.clone(),
        version: String::new(),
        sha256: String::new(),
        differences: Vec::new(),
    };
    results.plan().platforms.iter().map(|name| known(name).unwrap_or_else(|| nameless(name))).collect()
}

fn starts(results: &Results) -> Vec<Starts> {
    let Some(task) = results.plan().task(BOOT) else { return Vec::new() };
    let Some(quantity) = task.quantities.iter().find(|quantity| quantity.name == FIRST_BYTE) else {
        return Vec::new();
    };
    let experiment = results.experiment(task, quantity);
    let names = experiment.names().iter().enumerate().filter(|(_, name)| *name != AGAIN);
    let starts = names.map(|(platform, name)| {
        let mut times = experiment.amounts(platform);
        times.sort_unstable_by(f64::total_cmp);
        Starts { platform: name.clone(), times }
    });
    starts.filter(|starts| !starts.times.is_empty()).collect()
}
