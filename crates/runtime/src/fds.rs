//! Which descriptors the user's program gets: its three streams and those the caller asked to pass.

use bulkhead_sys::process;
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

/// The first descriptor after the standard streams.
pub(crate) const FIRST: u32 = 3;

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

/// Leaves only the standard streams and `count` descriptors from 3 on open across execve(2).
///
/// # Errors
/// As close_range(2) and fcntl(2).
pub(crate) fn seal(count: u32) -> Result<()> {
    process::close_on_exec_from(FIRST + count).doing(|| "close the runtime's descriptors at execve")?;
    for number in FIRST..FIRST + count {
        process::set_close_on_exec(number.cast_signed(), false)
            .doing(|| format!("pass descriptor {number}"))?;
    }
    Ok(())
}
