//! Times a command with the program `stopwatch` and judges whether the time counts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use bulkhead_measure::stats::{Amount, Failure};
use serde::Deserialize;

use super::experiment::Amounts;
use super::start::{CPU, PEAK, WALL};
use super::yardstick;

/// The compiled program.
pub(super) struct Stopwatch {
    program: PathBuf,
    /// A run that takes longer, seconds, has hung.
    limit: u32,
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
    /// Compiles it into `directory`.
    pub(super) fn make(directory: &Path, limit: u32) -> Result<Self> {
        Ok(Self { program: yardstick::compile("stopwatch", directory)?, limit })
    }

    /// Runs `command` `repeats` times in a row. Unless each run ended with code 0 there are no amounts.
    pub(super) fn time(&self, command: &[OsString], repeats: usize) -> Result<Amounts, Failure> {
        self.time_with(&[], command, repeats)
    }

    /// The same with more variables in the environment.
    pub(super) fn time_with(
        &self,
        environment: &[(&str, OsString)],
        command: &[OsString],
        repeats: usize,
    ) -> Result<Amounts, Failure> {
        let mut stopwatch = Command::new(&self.program);
        stopwatch.envs(environment.iter().map(|(name, value)| (name, value)));
        stopwatch.arg(repeats.to_string()).arg(self.limit.to_string()).args(command);
        let output = stopwatch.output().map_err(|error| Failure(format!("start stopwatch: {error}")))?;
        judge(&output.stdout, &String::from_utf8_lossy(&output.stderr), repeats)
    }
}

/// Of several runs the mean, and the highest peak.
fn judge(printed: &[u8], complaints: &str, repeats: usize) -> Result<Amounts, Failure> {
    let line: Line = serde_json::from_slice(printed)
        .map_err(|error| Failure(format!("read stopwatch's answer: {error}")))?;
    let complaint = complaints.trim().lines().next_back().unwrap_or("no complaint");
    match line {
        Line { signal, .. } if signal != 0 => Err(Failure(format!("killed by signal {signal}: {complaint}"))),
        Line { code, .. } if code != 0 => Err(Failure(format!("exit code {code}: {complaint}"))),
        Line { wall_ms, user_ms, system_ms, peak_kib, .. } => {
            let runs = repeats as f64;
            let amounts = [(WALL, wall_ms / runs), (CPU, (user_ms + system_ms) / runs), (PEAK, peak_kib)];
            Ok(amounts.map(|(name, amount)| (name, Amount::new(amount))).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(amounts: &Amounts) -> Vec<f64> {
        amounts.iter().map(|(_, outcome)| outcome.as_ref().unwrap().value()).collect()
    }

    #[test]
    fn a_batch_is_the_mean_of_its_runs() {
        let line = br#"{"wall_ms":30,"user_ms":4,"system_ms":6,"peak_kib":900,"code":0,"signal":0}"#;
        assert_eq!(values(&judge(line, "", 5).unwrap()), [6.0, 2.0, 900.0]);
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
        let stopwatch = Stopwatch::make(scratch.path(), 10).unwrap();
        let time = |words: &[&str], repeats| {
            stopwatch.time(&Vec::from_iter(words.iter().map(OsString::from)), repeats)
        };
        let slept = values(&time(&["sleep", "0.05"], 2).unwrap());
        let failed = time(&["sh", "-c", "echo broken >&2; exit 3"], 2).unwrap_err();
        let missing = time(&["/no/such/program"], 1).unwrap_err();
        assert!(slept[0] >= 50.0 && slept[1] < slept[0], "{slept:?}");
        assert!(slept[2] > 100.0, "{slept:?}");
        assert_eq!(failed.0, "exit code 3: broken");
        assert!(missing.0.starts_with("exit code 127"), "{missing}");
    }
}
