//! The root of a container that runs, with all that is mounted in it.

use std::io;
use std::os::fd::OwnedFd;

use bulkhead_shim::status::Process;
use bulkhead_shim::users::{IdMapping, Users};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Doing, Result};

/// Opens the root directory of a process, and tells of its user namespace; `None` when it has ended.
///
/// # Errors
/// EACCES without the rights over the process, see proc_pid_root(5).
pub(crate) fn of_process(process: Process) -> Result<Option<(OwnedFd, Users)>> {
    let doing = || format!("open the root of process {}", process.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match openat(CWD, format!("/proc/{}/root", process.pid), flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => return Ok(None),
        other => other.doing(doing)?,
    };
    let users = maps(process, "uid_map").and_then(|uids| Ok(Users { uids, gids: maps(process, "gid_map")? }));
    // It has had its number since before its root was opened, so the root is its own.
    if !process.runs() {
        return Ok(None);
    }
    Ok(Some((root, users.doing(|| format!("read the users of process {}", process.pid))?)))
}

/// Returns the ids of this process's user namespace, as its parent calls them.
///
/// # Errors
/// As for reading `/proc/self/uid_map`.
pub(crate) fn own_users() -> Result<Users> {
    let of = |file| of_file(&format!("/proc/self/{file}"));
    let users = of("uid_map").and_then(|uids| Ok(Users { uids, gids: of("gid_map")? }));
    users.doing(|| "read the own users")
}

/// Reads the ids of a process's user namespace as the reader calls them, see user_namespaces(7).
fn maps(process: Process, file: &str) -> io::Result<Vec<IdMapping>> {
    of_file(&format!("/proc/{}/{file}", process.pid))
}

fn of_file(path: &str) -> io::Result<Vec<IdMapping>> {
    Ok(std::fs::read_to_string(path)?.lines().filter_map(map).collect())
}

fn map(line: &str) -> Option<IdMapping> {
    let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
    let (container_id, host_id, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
    Some(IdMapping { container_id, host_id, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines_of_three_numbers() {
        let expected = IdMapping { container_id: 0, host_id: 0, size: u32::MAX };
        assert_eq!(map("         0          0 4294967295"), Some(expected));
        assert_eq!(map("0 1"), None);
        assert_eq!(map("0 1 x"), None);
    }
}
