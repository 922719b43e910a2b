//! Tasks: each does one thing over and over, and tells how often it could.
//!
//! The two ends of a conversation are this process and a child of it. A task checks that what it asked for was done:
//! a fast failure is no speed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::latency;
use crate::pace::{self, Paced};
use crate::processor;

mod cpu;
mod database;
mod echo;
mod exec;
mod file;
mod fork;
mod memory;
mod mmap;
mod null_call;
mod open_close;
mod tcp_rate;
mod timer;

pub(crate) use cpu::primes;
pub(crate) use memory::Copying;
pub(crate) use mmap::PAGE;

/// The longest time for which a loop goes on for the sake of its tail, seconds.
const LONGEST_TAIL: f64 = 20.0;

/// Something that can be done again and again.
trait Work {
    /// Does it once.
    fn turn(&mut self) -> Result<()>;

    /// Ends it, and checks what can be checked only then.
    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A task by its name.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// What is done in a turn, for the help.
    pub(crate) says: &'static str,
    /// What is counted.
    unit: &'static str,
    /// How many of them a turn does.
    in_a_turn: u64,
    /// The open loop's rate for a task that knows no closed loop, turns a second.
    rate: Option<f64>,
    begin: fn(&Path) -> Result<Box<dyn Work>>,
}

/// All tasks.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "cpu", says: "counts the primes below 10 000", unit: "counts", in_a_turn: 1, rate: None, begin: |_| Ok(Box::new(cpu::Cpu)) },
    Kind { name: "memory", says: "copies 32 MiB; takes 64 MiB", unit: "MiB", in_a_turn: memory::MIB, rate: None, begin: memory::begin },
    Kind { name: "null-call", says: "asks for the parent's pid 1000 times", unit: "calls", in_a_turn: null_call::CALLS, rate: None, begin: |_| Ok(Box::new(null_call::NullCall)) },
    Kind { name: "fork", says: "makes a process that ends at once, and waits for it", unit: "processes", in_a_turn: 1, rate: None, begin: |_| Ok(Box::new(fork::Fork)) },
    Kind { name: "exec", says: "runs this program in a new process, and waits for it", unit: "programs", in_a_turn: 1, rate: None, begin: exec::begin },
    Kind { name: "mmap", says: "maps 1 MiB, touches each page, unmaps it", unit: "pages", in_a_turn: mmap::PAGES, rate: None, begin: |_| Ok(Box::new(mmap::Mmap)) },
    Kind { name: "file", says: "writes 4 KiB and waits until they are on the disk", unit: "writes", in_a_turn: 1, rate: None, begin: file::begin },
    Kind { name: "open-close", says: "opens and closes this program's file", unit: "files", in_a_turn: 1, rate: None, begin: open_close::begin },
    Kind { name: "unix-echo", says: "sends 64 bytes to a process and has them back", unit: "echoes", in_a_turn: 1, rate: None, begin: echo::over_unix },
    Kind { name: "tcp-rate", says: "sends 1 MiB to a process over loopback", unit: "MiB", in_a_turn: 1, rate: None, begin: tcp_rate::begin },
    Kind { name: "tcp-latency", says: "sends 64 bytes to a process over loopback and has them back", unit: "echoes", in_a_turn: 1, rate: None, begin: echo::over_tcp },
    Kind { name: "timer", says: "is woken at an intended time, 1000 times a second", unit: "wakings", in_a_turn: 1, rate: Some(1000.0), begin: |_| Ok(Box::new(timer::Timer)) },
    Kind { name: "database", says: "a transaction of an embedded database: reads, a range, updates, a move; on the disk", unit: "transactions", in_a_turn: 1, rate: None, begin: database::begin },
];

impl Kind {
    /// Whether it knows no closed loop.
    pub(crate) fn is_always_open(&self) -> bool {
        self.rate.is_some()
    }
}

/// A task to be done.
#[derive(Debug)]
pub(crate) struct Order {
    /// Which.
    pub(crate) kind: &'static Kind,
    /// How long.
    pub(crate) limit: Duration,
    /// Turns a second; None for as many as can be.
    pub(crate) rate: Option<f64>,
    /// Turns a second of an open loop that follows the closed one; None when none follows.
    pub(crate) then: Option<f64>,
    /// Whether it stays on one processor.
    pub(crate) stays: bool,
    /// Where it has its file.
    pub(crate) directory: PathBuf,
}

/// The line that a task prints.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    work: &'static str,
    /// In units, as the rate is.
    count: u64,
    unit: &'static str,
    seconds: f64,
    /// Units a second.
    rate: f64,
    /// Whether latencies count from intended times.
    #[serde(rename = "loop")]
    mode: Mode,
    /// Turns of the open loop that never began.
    missed: u64,
    /// On which it stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    processor: Option<usize>,
    /// Of turns.
    latency_us: latency::Summary,
    /// The open loop that followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
}

/// What came of an open loop that followed a closed one.
#[derive(Debug, Serialize)]
struct Open {
    /// Turns a second, as intended.
    rate: f64,
    turns: u64,
    missed: u64,
    latency_us: latency::Summary,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Closed,
    Open,
}

/// Does the task of this name so many times, not more and not less.
pub(crate) fn turns(name: &str, directory: &Path, count: usize) -> Result<()> {
    let kind = KINDS.iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| Error::Usage(format!("there is no task {name}")))?;
    let mut work = (kind.begin)(directory)?;
    for _ in 0..count {
        if kind.is_always_open() {
            std::thread::sleep(Duration::from_micros(100));
        }
        work.turn()?;
    }
    work.finish()
}

/// How long so many turns a second last until there are enough for a tail: not a nanosecond less, in which the last one would be missing.
fn tail_time(rate: f64) -> Duration {
    let seconds = (latency::ENOUGH_FOR_P90 as f64 / rate).min(LONGEST_TAIL);
    Duration::from_nanos((seconds * 1e9).ceil() as u64)
}

/// Does a task.
pub(crate) fn run(order: &Order) -> Result<Line> {
    let Kind { name, unit, in_a_turn, rate, begin, says: _ } = order.kind;
    // Also those that the task makes when it begins.
    let processor = order.stays.then(processor::stay_on_one).transpose()?;
    let mut work = begin(&order.directory)?;
    // What is done for the first time is slower, everywhere and once.
    work.turn()?;
    let (mode, paced) = match order.rate.or(*rate) {
        Some(rate) => (Mode::Open, pace::open(order.limit, rate, || work.turn())?),
        None => (Mode::Closed, pace::closed(order.limit, || work.turn())?),
    };
    let open = order.then.map(|rate| {
        pace::open(order.limit.max(tail_time(rate)), rate, || work.turn()).map(|paced| (rate, paced))
    });
    let open = open.transpose()?.map(|(rate, Paced { turns, missed, latencies, .. })| Open {
        rate,
        turns,
        missed,
        latency_us: latencies.summary(),
    });
    work.finish()?;
    let Paced { turns, missed, took, latencies } = paced;
    let count = turns * in_a_turn;
    let seconds = took.as_secs_f64();
    let rate = count as f64 / seconds;
    let latency_us = latencies.summary();
    Ok(Line { work: name, count, unit, seconds, rate, mode, missed, processor, latency_us, open })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_has_its_turns_at_any_rate() {
        for rate in 5..2000 {
            let rate = f64::from(rate);
            let turns = pace::planned(tail_time(rate), rate);
            assert!((100..=101).contains(&turns), "{turns} turns of {rate} a second");
        }
        assert_eq!(tail_time(1.0), Duration::from_secs(20));
    }
}
