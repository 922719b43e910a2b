//! `cargo xtask images`: a registry and the tools that make, copy and unpack images, unpacked into the cache.
//!
//! They are those of the machine's own release, with all libraries. The registry is a daemon, so nothing is installed:
//! a test starts it and ends it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use lexopt::Parser;

use crate::{apt, cache, peers};

/// The package and its program.
const PROGRAMS: &[(&str, &str)] =
    &[("docker-registry", "docker-registry"), ("skopeo", "skopeo"), ("umoci", "umoci")];

/// Prints where each program is; `--refresh` begins anew.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("refresh") => {
                let _lock = cache::lock("images")?;
                cache::remove(&cache::directory()?.join("images"))?;
            }
            other => return Err(other.unexpected()).context("usage: cargo xtask images [--refresh]"),
        }
    }
    ensure()?.iter().for_each(|program| println!("{}", program.display()));
    Ok(ExitCode::SUCCESS)
}

/// The programs; fetched when they are missing or were made otherwise. Their directory in the cache is `images`.
pub(crate) fn ensure() -> Result<Vec<PathBuf>> {
    let _lock = cache::lock("images")?;
    let own = apt::Archive::of_this_machine()?;
    let packages = Vec::from_iter(PROGRAMS.iter().map(|(package, _)| *package));
    let recipe = format!("{} {packages:?}\n", own.release);
    let directory = cache::made_by("images", &recipe, |root| {
        println!("fetching {} of {}", packages.join(", "), own.release);
        apt::unpack(&own.download(&packages)?, root)
    })
    .with_context(|| format!("fetch a registry of {}", own.release))?;
    let places = Vec::from_iter(PROGRAMS.iter().map(|(_, name)| directory.join("usr/bin").join(name)));
    // The paths are absolute, so they are set where the directory has its final name.
    places.iter().try_for_each(|place| peers::settle(&directory, place))?;
    Ok(places)
}
