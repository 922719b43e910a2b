//! Release binaries, built as they are shipped: static, so that they run on any Linux and start fast.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use lexopt::Parser;
use serde::Deserialize;

use crate::workspace;

const USAGE: &str = "usage: cargo xtask build [PROGRAM]…";

/// The variable by which `bulkhead` learns what it was built from (`measure/src/provenance.rs`).
const COMMIT: &str = "BULKHEAD_COMMIT";

/// A program and the package that it is in.
pub(crate) struct Shipped {
    name: &'static str,
    package: &'static str,
}

/// The OCI runtime.
pub(crate) const BULKRUN: Shipped = Shipped { name: "bulkrun", package: "bulkhead-runtime" };

/// What is done inside a sandbox to measure it.
const BULKLOAD: Shipped = Shipped { name: "bulkload", package: "bulkhead-workload" };

/// What stays with one container.
pub(crate) const BULKMON: Shipped = Shipped { name: "bulkmon", package: "bulkhead-shim" };

/// What answers for the names of a network's containers.
const BULKDNS: Shipped = Shipped { name: "bulkdns", package: "bulkhead-net" };

/// What carries ports of the host to a container.
const BULKPROXY: Shipped = Shipped { name: "bulkproxy", package: "bulkhead-net" };

/// The command line people type.
pub(crate) const BULKHEAD: Shipped = Shipped { name: "bulkhead", package: "bulkhead-cli" };

const ALL: &[Shipped] = &[BULKRUN, BULKMON, BULKDNS, BULKPROXY, BULKLOAD, BULKHEAD];

/// One line of cargo's account of a build.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

/// Builds programs, all unless some are named, and says where they are: beside each other.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    let mut wanted = Vec::new();
    while let Some(argument) = parser.next()? {
        let lexopt::Arg::Value(name) = argument else { return Err(argument.unexpected()).context(USAGE) };
        let Some(shipped) = ALL.iter().find(|shipped| name == *shipped.name) else {
            let names = Vec::from_iter(ALL.iter().map(|shipped| shipped.name));
            bail!("no program {}: there are {}", name.display(), names.join(", "));
        };
        wanted.push(shipped);
    }
    if wanted.is_empty() {
        wanted.extend(ALL);
    }
    for shipped in wanted {
        let program = build(shipped)?;
        println!("{}  {} KiB", program.display(), kib(&program)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds `bulkhead` and the programs that it starts, and returns its path.
pub(crate) fn build_engine() -> Result<PathBuf> {
    // It looks for them beside itself.
    for program in [&BULKRUN, &BULKMON, &BULKDNS, &BULKPROXY] {
        build(program)?;
    }
    build(&BULKHEAD)
}

/// Builds a program and returns its path.
///
/// `--target` is named although it is the machine's own: without it `crt-static` would reach the proc macros,
/// which cannot be static.
pub(crate) fn build(Shipped { name, package }: &Shipped) -> Result<PathBuf> {
    let mut command = workspace::cargo()?;
    command.args(["build", "--release", "--locked", "--package", package, "--bin", name]);
    command.arg("--target").arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    command.arg("--message-format=json-render-diagnostics").env("RUSTFLAGS", flags());
    match commit() {
        Some(commit) => command.env(COMMIT, commit),
        None => command.env_remove(COMMIT),
    };
    let output = command.stderr(Stdio::inherit()).output().context("start cargo build")?;
    ensure!(output.status.success(), "building {name}: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let artifacts = messages.filter(|message| message.reason == "compiler-artifact");
    let program = artifacts.filter_map(|artifact| artifact.executable).next_back();
    let program = program.context("cargo built no program")?;
    write_anew(&program).with_context(|| format!("write {} anew", program.display()))?;
    Ok(program)
}

/// Puts a copy in a program's place. A linker writes through a map, page by page, and so the file is kept in memory; a copy is
/// kept in large pieces, as what a package manager has unpacked, and starts faster by a tenth.
fn write_anew(program: &Path) -> std::io::Result<()> {
    let copy = program.with_extension("copy");
    std::fs::copy(program, &copy)?;
    std::fs::rename(copy, program)
}

/// How all of them are compiled and linked.
fn flags() -> String {
    let mut flags = "-C target-feature=+crt-static".to_owned();
    if c_library().is_some_and(|version| version >= (2, 36)) {
        // A thirtieth of the size, and of the pages that are read for it. Earlier C libraries do not know this form.
        flags += " -C link-arg=-Wl,-z,pack-relative-relocs";
    }
    flags
}

/// The version of the C library that is linked: `ldd (Debian GLIBC 2.36-9+deb12u14) 2.36`.
fn c_library() -> Option<(u32, u32)> {
    let output = Command::new("ldd").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.lines().next()?.rsplit(' ').next()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What the sources are: the commit, and whether something in them is not committed. None where they are no checkout. It
/// depends on nothing but the sources, and so does a program that names it.
fn commit() -> Option<String> {
    let git = |words: &[&str]| {
        let output = Command::new("git").current_dir(workspace::root().ok()?).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then_some(text)
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit} with changes") })
}

/// Size of a file in KiB.
pub(crate) fn kib(program: &Path) -> Result<u64> {
    let file = program.metadata().with_context(|| format!("look at {}", program.display()))?;
    Ok(file.len().div_ceil(1024))
}
