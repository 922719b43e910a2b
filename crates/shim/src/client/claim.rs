//! Keeping monitors out of a directory whose parts are going.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Result, file};
use crate::place;

/// A directory in which no monitor lives, and none begins while this is there.
#[derive(Debug)]
pub struct Claim {
    /// Nothing where there is no directory: there no monitor can begin.
    _lock: Option<OwnedFd>,
}

/// Keeps monitors out of a directory; `None` when one lives there.
///
/// Whoever was killed may have started a monitor that has not come as far as its lock. It waits for the lock then, and does
/// not find its order once it has it.
///
/// # Errors
/// [`Error::File`](super::Error::File) when the lock cannot be taken.
pub fn claim(run_directory: &Path) -> Result<Option<Claim>> {
    let path = run_directory.join(place::LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
        Err(Errno::NOENT) => return Ok(Some(Claim { _lock: None })),
        opened => opened.map_err(|errno| file("open", &path, errno))?,
    };
    let operation = FlockOperation::NonBlockingLockExclusive;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, operation)) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(file("lock", &path, errno)),
        Ok(()) => Ok(Some(Claim { _lock: Some(lock) })),
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;
    use crate::client::alive;

    #[test]
    fn a_directory_is_claimed_once_and_not_under_a_monitor() {
        let scratch = Scratch::new();
        let run = scratch.path().join("run");
        assert!(claim(&run).unwrap().is_some(), "where nothing is, nobody can begin");
        std::fs::create_dir(&run).unwrap();
        let first = claim(&run).unwrap();
        assert!(first.is_some());
        assert!(claim(&run).unwrap().is_none(), "somebody has it");
        drop(first);
        assert!(!alive(&run).unwrap());
        let monitor = std::fs::File::open(run.join(place::LOCK)).unwrap();
        monitor.lock().unwrap();
        assert!(claim(&run).unwrap().is_none(), "a monitor lives");
    }
}
