//! Which code of the kernel ran for a platform, set beside the bare process. How much and how often stay apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::plan::{AGAIN, BARE};
use crate::record::{Finding, Footprint, Level, Symbol};
use crate::results::Results;

use super::calls;

/// Where a function stands of which nothing is known.
const UNKNOWN: &str = "not attributed";

/// All platforms' footprints of one part, watched in the same way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Footprints {
    /// Whose: `application`, `set-up`, `monitor`.
    pub part: String,
    /// What is counted.
    pub level: Level,
    /// In the plan's order; those that were not watched are left out.
    pub platforms: Vec<Entered>,
}

/// What ran for one platform.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entered {
    /// The platform.
    pub platform: String,
    /// How often it was watched.
    pub runs: usize,
    /// Events that the kernel dropped, in all runs; with any the figures are lower bounds.
    pub lost: u64,
    /// The footprint: functions or system calls that ran in any run.
    pub names: usize,
    /// Those that ran in every run.
    pub always: usize,
    /// The size of the footprint's code, KiB, as far as sizes are known; None where none is, and of system calls.
    pub kib: Option<f64>,
    /// The frequency: how often they ran together, mean of the runs; of samples, in how many stacks they stood.
    pub calls: f64,
    /// How many samples the footprint rests on, in all runs, and what that lets expect; None where nothing was sampled.
    pub sampled: Option<Sampled>,
    /// Against bare's footprint of the same part and level; None for bare itself, and without that.
    pub against_bare: Option<Overlap>,
    /// By part of the kernel, the largest footprint first.
    pub shares: Vec<Share>,
}

/// A footprint of which only samples are known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sampled {
    /// Stacks, in all runs.
    pub samples: u64,
    /// How many functions there probably are at least, those that no sample hit included: the estimator Chao2 (A. Chao,
    /// Biometrics 43, 1987), by those that stood in one stack only and in two.
    pub expected: f64,
}

/// A footprint beside bare's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// How much both entered.
    pub shared: usize,
    /// What only the platform entered.
    pub added: Vec<String>,
    /// What only bare entered.
    pub avoided: Vec<String>,
}

/// One part of the kernel in a footprint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The part: a directory of the kernel's sources, or what a system call is for.
    pub subsystem: String,
    /// Functions or system calls of it that ran.
    pub names: usize,
    /// How often, mean of the runs.
    pub calls: f64,
}

pub(super) fn of(results: &Results) -> Vec<Footprints> {
    let mut watched: BTreeMap<(&str, Level), BTreeMap<&str, Vec<&Footprint>>> = BTreeMap::new();
    let mut symbols = BTreeMap::new();
    // In how many turns each was watched, whatever was seen: a part that entered nothing in one of them is not told there.
    let mut turns: BTreeMap<(&str, Level), usize> = BTreeMap::new();
    for turn in &results.turns {
        let mut levels = BTreeSet::new();
        for finding in &turn.findings {
            match finding {
                Finding::Footprint(footprint) => {
                    let platforms = watched.entry((&footprint.part, footprint.level)).or_default();
                    platforms.entry(&turn.platform).or_default().push(footprint);
                    levels.insert(footprint.level);
                }
                Finding::Symbols { symbols: told } => {
                    symbols.extend(told.iter().map(|(name, symbol)| (name.as_str(), symbol)));
                }
                _ => {}
            }
        }
        levels.into_iter().for_each(|level| *turns.entry((&turn.platform, level)).or_default() += 1);
    }
    let known = Known { symbols, places: results.places.as_ref().map(|places| &places.places) };
    let mut footprints = Vec::from_iter(watched.into_iter().map(|((part, level), platforms)| {
        // What was not sampled may have run all the same, so that such footprints have no difference.
        let bare = platforms.get(BARE).filter(|_| level != Level::Samples).map(|runs| union(runs));
        let names = results.plan().platforms.iter().filter(|name| *name != AGAIN);
        let entered = names.filter_map(|name| {
            let other = bare.as_ref().filter(|_| name != BARE);
            let watched = turns.get(&(name.as_str(), level)).copied().unwrap_or_default();
            Some(Entered::of(name, platforms.get(name.as_str())?, watched, other, &known))
        });
        Footprints { part: part.to_owned(), level, platforms: entered.collect() }
    }));
    // The application is what isolation is about; the closest look is the best.
    footprints
        .sort_by_key(|footprints| (footprints.part != "application", std::cmp::Reverse(footprints.level)));
    footprints
}

/// What is known of functions.
struct Known<'a> {
    symbols: BTreeMap<&'a str, &'a Symbol>,
    /// Directories of the sources, where they were looked up: these alone count then.
    places: Option<&'a BTreeMap<String, String>>,
}

impl Known<'_> {
    fn place(&self, name: &str) -> &str {
        match self.places {
            Some(places) => places.get(name).map_or(UNKNOWN, String::as_str),
            None => self.symbols.get(name).map_or(UNKNOWN, |symbol| symbol.subsystem.as_str()),
        }
    }
}

fn is_of_functions(level: Level) -> bool {
    matches!(level, Level::Functions | Level::Samples)
}

fn union<'a>(runs: &[&'a Footprint]) -> BTreeSet<&'a str> {
    runs.iter().flat_map(|run| run.counts.keys().map(String::as_str)).collect()
}

impl Entered {
    /// `runs` are those in which it entered anything, of so many in which it was `watched`.
    fn of(
        platform: &str,
        runs: &[&Footprint],
        watched: usize,
        bare: Option<&BTreeSet<&str>>,
        known: &Known<'_>,
    ) -> Self {
        let names = union(runs);
        // A system call can have the name of a function, and its size is not that one's.
        let are_functions = runs.first().is_some_and(|run| is_of_functions(run.level));
        let symbols = names.iter().filter_map(|name| known.symbols.get(*name)).filter(|_| are_functions);
        let bytes = Vec::from_iter(symbols.map(|symbol| symbol.bytes));
        let mut shares: BTreeMap<&str, Share> = BTreeMap::new();
        for name in &names {
            let subsystem = if are_functions { known.place(name) } else { calls::subject(name) };
            let share = shares.entry(subsystem).or_insert_with(|| Share {
                subsystem: subsystem.to_owned(),
                names: 0,
                calls: 0.0,
            });
            share.names += 1;
            share.calls +=
                runs.iter().filter_map(|run| run.counts.get(*name)).map(|count| *count as f64).sum::<f64>()
                    / watched as f64;
        }
        let mut shares = Vec::from_iter(shares.into_values());
        shares.sort_by_key(|share| std::cmp::Reverse(share.names));
        Self {
            platform: platform.to_owned(),
            runs: watched,
            lost: runs.iter().map(|run| run.lost).sum(),
            names: names.len(),
            always: names
                .iter()
                .filter(|name| runs.iter().filter(|run| run.counts.contains_key(**name)).count() == watched)
                .count(),
            kib: (!bytes.is_empty()).then(|| bytes.iter().map(|bytes| *bytes as f64).sum::<f64>() / 1024.0),
            calls: shares.iter().map(|share| share.calls).sum(),
            sampled: Sampled::of(runs),
            against_bare: bare.map(|bare| Overlap::of(&names, bare)),
            shares,
        }
    }

    /// How well the runs agree: what ran in every run, divided by what ran in any (Jaccard's index).
    pub fn agreement(&self) -> f64 {
        self.always as f64 / self.names.max(1) as f64
    }
}

impl Sampled {
    fn of(runs: &[&Footprint]) -> Option<Self> {
        let samples = runs.iter().filter_map(|run| run.samples).reduce(|one, other| one + other)?;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, count) in runs.iter().flat_map(|run| &run.counts) {
            *counts.entry(name).or_default() += count;
        }
        let stood_in = |wanted: u64| counts.values().filter(|count| **count == wanted).count() as f64;
        let (once, twice) = (stood_in(1), stood_in(2));
        let share = samples.saturating_sub(1) as f64 / samples.max(1) as f64;
        let unseen = share * once * (once - 1.0).max(0.0) / (2.0 * (twice + 1.0));
        Some(Self { samples, expected: counts.len() as f64 + unseen })
    }
}

impl Overlap {
    fn of(names: &BTreeSet<&str>, bare: &BTreeSet<&str>) -> Self {
        let owned = |names: std::collections::btree_set::Difference<'_, &str>| {
            names.map(|name| (*name).to_owned()).collect()
        };
        Self {
            shared: names.intersection(bare).count(),
            added: owned(names.difference(bare)),
            avoided: owned(bare.difference(names)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_has_no_size() {
        let symbol = Symbol { subsystem: "fs".to_owned(), bytes: 512 };
        let known = Known { symbols: [("sync", &symbol)].into(), places: None };
        let entered = |level| {
            let counts = [("sync".to_owned(), 1)].into();
            let footprint = Footprint { part: "set-up".to_owned(), level, counts, lost: 0, samples: None };
            let entered = Entered::of("crun", &[&footprint], 1, None, &known);
            (entered.kib, entered.shares[0].subsystem.clone())
        };
        assert_eq!(entered(Level::Tracepoints), (None, "files".to_owned()));
        assert_eq!(entered(Level::Functions), (Some(0.5), "fs".to_owned()));
    }

    #[test]
    fn samples_let_expect_more_than_they_hit() {
        let run = |counts: &[(&str, u64)], samples| Footprint {
            part: "application".to_owned(),
            level: Level::Samples,
            counts: counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            lost: 0,
            samples,
        };
        let one = run(&[("a", 9), ("b", 1), ("c", 1), ("d", 1)], Some(9));
        let other = run(&[("a", 1), ("d", 1), ("e", 1)], Some(1));
        // Of five, three stood in one stack only and one in two.
        let expected = 5.0 + 0.9 * 3.0 * 2.0 / (2.0 * 2.0);
        assert_eq!(Sampled::of(&[&one, &other]), Some(Sampled { samples: 10, expected }));
        assert_eq!(Sampled::of(&[&run(&[], Some(0))]), Some(Sampled { samples: 0, expected: 0.0 }));
        assert_eq!(Sampled::of(&[&run(&[("a", 1)], None)]), None);
    }
}
