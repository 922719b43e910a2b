//! The limits of a container's cgroup.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{self, ParseError};
use crate::field::{closed_list, nullable, text, unset};

/// Lists what a container may use. A limit that is missing is left as it is.
///
/// Source: `config-linux.md`, "Control groups".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Which devices may be used, applied in this order.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryResources>,
    /// CPU time and CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuResources>,
    /// The number of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<PidsResources>,
    /// Block devices.
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIoResources>,
    /// Huge pages, each size once.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Network packets; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkResources>,
    /// RDMA, by device name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub rdma: BTreeMap<String, RdmaResources>,
    /// Values for files of cgroup v2, by file name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// Reads the text of a resources document, such as `update --resources` takes.
    ///
    /// # Errors
    /// The first place that does not have the specification's form.
    pub fn from_json(text: &str) -> Result<Resources, ParseError> {
        error::parse("resources", text)
    }
}

/// Allows or denies the use of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allows, else denies.
    pub allow: bool,
    /// The type; missing means all, as [`DeviceRuleType::All`] does.
    #[serde(rename = "type", default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DeviceRuleType>,
    /// The major number; missing means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// The minor number; missing means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// The kinds of use, of `r` (read), `w` (write) and `m` (mknod).
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

closed_list! {
    /// The devices that a rule is about.
    pub enum DeviceRuleType: "type of device rule" {
        /// All.
        All = "a",
        /// Character devices.
        Char = "c",
        /// Block devices.
        Block = "b",
    }
}

/// Limits of memory in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryResources {
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// The soft limit, to which the kernel pushes back under pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Kernel memory; gone since Linux 5.4 and in cgroup v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// Buffers of TCP sockets; cgroup v1 only.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// How readily memory is swapped, 0 to 100; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Out of memory, processes wait instead of being killed; cgroup v1 only.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Child cgroups count too; always so in cgroup v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// An update below the present use is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// Limits of CPU time, in microseconds, and of CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuResources {
    /// The weight among siblings, 2 to 262144, by default 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// CPU time in each period; a negative value is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Unused time that may be saved up for later periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The length of a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Time for real-time tasks in each of their periods; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The length of their period; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// The CPUs, a list such as `0-3,7`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// The memory nodes, a list such as `0-3,7`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1 runs the tasks only when nothing else does, 0 ordinarily.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// The limit of the number of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsResources {
    /// The number; -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Limits at block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIoResources {
    /// The weight among siblings, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own tasks against its child cgroups, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights at single devices.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes written per second.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "unset"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "unset"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// The weights at one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// The device's major number.
    pub major: i64,
    /// The device's minor number.
    pub minor: i64,
    /// The weight among siblings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own tasks against its child cgroups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// A rate at one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// The device's major number.
    pub major: i64,
    /// The device's minor number.
    pub minor: i64,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// The limit of one size of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// The size, such as `64KB`, `2MB` or `1GB`. Go's parser, and so runc, heeds no case; this name is met without.
    #[serde(alias = "pagesize")]
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// How packets are marked; cgroup v1 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkResources {
    /// The class of the container's packets, net_cls.
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities at single devices, net_prio.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub priorities: Vec<InterfacePriority>,
}

/// The priority of packets at one network device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePriority {
    /// The device's name on the host.
    pub name: String,
    /// The priority.
    pub priority: u32,
}

/// Limits at one RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaResources {
    /// The number of handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// The number of objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}
