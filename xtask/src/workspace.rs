//! Where the checkout is, and how cargo is called in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::invoke;

/// The root directory of the checkout.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask lies at the file system's root")?.to_owned())
}

/// The cargo that started this program, ready to run in the checkout.
pub(crate) fn cargo() -> Result<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()?);
    Ok(command)
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => Ok(root()?.join(directory)),
        None => Ok(root()?.join("target")),
    }
}

/// The absolute paths of the files that belong to the checkout.
pub(crate) fn tracked_files() -> Result<Vec<PathBuf>> {
    let root = root()?;
    let list = invoke::text(Command::new("git").arg("-C").arg(&root).args(["ls-files", "-z"]))?;
    Ok(list.split_terminator('\0').map(|file| root.join(file)).filter(|file| file.is_file()).collect())
}
