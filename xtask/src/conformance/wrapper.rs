//! A runtime under another name, for suites that give it no directory for its state, or flags that it lacks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::suite::Run;

/// Writes a program in the run's scratch directory that calls the runtime, with its state in that directory unless the
/// caller says where. `before` is a script that may change the arguments.
pub(super) fn write(run: &Run, before: &str) -> Result<PathBuf> {
    let path = run.scratch.join("runtime");
    let (program, state) = (run.program.display(), run.scratch.join("state"));
    let text =
        format!("#!/bin/sh\n{before}exec '{program}' --root '{state}' \"$@\"\n", state = state.display());
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("make a script a program")?;
    Ok(path)
}
