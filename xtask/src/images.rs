//! `cargo xtask images`: a registry, the tools that make, copy and unpack images, and a real image, in the cache.
//!
//! The programs are those of the machine's own release, with all libraries. The registry is a daemon, so nothing is
//! installed: a test starts it and ends it. The image is Python on Alpine, as docker's library has it, with a layer of
//! somebody's on top; it lies in a package of PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use lexopt::Parser;

use crate::{apt, cache, invoke, peers};

/// The package with the image, as pip's file of requirements has it, and what pip is told to take it on any x86-64.
const WHEEL: &str =
    "flashvm==0.1.3 --hash=sha256:c199e9945e0b28e88678fd0c136abd0f4828087658ca6373ebd009a8b59a6ed0";
const WHEEL_IS_FOR: &str = "manylinux_2_39_x86_64";

/// Where the image lies in the package: an OCI layout.
const LAYOUT: &str = "flashvm/data/oci";

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
                cache::remove(&cache::directory()?.join(PYTHON))?;
            }
            other => return Err(other.unexpected()).context("usage: cargo xtask images [--refresh]"),
        }
    }
    ensure()?.iter().for_each(|program| println!("{}", program.display()));
    match ensure_python() {
        Ok(layout) => println!("{}", layout.display()),
        Err(error) => println!("no real image: {error:#}"),
    }
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

/// The directory of the cache with the image.
const PYTHON: &str = "image-python";

/// The layout with the image; fetched when it is missing.
pub(crate) fn ensure_python() -> Result<PathBuf> {
    ensure!(cfg!(target_arch = "x86_64"), "the image is for x86-64");
    let _lock = cache::lock("images")?;
    let recipe = format!("{WHEEL} {WHEEL_IS_FOR}\n");
    let directory = cache::made_by(PYTHON, &recipe, |root| {
        println!("fetching a Python on Alpine of PyPI");
        let (wheels, requirements) = (root.join("wheels"), root.join("requirements"));
        fs::write(&requirements, WHEEL).context("write what pip is to fetch")?;
        let mut download = Command::new("python3");
        download.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        download.args(["--require-hashes", "--only-binary=:all:", "--platform", WHEEL_IS_FOR, "--dest"]);
        invoke::quietly(download.arg(&wheels).arg("--requirement").arg(&requirements))?;
        let wheel = only_file(&wheels)?;
        let unpacked = root.join("unpacked");
        invoke::quietly(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked))?;
        fs::rename(unpacked.join(LAYOUT), root.join("layout"))
            .with_context(|| format!("find {LAYOUT} in {WHEEL}"))?;
        fs::remove_file(&requirements).context("remove what pip has fetched")?;
        cache::remove(&wheels)?;
        cache::remove(&unpacked)
    })
    .context("fetch an image of PyPI, which takes python3 and its pip")?;
    Ok(directory.join("layout"))
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let entry = entries.next().with_context(|| format!("find a file in {}", directory.display()))?;
    Ok(entry.with_context(|| format!("list {}", directory.display()))?.path())
}
