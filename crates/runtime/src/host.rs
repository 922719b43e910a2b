//! What the runtime itself may do on this host.

use bulkhead_sys::identity::{self, Stat};
use bulkhead_sys::{credentials, namespace};

use crate::error::{Doing, Result};

/// CAP_SYS_ADMIN, capabilities(7).
const SYS_ADMIN: u32 = 21;

/// The rights of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// It can make namespaces and mounts as it is.
    Privileged,
    /// It can do so only in a user namespace of its own.
    Unprivileged,
}

impl Rights {
    /// Asks the kernel.
    ///
    /// # Errors
    /// None is known.
    pub fn of_caller() -> Result<Self> {
        let (effective, ..) = credentials::capabilities().doing(|| "ask for the runtime's capabilities")?;
        Ok(if effective.has(SYS_ADMIN) { Self::Privileged } else { Self::Unprivileged })
    }
}

/// Tells whether the caller is root of the initial user namespace, and so not rootless.
///
/// # Errors
/// As stat(2) of `/proc/self/ns/user`.
pub fn is_real_root() -> Result<bool> {
    if rustix::process::geteuid().as_raw() != 0 {
        return Ok(false);
    }
    namespace::is_initial_user().doing(|| "look at the user namespace")
}

/// Reads the identity of this boot.
///
/// # Errors
/// As [`identity::boot`].
pub fn boot_id() -> Result<String> {
    identity::boot().doing(|| "read the identity of this boot")
}

/// Looks a process up; `None` when there is no such process.
///
/// # Errors
/// As [`identity::stat`]: what cannot be read may well live.
pub fn process_stat(pid: i32) -> Result<Option<Stat>> {
    identity::stat(pid).doing(|| format!("look at process {pid}"))
}

/// Lists the threads of a process; none when it is gone.
pub fn threads(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Reads which signals this process ignores, which its children inherit.
pub fn ignored_signals() -> Option<bulkhead_sys::signal::Set> {
    own_status("SigIgn:").map(bulkhead_sys::signal::Set)
}

/// Reads which capabilities this process and its children can ever hold; all where that cannot be known.
pub fn bounding_set() -> credentials::Capabilities {
    credentials::Capabilities(own_status("CapBnd:").unwrap_or(u64::MAX))
}

/// Reads a line of `/proc/self/status` that holds a bit mask. The file is read once: the two lines that are asked
/// for do not change while the runtime works for itself.
fn own_status(line: &str) -> Option<u64> {
    static STATUS: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let status = STATUS.get_or_init(|| identity::read_record("/proc/self/status").unwrap_or_default());
    let mask = status.lines().find_map(|found| found.strip_prefix(line))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
