//! System calls and tasks of one run, counted by strace in a run of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::platform::Platform;

/// What strace saw, the container's own program included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) calls: usize,
    /// Processes and threads.
    pub(super) tasks: usize,
}

/// Traces one run; none when it failed.
pub(super) fn trace(platform: &Platform, directory: &Path) -> Option<Trace> {
    let log = directory.join("strace.log");
    let mut strace = Command::new("timeout");
    strace.args(["60", "strace", "-f", "-qq", "-o"]).arg(&log).args(&platform.run);
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let succeeded = strace.status().is_ok_and(|status| status.success());
    let text = fs::read(&log).ok()?;
    if !succeeded {
        platform.clean_up();
        return None;
    }
    Some(count(&String::from_utf8_lossy(&text)))
}

/// Each line begins with a task's id; a call that was interrupted by another task's has a second line, "resumed".
fn count(log: &str) -> Trace {
    let mut calls = 0;
    let mut tasks = BTreeSet::new();
    for line in log.lines() {
        let Some((task, event)) = line.split_once(' ') else { continue };
        tasks.insert(task);
        let name = event.trim_start().split('(').next().unwrap_or_default();
        let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        calls += usize::from(is_name);
    }
    Trace { calls, tasks: tasks.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once() {
        let log = "\
100   execve(\"/bin/x\", [\"x\"], 0x7ffd /* 3 vars */) = 0
100   clone3({flags=0} <unfinished ...>
101   getpid()                          = 101
100   <... clone3 resumed>)             = 101
101   --- SIGCHLD {si_signo=SIGCHLD} ---
101   +++ exited with 0 +++
100   exit_group(0)                     = ?
";
        assert_eq!(count(log), Trace { calls: 4, tasks: 2 });
    }
}
