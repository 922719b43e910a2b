//! The experiment: starts that are isolated, starts back to back, and what need not be timed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead_measure::interrupt;
use bulkhead_measure::machine;
use bulkhead_measure::plan::{Plan, Quantity, Task};
use bulkhead_measure::record::{Run, VERSION};
use bulkhead_measure::results::Results;
use bulkhead_measure::stats::Failure;

use super::experiment::{self, Amounts, Turns, task};
use super::platform::{Contestant, Contestants};
use super::stopwatch::Stopwatch;
use super::{Arguments, Blocks, charge, report, trace};
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

/// Measures, or goes on where a run of the same programs was interrupted, and shows.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let figures = measure(arguments)?;
    let markdown = report::markdown(&figures);
    println!("\n{markdown}");
    println!("raw data: {}", figures.directory.display());
    if arguments.write {
        let page = workspace::root()?.join("docs/performance.md");
        report::insert(&page, &markdown)?;
        println!("written to {}", page.display());
    }
    Ok(())
}

fn measure(Arguments { blocks, only, .. }: &Arguments) -> Result<Figures> {
    interrupt::watch()?;
    let mut made = Contestants::make(only)?;
    let stopwatch = Stopwatch::make(made.directory(), 10)?;
    let mut notes = Vec::from_iter(made.program().map(describe).transpose()?);
    let unusable = drop_unusable(&mut made.all, &stopwatch);
    interrupt::check()?;
    ensure!(!made.all.is_empty(), "no platform works here: {}", unusable.join("; "));
    notes.extend(unusable);
    let mut bench = Bench { made, stopwatch };
    let run = bench.run(*blocks);
    let directory = experiment::place("start", only)?;
    let results = experiment::run(&directory, run, &mut bench)?;
    Ok(Figures { results, notes, directory })
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
}

impl Bench {
    fn run(&self, blocks: Blocks) -> Run {
        let platforms = Vec::from_iter(self.made.all.iter().map(|contestant| contestant.platform.measured()));
        let names = platforms.iter().map(|platform| platform.name.clone()).collect();
        let plan = Plan { platforms: names, tasks: tasks(blocks), seed: SEED };
        Run { version: VERSION, plan, environment: machine::facts(), platforms }
    }
}

impl Turns for Bench {
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
