//! Times a command with the program `stopwatch` and judges whether the time counts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use bulkhead_measure::stats::Failure;
use serde::{Deserialize, Serialize};

/// A run that takes longer has hung.
const SECONDS: &str = "10";

/// The compiled program.
pub(super) struct Stopwatch(pub(super) PathBuf);

/// What one run took; of a batch, the mean of its runs and the highest peak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// From the start of the program to its end, milliseconds.
    pub(super) wall_ms: f64,
    /// User and system time of the program and of all it waited for, milliseconds.
    pub(super) cpu_ms: f64,
    /// The most memory that any of its processes had resident, KiB.
    pub(super) peak_kib: f64,
}

/// The line that stopwatch prints.
#[derive(Deserialize)]
struct Line {
    wall_ms: f64,
    user_ms: f64,
    system_ms: f64,
    peak_kib: f64,
    code: i32,
    signal: i32,
}

impl Stopwatch {
    /// Runs `command` `repeats` times in a row. Unless each run ended with code 0 there is no sample.
    pub(super) fn time(&self, command: &[OsString], repeats: usize) -> Result<Sample, Failure> {
        let mut stopwatch = Command::new(&self.0);
        stopwatch.arg(repeats.to_string()).arg(SECONDS).args(command);
        let output = stopwatch.output().map_err(|error| Failure(format!("start stopwatch: {error}")))?;
        judge(&output.stdout, &String::from_utf8_lossy(&output.stderr), repeats)
    }
}

fn judge(printed: &[u8], complaints: &str, repeats: usize) -> Result<Sample, Failure> {
    let line: Line = serde_json::from_slice(printed)
        .map_err(|error| Failure(format!("read stopwatch's answer: {error}")))?;
    let complaint = complaints.trim().lines().next_back().unwrap_or("no complaint");
    match line {
        Line { signal, .. } if signal != 0 => Err(Failure(format!("killed by signal {signal}: {complaint}"))),
        Line { code, .. } if code != 0 => Err(Failure(format!("exit code {code}: {complaint}"))),
        Line { wall_ms, user_ms, system_ms, peak_kib, .. } => {
            let runs = repeats as f64;
            Ok(Sample { wall_ms: wall_ms / runs, cpu_ms: (user_ms + system_ms) / runs, peak_kib })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_the_mean_of_its_runs() {
        let line = br#"{"wall_ms":30,"user_ms":4,"system_ms":6,"peak_kib":900,"code":0,"signal":0}"#;
        assert_eq!(judge(line, "", 5), Ok(Sample { wall_ms: 6.0, cpu_ms: 2.0, peak_kib: 900.0 }));
    }

    #[test]
    fn a_failed_run_gives_no_time() {
        for (code, signal, expected) in [(1, 0, "exit code 1: last"), (-1, 9, "killed by signal 9: last")] {
            let line = format!(
                r#"{{"wall_ms":1,"user_ms":1,"system_ms":1,"peak_kib":1,"code":{code},"signal":{signal}}}"#
            );
            let failure = judge(line.as_bytes(), "first\nlast\n", 1).unwrap_err();
            assert_eq!(failure.0, expected);
        }
        assert!(judge(b"", "", 1).is_err());
    }

    #[test]
    fn the_program_times_and_tells_failures() {
        let scratch = bulkhead_testkit::Scratch::new();
        let stopwatch = Stopwatch(crate::bench::yardstick::compile("stopwatch", scratch.path()).unwrap());
        let time = |words: &[&str], repeats| {
            stopwatch.time(&Vec::from_iter(words.iter().map(OsString::from)), repeats)
        };
        let slept = time(&["sleep", "0.05"], 2).unwrap();
        let failed = time(&["sh", "-c", "echo broken >&2; exit 3"], 2).unwrap_err();
        let missing = time(&["/no/such/program"], 1).unwrap_err();
        assert!(slept.wall_ms >= 50.0 && slept.cpu_ms < slept.wall_ms, "{slept:?}");
        assert!(slept.peak_kib > 100.0, "{slept:?}");
        assert_eq!(failed.0, "exit code 3: broken");
        assert!(missing.0.starts_with("exit code 127"), "{missing}");
    }
}
