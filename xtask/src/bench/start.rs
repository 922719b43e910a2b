//! The experiment: isolated starts, then starts back to back, then what need not be timed.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_measure::interrupt;
use bulkhead_measure::machine::{self, CpuTime};
use bulkhead_measure::stats::{Amount, Experiment, Failure, Schedule};
use serde::Serialize;

use super::charge::{self, Charge};
use super::platform::{Platform, Platforms};
use super::stopwatch::{Sample, Stopwatch};
use super::trace::{self, Trace};
use super::{Blocks, report, yardstick};
use crate::{shipped, tidy, workspace};

/// The pause before each isolated run: long enough for the kernel's deferred work of the run before to end.
const GAP: Duration = Duration::from_millis(100);

/// Runs in a row that make one value back to back.
const BATCH: usize = 5;

/// Seeds the schedules and the intervals; any number will do.
const SEED: u64 = 20;

/// The result, ready to print.
pub(super) struct Lines {
    pub(super) table: String,
    pub(super) markdown: String,
    pub(super) samples: PathBuf,
}

/// One way to measure, all platforms.
pub(super) struct Series {
    pub(super) wall: Experiment,
    pub(super) cpu: Experiment,
    pub(super) peak: Experiment,
}

/// Everything that was found out.
pub(super) struct Findings {
    pub(super) machine: String,
    pub(super) names: Vec<String>,
    pub(super) isolated: Series,
    pub(super) batches: Series,
    pub(super) traces: Vec<Option<Trace>>,
    pub(super) charges: Vec<Charge>,
    /// What our program is made of, if it took part.
    pub(super) program: Option<String>,
    /// Platforms that do not work here at all, and why.
    pub(super) unusable: Vec<(String, Failure)>,
}

/// How the runs of a series follow each other.
#[derive(Clone, Copy)]
enum Mode {
    Isolated,
    BackToBack,
}

/// A line of the file of raw samples.
#[derive(Serialize)]
struct Record<'a> {
    mode: &'a str,
    block: usize,
    platform: &'a str,
    #[serde(flatten)]
    sample: Option<Sample>,
    failure: Option<&'a str>,
}

pub(super) fn run(blocks: Blocks, only: &[String]) -> Result<Lines> {
    let machine = machine::describe();
    interrupt::watch()?;
    let mut made = Platforms::make(only)?;
    let stopwatch = Stopwatch(yardstick::compile("stopwatch", made.directory())?);
    let unusable = drop_unusable(&mut made.platforms, &stopwatch);
    interrupt::check()?;
    ensure!(!made.platforms.is_empty(), "no platform works here: {}", describe(&unusable));
    let samples = workspace::target_directory()?.join("bench/start.jsonl");
    std::fs::create_dir_all(workspace::target_directory()?.join("bench")).context("make target/bench")?;
    let file = File::create(&samples).with_context(|| format!("write {}", samples.display()))?;
    let mut bench = Bench { platforms: &made.platforms, stopwatch: &stopwatch, file: BufWriter::new(file) };
    let isolated = bench.series(Mode::Isolated, blocks.isolated)?;
    let batches = bench.series(Mode::BackToBack, blocks.batches)?;
    bench.file.flush().context("write the raw samples")?;
    eprintln!("counting system calls and memory charges");
    let findings = Findings {
        machine,
        names: made.platforms.iter().map(|platform| platform.name.clone()).collect(),
        isolated,
        batches,
        traces: of_each(&made.platforms, |platform| trace::trace(platform, made.directory()))?,
        charges: of_each(&made.platforms, |platform| charge::measure(platform, &stopwatch))?,
        program: made.program().map(describe_program).transpose()?,
        unusable,
    };
    Ok(Lines { table: report::table(&findings), markdown: report::markdown(&findings), samples })
}

/// Asks `what` of every platform, unless it is interrupted.
fn of_each<T>(platforms: &[Platform], what: impl Fn(&Platform) -> T) -> Result<Vec<T>> {
    let answers = platforms.iter().map(|platform| {
        let answer = what(platform);
        interrupt::check().map(|()| answer)
    });
    Ok(answers.collect::<Result<_, _>>()?)
}

/// Runs each platform before anything counts: it warms what can be warm, and shows who cannot run here. One that
/// only fails at times stays, and its failures are reported.
fn drop_unusable(platforms: &mut Vec<Platform>, stopwatch: &Stopwatch) -> Vec<(String, Failure)> {
    let mut unusable = Vec::new();
    platforms.retain(|platform| match attempt(platform, stopwatch) {
        Ok(()) => true,
        Err(failure) => {
            unusable.push((platform.name.clone(), failure));
            false
        }
    });
    unusable
}

/// Fails when none of three runs succeeds, with the last one's reason.
fn attempt(platform: &Platform, stopwatch: &Stopwatch) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for _ in 0..3 {
        outcome = stopwatch.time(&platform.run, 1).map(|_| ());
        if outcome.is_ok() {
            break;
        }
        platform.clean_up();
    }
    outcome
}

fn describe_program(program: &Path) -> Result<String> {
    let links = tidy::linked_by_the_privileged_program()?;
    let kib = shipped::kib(program)?;
    Ok(format!("bulkrun is one static file of {kib} KiB and links {links} crates from elsewhere."))
}

fn describe(unusable: &[(String, Failure)]) -> String {
    Vec::from_iter(unusable.iter().map(|(name, failure)| format!("{name}: {failure}"))).join("; ")
}

struct Bench<'a> {
    platforms: &'a [Platform],
    stopwatch: &'a Stopwatch,
    file: BufWriter<File>,
}

impl Bench<'_> {
    fn series(&mut self, mode: Mode, blocks: usize) -> Result<Series> {
        let names = || self.platforms.iter().map(|platform| platform.name.clone());
        let mut series = Series {
            wall: Experiment::new(names(), SEED),
            cpu: Experiment::new(names(), SEED),
            peak: Experiment::new(names(), SEED),
        };
        for (number, order) in Schedule::new(self.platforms.len(), SEED).take(blocks).enumerate() {
            eprint!("\r{}: block {} of {blocks} ", mode.name(), number + 1);
            self.block(mode, number, &order, &mut series)?;
        }
        eprintln!();
        Ok(series)
    }

    fn block(&mut self, mode: Mode, number: usize, order: &[usize], series: &mut Series) -> Result<()> {
        let before = CpuTime::now();
        let (mut wall, mut cpu, mut peak) = (series.wall.block(), series.cpu.block(), series.peak.block());
        for &index in order {
            let platform = &self.platforms[index];
            let outcome = self.stopwatch_run(mode, platform);
            interrupt::check()?;
            let record = Record {
                mode: mode.name(),
                block: number,
                platform: &platform.name,
                sample: outcome.as_ref().ok().copied(),
                failure: outcome.as_ref().err().map(|failure| failure.0.as_str()),
            };
            serde_json::to_writer(&mut self.file, &record).context("write a raw sample")?;
            self.file.write_all(b"\n").context("write a raw sample")?;
            let amount =
                |part: fn(&Sample) -> f64| outcome.clone().and_then(|sample| Amount::new(part(&sample)));
            wall.record(index, amount(|sample| sample.wall_ms));
            cpu.record(index, amount(|sample| sample.cpu_ms));
            peak.record(index, amount(|sample| sample.peak_kib));
        }
        let disturbance = before.zip(CpuTime::now()).and_then(|(before, after)| after.disturbance(before));
        if let Some(disturbance) = disturbance {
            [wall, cpu, peak].iter_mut().for_each(|block| block.disturb(&*disturbance));
        }
        Ok(())
    }

    fn stopwatch_run(&self, mode: Mode, platform: &Platform) -> Result<Sample, Failure> {
        let repeats = match mode {
            Mode::Isolated => {
                std::thread::sleep(GAP);
                1
            }
            Mode::BackToBack => BATCH,
        };
        let outcome = self.stopwatch.time(&platform.run, repeats);
        if outcome.is_err() {
            platform.clean_up();
        }
        outcome
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::BackToBack => "back to back",
        }
    }
}
