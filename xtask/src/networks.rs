//! `cargo xtask networks`: CNI plugins, firewalls, and programs that carry an ordinary user's packets, which tests run, unpacked into
//! the cache.
//!
//! They come twice, as the machine's own release has them and as the newest suite of the same archive has them, each with all
//! that they depend on. They are never installed: a firewall would close the machine. A test lays the tree of a suite over `/usr` and
//! `/etc` in a mount namespace of its own, and runs what is in it in network namespaces of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use lexopt::Parser;

use crate::{apt, cache, engines};

const PACKAGES: &[&str] = &[
    "containernetworking-plugins",
    "dbus",
    "firewalld",
    "iproute2",
    "iptables",
    "nftables",
    "passt",
    "slirp4netns",
    "ufw",
];

/// Prints where each suite's are; `--refresh` begins anew.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("refresh") => {
                let _lock = cache::lock("networks")?;
                cache::remove(&cache::directory()?.join("networks"))?;
            }
            other => return Err(other.unexpected()).context("usage: cargo xtask networks [--refresh]"),
        }
    }
    ensure()?.iter().for_each(|suite| println!("{}", suite.display()));
    Ok(ExitCode::SUCCESS)
}

/// The tree of each suite; fetched when it is missing or was made otherwise.
///
/// Their names in the cache are `networks/release` and `networks/newest`.
pub(crate) fn ensure() -> Result<Vec<PathBuf>> {
    let _lock = cache::lock("networks")?;
    let own = apt::Archive::of_this_machine()?;
    let newest = own.newest();
    [("release", &own), ("newest", &newest)].into_iter().map(|(name, archive)| suite(name, archive)).collect()
}

fn suite(name: &str, archive: &apt::Archive) -> Result<PathBuf> {
    let release = &archive.release;
    let recipe = format!("{release} {PACKAGES:?} {:?}\n", engines::ALTERNATIVES);
    cache::made_by(&format!("networks/{name}"), &recipe, |root| {
        println!("fetching CNI plugins and firewalls of {release}");
        apt::unpack(&archive.download(PACKAGES)?, root)?;
        engines::merge(root)?;
        engines::link(root)
    })
    .with_context(|| format!("fetch CNI plugins and firewalls of {release}"))
}
