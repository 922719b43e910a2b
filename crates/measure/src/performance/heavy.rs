//! Programs that others wrote, as they are at work on servers and in the literature: `bulkload heavy` has them work, and
//! tells what their clients measured.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Amounts, Stage};
use crate::arena;
use crate::plan::Quantity;
use crate::printed::last_line;
use crate::programs::POSTGRESQL;
use crate::started::Input;
use crate::stats::{Amount, Failure};

/// How long a client works, seconds.
const SECONDS: &str = "2";

/// What a turn may take: PostgreSQL's database is copied first, which takes time behind some walls.
const LIMIT: Duration = Duration::from_secs(120);

/// One load, by its name as `bulkload` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    name: &'static str,
    says: &'static str,
    programs: &'static [&'static str],
    rates: &'static [(&'static str, &'static str)],
    /// Those that only stand beside the rates.
    beside: &'static [(&'static str, &'static str)],
    tails: &'static [(&'static str, &'static str)],
    /// What the disk must have done while it worked; None for what has nothing to do with a disk.
    disk: Option<Way>,
}

/// Which way data go between a file and the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Read,
    Written,
}

const ALL: &[Load] = &[
    Load {
        name: "redis",
        says: "Redis in memory, asked by redis-benchmark with 50 connections over loopback.",
        programs: &["redis"],
        rates: &[("SET", "1/s"), ("GET", "1/s")],
        beside: &[],
        tails: &[("SET p99", "ms"), ("GET p99", "ms")],
        disk: None,
    },
    Load {
        name: "iperf3",
        says: "What iperf3 brings through one TCP connection over loopback.",
        programs: &["iperf3"],
        rates: &[("rate", "Gbit/s")],
        beside: &[],
        tails: &[],
        disk: None,
    },
    Load {
        name: "fio-random-read",
        says: "fio reads 4 KiB at a time anywhere in a file, past the page cache.",
        disk: Some(Way::Read),
        ..FIO
    },
    Load {
        name: "fio-random-write",
        says: "fio writes 4 KiB at a time anywhere in a file, each onto the disk.",
        ..FIO
    },
    Load {
        name: "fio-write",
        says: "fio writes a file 1 MiB at a time, each onto the disk.",
        rates: &[("bandwidth", "MiB/s")],
        beside: &[("IOPS", "1/s")],
        ..FIO
    },
    Load {
        name: POSTGRESQL,
        says: "PostgreSQL under sysbench's oltp_read_write: 4 clients over a unix socket, each commit on the disk.",
        programs: &["sysbench", POSTGRESQL],
        rates: &[("transactions", "1/s")],
        beside: &[],
        tails: &[("p95", "ms")],
        disk: None,
    },
];

const FIO: Load = Load {
    name: "",
    says: "",
    programs: &["fio"],
    rates: &[("IOPS", "1/s")],
    beside: &[("bandwidth", "MiB/s")],
    tails: &[("p99", "µs")],
    disk: Some(Way::Written),
};

/// How much of what a load says it moved this machine's disks must have moved, too; the rest of the machine adds to that.
const SEEN: f64 = 0.5;

/// What a load says it moved, MiB.
const MOVED: &str = "moved";

/// The line that `bulkload` prints.
#[derive(Debug, Deserialize)]
struct Line {
    amounts: BTreeMap<String, f64>,
}

impl Load {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().copied()
    }

    /// As `bulkload` knows it.
    pub fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn says(self) -> &'static str {
        self.says
    }

    /// Rates are compared until they are known well enough; the rest is told.
    pub(super) fn quantities(self) -> Vec<Quantity> {
        let rates = self.rates.iter().map(|(name, unit)| Quantity::more(name, unit));
        let beside = self.beside.iter().map(|(name, unit)| Quantity::more(name, unit).beside());
        let tails = self.tails.iter().map(|(name, unit)| Quantity::less(name, unit).beside());
        rates.chain(tails).chain(beside).collect()
    }

    pub(super) fn take(self, stage: Stage<'_>) -> Result<Amounts, Failure> {
        stage.arena.need(self.programs)?;
        stage.on_seat(&["heavy", self.name, "--seconds", SECONDS], |seat, words| {
            let before = moved();
            let started = arena::start(stage.platform.run(seat, words), seat, Input::Nothing)?;
            let line = last_line(&started.finish(LIMIT)?.output, "the workload")?;
            self.witness(&line, before.zip(moved()))?;
            Ok(self.amounts(&line))
        })
    }

    /// A disk that has seen nothing of what was moved was not measured. Both of the disks' figures are MiB.
    fn witness(self, line: &Line, disks: Option<(Moved, Moved)>) -> Result<(), Failure> {
        let Some((way, told)) = self.disk.zip(line.amounts.get(MOVED).copied()) else { return Ok(()) };
        let (before, after) =
            disks.ok_or_else(|| Failure("/proc/diskstats tells nothing of disks".to_owned()))?;
        let seen = match way {
            Way::Read => after.read - before.read,
            Way::Written => after.written - before.written,
        };
        if seen >= told * SEEN {
            return Ok(());
        }
        let rate = line.amounts.get("IOPS").copied().unwrap_or_default();
        Err(Failure(format!(
            "memory answers for the disk: of {told:.0} MiB, at {rate:.0} IOPS, this machine's disks saw {seen:.0}"
        )))
    }

    fn amounts(self, line: &Line) -> Amounts {
        let names = [self.rates, self.tails, self.beside].into_iter().flatten();
        let amounts = names.map(|(name, _)| {
            let amount = line.amounts.get(*name).copied();
            let missing = || Err(Failure(format!("the workload did not tell {name}")));
            (*name, amount.map_or_else(missing, Amount::new))
        });
        amounts.collect()
    }
}

/// What this machine's disks have moved since it was started, MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moved {
    read: f64,
    written: f64,
}

fn moved() -> Option<Moved> {
    moved_in(&std::fs::read_to_string("/proc/diskstats").ok()?)
}

/// Adds up the sectors, which are of 512 bytes whatever the disk's are: columns 6 and 10 of
/// Documentation/admin-guide/iostats.rst. A partition counts beside its disk, which does no harm.
fn moved_in(text: &str) -> Option<Moved> {
    let mut sum = Moved { read: 0.0, written: 0.0 };
    for line in text.lines() {
        let fields = Vec::from_iter(line.split_whitespace());
        let mebibytes = |place: usize| Some(fields.get(place)?.parse::<f64>().ok()? / 2048.0);
        sum.read += mebibytes(5)?;
        sum.written += mebibytes(9)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        last_line(text.as_bytes(), "the workload").unwrap()
    }

    #[test]
    fn every_quantity_is_found_in_the_line() {
        let redis = ALL[0];
        let text = r#"{"heavy":"redis","amounts":{"GET":2.0,"GET p99":0.5,"SET":1.0,"SET p99":0.7}}"#;
        let amounts = redis.amounts(&line(&format!("a warning\n{text}\n")));
        assert_eq!(amounts[0], ("SET", Amount::new(1.0)));
        let names = Vec::from_iter(amounts.iter().map(|(name, _)| *name));
        let quantities = redis.quantities();
        assert_eq!(names, Vec::from_iter(quantities.iter().map(|quantity| quantity.name.as_str())));
        assert!(amounts.iter().all(|(_, outcome)| outcome.is_ok()));
        let amounts = redis.amounts(&line(r#"{"heavy":"redis","amounts":{"SET":1.0}}"#));
        assert!(amounts[1].1.is_err(), "{amounts:?}");
    }

    #[test]
    fn a_disk_that_saw_nothing_was_not_measured() {
        let [reads, redis] =
            ["fio-random-read", "redis"].map(|name| Load::all().find(|load| load.name == name).unwrap());
        let told = line(r#"{"amounts":{"IOPS":51200,"moved":400}}"#);
        let seen = |read: f64| {
            let before = Moved { read: 1000.0, written: 0.0 };
            Some((before, Moved { read: before.read + read, written: 400.0 }))
        };
        assert_eq!(reads.witness(&told, seen(390.0)), Ok(()));
        let failure = reads.witness(&told, seen(3.0)).unwrap_err();
        assert_eq!(
            failure.0,
            "memory answers for the disk: of 400 MiB, at 51200 IOPS, this machine's disks saw 3"
        );
        assert!(reads.witness(&told, None).is_err());
        assert_eq!(redis.witness(&told, seen(0.0)), Ok(()));
    }

    #[test]
    fn sectors_are_added_up() {
        let text = " 254 0 vda 100 0 2048 5 7 0 4096 9 0 1 1\n 254 1 vda1 9 0 2048 5 7 0 0 9 0 1 1 0 0 0 0\n";
        assert_eq!(moved_in(text), Some(Moved { read: 2.0, written: 2.0 }));
        assert_eq!(moved_in("254 0 vda 1\n"), None);
        assert!(moved().is_some(), "this machine tells nothing of disks");
    }
}
