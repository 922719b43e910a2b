//! The release binary, built as it is shipped: static, so that it runs on any Linux and starts fast.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::workspace;

/// One line of cargo's account of a build.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

/// Builds `bulkrun` and returns its path.
///
/// `--target` is named although it is the machine's own: without it `crt-static` would reach the proc macros,
/// which cannot be static.
pub(crate) fn build() -> Result<PathBuf> {
    let mut command = workspace::cargo()?;
    command.args(["build", "--release", "--locked", "--package", "bulkhead-runtime", "--bin", "bulkrun"]);
    command.arg("--target").arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    command.arg("--message-format=json-render-diagnostics").env("RUSTFLAGS", "-C target-feature=+crt-static");
    let output = command.stderr(Stdio::inherit()).output().context("start cargo build")?;
    ensure!(output.status.success(), "building bulkrun: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let artifacts = messages.filter(|message| message.reason == "compiler-artifact");
    artifacts.filter_map(|artifact| artifact.executable).next_back().context("cargo built no program")
}

/// Size of a file in KiB.
pub(crate) fn kib(program: &Path) -> Result<u64> {
    let file = program.metadata().with_context(|| format!("look at {}", program.display()))?;
    Ok(file.len().div_ceil(1024))
}
