//! One operation at a time for each attachment, also when who began it has died.
//!
//! The lock of an attachment is the file to which its plugins write their complaints, so that each of them holds it, too: when the
//! caller is killed, a plugin that still runs keeps others from taking away what it is about to make. A caller that lives gives it
//! free for all who have it open, such as a daemon that a plugin has left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{Doing as _, Error, Result};

/// How often is looked whether a lock is free.
const PAUSE: Duration = Duration::from_millis(20);
/// What of complaints is told.
const COMPLAINTS: u64 = 4096;

/// Holds the lock of an attachment.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    path: PathBuf,
}

impl Held {
    /// Waits for the lock, at most as long as told.
    pub(super) fn take(path: &Path, what: &dyn ToString, patience: Duration) -> Result<Self> {
        let end = Instant::now() + patience;
        loop {
            let mut open = OpenOptions::new();
            open.read(true).append(true).create(true).mode(0o600);
            let file = open.open(path).doing(|| format!("open {}", path.display()))?;
            wait(&file, FlockOperation::NonBlockingLockExclusive, what, end)?;
            // Who had it before may have removed the file.
            let is_there = match (fs::metadata(path), file.metadata()) {
                (Ok(there), Ok(own)) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
                _ => false,
            };
            if is_there {
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }

    /// Begins new complaints, and returns where a plugin writes them.
    pub(super) fn complaints(&self) -> Result<File> {
        let open = || {
            self.file.set_len(0)?;
            self.file.try_clone()
        };
        open().doing(|| format!("empty {}", self.path.display()))
    }

    /// Removes the file when nothing is left of the attachment.
    pub(super) fn remove(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.doing(|| format!("remove {}", self.path.display())),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // To close the file would leave the lock to whoever has inherited it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Holds the directory of all records: with others, or alone.
#[derive(Debug)]
pub(super) struct HeldAll {
    _directory: File,
}

impl HeldAll {
    /// Waits until nobody holds it alone.
    pub(super) fn share(directory: &Path, patience: Duration) -> Result<Self> {
        Self::take(directory, FlockOperation::NonBlockingLockShared, patience)
    }

    /// Waits until nobody else holds it.
    pub(super) fn alone(directory: &Path, patience: Duration) -> Result<Self> {
        Self::take(directory, FlockOperation::NonBlockingLockExclusive, patience)
    }

    fn take(directory: &Path, how: FlockOperation, patience: Duration) -> Result<Self> {
        let file = File::open(directory).doing(|| format!("open {}", directory.display()))?;
        wait(&file, how, &directory.display(), Instant::now() + patience)?;
        Ok(Self { _directory: file })
    }
}

fn wait(file: &File, how: FlockOperation, what: &dyn ToString, end: Instant) -> Result<()> {
    loop {
        match flock(file, how) {
            Err(Errno::WOULDBLOCK) if Instant::now() < end => thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Busy { what: what.to_string(), holders: holders(file) });
            }
            Err(Errno::INTR) => {}
            locked => return locked.doing(|| format!("lock {}", what.to_string())),
        }
    }
}

/// Finds the other processes that have a file open.
fn holders(file: &File) -> Vec<u32> {
    let Ok(own) = file.metadata() else { return Vec::new() };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(pid);
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| fs::metadata(descriptor.path()).ok())
            .any(|other| (other.dev(), other.ino()) == (own.dev(), own.ino()))
    };
    processes.filter(|pid| *pid != std::process::id()).filter(holds).collect()
}

/// Reads the end of what a plugin has complained.
pub(super) fn last_of(complaints: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = complaints.metadata().map_or(0, |metadata| metadata.len());
    let begin = SeekFrom::Start(length.saturating_sub(COMPLAINTS));
    // What cannot be read is not told.
    if complaints.seek(begin).is_ok() {
        let _ = complaints.take(COMPLAINTS).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
