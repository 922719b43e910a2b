//! `cargo xtask bench start`: what it costs to start a container and to remove it again.
//!
//! Every platform runs the same docker-like bundle, once in each block, in an order drawn anew for each block.
//! A run counts only if it ended with code 0. All of it happens in one private mount namespace, so that every
//! platform finds the same hierarchies, see [`cgroups::settle`]. Blocks, journal and statistics are those of
//! `bulkhead measure`; what is special here is what is run and how it is timed and counted.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_measure::cgroups;
use lexopt::Parser;

use crate::cache;

mod charge;
mod platform;
mod report;
mod start;
mod stopwatch;
mod trace;
mod yardstick;

const USAGE: &str = "usage: cargo xtask bench start [--quick] [--blocks N] [--only NAME]… [--write]";

/// Blocks of isolated runs, and of batches back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocks {
    isolated: usize,
    batches: usize,
}

/// What was typed after `bench start`.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
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
    let figures = start::run(&arguments)?;
    let markdown = report::markdown(&figures);
    println!("\n{markdown}");
    println!("raw data: {}", figures.directory.display());
    if arguments.write {
        let page: PathBuf = crate::workspace::root()?.join("docs/performance.md");
        report::insert(&page, &markdown)?;
        println!("written to {}", page.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(mut parser: Parser) -> Result<Arguments> {
    match parser.next()? {
        Some(lexopt::Arg::Value(word)) if word == "start" => {}
        Some(option @ (lexopt::Arg::Long(_) | lexopt::Arg::Short(_))) => {
            return Err(option.unexpected()).context(USAGE);
        }
        _ => bail!("{USAGE}"),
    }
    let mut arguments =
        Arguments { blocks: Blocks { isolated: 60, batches: 40 }, only: Vec::new(), write: false };
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
        assert!(parse(&["start", "--blocks", "many"]).is_err());
        assert!(parse(&["stop"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
