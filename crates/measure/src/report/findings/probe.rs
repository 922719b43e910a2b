//! What the spatial probes reached, and what follows from it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::{AGAIN, BARE};
use crate::record::{Finding, Reach};
use crate::results::Results;

/// Every probe on every platform.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Probes {
    /// By the probe's name, then the platform's. A probe that reached nothing without a wall is moot everywhere.
    pub attempts: BTreeMap<String, BTreeMap<String, Attempt>>,
    /// What that comes to, in the plan's order.
    pub scores: Vec<Score>,
}

/// A probe on one platform, over all its runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// The furthest that it reached.
    pub reach: Reach,
    /// What the witness saw then.
    pub evidence: String,
    /// How often it was made.
    pub runs: usize,
    /// How often it reached less.
    pub less: usize,
}

/// One platform's attempts by what they reached; those that are moot do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Score {
    /// The platform.
    pub platform: String,
    /// The names of the probes that were refused.
    pub denied: Vec<String>,
    /// Those that the sandbox's own kernel answered.
    pub answered: Vec<String>,
    /// Those that read something of the host.
    pub leaks: Vec<String>,
    /// Those that changed something of the host.
    pub breaches: Vec<String>,
    /// Those that succeed without a wall and were not made here, so that nothing is known of them.
    pub unmade: Vec<String>,
}

pub(super) fn of(results: &Results) -> Probes {
    let mut attempts: BTreeMap<String, BTreeMap<String, Attempt>> = BTreeMap::new();
    for turn in &results.turns {
        for finding in &turn.findings {
            if let Finding::Verdict { probe, verdict, evidence } = finding {
                let platforms = attempts.entry(probe.clone()).or_default();
                note(platforms, &turn.platform, *verdict, evidence);
            }
        }
    }
    for platforms in attempts.values_mut() {
        let succeeds = |attempt: &Attempt| matches!(attempt.reach, Reach::Leak | Reach::Breach);
        if !platforms.get(BARE).is_some_and(succeeds) {
            platforms.values_mut().for_each(|attempt| attempt.reach = Reach::Moot);
        }
    }
    let names = results.plan().platforms.iter().filter(|name| *name != AGAIN);
    let scores =
        names.map(|name| Score::of(name, &attempts)).filter(|score| score.counted() + score.unmade.len() > 0);
    Probes { scores: scores.collect(), attempts }
}

/// Whether a probe says nothing: it does not even succeed without a wall.
pub fn is_moot(platforms: &BTreeMap<String, Attempt>) -> bool {
    platforms.get(BARE).is_none_or(|attempt| attempt.reach == Reach::Moot)
}

fn note(platforms: &mut BTreeMap<String, Attempt>, platform: &str, reach: Reach, evidence: &str) {
    let first = Attempt { reach, evidence: evidence.to_owned(), runs: 1, less: 0 };
    let Some(known) = platforms.get_mut(platform) else {
        platforms.insert(platform.to_owned(), first);
        return;
    };
    if depth(reach) > depth(known.reach) {
        *known = Attempt { runs: known.runs + 1, less: known.runs, ..first };
    } else {
        known.less += usize::from(depth(reach) < depth(known.reach));
        known.runs += 1;
    }
}

/// How far into the host; an attempt that says nothing is the least.
fn depth(reach: Reach) -> u8 {
    match reach {
        Reach::Moot => 0,
        Reach::Denied => 1,
        Reach::Virtual => 2,
        Reach::Leak => 3,
        Reach::Breach => 4,
    }
}

impl Score {
    fn of(platform: &str, attempts: &BTreeMap<String, BTreeMap<String, Attempt>>) -> Self {
        let that = |wanted: Reach| {
            let reached = attempts.iter().filter(|(_, platforms)| {
                platforms.get(platform).is_some_and(|attempt| attempt.reach == wanted)
            });
            Vec::from_iter(reached.map(|(probe, _)| probe.clone()))
        };
        Self {
            platform: platform.to_owned(),
            denied: that(Reach::Denied),
            answered: that(Reach::Virtual),
            leaks: that(Reach::Leak),
            breaches: that(Reach::Breach),
            // A probe that says nothing anywhere is moot on the bare process, too.
            unmade: {
                let moot = that(Reach::Moot).into_iter();
                moot.filter(|probe| !is_moot(&attempts[probe])).collect()
            },
        }
    }

    /// The probes that say something of this platform.
    pub fn counted(&self) -> usize {
        self.held() + self.leaks.len() + self.breaches.len()
    }

    /// The probes against which the wall held.
    pub fn held(&self) -> usize {
        self.denied.len() + self.answered.len()
    }
}
