//! Directories that a command makes for its own time, and that a later one finds when the command was killed.

use std::fs::{DirBuilder, File, Metadata};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sys::mountinfo;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::error::{Doing as _, Error};

/// A directory called `PREFIX` `PID`-`NUMBER`, locked while its maker lives. Whoever has it removes it.
#[derive(Debug)]
pub struct Claim {
    name: String,
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Makes the first directory of this process that is not there yet; only its user may enter.
    ///
    /// # Errors
    /// When it cannot be made or locked.
    pub fn make(place: &Path, prefix: &str) -> Result<Self, Error> {
        let mut number = 0;
        loop {
            let name = format!("{prefix}{}-{number}", std::process::id());
            let path = place.join(&name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                made => {
                    made.doing(|| format!("make {}", path.display()))?;
                    let lock = lock(&path, FlockOperation::NonBlockingLockExclusive)
                        .doing(|| format!("lock {}", path.display()))?;
                    return Ok(Self { name, path, _lock: lock });
                }
            }
        }
    }

    /// Its last part, unique on this machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it. What is mounted in it, as a platform leaves it that was killed, is unmounted and
    /// not emptied.
    ///
    /// # Errors
    /// When something cannot be unmounted or removed.
    pub fn remove(&self) -> Result<(), Error> {
        // This thread's, which may have a namespace of its own.
        let table = std::fs::read("/proc/thread-self/mountinfo").doing(|| "read the mounts".to_owned())?;
        let mounts = mountinfo::entries(&table);
        let below = mounts.iter().map(|mount| mount.point.as_path()).filter(|point| *point != self.path);
        // The latest first: it lies on or below the others.
        for place in Vec::from_iter(below.filter(|point| point.starts_with(&self.path))).into_iter().rev() {
            rustix::mount::unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .doing(|| format!("unmount {}", place.display()))?;
        }
        std::fs::remove_dir_all(&self.path).doing(|| format!("remove {}", self.path.display()))
    }
}

/// How often, and how long apart, is looked whether who was killed has let everything go.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

impl Claim {
    /// Waits until the maker of `directory` is gone, and takes the directory over; None when it is gone, too.
    pub fn inherit(directory: &Path, prefix: &str) -> Option<Self> {
        let name = directory.file_name()?.to_str()?.to_owned();
        let own = name.starts_with(prefix)
            && directory.symlink_metadata().is_ok_and(|found| found.is_dir() && is_ours(&found));
        let lock = own.then(|| lock(directory, FlockOperation::LockExclusive)).and_then(Result::ok)?;
        // Of who is killed the locks go one after the other, and what it had locked besides is to be found, too.
        let maker = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse().ok());
        let goes = |_: &u32| directory.exists() && maker.is_some_and(|maker| !is_gone(maker));
        (0..TRIES).take_while(goes).for_each(|_| std::thread::sleep(PAUSE));
        Some(Self { name, path: directory.to_owned(), _lock: lock })
    }
}

/// Whether a process has ended. One that its parent has not looked after yet does nothing any more.
pub(crate) fn is_gone(process: u32) -> bool {
    let stat = match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat,
        // Any other error says nothing of the process.
        Err(error) => return matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::SRCH)),
    };
    // The state comes behind the name, which may hold anything, in parentheses.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('Z') => !has_threads(process),
        state => state.is_none_or(|state| state == 'X'),
    }
}

/// Whether more than the first thread is there: that may end before the others, and looks then as if all had.
fn has_threads(process: u32) -> bool {
    let threads = Path::new("/proc").join(process.to_string()).join("task").read_dir();
    threads.into_iter().flatten().flatten().count() > 1
}

fn is_ours(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Takes over this user's directories in `place` whose makers are gone.
///
/// The place may be one in which everyone makes what he likes: what another user made, or a link, is none of ours.
///
/// # Errors
/// When the place cannot be read.
pub fn abandoned(place: &Path, prefix: &str) -> Result<Vec<Claim>, Error> {
    let entries = place.read_dir().doing(|| format!("read {}", place.display()))?;
    Ok(entries.flatten().filter_map(|entry| take_over(entry.path(), prefix)).collect())
}

fn take_over(path: PathBuf, prefix: &str) -> Option<Claim> {
    let name = path.file_name()?.to_str()?.to_owned();
    let maker: u32 = name.strip_prefix(prefix)?.split('-').next()?.parse().ok()?;
    let found = path.symlink_metadata().ok()?;
    let own = found.is_dir() && is_ours(&found);
    // The maker's life covers the moment before it locks; the lock covers makers in other pid namespaces.
    if !own || !is_gone(maker) {
        return None;
    }
    let lock = lock(&path, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(Claim { name, path, _lock: lock })
}

fn lock(directory: &Path, how: FlockOperation) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(directory, flags, Mode::empty())?);
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, how))?;
    // Whoever had the lock until now may have removed it.
    if rustix::fs::fstat(&file)?.st_nlink == 0 { Err(Errno::NOENT) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bulkhead_testkit::Scratch;

    use super::*;

    /// A place of its own, removed at the end.
    struct Place(PathBuf, #[expect(dead_code, reason = "it is removed at the end")] Scratch);

    impl Place {
        fn new() -> Self {
            let scratch = Scratch::new();
            Self(scratch.path().to_owned(), scratch)
        }

        fn abandoned(&self) -> Vec<String> {
            abandoned(&self.0, "x-").unwrap().into_iter().map(|claim| claim.name).collect()
        }
    }

    /// No process has it: the kernel's pids end below.
    const NOBODY: u32 = 4_194_305;

    #[test]
    fn what_lives_is_not_abandoned() {
        let place = Place::new();
        let first = Claim::make(&place.0, "x-").unwrap();
        let second = Claim::make(&place.0, "x-").unwrap();
        assert_ne!(first.name(), second.name());
        assert_eq!(place.abandoned(), [""; 0]);
        let elsewhere = format!("x-{NOBODY}-0");
        fs::rename(first.path(), place.0.join(&elsewhere)).unwrap();
        assert_eq!(place.abandoned(), [""; 0], "a locked directory has a maker, wherever that is");
        drop(first);
        assert_eq!(place.abandoned(), [elsewhere]);
    }

    #[test]
    fn who_has_ended_is_gone_before_its_parent_knows() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(!is_gone(child.id()) && !is_gone(std::process::id()) && is_gone(NOBODY));
        drop(child.stdin.take());
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !is_gone(child.id()) {
            assert!(std::time::Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Path::new("/proc").join(child.id().to_string()).exists(), "somebody waited for it");
        child.wait().unwrap();
    }

    #[test]
    fn who_goes_on_in_another_thread_is_not_gone() {
        bulkhead_testkit::requires!(Path::new("/usr/bin/python3").exists(), "needs python3");
        let exit = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
        let script = format!(
            "import ctypes, sys, threading\nthreading.Thread(target=sys.stdin.read).start()\n\
             ctypes.CDLL(None).syscall({exit}, 0)\n"
        );
        let mut command = std::process::Command::new("/usr/bin/python3");
        let mut child = command.args(["-c", &script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let stat = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !stat().contains(") Z ") {
            assert!(std::time::Instant::now() < end, "its first thread does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!is_gone(child.id()), "the other thread still waits for its input");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn who_inherits_waits_for_the_end() {
        let place = Place::new();
        let claim = Claim::make(&place.0, "x-").unwrap();
        let path = claim.path().to_owned();
        std::thread::scope(|scope| {
            let heir = scope.spawn(|| Claim::inherit(&path, "x-"));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!heir.is_finished(), "it has what is another's");
            drop(claim);
            assert_eq!(heir.join().unwrap().unwrap().path(), path);
        });
        fs::remove_dir(&path).unwrap();
        assert!(Claim::inherit(&path, "x-").is_none() && Claim::inherit(&place.0, "x-").is_none());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let place = Place::new();
        let target = place.0.join("target");
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, place.0.join(format!("x-{NOBODY}-0"))).unwrap();
        fs::write(place.0.join(format!("x-{NOBODY}-1")), "").unwrap();
        fs::create_dir(place.0.join("x-other")).unwrap();
        fs::create_dir(place.0.join(format!("y-{NOBODY}-0"))).unwrap();
        if rustix::process::geteuid().is_root() {
            let other = place.0.join(format!("x-{NOBODY}-2"));
            fs::create_dir(&other).unwrap();
            std::os::unix::fs::chown(&other, Some(54_321), None).unwrap();
        }
        assert_eq!(place.abandoned(), [""; 0]);
    }

    #[test]
    fn what_is_mounted_in_it_is_not_emptied() {
        bulkhead_testkit::requires!(rustix::process::geteuid().is_root(), "needs root");
        let place = Place::new();
        let source = place.0.join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("kept"), "").unwrap();
        let claim = Claim::make(&place.0, "x-").unwrap();
        let on = claim.path().join("a place");
        fs::create_dir(&on).unwrap();
        std::thread::scope(|scope| {
            // Nobody else sees what is mounted in this thread's namespace.
            let alone = scope.spawn(|| {
                bulkhead_sys::namespace::unshare(bulkhead_sys::namespace::Kind::Mount).unwrap();
                let private =
                    rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).unwrap();
                rustix::mount::mount_bind(&source, &on).unwrap();
                rustix::mount::mount_bind(&source, &on).unwrap();
                claim.remove().unwrap();
            });
            alone.join().unwrap();
        });
        assert!(source.join("kept").exists() && !claim.path().exists());
    }
}
