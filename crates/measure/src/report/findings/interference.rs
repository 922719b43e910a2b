//! Temporal noninterference: what a victim keeps of its speed beside an antagonist.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::interference::matrix;
use crate::machine::PROCESSORS;
use crate::plan::{AGAIN, BARE, Limits, Pair, RATE_KEPT, TAIL_KEPT, Task};
use crate::platform;
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
    /// The share that a fair scheduler owes the victim on this platform; None when nobody knows.
    pub floor: Option<f64>,
    /// T, as it was measured: the rate beside the antagonist, divided by the rate alone.
    pub rate_kept: Option<Estimate>,
    /// Q, as it was measured: p90 alone, divided by p90 beside the antagonist.
    pub tail_kept: Option<Estimate>,
    /// In each block that gave one: sqrt(T·Q), each at most 1; T alone where the victim has no latencies, and on all platforms
    /// where it has none on one of them.
    pub scores: BTreeMap<usize, f64>,
    /// The platforms on which the victim has no latencies, or not often enough, for which reason the pair is scored by T alone on
    /// all; empty where there are none on any.
    pub without_tail: Vec<String>,
    /// The median of these.
    pub score: Option<Estimate>,
    /// The fewest blocks on which T, Q or the score rest, of those that are there.
    pub blocks: usize,
    /// Runs in which the victim died.
    pub deaths: usize,
    /// Why runs gave no T, and why no Q where they gave T.
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
    let scored = Vec::from_iter(pairs.iter().map(|(task, _)| Scored::of(results, task)));
    let met = known.into_iter().map(|(platform, name)| {
        let pairs = pairs.iter().zip(&scored);
        let meetings = pairs.map(|((task, pair), scored)| meeting(results, (*task, *pair), scored, platform));
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

/// By what a pair is scored, which is the same on all platforms: Q mostly is the worse of the two, so that T alone would be a better
/// score, and who is too slow to have latencies would have it.
enum Scored {
    /// By T and Q.
    ByBoth,
    /// By T; these platforms have no Q, or not often enough.
    ByRate(Vec<String>),
}

/// Of so many blocks one may lack Q alone, by accident, and is left out. Where more do, those are the slow ones.
const LACKING: usize = 6;

impl Scored {
    fn of(results: &Results, task: &Task) -> Self {
        let names = || results.plan().platforms.iter().filter(|name| *name != AGAIN);
        let has = |name: &str| {
            let kept = kept(results, task, name);
            (kept.len(), kept.iter().filter(|(.., tail)| tail.is_some()).count())
        };
        let counts = Vec::from_iter(names().map(|name| (name, has(name))));
        if counts.iter().all(|(_, (_, tails))| *tails == 0) {
            return Self::ByRate(Vec::new());
        }
        let lacks = |(rates, tails): (usize, usize)| (rates - tails) * LACKING > rates;
        let lacking = counts.into_iter().filter(|(_, counts)| lacks(*counts)).map(|(name, _)| name.clone());
        match Vec::from_iter(lacking) {
            lacking if lacking.is_empty() => Self::ByBoth,
            lacking => Self::ByRate(lacking),
        }
    }
}

fn meeting(results: &Results, (task, pair): (&Task, &Pair), scored: &Scored, platform: usize) -> Meeting {
    let summary = |name: &str| -> Option<Summary> {
        let quantity = task.quantities.iter().find(|quantity| quantity.name == name)?;
        Some(results.experiment(task, quantity).summary(platform))
    };
    let (rate, tail) = (summary(RATE_KEPT), summary(TAIL_KEPT));
    let median = |summary: &Option<Summary>| summary.as_ref().and_then(|summary| summary.median);
    let (rate_kept, tail_kept) = (median(&rate), median(&tail));
    let name = &results.plan().platforms[platform];
    let scores = scores(results, task, name, scored);
    let measured = [&rate, &tail].into_iter().flatten().map(|summary| summary.measured);
    let blocks = measured.chain([scores.len()]).filter(|blocks| *blocks > 0).min();
    // A death is told for both quantities, but it is one.
    let told = |summary: Option<Summary>| summary.map(|summary| summary.failures).unwrap_or_default();
    let (mut failures, mut without_tail) = (told(rate), told(tail));
    let deaths = failures.iter().filter(|failure| failure.0.starts_with(DIED)).count();
    without_tail.retain(|failure| !failures.contains(failure));
    failures.append(&mut without_tail);
    Meeting {
        victim: pair.victim.clone(),
        antagonist: pair.antagonist.clone(),
        floor: floor(results, pair, name),
        rate_kept,
        tail_kept,
        score: Estimate::of_median(&Vec::from_iter(scores.values().copied())),
        scores,
        blocks: blocks.unwrap_or(0),
        without_tail: match scored {
            Scored::ByBoth => Vec::new(),
            Scored::ByRate(lacking) => lacking.clone(),
        },
        deaths,
        failures: Reason::of_failures(failures),
    }
}

/// What the victim is owed: bare processes, and walls without cgroups, are not divided by sandboxes.
fn floor(results: &Results, pair: &Pair, name: &str) -> Option<f64> {
    if !platform::is_undivided(name) {
        return pair.floor;
    }
    let processors = results.run.environment.get(PROCESSORS)?.parse().ok()?;
    matrix::owed_bare(&pair.victim, &pair.antagonist, processors)
}

/// T and Q of one block belong together: what moves one of them moves the other.
fn scores(results: &Results, task: &Task, platform: &str, scored: &Scored) -> BTreeMap<usize, f64> {
    let kept = kept(results, task, platform).into_iter();
    let scored = kept.filter_map(|(block, rate, tail)| match (scored, tail) {
        (Scored::ByRate(_), _) => Some((block, score(rate, None))),
        // A block whose Q alone is missing is no block without latencies.
        (Scored::ByBoth, None) => None,
        (Scored::ByBoth, tail) => Some((block, score(rate, tail))),
    });
    scored.collect()
}

/// Of each block that gave T: the block, T, and Q if it gave that.
fn kept(results: &Results, task: &Task, platform: &str) -> Vec<(usize, f64, Option<f64>)> {
    let turns = results.turns.iter().filter(|turn| turn.task == task.name && turn.platform == platform);
    let amount = |turn: &Turn, quantity: &str| {
        Some(turn.findings.iter().find_map(|finding| finding.outcome(quantity))?.ok()?.value())
    };
    let kept = turns.filter_map(|turn| Some((turn.block, amount(turn, RATE_KEPT)?, amount(turn, TAIL_KEPT))));
    kept.collect()
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

impl Interference {
    /// Of each block the mean of what the second bare process keeps, divided by that of the first, over the pairs that both have
    /// there.
    pub(super) fn again_to_bare(&self) -> Vec<f64> {
        let of = |name: &str| self.platforms.iter().find(|neighbour| neighbour.platform == name);
        let Some((bare, again)) = of(BARE).zip(of(AGAIN)) else { return Vec::new() };
        let mut blocks: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (one, other) in bare.meetings.iter().zip(&again.meetings) {
            for (block, score) in &one.scores {
                let ratio = other.scores.get(block).map(|other| (other / score).ln());
                blocks.entry(*block).or_default().extend(ratio);
            }
        }
        let blocks = blocks.into_values().filter(|logs| !logs.is_empty());
        blocks.map(|logs| (logs.iter().sum::<f64>() / logs.len() as f64).exp()).collect()
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
