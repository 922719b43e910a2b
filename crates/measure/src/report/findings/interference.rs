//! Temporal noninterference: what a victim keeps of its speed beside an antagonist.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::{AGAIN, Limits, Pair, RATE_KEPT, TAIL_KEPT, Task};
use crate::record::{DIED, Turn};
use crate::results::Results;
use crate::stats::{Estimate, Summary};

use super::Reason;

/// All pairs with limits, or all without.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Interference {
    /// Which.
    pub limits: Limits,
    /// In the plan's order.
    pub victims: Vec<String>,
    /// In the plan's order.
    pub antagonists: Vec<String>,
    /// The pairs that gave a number on every platform that gave any, `victim beside antagonist`: what means are made of.
    pub common: Vec<String>,
    /// In the plan's order, the bare process again last: between the two there is nothing but noise.
    pub platforms: Vec<Neighbour>,
}

/// How well one platform's wall stands between neighbours.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// The platform.
    pub platform: String,
    /// Each pair.
    pub meetings: Vec<Meeting>,
    /// Over the pairs of [`Interference::common`]. None when no block has all of them.
    pub kept: Option<Mean>,
    /// Over all pairs that gave a number here, also those that another platform does not have. None when no block has all of
    /// them.
    pub own: Option<Mean>,
    /// The pair of the least score of all that ended, `victim beside antagonist`, and that score.
    pub least: Option<(String, f64)>,
    /// Pairs that gave a number.
    pub ended: usize,
    /// Pairs in which the victim died at least once.
    pub died: usize,
    /// Pairs that gave no number for another reason.
    pub silent: usize,
}

/// The geometric mean of the scores of some pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean is taken in each block; this is the median of the blocks' means, with its interval.
    pub score: Estimate,
    /// Over how many pairs.
    pub pairs: usize,
    /// How many blocks have all of these.
    pub blocks: usize,
}

/// A victim beside an antagonist.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Meeting {
    /// What the victim does.
    pub victim: String,
    /// What the antagonist does.
    pub antagonist: String,
    /// The share that a fair scheduler owes the victim; None when nobody knows.
    pub floor: Option<f64>,
    /// T, as it was measured: the rate beside the antagonist, divided by the rate alone.
    pub rate_kept: Option<Estimate>,
    /// Q, as it was measured: p90 alone, divided by p90 beside the antagonist.
    pub tail_kept: Option<Estimate>,
    /// In each block that gave one: sqrt(T·Q), each at most 1; T alone where the victim has no latencies.
    pub scores: BTreeMap<usize, f64>,
    /// The median of these.
    pub score: Option<Estimate>,
    /// The fewest blocks on which T, Q or the score rest, of those that are there.
    pub blocks: usize,
    /// Runs in which the victim died.
    pub deaths: usize,
    /// Why runs gave no number.
    pub failures: Vec<Reason>,
}

pub(super) fn of(results: &Results) -> Vec<Interference> {
    let pairs = results.plan().tasks.iter().filter_map(|task| Some((task, task.pair.as_ref()?)));
    let pairs = Vec::from_iter(pairs);
    [Limits::With, Limits::Without]
        .into_iter()
        .filter_map(|limits| {
            let pairs = Vec::from_iter(pairs.iter().copied().filter(|(_, pair)| pair.limits == limits));
            (!pairs.is_empty()).then(|| interference(results, limits, &pairs))
        })
        .collect()
}

fn interference(results: &Results, limits: Limits, pairs: &[(&Task, &Pair)]) -> Interference {
    let mut known = Vec::from_iter(results.plan().platforms.iter().enumerate());
    known.sort_by_key(|(_, name)| *name == AGAIN);
    let met = known.into_iter().map(|(platform, name)| {
        let meetings = pairs.iter().map(|(task, pair)| meeting(results, task, pair, platform));
        (name, Vec::from_iter(meetings))
    });
    let met = Vec::from_iter(met);
    let common = common(&met);
    Interference {
        limits,
        victims: distinct(pairs.iter().map(|(_, pair)| &pair.victim)),
        antagonists: distinct(pairs.iter().map(|(_, pair)| &pair.antagonist)),
        platforms: met.into_iter().map(|(name, meetings)| Neighbour::new(name, meetings, &common)).collect(),
        common,
    }
}

/// A mean over other pairs is another mean. The second bare process takes nothing away from the others.
fn common(met: &[(&String, Vec<Meeting>)]) -> Vec<String> {
    let walls = met
        .iter()
        .filter(|(name, meetings)| *name != AGAIN && meetings.iter().any(|meeting| meeting.score.is_some()));
    let of = |meetings: &[Meeting]| {
        let ended = meetings.iter().filter(|meeting| meeting.score.is_some());
        Vec::from_iter(ended.map(Meeting::name))
    };
    let common = walls.map(|(_, meetings)| of(meetings)).reduce(|mut common, other| {
        common.retain(|name| other.contains(name));
        common
    });
    common.unwrap_or_default()
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for name in names {
        if !known.contains(name) {
            known.push(name.clone());
        }
    }
    known
}

fn meeting(results: &Results, task: &Task, pair: &Pair, platform: usize) -> Meeting {
    let summary = |name: &str| -> Option<Summary> {
        let quantity = task.quantities.iter().find(|quantity| quantity.name == name)?;
        Some(results.experiment(task, quantity).summary(platform))
    };
    let (rate, tail) = (summary(RATE_KEPT), summary(TAIL_KEPT));
    let median = |summary: &Option<Summary>| summary.as_ref().and_then(|summary| summary.median);
    let (rate_kept, tail_kept) = (median(&rate), median(&tail));
    let scores = scores(results, task, &results.plan().platforms[platform]);
    let measured = [&rate, &tail].into_iter().flatten().map(|summary| summary.measured);
    let blocks = measured.chain([scores.len()]).filter(|blocks| *blocks > 0).min();
    // A death is told for both quantities, but it is one.
    let failures = rate.map(|summary| summary.failures).unwrap_or_default();
    Meeting {
        victim: pair.victim.clone(),
        antagonist: pair.antagonist.clone(),
        floor: pair.floor,
        rate_kept,
        tail_kept,
        score: Estimate::of_median(&Vec::from_iter(scores.values().copied())),
        scores,
        blocks: blocks.unwrap_or(0),
        deaths: failures.iter().filter(|failure| failure.0.starts_with(DIED)).count(),
        failures: Reason::of_failures(failures),
    }
}

/// T and Q of one block belong together: what moves one of them moves the other.
fn scores(results: &Results, task: &Task, platform: &str) -> BTreeMap<usize, f64> {
    let turns = results.turns.iter().filter(|turn| turn.task == task.name && turn.platform == platform);
    let amount = |turn: &Turn, quantity: &str| {
        Some(turn.findings.iter().find_map(|finding| finding.outcome(quantity))?.ok()?.value())
    };
    let kept = turns.filter_map(|turn| Some((turn.block, amount(turn, RATE_KEPT)?, amount(turn, TAIL_KEPT))));
    let kept = Vec::from_iter(kept);
    // A block whose Q alone is missing is no block without latencies.
    let has_tail = kept.iter().any(|(.., tail)| tail.is_some());
    let whole = kept.into_iter().filter(|(.., tail)| tail.is_some() == has_tail);
    whole.map(|(block, rate, tail)| (block, score(rate, tail))).collect()
}

fn score(rate: f64, tail: Option<f64>) -> f64 {
    let rate = rate.min(1.0);
    tail.map_or(rate, |tail| (rate * tail.min(1.0)).sqrt())
}

impl Mean {
    fn over<'a>(meetings: impl Iterator<Item = &'a Meeting>) -> Option<Self> {
        let mut pairs = 0;
        let mut blocks: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for meeting in meetings {
            pairs += 1;
            for (block, score) in &meeting.scores {
                blocks.entry(*block).or_default().push(score.ln());
            }
        }
        // A mean over other pairs is another mean.
        let whole = blocks.into_values().filter(|logs| logs.len() == pairs);
        let means = Vec::from_iter(whole.map(|logs| logs.iter().sum::<f64>() / pairs as f64));
        let score = Estimate::of_median(&means)?.map(f64::exp);
        Some(Self { score, pairs, blocks: means.len() })
    }
}

impl Neighbour {
    fn new(platform: &str, meetings: Vec<Meeting>, common: &[String]) -> Self {
        let ended = || meetings.iter().filter(|meeting| meeting.score.is_some());
        let scored = meetings.iter().filter_map(|meeting| Some((meeting, meeting.score?.estimate)));
        let least = scored.min_by(|one, other| one.1.total_cmp(&other.1));
        Self {
            platform: platform.to_owned(),
            kept: Mean::over(ended().filter(|meeting| common.contains(&meeting.name()))),
            own: Mean::over(ended()),
            least: least.map(|(meeting, score)| (meeting.name(), score)),
            ended: ended().count(),
            died: meetings.iter().filter(|meeting| meeting.deaths > 0).count(),
            silent: meetings.iter().filter(|meeting| meeting.is_silent()).count(),
            meetings,
        }
    }

    /// The meeting of these two.
    pub fn meeting(&self, victim: &str, antagonist: &str) -> Option<&Meeting> {
        self.meetings.iter().find(|meeting| meeting.victim == victim && meeting.antagonist == antagonist)
    }
}

impl Meeting {
    fn name(&self) -> String {
        format!("{} beside {}", self.victim, self.antagonist)
    }

    fn is_silent(&self) -> bool {
        self.score.is_none() && self.deaths == 0 && !self.failures.is_empty()
    }
}
