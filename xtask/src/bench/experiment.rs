//! What all benchmarks share: blocks of turns in random order, kept in a journal, and gone on with after an interruption.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bulkhead_measure::host;
use bulkhead_measure::interrupt;
use bulkhead_measure::machine::{Ours, Watchman};
use bulkhead_measure::plan::{Axis, Quantity, Task};
use bulkhead_measure::record::{self, End, Finding, Journal, Noise, Run};
use bulkhead_measure::results::Results;
use bulkhead_measure::session::{self, Executor, Progress, Time};
use bulkhead_measure::stats::{Experiment, Failure, Outcome};

use crate::workspace;

/// What one turn gave, by the names of the quantities. Empty for a platform that has no part in a task.
pub(super) type Amounts = Vec<(&'static str, Outcome)>;

/// What is done in one turn.
pub(super) trait Turns {
    fn amounts(&mut self, task: &str, platform: &str) -> Result<Amounts, Failure>;
}

/// Takes all turns of `run`, but for those that an interrupted run in `directory` took.
pub(super) fn run(directory: &Path, run: Run, turns: &mut dyn Turns) -> Result<Results> {
    let earlier = earlier(directory, &run)?;
    let mut journal = Journal::open(directory)?;
    let mut course = Course { turns, began: Instant::now(), watchman: Watchman::new(Ours::default()) };
    let results = session::run(run, earlier, &mut journal, &mut course, Time::Unlimited, &mut show)?;
    eprintln!();
    interrupt::check()?;
    Ok(results)
}

/// Each choice of platforms has a place of its own, so that a look at one leaves the journal of all alone.
pub(super) fn place(benchmark: &str, only: &[String]) -> Result<PathBuf> {
    let words = std::iter::once(benchmark).chain(only.iter().map(String::as_str));
    let name = Vec::from_iter(words).join("-").replace(['/', ' '], "_");
    let directory = workspace::target_directory()?.join("bench").join(name);
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory)
}

/// A task with so many blocks.
pub(super) fn task(name: &str, says: &str, blocks: usize, quantities: Vec<Quantity>) -> Task {
    Task {
        name: name.to_owned(),
        axis: Axis::Performance,
        says: says.to_owned(),
        pair: None,
        rate: None,
        quantities,
        least: blocks,
        most: blocks,
    }
}

/// What was measured of one quantity; nothing where there is no such.
pub(super) fn of(results: &Results, task: &str, quantity: &str) -> Experiment {
    let task = results.plan().task(task);
    let found =
        task.and_then(|task| Some((task, task.quantities.iter().find(|known| known.name == quantity)?)));
    let none = || Experiment::new(results.plan().platforms.clone());
    found.map_or_else(none, |(task, quantity)| results.experiment(task, quantity))
}

/// What is gone on with. A journal that is complete, or of other programs or another machine, makes room.
fn earlier(directory: &Path, run: &Run) -> Result<Option<Results>> {
    let earlier = Results::of(record::read(directory)?)
        .filter(|earlier| earlier.end != Some(End::Complete) && run.differs_from(&earlier.run).is_none());
    match &earlier {
        Some(earlier) => eprintln!("going on after {} turns", earlier.turns.len()),
        None => {
            let journal = directory.join(Journal::NAME);
            if journal.exists() {
                std::fs::remove_file(&journal).with_context(|| format!("remove {}", journal.display()))?;
            }
        }
    }
    Ok(earlier)
}

fn show(progress: &Progress<'_>) {
    let line = format!("block {}: {}, {}", progress.block + 1, progress.task, progress.platform);
    eprint!("\r{line:<60}");
}

struct Course<'t> {
    turns: &'t mut dyn Turns,
    began: Instant,
    watchman: Watchman,
}

impl Executor for Course<'_> {
    fn take(&mut self, task: &Task, platform: &str, _: usize) -> Vec<Finding> {
        Finding::of_task(task, self.turns.amounts(&task.name, platform))
    }

    fn noise(&mut self) -> Option<Noise> {
        self.watchman.noise(Ours::default())
    }

    fn clock(&self) -> u64 {
        host::clock()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn is_interrupted(&self) -> bool {
        interrupt::check().is_err()
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_measure::machine;
    use bulkhead_measure::plan::Plan;
    use bulkhead_measure::record::VERSION;

    use super::*;

    #[test]
    fn only_an_unfinished_run_of_the_same_programs_is_gone_on_with() {
        let scratch = bulkhead_testkit::Scratch::new();
        let tasks = vec![task("one", "Something.", 2, vec![Quantity::less("wall", "ms")])];
        let plan = Plan { platforms: Vec::new(), tasks, seed: 1 };
        let environment = machine::facts();
        let run = Run { version: VERSION, plan, environment, platforms: Vec::new() };
        let elsewhere = Run { environment: [].into(), ..run.clone() };
        let begun = |run: &Run, ends: &[End]| {
            let mut journal = Journal::open(scratch.path()).unwrap();
            journal.add(&record::Line::Run(run.clone())).unwrap();
            ends.iter().for_each(|end| journal.add(&record::Line::End(*end)).unwrap());
        };
        for (begun_by, ends, goes_on) in [
            (&run, &[][..], true),
            (&run, &[End::Interrupted], true),
            (&run, &[End::Complete], false),
            (&elsewhere, &[End::Interrupted], false),
        ] {
            begun(begun_by, ends);
            assert_eq!(earlier(scratch.path(), &run).unwrap().is_some(), goes_on, "after {ends:?}");
            assert_eq!(scratch.path().join(Journal::NAME).exists(), goes_on);
        }
    }
}
