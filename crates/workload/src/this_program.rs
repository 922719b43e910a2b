//! Where this program's own file is, the one file that is on every platform.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// The path of the program's file, as this process sees it.
///
/// Where /proc is missing, or names what this process cannot see, the name by which it was started must do.
pub(crate) fn path() -> Result<PathBuf> {
    let told = std::env::current_exe().ok();
    let typed = std::env::args_os().next().map(PathBuf::from);
    let mut candidates = told.into_iter().chain(typed).filter(|path| path.is_file());
    candidates.next().ok_or_else(|| {
        Error::Wrong(
            "this program does not find its own file: start it by its path, or mount /proc".to_owned(),
        )
    })
}
