//! What is known of a container between two commands: its state directory.
//!
//! ```text
//! ROOT/ID/            0700, locked (flock) while a command changes the container
//!     state.json      [`State`], replaced by write and rename
//!     config.json     the bundle's configuration as it was at `create`
//!     gate            the socket at which a created container waits for `start`
//!     criu-root/      where CRIU finds the root file system while it restores the container
//!     criu-mounts/    where it finds what is bound with other ids than on the host
//!     notify/         with `notify.sock`, where the container says that it is ready (if a service manager waits)
//! ```
//!
//! Everything that a command is about to create is recorded here first, so that a crash at any system call leaves
//! something that `delete` can find.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_cgroup::systemd::Scope;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use serde::{Deserialize, Serialize};

use crate::bundle::CONFIG;
use crate::error::{Doing, Error, Result};
use crate::id::ContainerId;
use crate::resctrl;
use crate::timestamp::Timestamp;

/// The version of the file's format.
const VERSION: u32 = 1;
const STATE: &str = "state.json";
const STATE_NEXT: &str = "state.json.next";

/// How long a command waits for another one that changes the same container.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The socket at which a created container waits.
pub const GATE: &str = "gate";
/// Where a root file system is mounted while its container is restored; only in the mount namespace of CRIU.
pub const CRIU_ROOT: &str = "criu-root";
/// Where mounts with mapped ids are meanwhile, each by its number; only there too.
pub const CRIU_MOUNTS: &str = "criu-mounts";
/// The directory that a container gets when somebody waits to hear that it is ready.
pub const NOTIFY: &str = "notify";
/// The socket in it.
pub const NOTIFY_SOCKET: &str = "notify/notify.sock";

/// How often, and after which pause, a directory is looked at again that has just been made and is not locked yet.
const BIRTHS: u32 = 10;
const BIRTH_PAUSE: Duration = Duration::from_millis(2);

/// The record of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The version of this format.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// The version of the specification that its bundle names.
    pub oci_version: String,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Absolute path of its root file system.
    pub rootfs: PathBuf,
    /// What callers attached to it.
    pub annotations: BTreeMap<String, String>,
    /// User id of whoever created it.
    pub owner: u32,
    /// When it was created.
    pub created: Timestamp,
    /// The boot in which its process lives, `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Whether its creation is complete.
    pub ready: bool,
    /// Whether its processes have a session keyring of their own.
    pub keyring: bool,
    /// Its first process.
    pub process: Option<ProcessId>,
    /// Its class of service, if it asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<resctrl::Record>,
    /// Its control groups.
    #[serde(with = "CgroupRecord")]
    pub cgroup: bulkhead_cgroup::Record,
}

/// A process for good: its pid may be given away again, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid in the runtime's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_time: u64,
}

/// How [`bulkhead_cgroup::Record`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "bulkhead_cgroup::Record")]
struct CgroupRecord {
    paths: BTreeMap<String, String>,
    made: Vec<String>,
    #[serde(with = "scope", default, skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
}

/// How the unit of a container is written.
mod scope {
    use bulkhead_cgroup::systemd::{Manager, Scope};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Written {
        unit: String,
        /// Whether it is the calling user's systemd that has it.
        user: bool,
    }

    pub(super) fn serialize<S: Serializer>(scope: &Option<Scope>, serializer: S) -> Result<S::Ok, S::Error> {
        let written =
            scope.clone().map(|Scope { manager, unit }| Written { unit, user: manager == Manager::User });
        written.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scope>, D::Error> {
        let written = Option::<Written>::deserialize(deserializer)?;
        Ok(written.map(|Written { unit, user }| Scope {
            manager: if user { Manager::User } else { Manager::System },
            unit,
        }))
    }
}

impl State {
    /// Starts the record of a container that is about to be created.
    pub fn new(
        id: &ContainerId,
        bundle: &Path,
        plan: &crate::plan::Plan,
        cgroup: bulkhead_cgroup::Record,
    ) -> Self {
        Self {
            version: VERSION,
            id: id.as_str().to_owned(),
            oci_version: plan.oci_version.clone(),
            bundle: bundle.to_owned(),
            rootfs: plan.root.path.clone(),
            annotations: plan.annotations.clone(),
            owner: rustix::process::getuid().as_raw(),
            created: Timestamp::now(),
            boot_id: String::new(),
            ready: false,
            keyring: true,
            process: None,
            rdt: None,
            cgroup,
        }
    }

    /// Reads the text of a record of the container `id`.
    ///
    /// # Errors
    /// As [`StateDir::load`].
    pub fn from_json(id: &ContainerId, text: &str) -> Result<Self> {
        let state: Self = serde_json::from_str(text).map_err(|error| Error::Damaged {
            id: id.as_str().to_owned(),
            reason: format!("{STATE}: {error}"),
        })?;
        if state.version != VERSION {
            let id = id.as_str().to_owned();
            return Err(Error::Version { id, version: state.version, known: VERSION });
        }
        Ok(state)
    }

    /// Returns the text of the record.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| Error::Damaged { id: self.id.clone(), reason: error.to_string() })
    }

    /// Returns the name of the session keyring that all its processes join; `None` where they keep their caller's.
    pub fn keyring_name(&self) -> Option<CString> {
        // An id holds no NUL byte.
        self.keyring.then(|| CString::new(format!("_ses.{}", self.id)).ok()).flatten()
    }
}

/// The state directory of one container.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    id: ContainerId,
    directory: OwnedFd,
}

impl StateDir {
    /// Makes the directory of a new container, and locks it.
    ///
    /// # Errors
    /// [`Error::Exists`] when the id is in use.
    pub fn create(root: &Path, id: &ContainerId) -> Result<Self> {
        for _ in 0..BIRTHS {
            match Self::try_to_create(root, id) {
                // A `delete --force` came between the two.
                Err(Error::NotFound { .. }) => {}
                other => return other,
            }
        }
        Self::try_to_create(root, id)
    }

    fn try_to_create(root: &Path, id: &ContainerId) -> Result<Self> {
        let path = root.join(id.as_str());
        let mode = Mode::RWXU;
        match rustix::fs::mkdir(&path, mode) {
            Err(Errno::NOENT) => {
                make_root(root)?;
                rustix::fs::mkdir(&path, mode)
            }
            other => other,
        }
        .map_err(|errno| match errno {
            Errno::EXIST => Error::Exists { id: id.as_str().to_owned() },
            errno => Error::System {
                doing: "make the state directory".into(),
                source: bulkhead_sys::Error::new(format!("mkdir({path:?})"), errno),
            },
        })?;
        let dir = Self::open_at(root, id).and_then(|dir| dir.lock().map(|()| dir));
        if dir.as_ref().is_err_and(|error| !matches!(error, Error::NotFound { .. })) {
            // Nothing is in it yet. Should that fail too, `delete --force` finds it.
            let _ = rustix::fs::rmdir(&path);
        }
        dir
    }

    /// Opens the directory of a container.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub fn open(root: &Path, id: &ContainerId) -> Result<Self> {
        Self::open_at(root, id)
    }

    fn open_at(root: &Path, id: &ContainerId) -> Result<Self> {
        let path = root.join(id.as_str());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { root: root.to_owned(), id: id.clone(), directory }),
            Err(Errno::NOENT) => Err(Error::NotFound { id: id.as_str().to_owned() }),
            Err(errno) => Err(errno).doing(|| format!("open the state directory {}", path.display())),
        }
    }

    /// Waits until no other command changes the container; the lock ends with this value or this process.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the container was deleted meanwhile, [`Error::Busy`] when another command does not come
    /// to an end: a hook of it may hang, or be the one that waits here.
    pub fn lock(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            match rustix::fs::flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if begin.elapsed() < PATIENCE => std::thread::sleep(LOOK_AGAIN),
                Err(Errno::WOULDBLOCK) => return Err(self.busy()),
                Err(errno) => return Err(errno).doing(|| "lock the state directory"),
            }
        }
        let still_there = self.stat()?.st_nlink > 0;
        if still_there { Ok(()) } else { Err(Error::NotFound { id: self.id.as_str().to_owned() }) }
    }

    fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.directory).doing(|| "stat the state directory")
    }

    fn busy(&self) -> Error {
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let holder = self.stat().ok().and_then(|stat| lock_holder(&locks, &stat));
        Error::Busy { id: self.id.as_str().to_owned(), holder, patience: PATIENCE }
    }

    /// Lets other commands change the container while this one only watches it.
    ///
    /// # Errors
    /// None is known.
    pub fn unlock(&self) -> Result<()> {
        rustix::fs::flock(&self.directory, FlockOperation::Unlock).doing(|| "unlock the state directory")
    }

    /// Returns the container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Returns the directory itself.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Returns the path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(self.id.as_str()).join(name)
    }

    /// Returns the address of a socket in it.
    ///
    /// A socket's path has at most 107 bytes; a longer one is reached through the directory's descriptor.
    ///
    /// # Errors
    /// None is known.
    pub fn socket_address(&self, name: &str) -> Result<SocketAddrUnix> {
        let path = self.path(name);
        SocketAddrUnix::new(&path)
            .or_else(|_| SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd())))
            .doing(|| format!("name the socket {}", path.display()))
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// ENOSPC and the like; the old record stays then.
    pub fn save(&self, state: &State) -> Result<()> {
        self.write(STATE_NEXT, &state.to_json()?)?;
        rustix::fs::renameat(&self.directory, STATE_NEXT, &self.directory, STATE)
            .doing(|| "replace the container's state file")
    }

    /// Reads the record; `None` when the container's creation ended before there was one.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is no record, [`Error::Version`] when another version wrote it.
    pub fn load(&self) -> Result<Option<State>> {
        let Some(text) = self.read(STATE)? else { return Ok(None) };
        State::from_json(&self.id, &text).map(Some)
    }

    /// Locks the directory of a container that was created, and reads the record.
    ///
    /// # Errors
    /// As [`StateDir::lock`] and [`StateDir::load`], and [`Error::Damaged`] when there is no record.
    pub fn lock_created(&self) -> Result<State> {
        for _ in 0..BIRTHS {
            self.lock()?;
            if let Some(state) = self.load()? {
                return Ok(state);
            }
            // Whoever has just made the directory may not have come to lock it.
            self.unlock()?;
            std::thread::sleep(BIRTH_PAUSE);
        }
        self.lock()?;
        self.load()?.ok_or_else(|| self.interrupted())
    }

    /// Says that the creation of the container never ended.
    pub fn interrupted(&self) -> Error {
        Error::Damaged {
            id: self.id.as_str().to_owned(),
            reason: "its creation was interrupted; `bulkrun delete --force` removes what is left".into(),
        }
    }

    /// Writes a file of the directory.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)
            .doing(|| format!("create {name} in the state directory"))?;
        File::from(file).write_all(bytes).doing(|| format!("write {name} in the state directory"))
    }

    /// Reads a file of the directory; `None` when it is not there.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub fn read(&self, name: &str) -> Result<Option<String>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno).doing(|| format!("open {name} in the state directory")),
        };
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).doing(|| format!("read {name} in the state directory"))?;
        Ok(Some(text))
    }

    /// Removes a file of the directory; one that is not there is fine.
    ///
    /// # Errors
    /// As unlinkat(2).
    pub fn remove_file(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).doing(|| format!("remove {name} from the state directory")),
        }
    }

    /// Removes the directory: the container is no more.
    ///
    /// Tries twice, since a foreground `run` has nobody after it to try again.
    ///
    /// # Errors
    /// ENOTEMPTY when somebody put a file there.
    pub fn remove(self) -> Result<()> {
        self.try_to_remove().or_else(|_| self.try_to_remove())
    }

    fn try_to_remove(&self) -> Result<()> {
        for name in [STATE, CONFIG] {
            self.remove_file(name)?;
        }
        let path = self.root.join(self.id.as_str());
        let mut removed = rustix::fs::rmdir(&path);
        // What only some containers have.
        if removed == Err(Errno::NOTEMPTY) {
            for name in [GATE, STATE_NEXT, NOTIFY_SOCKET] {
                self.remove_file(name)?;
            }
            for name in [NOTIFY, CRIU_ROOT, CRIU_MOUNTS] {
                match rustix::fs::unlinkat(&self.directory, name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => {
                        return Err(errno).doing(|| format!("remove {name} from the state directory"));
                    }
                }
            }
            removed = rustix::fs::rmdir(&path);
        }
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).doing(|| format!("remove the state directory {}", path.display())),
        }
    }
}

/// Finds who holds a lock by flock(2) on a file, see proc_locks(5): `1: FLOCK ADVISORY WRITE 123 08:01:456 0 EOF`.
///
/// The inode alone would not do: every tmpfs counts its own from one. Where stat(2) tells another device than the
/// kernel's, as on btrfs, nobody is found.
fn lock_holder(locks: &str, file: &Stat) -> Option<i32> {
    let (major, minor) = (rustix::fs::major(file.st_dev), rustix::fs::minor(file.st_dev));
    let wanted = format!("{major:02x}:{minor:02x}:{}", file.st_ino);
    let holder = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next()?; // `->` for one who waits.
        let pid = words.nth(2)?.parse().ok()?;
        (kind == "FLOCK" && words.next()? == wanted && pid > 0).then_some(pid)
    };
    locks.lines().find_map(holder)
}

/// The sticky bit keeps those away that tidy `XDG_RUNTIME_DIR` up (XDG Base Directory Specification).
fn make_root(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o1700)
        .create(root)
        .doing(|| format!("make the directory of all containers' state, {}", root.display()))
}

/// Lists the ids of all containers below `root`, sorted; none when `root` is not there.
///
/// # Errors
/// As opendir(3).
pub fn list(root: &Path) -> Result<Vec<ContainerId>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing(|| format!("list {}", root.display())),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.doing(|| format!("list {}", root.display()))?;
        if let Ok(id) = ContainerId::from_os(&entry.file_name()) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use bulkhead_cgroup::systemd::Manager;

    use super::*;

    #[test]
    fn a_unit_is_remembered_and_a_record_without_one_is_read() {
        #[derive(Serialize, Deserialize)]
        struct Whole(#[serde(with = "CgroupRecord")] bulkhead_cgroup::Record);
        let text = |record: &bulkhead_cgroup::Record| serde_json::to_string(&Whole(record.clone())).unwrap();
        let read = |text: &str| serde_json::from_str::<Whole>(text).unwrap().0;
        let without = bulkhead_cgroup::Record::default();
        assert_eq!(text(&without), r#"{"paths":{},"made":[]}"#, "nothing of it is written without");
        assert_eq!(read(&text(&without)), without);
        for manager in [Manager::System, Manager::User] {
            let scope = Some(Scope { manager, unit: "p-x.scope".into() });
            let with = bulkhead_cgroup::Record { scope, ..without.clone() };
            assert_eq!(read(&text(&with)), with);
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_found_among_those_who_wait_and_other_kinds() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 08:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 33 08:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE -1 08:01:88 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 44 00:1a:99 0 EOF\n";
        let holder = |inode| {
            let mut file = rustix::fs::stat("/").unwrap();
            (file.st_dev, file.st_ino) = (rustix::fs::makedev(8, 1), inode);
            lock_holder(locks, &file)
        };
        assert_eq!(holder(77), Some(22));
        assert_eq!(holder(88), None, "of another pid namespace");
        assert_eq!(holder(99), None, "of another file system");
    }
}
