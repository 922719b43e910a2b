//! A directory of one test, which goes away with it: at its end, or when the next test looks around.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::mount::UnmountFlags;

use crate::fail::OrFail;
use crate::name::Name;
use crate::{cgroups, leak};

/// Locked as long as the directory is used.
const LOCK: &str = "lock";

/// A directory below the temporary one, for a test that needs files and no containers.
///
/// When it is dropped, it is removed with all that is in it. A test that was killed leaves it, and its lock to nobody:
/// the next test that makes one, or a [`Sandbox`](crate::Sandbox), removes it.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) name: Name,
    pub(crate) directory: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Scratch {
    /// Makes the directory, and removes those of tests which were killed.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it changes the machine")]
    pub fn new() -> Scratch {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| sweep(&std::env::temp_dir()));
        let (name, directory) = claim_name();
        let lock = File::create(directory.join(LOCK)).or_fail("create the lock of a directory");
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).or_fail("lock a directory");
        Scratch { name, directory, _lock: lock }
    }

    /// Returns the directory's name, unique on the machine. Cgroups that bear it are removed with what a killed test left.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns the directory. A file in it, `lock`, is not the test's.
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.name, &self.directory);
    }
}

/// Finds a name whose directory does not exist, and makes the directory. A pid is not enough: pid namespaces have
/// their own.
#[track_caller]
fn claim_name() -> (Name, PathBuf) {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    loop {
        let name = Name::new(std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name.as_str());
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => {
                result.or_fail(format_args!("create {}", directory.display()));
                return (name, directory);
            }
        }
    }
}

fn remove(name: &Name, directory: &Path) {
    // What is still mounted below may be anything, so it is not for removal.
    if !leak::mounts(name).iter().any(|mount| mount.point.starts_with(directory)) {
        drop(fs::remove_dir_all(directory));
    }
}

/// Ends by force the processes, cgroups and mounts of a sandbox.
pub(crate) fn force_out(name: &Name, directory: &Path) {
    // Twice, since a process that was starting others may have started one more.
    for _ in 0..2 {
        leak::processes(name).iter().for_each(|(process, _)| process.kill());
        cgroups::mentioning(name).iter().for_each(|cgroup| cgroups::remove(cgroup));
    }
    // The youngest mount first, since it may lie on an older one.
    let mut mounts = leak::mounts(name);
    mounts.retain(|mount| mount.point.starts_with(directory));
    for mount in mounts.iter().rev() {
        let _ = rustix::mount::unmount(&mount.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

/// Removes the sandboxes of tests that were killed: those whose lock nobody holds.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().and_then(Name::from_directory) else { continue };
        // A lock that does not exist is about to be made, or about to be removed.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && is_old(&lock) {
            force_out(&name, &entry.path());
            remove(&name, &entry.path());
        }
    }
}

/// Says whether a lock has existed long enough for its maker to have locked it.
fn is_old(lock: &File) -> bool {
    let modified = lock.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(10)))
}
