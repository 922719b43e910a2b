//! Which descriptors the user's program gets: its three streams and those the caller asked to pass.

use std::os::fd::BorrowedFd;

use bulkhead_sys::process;
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

/// The first descriptor after the standard streams.
const FIRST: u32 = 3;

/// Checks, before anything else is opened, that the descriptors to pass are there.
///
/// # Errors
/// A descriptor that is not open.
pub(crate) fn check_passed(count: u32) -> Result<()> {
    for number in FIRST..FIRST.saturating_add(count) {
        let path = format!("/proc/self/fd/{number}");
        if rustix::fs::readlink(path, Vec::new()).is_err_and(|errno| errno == Errno::NOENT) {
            return Err(Error::Usage(format!(
                "descriptor {number} is not open, but --preserve-fds and LISTEN_FDS name {count} from {FIRST} on"
            )));
        }
    }
    Ok(())
}

/// Keeps the caller's descriptors, which are not ours to give, from hooks and other programs of the host.
///
/// # Errors
/// None is known.
pub fn keep_from_programs() -> Result<()> {
    process::close_at_execution(FIRST).doing(|| "keep the caller's descriptors from hooks")
}

/// Closes every descriptor but the standard streams, `count` from 3 on, which the program gets, and `needed`, which are
/// close-on-exec.
///
/// From here on the process has no descriptor of the host: locks that the parent held end with the parent, and no
/// working directory can be reached through one (CVE-2024-21626). Owners of the closed ones must not be used again;
/// the process only becomes another program, or exits at once.
///
/// # Errors
/// As close_range(2) and fcntl(2).
pub(crate) fn seal(count: u32, needed: &[BorrowedFd<'_>]) -> Result<()> {
    process::close_all_but(FIRST + count, needed).doing(|| "close the runtime's descriptors")?;
    for number in FIRST..FIRST + count {
        process::set_close_on_exec(number.cast_signed(), false)
            .doing(|| format!("pass descriptor {number}"))?;
    }
    Ok(())
}
