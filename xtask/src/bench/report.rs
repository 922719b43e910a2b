//! The figures as Markdown, for the terminal and for docs/performance.md.

use std::path::Path;

use anyhow::Result;
use bulkhead_measure::machine;
use bulkhead_measure::stats::Experiment;

use super::experiment;
use super::start::{
    BACK_TO_BACK, CALLS, CHARGES, COUNTS, CPU, CREATE, Figures, ISOLATED, PEAK, RUN, TASKS, WALL,
};
use super::table::{self, Shown, ratio, table};
use crate::marked;

/// Begins the name of the platform that the others are compared with; the last one of that name is the newest.
const REFERENCE: &str = "crun";

/// The line of docs/performance.md after which the figures stand.
const BEGIN: &str = "<!-- begin: cargo xtask bench start --write -->";

/// The figures: title, task, quantity, and what is shown of it.
const FIGURES: &[(&str, &str, &str, Shown)] = &[
    ("isolated, min", ISOLATED, WALL, Shown::Least),
    ("median [95 %]", ISOLATED, WALL, Shown::Median),
    ("back to back, min", BACK_TO_BACK, WALL, Shown::Least),
    ("median [95 %]", BACK_TO_BACK, WALL, Shown::Median),
    ("CPU", BACK_TO_BACK, CPU, Shown::Middle(1)),
    ("peak RSS, KiB", ISOLATED, PEAK, Shown::Middle(0)),
    ("system calls", COUNTS, CALLS, Shown::Middle(0)),
    ("tasks", COUNTS, TASKS, Shown::Middle(0)),
    ("least limit to create, KiB", CHARGES, CREATE, Shown::Middle(0)),
    ("to run, KiB", CHARGES, RUN, Shown::Middle(0)),
];

/// The ratios, likewise.
const RATIOS: &[(&str, &str, &str)] =
    &[("isolated", ISOLATED, WALL), ("back to back", BACK_TO_BACK, WALL), ("CPU", BACK_TO_BACK, CPU)];

/// The machine, the tables, and what they do not say.
pub(super) fn markdown(figures: &Figures) -> String {
    let ratios = reference(figures.names()).map(|reference| ratios(figures, reference));
    let tables = std::iter::once(columns(figures)).chain(ratios).map(|rows| table(&rows));
    let machine = machine::describe(&figures.results.run.environment);
    let parts = std::iter::once(machine + "\n").chain(tables);
    let notes = notes(figures).into_iter().map(|note| note + "\n");
    Vec::from_iter(parts.chain(notes)).join("\n")
}

/// Puts `markdown` between the marks of the page.
pub(super) fn insert(page: &Path, markdown: &str) -> Result<()> {
    marked::insert(page, BEGIN, markdown)
}

impl Figures {
    fn names(&self) -> &[String] {
        &self.results.plan().platforms
    }

    fn experiment(&self, task: &str, quantity: &str) -> Experiment {
        experiment::of(&self.results, task, quantity)
    }
}

fn reference(names: &[String]) -> Option<usize> {
    names.iter().rposition(|name| name.starts_with(REFERENCE) && is_newest(name, names))
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

fn columns(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["milliseconds".to_owned()]];
    rows.extend(figures.names().iter().map(|name| vec![name.clone()]));
    for (title, task, quantity, shown) in FIGURES {
        let experiment = figures.experiment(task, quantity);
        let cells = (0..figures.names().len()).map(|platform| shown.of(&experiment.summary(platform)));
        let cells = std::iter::once((*title).to_owned()).chain(cells);
        rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
    }
    rows
}

fn ratios(figures: &Figures, reference: usize) -> Vec<Vec<String>> {
    let others = || (0..figures.names().len()).filter(move |platform| *platform != reference);
    let mut rows = vec![vec![format!("ratio to {}", figures.names()[reference])]];
    rows.extend(others().map(|platform| vec![figures.names()[platform].clone()]));
    for (title, task, quantity) in RATIOS {
        let experiment = figures.experiment(task, quantity);
        let cells = others().map(|platform| ratio(&experiment, platform, reference));
        let cells = std::iter::once((*title).to_owned()).chain(cells);
        rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
    }
    rows
}

/// What the tables do not say: blocks, failures, disturbances.
fn notes(figures: &Figures) -> Vec<String> {
    let timed = [ISOLATED, BACK_TO_BACK].map(|task| (task, figures.experiment(task, WALL)));
    let mut notes = vec![format!(
        "{} blocks isolated (100 ms apart), {} blocks of 5 runs back to back, platforms in random order in each \
         block; each run makes the container, runs `true` and removes everything.",
        timed[0].1.len(),
        timed[1].1.len()
    )];
    let platforms = figures.names().len();
    notes.extend(timed.iter().flat_map(|(title, experiment)| table::notes(title, experiment, platforms)));
    notes.extend(figures.notes.clone());
    notes
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bulkhead_measure::plan::Plan;
    use bulkhead_measure::record::{Finding, Run, Turn, VERSION};
    use bulkhead_measure::results::Results;
    use bulkhead_measure::stats::{Amount, Failure};

    use super::*;
    use crate::bench::{Blocks, start};

    fn figures() -> Figures {
        let plan = Plan {
            platforms: ["bulkrun", "crun 1.8.1", "crun 1.28"].map(str::to_owned).into(),
            tasks: start::tasks(Blocks { isolated: 8, batches: 8 }),
            seed: 1,
        };
        let environment = [("kernel".to_owned(), "6.1".to_owned())].into();
        let run = Run { version: VERSION, plan: plan.clone(), environment, platforms: Vec::new() };
        let mut results = Results::begun(run);
        for task in &plan.tasks {
            let turns = (0..task.most).flat_map(|block| {
                [5.0, 20.0, 10.0]
                    .into_iter()
                    .enumerate()
                    .map(move |(platform, value)| (block, platform, value))
            });
            for (block, platform, value) in turns {
                let is_broken = platform == 2 && block == 0;
                let outcome =
                    if is_broken { Err(Failure("exit code 1: no".to_owned())) } else { Amount::new(value) };
                let findings = task.quantities.iter().map(|known| Finding::of(&known.name, outcome.clone()));
                results.turns.push(Turn {
                    task: task.name.clone(),
                    platform: plan.platforms[platform].clone(),
                    block,
                    began: None,
                    seconds: 1.0,
                    disturbance: None,
                    noise: None,
                    findings: findings.collect(),
                });
            }
        }
        let notes = vec!["bulkrun is one static file of 1998 KiB".to_owned()];
        Figures { results, notes, directory: PathBuf::new() }
    }

    #[test]
    fn the_newest_reference_is_taken_by_its_number() {
        assert_eq!(reference(figures().names()), Some(2));
    }

    #[test]
    fn figures_ratios_and_failures_are_shown() {
        let text = markdown(&figures());
        for expected in [
            "Linux 6.1, ",
            "bulkrun",
            "5.0 [5.0 5.0]",
            "8 blocks isolated",
            "ratio to crun 1.28",
            "0.50 [0.50 0.50] faster in 7 of 8 blocks",
            "2.00 [2.00 2.00] slower",
            "crun 1.28 failed 1 of 8 isolated: exit code 1: no",
            "one static file of 1998 KiB",
        ] {
            assert!(text.contains(expected), "`{expected}` is missing in:\n{text}");
        }
        // What failed has no figure, and what was counted once has one without a point.
        let row = text.lines().find(|line| line.starts_with("| crun 1.28 ")).unwrap();
        assert!(row.ends_with("– |"), "{row}");
        assert!(text.lines().any(|line| line.starts_with("| bulkrun ") && line.ends_with(" 5 |")), "{text}");
    }
}
