//! What the host says, as far as a configuration depends on it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bulkhead_sys::capability;

use super::cdi;

/// What the host is, and what of its files matters to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Linux's version: `(6, 12)`.
    pub kernel: (u32, u32),
    /// Who makes containers.
    pub caller: Caller,
    /// The capabilities that the caller can give away: bit `n` is capability number `n`.
    pub capabilities: u64,
    /// The control groups.
    pub cgroups: Cgroups,
    /// How many processors there are.
    pub cpus: u32,
    /// The numbers of processors and of memory nodes, as cpuset(7) lists them; empty where nobody tells, or asks.
    pub cpuset: Cpuset,
    /// The caller's name, if it has one.
    pub user: Option<String>,
    /// AppArmor.
    pub apparmor: AppArmor,
    /// The contexts of SELinux, where it is on.
    pub selinux: Option<Selinux>,
    /// The caller's own `oom_score_adj`, below which only CAP_SYS_RESOURCE leads.
    pub oom_score_adjust: i32,
    /// The greatest number of open files that the caller can give.
    pub open_files: u64,
    /// The host's name.
    pub hostname: String,
    /// The text of the host's `/etc/hosts`.
    pub hosts: String,
    /// The text of the host's `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// The device nodes at each path that the request names: one, or those below a directory.
    pub devices: BTreeMap<PathBuf, Vec<HostDevice>>,
    /// The files of the Container Device Interface, if the request names such devices: those of the later directory last.
    pub cdi: Vec<cdi::File>,
    /// All device nodes, for a privileged container.
    pub all_devices: Vec<HostDevice>,
    /// What is at each source of a bind mount.
    pub sources: BTreeMap<PathBuf, HostFile>,
    /// The program that is process 1 with `--init`.
    pub init: PathBuf,
}

/// Who makes containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The host's root.
    Root,
    /// An ordinary user.
    User {
        /// The user's id.
        uid: u32,
        /// The user's group.
        gid: u32,
    },
}

/// The control groups of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Their version.
    pub version: CgroupVersion,
    /// The controllers that a container can have: `cpu`, `memory`, `pids`, `io` (or `blkio`), `cpuset`, `devices`, `hugetlb`.
    pub controllers: Vec<String>,
    /// Whether the caller may make cgroups at all.
    pub writable: bool,
    /// Whether systemd makes them: paths are then `SLICE:PREFIX:NAME`.
    pub systemd: bool,
    /// Whether swap is counted.
    pub swap: bool,
}

/// The version of the control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// Version 1, perhaps beside an almost empty version 2.
    V1,
    /// Version 2 alone.
    V2,
}

impl Cgroups {
    /// Tells whether containers can have a controller, by its name in version 2.
    pub fn has(&self, controller: &str) -> bool {
        let is = |name: &String| name == controller || controller == "io" && name == "blkio";
        self.controllers.iter().any(is)
    }
}

/// Lists of numbers, such as `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// Of processors.
    pub cpus: String,
    /// Of memory nodes.
    pub mems: String,
}

/// AppArmor on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppArmor {
    /// It is not there, or off.
    Absent,
    /// It is on; this profile, if any, is loaded for containers.
    Present {
        /// The profile of containers that ask for none.
        profile: Option<String>,
    },
}

/// The contexts that SELinux's policy has for containers (its file `lxc_contexts`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selinux {
    /// Of processes: `system_u:system_r:container_t:s0`.
    pub process: String,
    /// Of files: `system_u:object_r:container_file_t:s0`.
    pub file: String,
    /// Of files that all containers may read, and execute: `system_u:object_r:container_ro_file_t:s0`.
    pub read: String,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// What is at the source of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFile {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// The ids that the caller may give to containers (subuid(5), subgid(5)): first id and number of each range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subordinate {
    /// User ids.
    pub uids: Vec<(u32, u32)>,
    /// Group ids.
    pub gids: Vec<(u32, u32)>,
}

impl Facts {
    /// Tells whether the caller can give away a capability, by its name in the specification.
    pub fn has_capability(&self, name: &str) -> bool {
        capability::number(name).is_some_and(|number| self.capabilities >> number & 1 == 1)
    }

    /// Tells whether the kernel can make all that is mounted below a place read-only (since Linux 5.12).
    pub fn has_read_only_trees(&self) -> bool {
        self.kernel >= (5, 12)
    }
}
