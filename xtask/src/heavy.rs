//! `cargo xtask heavy`: the programs of `bulkhead measure --heavy`, unpacked into the cache.
//!
//! They are those of the machine's own release, with all that they depend on. Some have daemons, so they are never
//! installed. A measurement copies what it needs of them into the root of its sandboxes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bulkhead_measure::programs::{CACHED, PROGRAMS};
use lexopt::Parser;

use crate::{apt, cache};

/// What no package says that it needs: every Debian has a shell.
const SHELL: &str = "dash";

/// Prints where the tree is; `--refresh` begins anew.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("refresh") => {
                let _lock = cache::lock("heavy")?;
                cache::remove(&cache::directory()?.join(CACHED))?;
            }
            other => return Err(other.unexpected()).context("usage: cargo xtask heavy [--refresh]"),
        }
    }
    println!("{}", ensure()?.display());
    Ok(ExitCode::SUCCESS)
}

/// The tree; fetched when it is missing or was made otherwise.
pub(crate) fn ensure() -> Result<PathBuf> {
    let _lock = cache::lock("heavy")?;
    let own = apt::Archive::of_this_machine()?;
    let mut packages = Vec::from_iter(PROGRAMS.iter().flat_map(|program| program.packages.iter().copied()));
    packages.push(SHELL);
    let recipe = format!("{} {packages:?}\n", own.release);
    cache::made_by(CACHED, &recipe, |root| {
        println!("fetching {} of {}", packages.join(", "), own.release);
        apt::unpack(&own.download(&packages)?, root)
    })
    .with_context(|| format!("fetch the programs of the heavy profile of {}", own.release))
}
