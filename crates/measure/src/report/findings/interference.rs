//! Temporal noninterference: what a victim keeps of its speed beside an antagonist.

use serde::Serialize;

use crate::plan::{AGAIN, Limits, Pair, RATE_KEPT, TAIL_KEPT, Task};
use crate::record::DIED;
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
    /// The fewest blocks in which a pair was measured.
    pub blocks: usize,
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
    /// The geometric mean of the scores of [`Interference::common`]. The bounds are those of its parts taken together, and
    /// wider than an interval of 95 %. None when no pair ended, or none everywhere.
    pub kept: Option<Estimate>,
    /// The pair of the least score of all that ended, `victim beside antagonist`, and that score.
    pub least: Option<(String, f64)>,
    /// Pairs that gave a number.
    pub ended: usize,
    /// Pairs in which the victim died at least once.
    pub died: usize,
    /// Pairs that gave no number for another reason.
    pub silent: usize,
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
    /// sqrt(T·Q), each at most 1; T alone where the victim has no latencies. None without T.
    pub score: Option<Estimate>,
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
    let blocks = pairs.iter().map(|(task, _)| results.blocks(task)).filter(|blocks| *blocks > 0).min();
    Interference {
        limits,
        victims: distinct(pairs.iter().map(|(_, pair)| &pair.victim)),
        antagonists: distinct(pairs.iter().map(|(_, pair)| &pair.antagonist)),
        blocks: blocks.unwrap_or(0),
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
    // A death is told for both quantities, but it is one.
    let failures = rate.map(|summary| summary.failures).unwrap_or_default();
    Meeting {
        victim: pair.victim.clone(),
        antagonist: pair.antagonist.clone(),
        floor: pair.floor,
        rate_kept,
        tail_kept,
        score: score(rate_kept, tail_kept),
        deaths: failures.iter().filter(|failure| failure.0.starts_with(DIED)).count(),
        failures: Reason::of_failures(failures),
    }
}

fn score(rate: Option<Estimate>, tail: Option<Estimate>) -> Option<Estimate> {
    let rate = rate?;
    let of = |part: fn(&Estimate) -> f64| {
        let rate = part(&rate).min(1.0);
        tail.map_or(rate, |tail| (rate * part(&tail).min(1.0)).sqrt())
    };
    Some(Estimate {
        estimate: of(|estimate| estimate.estimate),
        low: of(|estimate| estimate.low),
        high: of(|estimate| estimate.high),
    })
}

impl Neighbour {
    fn new(platform: &str, meetings: Vec<Meeting>, common: &[String]) -> Self {
        let counts = |meeting: &&Meeting| common.contains(&meeting.name());
        let scores = Vec::from_iter(meetings.iter().filter(counts).filter_map(|meeting| meeting.score));
        let mean = |part: fn(&Estimate) -> f64| {
            (scores.iter().map(|score| part(score).ln()).sum::<f64>() / scores.len() as f64).exp()
        };
        let kept = (!scores.is_empty()).then(|| Estimate {
            estimate: mean(|score| score.estimate),
            low: mean(|score| score.low),
            high: mean(|score| score.high),
        });
        let scored = meetings.iter().filter_map(|meeting| Some((meeting, meeting.score?.estimate)));
        let least = scored.min_by(|one, other| one.1.total_cmp(&other.1));
        Self {
            platform: platform.to_owned(),
            kept,
            least: least.map(|(meeting, score)| (meeting.name(), score)),
            ended: meetings.iter().filter(|meeting| meeting.score.is_some()).count(),
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
