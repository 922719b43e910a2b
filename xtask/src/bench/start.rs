//! The experiment: starts that are isolated, starts back to back, and what need not be timed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_measure::host;
use bulkhead_measure::interrupt;
use bulkhead_measure::machine::{self, Ours, Watchman};
use bulkhead_measure::plan::{Axis, Plan, Quantity, Task};
use bulkhead_measure::record::{self, End, Finding, Journal, Noise, Run, VERSION};
use bulkhead_measure::results::Results;
use bulkhead_measure::session::{self, Executor, Progress, Time};
use bulkhead_measure::stats::{Failure, Outcome};

use super::platform::{Contestant, Contestants};
use super::stopwatch::Stopwatch;
use super::{Arguments, Blocks, charge, trace, yardstick};
use crate::{shipped, tidy, workspace};

/// The tasks.
pub(super) const ISOLATED: &str = "isolated";
pub(super) const BACK_TO_BACK: &str = "back to back";
pub(super) const COUNTS: &str = "counts";
pub(super) const CHARGES: &str = "charges";

/// What they give.
pub(super) const WALL: &str = "wall";
pub(super) const CPU: &str = "CPU";
pub(super) const PEAK: &str = "peak RSS";
pub(super) const CALLS: &str = "system calls";
pub(super) const TASKS: &str = "tasks";
pub(super) const CREATE: &str = "least limit to create";
pub(super) const RUN: &str = "least limit to run";

/// What one turn gave, by the names of the quantities.
pub(super) type Amounts = Vec<(&'static str, Outcome)>;

/// The pause before each isolated run: long enough for the kernel's deferred work of the run before to end.
const GAP: Duration = Duration::from_millis(100);

/// Runs in a row that make one value back to back.
const BATCH: usize = 5;

/// Seeds the schedules and the intervals; any number will do.
const SEED: u64 = 20;

/// Everything that was found out.
pub(super) struct Figures {
    pub(super) results: Results,
    /// What the results do not have: what our program is made of, and who does not work here at all.
    pub(super) notes: Vec<String>,
    /// Where the journal is.
    pub(super) directory: PathBuf,
}

/// Measures, or goes on where a run of the same programs was interrupted.
pub(super) fn run(Arguments { blocks, only, .. }: &Arguments) -> Result<Figures> {
    interrupt::watch()?;
    let mut made = Contestants::make(only)?;
    let stopwatch = Stopwatch(yardstick::compile("stopwatch", made.directory())?);
    let mut notes = Vec::from_iter(made.program().map(describe).transpose()?);
    let unusable = drop_unusable(&mut made.all, &stopwatch);
    interrupt::check()?;
    ensure!(!made.all.is_empty(), "no platform works here: {}", unusable.join("; "));
    notes.extend(unusable);
    let mut bench =
        Bench { made, stopwatch, began: Instant::now(), watchman: Watchman::new(Ours::default()) };
    let run = bench.run(*blocks);
    let directory = place(only)?;
    let earlier = earlier(&directory, &run)?;
    let mut journal = Journal::open(&directory)?;
    let results = session::run(run, earlier, &mut journal, &mut bench, Time::Unlimited, &mut show)?;
    eprintln!();
    interrupt::check()?;
    Ok(Figures { results, notes, directory })
}

/// Each choice of platforms has a place of its own, so that a look at one leaves the journal of all alone.
fn place(only: &[String]) -> Result<PathBuf> {
    let words = std::iter::once("start").chain(only.iter().map(String::as_str));
    let name = Vec::from_iter(words).join("-").replace(['/', ' '], "_");
    let directory = workspace::target_directory()?.join("bench").join(name);
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory)
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

/// Runs each platform before anything counts: it warms what can be warm, and shows who cannot run here, which is who
/// fails three times. One that only fails at times stays, and its failures are reported.
fn drop_unusable(contestants: &mut Vec<Contestant>, stopwatch: &Stopwatch) -> Vec<String> {
    let mut unusable = Vec::new();
    contestants.retain(|contestant| {
        let attempt = |_| stopwatch.time(&contestant.run, 1).inspect_err(|_| contestant.clean_up()).err();
        let failures = Vec::from_iter((0..3).map_while(attempt));
        let says = |failure| format!("{} does not work here: {failure}", contestant.platform.name);
        unusable.extend(failures.get(2).map(says));
        failures.len() < 3
    });
    unusable
}

fn describe(program: &Path) -> Result<String> {
    let links = tidy::linked_by_the_privileged_program()?;
    let kib = shipped::kib(program)?;
    Ok(format!("bulkrun is one static file of {kib} KiB and links {links} crates from elsewhere."))
}

/// The tasks, so many blocks each.
pub(super) fn tasks(Blocks { isolated, batches }: Blocks) -> Vec<Task> {
    let times = || vec![Quantity::less(WALL, "ms"), Quantity::less(CPU, "ms"), Quantity::less(PEAK, "KiB")];
    let task = |name: &str, says: &str, blocks, quantities| Task {
        name: name.to_owned(),
        axis: Axis::Performance,
        says: says.to_owned(),
        pair: None,
        rate: None,
        quantities,
        least: blocks,
        most: blocks,
    };
    vec![
        task(ISOLATED, "One start after a pause.", isolated, times()),
        task(BACK_TO_BACK, "The mean of several starts in a row.", batches, times()),
        task(
            COUNTS,
            "What strace counts in one start.",
            1,
            vec![Quantity::less(CALLS, ""), Quantity::less(TASKS, "")],
        ),
        task(
            CHARGES,
            "The least limits of memory that do.",
            1,
            vec![Quantity::less(CREATE, "KiB"), Quantity::less(RUN, "KiB")],
        ),
    ]
}

struct Bench {
    made: Contestants,
    stopwatch: Stopwatch,
    began: Instant,
    watchman: Watchman,
}

impl Bench {
    fn run(&self, blocks: Blocks) -> Run {
        let platforms = Vec::from_iter(self.made.all.iter().map(|contestant| contestant.platform.measured()));
        let names = platforms.iter().map(|platform| platform.name.clone()).collect();
        let plan = Plan { platforms: names, tasks: tasks(blocks), seed: SEED };
        Run { version: VERSION, plan, environment: machine::facts(), platforms }
    }

    fn amounts(&mut self, task: &str, platform: &str) -> Result<Amounts, Failure> {
        let directory = self.made.directory().to_owned();
        let mut all = self.made.all.iter_mut();
        let contestant = all.find(|contestant| contestant.platform.name == platform);
        let contestant = contestant.ok_or_else(|| Failure(format!("{platform} is not here")))?;
        let amounts = match task {
            ISOLATED => {
                std::thread::sleep(GAP);
                self.stopwatch.time(&contestant.run, 1)
            }
            BACK_TO_BACK => self.stopwatch.time(&contestant.run, BATCH),
            COUNTS => trace::trace(contestant, &directory),
            CHARGES => charge::measure(contestant, &self.stopwatch),
            other => Err(Failure(format!("there is no task {other}"))),
        };
        amounts.inspect_err(|_| contestant.clean_up())
    }
}

impl Executor for Bench {
    fn take(&mut self, task: &Task, platform: &str, _: usize) -> Vec<Finding> {
        Finding::of_task(task, self.amounts(&task.name, platform))
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
    use super::*;

    #[test]
    fn only_an_unfinished_run_of_the_same_programs_is_gone_on_with() {
        let scratch = bulkhead_testkit::Scratch::new();
        let blocks = Blocks { isolated: 2, batches: 2 };
        let plan = Plan { platforms: Vec::new(), tasks: tasks(blocks), seed: SEED };
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
