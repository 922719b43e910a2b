//! What the runtime itself may do on this host.

use bulkhead_sys::{Call, credentials, namespace, path};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

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

/// Reads a file of procfs that is one record, which the kernel gives out whole: one read, where a file of unknown
/// length takes several.
fn read_record(path: &str) -> bulkhead_sys::Result<String> {
    /// Longer than any of them.
    const SIZE: usize = 8 * 1024;
    let file = path::open_host(path.as_ref(), OFlags::RDONLY)?;
    let mut bytes = vec![0; SIZE];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes))
        .call(|| format!("read({path:?})"))?;
    bytes.truncate(length);
    // A process may call itself anything.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads the identity of this boot.
///
/// # Errors
/// As open(2).
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(read_record(path).doing(|| format!("read {path}"))?.trim_end().to_owned())
}

/// Reads when a process started, in clock ticks after boot, and whether it is still more than a zombie; `None` when
/// there is no such process.
///
/// # Errors
/// As open(2) and read(2): what cannot be read may well live.
pub fn process_stat(pid: i32) -> Result<Option<ProcessStat>> {
    let path = format!("/proc/{pid}/stat");
    let text = match read_record(&path) {
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::SRCH) => return Ok(None),
        read => read.doing(|| format!("read {path}"))?,
    };
    let unknown = || Error::Usage(format!("{path} has an unknown format"));
    parse_stat(&text).map(Some).ok_or_else(unknown)
}

/// Lists the threads of a process; none when it is gone.
pub fn threads(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// Whether it has not ended.
    pub alive: bool,
    /// Whether it is on its way there: its namespaces are being taken down, but it is not a zombie yet.
    pub exiting: bool,
    /// Clock ticks after boot.
    pub start_time: u64,
}

/// Of the flags in `/proc/PID/stat`, `PF_EXITING` of the kernel's sched.h.
const EXITING: u64 = 0x4;

fn parse_stat(text: &str) -> Option<ProcessStat> {
    // The name in the second field may hold anything, parentheses and spaces too.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    let alive = !matches!(state, "Z" | "X" | "x");
    Some(ProcessStat { alive, exiting: flags & EXITING != 0, start_time })
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
    let status = STATUS.get_or_init(|| read_record("/proc/self/status").unwrap_or_default());
    let mask = status.lines().find_map(|found| found.strip_prefix(line))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let text = "7 (a) S (b) Z 1 2 3 4 5 4194308 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_stat(text), Some(ProcessStat { alive: false, exiting: true, start_time: 4242 }));
        let own = process_stat(std::process::id().cast_signed()).unwrap().unwrap();
        assert!(own.alive && !own.exiting);
    }
}
