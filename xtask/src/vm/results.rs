//! One report of all guests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::job::{Outcome, Test};
use crate::workspace;

/// Where the report of the last run is.
pub(super) fn file() -> Result<PathBuf> {
    Ok(workspace::target_directory()?.join("vm/report.json"))
}

/// Reads what became of each test on each machine.
pub(super) fn read(file: &Path) -> Result<Vec<Finished>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let report: Report =
        serde_json::from_str(&text).with_context(|| format!("understand {}", file.display()))?;
    Ok(report.machines.into_iter().flat_map(|machine| machine.tests).collect())
}

/// What became of a test on one machine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(super) seconds: f64,
    /// What it printed when it failed for the first time, if it passed for the second.
    pub(crate) first_failure: Option<String>,
}

impl Finished {
    pub(super) fn new(test: &Test, outcome: Outcome, took: Duration) -> Self {
        Self { test: test.full_name(), outcome, seconds: took.as_secs_f64(), first_failure: None }
    }
}

impl Test {
    /// Package, target and name.
    pub(super) fn full_name(&self) -> String {
        format!("{}::{}", self.target, self.name)
    }
}

/// What became of all tests on all machines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    machines: Vec<OnMachine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OnMachine {
    machine: String,
    /// From the first boot to the last test's end.
    seconds: f64,
    tests: Vec<Finished>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    skipped: usize,
    failed: usize,
}

impl Report {
    pub(super) fn add(&mut self, machine: String, took: Duration, tests: Vec<Finished>) {
        self.machines.push(OnMachine { machine, seconds: took.as_secs_f64(), tests });
    }

    /// Prints what failed and why, what was skipped and why, and a line of figures for each machine.
    pub(super) fn print(&self) {
        let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
        for (test, failures) in self.failures() {
            for (machines, output) in failures {
                println!("\n--- {test} failed on {machines}\n{}", output.trim_end());
            }
        }
        for test in self.tests() {
            if let Outcome::Skipped(reason) = &test.outcome {
                *skipped.entry(reason).or_default() += 1;
            }
        }
        println!();
        skipped.iter().for_each(|(reason, count)| println!("skipped {count:4}  {reason}"));
        for OnMachine { machine, seconds, tests } in &self.machines {
            let Count { passed, skipped, failed } = count(tests);
            let again = Vec::from_iter(tests.iter().filter(|test| test.first_failure.is_some()));
            let minutes = seconds / 60.0;
            println!(
                "{machine}: {passed} passed, {skipped} skipped, {failed} failed in {minutes:.1} minutes"
            );
            again.iter().for_each(|test| println!("  {} passed only when run once more", test.test));
        }
        let failed = self.failures();
        if !failed.is_empty() {
            println!("failed: {}", Vec::from_iter(failed.keys().copied()).join(", "));
        }
    }

    /// Writes all of it, for programs.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("write the report")?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
        println!("every outcome: {}", file.display());
        Ok(())
    }

    pub(super) fn code(&self) -> ExitCode {
        if self.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn tests(&self) -> impl Iterator<Item = &Finished> {
        self.machines.iter().flat_map(|machine| &machine.tests)
    }

    /// For each test that failed the machines and the output there; equal outputs are told once.
    fn failures(&self) -> BTreeMap<&str, Vec<(String, &str)>> {
        let mut failures: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
        for OnMachine { machine, seconds: _, tests } in &self.machines {
            for Finished { test, outcome, .. } in tests {
                let Outcome::Failed(output) = outcome else { continue };
                let told = failures.entry(test).or_default();
                match told.iter_mut().find(|(_, other)| other == output) {
                    Some((machines, _)) => *machines = format!("{machines}, {machine}"),
                    None => told.push((machine.clone(), output)),
                }
            }
        }
        failures
    }
}

fn count(tests: &[Finished]) -> Count {
    let mut count = Count::default();
    for test in tests {
        match test.outcome {
            Outcome::Passed => count.passed += 1,
            Outcome::Skipped(_) => count.skipped += 1,
            Outcome::Failed(_) => count.failed += 1,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_written_is_read_again() {
        let scratch = bulkhead_testkit::Scratch::new();
        let file = scratch.path().join("report.json");
        let test = Test {
            program: "/t/x".into(),
            directory: "/w/x".into(),
            target: "x::y".into(),
            name: "z".into(),
        };
        let all = [Outcome::Passed, Outcome::Skipped("needs x".into()), Outcome::Failed("no".into())];
        let mut report = Report::default();
        for (machine, outcome) in ["one", "one", "two"].iter().zip(all.clone()) {
            let tests = vec![Finished::new(&test, outcome, Duration::ZERO)];
            report.add((*machine).to_owned(), Duration::ZERO, tests);
        }
        report.write(&file).unwrap();
        let read = Vec::from_iter(read(&file).unwrap().into_iter().map(|test| test.outcome));
        assert_eq!(read, all);
    }
}
