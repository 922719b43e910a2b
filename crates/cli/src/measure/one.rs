//! `bulkhead measure one`: one task on one platform, for a first look.

use std::process::ExitCode;

use bulkhead_measure::error::Error;
use bulkhead_measure::host::{self, Host};
use bulkhead_measure::interrupt;
use bulkhead_measure::plan::{Axis, HEAVY, Quantity, Size, Task};
use bulkhead_measure::platform::find;
use bulkhead_measure::record::{Finding, Footprint};
use bulkhead_measure::report;
use bulkhead_measure::session::Executor as _;
use bulkhead_measure::stats::{Estimate, Experiment, FEWEST_PAIRS, Summary, certainty};

use super::run::rounded;
use super::{Format, OneOptions};
use crate::output::table;

pub(super) fn run(options: &OneOptions) -> Result<ExitCode, Error> {
    let mut task = task(&options.task)?;
    let platforms = find::chosen(std::slice::from_ref(&options.platform))?;
    let name = platforms.first().map_or(String::new(), |platform| platform.name.clone());
    let workload = super::workload(options.workload.as_ref())?;
    let mut experiments = Vec::from_iter(task.quantities.iter().map(|_| Experiment::new([name.clone()])));
    let mut host = Host::make(platforms, &workload, super::guard_program().as_deref())?;
    if task.name.starts_with(HEAVY) {
        host.bring(None)?;
    }
    host.pace(&mut task);
    let mut other = Vec::new();
    for block in 0..options.blocks.get() {
        let findings = host.take(&task, &name, block);
        if interrupt::check().is_err() {
            break;
        }
        if options.format == Format::Json {
            findings.iter().for_each(print);
        }
        other.extend(findings.iter().filter_map(told));
        for (quantity, experiment) in task.quantities.iter().zip(&mut experiments) {
            if let Some(outcome) = findings.iter().find_map(|finding| finding.outcome(&quantity.name)) {
                experiment.block().record(0, outcome);
            }
        }
    }
    drop(host);
    let worked = !other.is_empty() || experiments.iter().any(|experiment| experiment.summary(0).measured > 0);
    // What was measured before an interruption counts.
    if options.format == Format::Table && (worked || interrupt::check().is_ok()) {
        println!("{name}: {}\n", task.says);
        // Attempts and footprints are no numbers with intervals; those of every block stand below each other.
        if !task.quantities.is_empty() {
            print!("{}", table::aligned(&rows(&task.quantities, &experiments)));
        }
        if !other.is_empty() {
            println!();
            print!("{}", table::aligned(&other));
        }
    }
    interrupt::check()?;
    Ok(if worked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The task of this name, of any axis that can be measured.
fn task(name: &str) -> Result<Task, Error> {
    let tasks = Axis::ALL.into_iter().flat_map(|axis| host::tasks(axis, Size::Full));
    let tasks = Vec::from_iter(tasks.chain(host::heavy_tasks()));
    let found = |wanted: &str| tasks.iter().find(|task| task.name == wanted).cloned();
    found(name).or_else(|| found(&format!("work {name}"))).ok_or_else(|| {
        // Pairs are named after what is in them, and are too many for a sentence.
        let single = tasks.iter().filter(|task| task.pair.is_none());
        let names = Vec::from_iter(single.map(|task| task.name.as_str()));
        let pair = tasks.iter().find(|task| task.pair.is_some());
        let pairs = pair.map(|pair| format!("; and pairs such as {:?}", pair.name)).unwrap_or_default();
        Error::Unusable(format!("there is no task {name}; there are {}{pairs}", names.join("; ")))
    })
}

/// What is found besides numbers: attempts with what their witness saw, and footprints.
fn told(finding: &Finding) -> Option<Vec<String>> {
    match finding {
        Finding::Verdict { probe, verdict, evidence } => {
            Some(vec![probe.clone(), report::verdict(*verdict).to_owned(), evidence.clone()])
        }
        Finding::Footprint(Footprint { part, level, counts, lost, .. }) => {
            let often: u64 = counts.values().sum();
            let lost = if *lost > 0 { format!(", {lost} events lost") } else { String::new() };
            Some(vec![
                part.clone(),
                format!("{} {}", counts.len(), report::things(*level)),
                format!("entered {often} times{lost}"),
            ])
        }
        _ => None,
    }
}

/// `3.1 to 3.4 (95 %)`; of few it is their range, which is less sure.
fn interval(median: &Estimate, measured: usize) -> String {
    let Some(certainty) = certainty(measured) else { return "–".to_owned() };
    let range = if measured < FEWEST_PAIRS { format!("range of {measured}, ") } else { String::new() };
    let (low, high) = (rounded(median.low), rounded(median.high));
    format!("{low} to {high} ({range}{:.0} %)", certainty * 100.0)
}

fn print(finding: &Finding) {
    if let Ok(line) = serde_json::to_string(finding) {
        println!("{line}");
    }
}

fn rows(quantities: &[Quantity], experiments: &[Experiment]) -> Vec<Vec<String>> {
    let mut rows = vec![["", "median", "interval", "least", "times"].map(str::to_owned).to_vec()];
    for (quantity, experiment) in quantities.iter().zip(experiments) {
        let Summary { measured, failures, least, median, .. } = experiment.summary(0);
        let title = format!("{} {}", quantity.name, quantity.unit).trim_end().to_owned();
        let median = median.map_or(["–".to_owned(), "–".to_owned()], |median| {
            [rounded(median.estimate), interval(&median, measured)]
        });
        let least = least.map_or("–".to_owned(), |least| rounded(least.value()));
        let mut row = vec![title];
        row.extend(median);
        row.extend([least, measured.to_string()]);
        row.extend(failures.first().map(|reason| format!("{} failed: {reason}", failures.len())));
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_says_how_sure_it_is() {
        let median = Estimate { estimate: 3.0, low: 2.0, high: 4.0 };
        for (measured, expected) in [
            (1, "–"),
            (2, "2.00 to 4.00 (range of 2, 50 %)"),
            (5, "2.00 to 4.00 (range of 5, 94 %)"),
            (6, "2.00 to 4.00 (95 %)"),
        ] {
            assert_eq!(interval(&median, measured), expected);
        }
    }
}
