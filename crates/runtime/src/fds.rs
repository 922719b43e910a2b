//! Which descriptors the user's program gets: its three streams and those the caller asked to pass.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use bulkhead_sys::process;
use rustix::fs::{Mode, OFlags};

use crate::error::{Doing, Result};

/// The first descriptor after the standard streams.
const FIRST: u32 = 3;

/// Those that are passed: what the caller had opened of what it named.
static PASSED: OnceLock<Vec<u32>> = OnceLock::new();

/// Looks, before anything else is opened, which of the descriptors to pass are there. Returns a warning when some are
/// not: as under crun, the program does without them.
pub(crate) fn find_passed(count: u32) -> Option<String> {
    if count == 0 {
        return None;
    }
    let mut named = FIRST..FIRST.saturating_add(count);
    let mut open = open_descriptors();
    open.retain(|number| named.contains(number));
    open.sort_unstable();
    let first = named.find(|number| open.binary_search(number).is_err());
    PASSED.get_or_init(|| open);
    let first = first?;
    Some(format!(
        "descriptor {first} is not open and not passed, but --preserve-fds and LISTEN_FDS name {count} from {FIRST} on"
    ))
}

/// Looks whether a descriptor that a command writes to is there, at the same time.
pub(crate) fn find_named(number: u32) {
    PASSED.get_or_init(|| open_descriptors().into_iter().filter(|open| *open == number).collect());
}

/// Tells whether a descriptor is one that the caller had opened and named.
pub(crate) fn is_passed(number: u32) -> bool {
    PASSED.get().is_some_and(|passed| passed.contains(&number))
}

/// Lists the descriptors that are open; none where there is no /proc.
fn open_descriptors() -> Vec<u32> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::open("/proc/self/fd", flags, Mode::empty()) else { return Vec::new() };
    let own = directory.as_raw_fd().unsigned_abs();
    let entries = rustix::fs::Dir::new(directory).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
    numbers.filter(|number| *number != own).collect()
}

/// Keeps the caller's descriptors, which are not ours to give, from hooks and other programs of the host.
///
/// # Errors
/// None is known.
pub fn keep_from_programs() -> Result<()> {
    process::close_at_execution(FIRST).doing(|| "keep the caller's descriptors from hooks")
}

/// Closes every descriptor but the standard streams, `count` from 3 on, which the program gets as far as the caller had
/// opened them, and `needed`, which are close-on-exec.
///
/// From here on the process has no descriptor of the host: locks that the parent held end with the parent, and no
/// working directory can be reached through one (CVE-2024-21626). Owners of the closed ones must not be used again;
/// the process only becomes another program, or exits at once.
///
/// # Errors
/// As close_range(2) and fcntl(2).
pub(crate) fn seal(count: u32, needed: &[BorrowedFd<'_>]) -> Result<()> {
    let named = FIRST..FIRST.saturating_add(count);
    // What is open now under the number of one that was not is the runtime's own.
    let passed = || PASSED.get().into_iter().flatten().copied().filter(|number| named.contains(number));
    let needed = needed.iter().map(|fd| fd.as_raw_fd().unsigned_abs());
    process::close_all_but(FIRST, passed().chain(needed).collect())
        .doing(|| "close the runtime's descriptors")?;
    for number in passed() {
        process::set_close_on_exec(number.cast_signed(), false)
            .doing(|| format!("pass descriptor {number}"))?;
    }
    Ok(())
}
