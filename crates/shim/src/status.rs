//! What a monitor saw: written by it alone, by write and rename, and read by whoever wants to know.

use std::io::{Error, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The version of this document.
pub const VERSION: u32 = 1;

/// `status.json`: what happened to a container so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// `/proc/sys/kernel/random/boot_id` when it was written: another one means that the machine went down since.
    pub boot: String,
    /// The monitor itself.
    pub monitor: Process,
    /// What the container does.
    pub phase: Phase,
    /// Its first process, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The last start, in nanoseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// The last end, in nanoseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
    /// The last code: the process's own, or 128 and its signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The runs that its policy, or an unhealthy state, had another follow, the oldest first: the last [`RUNS`] of this monitor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
    /// Whether the kernel killed one of its processes for want of memory since its last start, as docker's `OOMKilled`.
    #[serde(default)]
    pub oom_killed: bool,
    /// How often its policy started it again.
    #[serde(default)]
    pub restarts: u32,
    /// Whether somebody stopped it, so that no policy starts it again.
    #[serde(default)]
    pub stopped: bool,
    /// What was sent to its first process because somebody asked for a stop, the oldest first: [`SENT`] of its last run at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Sent>,
    /// Why it could not be started, or what its runtime did not do at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether its monitor died before it: when it ended, and with which code, nobody knows.
    #[serde(default, skip_serializing_if = "is_not")]
    pub lost: bool,
    /// What of its output could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept: Option<Unkept>,
    /// How it is, when something tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl Status {
    /// Reads a status; `None` when there is no file.
    ///
    /// # Errors
    /// A file that cannot be read; with [`ErrorKind::InvalidData`] one that is no status, or is one of a later version.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let bad = |error: serde_json::Error| Error::new(ErrorKind::InvalidData, error);
        let Version { version } = serde_json::from_slice(&text).map_err(bad)?;
        if version > VERSION {
            let sentence = format!("it is of version {version}, and this program knows none after {VERSION}");
            return Err(Error::new(ErrorKind::InvalidData, sentence));
        }
        serde_json::from_slice(&text).map(Some).map_err(bad)
    }

    /// Writes the status in the place of an older one.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        crate::replace::with_json(path, self)
    }

    /// What a monitor writes first.
    pub(crate) fn of_new(monitor: Process) -> Self {
        Self {
            version: VERSION,
            boot: crate::identity::boot(),
            monitor,
            phase: Phase::Starting,
            process: None,
            started: None,
            finished: None,
            code: None,
            runs: Vec::new(),
            oom_killed: false,
            restarts: 0,
            stopped: false,
            sent: Vec::new(),
            error: None,
            lost: false,
            unkept: None,
            health: None,
        }
    }

    /// Notes that a signal is sent. One that is sent again is noted once.
    pub(crate) fn note_sent(&mut self, signal: i32, time: u64) {
        if self.sent.len() < SENT && self.sent.last().is_none_or(|last| last.signal != signal) {
            self.sent.push(Sent { signal, time });
        }
    }

    /// Keeps the run that is over, as another follows. One that was never started is none.
    pub(crate) fn keep_run(&mut self, code: u8) {
        let (Some(started), Some(finished)) = (self.started, self.finished) else { return };
        if self.runs.last().is_some_and(|last| last.started == started) {
            return;
        }
        if self.runs.len() >= RUNS {
            self.runs.remove(0);
        }
        self.runs.push(Run { started, finished, code });
    }

    /// Tells whether it is of this boot of the machine, and not of one that has ended meanwhile.
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == crate::identity::boot()
    }
}

/// How many runs that are over a status has at most.
pub const RUNS: usize = 64;

/// How many signals are noted.
pub const SENT: usize = 8;

/// A signal that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its number.
    pub signal: i32,
    /// When, in nanoseconds since 1970 (UTC).
    pub time: u64,
}

/// A run that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its start, in nanoseconds since 1970 (UTC).
    pub started: u64,
    /// Its end.
    pub finished: u64,
    /// Its code.
    pub code: u8,
}

fn is_not(truth: &bool) -> bool {
    !truth
}

/// Output that a log did not take, as a full disk does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkept {
    /// How many lines, or parts of long ones.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why, the last time.
    pub reason: String,
}

/// A process that cannot be taken for a later one with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid on the host.
    pub pid: i32,
    /// Its start, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub start: u64,
}

/// What a container does, as its monitor knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The runtime has been called.
    Starting,
    /// Its process runs.
    Running,
    /// It waits to be started again.
    Restarting,
    /// It has ended, and stays so.
    Exited,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub state: Verdict,
    /// Failures in a row.
    pub failing: u32,
    /// The last five checks, the oldest first.
    pub log: Vec<Check>,
}

/// Whether a container is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No check has counted yet.
    Starting,
    /// The last check was good.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its begin, in nanoseconds since 1970 (UTC).
    pub begin: u64,
    /// Its end.
    pub end: u64,
    /// The command's code; -1 when it ran out of time.
    pub code: i32,
    /// What it said, at most 4096 bytes.
    pub output: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_a_later_version_and_half_of_one_are_refused() {
        let scratch = bulkhead_testkit::Scratch::new();
        let path = scratch.path().join("status.json");
        assert_eq!(Status::read(&path).unwrap(), None, "where no monitor has been");
        for (text, expected) in [
            (
                r#"{"version":2,"phase":"dreaming"}"#,
                "it is of version 2, and this program knows none after 1",
            ),
            ("", "EOF while parsing"),
            (r#"{"version":1,"boot":"x""#, "EOF while parsing"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Status::read(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{text}");
            assert!(error.to_string().contains(expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn the_last_runs_are_kept_each_once() {
        let mut status = Status::of_new(Process { pid: 1, start: 2 });
        status.keep_run(127);
        assert_eq!(status.runs, [], "it was never started");
        for time in 0..100_u64 {
            status.started = Some(2 * time);
            status.finished = Some(2 * time + 1);
            status.keep_run(3);
            // What was tried in vain is no run.
            status.keep_run(127);
        }
        assert_eq!(status.runs.len(), RUNS);
        assert_eq!(status.runs.last(), Some(&Run { started: 198, finished: 199, code: 3 }));
        assert_eq!(status.runs[0].started, 2 * (100 - RUNS as u64));
    }
}
