//! `cargo xtask test [--yes]`: everything that must hold before a change lands.
//!
//! Each step runs even when an earlier one failed, so that one run tells all. The last line counts tests as
//! their runners did: `N passed, N failed`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lexopt::Parser;

use self::count::Count;
use crate::packages::{self, Consent};
use crate::{cache, invoke, peers, workspace};

mod count;

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
    Tests,
    /// Runs tests, of which there may be none.
    MaybeTests,
}

/// What became of a step.
struct Finished {
    name: &'static str,
    took: Duration,
    count: Count,
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
    if let Err(error) = peers::all() {
        println!("no peers to compare with: {error:#}");
    }
    let finished = steps()?.into_iter().map(finish).collect::<Result<Vec<_>>>()?;
    Ok(summarise(&finished))
}

fn steps() -> Result<Vec<Step>> {
    let cargo = |arguments: &[&str]| -> Result<Command> {
        let mut command = workspace::cargo()?;
        command.args(arguments).env(cache::VARIABLE, cache::directory()?);
        Ok(command)
    };
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    let runner = if invoke::in_path("cargo-nextest") {
        cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])?
    } else {
        cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"])?
    };
    Ok(vec![
        Step { name: "fmt", command: cargo(&["fmt", "--all", "--", "--check"])?, kind: Kind::Check },
        Step { name: "clippy", command: cargo(&clippy)?, kind: Kind::Check },
        Step { name: "tidy", command: cargo(&["xtask", "tidy"])?, kind: Kind::Check },
        Step { name: "tests", command: runner, kind: Kind::Tests },
        Step {
            name: "examples",
            command: cargo(&["test", "--workspace", "--locked", "--doc"])?,
            kind: Kind::MaybeTests,
        },
    ])
}

fn finish(Step { name, mut command, kind }: Step) -> Result<Finished> {
    println!("\n=== {name}: {}", invoke::line(&command));
    let start = Instant::now();
    let (succeeded, count) = match kind {
        Kind::Check => {
            (command.status().with_context(|| format!("start {name}"))?.success(), Count::default())
        }
        Kind::Tests | Kind::MaybeTests => counted(&mut command)?,
    };
    let ran_none = kind == Kind::Tests && count == Count::default();
    if ran_none {
        println!("{name}: no test ran");
    }
    let succeeded = succeeded && count.failed == 0 && !ran_none;
    Ok(Finished { name, took: start.elapsed(), count, succeeded })
}

/// Runs a test runner, shows what it prints and counts by its closing lines. cargo test closes on its standard
/// output and nextest on its standard error, so both go through one pipe.
fn counted(command: &mut Command) -> Result<(bool, Count)> {
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
    let mut count = Count::default();
    let mut output = std::io::stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("read the test runner's output")?;
        count += count::in_line(&String::from_utf8_lossy(&line));
        output.write_all(&line)?;
        output.write_all(b"\n")?;
    }
    Ok((child.wait().context("wait for the test runner")?.success(), count))
}

fn summarise(finished: &[Finished]) -> ExitCode {
    println!();
    let mut total = Count::default();
    for Finished { name, took, count, succeeded } in finished {
        let verdict = if *succeeded { "ok" } else { "FAILED" };
        println!("{name:10} {:7.1} s  {verdict}", took.as_secs_f64());
        total += *count;
    }
    let failed = Vec::from_iter(finished.iter().filter(|step| !step.succeeded).map(|step| step.name));
    if !failed.is_empty() {
        println!("failed steps: {}", failed.join(", "));
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
