//! docs/conformance.md: the records of all suites in one table, and why ours fails what it fails.

use std::fmt::Write as _;

use anyhow::Result;

use super::case::Verdict;
use super::place::Place;
use super::record::{Count, Record};
use super::subject::Kind;
use super::suite::{SUITES, Suite};
use crate::{marked, workspace};

/// Lines of the page between which the results stand.
const BEGIN: &str = "<!-- begin: cargo xtask conformance --write -->";

/// Writes the records that are there into the page.
pub(super) fn write() -> Result<()> {
    let mut text = String::from(
        "| suite | version | on | runtime | passed | skipped | failed |\n|---|---|---|---|---:|---:|---:|\n",
    );
    let mut failures = String::new();
    for suite in SUITES {
        for place in Place::ALL {
            let records = Kind::ALL.into_iter().map(|kind| Record::load(suite, kind, place));
            let records = Vec::from_iter(records.collect::<Result<Vec<_>>>()?.into_iter().flatten());
            records.iter().for_each(|record| text.push_str(&row(suite, record)));
            failures.push_str(&reasons(suite, &records));
        }
    }
    let page = workspace::root()?.join("docs/conformance.md");
    marked::insert(&page, BEGIN, &format!("{text}\n{failures}"))?;
    println!("written to {}", page.display());
    Ok(())
}

fn row(suite: &Suite, record: &Record) -> String {
    let Count { passed, skipped, failed } = record.count();
    format!(
        "| {} | {} | {} | {} | {passed} | {skipped} | {failed} |\n",
        suite.title, record.version, record.system, record.subject
    )
}

/// A list of what ours fails, with the reason for each.
fn reasons(suite: &Suite, records: &[Record]) -> String {
    let (ours, others) = match records.split_first() {
        Some((ours, others)) if ours.kind == Kind::Bulkrun => (ours, others),
        _ => return String::new(),
    };
    let mut text = String::new();
    for test in ours.failed() {
        let excuse = suite.excuses.iter().find(|excuse| excuse.test == test);
        let passes = |record: &&Record| {
            record.cases.iter().any(|case| case.name == test && case.verdict == Verdict::Passed)
        };
        let passing = Vec::from_iter(others.iter().filter(passes).map(|record| record.subject.as_str()));
        let reason = match (excuse, passing.is_empty()) {
            (Some(excuse), _) => excuse.reason.to_owned(),
            (None, true) if others.is_empty() => "no other runtime was asked.".to_owned(),
            (None, true) => "no runtime passes it on this machine.".to_owned(),
            (None, false) => format!("a fault of ours; {} passes.", passing.join(" and ")),
        };
        let _ = writeln!(text, "- `{test}`: {reason}");
    }
    if text.is_empty() {
        return text;
    }
    format!("What bulkrun fails in {} on {}:\n\n{text}\n", suite.title, ours.system)
}
