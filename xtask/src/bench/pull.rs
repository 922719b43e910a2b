//! `cargo xtask bench pull`: what it costs to pull an image from a registry on this machine and to unpack it.
//!
//! The image is a Debian in several layers, served by Debian's docker-registry. All keep what they pull on the same file
//! system, in a place of its own for each turn. Nothing is removed before the end: ext4 takes no inode again that was freed a
//! minute ago, and looks at each of these whenever it makes a file, so that each pull would pay for the one before.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bulkhead_measure::claim::{self, Claim};
use bulkhead_measure::plan::{Plan, Quantity, Task};
use bulkhead_measure::record::{Run, VERSION};
use bulkhead_measure::results::Results;
use bulkhead_measure::stats::Failure;
use bulkhead_measure::{interrupt, machine};
use bulkhead_testkit::registry::{Guard, Registry};

use super::Arguments;
use super::engine::Ground;
use super::experiment::{self, Amounts, Turns, task};
use super::memory::Memory;
use super::platform::PREFIX;
use super::start::{CPU, PEAK, WALL};
use super::stopwatch::Stopwatch;
use super::table::{Shown, notes, ratio, table};
use crate::{images, marked, workspace};

mod contestant;
mod image;

use contestant::Contestant;

/// The line of docs/performance.md after which the figures stand.
const BEGIN: &str = "<!-- begin: cargo xtask bench pull --write -->";

/// The platform whose ratios to the others are shown.
const OURS: &str = "bulkhead";

const PULL: &str = "pull";

/// The pause before each turn.
const GAP: Duration = Duration::from_millis(500);

/// Seeds the schedules; any number will do.
const SEED: u64 = 22;

/// Measures and shows.
pub(super) fn run(Arguments { blocks, write, only, .. }: &Arguments) -> Result<()> {
    interrupt::watch()?;
    let place = std::env::temp_dir();
    claim::abandoned(&place, PREFIX)?.iter().try_for_each(Claim::remove)?;
    let claim = Claim::make(&place, PREFIX)?;
    let done = within(&claim, blocks.batches / 4, only);
    claim.remove()?;
    let (results, size, directory) = done?;
    let markdown = markdown(&results, size);
    println!("\n{markdown}");
    println!("raw data: {}", directory.display());
    if *write {
        marked::insert(&workspace::root()?.join("docs/performance.md"), BEGIN, &markdown)?;
    }
    Ok(())
}

fn within(claim: &Claim, blocks: usize, only: &[String]) -> Result<(Results, image::Size, PathBuf)> {
    images::ensure()?;
    let stopwatch = Stopwatch::make(claim.path(), 300)?;
    let image = image::ensure()?;
    let registry = Registry::start(&claim.path().join("registry"), &Guard::Nobody, None);
    let reference = format!("{}/bench:1", registry.host());
    image.push(&reference)?;
    let memory = Memory::make()?;
    let contestants = contestant::all(only)?;
    let platforms = Vec::from_iter(contestants.iter().map(|one| one.measured.clone()));
    let names = platforms.iter().map(|platform| platform.name.clone()).collect();
    let plan = Plan { platforms: names, tasks: tasks(blocks), seed: SEED };
    let run = Run { version: VERSION, plan, environment: machine::facts(), platforms };
    let directory = experiment::place("pull", only)?;
    let results = experiment::run(
        &directory,
        run,
        &mut Bench { contestants, stopwatch, reference, root: claim.path(), run: memory.path(), turns: 0 },
    )?;
    Ok((results, image.size, directory))
}

fn tasks(blocks: usize) -> Vec<Task> {
    let quantities = vec![Quantity::less(WALL, "ms"), Quantity::less(CPU, "ms"), Quantity::less(PEAK, "KiB")];
    vec![task(PULL, "Pull and unpack, after a pause.", blocks.max(1), quantities)]
}

struct Bench<'a> {
    contestants: Vec<Contestant>,
    stopwatch: Stopwatch,
    reference: String,
    root: &'a Path,
    run: &'a Path,
    /// How many there were.
    turns: usize,
}

impl Turns for Bench<'_> {
    fn amounts(&mut self, _: &str, platform: &str) -> Result<Amounts, Failure> {
        let one = self.contestants.iter().find(|one| one.measured.name == platform);
        let one = one.ok_or_else(|| Failure(format!("{platform} is not here")))?;
        self.turns += 1;
        let [root, run] = [self.root, self.run].map(|place| place.join(self.turns.to_string()));
        let made = || -> Result<contestant::Turn> {
            for place in [&root, &run] {
                fs::create_dir(place).with_context(|| format!("make {}", place.display()))?;
            }
            one.turn(Ground { root: &root, run: &run }, &self.reference)
        };
        let turn = made().map_err(|error| Failure(format!("{error:#}")))?;
        // What was written before is on the disk.
        rustix::fs::sync();
        std::thread::sleep(GAP);
        let amounts = self.stopwatch.time_with(&turn.environment, &turn.pull, 1)?;
        // What a client uses itself says nothing of work that a daemon does.
        Ok(amounts.into_iter().filter(|(name, _)| !one.has_daemon || *name == WALL).collect())
    }
}

/// The times, and our ratios to the others'.
fn markdown(results: &Results, size: image::Size) -> String {
    let names = &results.plan().platforms;
    let [wall, cpu, peak] = [WALL, CPU, PEAK].map(|quantity| experiment::of(results, PULL, quantity));
    let ours = names.iter().position(|name| name == OURS);
    let head = ["milliseconds", "min", "median [95 %]", "CPU", "peak RSS, KiB", "bulkhead to it"];
    let mut rows = vec![Vec::from(head.map(str::to_owned))];
    for (number, name) in names.iter().enumerate() {
        let summary = wall.summary(number);
        let ratio = ours.filter(|ours| *ours != number).map(|ours| ratio(&wall, ours, number));
        rows.push(vec![
            name.clone(),
            Shown::Least.of(&summary),
            Shown::Median.of(&summary),
            Shown::Middle(0).of(&cpu.summary(number)),
            Shown::Middle(0).of(&peak.summary(number)),
            ratio.unwrap_or("–".to_owned()),
        ]);
    }
    let mut parts = vec![machine::describe(&results.run.environment) + "\n", table(&rows)];
    let image::Size { compressed, layers } = size;
    let megabytes = compressed / 1_000_000;
    let blocks = wall.len();
    let about = format!(
        "{blocks} pulls of {layers} layers, {megabytes} MB compressed with gzip, in random order in each block."
    );
    parts.extend(std::iter::once(about).chain(notes("pulls", &wall, names.len())).map(|note| note + "\n"));
    parts.join("\n")
}

/// Words of a command line.
fn words<Word: Into<OsString>>(words: impl IntoIterator<Item = Word>) -> Vec<OsString> {
    words.into_iter().map(Into::into).collect()
}

/// A program of the cache's images.
fn tool(name: &str) -> Result<PathBuf> {
    let program =
        bulkhead_testkit::cached("images").context("find the tools of images")?.join("usr/bin").join(name);
    Ok(program)
}

#[cfg(test)]
mod tests {
    use bulkhead_measure::record::{Finding, Turn};
    use bulkhead_measure::stats::Amount;

    use super::*;

    #[test]
    fn times_memory_and_our_ratios_are_shown() {
        let names = ["bulkhead", "containerd"].map(str::to_owned);
        let plan = Plan { platforms: names.into(), tasks: tasks(6), seed: 1 };
        let environment = [("kernel".to_owned(), "6.1".to_owned())].into();
        let run = Run { version: VERSION, plan: plan.clone(), environment, platforms: Vec::new() };
        let mut results = Results::begun(run);
        for (block, (platform, value)) in
            (0..6).flat_map(|block| plan.platforms.iter().zip([200.0, 500.0]).map(move |one| (block, one)))
        {
            let quantities = if platform == OURS { &[WALL, CPU, PEAK][..] } else { &[WALL] };
            results.turns.push(Turn {
                task: PULL.to_owned(),
                platform: platform.clone(),
                block,
                began: None,
                seconds: 1.0,
                disturbance: None,
                noise: None,
                findings: quantities.iter().map(|name| Finding::of(name, Amount::new(value))).collect(),
            });
        }
        let text = markdown(&results, image::Size { compressed: 101_400_000, layers: 8 });
        let row = text.lines().find(|line| line.starts_with("| containerd ")).unwrap_or_default();
        assert!(row.contains("500.0") && row.ends_with("0.40 [0.40 0.40] faster |"), "{text}");
        assert!(text.contains("6 pulls of 8 layers, 101 MB compressed"), "{text}");
    }
}
