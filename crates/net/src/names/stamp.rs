//! Which version of a file or directory was read.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

/// How old a change must be for the next one to have another time, in nanoseconds. The kernel's clock for files ticks every 1 to
/// 10 ms.
const TICK: i128 = 20_000_000;

/// What differs when something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
    /// Whether a change behind it has another stamp for certain.
    is_settled: bool,
}

impl Stamp {
    /// Looks at a file.
    pub(super) fn of(directory: impl AsFd, name: &Path) -> Result<Self, Errno> {
        rustix::fs::statat(directory, name, AtFlags::empty()).map(|stat| Self::read(&stat))
    }

    /// Looks at what is open.
    pub(super) fn of_open(file: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::fstat(file).map(|stat| Self::read(&stat))
    }

    #[expect(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    fn read(stat: &Stat) -> Self {
        let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as u64);
        let changed = (stat.st_ctime as i64, stat.st_ctime_nsec as u64);
        let nanoseconds = |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let last = nanoseconds(changed.0, changed.1).max(nanoseconds(modified.0, modified.1));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - last;
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified,
            changed,
            is_settled: age > TICK,
        }
    }

    /// Tells whether what was read at this stamp is what is there at another, later one.
    pub(super) fn still_holds(&self, now: &Self) -> bool {
        let Self { device, inode, size, modified, changed, is_settled } = *self;
        is_settled
            && (device, inode, size) == (now.device, now.inode, now.size)
            && (modified, changed) == (now.modified, now.changed)
    }
}
