//! `cargo xtask test [--yes]`: everything that must hold before a change lands.
//!
//! Each step runs even when an earlier one failed, so that one run tells all. The last line counts tests as their
//! runners did, and a step that failed otherwise as one more: `N passed, N failed`. It names the steps that failed and
//! those that could not run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use lexopt::Parser;

use self::count::{Count, Runner};
use self::summary::{Ending, Finished};
use crate::packages::{self, Consent};
use crate::vm::Outcome;
use crate::{cache, debian, engines, heavy, images, invoke, networks, peers, vm, workspace};

mod count;
mod skips;
mod summary;

const USAGE: &str = "usage: cargo xtask test [--yes] [--no-install]";

const GUESTS: &str = "guests";

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
    /// Runs tests in guests, which leave a report.
    Guests,
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
    if let Err(error) = heavy::ensure() {
        println!("no programs of the heavy profile: {error:#}");
    }
    if let Err(error) = images::ensure() {
        println!("no registry to pull from: {error:#}");
    }
    if let Err(error) = images::ensure_python() {
        println!("no real image to run: {error:#}");
    }
    if let Err(error) = networks::ensure() {
        println!("no CNI plugins and no firewalls: {error:#}");
    }
    let guests = vm::ensure();
    if let Err(error) = &guests {
        println!("no guests to test in: {error:#}");
    }
    let mut finished = steps()?.into_iter().map(finish).collect::<Result<Vec<_>>>()?;
    finished.push(match guests {
        Ok(()) => finish(in_guests()?)?,
        Err(error) => Finished::unable(GUESTS, format!("{error:#}")),
    });
    println!();
    summary::lines(&finished).iter().for_each(|line| println!("{line}"));
    let has_failed = finished.iter().any(|step| step.ending == Ending::Failed);
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn cargo(arguments: &[&str]) -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(arguments).env(cache::VARIABLE, cache::directory()?);
    Ok(command)
}

fn steps() -> Result<Vec<Step>> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    let (runner, tests) = if invoke::in_path("cargo-nextest") {
        (Runner::Nextest, cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])?)
    } else {
        let libraries = ["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"];
        (Runner::Cargo, cargo(&libraries)?)
    };
    Ok(vec![
        Step { name: "fmt", command: cargo(&["fmt", "--all", "--", "--check"])?, kind: Kind::Check },
        Step { name: "clippy", command: cargo(&clippy)?, kind: Kind::Check },
        Step { name: "tidy", command: cargo(&["xtask", "tidy"])?, kind: Kind::Check },
        Step { name: "tests", command: tests, kind: Kind::Tests(runner) },
        Step {
            name: "examples",
            command: cargo(&["test", "--workspace", "--locked", "--doc"])?,
            kind: Kind::Examples,
        },
    ])
}

fn in_guests() -> Result<Step> {
    Ok(Step { name: GUESTS, command: cargo(&["xtask", "vm", "test", "--core"])?, kind: Kind::Guests })
}

fn finish(Step { name, mut command, kind }: Step) -> Result<Finished> {
    println!("\n=== {name}: {}", invoke::line(&command));
    let start = Instant::now();
    let mut finished = match kind {
        Kind::Check => Finished::new(name, command.status().with_context(|| format!("start {name}"))?),
        Kind::Tests(runner) => counted(name, &mut command, runner)?,
        Kind::Examples => counted(name, &mut command, Runner::Cargo)?,
        Kind::Guests => reported(name, &mut command)?,
    };
    if matches!(kind, Kind::Tests(_) | Kind::Guests) && finished.count == Count::default() {
        println!("{name}: no test ran");
        finished.ending = Ending::Failed;
    }
    if finished.count.failed > 0 {
        finished.ending = Ending::Failed;
    }
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
    let (mut count, mut skipped, mut again) = (Count::default(), Vec::new(), Vec::new());
    let mut output = std::io::stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("read the test runner's output")?;
        let text = String::from_utf8_lossy(&line);
        count += runner.count(&text);
        skipped.extend(skips::in_line(&text));
        again.extend(runner.passed_again(&text));
        output.write_all(&line)?;
        output.write_all(b"\n")?;
    }
    if runner == Runner::Nextest {
        skipped = skips::reported()?;
    }
    let status = child.wait().context("wait for the test runner")?;
    Ok(Finished { count, skipped, again, ..Finished::new(name, status) })
}

/// Runs tests in guests, and counts by their report.
fn reported(name: &'static str, command: &mut Command) -> Result<Finished> {
    vm::forget_report()?;
    let status = command.status().with_context(|| format!("start {name}"))?;
    let (mut count, mut skipped, mut again) = (Count::default(), Vec::new(), Vec::new());
    for vm::Finished { test, outcome, first_failure, .. } in vm::reported()? {
        again.extend(first_failure.map(|_| format!("{test} (in a guest)")));
        match outcome {
            Outcome::Passed => count.passed += 1,
            Outcome::Failed(_) => count.failed += 1,
            // As those that skip themselves elsewhere.
            Outcome::Skipped(reason) => {
                count.passed += 1;
                skipped.push(format!("{reason} (in a guest)"));
            }
        }
    }
    Ok(Finished { count, skipped, again, ..Finished::new(name, status) })
}
