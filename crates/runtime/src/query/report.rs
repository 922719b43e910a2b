//! The JSON lines of `events`, in the shape of runc's `types.Event`.
//!
//! The shape is what cAdvisor and others parse: names, the order of fields, and which of them are left out when
//! they are zero.

use std::collections::BTreeMap;

use bulkhead_cgroup::Stats;
use bulkhead_cgroup::stats::{
    CpuStats, CpusetStats, HugetlbStats, IoEntry, IoStats, MemoryStats, MemoryUsage, PidsStats, Pressure,
    Stall, Throttling,
};
use serde::Serialize;

use crate::resctrl;

/// One line.
#[derive(Serialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

impl<'a> Event<'a> {
    /// Reports what a container has used.
    pub(super) fn stats(id: &'a str, stats: &'a Stats, rdt: &'a resctrl::Stats) -> Self {
        Self { kind: "stats", id, data: Some(Data::new(stats, rdt)) }
    }

    /// Reports that a container ran out of memory.
    pub(super) fn oom(id: &'a str) -> Self {
        Self { kind: "oom", id, data: None }
    }

    /// Returns the line, with its end.
    pub(super) fn line(&self) -> String {
        // Serialising plain structs with text for keys cannot fail.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

#[derive(Serialize)]
struct Data<'a> {
    cpu: Cpu<'a>,
    cpuset: Cpuset<'a>,
    memory: Memory<'a>,
    pids: Pids,
    blkio: Blkio<'a>,
    hugetlb: BTreeMap<&'a str, Hugetlb>,
    intel_rdt: &'a resctrl::Stats,
    network_interfaces: Option<()>,
}

impl<'a> Data<'a> {
    fn new(stats: &'a Stats, rdt: &'a resctrl::Stats) -> Self {
        // runc reports rdma and misc nowhere either.
        let Stats { cpu, cpuset, memory, pids, io, hugetlb, rdma: _, misc: _ } = stats;
        Self {
            cpu: Cpu::from(cpu),
            cpuset: Cpuset::from(cpuset),
            memory: Memory::from(memory),
            pids: Pids::from(pids),
            blkio: Blkio::from(io),
            hugetlb: hugetlb.iter().map(|(size, stats)| (size.as_str(), Hugetlb::from(stats))).collect(),
            intel_rdt: rdt,
            network_interfaces: None,
        }
    }
}

#[derive(Serialize)]
struct Cpu<'a> {
    usage: CpuUsage<'a>,
    throttling: CpuThrottling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct CpuUsage<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    percpu: &'a [u64],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    percpu_kernel: &'a [u64],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    percpu_user: &'a [u64],
    kernel: u64,
    user: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CpuThrottling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

impl<'a> From<&'a CpuStats> for Cpu<'a> {
    fn from(stats: &'a CpuStats) -> Self {
        let CpuStats {
            total,
            user,
            kernel,
            per_cpu,
            per_cpu_user,
            per_cpu_kernel,
            throttling,
            burst: _,
            pressure,
        } = stats;
        let &Throttling { periods, throttled_periods, throttled_time } = throttling;
        Self {
            usage: CpuUsage {
                total: *total,
                percpu: per_cpu,
                percpu_kernel: per_cpu_kernel,
                percpu_user: per_cpu_user,
                kernel: *kernel,
                user: *user,
            },
            throttling: CpuThrottling { periods, throttled_periods, throttled_time },
            psi: pressure.map(Psi::from),
        }
    }
}

#[derive(Serialize)]
struct Cpuset<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cpus: &'a [u16],
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    mems: &'a [u16],
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

impl<'a> From<&'a CpusetStats> for Cpuset<'a> {
    fn from(stats: &'a CpusetStats) -> Self {
        let CpusetStats {
            cpus,
            cpu_exclusive,
            mems,
            mem_hardwall,
            mem_exclusive,
            memory_migrate,
            memory_spread_page,
            memory_spread_slab,
            memory_pressure,
            sched_load_balance,
            sched_relax_domain_level,
        } = stats;
        Self {
            cpus,
            cpu_exclusive: *cpu_exclusive,
            mems,
            mem_hardwall: *mem_hardwall,
            mem_exclusive: *mem_exclusive,
            memory_migrate: *memory_migrate,
            memory_spread_page: *memory_spread_page,
            memory_spread_slab: *memory_spread_slab,
            memory_pressure: *memory_pressure,
            sched_load_balance: *sched_load_balance,
            sched_relax_domain_level: *sched_relax_domain_level,
        }
    }
}

#[derive(Serialize)]
struct Memory<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

impl<'a> From<&'a MemoryStats> for Memory<'a> {
    fn from(stats: &'a MemoryStats) -> Self {
        let MemoryStats {
            cache,
            usage,
            memory_and_swap,
            swap_only: _,
            kernel,
            kernel_tcp,
            hierarchical: _,
            raw,
            pressure,
        } = stats;
        Self {
            cache: *cache,
            usage: usage.into(),
            swap: memory_and_swap.into(),
            kernel: kernel.into(),
            kernel_tcp: kernel_tcp.into(),
            raw,
            psi: pressure.map(Psi::from),
        }
    }
}

impl From<&MemoryUsage> for MemoryEntry {
    fn from(&MemoryUsage { usage, peak, failures, limit }: &MemoryUsage) -> Self {
        Self { limit, usage, max: peak, failcnt: failures }
    }
}

#[derive(Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

impl From<&PidsStats> for Pids {
    fn from(&PidsStats { current, limit }: &PidsStats) -> Self {
        Self { current, limit }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_queue_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_time_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_wait_time_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_merged_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_time_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sectors_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct BlkioEntry<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

impl<'a> From<&'a IoStats> for Blkio<'a> {
    fn from(stats: &'a IoStats) -> Self {
        let IoStats {
            service_bytes,
            serviced,
            queued,
            service_time,
            wait_time,
            merged,
            time,
            sectors,
            cost: _,
            pressure,
        } = stats;
        Self {
            io_service_bytes_recursive: entries(service_bytes),
            io_serviced_recursive: entries(serviced),
            io_queue_recursive: entries(queued),
            io_service_time_recursive: entries(service_time),
            io_wait_time_recursive: entries(wait_time),
            io_merged_recursive: entries(merged),
            io_time_recursive: entries(time),
            sectors_recursive: entries(sectors),
            psi: pressure.map(Psi::from),
        }
    }
}

fn entries<'a>(stats: &'a [IoEntry]) -> Vec<BlkioEntry<'a>> {
    let entry = |stats: &'a IoEntry| {
        let IoEntry { major, minor, operation, value } = stats;
        BlkioEntry { major: *major, minor: *minor, op: operation, value: *value }
    };
    stats.iter().map(entry).collect()
}

#[derive(Serialize)]
struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

impl From<&HugetlbStats> for Hugetlb {
    fn from(&HugetlbStats { usage, peak, failures }: &HugetlbStats) -> Self {
        Self { usage, max: peak, failcnt: failures }
    }
}

#[derive(Serialize)]
struct Psi {
    some: PsiData,
    full: PsiData,
}

#[derive(Serialize)]
struct PsiData {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

impl From<Pressure> for Psi {
    fn from(Pressure { some, full }: Pressure) -> Self {
        Self { some: some.into(), full: full.into() }
    }
}

impl From<Stall> for PsiData {
    fn from(Stall { avg10, avg60, avg300, total }: Stall) -> Self {
        Self { avg10, avg60, avg300, total }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_has_the_fields_that_runc_never_leaves_out() {
        let expected = concat!(
            r#"{"type":"stats","id":"c","data":{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"#,
            r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"#,
            r#""memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"#,
            r#""sched_relax_domain_level":0},"memory":{"usage":{"limit":0,"failcnt":0},"#,
            r#""swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"#,
            r#""kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"#,
            r#""network_interfaces":null}}"#,
            "\n"
        );
        assert_eq!(Event::stats("c", &Stats::default(), &resctrl::Stats::default()).line(), expected);
    }

    #[test]
    fn numbers_land_where_runc_puts_them() {
        let stall = |total| Stall { avg10: 1.5, avg60: 0.25, avg300: 0.0, total };
        let pressure = Some(Pressure { some: stall(7), full: stall(3) });
        let mut stats = Stats::default();
        stats.cpu.total = 30;
        stats.cpu.user = 20;
        stats.cpu.kernel = 10;
        stats.cpu.per_cpu = vec![30, 0];
        stats.cpu.throttling = Throttling { periods: 5, throttled_periods: 4, throttled_time: 3 };
        stats.cpu.pressure = pressure;
        stats.cpuset.cpus = vec![0, 1];
        stats.memory.cache = 9;
        stats.memory.usage = MemoryUsage { usage: 1, peak: 2, failures: 3, limit: u64::MAX };
        stats.memory.raw.insert("anon".to_owned(), 11);
        stats.pids = PidsStats { current: 2, limit: 100 };
        stats.io.service_bytes =
            vec![IoEntry { major: 8, minor: 0, operation: "Read".to_owned(), value: 4096 }];
        stats.hugetlb.insert("2MB".to_owned(), HugetlbStats { usage: 1, peak: 0, failures: 2 });
        let line: serde_json::Value =
            serde_json::from_str(&Event::stats("c", &stats, &resctrl::Stats::default()).line()).unwrap();
        let data = &line["data"];
        assert_eq!(
            data["cpu"].to_string(),
            concat!(
                r#"{"psi":{"full":{"avg10":1.5,"avg300":0.0,"avg60":0.25,"total":3},"#,
                r#""some":{"avg10":1.5,"avg300":0.0,"avg60":0.25,"total":7}},"#,
                r#""throttling":{"periods":5,"throttledPeriods":4,"throttledTime":3},"#,
                r#""usage":{"kernel":10,"percpu":[30,0],"total":30,"user":20}}"#
            )
        );
        assert_eq!(data["cpuset"]["cpus"].to_string(), "[0,1]");
        assert_eq!(
            data["memory"]["usage"].to_string(),
            r#"{"failcnt":3,"limit":18446744073709551615,"max":2,"usage":1}"#
        );
        assert_eq!(data["memory"]["raw"].to_string(), r#"{"anon":11}"#);
        assert_eq!(data["pids"].to_string(), r#"{"current":2,"limit":100}"#);
        assert_eq!(
            data["blkio"].to_string(),
            r#"{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":4096}]}"#
        );
        assert_eq!(data["hugetlb"].to_string(), r#"{"2MB":{"failcnt":2,"usage":1}}"#);
    }

    #[test]
    fn an_oom_event_has_no_data() {
        assert_eq!(Event::oom("c").line(), "{\"type\":\"oom\",\"id\":\"c\"}\n");
    }
}
