//! A test that runs itself once more: in a process that is killed, or that has a mount namespace of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Says, in the environment, that a test is to act, and where.
const ACT: &str = "BULKHEAD_STORE_ACT";

/// Returns where this process is to act, if it is the second one.
pub(crate) fn acting() -> Option<PathBuf> {
    std::env::var_os(ACT).map(PathBuf::from)
}

/// Runs a test once more, behind other words, to act in a directory.
pub(crate) fn again(words: &[&str], test: &str, directory: &Path) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut command = match words {
        [] => Command::new(&own),
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest).arg(&own);
            command
        }
    };
    // One thread, so that a panic of the second process is told at once; and what it prints is read here.
    command.args([test, "--exact", "--nocapture"]).env(ACT, directory).env("RUST_BACKTRACE", "0");
    command
}
