//! Programs that others wrote, as they are at work on servers and in the literature: `bulkload heavy` has them work, and
//! tells what their clients measured.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Amounts, Stage};
use crate::arena;
use crate::disk::{Moved, SEEN};
use crate::plan::Quantity;
use crate::printed::last_line;
use crate::programs::POSTGRESQL;
use crate::started::Input;
use crate::stats::{Amount, Failure};

/// How long a client works, seconds.
const SECONDS: u32 = 2;

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
    /// As often as was committed.
    Commits,
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
        rates: &[(COMMITS, "1/s")],
        beside: &[],
        tails: &[("p95", "ms")],
        disk: Some(Way::Commits),
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

/// Clients that commit at the same time share a write.
const CLIENTS: f64 = 4.0;

/// What a database is measured by.
const COMMITS: &str = "transactions";

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
        stage.on_seat(&["heavy", self.name, "--seconds", &SECONDS.to_string()], |seat, words| {
            let disk = self.disk.map(|_| stage.arena.disk(stage.platform)).transpose()?;
            let started = arena::start(stage.platform.run(seat, words), seat, Input::Nothing)?;
            let line = last_line(&started.finish(LIMIT)?.output, "the workload")?;
            disk.map_or(Ok(()), |disk| self.witness(&line, disk.since()?))?;
            Ok(self.amounts(&line))
        })
    }

    /// A disk that has seen nothing of what was moved was not measured. Both of the disks' figures are MiB.
    fn witness(self, line: &Line, seen: Moved) -> Result<(), Failure> {
        let rate = |name: &str| line.amounts.get(name).copied().unwrap_or_default();
        let seen = match self.disk {
            None => return Ok(()),
            Some(Way::Commits) => {
                return seen.witness(rate(COMMITS) * f64::from(SECONDS) / CLIENTS);
            }
            Some(Way::Read) => seen.read,
            Some(Way::Written) => seen.written,
        };
        let Some(told) = line.amounts.get(MOVED).copied() else { return Ok(()) };
        if seen >= told * SEEN {
            return Ok(());
        }
        Err(Failure(format!(
            "memory answers for the disk: of {told:.0} MiB, at {:.0} IOPS, it saw {seen:.0}",
            rate("IOPS")
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
        let [reads, redis, commits] = ["fio-random-read", "redis", POSTGRESQL]
            .map(|name| Load::all().find(|load| load.name == name).unwrap());
        let told = line(r#"{"amounts":{"IOPS":51200,"moved":400}}"#);
        let seen = |read: f64, writes: f64| Moved { read, written: 400.0, writes };
        assert_eq!(reads.witness(&told, seen(390.0, 0.0)), Ok(()));
        let failure = reads.witness(&told, seen(3.0, 0.0)).unwrap_err();
        assert_eq!(failure.0, "memory answers for the disk: of 400 MiB, at 51200 IOPS, it saw 3");
        assert_eq!(redis.witness(&told, seen(0.0, 0.0)), Ok(()));
        // 200 a second for two seconds, four at once at best.
        let told = line(r#"{"amounts":{"transactions":200}}"#);
        assert_eq!(commits.witness(&told, seen(0.0, 50.0)), Ok(()));
        assert!(commits.witness(&told, seen(0.0, 49.0)).unwrap_err().0.contains("of 100 writes"));
    }
}
