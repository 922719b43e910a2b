//! The findings as a table for the terminal and as Markdown for docs/performance.md.

use std::path::Path;

use anyhow::Result;
use bulkhead_measure::stats::{Comparison, Experiment, Summary};

use super::start::{Findings, Series};
use crate::marked;

/// Begins the name of the platform that the others are compared with; the last one of that name is the newest.
const REFERENCE: &str = "crun";

/// The line of docs/performance.md after which the figures stand.
const BEGIN: &str = "<!-- begin: cargo xtask bench start --write -->";

const HEADER: &[&str] = &[
    "milliseconds",
    "isolated, min",
    "median [95 %]",
    "back to back, min",
    "median [95 %]",
    "CPU",
    "peak RSS, KiB",
    "system calls",
    "tasks",
    "least limit to create, KiB",
    "to run, KiB",
];

const RATIO_HEADER: &[&str] = &["isolated", "back to back", "CPU"];

/// The table for the terminal.
pub(super) fn table(findings: &Findings) -> String {
    let mut text = format!("{}\n\n{}", findings.machine, aligned(&figures(findings)));
    if let Some(reference) = reference(findings) {
        text.push('\n');
        text.push_str(&aligned(&ratios(findings, reference)));
    }
    for note in notes(findings) {
        text.push_str(&format!("\n{note}"));
    }
    text
}

/// The same as Markdown.
pub(super) fn markdown(findings: &Findings) -> String {
    let mut text = format!("{}\n\n{}", findings.machine, piped(&figures(findings)));
    if let Some(reference) = reference(findings) {
        text.push('\n');
        text.push_str(&piped(&ratios(findings, reference)));
    }
    for note in notes(findings) {
        text.push_str(&format!("\n{note}\n"));
    }
    text
}

/// Puts `markdown` between the marks of the page.
pub(super) fn insert(page: &Path, markdown: &str) -> Result<()> {
    marked::insert(page, BEGIN, markdown)
}

fn reference(findings: &Findings) -> Option<usize> {
    findings.names.iter().rposition(|name| name.starts_with(REFERENCE) && is_newest(name, &findings.names))
}

/// True when no other name of the same program has a higher version.
fn is_newest(name: &str, names: &[String]) -> bool {
    let version = |name: &str| {
        let number = name.split(' ').next_back().unwrap_or_default().to_owned();
        Vec::from_iter(number.split('.').map(|part| part.parse::<u32>().unwrap_or(0)))
    };
    let program = name.split(' ').next();
    names
        .iter()
        .filter(|other| other.split(' ').next() == program)
        .all(|other| version(other) <= version(name))
}

fn figures(findings: &Findings) -> Vec<Vec<String>> {
    let mut rows = vec![HEADER.iter().map(|title| (*title).to_owned()).collect()];
    for (index, name) in findings.names.iter().enumerate() {
        let Findings { isolated, batches, traces, charges, .. } = findings;
        let mut row = vec![name.clone()];
        row.extend(timing(&isolated.wall.summary(index)));
        row.extend(timing(&batches.wall.summary(index)));
        row.push(middle(&batches.cpu, index, 1));
        row.push(middle(&isolated.peak, index, 0));
        let trace = traces.get(index).copied().flatten();
        row.push(optional(trace.map(|trace| trace.calls)));
        row.push(optional(trace.map(|trace| trace.tasks)));
        let charge = charges.get(index);
        row.push(optional(charge.and_then(|charge| charge.set_up_kib)));
        row.push(optional(charge.and_then(|charge| charge.start_kib)));
        rows.push(row);
    }
    rows
}

fn ratios(findings: &Findings, reference: usize) -> Vec<Vec<String>> {
    let title = format!("ratio to {}", findings.names[reference]);
    let header = std::iter::once(title).chain(RATIO_HEADER.iter().map(|title| (*title).to_owned()));
    let mut rows = vec![header.collect()];
    let Findings { isolated: Series { wall, .. }, batches, .. } = findings;
    for (index, name) in findings.names.iter().enumerate().filter(|(index, _)| *index != reference) {
        let experiments = [wall, &batches.wall, &batches.cpu];
        let cells = experiments.map(|experiment| match experiment.compare(index, reference) {
            Some(comparison) => {
                let Comparison { ratio, pairs, verdict } = comparison;
                let mut cell =
                    format!("{:.2} [{:.2} {:.2}] {verdict}", ratio.estimate, ratio.low, ratio.high);
                if pairs < experiment.len() {
                    cell.push_str(&format!(" in {pairs} of {} blocks", experiment.len()));
                }
                cell
            }
            None => "–".to_owned(),
        });
        rows.push(std::iter::once(name.clone()).chain(cells).collect());
    }
    rows
}

fn timing(summary: &Summary) -> [String; 2] {
    let least = summary.least.map(|least| format!("{:.1}", least.value()));
    let median =
        summary.median.map(|median| format!("{:.1} [{:.1} {:.1}]", median.estimate, median.low, median.high));
    [optional(least), optional(median)]
}

fn middle(experiment: &Experiment, index: usize, digits: usize) -> String {
    optional(experiment.summary(index).median.map(|median| format!("{:.digits$}", median.estimate)))
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or("–".to_owned(), |value| value.to_string())
}

/// What the tables do not say: blocks, failures, disturbances.
fn notes(findings: &Findings) -> Vec<String> {
    let Findings { names, isolated, batches, unusable, .. } = findings;
    let mut notes = vec![format!(
        "{} blocks isolated (100 ms apart), {} blocks of 5 runs back to back, platforms in random order in each \
         block; each run makes the container, runs `true` and removes everything.",
        isolated.wall.len(),
        batches.wall.len()
    )];
    for (title, series) in [("isolated", isolated), ("back to back", batches)] {
        let summaries = Vec::from_iter((0..names.len()).map(|index| series.wall.summary(index)));
        for summary in summaries.iter().filter(|summary| !summary.failures.is_empty()) {
            let Summary { name, failures, measured, .. } = summary;
            notes.push(format!(
                "{name} failed {} of {} {title}: {}",
                failures.len(),
                measured + failures.len(),
                failures[0]
            ));
        }
        if let Some(disturbed) =
            summaries.iter().map(|summary| summary.disturbed).max().filter(|count| *count > 0)
        {
            notes.push(format!(
                "{disturbed} blocks {title} were disturbed by other virtual machines; they count."
            ));
        }
    }
    notes.extend(findings.program.clone());
    notes.extend(unusable.iter().map(|(name, failure)| format!("{name} does not work here: {failure}")));
    notes
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = Vec::from_iter((0..columns).map(width));
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(Vec::from_iter(cells).join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn piped(rows: &[Vec<String>]) -> String {
    let line = |row: &[String]| format!("| {} |\n", row.join(" | "));
    let Some((header, rest)) = rows.split_first() else { return String::new() };
    let rule = format!("|---|{}\n", "---:|".repeat(header.len().saturating_sub(1)));
    std::iter::once(line(header)).chain([rule]).chain(rest.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_measure::stats::{Amount, Failure};

    use super::*;
    use crate::bench::charge::Charge;
    use crate::bench::trace::Trace;

    fn series(blocks: usize) -> Series {
        let mut series = Series { wall: names_only(), cpu: names_only(), peak: names_only() };
        for number in 0..blocks {
            for experiment in [&mut series.wall, &mut series.cpu, &mut series.peak] {
                let mut block = experiment.block();
                block.record(0, Amount::new(5.0));
                block.record(1, Amount::new(20.0));
                let broken = number == 0;
                block.record(
                    2,
                    if broken { Err(Failure("exit code 1: no".to_owned())) } else { Amount::new(10.0) },
                );
            }
        }
        series
    }

    fn names_only() -> Experiment {
        Experiment::new(["bulkrun", "crun 1.8.1", "crun 1.28"], 1)
    }

    fn findings() -> Findings {
        Findings {
            machine: "Linux 6.1.".to_owned(),
            names: names_only().names().to_vec(),
            isolated: series(8),
            batches: series(8),
            traces: vec![Some(Trace { calls: 400, tasks: 2 }), None, None],
            charges: vec![Charge { set_up_kib: Some(180), start_kib: Some(208) }; 3],
            program: Some("bulkrun is one static file of 1998 KiB".to_owned()),
            unusable: vec![("youki 0.7".to_owned(), Failure("killed by signal 9: no complaint".to_owned()))],
        }
    }

    #[test]
    fn the_newest_reference_is_taken_by_its_number() {
        assert_eq!(reference(&findings()), Some(2));
    }

    #[test]
    fn figures_ratios_and_failures_are_shown() {
        let text = table(&findings());
        for expected in [
            "bulkrun",
            "5.0 [5.0 5.0]",
            "400",
            "180",
            "ratio to crun 1.28",
            "0.50 [0.50 0.50] faster in 7 of 8 blocks",
            "2.00 [2.00 2.00] slower",
            "crun 1.28 failed 1 of 8 isolated: exit code 1: no",
            "one static file of 1998 KiB",
            "youki 0.7 does not work here: killed by signal 9",
        ] {
            assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
        }
    }

    #[test]
    fn markdown_has_a_rule_below_the_header() {
        let text = piped(&[vec!["a".to_owned(), "b".to_owned()], vec!["1".to_owned(), "2".to_owned()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| 1 | 2 |\n");
    }
}
