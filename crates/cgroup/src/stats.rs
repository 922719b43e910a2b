//! What a container has used: one shape for v1 and v2, the one of runc's `events`.

mod parse;
mod v1;
mod v2;

use std::collections::BTreeMap;

use crate::cgroup::{Cgroup, Member};
use crate::error::Result;
use crate::host::Version;

pub(crate) use parse::value_of;

/// The statistics of a container's cgroup. What the kernel does not tell is zero or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// The CPUs and memory nodes that may be used; v1 only.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block input and output.
    pub io: IoStats,
    /// Huge pages, by page size (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// Remote direct memory access.
    pub rdma: RdmaStats,
    /// Scalar resources, by name (`sev`); v2 only.
    pub misc: BTreeMap<String, MiscStats>,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// Time used in all.
    pub total: u64,
    /// Time used in user mode.
    pub user: u64,
    /// Time used in the kernel.
    pub kernel: u64,
    /// Time used on each CPU; v1 only.
    pub per_cpu: Vec<u64>,
    /// Time used in user mode on each CPU; v1 only.
    pub per_cpu_user: Vec<u64>,
    /// Time used in the kernel on each CPU; v1 only.
    pub per_cpu_kernel: Vec<u64>,
    /// The effect of the quota.
    pub throttling: Throttling,
    /// The use of burst.
    pub burst: Burst,
    /// Time lost waiting for a CPU.
    pub pressure: Option<Pressure>,
}

/// How often, and how long in nanoseconds, a quota stopped the processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// The sum of the time in which processes were stopped, in nanoseconds.
    pub throttled_time: u64,
}

/// How often, and how long in nanoseconds, unused quota of earlier periods was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Burst {
    /// Periods with a burst.
    pub periods: u64,
    /// The time above the quota, in nanoseconds.
    pub time: u64,
}

/// Pressure stall information: how much time was lost for want of a resource. See the kernel's `psi` document.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Stall,
    /// All tasks waited at once.
    pub full: Stall,
}

/// Shares of time, in percent, and the total.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Share of the last 10 seconds.
    pub avg10: f64,
    /// Share of the last minute.
    pub avg60: f64,
    /// Share of the last five minutes.
    pub avg300: f64,
    /// The sum in microseconds.
    pub total: u64,
}

/// The files of a v1 cpuset as they read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpusetStats {
    /// The numbers of the CPUs.
    pub cpus: Vec<u16>,
    /// `cpuset.cpu_exclusive`.
    pub cpu_exclusive: u64,
    /// The numbers of the memory nodes.
    pub mems: Vec<u16>,
    /// `cpuset.mem_hardwall`.
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`.
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`.
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`.
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`.
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`.
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`.
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`.
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryStats {
    /// Page cache (`cache` of v1, `file` of v2).
    pub cache: u64,
    /// Memory.
    pub usage: MemoryUsage,
    /// Memory and swap together, on v2 too.
    pub memory_and_swap: MemoryUsage,
    /// Swap alone.
    pub swap_only: MemoryUsage,
    /// Kernel memory; v1 only.
    pub kernel: MemoryUsage,
    /// Buffers of TCP; v1 only.
    pub kernel_tcp: MemoryUsage,
    /// Whether use counts against all parents, which every kernel since 5.11 does.
    pub hierarchical: bool,
    /// `memory.stat` as it reads.
    pub raw: BTreeMap<String, u64>,
    /// Time lost waiting for memory.
    pub pressure: Option<Pressure>,
}

/// One kind of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In use now.
    pub usage: u64,
    /// The most that was ever in use.
    pub peak: u64,
    /// How often the limit was hit; v1 only.
    pub failures: u64,
    /// The limit; `u64::MAX` for none on v2, a number near `i64::MAX` on v1.
    pub limit: u64,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Their number.
    pub current: u64,
    /// The limit, 0 for none.
    pub limit: u64,
}

/// Block input and output, each list with one entry for a device and an operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IoStats {
    /// Bytes.
    pub service_bytes: Vec<IoEntry>,
    /// Operations.
    pub serviced: Vec<IoEntry>,
    /// Operations that wait; v1 with BFQ statistics only, as all of the following.
    pub queued: Vec<IoEntry>,
    /// Nanoseconds between dispatch and completion.
    pub service_time: Vec<IoEntry>,
    /// Nanoseconds in the scheduler's queue.
    pub wait_time: Vec<IoEntry>,
    /// Requests that were merged.
    pub merged: Vec<IoEntry>,
    /// Milliseconds of disk time.
    pub time: Vec<IoEntry>,
    /// Sectors.
    pub sectors: Vec<IoEntry>,
    /// What the cost model charged; v2 only.
    pub cost: IoCost,
    /// Time lost waiting for input and output.
    pub pressure: Option<Pressure>,
}

/// What the cost model of v2 tells, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoCost {
    /// Device time used.
    pub usage: Vec<IoEntry>,
    /// Time waited.
    pub wait: Vec<IoEntry>,
    /// Time in debt.
    pub indebt: Vec<IoEntry>,
    /// Time delayed for debt.
    pub indelay: Vec<IoEntry>,
}

/// One number about one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoEntry {
    /// Major number of the device.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// The operation as v1 names it: `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`, `Count`, or nothing.
    pub operation: String,
    /// The number.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// In use now.
    pub usage: u64,
    /// The most that was ever in use; v1 only.
    pub peak: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Remote direct memory access, by device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// In use now.
    pub current: Vec<RdmaEntry>,
    /// The limits.
    pub limit: Vec<RdmaEntry>,
}

/// Objects of one device; `u32::MAX` for no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// The device.
    pub device: String,
    /// Handles.
    pub handles: u32,
    /// Objects.
    pub objects: u32,
}

/// One scalar resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MiscStats {
    /// In use now.
    pub usage: u64,
    /// How often the limit was hit.
    pub events: u64,
}

impl Cgroup {
    /// Reads all statistics.
    ///
    /// Files that the kernel, or this cgroup, does not have are passed over; so is a cgroup that was never made.
    ///
    /// # Errors
    /// [`Error::System`](crate::Error::System) and [`Error::Malformed`](crate::Error::Malformed) for files that
    /// cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        for member in &self.members {
            match self.read_member(member, &mut stats) {
                // Removed before or while it was read.
                Err(error) if error.is_gone() => {}
                result => result?,
            }
        }
        Ok(stats)
    }

    fn read_member(&self, member: &Member, stats: &mut Stats) -> Result<()> {
        let dir = member.dir()?;
        match member.version {
            Version::V1 => {
                member.controllers.iter().try_for_each(|controller| v1::read(dir, controller, stats))
            }
            Version::V2 if self.members.len() > 1 => v2::read_beside_v1(dir, stats),
            Version::V2 => v2::read(dir, stats),
        }
    }
}
