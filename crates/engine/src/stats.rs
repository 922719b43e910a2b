//! What a container uses, in the runtime's words; of a runtime that has none for it, such as crun, what its cgroup tells.

use std::fs;

use bulkhead_cgroup::stats::{IoEntry, Stats};
use bulkhead_cgroup::{Cgroup, Host};
use serde::Deserialize;

use crate::container::State;
use crate::engine::{Engine, now};
use crate::error::{Error, Result};
use crate::known::Known;
use crate::runtime::Family;

/// What a container has used up to one moment. Rates are the difference of two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// The moment, in nanoseconds since 1970 (UTC).
    pub time: u64,
    /// Time of processors, in nanoseconds.
    pub cpu: u64,
    /// How many processors the machine has.
    pub processors: usize,
    /// Bytes of memory, without what the kernel caches and could give back at once.
    pub memory: u64,
    /// How many bytes it may use; the machine's memory when nothing is set.
    pub memory_limit: u64,
    /// How many processes and threads it has.
    pub tasks: u64,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
    /// Bytes that its network interfaces received, the loopback's apart.
    pub received: u64,
    /// Bytes that they sent.
    pub sent: u64,
}

impl Engine {
    /// Looks at what a container uses. One that does not run uses nothing.
    ///
    /// # Errors
    /// [`Error::Runtime`] when the runtime does not tell.
    pub fn stats(&self, wanted: &str) -> Result<Sample> {
        let known = self.find(wanted)?;
        let Some(process) = known.life.process else {
            return match known.life.state {
                State::Removing => Err(known.refuses("watch")),
                _ => Ok(Sample { time: now(), ..Sample::default() }),
            };
        };
        let data = match self.told(&known, process.pid) {
            Ok(data) => data,
            // It has just ended.
            Err(_) if !process.runs() => return Ok(Sample { time: now(), ..Sample::default() }),
            Err(error) => return Err(error),
        };
        let network = fs::read_to_string(format!("/proc/{}/net/dev", process.pid)).unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(data.sample(&network, memory_of(&machine), processors))
    }

    fn told(&self, known: &Known, pid: i32) -> Result<Data> {
        let runtime = known.runtime(self)?;
        let printed = match runtime.run("events", &known.record.name, &["--stats", &known.record.id]) {
            Err(_) if runtime.family() == Family::Other => return counted(&known.record.name, pid),
            printed => printed?,
        };
        let event: Event = serde_json::from_slice(&printed).map_err(|error| Error::Damaged {
            what: format!("statistics of container {}", known.record.name),
            reason: error.to_string(),
        })?;
        Ok(event.data)
    }
}

/// Reads what the cgroup of a container's first process counts.
fn counted(name: &str, pid: i32) -> Result<Data> {
    let stats =
        Host::detect().and_then(|host| Cgroup::of_process(&host, pid)).and_then(|cgroup| cgroup.stats());
    let Stats { cpu, memory, pids, io, .. } = stats.map_err(|error| Error::Runtime {
        verb: "watch",
        name: name.to_owned(),
        reason: error.to_string(),
    })?;
    let entry = |entry: IoEntry| BlkioEntry { op: entry.operation, value: entry.value };
    Ok(Data {
        cpu: Cpu { usage: CpuUsage { total: cpu.total } },
        memory: Memory {
            usage: MemoryUsage { usage: memory.usage.usage, limit: memory.usage.limit },
            raw: memory.raw,
        },
        pids: Pids { current: pids.current },
        blkio: Blkio { bytes: Some(io.service_bytes.into_iter().map(entry).collect()) },
    })
}

/// A line of the runtime's `events`, of which the names are runc's.
#[derive(Deserialize)]
struct Event {
    data: Data,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Data {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cpu {
    usage: CpuUsage,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CpuUsage {
    total: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Memory {
    usage: MemoryUsage,
    raw: std::collections::BTreeMap<String, u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MemoryUsage {
    usage: u64,
    limit: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pids {
    current: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Blkio {
    #[serde(rename = "ioServiceBytesRecursive")]
    bytes: Option<Vec<BlkioEntry>>,
}

#[derive(Deserialize)]
struct BlkioEntry {
    #[serde(default)]
    op: String,
    #[serde(default)]
    value: u64,
}

impl Data {
    fn sample(&self, network: &str, machine: u64, processors: usize) -> Sample {
        let Self { cpu, memory, pids, blkio } = self;
        // As docker: files that nobody has used lately are no need. The name is v1's, then v2's.
        let inactive = ["total_inactive_file", "inactive_file"].iter().find_map(|name| memory.raw.get(*name));
        let limit = memory.usage.limit;
        let bytes = |operation: &str| {
            let entries = blkio.bytes.iter().flatten();
            entries.filter(|entry| entry.op.eq_ignore_ascii_case(operation)).map(|entry| entry.value).sum()
        };
        let (received, sent) = traffic(network);
        Sample {
            time: now(),
            cpu: cpu.usage.total,
            processors,
            memory: memory.usage.usage.saturating_sub(inactive.copied().unwrap_or(0)),
            memory_limit: if limit == 0 || limit > machine { machine } else { limit },
            tasks: pids.current,
            read: bytes("read"),
            written: bytes("write"),
            received,
            sent,
        }
    }
}

/// Adds up what interfaces received and sent, from `/proc/PID/net/dev` (proc_pid_net(5)).
fn traffic(table: &str) -> (u64, u64) {
    let interfaces = table.lines().filter_map(|line| line.split_once(':'));
    let others = interfaces.filter(|(name, _)| name.trim() != "lo");
    others.fold((0, 0), |(received, sent), (_, fields)| {
        let fields: Vec<u64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or(0);
        (received + field(0), sent + field(8))
    })
}

/// The machine's memory in bytes, from `/proc/meminfo`.
pub(crate) fn memory_of(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_runc_is_a_sample() {
        let line = r#"{"type":"stats","id":"x","data":{"cpu":{"usage":{"total":7,"kernel":1},"throttling":{}},
            "memory":{"cache":1,"usage":{"limit":18446744073709551615,"usage":100,"failcnt":0},
                "raw":{"inactive_file":20,"total_inactive_file":30}},
            "pids":{"current":3},
            "blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":5},{"op":"write","value":6},{"op":"Read","value":1}]},
            "network_interfaces":null}}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        let network =
            "Inter-| Receive\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 11 1 0 0 0 0 0 0 12 1\n";
        let sample = event.data.sample(network, 1000, 2);
        assert_eq!((sample.cpu, sample.memory, sample.memory_limit, sample.tasks), (7, 70, 1000, 3));
        assert_eq!((sample.read, sample.written, sample.received, sample.sent), (6, 6, 11, 12));
        let nothing: Event = serde_json::from_str(r#"{"data":{"blkio":{}}}"#).unwrap();
        assert_eq!(nothing.data.sample("", memory_of("MemTotal:  4 kB\n"), 1).memory_limit, 4096);
    }
}
