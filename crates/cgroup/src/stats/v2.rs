//! Statistics of the v2 hierarchy.

use super::parse::{malformed, number, page_sizes, pairs, pressure, rdma, value_of};
use super::{
    CpuStats, HugetlbStats, IoEntry, IoStats, MemoryStats, MemoryUsage, PidsStats, RdmaStats, Stats,
};
use crate::dir::Dir;
use crate::error::Result;

const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// Reads everything.
pub(super) fn read(dir: &Dir, stats: &mut Stats) -> Result<()> {
    stats.pids = pids(dir)?;
    memory(dir, &mut stats.memory)?;
    io(dir, &mut stats.io)?;
    cpu(dir, &mut stats.cpu)?;
    rest(dir, stats)
}

/// Reads what v1 does not tell: pressure, and controllers that are bound to this hierarchy.
pub(super) fn read_beside_v1(dir: &Dir, stats: &mut Stats) -> Result<()> {
    rest(dir, stats)
}

fn rest(dir: &Dir, stats: &mut Stats) -> Result<()> {
    stats.cpu.pressure = pressure(dir, "cpu.pressure")?;
    stats.memory.pressure = pressure(dir, "memory.pressure")?;
    stats.io.pressure = pressure(dir, "io.pressure")?;
    for size in page_sizes(dir, ".events")? {
        let prefix = format!("hugetlb.{size}");
        let usage = match number(dir, &format!("{prefix}.rsvd.current"))? {
            None => number(dir, &format!("{prefix}.current"))?,
            usage => usage,
        };
        let failures = value_of(dir, &format!("{prefix}.events"), "max")?.unwrap_or_default();
        stats.hugetlb.insert(size, HugetlbStats { usage: usage.unwrap_or_default(), peak: 0, failures });
    }
    let rdma = RdmaStats { current: rdma(dir, "rdma.current")?, limit: rdma(dir, "rdma.max")? };
    // A device that went away between the two reads would make them tell of different devices.
    if !rdma.current.is_empty() && rdma.current.len() == rdma.limit.len() {
        stats.rdma = rdma;
    }
    for (name, usage) in pairs(dir, "misc.current")? {
        stats.misc.entry(name).or_default().usage = usage;
    }
    for (name, events) in pairs(dir, "misc.events")? {
        let name = name.strip_suffix(".max").unwrap_or(&name).to_owned();
        stats.misc.entry(name).or_default().events = events;
    }
    Ok(())
}

fn pids(dir: &Dir) -> Result<PidsStats> {
    let Some(current) = number(dir, "pids.current")? else {
        // Without the controller the list itself is counted.
        let list = dir.read_if_there("cgroup.procs")?.or(dir.read_if_there("cgroup.threads")?);
        return Ok(PidsStats { current: list.unwrap_or_default().lines().count() as u64, limit: 0 });
    };
    let limit = number(dir, "pids.max")?.filter(|limit| *limit != u64::MAX);
    Ok(PidsStats { current, limit: limit.unwrap_or_default() })
}

fn memory(dir: &Dir, memory: &mut MemoryStats) -> Result<()> {
    memory.raw = pairs(dir, "memory.stat")?.into_iter().collect();
    memory.cache = memory.raw.get("file").copied().unwrap_or_default();
    memory.hierarchical = true;
    memory.usage = usage(dir, "memory")?;
    memory.swap_only = usage(dir, "memory.swap")?;
    // The sum, as v1 tells it; the peaks of the two were not at the same time.
    let (alone, swap) = (memory.usage, memory.swap_only);
    memory.memory_and_swap = MemoryUsage {
        usage: alone.usage.saturating_add(swap.usage),
        limit: swap.limit.saturating_add(if swap.limit == u64::MAX { 0 } else { alone.limit }),
        ..MemoryUsage::default()
    };
    Ok(())
}

fn usage(dir: &Dir, prefix: &str) -> Result<MemoryUsage> {
    let read = |name: &str| Ok(number(dir, &format!("{prefix}.{name}"))?.unwrap_or_default());
    // `memory.peak` since Linux 5.19, `memory.swap.peak` since 6.5
    Ok(MemoryUsage { usage: read("current")?, peak: read("peak")?, failures: 0, limit: read("max")? })
}

fn cpu(dir: &Dir, cpu: &mut CpuStats) -> Result<()> {
    for (key, value) in pairs(dir, "cpu.stat")? {
        let time = value.saturating_mul(NANOSECONDS_PER_MICROSECOND);
        match key.as_str() {
            "usage_usec" => cpu.total = time,
            "user_usec" => cpu.user = time,
            "system_usec" => cpu.kernel = time,
            "nr_periods" => cpu.throttling.periods = value,
            "nr_throttled" => cpu.throttling.throttled_periods = value,
            "throttled_usec" => cpu.throttling.throttled_time = time,
            "nr_bursts" => cpu.burst.periods = value,
            "burst_usec" => cpu.burst.time = time,
            _ => {}
        }
    }
    Ok(())
}

/// Reads lines `8:0 rbytes=90112 wbytes=0 rios=22 …` into the lists of v1.
fn io(dir: &Dir, io: &mut IoStats) -> Result<()> {
    let text = dir.read_if_there("io.stat")?.unwrap_or_default();
    text.lines().try_for_each(|line| io_line(line, io).ok_or_else(|| malformed(dir, "io.stat", line)))
}

fn io_line(line: &str, io: &mut IoStats) -> Option<()> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let (list, operation) = match key {
            "rbytes" => (&mut io.service_bytes, "Read"),
            "wbytes" => (&mut io.service_bytes, "Write"),
            "rios" => (&mut io.serviced, "Read"),
            "wios" => (&mut io.serviced, "Write"),
            "cost.usage" => (&mut io.cost.usage, "Count"),
            "cost.wait" => (&mut io.cost.wait, "Count"),
            "cost.indebt" => (&mut io.cost.indebt, "Count"),
            "cost.indelay" => (&mut io.cost.indelay, "Count"),
            _ => continue,
        };
        list.push(IoEntry { major, minor, operation: operation.to_owned(), value: value.parse().ok()? });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::testing::Fake;
    use crate::stats::{MiscStats, RdmaEntry, Stall};

    const FILES: [(&str, &str); 22] = [
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        ("memory.stat", "anon 10\nfile 20\n"),
        ("memory.current", "100\n"),
        ("memory.max", "1000\n"),
        ("memory.peak", "500\n"),
        ("memory.swap.current", "5\n"),
        ("memory.swap.max", "max\n"),
        (
            "memory.pressure",
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
        ),
        (
            "io.stat",
            "8:0 rbytes=90112 wbytes=4096 rios=22 wios=1 dbytes=0 dios=0 cost.usage=5\n259:1 rbytes=1\n",
        ),
        (
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 0\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\nnr_bursts 1\nburst_usec 3\n",
        ),
        ("hugetlb.2MB.current", "8\n"),
        ("hugetlb.2MB.rsvd.current", "16\n"),
        ("hugetlb.2MB.events", "max 2\n"),
        ("hugetlb.2MB.events.local", "max 2\n"),
        ("hugetlb.2MB.numa_stat", "total=0 N0=0\n"),
        ("hugetlb.1GB.current", "7\n"),
        ("hugetlb.1GB.events", "max 0\n"),
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
        ("rdma.max", "mlx4_0 hca_handle=max hca_object=3000\n"),
        ("misc.current", "sev 1\n"),
        ("misc.events", "sev.max 4\n"),
    ];

    #[test]
    fn every_file_finds_its_place() {
        let mut stats = Stats::default();
        read(&Fake::new(&FILES).dir, &mut stats).unwrap();
        assert_eq!(stats.pids, PidsStats { current: 3, limit: 0 });
        assert_eq!(stats.memory.usage, MemoryUsage { usage: 100, peak: 500, failures: 0, limit: 1000 });
        assert_eq!((stats.memory.memory_and_swap.usage, stats.memory.memory_and_swap.limit), (105, u64::MAX));
        assert_eq!((stats.memory.cache, stats.memory.raw["anon"]), (20, 10));
        let some = Stall { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 77 };
        assert_eq!(stats.memory.pressure.unwrap().some, some);
        assert_eq!(stats.cpu.pressure, None, "a file that is missing is no pressure");
        let of = |major, minor, operation: &str, value| IoEntry {
            major,
            minor,
            operation: operation.into(),
            value,
        };
        assert_eq!(
            stats.io.service_bytes,
            [of(8, 0, "Read", 90112), of(8, 0, "Write", 4096), of(259, 1, "Read", 1)]
        );
        assert_eq!(stats.io.serviced, [of(8, 0, "Read", 22), of(8, 0, "Write", 1)]);
        assert_eq!(stats.io.cost.usage, [of(8, 0, "Count", 5)]);
        assert_eq!((stats.cpu.total, stats.cpu.user, stats.cpu.kernel), (30_000, 20_000, 10_000));
        assert_eq!((stats.cpu.throttling.throttled_time, stats.cpu.burst.time), (9_000, 3_000));
        assert_eq!(stats.hugetlb["2MB"], HugetlbStats { usage: 16, peak: 0, failures: 2 });
        assert_eq!(stats.hugetlb["1GB"].usage, 7, "without reservations use is told");
        assert_eq!(
            stats.rdma.limit,
            [RdmaEntry { device: "mlx4_0".into(), handles: u32::MAX, objects: 3000 }]
        );
        assert_eq!(stats.misc["sev"], MiscStats { usage: 1, events: 4 });
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for (file, content) in
            [("pids.current", "x\n"), ("cpu.stat", "usage_usec\n"), ("io.stat", "8 rbytes=1\n")]
        {
            let fake = Fake::new(&[(file, content)]);
            let error = read(&fake.dir, &mut Stats::default()).unwrap_err();
            let expected = format!("unexpected content of {}/{file}: {:?}", fake.dir.path(), content.trim());
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn an_empty_directory_tells_nothing() {
        let mut stats = Stats::default();
        read(&Fake::new(&[]).dir, &mut stats).unwrap();
        assert_eq!(
            stats,
            Stats { memory: MemoryStats { hierarchical: true, ..Default::default() }, ..Default::default() }
        );
    }
}
