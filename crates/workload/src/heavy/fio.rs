//! fio: how fast files are read and written.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::place::Room;
use super::program::{self, PATIENCE};
use super::{Amounts, Error, Result};

/// One pattern of access.
#[derive(Debug)]
pub(super) struct Pattern {
    /// As fio calls it.
    name: &'static str,
    /// How much at a time.
    block: &'static str,
    /// Under which name fio tells of it.
    side: &'static str,
    /// What it asks for besides.
    more: &'static [&'static str],
}

/// What is written is on the disk when it is told to be written: a cache that takes a write past itself for one into
/// itself, as some sandbox's own kernel does, gains nothing.
const DURABLY: &[&str] = &["--sync=dsync"];

pub(super) const RANDOM_READ: Pattern = Pattern { name: "randread", block: "4k", side: "read", more: &[] };
pub(super) const RANDOM_WRITE: Pattern =
    Pattern { name: "randwrite", block: "4k", side: "write", more: DURABLY };
pub(super) const WRITE: Pattern = Pattern { name: "write", block: "1m", side: "write", more: DURABLY };

/// The file's size: laid out in a moment, and of no use to a cache that is not asked.
const SIZE: &str = "64m";

pub(super) fn run(room: &Room, seconds: u32, pattern: &Pattern) -> Result<Amounts> {
    let mut command = Command::new("/usr/bin/fio");
    command.arg("--name=heavy").arg(format!("--directory={}", room.path().display()));
    command.args(["--filename=data", "--direct=1", "--ioengine=psync", "--thread", "--time_based"]);
    command.arg(format!("--size={SIZE}")).arg(format!("--runtime={seconds}"));
    command.arg(format!("--rw={}", pattern.name)).arg(format!("--bs={}", pattern.block));
    command.args(pattern.more).args(["--eta=never", "--output-format=json"]);
    let client = program::start(room, "fio", &mut command)?;
    read(&client.finish(PATIENCE + Duration::from_secs(seconds.into()))?, pattern)
}

/// Reads the JSON, before which fio may have warned of something.
fn read(text: &str, pattern: &Pattern) -> Result<Amounts> {
    let wrong = |why: String| Error::Wrong(format!("fio tells no numbers: {why}"));
    let json = text.find('{').map_or("", |from| &text[from..]);
    let told: Value = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    let job = told.pointer("/jobs/0").ok_or_else(|| wrong("there is no job".to_owned()))?;
    if let Some(error) = job.get("error").and_then(Value::as_i64).filter(|error| *error != 0) {
        return Err(wrong(format!("the job failed with error {error}")));
    }
    let number = |path: &str| {
        let found = job.pointer(&format!("/{}/{path}", pattern.side)).and_then(Value::as_f64);
        found.ok_or_else(|| wrong(format!("there is no {}/{path}", pattern.side)))
    };
    Ok(vec![
        ("IOPS", number("iops")?),
        ("bandwidth", number("bw_bytes")? / f64::from(1 << 20)),
        ("p99", number("clat_ns/percentile/99.000000")? / 1000.0),
        // For whoever can see the disk.
        ("moved", number("io_bytes")? / f64::from(1 << 20)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of fio 3.33, without what is not read.
    const TOLD: &str = r#"note: a warning
{"fio version":"fio-3.33","jobs":[{"jobname":"heavy","error":0,
    "read":{"io_bytes":56311808,"bw_bytes":56308747,"iops":13747.252747,"clat_ns":{"min":41000,"percentile":{"50.000000":62208,"99.000000":477184}}},
    "write":{"io_bytes":0,"bw_bytes":0,"iops":0.0,"clat_ns":{"min":0}}}]}"#;

    #[test]
    fn the_side_of_the_pattern_is_read() {
        let amounts = read(TOLD, &RANDOM_READ).unwrap();
        assert_eq!(amounts[0], ("IOPS", 13747.252747));
        assert!((amounts[1].1 - 53.7).abs() < 0.01, "{amounts:?}");
        assert_eq!(amounts[2], ("p99", 477.184));
        assert_eq!(amounts[3], ("moved", 56311808.0 / 1048576.0));
        let error = read(TOLD, &WRITE).unwrap_err().to_string();
        assert!(error.ends_with("there is no write/clat_ns/percentile/99.000000"), "{error}");
    }

    #[test]
    fn what_tells_no_numbers_is_an_error() {
        for (text, expected) in [
            ("", "EOF"),
            ("fio: pid=0, err=22", "EOF"),
            (r#"{"jobs":[]}"#, "there is no job"),
            (r#"{"jobs":[{"error":28,"read":{}}]}"#, "the job failed with error 28"),
            (r#"{"jobs":[{"error":0,"read":{"iops":"many"}}]}"#, "there is no read/iops"),
            ("{\"jobs\":", "EOF"),
        ] {
            let error = read(text, &RANDOM_READ).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
