//! `cargo xtask engines`: podman, docker and containerd, which tests run over `bulkrun`, unpacked into the cache.
//!
//! They come twice, as the machine's own release has them and as the newest suite of the same archive has them, each
//! with all that they depend on. They are never installed, since installing them would start daemons and change the
//! machine's firewall. A test lays the tree of a suite over `/usr` and `/etc` in a mount namespace of its own, so
//! that every program finds its files where it looks for them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use lexopt::{Parser, ValueExt as _};

use crate::{apt, cache, invoke, vm};

/// The engines and what they call, as packages of each suite.
const PACKAGES: &[&str] = &[
    "aardvark-dns",
    "catatonit",
    "conmon",
    "containerd",
    "containernetworking-plugins",
    "docker.io",
    "fuse-overlayfs",
    "iptables",
    "netavark",
    "nftables",
    "podman",
    "slirp4netns",
    "tini",
];

/// In the newest suite docker's client is a package of its own, and podman's network of ordinary users another.
const PACKAGES_OF_NEWEST: &[&str] = &["docker-cli", "passt"];

/// What is one directory since /usr was merged, and two in older packages.
const MERGED: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// What the scripts of packages would link.
pub(crate) const ALTERNATIVES: &[(&str, &str)] = &[
    ("iptables", "xtables-nft-multi"),
    ("iptables-save", "xtables-nft-multi"),
    ("iptables-restore", "xtables-nft-multi"),
    ("ip6tables", "xtables-nft-multi"),
    ("ip6tables-save", "xtables-nft-multi"),
    ("ip6tables-restore", "xtables-nft-multi"),
];

const USAGE: &str = "\
usage: cargo xtask engines [--refresh]
       cargo xtask engines --on systemd|bare [--kernel release|newest] [FILTER]…";

/// Prints where each suite's engines are, `--refresh` begins anew; or runs their tests in a guest.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    let (mut kernel, mut init, mut filters) = ("release".to_owned(), None, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("refresh") => {
                let _lock = cache::lock("engines")?;
                cache::remove(&cache::directory()?.join("engines"))?;
            }
            lexopt::Arg::Long("on") => init = Some(parser.value()?.string()?),
            lexopt::Arg::Long("kernel") => kernel = parser.value()?.string()?,
            lexopt::Arg::Value(filter) if init.is_some() => filters.push(filter.string()?),
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    let suites = ensure()?;
    match init {
        Some(init) => vm::engines(&kernel, &init, &filters),
        None => {
            suites.iter().for_each(|suite| println!("{}", suite.display()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The tree of each suite; fetched when it is missing or was made otherwise.
///
/// Their names in the cache are `engines/release` and `engines/newest`.
pub(crate) fn ensure() -> Result<Vec<PathBuf>> {
    let _lock = cache::lock("engines")?;
    let own = apt::Archive::of_this_machine()?;
    let newest = own.newest();
    let also = [PACKAGES, PACKAGES_OF_NEWEST].concat();
    [("release", &own, PACKAGES), ("newest", &newest, &also)]
        .into_iter()
        .map(|(name, archive, packages)| suite(name, archive, packages))
        .collect()
}

fn suite(name: &str, archive: &apt::Archive, packages: &[&str]) -> Result<PathBuf> {
    let release = &archive.release;
    let recipe = format!("{release} {packages:?} {ALTERNATIVES:?}\n");
    cache::made_by(&format!("engines/{name}"), &recipe, |root| {
        println!("fetching podman, docker and containerd of {release}");
        apt::unpack(&archive.download(packages)?, root)?;
        merge(root)?;
        link(root)
    })
    .with_context(|| format!("fetch the engines of {release}"))
}

/// Makes `root` a tree in which `/bin` is `/usr/bin`, whichever of both a package knows.
pub(crate) fn merge(root: &Path) -> Result<()> {
    for name in MERGED {
        let (old, new) = (root.join(name), root.join("usr").join(name));
        if old.is_dir() && !old.is_symlink() {
            fs::create_dir_all(&new).with_context(|| format!("make {}", new.display()))?;
            invoke::quietly(Command::new("cp").arg("--archive").arg(old.join(".")).arg(&new))?;
            cache::remove(&old)?;
        }
    }
    Ok(())
}

/// Links what the scripts of packages would link.
pub(crate) fn link(root: &Path) -> Result<()> {
    for (name, program) in ALTERNATIVES {
        let place = root.join("usr/sbin").join(name);
        if !place.exists() {
            symlink(program, &place).with_context(|| format!("link {}", place.display()))?;
        }
    }
    Ok(())
}
