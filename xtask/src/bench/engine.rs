//! `cargo xtask bench engine`: what it costs to run containers of an image, beside podman and docker.
//!
//! All have the same image and storage of their own below one directory; no network, but where that is what is measured. The bare runtime takes part, too:
//! what the engine adds to it is the engine's price.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bulkhead_measure::machine;
use bulkhead_measure::plan::{Plan, Quantity, Task};
use bulkhead_measure::record::{Run, VERSION};
use bulkhead_measure::results::Results;
use bulkhead_measure::stats::Failure;
use bulkhead_measure::{interrupt, stats::Amount};
use bulkhead_testkit::network;

use super::Arguments;
use super::experiment::{self, Amounts, Turns, task};
use super::memory::Memory;
use super::platform::Contestants;
use super::start::WALL;
use super::stopwatch::Stopwatch;
use super::table::{Shown, notes, ratio, table};
use crate::{marked, workspace};

mod contestant;
mod daemon;

pub(super) use contestant::{
    Contestant, Ground, IMAGE, Podman, bulkhead, docker, docker_with_proxy, engines, ours, podman,
};
pub(super) use daemon::Daemon;

/// The line of docs/performance.md after which the figures stand.
const BEGIN: &str = "<!-- begin: cargo xtask bench engine --write -->";

/// The platform whose ratios to the others are shown.
const OURS: &str = "bulkhead";

/// The runtime by itself.
const BARE: &str = "bulkrun";

const RUN: &str = "run";
const NETWORK: &str = "network";
const EXEC: &str = "exec";
const HUNDRED: &str = "detached";

/// The pause before what is timed alone: long enough for the kernel's deferred work of the turn before to end.
const GAP: Duration = Duration::from_millis(100);

/// How many containers are started in the background, one after the other.
const MANY: usize = 100;

/// Seeds the schedules; any number will do.
const SEED: u64 = 21;

/// The container in which `exec` starts programs.
const SEAT: &str = "seat";

/// What those in the background are known by.
const LABEL: &str = "bench=many";

/// Measures and shows.
pub(super) fn run(Arguments { blocks, write, only, .. }: &Arguments) -> Result<()> {
    interrupt::watch()?;
    // Bridges and rules of all go with it.
    network::isolate();
    let memory = Memory::make()?;
    let mut made = Contestants::make_in_memory(&[BARE.to_owned()], &memory)?;
    let bare = made.all.pop().context("bulkrun takes no part")?;
    let stopwatch = Stopwatch::make(made.directory(), 60)?;
    let (engines, daemon) = engines(&made, memory.path(), only)?;
    let mut bench = Bench { bare: bare.run.clone(), engines, stopwatch, seated: BTreeSet::new() };
    let platforms = std::iter::once(bare.platform.measured());
    let platforms = Vec::from_iter(platforms.chain(bench.engines.iter().map(|one| one.measured.clone())));
    let names = platforms.iter().map(|platform| platform.name.clone()).collect();
    let plan = Plan { platforms: names, tasks: tasks(blocks.isolated, blocks.batches / 8), seed: SEED };
    let run = Run { version: VERSION, plan, environment: machine::facts(), platforms };
    let directory = experiment::place("engine", only)?;
    let results = experiment::run(&directory, run, &mut bench);
    bench.engines.iter().for_each(Contestant::clear);
    drop(daemon);
    let markdown = markdown(&results?);
    println!("\n{markdown}");
    println!("raw data: {}", directory.display());
    if *write {
        marked::insert(&workspace::root()?.join("docs/performance.md"), BEGIN, &markdown)?;
    }
    Ok(())
}

fn tasks(blocks: usize, rounds: usize) -> Vec<Task> {
    let wall = || vec![Quantity::less(WALL, "ms")];
    vec![
        task(RUN, "`run --rm IMAGE true`, after a pause.", blocks, wall()),
        task(NETWORK, "`run --rm IMAGE true` on the default bridge, after a pause.", blocks, wall()),
        task(EXEC, "`exec CONTAINER true`, after a pause.", blocks, wall()),
        task(HUNDRED, "`run --detach` a hundred times in a row, the mean.", rounds.max(1), wall()),
    ]
}

struct Bench {
    /// The bare runtime's command.
    bare: Vec<OsString>,
    engines: Vec<Contestant>,
    stopwatch: Stopwatch,
    /// The engines in which the container for `exec` runs.
    seated: BTreeSet<String>,
}

impl Turns for Bench {
    fn amounts(&mut self, task: &str, platform: &str) -> Result<Amounts, Failure> {
        let engine = self.engines.iter().find(|engine| engine.measured.name == platform);
        let Some(engine) = engine else {
            // A runtime has neither images nor a background of its own.
            return if task == RUN { self.isolated(&[], &self.bare) } else { Ok(Amounts::new()) };
        };
        match task {
            RUN => {
                let words = ["run", "--rm", "--network", "none", IMAGE, "true"];
                self.isolated(&engine.environment, &engine.words(&words))
            }
            NETWORK => {
                let words = ["run", "--rm", IMAGE, "true"];
                self.isolated(&engine.environment, &engine.words(&words))
            }
            EXEC => {
                if !self.seated.contains(platform) {
                    let sleep = ["run", "--detach", "--name", SEAT, "--network", "none", IMAGE];
                    engine.call(&[&sleep[..], contestant::SLEEP].concat())?;
                    self.seated.insert(platform.to_owned());
                }
                self.isolated(&engine.environment, &engine.words(&["exec", SEAT, "true"]))
            }
            _ => {
                let sleep = ["run", "--detach", "--label", LABEL, "--network", "none", IMAGE];
                let words = engine.words(&[&sleep[..], contestant::SLEEP].concat());
                let amounts = self.stopwatch.time_with(&engine.environment, &words, MANY);
                engine.remove(LABEL);
                amounts.map(wall)
            }
        }
    }
}

impl Bench {
    fn isolated(&self, environment: &[(&str, OsString)], words: &[OsString]) -> Result<Amounts, Failure> {
        std::thread::sleep(GAP);
        self.stopwatch.time_with(environment, words, 1).map(wall)
    }
}

/// What a client uses itself says nothing of an engine with a daemon.
fn wall(amounts: Amounts) -> Amounts {
    amounts.into_iter().filter(|(name, _): &(&str, Result<Amount, Failure>)| *name == WALL).collect()
}

/// The times, and our ratios to the others'.
fn markdown(results: &Results) -> String {
    let names = &results.plan().platforms;
    let experiments = [RUN, NETWORK, EXEC, HUNDRED].map(|task| experiment::of(results, task, WALL));
    let mut rows = vec![Vec::from(
        ["milliseconds", "`run --rm`, min", "median [95 %]", "on a bridge", "`exec`", "each of 100 `run -d`"]
            .map(str::to_owned),
    )];
    for (number, name) in names.iter().enumerate() {
        let summaries = experiments.each_ref().map(|experiment| experiment.summary(number));
        let mut row = vec![name.clone(), Shown::Least.of(&summaries[0])];
        row.extend(summaries.iter().map(|summary| Shown::Median.of(summary)));
        rows.push(row);
    }
    let mut parts = vec![machine::describe(&results.run.environment) + "\n", table(&rows)];
    if let Some(ours) = names.iter().position(|name| name == OURS) {
        let mut rows = vec![Vec::from(
            [&format!("{OURS} to"), "`run --rm`", "on a bridge", "`exec`", "100 `run -d`"].map(str::to_owned),
        )];
        for (number, name) in names.iter().enumerate().filter(|(number, _)| *number != ours) {
            let mut row = vec![name.clone()];
            row.extend(experiments.iter().map(|experiment| ratio(experiment, ours, number)));
            rows.push(row);
        }
        parts.push(table(&rows));
    }
    let titles = ["`run --rm`", "on a bridge", "`exec`", "of 100 `run -d`"];
    let all = titles.iter().zip(&experiments);
    let said = all.flat_map(|(title, experiment)| notes(title, experiment, names.len()));
    let blocks = format!(
        "{} blocks of `run --rm` without a network, {} on the default bridge, {} of `exec`, each after 100 ms of quiet, {} of \
         100 containers, in random order in each block.",
        experiments[0].len(),
        experiments[1].len(),
        experiments[2].len(),
        experiments[3].len()
    );
    parts.extend(std::iter::once(blocks).chain(said).map(|note| note + "\n"));
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use bulkhead_measure::record::{Finding, Turn};

    use super::*;

    #[test]
    fn our_ratio_to_each_is_shown() {
        let names = ["bulkrun", "bulkhead", "docker"].map(str::to_owned);
        let plan = Plan { platforms: names.into(), tasks: tasks(8, 8), seed: 1 };
        let environment = [("kernel".to_owned(), "6.1".to_owned())].into();
        let run = Run { version: VERSION, plan: plan.clone(), environment, platforms: Vec::new() };
        let mut results = Results::begun(run);
        for (task, block, (platform, value)) in plan.tasks.iter().flat_map(|task| {
            let platforms = plan.platforms.iter().zip([8.0, 16.0, 320.0]);
            (0..8).flat_map(move |block| platforms.clone().map(move |one| (task, block, one)))
        }) {
            let has_part = task.name == RUN || platform != BARE;
            let findings = has_part.then(|| Finding::of(WALL, Amount::new(value)));
            results.turns.push(Turn {
                task: task.name.clone(),
                platform: platform.clone(),
                block,
                began: None,
                seconds: 1.0,
                disturbance: None,
                noise: None,
                findings: findings.into_iter().collect(),
            });
        }
        let text = markdown(&results);
        let row =
            |begin: &str| text.lines().rfind(|line| line.starts_with(begin)).unwrap_or_default().to_owned();
        assert!(row("| docker ").contains("0.05 [0.05 0.05] faster"), "{text}");
        assert!(row("| bulkrun ").contains("2.00 [2.00 2.00] slower |"), "{text}");
        assert!(row("| bulkrun ").ends_with("– |"), "a runtime has no part in what engines do\n{text}");
        assert!(text.contains("8 blocks of `run --rm`"), "{text}");
    }
}
