//! What `bulkload` prints (docs/bulkload.md): one line of JSON, the last that comes. A platform may have said something before.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::stats::Failure;

/// Of an open loop's turns, the share that may never begin where a platform keeps up: the last ones may just be late.
const MISSED: f64 = 0.05;

/// The line of a workload.
#[derive(Debug, Deserialize)]
pub(crate) struct Work {
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    #[serde(rename = "loop")]
    mode: Mode,
    missed: u64,
    pub(crate) latency_us: Latency,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Closed,
    Open,
}

/// An open loop.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Open {
    /// Turns that never began; they are among the samples, too.
    pub(crate) missed: u64,
    pub(crate) latency_us: Latency,
}

/// Latencies of single turns, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Latency {
    /// Only of 100 samples or more.
    pub(crate) p90: Option<f64>,
    pub(crate) samples: u64,
}

/// Reads what `who` printed.
pub(crate) fn last_line<T: DeserializeOwned>(printed: &[u8], who: &str) -> Result<T, Failure> {
    let text = String::from_utf8_lossy(printed);
    let last = text.trim().lines().next_back().unwrap_or_default();
    serde_json::from_str(last).map_err(|error| Failure(format!("{who} printed {last:?}: {error}")))
}

impl Work {
    /// Turns that were done, of both loops.
    pub(crate) fn turns(&self) -> u64 {
        let all = self.latency_us.samples.saturating_sub(self.missed);
        all + self.open.map_or(0, |open| open.latency_us.samples.saturating_sub(open.missed))
    }

    /// The open loop that followed the closed one, or that was the only one.
    pub(crate) fn open(&self) -> Option<Open> {
        let Self { missed, latency_us, .. } = *self;
        let itself = (self.mode == Mode::Open).then_some(Open { missed, latency_us });
        self.open.or(itself)
    }
}

impl Open {
    /// The share of its turns that never began.
    pub(crate) fn late(&self) -> f64 {
        self.missed as f64 / self.latency_us.samples.max(1) as f64
    }
}

/// Whether a platform keeps up where this share of the turns never began.
pub(crate) fn keeps_up(late: f64) -> bool {
    late <= MISSED
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: &str = r#"{"work":"fork","count":9,"seconds":0.3,"rate":30.5,"loop":"closed","missed":0,
        "latency_us":{"p50":1,"p90":2.5,"p999":null,"samples":9}}"#;

    fn work(line: &str) -> Work {
        last_line(format!("a warning\n{}\n", line.replace('\n', "")).as_bytes(), "the workload").unwrap()
    }

    #[test]
    fn the_last_line_is_read() {
        let read = work(CLOSED);
        assert_eq!((read.rate, read.seconds, read.latency_us.samples), (30.5, 0.3, 9));
        let Failure(reason) = last_line::<Work>(b"R\nnonsense\n", "the workload").unwrap_err();
        assert!(reason.starts_with("the workload printed \"nonsense\": "), "{reason}");
        assert!(
            last_line::<Work>(b"", "the workload").unwrap_err().0.starts_with("the workload printed \"\"")
        );
    }

    #[test]
    fn an_open_loop_is_one_that_follows_or_the_only_one() {
        let open = |missed, p90| Some(Open { missed, latency_us: Latency { p90, samples: 9 } });
        assert_eq!(work(CLOSED).open(), None, "a closed loop has no tail");
        let only = CLOSED.replace("closed", "open").replace("\"missed\":0", "\"missed\":3");
        assert_eq!(work(&only).open(), open(3, Some(2.5)));
        let more = r#","open":{"rate":200,"missed":4,"latency_us":{"p90":7.5,"samples":9}}}"#;
        for line in [CLOSED, &only] {
            let followed = line.strip_suffix('}').unwrap().to_owned() + more;
            assert_eq!(work(&followed).open(), open(4, Some(7.5)));
        }
    }

    #[test]
    fn who_misses_more_than_a_few_turns_does_not_keep_up() {
        for (missed, samples, expected) in
            [(0, 100, true), (5, 100, true), (6, 100, false), (400, 600, false)]
        {
            let open = Open { missed, latency_us: Latency { p90: None, samples } };
            assert_eq!(keeps_up(open.late()), expected, "{missed} of {samples}");
        }
    }
}
