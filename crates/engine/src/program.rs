//! Where programs are.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Finds a program of this project: beside the running one, else in PATH.
///
/// # Errors
/// [`Error::Invalid`] when it is in neither.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    if let Some(program) = beside.filter(|program| is_program(program)) {
        return Ok(program);
    }
    in_path(name).ok_or_else(|| Error::Invalid {
        what: format!("program {name}"),
        reason: "it is neither beside this program nor in PATH".into(),
    })
}

/// Finds a program in PATH.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|program| is_program(program))
}

/// Tells whether a path is a file that somebody may execute.
pub(crate) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
