//! What programs do all day, done by the static program `bulkload`, which prints what it measured.
//!
//! Rates are of a closed loop: a turn begins when the one before has ended. Latencies are of an open one, at a rate that the
//! bare process finds easy and that is the same on every platform, so that what waits in line has waited.

use super::{Amounts, Stage};
use crate::arena::{self, LIMIT};
use crate::plan::{Quantity, Size, Task};
use crate::printed::{self, Latency, Open};
use crate::started::Input;
use crate::stats::{Amount, Failure, Outcome, median};

/// How long each loop of a workload lasts: what differs, differs from turn to turn and not within one, so that many short turns tell
/// more than few long ones.
const SECONDS: &str = "0.1";

/// How often the bare process is asked which rate it finds easy.
const ASKED: usize = 5;

/// No open loop is faster: beyond this the kernel's timers are what is measured, and a platform that is slow but steady
/// would have no number.
const FASTEST: f64 = 1000.0;

const RATE: &str = "rate";
const TAIL: &str = "p90";

/// One workload, by its name as `bulkload` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    name: &'static str,
    says: &'static str,
    ends: Ends,
    quick: bool,
    kind: Kind,
}

/// Work of which each turn waits for the disk.
const SYNCED: [&str; 2] = ["file", "database"];

/// How many processes work at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// One, which waits for its children. It stays on one processor: where the scheduler puts a child differs from turn to turn, and
    /// is no wall's doing.
    One,
    /// Both ends of a conversation, which run where they are put.
    Two,
}

/// What is worth a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// How often, and how long one takes at most.
    Turns,
    /// How much: a turn is only a portion of it.
    Amount,
    /// How late it is, so many times a second; it knows no closed loop.
    Wakings(u32),
}

#[rustfmt::skip]
const ALL: &[Work] = &[
    Work { name: "cpu", ends: Ends::One, kind: Kind::Turns, says: "Counting primes: nothing but the processor.", quick: true },
    Work { name: "memory", ends: Ends::One, kind: Kind::Amount, says: "Copying memory, whose bandwidth all share.", quick: false },
    Work { name: "null-call", ends: Ends::One, kind: Kind::Turns, says: "The cheapest system call there is.", quick: false },
    Work { name: "fork", ends: Ends::One, kind: Kind::Turns, says: "Making a process and waiting for its end.", quick: true },
    Work { name: "exec", ends: Ends::One, kind: Kind::Turns, says: "Making a process that executes a program.", quick: false },
    Work { name: "mmap", ends: Ends::One, kind: Kind::Turns, says: "Mapping memory, touching it and giving it back.", quick: false },
    Work { name: "file", ends: Ends::One, kind: Kind::Turns, says: "Writing to a file and waiting until the disk has it.", quick: false },
    Work { name: "open-close", ends: Ends::One, kind: Kind::Turns, says: "Opening and closing a file.", quick: false },
    Work { name: "unix-echo", ends: Ends::Two, kind: Kind::Turns, says: "A byte to a neighbour and back, over a unix socket.", quick: false },
    Work { name: "tcp-rate", ends: Ends::Two, kind: Kind::Amount, says: "Sending as much as goes over loopback.", quick: true },
    Work { name: "tcp-latency", ends: Ends::Two, kind: Kind::Turns, says: "A byte to a neighbour and back, over TCP on loopback.", quick: false },
    Work { name: "timer", ends: Ends::One, kind: Kind::Wakings(1000), says: "Sleeping for a moment: how late it wakes up.", quick: false },
    Work { name: "database", ends: Ends::One, kind: Kind::Turns, says: "Small transactions of an embedded database, each on the disk.", quick: false },
];

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

    pub(super) fn take(self, task: &Task, stage: Stage<'_>) -> Result<Amounts, Failure> {
        let line = self.run(task.rate, stage)?;
        let mut amounts = vec![(RATE, Amount::new(line.rate))];
        if has_tail(task) {
            let unknown = || Failure("the bare process did not show which rate is easy".to_owned());
            amounts.push((TAIL, line.open().ok_or_else(unknown).and_then(tail)));
        }
        Ok(amounts)
    }

    /// Turns a second that the bare process finds easy.
    pub(super) fn rate(self, bare: Stage<'_>) -> Result<f64, Failure> {
        if let Kind::Wakings(rate) = self.kind {
            return Ok(f64::from(rate));
        }
        // The rate of a whole run hangs on it: one hiccup is to change nothing.
        let turns = (0..ASKED).map(|_| {
            let line = self.run(None, bare)?;
            Ok(line.latency_us.samples as f64 / line.seconds)
        });
        let turns = turns.collect::<Result<Vec<_>, Failure>>()?;
        median(&turns).map(easy).ok_or_else(|| Failure("the bare process told no turns".to_owned()))
    }

    fn run(self, rate: Option<f64>, stage: Stage<'_>) -> Result<printed::Work, Failure> {
        let rate = rate.map(|rate| rate.to_string());
        let option = if matches!(self.kind, Kind::Wakings(_)) { "--rate" } else { "--then-rate" };
        let paced = rate.iter().flat_map(|rate| [option, rate.as_str()]);
        let stays = (self.ends == Ends::One).then_some("--one-processor");
        let words = ["work", self.name, "--seconds", SECONDS].into_iter().chain(stays);
        let words = Vec::from_iter(words.chain(paced));
        stage.on_seat(&words, |seat, words| {
            let is_synced = SYNCED.contains(&self.name);
            let disk = is_synced.then(|| stage.arena.disk(stage.platform)).transpose()?;
            let started = arena::start(stage.platform.run(seat, words), seat, Input::Nothing)?;
            let line: printed::Work = printed::last_line(&started.finish(LIMIT)?.output, "the workload")?;
            disk.map_or(Ok(()), |disk| disk.since()?.witness(line.turns() as f64))?;
            Ok(line)
        })
    }
}

/// The 90th percentile, if the platform kept up.
fn tail(open: Open) -> Outcome {
    let Open { missed, latency_us: Latency { p90, samples } } = open;
    if !printed::keeps_up(open.late()) {
        return Err(Failure(format!("it does not keep up: {missed} of {samples} turns never began")));
    }
    p90.map_or_else(|| Err(Failure(format!("{samples} samples have no 90th percentile"))), Amount::new)
}

/// Of 1, 2 and 5 with noughts the greatest number that is at most half of `turns`: half, so that there is room, and round, so
/// that a machine has the same rate in every run. [`FASTEST`] at most.
fn easy(turns: f64) -> f64 {
    let half = (turns / 2.0).min(FASTEST);
    let power = 10_f64.powf(half.log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|digit| digit * power).find(|rate| *rate <= half).unwrap_or(power)
}

/// For the report, what a latency of a task counts from.
pub(super) fn says(rate: f64) -> String {
    format!(" Latencies count from intended times, {rate} a second.")
}

/// Whether a task wants a latency.
pub(super) fn has_tail(task: &Task) -> bool {
    task.quantities.iter().any(|quantity| quantity.name == TAIL)
}

/// A timer is asked for at a rate that is given: only how late it comes is worth a number. A short run has no time for
/// latencies.
pub(super) fn quantities(work: Work, size: Size) -> Vec<Quantity> {
    let (rate, tail) = (Quantity::more(RATE, "1/s"), Quantity::less(TAIL, "µs"));
    match (work.kind, size) {
        (Kind::Wakings(_), _) => vec![tail, rate.beside()],
        (Kind::Amount, _) | (Kind::Turns, Size::Quick) => vec![rate],
        (Kind::Turns, Size::Full) => vec![rate, tail.beside()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_keep_up_has_no_tail() {
        let tail = |missed, samples| tail(Open { missed, latency_us: Latency { p90: Some(7.5), samples } });
        assert_eq!(tail(0, 100), Amount::new(7.5));
        assert_eq!(tail(5, 100), Amount::new(7.5));
        assert_eq!(tail(400, 600).unwrap_err().0, "it does not keep up: 400 of 600 turns never began");
    }

    #[test]
    fn what_is_easy_is_round_and_at_most_half() {
        for (turns, expected) in [
            (2000.0, 1000.0),
            (1999.0, 500.0),
            (900.0, 200.0),
            (399.0, 100.0),
            (1e6, 1000.0),
            (3.0, 1.0),
            (1.0, 0.5),
        ] {
            assert!((easy(turns) - expected).abs() < 1e-9, "{turns}: {}", easy(turns));
        }
    }

    #[test]
    fn every_latency_has_a_rate() {
        for work in Work::of(Size::Full) {
            let names =
                |size| Vec::from_iter(quantities(work, size).into_iter().map(|quantity| quantity.name));
            let has_tail = names(Size::Full).iter().any(|name| name == TAIL);
            assert_eq!(has_tail, work.kind != Kind::Amount, "{}", work.name());
            assert!(names(Size::Quick).iter().all(|name| names(Size::Full).contains(name)));
        }
    }
}
