//! Holding a container while its parts change: a lock on its directory, which the kernel takes away from who dies.

use std::fmt;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bulkhead_shim::client;
use bulkhead_shim::status::Process;
use bulkhead_store::{ContainerRecord, Kind, Stage};
use bulkhead_sys::process;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, major, minor, openat};
use rustix::io::{Errno, retry_on_intr};

use crate::container::State;
use crate::create::FILES;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::id;
use crate::known::Known;
use crate::stop::{AT_ONCE, KILL};

/// A container that nobody else starts, pauses or removes while this is there; or a pod into which nobody else starts one.
#[derive(Debug)]
pub(crate) struct Held {
    _opened: Arc<OwnedFd>,
    /// Of whom nobody may read the layers either.
    _layers: Option<Lock>,
}

/// A container whose layers are read, and none of which is exchanged while this is there.
#[derive(Debug)]
pub(crate) enum Reading {
    /// It does not run, and nobody else has it.
    Alone {
        /// Nothing where it has no directory.
        _held: Option<Held>,
    },
    /// It runs, or is about to, and is started, frozen and removed as ever.
    Beside {
        /// Nothing where it has no layers.
        _layers: Option<Lock>,
    },
}

/// An operation waits because somebody else changes the same container or pod, for longer than that usually takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What is waited for, such as `container web`.
    pub what: String,
    /// Who has it, if the kernel tells: the process and the name of its program.
    pub holder: Option<(i32, String)>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {}, which {} holds", self.what, somebody(self.holder.as_ref()))
    }
}

fn somebody(holder: Option<&(i32, String)>) -> String {
    holder.map_or("somebody else".to_owned(), |(pid, program)| format!("process {pid} ({program})"))
}

/// How long is waited without a word.
const QUIET: Duration = Duration::from_secs(1);
/// How often a container that is another thing each time is looked at.
const ATTEMPTS: usize = 8;
/// How long whoever is removed by force may be held by somebody else.
const GRACE: Duration = Duration::from_secs(10);

impl Engine {
    /// Waits until nobody else holds the container. `None` when it has no directory: it was not made yet, or is gone.
    ///
    /// Whoever waited asks the record again, which may have changed or gone meanwhile.
    ///
    /// # Errors
    /// As open(2) and flock(2).
    pub(crate) fn hold(&self, id: &str) -> Result<Option<Held>> {
        self.hold_directory(&self.places().container(id), || self.called(id))
    }

    /// As [`Engine::hold`], and `None` as well when somebody else holds it.
    ///
    /// # Errors
    /// As that.
    pub(crate) fn try_hold(&self, id: &str) -> Result<Option<Held>> {
        let Some(lock) = Lock::open(&self.places().container(id))? else { return Ok(None) };
        Ok(lock.take_at_once()?.then(|| lock.held()))
    }

    /// Tells whether nobody holds a container that is there, without keeping anybody else from looking.
    ///
    /// # Errors
    /// As [`Engine::hold`].
    pub(crate) fn is_free(&self, id: &str) -> Result<bool> {
        let Some(lock) = Lock::open(&self.places().container(id))? else { return Ok(false) };
        lock.share_at_once()
    }

    /// As [`Engine::hold`], for the directory of a container or a pod that people know by a name.
    pub(crate) fn hold_directory(&self, path: &Path, what: impl FnOnce() -> String) -> Result<Option<Held>> {
        let Some(lock) = Lock::open(path)? else { return Ok(None) };
        self.wait_for(lock, what).map(Some)
    }

    /// As [`Engine::hold_directory`], for a file that nobody but for this is opened for.
    pub(crate) fn hold_file(&self, file: File, path: &Path, what: &str) -> Result<Held> {
        let lock = Lock { opened: Arc::new(file.into()), name: path.display().to_string() };
        self.wait_for(lock, || what.to_owned())
    }

    fn wait_for(&self, lock: Lock, what: impl FnOnce() -> String) -> Result<Held> {
        if !lock.take_at_once()? {
            let queue = lock.queue()?;
            if !queue.is_over_within(QUIET) {
                self.tell_waiting(&lock, what());
            }
            queue.end()?;
        }
        Ok(lock.held())
    }

    /// As [`Engine::hold`], for a container that is removed by force: what its holder has a runtime do, or a monitor, is ended
    /// after a grace.
    pub(crate) fn hold_by_force(&self, known: &Known) -> Result<Option<Held>> {
        let id = &known.record.id;
        let Some(lock) = Lock::open(&self.places().container(id))? else { return Ok(None) };
        if !lock.take_at_once()? {
            let queue = lock.queue()?;
            if !queue.is_over_within(QUIET) {
                self.tell_waiting(&lock, self.called(id));
                while !queue.is_over_within(GRACE) {
                    self.end_for_holder(known, &lock)?;
                }
            }
            queue.end()?;
        }
        Ok(Some(lock.held()))
    }

    /// Holds a container whose layers nobody uses. Else says in the way of whom that would be: one that runs, or may, one that
    /// somebody else holds, or is about to, and one that somebody began to read while it ran.
    pub(crate) fn hold_idle(&self, record: &ContainerRecord) -> Result<std::result::Result<Held, String>> {
        let directory = self.places().container(&record.id);
        let Some(lock) = Lock::open(&directory)? else { return Ok(Err("it is being made".to_owned())) };
        if !lock.take_at_once()? {
            return Ok(Err(format!("{} holds it", somebody(lock.named_holder().as_ref()))));
        }
        let known = self.look(record.clone())?;
        let may_run = known.life.state.is_active()
            || known.is_to_be_ended(self)
            || client::alive(&self.places().container_run(&record.id))?;
        if may_run {
            return Ok(Err("it runs".to_owned()));
        }
        // After the look: whoever finds that it runs has locked this before.
        let layers = Lock::open(&directory.join(FILES))?;
        match &layers {
            Some(layers) if !layers.take_at_once()? => {
                Ok(Err(format!("{} reads it", somebody(layers.named_holder().as_ref()))))
            }
            _ => Ok(Ok(Held { _layers: layers, ..lock.held() })),
        }
    }

    /// Finds a container whose layers are to be read, and sees to it that none of them is exchanged meanwhile. What is known of it
    /// holds from then on for one that does not run.
    ///
    /// # Errors
    /// As [`Engine::find`]; [`Error::State`] for one that is another thing whenever it is looked at.
    pub(crate) fn hold_layers(&self, wanted: &str) -> Result<(Known, Reading)> {
        let mut known = self.find(wanted)?;
        for _ in 0..ATTEMPTS {
            let id = known.record.id.clone();
            let was_active = known.life.state.is_active();
            let reading = if was_active {
                let layers = Lock::open(&self.places().container(&id).join(FILES))?;
                // Who exchanges them has found that it does not run. This directory is never a container's.
                let is_free = layers.as_ref().map_or(Ok(true), Lock::share_at_once)?;
                is_free.then_some(Reading::Beside { _layers: layers })
            } else {
                None
            };
            let reading = match reading {
                Some(reading) => reading,
                None => Reading::Alone { _held: self.hold(&id)? },
            };
            known = self.find(&id)?;
            match (&reading, known.life.state.is_active()) {
                (Reading::Alone { .. }, false) | (Reading::Beside { .. }, true) => {
                    return Ok((known, reading));
                }
                _ => {}
            }
        }
        Err(known.refuses("read the files of"))
    }

    /// Makes sure that a container whose layers were read while it ran was not removed meanwhile: then not all was read.
    ///
    /// # Errors
    /// [`Error::State`] for one that was.
    pub(crate) fn expect_kept(&self, known: &Known, reading: &Reading) -> Result<()> {
        if matches!(reading, Reading::Alone { .. }) {
            return Ok(());
        }
        let is_kept = match self.store.container(&known.record.id) {
            Ok(record) => record.stage != Stage::Removing,
            Err(error) if error.kind() == Kind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        if is_kept {
            return Ok(());
        }
        let name = known.record.name.clone();
        Err(Error::State { operation: "read all of", name, state: State::Removing })
    }

    /// Ends what a container's holder waits for.
    fn end_for_holder(&self, known: &Known, lock: &Lock) -> Result<()> {
        let id = &known.record.id;
        match self.know_again(id)? {
            // It was being started when it was looked at last, and its monitor ends the runtime.
            Some(known) if known.life.state.is_active() => self.end(&known, AT_ONCE),
            _ => {
                let states = self.states_of(known.document.request.runtime.as_deref());
                // Or a monitor that has come no further.
                let run = self.places().container_run(id);
                let has = |child: &Process, word: &Path| has_argument(child.pid, word);
                // All containers of a runtime have its directory.
                let is_his =
                    |child: &Process| has(child, &run) || has(child, &states) && has(child, Path::new(id));
                let children = lock.holder()?.map(children).unwrap_or_default();
                children.iter().filter(|child| is_his(child)).try_for_each(end)
            }
        }
    }

    /// Says what a container is called, for who waits for it.
    fn called(&self, id: &str) -> String {
        let name = self.store.container(id).map(|record| record.name);
        format!("container {}", name.as_deref().unwrap_or(id::short(id)))
    }

    fn tell_waiting(&self, lock: &Lock, what: String) {
        self.notice(&Waiting { what, holder: lock.named_holder() });
    }
}

/// A directory or a file that is to be locked.
#[derive(Debug)]
pub(crate) struct Lock {
    opened: Arc<OwnedFd>,
    name: String,
}

/// A place in the kernel's queue for a lock, in which a thread waits: whoever has it meanwhile says what it waits for. Should
/// nobody wait any more, the lock is given back as soon as it is there.
struct Queue<'lock> {
    lock: &'lock Lock,
    /// Hears when the wait is over, one way or the other.
    over: Receiver<()>,
    thread: JoinHandle<rustix::io::Result<()>>,
}

impl Lock {
    fn open(path: &Path) -> Result<Option<Self>> {
        let name = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => {
                let opened = Arc::new(opened.doing(|| format!("lock {name}"))?);
                Ok(Some(Self { opened, name }))
            }
        }
    }

    /// Locks it, unless somebody else has.
    fn take_at_once(&self) -> Result<bool> {
        self.try_to(FlockOperation::NonBlockingLockExclusive)
    }

    /// Locks it together with others who do that, unless somebody has it alone.
    fn share_at_once(&self) -> Result<bool> {
        self.try_to(FlockOperation::NonBlockingLockShared)
    }

    fn try_to(&self, lock: FlockOperation) -> Result<bool> {
        match retry_on_intr(|| flock(&self.opened, lock)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno).doing(|| format!("lock {}", self.name)),
        }
    }

    /// Begins to wait until it is locked.
    fn queue(&self) -> Result<Queue<'_>> {
        let opened = Arc::clone(&self.opened);
        let (tell, over) = channel();
        let wait = move || {
            let locked = retry_on_intr(|| flock(&opened, FlockOperation::LockExclusive));
            let _ = tell.send(());
            locked
        };
        let thread = Builder::new().name("queue".into()).spawn(wait);
        let thread = thread.doing(|| format!("wait for {}", self.name))?;
        Ok(Queue { lock: self, over, thread })
    }

    fn held(self) -> Held {
        Held { _opened: self.opened, _layers: None }
    }

    /// As [`Lock::holder`], with the name of its program. That nobody can tell who it is, is no reason not to wait.
    fn named_holder(&self) -> Option<(i32, String)> {
        let pid = self.holder().ok().flatten()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some((pid, name.trim_end().to_owned()))
    }

    /// Finds the process that has it locked (proc_locks(5)); nothing where the kernel does not show it, as with other pid
    /// namespaces and file systems of several devices.
    fn holder(&self) -> Result<Option<i32>> {
        let doing = || format!("find who holds {}", self.name);
        let found = fstat(&self.opened).doing(doing)?;
        let table = fs::read_to_string("/proc/locks").doing(doing)?;
        Ok(holder(&table, (major(found.st_dev), minor(found.st_dev)), found.st_ino))
    }
}

impl Queue<'_> {
    /// Tells whether the wait has ended, or does within a time.
    fn is_over_within(&self, limit: Duration) -> bool {
        !matches!(self.over.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
    }

    /// Waits to the end, however long that takes: then it is locked.
    fn end(self) -> Result<()> {
        let locked = self.thread.join().unwrap_or(Err(Errno::DEADLK));
        locked.doing(|| format!("lock {}", self.lock.name))
    }
}

/// Finds who holds a file in `/proc/locks`.
fn holder(table: &str, (major, minor): (u32, u32), inode: u64) -> Option<i32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        // Who waits has an arrow there.
        (fields.next() == Some("FLOCK")).then_some(())?;
        let pid = fields.nth(2)?.parse().ok().filter(|&pid| pid > 0)?;
        (fields.next() == Some(&file)).then_some(pid)
    })
}

/// Lists the children of a process.
pub(crate) fn children(parent: i32) -> Vec<Process> {
    let list = || -> Vec<i32> {
        let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    let mut found = Vec::from_iter(list().into_iter().filter_map(Process::find));
    // One may have ended before it was looked up, and another have its number, which is no child.
    let still = list();
    found.retain(|child| still.contains(&child.pid));
    found
}

/// Tells whether a process was started with a path among its arguments.
fn has_argument(pid: i32, path: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|&byte| byte == 0).any(|word| word == path.as_os_str().as_encoded_bytes())
}

/// Kills a process, unless it has ended by itself.
fn end(wanted: &Process) -> Result<()> {
    let doing = || format!("end process {}", wanted.pid);
    match process::open_pidfd(wanted.pid) {
        // It has had its number since before it was opened.
        Ok(pidfd) if wanted.runs() => match process::signal(pidfd, KILL) {
            Err(error) if error.errno() == Errno::SRCH => Ok(()),
            signalled => signalled.doing(doing),
        },
        Ok(_) => Ok(()),
        Err(error) if error.errno() == Errno::SRCH => Ok(()),
        Err(error) => Err(error).doing(doing),
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn the_holder_stands_in_the_table_of_locks() {
        let table = "1: POSIX  ADVISORY  WRITE 10 08:01:4711 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 11 08:01:4712 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 08:01:4711 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 08:01:4711 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 fd:1a:4713 0 EOF\n";
        assert_eq!(holder(table, (8, 1), 4711), Some(13));
        assert_eq!(holder(table, (8, 2), 4711), None);
        assert_eq!(holder(table, (0xfd, 0x1a), 4713), None, "somebody in another pid namespace");
    }

    #[test]
    fn a_directory_is_held_by_one_and_the_other_learns_by_whom() {
        let scratch = Scratch::new();
        let directory = scratch.path().join("container");
        assert!(Lock::open(&directory).unwrap().is_none());
        fs::create_dir(&directory).unwrap();
        let opened = || Lock::open(&directory).unwrap().unwrap();
        let first = opened();
        assert!(first.take_at_once().unwrap());
        let second = opened();
        assert!(!second.take_at_once().unwrap());
        let queue = second.queue().unwrap();
        assert!(!queue.is_over_within(Duration::from_millis(20)));
        assert_eq!(second.holder().unwrap(), Some(std::process::id().cast_signed()));
        drop(first.held());
        assert!(queue.is_over_within(Duration::from_secs(10)));
        queue.end().unwrap();
        let held = second.held();
        assert!(!opened().take_at_once().unwrap());
        drop(held);
        assert!(opened().take_at_once().unwrap(), "nobody else has it open");
    }

    #[test]
    fn readers_share_and_who_exchanges_what_they_read_waits_for_all() {
        let scratch = Scratch::new();
        let opened = || Lock::open(scratch.path()).unwrap().unwrap();
        let (first, second, other) = (opened(), opened(), opened());
        assert!(first.share_at_once().unwrap() && second.share_at_once().unwrap());
        drop(first);
        assert!(!other.take_at_once().unwrap());
        drop(second);
        assert!(other.take_at_once().unwrap() && !opened().share_at_once().unwrap());
    }

    #[test]
    fn who_gives_up_takes_it_from_nobody() {
        let scratch = Scratch::new();
        let opened = || Lock::open(scratch.path()).unwrap().unwrap();
        let first = opened();
        assert!(first.take_at_once().unwrap());
        let second = opened();
        drop(second.queue().unwrap());
        drop(second);
        let third = opened();
        let queue = third.queue().unwrap();
        drop(first.held());
        queue.end().unwrap();
    }

    #[test]
    fn who_waits_says_for_whom() {
        let waiting = Waiting { what: "container web".into(), holder: Some((7, "bulkhead".into())) };
        assert_eq!(waiting.to_string(), "waiting for container web, which process 7 (bulkhead) holds");
    }
}
