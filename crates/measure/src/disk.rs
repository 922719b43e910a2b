//! What the disk did on which a measurement's files are: the witness of what was to be written to it. A kernel that answers from its
//! memory, although it was asked for the disk, has measured no disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::stats::Failure;

/// What was moved between a disk and this machine, since that was started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moved {
    /// MiB.
    pub(crate) read: f64,
    /// MiB.
    pub(crate) written: f64,
    /// How often the disk was written to. What is waited for is written at once, so that it takes one each.
    pub(crate) writes: f64,
}

/// How much of what must have reached the disk its counters must tell; the rest of the machine adds to that.
pub(crate) const SEEN: f64 = 0.5;

/// What the disk of `directory` has done so far: the whole disk alone, since its partitions, and what lies on them, count the same
/// once more.
fn moved(directory: &Path) -> Result<Moved, Failure> {
    let device = device(directory).ok_or_else(|| {
        Failure(format!(
            "files are on no disk here ({}), so that nobody sees whether they reach one; TMPDIR names another directory",
            directory.display()
        ))
    })?;
    let text = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let moved = moved_in(&text, device);
    moved.ok_or_else(|| Failure("/proc/diskstats tells nothing of the disk that files are on".to_owned()))
}

/// The disk of a directory, looked at from one moment on.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    before: Moved,
}

impl Disk {
    /// Begins to look at the disk that `directory` is on.
    pub(crate) fn of(directory: PathBuf) -> Result<Self, Failure> {
        let before = moved(&directory)?;
        Ok(Self { directory, before })
    }

    /// What it did since.
    pub(crate) fn since(&self) -> Result<Moved, Failure> {
        let now = moved(&self.directory)?;
        Ok(Moved {
            read: now.read - self.before.read,
            written: now.written - self.before.written,
            writes: now.writes - self.before.writes,
        })
    }
}

impl Moved {
    /// Fails where a disk that was to be written to `wanted` times at least was not.
    pub(crate) fn witness(self, wanted: f64) -> Result<(), Failure> {
        if self.writes >= wanted * SEEN {
            return Ok(());
        }
        let seen = self.writes;
        Err(Failure(format!(
            "memory answers for the disk: of {wanted:.0} writes that were waited for, it saw {seen:.0}"
        )))
    }
}

/// Sectors are of 512 bytes whatever the disk's are: columns 4, 6, 8 and 10 of Documentation/admin-guide/iostats.rst.
fn moved_in(text: &str, (major, minor): (u32, u32)) -> Option<Moved> {
    let lines = text.lines().map(|line| Vec::from_iter(line.split_whitespace()));
    let is_it = |fields: &Vec<&str>| {
        let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u32>().ok());
        (number(0), number(1)) == (Some(major), Some(minor))
    };
    let fields = lines.into_iter().find(is_it)?;
    let number = |place: usize| fields.get(place)?.parse::<f64>().ok();
    Some(Moved { read: number(5)? / 2048.0, written: number(9)? / 2048.0, writes: number(7)? })
}

/// The number of the whole disk that `directory` is on; None for files in memory.
fn device(directory: &Path) -> Option<(u32, u32)> {
    let device = fs::metadata(directory).ok()?.dev();
    let own = (rustix::fs::major(device), rustix::fs::minor(device));
    // Some file systems, such as btrfs, have numbers of their own, and tell by a mount on which disk they are.
    let own = if own.0 != 0 { own } else { mounted_from(directory)? };
    let place = PathBuf::from(format!("/sys/dev/block/{}:{}", own.0, own.1));
    let place = place.canonicalize().unwrap_or(place);
    let whole = place.join("partition").exists().then(|| place.parent()).flatten();
    whole.and_then(|whole| number(&fs::read_to_string(whole.join("dev")).ok()?)).or(Some(own))
}

fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The number of the device that is mounted where `directory` is, if it is one.
fn mounted_from(directory: &Path) -> Option<(u32, u32)> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let source = source_of(&mounts, &directory)?;
    let device = fs::metadata(source).ok().filter(|_| source.starts_with("/dev/"))?.rdev();
    Some((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// The source of the mount that `directory` is in: the last of the longest paths, of proc_pid_mountinfo(5).
fn source_of<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let sources = mounts.lines().filter_map(|line| {
        let (place, source) = line.split_once(" - ")?;
        let place = Path::new(place.split(' ').nth(4)?);
        directory.starts_with(place).then_some((place.components().count(), source.split(' ').nth(1)?))
    });
    sources.max_by_key(|(length, _)| *length).map(|(_, source)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_counted_once() {
        let text =
            " 254 0 vda 100 0 2048 5 7 0 4096 9 0 1 1\n 254 1 vda1 9 0 2048 5 7 0 4096 9 0 1 1 0 0 0 0\n";
        assert_eq!(moved_in(text, (254, 0)), Some(Moved { read: 1.0, written: 2.0, writes: 7.0 }));
        assert_eq!(moved_in(text, (8, 0)), None);
        assert_eq!(moved_in("254 0 vda 1\n", (254, 0)), None);
    }

    #[test]
    fn a_disk_that_saw_too_few_writes_was_not_measured() {
        let seen = |writes| Moved { read: 0.0, written: 9.0, writes }.witness(100.0);
        assert_eq!((seen(50.0), seen(300.0)), (Ok(()), Ok(())));
        let told = "memory answers for the disk: of 100 writes that were waited for, it saw 3";
        assert_eq!(seen(3.0).unwrap_err().0, told);
    }

    #[test]
    fn a_mount_tells_its_source() {
        let mounts = "1 0 0:20 / / rw - btrfs /dev/vdb rw\n2 1 0:30 / /tmp rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(source_of(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(source_of(mounts, Path::new("/var/tmp")), Some("/dev/vdb"));
        assert_eq!(number("254:16\n"), Some((254, 16)));
    }

    #[test]
    fn files_in_memory_have_no_disk() {
        assert!(moved(Path::new("/proc")).unwrap_err().0.contains("on no disk"));
    }
}
