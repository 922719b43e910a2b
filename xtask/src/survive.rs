//! `cargo xtask survive`: commands of the engine, and monitors, are killed at a hundred moments of their lives each.
//!
//! What is promised, and how it is looked at, is in `crates/cli/tests/engine/survive/moments.rs`, of which the tests take a
//! sample.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use lexopt::Parser;

use crate::value::number;
use crate::{cache, images, invoke, workspace};

const USAGE: &str = "usage: cargo xtask survive [--moments N] [FILTER]";

/// The packages of the programs that are killed, and of what they start.
const PROGRAMS: [&str; 3] = ["bulkhead-cli", "bulkhead-shim", "bulkhead-runtime"];

/// How many moments of each command.
const MOMENTS: u32 = 100;

/// Runs the tests with more moments.
pub(crate) fn run(parser: Parser) -> Result<ExitCode> {
    let Arguments { moments, filter } = parse(parser)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "containers are made and processes traced, which needs root"
    );
    if let Err(error) = images::ensure() {
        println!("no registry to pull from: {error:#}");
    }
    // Cargo builds for tests what belongs to their own package alone.
    let mut build = workspace::cargo()?;
    build.args(["build", "--quiet", "--locked", "--bins"]);
    build.args(PROGRAMS.iter().flat_map(|package| ["--package", package]));
    succeeds(&mut build)?;
    let tests = format!("survive::moments::{filter}");
    let engine = || -> Result<Command> {
        let mut command = workspace::cargo()?;
        command.args(["test", "--package", "bulkhead-cli", "--locked", "--test", "engine", "--"]).arg(&tests);
        Ok(command)
    };
    // The runner is content with a filter that nothing passes.
    let listed = invoke::text(engine()?.arg("--list"))?;
    ensure!(listed.contains(": test"), "no test begins with {tests}");
    let mut test = engine()?;
    test.args(["--nocapture", "--test-threads=2"]);
    test.env("BULKHEAD_MOMENTS", moments.to_string()).env(cache::VARIABLE, cache::directory()?);
    succeeds(&mut test)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that says itself what is wrong.
fn succeeds(command: &mut Command) -> Result<()> {
    let line = invoke::line(command);
    let status = command.status().with_context(|| format!("start {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    moments: u32,
    /// The beginning of a test's name.
    filter: String,
}

fn parse(mut parser: Parser) -> Result<Arguments> {
    let mut arguments = Arguments { moments: MOMENTS, filter: String::new() };
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("moments") => {
                arguments.moments = number(&mut parser)?;
                ensure!(arguments.moments > 0, "--moments 0 would try nothing");
            }
            lexopt::Arg::Value(filter) if arguments.filter.is_empty() => {
                arguments.filter = filter.to_string_lossy().into_owned();
            }
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_a_filter_are_understood() {
        let typed = |words: &[&str]| parse(Parser::from_args(words));
        let all = typed(&[]).unwrap();
        assert_eq!(all, Arguments { moments: 100, filter: String::new() });
        let some = typed(&["--moments", "7", "stop"]).unwrap();
        assert_eq!(some, Arguments { moments: 7, filter: "stop".to_owned() });
        assert!(typed(&["--moments", "0"]).is_err());
        assert!(format!("{:#}", typed(&["--often"]).unwrap_err()).contains("usage: "));
    }
}
