//! The raw gate to the kernel for calls that rustix lacks.

use rustix::io::Errno;

/// Turns the return value of `libc::syscall` into a result.
pub(crate) fn check(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned == -1 {
        let error = std::io::Error::last_os_error();
        Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    } else {
        Ok(returned)
    }
}
