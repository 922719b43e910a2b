//! What only Linux containers have: namespaces, devices, kernel parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::field::{closed_list, nullable, text, unset};
use crate::{IdMapping, Resources, Seccomp};

/// Describes the Linux side of a container.
///
/// Source: `config-linux.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// The user ids of a new user namespace.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub uid_mappings: Vec<IdMapping>,
    /// The group ids of a new user namespace.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters that are set at the start, sysctl(8).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub sysctl: BTreeMap<String, String>,
    /// The limits of the container's cgroup.
    #[serde(alias = "Resources", skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The container's cgroup: absolute from the mount point, relative from a place of the runtime's choice.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// The namespaces that are made or joined; a type that is missing is inherited.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes besides the default ones.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub devices: Vec<Device>,
    /// Network devices that are moved into the container, by their name on the host.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// The system calls that the container may make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// How mounts propagate between the container's root and its mount's peers.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<RootfsPropagation>,
    /// Paths in the container that cannot be read.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub masked_paths: Vec<String>,
    /// Paths in the container that cannot be written.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub readonly_paths: Vec<String>,
    /// The SELinux context of the container's mounts.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Shares of cache and memory bandwidth, resctrl.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// The NUMA memory policy, set_mempolicy(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// The execution domain, personality(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// How far the clocks of a new time namespace are moved.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub time_offsets: BTreeMap<Clock, TimeOffset>,
}

/// A namespace that is made, or joined when it has a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its type; each at most once.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// The file of an existing namespace, an absolute path on the host.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

closed_list! {
    /// A type of namespace, namespaces(7).
    pub enum NamespaceType: "namespace type" {
        /// Mount points.
        Mount = "mount",
        /// Process ids.
        Pid = "pid",
        /// Network devices, addresses, ports.
        Network = "network",
        /// Host and domain name.
        Uts = "uts",
        /// System V IPC and POSIX message queues.
        Ipc = "ipc",
        /// User and group ids, capabilities.
        User = "user",
        /// The root of the cgroup tree.
        Cgroup = "cgroup",
        /// Monotonic and boot-time clocks.
        Time = "time",
    }
}

closed_list! {
    /// A clock that a time namespace can move, time_namespaces(7).
    pub enum Clock: "clock" {
        /// `CLOCK_BOOTTIME`.
        Boottime = "boottime",
        /// `CLOCK_MONOTONIC`.
        Monotonic = "monotonic",
    }
}

/// How far a clock is moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// Whole seconds.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub secs: i64,
    /// Nanoseconds on top of them.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub nanosecs: u32,
}

/// A device node, mknod(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where, in the container.
    pub path: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// The major number; without meaning for a pipe.
    #[serde(default, deserialize_with = "nullable")]
    pub major: i64,
    /// The minor number; without meaning for a pipe.
    #[serde(default, deserialize_with = "nullable")]
    pub minor: i64,
    /// The permission bits; some callers add the bits of the file's type.
    #[serde(rename = "fileMode", skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// The owner, in the container's user namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group, in the container's user namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

closed_list! {
    /// A type of device node, mknod(1).
    pub enum DeviceType: "device type" {
        /// A character device.
        Char = "c",
        /// A block device.
        Block = "b",
        /// A character device, by its old name "unbuffered".
        Unbuffered = "u",
        /// A named pipe.
        Pipe = "p",
    }
}

/// How a network device arrives in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetDevice {
    /// Its name there, in which `%d` stands for the first free number; without it, its name on the host.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

closed_list! {
    /// How mounts propagate, mount_namespaces(7).
    ///
    /// The specification lists the first four; the recursive ones are what engines write for them.
    pub enum RootfsPropagation: "mount propagation" {
        /// Neither way.
        Private = "private",
        /// Both ways.
        Shared = "shared",
        /// Into the container only.
        Slave = "slave",
        /// Neither way, and no bind mounts of it.
        Unbindable = "unbindable",
        /// `private`, with all mounts below.
        RecursivePrivate = "rprivate",
        /// `shared`, with all mounts below.
        RecursiveShared = "rshared",
        /// `slave`, with all mounts below.
        RecursiveSlave = "rslave",
        /// `unbindable`, with all mounts below.
        RecursiveUnbindable = "runbindable",
    }
}

/// A class of service and monitoring in the resctrl file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// The name of the class; `/` is the default class, none the container's id.
    #[serde(rename = "closID", default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    /// Lines for the `schemata` file, written after the two below.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub schemata: Vec<String>,
    /// The line for the L3 cache, `L3:0=7f0;1=1f`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// The line for memory bandwidth, `MB:0=20;1=70`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// The container gets a monitoring group of its own.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub enable_monitoring: bool,
    /// The container's use of the cache is counted; before 1.3.
    #[serde(rename = "enableCMT", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub enable_cmt: bool,
    /// The container's memory bandwidth is counted; before 1.3.
    #[serde(rename = "enableMBM", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub enable_mbm: bool,
}

/// On which NUMA nodes memory is allocated, set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// The policy.
    pub mode: MemoryPolicyMode,
    /// The nodes, a list such as `0-3,7`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Modifiers.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub flags: Vec<MemoryPolicyFlag>,
}

closed_list! {
    /// A NUMA memory policy.
    pub enum MemoryPolicyMode: "memory policy" {
        /// The system's default.
        Default = "MPOL_DEFAULT",
        /// Only on these nodes.
        Bind = "MPOL_BIND",
        /// Page by page around these nodes.
        Interleave = "MPOL_INTERLEAVE",
        /// Around these nodes by their weights.
        WeightedInterleave = "MPOL_WEIGHTED_INTERLEAVE",
        /// First on this node.
        Preferred = "MPOL_PREFERRED",
        /// First on these nodes.
        PreferredMany = "MPOL_PREFERRED_MANY",
        /// On the node of the CPU that asks.
        Local = "MPOL_LOCAL",
    }
}

closed_list! {
    /// A modifier of a NUMA memory policy.
    pub enum MemoryPolicyFlag: "memory policy flag" {
        /// The kernel may move pages to the nodes that use them.
        NumaBalancing = "MPOL_F_NUMA_BALANCING",
        /// Nodes count within the allowed ones.
        RelativeNodes = "MPOL_F_RELATIVE_NODES",
        /// Nodes stay the same when the allowed ones change.
        StaticNodes = "MPOL_F_STATIC_NODES",
    }
}

/// The execution domain of the container's processes, personality(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personality {
    /// The domain.
    pub domain: PersonalityDomain,
    /// Flags; the specification defines none.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub flags: Vec<String>,
}

closed_list! {
    /// An execution domain.
    pub enum PersonalityDomain: "personality" {
        /// The ordinary one.
        Linux = "LINUX",
        /// uname(2) reports a 32-bit machine.
        Linux32 = "LINUX32",
    }
}
