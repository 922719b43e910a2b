//! `cargo xtask test [--yes]`: everything that must hold before a change lands.
//!
//! Each step runs even when an earlier one failed, so that one run tells all. The last line counts tests as
//! their runners did: `N passed, N failed`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lexopt::Parser;

use self::count::{Count, Runner};
use crate::packages::{self, Consent};
use crate::{cache, debian, engines, invoke, peers, vm, workspace};

mod count;
mod skips;

const USAGE: &str = "usage: cargo xtask test [--yes] [--no-install]";

/// One thing that must succeed.
struct Step {
    name: &'static str,
    command: Command,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Succeeds or not.
    Check,
    /// Runs tests and says how many; to have run none is a failure.
    Tests(Runner),
    /// Runs the examples of the documentation, of which there may be none.
    Examples,
}

/// What became of a step.
struct Finished {
    name: &'static str,
    took: Duration,
    count: Count,
    /// Why tests skipped themselves, one entry a test; they count as passed.
    skipped: Vec<String>,
    succeeded: bool,
}

/// Gets what tests need, then runs every step.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    let mut consent = Some(Consent::Ask);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("yes") | lexopt::Arg::Short('y') => consent = Some(Consent::Given),
            lexopt::Arg::Long("no-install") => consent = None,
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    packages::ensure_components()?;
    if let Some(consent) = consent {
        packages::ensure(consent)?;
    }
    let _lock = cache::lock("test")?;
    // Tests that want these skip themselves without them.
    if let Err(error) = peers::all() {
        println!("no peers to compare with: {error:#}");
    }
    if let Err(error) = peers::ensure_criu() {
        println!("no CRIU for checkpoints: {error:#}");
    }
    if let Err(error) = debian::ensure() {
        println!("no Debian to run in containers: {error:#}");
    }
    if let Err(error) = engines::ensure() {
        println!("no engines to run over bulkrun: {error:#}");
    }
    let guests = vm::ensure();
    if let Err(error) = &guests {
        println!("no guests to test in: {error:#}");
    }
    let finished = steps(guests.is_ok())?.into_iter().map(finish).collect::<Result<Vec<_>>>()?;
    Ok(summarise(&finished))
}

fn steps(with_guests: bool) -> Result<Vec<Step>> {
    let cargo = |arguments: &[&str]| -> Result<Command> {
        let mut command = workspace::cargo()?;
        command.args(arguments).env(cache::VARIABLE, cache::directory()?);
        Ok(command)
    };
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    let (runner, tests) = if invoke::in_path("cargo-nextest") {
        (Runner::Nextest, cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])?)
    } else {
        let libraries = ["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"];
        (Runner::Cargo, cargo(&libraries)?)
    };
    let mut steps = vec![
        Step { name: "fmt", command: cargo(&["fmt", "--all", "--", "--check"])?, kind: Kind::Check },
        Step { name: "clippy", command: cargo(&clippy)?, kind: Kind::Check },
        Step { name: "tidy", command: cargo(&["xtask", "tidy"])?, kind: Kind::Check },
        Step { name: "tests", command: tests, kind: Kind::Tests(runner) },
        Step {
            name: "examples",
            command: cargo(&["test", "--workspace", "--locked", "--doc"])?,
            kind: Kind::Examples,
        },
    ];
    if with_guests {
        // What it counts is not in the total, which cargo's and nextest's own lines support.
        let command = cargo(&["xtask", "vm", "test", "--core"])?;
        steps.push(Step { name: "guests", command, kind: Kind::Check });
    }
    Ok(steps)
}

fn finish(Step { name, mut command, kind }: Step) -> Result<Finished> {
    println!("\n=== {name}: {}", invoke::line(&command));
    let start = Instant::now();
    let mut finished = match kind {
        Kind::Check => Finished {
            succeeded: command.status().with_context(|| format!("start {name}"))?.success(),
            ..Finished::named(name)
        },
        Kind::Tests(runner) => counted(name, &mut command, runner)?,
        Kind::Examples => counted(name, &mut command, Runner::Cargo)?,
    };
    if matches!(kind, Kind::Tests(_)) && finished.count == Count::default() {
        println!("{name}: no test ran");
        finished.succeeded = false;
    }
    finished.succeeded &= finished.count.failed == 0;
    finished.took = start.elapsed();
    Ok(finished)
}

/// Runs a test runner, shows what it prints and counts by its closing lines. cargo test closes on its standard
/// output and nextest on its standard error, so both go through one pipe.
fn counted(name: &'static str, command: &mut Command, runner: Runner) -> Result<Finished> {
    skips::forget_report()?;
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let mut child = command
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("share a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("start {}", invoke::line(command)))?;
    // The command itself still holds the pipe's ends for writing; reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut finished = Finished::named(name);
    let mut output = std::io::stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("read the test runner's output")?;
        let text = String::from_utf8_lossy(&line);
        finished.count += runner.count(&text);
        finished.skipped.extend(skips::in_line(&text));
        output.write_all(&line)?;
        output.write_all(b"\n")?;
    }
    if runner == Runner::Nextest {
        finished.skipped = skips::reported()?;
    }
    finished.succeeded = child.wait().context("wait for the test runner")?.success();
    Ok(finished)
}

impl Finished {
    fn named(name: &'static str) -> Self {
        Self { name, took: Duration::ZERO, count: Count::default(), skipped: Vec::new(), succeeded: false }
    }
}

fn summarise(finished: &[Finished]) -> ExitCode {
    println!();
    let mut total = Count::default();
    let mut skipped = Vec::new();
    for Finished { name, took, count, skipped: reasons, succeeded } in finished {
        let verdict = if *succeeded { "ok" } else { "FAILED" };
        println!("{name:10} {:7.1} s  {verdict}", took.as_secs_f64());
        total += *count;
        skipped.extend(reasons);
    }
    if !skipped.is_empty() {
        println!("{} of the tests that passed skipped themselves:", skipped.len());
        skips::grouped(&skipped).iter().for_each(|(reason, count)| println!("{count:6}  {reason}"));
    }
    let failed = Vec::from_iter(finished.iter().filter(|step| !step.succeeded).map(|step| step.name));
    if !failed.is_empty() {
        println!("failed steps: {}", failed.join(", "));
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
