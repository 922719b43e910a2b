//! docs/conformance.md: the records of all suites in one table, and why ours fails what it fails.
//!
//! A failure of ours without a reason, or one that others do not have, is no page to show.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::case::Verdict;
use super::place::Place;
use super::record::{Count, Record};
use super::subject::Kind;
use super::suite::{SUITES, Suite};
use crate::{marked, workspace};

/// Lines of the page between which the results stand.
const BEGIN: &str = "<!-- begin: cargo xtask conformance --write -->";

/// Says what the list of [`shortfall`]s is.
const MISSED: &str = "\
bulkrun was to pass the most tests of every suite, and of runtime-tools no fewer than the 41 programs that crun 1.28 once
passed on a host like this. It does not: what the others pass beyond it asks for their own words, log lines and files, for
the host's root as that of a container, or for what the specification forbids. Passed by ours and by who passes most, where
that is another:

";

/// Writes the records that are there into the page.
pub(super) fn write() -> Result<()> {
    let mut text = String::from(
        "| suite | version | on | runtime | passed | skipped | failed |\n|---|---|---|---|---:|---:|---:|\n",
    );
    let (mut failures, mut missed) = (String::new(), String::new());
    let mut unexplained = Vec::new();
    for suite in SUITES {
        for place in Place::ALL {
            let records = Kind::ALL.into_iter().map(|kind| Record::load(suite, kind, place));
            let records = Vec::from_iter(records.collect::<Result<Vec<_>>>()?.into_iter().flatten());
            for record in &records {
                record.publish()?;
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
            missed.push_str(&shortfall(suite, &records));
        }
    }
    ensure!(
        unexplained.is_empty(),
        "say in the table of the suite why ours fails these, or mend it:\n  {}",
        unexplained.join("\n  ")
    );
    let page = workspace::root()?.join("docs/conformance.md");
    marked::insert(&page, BEGIN, &format!("{text}\n{MISSED}{missed}\n{failures}"))?;
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
        let _ = writeln!(text, "- `{test}`: {}{}", excuse.reason, told(test, others));
    }
    if text.is_empty() {
        return text;
    }
    format!("What bulkrun fails in {} on {}:\n\n{text}\n", suite.title, ours.system)
}

/// What became of a test of those others that were asked.
fn told(test: &str, others: &[Record]) -> String {
    let of = |is_his: fn(&Verdict) -> bool| {
        let his = others.iter().filter(|record| record.verdict(test).is_some_and(is_his));
        Vec::from_iter(his.map(|record| record.subject.as_str()))
    };
    let passing = of(|verdict| *verdict == Verdict::Passed);
    let failing = of(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipping = of(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let mut text = String::new();
    for (subjects, one, several) in [
        (passing, "passes it", "pass it"),
        (failing, "fails it, too", "fail it, too"),
        (skipping, "skips it", "skip it"),
    ] {
        if !subjects.is_empty() {
            let verb = if subjects.len() == 1 { one } else { several };
            let _ = write!(text, " {} {verb}.", subjects.join(" and "));
        }
    }
    text
}

/// Where another passes more tests than ours, a line for each suite and machine.
fn shortfall(suite: &Suite, records: &[Record]) -> String {
    let Some(ours) = records.iter().find(|record| record.kind == Kind::Bulkrun) else { return String::new() };
    let passed = |record: &Record| record.count().passed;
    let best = records.iter().max_by_key(|record| passed(record)).filter(|best| passed(best) > passed(ours));
    best.map_or_else(String::new, |best| {
        let (ours, theirs) = (passed(ours), passed(best));
        format!("- {} on {}: {ours}, {} {theirs}\n", suite.title, best.system, best.subject)
    })
}

#[cfg(test)]
mod tests {
    use super::super::case::Case;
    use super::*;

    fn record(kind: Kind, verdicts: &[(&str, Verdict)]) -> Record {
        let case =
            |(name, verdict): &(&str, Verdict)| Case { name: (*name).to_owned(), verdict: verdict.clone() };
        Record {
            suite: "runc".to_owned(),
            version: "1".to_owned(),
            kind,
            place: Place::Host,
            system: "Linux".to_owned(),
            subject: kind.name().to_owned(),
            revisions: Vec::new(),
            cases: verdicts.iter().map(case).collect(),
        }
    }

    #[test]
    fn only_those_who_were_asked_are_named() {
        let failed = || Verdict::Failed(String::new());
        let runc = record(Kind::Runc, &[("a", Verdict::Passed), ("b", failed())]);
        let crun = record(Kind::Crun, &[("a", Verdict::Passed), ("b", failed()), ("c", failed())]);
        let others = [runc, crun];
        assert_eq!(told("a", &others), " runc and crun pass it.");
        assert_eq!(told("b", &others), " runc and crun fail it, too.");
        assert_eq!(told("c", &others), " crun fails it, too.", "runc was not asked");
        assert_eq!((told("b", &others[..1]), told("d", &others)), (" runc fails it, too.".into(), "".into()));
    }

    #[test]
    fn a_goal_that_is_missed_is_named() {
        let ours = record(Kind::Bulkrun, &[("a", Verdict::Passed)]);
        let more = record(Kind::Runc, &[("a", Verdict::Passed), ("b", Verdict::Passed)]);
        let records = [ours.clone(), more];
        assert!(shortfall(&SUITES[0], &records).ends_with(" on Linux: 1, runc 2\n"));
        assert_eq!(shortfall(&SUITES[0], &[ours]), "");
    }

    /// Each excuse of the table holds somewhere, and one that nothing needs any more is found.
    #[test]
    fn an_excuse_without_a_failure_is_stale() {
        let suite = &SUITES[0];
        let here = || suite.excuses.iter().filter(|excuse| excuse.places.contains(&Place::Host));
        let all = Vec::from_iter(here().map(|excuse| (excuse.test, Verdict::Failed(String::new()))));
        assert!(suite.stale(&record(Kind::Bulkrun, &all)).is_empty());
        let (gone, rest) = all.split_first().unwrap();
        assert_eq!(suite.stale(&record(Kind::Bulkrun, rest)), [gone.0]);
    }
}
