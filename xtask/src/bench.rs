//! `cargo xtask bench`: what it costs to start a container and to remove it again (`start`), and what an engine makes of
//! that (`engine`); what it costs to pull an image (`pull`), and what a published port carries (`network`).
//!
//! Every platform has one turn in each block, in an order drawn anew for each block.
//! A run counts only if it ended with code 0. All of it happens in one private mount namespace, so that every
//! platform finds the same hierarchies, see [`cgroups::settle`]. Blocks, journal and statistics are those of
//! `bulkhead measure`; what is special here is what is run and how it is timed and counted.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_measure::cgroups;
use lexopt::Parser;

use crate::cache;

mod charge;
mod engine;
mod experiment;
mod memory;
mod network;
mod platform;
mod pull;
mod report;
mod start;
mod stopwatch;
mod table;
mod trace;
mod yardstick;

const USAGE: &str =
    "usage: cargo xtask bench start|engine|pull|network [--quick] [--blocks N] [--only NAME]… [--write]";

/// Blocks of isolated runs, and of batches back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocks {
    isolated: usize,
    batches: usize,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Start,
    Engine,
    Pull,
    Network,
}

/// What was typed after `bench`.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    what: What,
    blocks: Blocks,
    /// Platforms whose name contains one of these; all when empty.
    only: Vec<String>,
    /// Put the result into docs/performance.md.
    write: bool,
}

/// Measures in a private mount namespace.
pub(crate) fn run(parser: Parser) -> Result<ExitCode> {
    let arguments = parse(parser)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "the benchmark makes containers with limits, which needs root"
    );
    // Two at once would measure each other.
    let _lock = cache::lock("bench")?;
    cgroups::settle()?;
    match arguments.what {
        What::Start => start::run(&arguments)?,
        What::Engine => engine::run(&arguments)?,
        What::Pull => pull::run(&arguments)?,
        What::Network => network::run(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
fn parse(mut parser: Parser) -> Result<Arguments> {
    let what = match parser.next()? {
        Some(lexopt::Arg::Value(word)) if word == "start" => What::Start,
        Some(lexopt::Arg::Value(word)) if word == "engine" => What::Engine,
        Some(lexopt::Arg::Value(word)) if word == "pull" => What::Pull,
        Some(lexopt::Arg::Value(word)) if word == "network" => What::Network,
        Some(option @ (lexopt::Arg::Long(_) | lexopt::Arg::Short(_))) => {
            return Err(option.unexpected()).context(USAGE);
        }
        _ => bail!("{USAGE}"),
    };
    let mut arguments =
        Arguments { what, blocks: Blocks { isolated: 60, batches: 40 }, only: Vec::new(), write: false };
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("quick") => arguments.blocks = Blocks { isolated: 12, batches: 8 },
            lexopt::Arg::Long("blocks") => {
                let isolated = crate::value::number(&mut parser)?;
                arguments.blocks = Blocks { isolated, batches: isolated };
            }
            lexopt::Arg::Long("only") => arguments.only.push(parser.value()?.to_string_lossy().into_owned()),
            lexopt::Arg::Long("write") => arguments.write = true,
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let parse = |words: &[&str]| parse(Parser::from_args(words));
        let quick = parse(&["start", "--quick", "--only", "crun"]).unwrap();
        assert_eq!((quick.blocks.isolated, quick.only), (12, vec!["crun".to_owned()]));
        assert_eq!(parse(&["start", "--blocks=7"]).unwrap().blocks, Blocks { isolated: 7, batches: 7 });
        let whats = ["start", "engine", "pull", "network"].map(|word| parse(&[word]).unwrap().what);
        assert_eq!(whats, [What::Start, What::Engine, What::Pull, What::Network]);
        assert!(parse(&["start", "--blocks", "many"]).is_err());
        assert!(parse(&["stop"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
