//! The small C programs of the benchmarks, compiled when these begin.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{invoke, workspace};

/// Compiles `xtask/yardstick/NAME.c`, static and optimised, into `directory`.
pub(super) fn compile(name: &str, directory: &Path) -> Result<PathBuf> {
    let source = workspace::root()?.join("xtask/yardstick").join(name).with_extension("c");
    let program = directory.join(name);
    invoke::quietly(Command::new("gcc").args(["-O2", "-static", "-Wall", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}
