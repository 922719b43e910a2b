//! System calls and tasks of one run, counted by strace in a run of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_measure::stats::{Amount, Failure};

use super::experiment::Amounts;
use super::platform::Contestant;
use super::start::{CALLS, TASKS};

/// What strace saw, the container's own program included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    calls: usize,
    /// Processes and threads.
    tasks: usize,
}

/// Traces one run.
pub(super) fn trace(contestant: &Contestant, directory: &Path) -> Result<Amounts, Failure> {
    let log = directory.join("strace.log");
    let mut strace = Command::new("timeout");
    strace.args(["60", "strace", "-f", "-qq", "-o"]).arg(&log).args(&contestant.run);
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let failed = |error: std::io::Error| Failure(format!("run it under strace: {error}"));
    let status = strace.status().map_err(failed)?;
    if !status.success() {
        return Err(Failure(format!("run it under strace: {status}")));
    }
    let Trace { calls, tasks } = count(&String::from_utf8_lossy(&fs::read(&log).map_err(failed)?));
    Ok([(CALLS, calls), (TASKS, tasks)].map(|(name, count)| (name, Amount::new(count as f64))).into())
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
