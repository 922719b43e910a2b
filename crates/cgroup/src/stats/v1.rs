//! Statistics of the v1 controllers.

use super::parse::{malformed, number, numbers, page_sizes, pairs, rdma};
use super::{
    CpuStats, CpusetStats, HugetlbStats, IoEntry, IoStats, MemoryStats, MemoryUsage, RdmaStats, Stats,
};
use crate::dir::Dir;
use crate::error::Result;

/// The kernel counts v1 user and system time in ticks of 1/100 s, on every machine.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// Reads what one controller tells.
pub(super) fn read(dir: &Dir, controller: &str, stats: &mut Stats) -> Result<()> {
    match controller {
        "cpu" => throttling(dir, &mut stats.cpu),
        "cpuacct" => cpu_time(dir, &mut stats.cpu),
        "cpuset" => cpuset(dir, &mut stats.cpuset),
        "memory" => memory(dir, &mut stats.memory),
        "pids" => {
            stats.pids.current = number(dir, "pids.current")?.unwrap_or_default();
            let limit = number(dir, "pids.max")?.unwrap_or_default();
            stats.pids.limit = if limit == u64::MAX { 0 } else { limit };
            Ok(())
        }
        "blkio" => io(dir, &mut stats.io),
        "hugetlb" => {
            for size in page_sizes(dir, ".limit_in_bytes")? {
                let entry = hugetlb(dir, &size)?;
                stats.hugetlb.insert(size, entry);
            }
            Ok(())
        }
        "rdma" => {
            stats.rdma = RdmaStats { current: rdma(dir, "rdma.current")?, limit: rdma(dir, "rdma.max")? };
            Ok(())
        }
        _ => Ok(()),
    }
}

fn throttling(dir: &Dir, cpu: &mut CpuStats) -> Result<()> {
    for (key, value) in pairs(dir, "cpu.stat")? {
        match key.as_str() {
            "nr_periods" => cpu.throttling.periods = value,
            "nr_throttled" => cpu.throttling.throttled_periods = value,
            "throttled_time" => cpu.throttling.throttled_time = value,
            "nr_bursts" => cpu.burst.periods = value,
            "burst_time" => cpu.burst.time = value,
            _ => {}
        }
    }
    Ok(())
}

fn cpu_time(dir: &Dir, cpu: &mut CpuStats) -> Result<()> {
    cpu.total = number(dir, "cpuacct.usage")?.unwrap_or_default();
    for (key, ticks) in pairs(dir, "cpuacct.stat")? {
        let time = ticks.saturating_mul(NANOSECONDS_PER_TICK);
        match key.as_str() {
            "user" => cpu.user = time,
            "system" => cpu.kernel = time,
            _ => {}
        }
    }
    let text = dir.read_if_there("cpuacct.usage_percpu")?.unwrap_or_default();
    cpu.per_cpu = numbers(dir, "cpuacct.usage_percpu", &text)?;
    // `cpu user system`, then a line for each CPU; Linux 4.7.
    for line in dir.read_if_there("cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let [_, user, kernel, ..] = numbers::<u64>(dir, "cpuacct.usage_all", line)?[..] else {
            return Err(malformed(dir, "cpuacct.usage_all", line));
        };
        cpu.per_cpu_user.push(user);
        cpu.per_cpu_kernel.push(kernel);
    }
    Ok(())
}

fn cpuset(dir: &Dir, cpuset: &mut CpusetStats) -> Result<()> {
    // Without a prefix where the hierarchy is mounted so.
    let read = |name: &str| -> Result<Option<String>> {
        match dir.read_if_there(&format!("cpuset.{name}"))? {
            None => dir.read_if_there(name),
            text => Ok(text),
        }
    };
    let flag = |name: &str| -> Result<u64> {
        let text = read(name)?.unwrap_or_default();
        Ok(numbers(dir, name, &text)?.first().copied().unwrap_or_default())
    };
    let list = |name: &str| -> Result<Vec<u16>> {
        let text = read(name)?.unwrap_or_default();
        expanded(text.trim()).ok_or_else(|| malformed(dir, name, &text))
    };
    let level = read("sched_relax_domain_level")?.unwrap_or_default();
    *cpuset = CpusetStats {
        cpus: list("cpus")?,
        cpu_exclusive: flag("cpu_exclusive")?,
        mems: list("mems")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: numbers(dir, "sched_relax_domain_level", &level)?
            .first()
            .copied()
            .unwrap_or_default(),
    };
    Ok(())
}

/// Expands a list such as `0-3,7`.
fn expanded(list: &str) -> Option<Vec<u16>> {
    let mut all = Vec::new();
    for item in list.split(',').filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        all.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

fn memory(dir: &Dir, memory: &mut MemoryStats) -> Result<()> {
    memory.raw = pairs(dir, "memory.stat")?.into_iter().collect();
    memory.cache = memory.raw.get("cache").copied().unwrap_or_default();
    memory.usage = usage(dir, "memory")?;
    memory.memory_and_swap = usage(dir, "memory.memsw")?;
    memory.swap_only = MemoryUsage {
        usage: memory.memory_and_swap.usage.saturating_sub(memory.usage.usage),
        failures: memory.memory_and_swap.failures.saturating_sub(memory.usage.failures),
        ..MemoryUsage::default()
    };
    memory.kernel = usage(dir, "memory.kmem")?;
    memory.kernel_tcp = usage(dir, "memory.kmem.tcp")?;
    memory.hierarchical = number(dir, "memory.use_hierarchy")? == Some(1);
    Ok(())
}

fn usage(dir: &Dir, prefix: &str) -> Result<MemoryUsage> {
    let read = |name: &str| Ok(number(dir, &format!("{prefix}.{name}"))?.unwrap_or_default());
    Ok(MemoryUsage {
        usage: read("usage_in_bytes")?,
        peak: read("max_usage_in_bytes")?,
        failures: read("failcnt")?,
        limit: read("limit_in_bytes")?,
    })
}

fn hugetlb(dir: &Dir, size: &str) -> Result<HugetlbStats> {
    let read = |name: &str| -> Result<u64> {
        // Reservations where the kernel accounts them (5.7), as they are what the limits are about.
        match number(dir, &format!("hugetlb.{size}.rsvd.{name}"))? {
            None => Ok(number(dir, &format!("hugetlb.{size}.{name}"))?.unwrap_or_default()),
            Some(value) => Ok(value),
        }
    };
    Ok(HugetlbStats {
        usage: read("usage_in_bytes")?,
        peak: read("max_usage_in_bytes")?,
        failures: read("failcnt")?,
    })
}

/// Sets of files, of which the first that the kernel has is read whole: which there is depends on the I/O scheduler,
/// debugging options and age.
fn io(dir: &Dir, io: &mut IoStats) -> Result<()> {
    for scheduler in ["blkio.bfq.", "blkio."] {
        let read = |name: &str| entries(dir, &format!("{scheduler}{name}_recursive"));
        let Some(serviced) = read("io_serviced")? else { continue };
        io.serviced = serviced;
        io.service_bytes = read("io_service_bytes")?.unwrap_or_default();
        io.sectors = read("sectors")?.unwrap_or_default();
        io.service_time = read("io_service_time")?.unwrap_or_default();
        io.wait_time = read("io_wait_time")?.unwrap_or_default();
        io.merged = read("io_merged")?.unwrap_or_default();
        io.queued = read("io_queued")?.unwrap_or_default();
        io.time = read("time")?.unwrap_or_default();
        if !(io.serviced.is_empty() && io.service_bytes.is_empty()) {
            return Ok(());
        }
    }
    // The scheduler's files stay empty for devices that it does not schedule; the throttling layer sees all.
    for suffix in ["_recursive", ""] {
        let serviced = entries(dir, &format!("blkio.throttle.io_serviced{suffix}"))?;
        if let Some(serviced) = serviced {
            io.serviced = serviced;
            io.service_bytes =
                entries(dir, &format!("blkio.throttle.io_service_bytes{suffix}"))?.unwrap_or_default();
            return Ok(());
        }
    }
    Ok(())
}

/// Reads lines `8:0 Read 124` or `8:0 6792`, and passes over the sum over all devices.
fn entries(dir: &Dir, file: &str) -> Result<Option<Vec<IoEntry>>> {
    let Some(text) = dir.read_if_there(file)? else { return Ok(None) };
    let entries = text
        .lines()
        .filter(|line| !line.starts_with("Total"))
        .map(|line| entry(line).ok_or_else(|| malformed(dir, file, line)));
    entries.collect::<Result<_>>().map(Some)
}

fn entry(line: &str) -> Option<IoEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let (operation, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
    Some(IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        operation: operation.to_owned(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::testing::Fake;

    #[test]
    fn a_line_of_block_statistics_has_an_operation_or_none() {
        let of = |major, minor, operation: &str, value| IoEntry {
            major,
            minor,
            operation: operation.into(),
            value,
        };
        assert_eq!(entry("8:0 Read 124"), Some(of(8, 0, "Read", 124)));
        assert_eq!(entry("259:16 6792"), Some(of(259, 16, "", 6792)));
        for bad in ["", "8:0", "8 Read 1", "8:0 Read x"] {
            assert_eq!(entry(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_first_set_of_files_that_tells_something_is_read() {
        let throttle = ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\nTotal 1\n");
        let old = ("blkio.throttle.io_serviced", "8:0 Read 9\n");
        let bfq = ("blkio.bfq.io_serviced_recursive", "8:0 Read 2\n8:0 Total 2\nTotal 2\n");
        let silent = ("blkio.bfq.io_serviced_recursive", "Total 0\n");
        for (files, values) in [
            (vec![bfq, throttle], vec![2, 2]),
            (vec![silent, throttle], vec![1]),
            (vec![throttle, old], vec![1]),
            (vec![old], vec![9]),
            (vec![], vec![]),
        ] {
            let mut stats = IoStats::default();
            io(&Fake::new(&files).dir, &mut stats).unwrap();
            let found: Vec<u64> = stats.serviced.iter().map(|entry| entry.value).collect();
            assert_eq!(found, values, "{files:?}");
        }
    }

    #[test]
    fn a_list_is_expanded() {
        assert_eq!(expanded("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(expanded(""), Some(vec![]));
        assert_eq!(expanded("0-x"), None);
    }
}
