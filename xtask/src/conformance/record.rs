//! What one suite found out about one subject.
//!
//! ```text
//!   target/conformance           the latest run, with what failures said          save, amend
//!   docs/conformance/records     what the page is made of, without that           publish
//! ```
//!
//! Who was not judged on this machine is as the page has it, so that a suite is not run again for who has not changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::case::{Case, Verdict};
use super::place::Place;
use super::subject::{Kind, Subject};
use super::suite::{Run, Suite};
use crate::workspace;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) suite: String,
    /// Of the suite.
    pub(super) version: String,
    pub(super) kind: Kind,
    pub(super) place: Place,
    /// What that is: the kernel and its cgroups.
    pub(super) system: String,
    /// The runtime with its version.
    pub(super) subject: String,
    /// The project's own versions of which the subject was built, if it is ours: several where some tests were run
    /// again later.
    #[serde(default)]
    pub(super) revisions: Vec<String>,
    pub(super) cases: Vec<Case>,
}

/// How many tests there are of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) skipped: usize,
    pub(super) failed: usize,
}

impl Record {
    pub(super) fn new(
        run: &Run,
        subject: &Subject,
        (system, cases): (String, Vec<Case>),
        revision: Option<String>,
    ) -> Self {
        Self {
            revisions: Vec::from_iter(revision),
            suite: run.suite.clone(),
            version: run.prepared.version.clone(),
            kind: run.kind,
            place: run.place,
            system,
            subject: subject.name.clone(),
            cases,
        }
    }

    pub(super) fn count(&self) -> Count {
        let mut count = Count::default();
        for case in &self.cases {
            match case.verdict {
                Verdict::Passed => count.passed += 1,
                Verdict::Skipped(_) => count.skipped += 1,
                Verdict::Failed(_) => count.failed += 1,
            }
        }
        count
    }

    /// What became of a test; `None` if it was not run.
    pub(super) fn verdict(&self, test: &str) -> Option<&Verdict> {
        self.cases.iter().find(|case| case.name == test).map(|case| &case.verdict)
    }

    pub(super) fn passes(&self, test: &str) -> bool {
        self.verdict(test) == Some(&Verdict::Passed)
    }

    pub(super) fn failed(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().filter(|case| case.failed()).map(|case| case.name.as_str())
    }

    /// Prints what failed, and the figures.
    pub(super) fn print(&self) {
        for case in &self.cases {
            if let Verdict::Failed(output) = &case.verdict {
                println!("--- {} failed {}\n{}", self.subject, case.name, output.trim_end());
            }
        }
        let Count { passed, skipped, failed } = self.count();
        println!("{}: {passed} passed, {skipped} skipped, {failed} failed", self.subject);
    }

    /// Keeps it in `target/conformance`, in the place of an earlier one.
    pub(super) fn save(&self) -> Result<()> {
        let directory = directory()?;
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let file = directory.join(file(&self.suite, self.kind, self.place));
        let text = serde_json::to_string_pretty(self).context("write a record")?;
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Puts its cases in the place of those in the kept record of a whole run, if there is one of the same suite, system
    /// and subject.
    pub(super) fn amend(&self, suite: &Suite) -> Result<()> {
        let Some(mut kept) = Self::load(suite, self.kind, self.place)?.filter(|kept| kept.is_like(self))
        else {
            return Ok(());
        };
        kept.replace(&self.cases);
        for revision in &self.revisions {
            if !kept.revisions.contains(revision) {
                kept.revisions.push(revision.clone());
            }
        }
        kept.save()
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.version, &self.system, &self.subject) == (&other.version, &other.system, &other.subject)
    }

    fn replace(&mut self, cases: &[Case]) {
        for case in &mut self.cases {
            if let Some(newer) = cases.iter().find(|newer| newer.name == case.name) {
                case.verdict = newer.verdict.clone();
            }
        }
    }

    /// The kept one, else the published one, if there is any.
    pub(super) fn load(suite: &Suite, kind: Kind, place: Place) -> Result<Option<Self>> {
        let file = file(suite.name, kind, place);
        if let Some(kept) = read(&directory()?.join(&file))? {
            return Ok(Some(kept));
        }
        let published: Option<Published> = read(&public_directory()?.join(&file))?;
        Ok(published.map(|published| published.record(suite, kind, place)))
    }

    /// Puts it beside the page.
    pub(super) fn publish(&self) -> Result<()> {
        let directory = public_directory()?;
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let file = directory.join(file(&self.suite, self.kind, self.place));
        let text = serde_json::to_string_pretty(&Published::new(self)).context("write a record")?;
        fs::write(&file, text + "\n").with_context(|| format!("write {}", file.display()))
    }
}

/// A record as the page needs it: a line for each test.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    version: String,
    system: String,
    subject: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revisions: Vec<String>,
    passed: BTreeSet<String>,
    skipped: BTreeMap<String, String>,
    failed: BTreeSet<String>,
}

impl Published {
    fn new(record: &Record) -> Self {
        let Record { suite: _, version, kind: _, place: _, system, subject, revisions, cases } = record;
        let mut published = Self {
            version: version.clone(),
            system: system.clone(),
            subject: subject.clone(),
            revisions: revisions.clone(),
            passed: BTreeSet::new(),
            skipped: BTreeMap::new(),
            failed: BTreeSet::new(),
        };
        for Case { name, verdict } in cases {
            let name = name.clone();
            match verdict {
                Verdict::Passed => drop(published.passed.insert(name)),
                Verdict::Skipped(reason) => drop(published.skipped.insert(name, reason.clone())),
                Verdict::Failed(_) => drop(published.failed.insert(name)),
            }
        }
        published
    }

    fn record(self, suite: &Suite, kind: Kind, place: Place) -> Record {
        let Self { version, system, subject, revisions, passed, skipped, failed } = self;
        let passed = passed.into_iter().map(|name| (name, Verdict::Passed));
        let skipped = skipped.into_iter().map(|(name, reason)| (name, Verdict::Skipped(reason)));
        let failed = failed.into_iter().map(|name| (name, Verdict::Failed(String::new())));
        let cases = passed.chain(skipped).chain(failed).map(|(name, verdict)| Case { name, verdict });
        Record {
            suite: suite.name.to_owned(),
            version,
            kind,
            place,
            system,
            subject,
            revisions,
            cases: cases.collect(),
        }
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    let text = match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("read {}", file.display()))?,
    };
    serde_json::from_slice(&text).map(Some).with_context(|| format!("understand {}", file.display()))
}

fn file(suite: &str, kind: Kind, place: Place) -> String {
    format!("{suite}-{}-{}.json", kind.name(), place.name())
}

fn public_directory() -> Result<PathBuf> {
    Ok(workspace::root()?.join("docs/conformance/records"))
}

fn directory() -> Result<PathBuf> {
    Ok(workspace::target_directory()?.join("conformance"))
}

/// The tests that ours fails though another subject passes them, or though nobody knows whether one does, and that
/// nothing excuses.
///
/// Whoever was not asked this time is asked by the kept record.
pub(super) fn unexcused(suite: &Suite, records: Vec<Record>) -> Result<Vec<String>> {
    let (ours, mut others): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record.kind == Kind::Bulkrun);
    let mut wrong = BTreeSet::new();
    for record in &ours {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Bulkrun) {
            if !others.iter().any(|other| other.kind == kind) {
                others.extend(Record::load(suite, kind, record.place)?);
            }
        }
        for test in record.failed() {
            let is_alone = others.is_empty() || others.iter().any(|other| other.passes(test));
            if is_alone && suite.excuse(test, record.place).is_none() {
                wrong.insert(format!("{}: {test}", suite.name));
            }
        }
    }
    Ok(Vec::from_iter(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, verdict: Verdict) -> Case {
        Case { name: name.to_owned(), verdict }
    }

    fn failed() -> Verdict {
        Verdict::Failed(String::new())
    }

    fn record(cases: Vec<Case>) -> Record {
        Record {
            suite: "runc".to_owned(),
            version: "1".to_owned(),
            kind: Kind::Bulkrun,
            place: Place::Host,
            system: "Linux".to_owned(),
            subject: "bulkrun".to_owned(),
            revisions: vec!["abc".to_owned()],
            cases,
        }
    }

    #[test]
    fn what_is_published_is_the_record_without_its_output() {
        let said = Verdict::Failed("in /home/somebody: no".to_owned());
        let skipped = Verdict::Skipped("no network".to_owned());
        let record = record(vec![case("b", Verdict::Passed), case("c", skipped.clone()), case("a", said)]);
        let text = serde_json::to_string(&Published::new(&record)).unwrap();
        assert!(!text.contains("somebody"), "{text}");
        let published: Published = serde_json::from_str(&text).unwrap();
        let again = published.record(&super::super::suite::SUITES[0], Kind::Bulkrun, Place::Host);
        let cases = vec![case("b", Verdict::Passed), case("c", skipped), case("a", failed())];
        assert_eq!(again, Record { cases, ..record });
    }

    #[test]
    fn a_later_run_of_some_tests_replaces_their_verdicts() {
        let mut record = record(vec![case("a", failed()), case("b", failed()), case("c", Verdict::Passed)]);
        record.replace(&[case("a", Verdict::Passed), case("new", Verdict::Passed)]);
        assert_eq!(
            record.cases,
            [case("a", Verdict::Passed), case("b", failed()), case("c", Verdict::Passed)]
        );
        assert!(record.passes("a") && !record.passes("b"));
        let other = Record { system: "another Linux".to_owned(), ..record.clone() };
        assert!(
            record.is_like(&record) && !record.is_like(&other),
            "only of the same run is anything replaced"
        );
    }
}
