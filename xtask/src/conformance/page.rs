//! docs/conformance.md: the records of all suites in one table, and why ours fails what it fails.
//!
//! A failure of ours without a reason, or one that others do not have, is no page to show.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

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
    let mut unexplained = Vec::new();
    for suite in SUITES {
        for place in Place::ALL {
            let records = Kind::ALL.into_iter().map(|kind| Record::load(suite, kind, place));
            let records = Vec::from_iter(records.collect::<Result<Vec<_>>>()?.into_iter().flatten());
            for record in &records {
                text.push_str(&row(suite, record));
                if !record.revisions.is_empty() {
                    println!(
                        "{} on {} was built of {}",
                        record.subject,
                        record.system,
                        record.revisions.join(", ")
                    );
                }
            }
            failures.push_str(&reasons(suite, &records, &mut unexplained));
        }
    }
    ensure!(
        unexplained.is_empty(),
        "say in the table of the suite why ours fails these, or mend it:\n  {}",
        unexplained.join("\n  ")
    );
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

/// A list of what ours fails, with the reason for each and who passes it.
fn reasons(suite: &Suite, records: &[Record], unexplained: &mut Vec<String>) -> String {
    let (ours, others) = match records.split_first() {
        Some((ours, others)) if ours.kind == Kind::Bulkrun => (ours, others),
        _ => return String::new(),
    };
    let mut text = String::new();
    for test in ours.failed() {
        let Some(excuse) = suite.excuse(test, ours.place) else {
            unexplained.push(format!("{} on {}: {test}", suite.name, ours.place.name()));
            continue;
        };
        let passing = others.iter().filter(|record| record.passes(test));
        let passing = Vec::from_iter(passing.map(|record| record.subject.as_str()));
        let who = match passing.as_slice() {
            [] if others.is_empty() => String::new(),
            [] => " No runtime passes it there.".to_owned(),
            [one] => format!(" {one} passes it."),
            some => format!(" {} pass it.", some.join(" and ")),
        };
        let _ = writeln!(text, "- `{test}`: {}{who}", excuse.reason);
    }
    if text.is_empty() {
        return text;
    }
    format!("What bulkrun fails in {} on {}:\n\n{text}\n", suite.title, ours.system)
}
