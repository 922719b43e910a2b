//! Which version of a file or directory was read.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// Seconds and nanoseconds since 1970.
type Time = (i64, i64);

/// What differs when something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: Time,
    changed: Time,
    /// Whether a change behind it has another stamp for certain.
    is_settled: bool,
}

/// Finds the clock, for which the process reads what it may not read any more once it is confined.
pub(super) fn find_clock() {
    let _ = now();
}

impl Stamp {
    /// Looks at a file.
    pub(super) fn of(directory: impl AsFd, name: &Path) -> Result<Self, Errno> {
        let now = now();
        rustix::fs::statat(directory, name, AtFlags::empty()).map(|stat| Self::read(&stat, now))
    }

    /// Looks at what is open.
    pub(super) fn of_open(file: impl AsFd) -> Result<Self, Errno> {
        let now = now();
        rustix::fs::fstat(file).map(|stat| Self::read(&stat, now))
    }

    #[expect(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    fn read(stat: &Stat, now: Time) -> Self {
        let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
        let changed = (stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified,
            changed,
            is_settled: now > modified.max(changed),
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

/// What the kernel would write as the time of a change at this moment, or less: its clock for files, which goes on in ticks. These are
/// 1 to 10 ms apart, and more where the processor that counts them gets no turn, as in a guest of a busy host: how old a change is
/// by an exact clock says nothing about whether the next one will have another time.
fn now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec, now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn a_change_at_the_same_tick_as_the_look_is_not_settled() {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        std::fs::write(&path, "a").unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        let at = |now: Time| Stamp::read(&stat, now);
        let (seconds, rest) = at((0, 0)).changed.max(at((0, 0)).modified);
        assert!(!at((seconds, rest)).still_holds(&at((seconds, rest))), "the next change may have this time");
        let later = at((seconds + 1, 0));
        assert!(later.still_holds(&at((seconds, rest))) && later.still_holds(&later));
        assert!(now() >= (seconds, 0), "it is the clock of files");
    }

    #[test]
    fn no_change_is_missed_however_fast_they_follow_each_other() {
        let scratch = Scratch::new();
        let (path, new) = (scratch.path().join("file"), scratch.path().join("new"));
        let stamp = || Stamp::of(rustix::fs::CWD, &path).unwrap();
        std::fs::write(&path, "0").unwrap();
        for number in 1..2000 {
            let before = stamp();
            // As long as another one, in a file that may have the number of the one before.
            std::fs::write(&new, format!("{}", number % 10)).unwrap();
            std::fs::rename(&new, &path).unwrap();
            assert!(!before.still_holds(&stamp()), "change {number}");
        }
    }
}
