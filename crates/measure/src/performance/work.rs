//! What programs do all day, done by the static program `bulkload`, which prints what it measured.

use serde::Deserialize;

use super::{Amounts, Stage};
use crate::arena::{self, LIMIT};
use crate::plan::{Quantity, Size};
use crate::started::Input;
use crate::stats::{Amount, Failure};

/// How long one turn of a workload takes.
const SECONDS: &str = "0.3";

const TIMER: &str = "timer";

/// One workload, by its name as `bulkload` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    name: &'static str,
    says: &'static str,
    quick: bool,
}

const ALL: &[Work] = &[
    Work { name: "cpu", says: "Counting primes: nothing but the processor.", quick: true },
    Work { name: "memory", says: "Copying memory, whose bandwidth all share.", quick: false },
    Work { name: "null-call", says: "The cheapest system call there is.", quick: false },
    Work { name: "fork", says: "Making a process and waiting for its end.", quick: true },
    Work { name: "exec", says: "Making a process that executes a program.", quick: false },
    Work { name: "mmap", says: "Mapping memory, touching it and giving it back.", quick: false },
    Work { name: "file", says: "Writing to a file and waiting until the disk has it.", quick: false },
    Work { name: "open-close", says: "Opening and closing a file.", quick: false },
    Work { name: "unix-echo", says: "A byte to a neighbour and back, over a unix socket.", quick: false },
    Work { name: "tcp-rate", says: "Sending as much as goes over loopback.", quick: true },
    Work { name: "tcp-latency", says: "A byte to a neighbour and back, over TCP on loopback.", quick: false },
    Work { name: TIMER, says: "Sleeping for a moment: how late it wakes up.", quick: false },
    Work {
        name: "database",
        says: "Small transactions of an embedded database, each on the disk.",
        quick: false,
    },
];

/// The line that `bulkload` prints.
#[derive(Debug, Deserialize)]
struct Line {
    rate: f64,
    latency_us: Option<Latency>,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p99: f64,
}

impl Work {
    /// Those that belong to a run of this size.
    pub fn of(size: Size) -> impl Iterator<Item = Self> {
        ALL.iter().copied().filter(move |work| work.quick || size == Size::Full)
    }

    /// As `bulkload` knows it.
    pub fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn says(self) -> &'static str {
        self.says
    }

    pub(super) fn take(self, stage: Stage<'_>) -> Result<Amounts, Failure> {
        stage.on_seat(&["work", self.name, "--seconds", SECONDS], |seat, words| {
            let started = arena::start(stage.platform.run(seat, words), seat, Input::Nothing)?;
            read(&started.finish(LIMIT)?.output)
        })
    }
}

/// A timer is asked for at a rate that is given: only how late it comes is worth a number.
pub(super) fn quantities(work: Work) -> Vec<Quantity> {
    let (rate, tail) = (Quantity::more("rate", "1/s"), Quantity::less("p99", "µs"));
    if work.name == TIMER { vec![tail, rate.beside()] } else { vec![rate, tail.beside()] }
}

/// The last line is the workload's: a platform may have said something before.
fn read(printed: &[u8]) -> Result<Amounts, Failure> {
    let text = String::from_utf8_lossy(printed);
    let last = text.trim().lines().next_back().unwrap_or_default();
    let line: Line = serde_json::from_str(last)
        .map_err(|error| Failure(format!("the workload printed {last:?}: {error}")))?;
    let mut amounts = vec![("rate", Amount::new(line.rate))];
    amounts.extend(line.latency_us.map(|latency| ("p99", Amount::new(latency.p99))));
    Ok(amounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_s_line_is_read() {
        let line = r#"{"work":"fork","count":9,"seconds":0.3,"rate":30.5,"latency_us":{"p50":1,"p99":2.5,"p999":null,"samples":9}}"#;
        let amounts = read(format!("a warning\n{line}\n").as_bytes()).unwrap();
        assert_eq!(amounts, [("rate", Amount::new(30.5)), ("p99", Amount::new(2.5))]);
        let without = read(br#"{"work":"cpu","count":9,"seconds":0.3,"rate":30}"#).unwrap();
        assert_eq!(without.len(), 1);
        assert!(read(b"nonsense").unwrap_err().0.contains("nonsense"));
    }
}
