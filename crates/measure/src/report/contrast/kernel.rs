//! What of the kernel was entered on one occasion and not on the other, by name.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::plan::AGAIN;
use crate::record::{Finding, Level};
use crate::report::document::Table;
use crate::report::number::count;
use crate::results::Results;

/// Names that a cell of the table holds.
const SHOWN: usize = 12;

/// A footprint on both occasions, watched in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entries {
    /// Whose: `application`, `set-up`.
    pub part: String,
    /// What was counted.
    pub level: Level,
    /// The platform.
    pub platform: String,
    /// How much was entered then.
    pub earlier: usize,
    /// And now.
    pub later: usize,
    /// What was entered now only.
    pub added: Vec<String>,
    /// What was entered then only.
    pub gone: Vec<String>,
}

type Footprints<'a> = BTreeMap<(&'a str, Level, &'a str), BTreeSet<&'a str>>;

pub(super) fn of(earlier: &Results, later: &Results) -> Vec<Entries> {
    let (before, after) = (footprints(earlier), footprints(later));
    let both = after.iter().filter_map(|(key, now)| Some((key, before.get(key)?, now)));
    let entries = both.map(|((part, level, platform), then, now)| {
        let names = |one: &BTreeSet<&str>, other: &BTreeSet<&str>| {
            one.difference(other).map(|name| (*name).to_owned()).collect()
        };
        Entries {
            part: (*part).to_owned(),
            level: *level,
            platform: (*platform).to_owned(),
            earlier: then.len(),
            later: now.len(),
            added: names(now, then),
            gone: names(then, now),
        }
    });
    entries.collect()
}

/// The unions of the runs. Samples hit what they hit, and have no difference.
fn footprints(results: &Results) -> Footprints<'_> {
    let mut footprints = Footprints::new();
    for turn in results.turns.iter().filter(|turn| turn.platform != AGAIN) {
        for finding in &turn.findings {
            if let Finding::Footprint(footprint) = finding
                && footprint.level != Level::Samples
            {
                let key = (footprint.part.as_str(), footprint.level, turn.platform.as_str());
                footprints.entry(key).or_default().extend(footprint.counts.keys().map(String::as_str));
            }
        }
    }
    footprints
}

/// Those that changed.
pub(super) fn table(entries: &[Entries]) -> Table {
    let says = "What was entered in any run, at the same level of watching on both occasions.";
    let head = ["part", "platform", "earlier", "later", "now only", "then only"];
    let changed = entries.iter().filter(|entries| !(entries.added.is_empty() && entries.gone.is_empty()));
    let rows = changed.map(|entries| {
        vec![
            format!("{}, {}", entries.part, crate::report::words::things(entries.level)),
            entries.platform.clone(),
            count(entries.earlier as f64),
            count(entries.later as f64),
            shortened(&entries.added),
            shortened(&entries.gone),
        ]
    });
    Table::new("Kernel code entered on one occasion only", says, &head)
        .with(rows.collect::<Vec<_>>())
        .grouped()
}

/// The first names and how many more; the JSON has them all.
fn shortened(names: &[String]) -> String {
    let shown = Vec::from_iter(names.iter().take(SHOWN).map(String::as_str)).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
