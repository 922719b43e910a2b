//! Looking at the whole machine: the kernel's log, syslog(2), and counters of all processes, perf_event_open(2).

use std::fs::File;
use std::io::Read as _;
use std::os::fd::FromRawFd;

use crate::syscall::check;
use crate::{Call, Result};

/// Returns the last messages of the kernel's log, `most` bytes or fewer.
///
/// # Errors
/// EPERM without CAP_SYSLOG where `kernel.dmesg_restrict` is set.
pub fn kernel_log(most: usize) -> Result<Vec<u8>> {
    const READ_ALL: libc::c_int = 3;
    let mut log = vec![0_u8; most];
    let length = libc::c_int::try_from(most).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `length` bytes, which is no more than the live buffer has.
    let read = check(unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), length) }.into())
        .call(|| format!("syslog(READ_ALL, {length})"))?;
    log.truncate(usize::try_from(read).unwrap_or(0));
    Ok(log)
}

/// The first 64 bytes of `struct perf_event_attr`, all that its first version had.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    numbers: [u64; 4],
    wakeup: u32,
    breakpoint: u32,
    address: u64,
}

/// Counts the clock ticks of the first processor, whoever runs on it, and returns the counter.
///
/// # Errors
/// EACCES or EPERM where `kernel.perf_event_paranoid` allows only one's own processes.
pub fn processor_clock() -> Result<u64> {
    const SOFTWARE: u32 = 1;
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    let size = size_of::<Attributes>() as u32;
    let attributes = Attributes { kind: SOFTWARE, size, ..Attributes::default() };
    // SAFETY: the kernel reads `size` bytes of the live structure; the other arguments are integers: any process, the
    // first processor, no group.
    let returned =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, CLOSE_ON_EXEC) };
    let descriptor = check(returned).call(|| "perf_event_open(SOFTWARE CPU_CLOCK, -1, 0)")?;
    // SAFETY: the call returned a descriptor that nobody else owns.
    let mut file = unsafe { File::from_raw_fd(descriptor as libc::c_int) };
    let mut counter = [0; 8];
    file.read_exact(&mut counter).call(|| "read(perf event)")?;
    Ok(u64::from_ne_bytes(counter))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn the_log_is_read_or_refused() {
        match kernel_log(100) {
            Ok(log) => assert!(log.len() <= 100, "{} bytes of 100", log.len()),
            Err(error) => assert_eq!(error.errno(), Errno::PERM, "{error}"),
        }
    }

    #[test]
    fn the_clock_is_counted_or_refused() {
        if let Err(error) = processor_clock() {
            assert!(
                matches!(error.errno(), Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::NOSYS),
                "{error}"
            );
        }
    }
}
