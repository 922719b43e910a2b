//! System calls by ptrace(2): everywhere possible, and slow, so that nothing is timed meanwhile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use bulkhead_sys::trace::{self, Event};
use rustix::process::{Pid, Signal};

use super::seen::Seen;
use crate::stats::Failure;

/// A process that is followed, with all that it makes.
///
/// The following is done by a thread of its own, to which the kernel tells what happens. Until it has ended, nobody else
/// may wait for the process: a wait would take what is told.
#[derive(Debug)]
pub(super) struct Following {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<Result<(), bulkhead_sys::Error>>>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Seen,
    alive: BTreeSet<i32>,
}

impl Following {
    /// Begins with `pid`, which must be stopped.
    #[expect(clippy::disallowed_methods, reason = "this program makes no namespaces beside its threads")]
    pub(super) fn begin(pid: u32) -> Result<Self, Failure> {
        let pid = i32::try_from(pid).map_err(|_| Failure(format!("{pid} is no process")))?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let own = Arc::clone(&shared);
        let (begun, begins) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let seized = trace::seize(pid);
            let is_seized = seized.is_ok();
            // The other end waits for this.
            let _ = begun.send(is_seized);
            seized?;
            lock(&own).alive.insert(pid);
            follow(pid, &own)
        });
        let following = Self { shared, thread: Some(thread) };
        match begins.recv() {
            Ok(true) => Ok(following),
            _ => Err(following.end().err().unwrap_or_else(|| Failure("it cannot be followed".to_owned()))),
        }
    }

    /// What was seen since the last time.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut lock(&self.shared).seen)
    }

    /// The tasks that are followed now.
    pub(super) fn followed(&self) -> Vec<u32> {
        lock(&self.shared).alive.iter().filter_map(|pid| u32::try_from(*pid).ok()).collect()
    }

    /// Kills all of them.
    pub(super) fn kill(&self) {
        for pid in lock(&self.shared).alive.iter().copied().filter_map(Pid::from_raw) {
            // One that is gone already is what is wanted.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// Waits until the process with which it began has ended, or until all are killed.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(Err(error))) => Err(Failure(format!("follow it: {error}"))),
            Some(Err(_)) => Err(Failure("follow it: the thread that did ended".to_owned())),
            _ => Ok(()),
        }
    }

    /// Whether the process with which it began has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.kill();
            // What it says does not matter any more.
            let _ = thread.join();
        }
    }
}

fn follow(first: i32, shared: &Mutex<Shared>) -> Result<(), bulkhead_sys::Error> {
    while let Some((pid, event)) = trace::next(first)? {
        let resumed = match event {
            Event::Entry(number) => {
                let task = (u32::try_from(pid).unwrap_or(0), number.cast_unsigned());
                *lock(shared).seen.calls.entry(task).or_default() += 1;
                trace::resume(pid, 0)
            }
            Event::Born(child) => {
                let mut shared = lock(shared);
                shared.alive.insert(child);
                let both = u32::try_from(pid).ok().zip(u32::try_from(child).ok());
                shared.seen.births.extend(both);
                trace::resume(pid, 0)
            }
            Event::Ended => {
                lock(shared).alive.remove(&pid);
                if pid == first {
                    // Its end stays for its parent to collect, and would be told again and again.
                    return Ok(());
                }
                continue;
            }
            Event::Stopped(_) => trace::stay(pid),
            Event::Signal(signal) => trace::resume(pid, signal),
            Event::Exit | Event::Executed | Event::Trap => trace::resume(pid, 0),
        };
        match resumed {
            // It was killed meanwhile; its end is told next.
            Err(error) if error.errno() == rustix::io::Errno::SRCH => {}
            resumed => resumed?,
        }
    }
    Ok(())
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;

    /// A shell that stops at once, and follows the script when it goes on.
    fn stopped(script: &str) -> Child {
        let child = Command::new("sh").args(["-c", &format!("kill -STOP $$; {script}")]).spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        until(|| std::fs::read_to_string(&stat).unwrap().contains(") T "));
        child
    }

    fn until(is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < end, "it takes too long");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn go_on(child: &Child) {
        rustix::process::kill_process(Pid::from_child(child), Signal::CONT).unwrap();
    }

    #[test]
    fn calls_of_a_process_and_its_children_are_counted() {
        let mut child = stopped("(umask 0; umask 0) ; umask 0");
        let following = Following::begin(child.id()).unwrap();
        go_on(&child);
        until(|| following.has_ended());
        let seen = following.take();
        following.end().unwrap();
        assert!(child.wait().unwrap().success(), "following changed what became of it");
        let number = bulkhead_seccomp::number(bulkhead_seccomp::NATIVE, "umask").unwrap();
        let [(maker, born)] = seen.births[..] else { panic!("not one child: {:?}", seen.births) };
        assert_eq!(maker, child.id());
        let of = |task: u32| seen.calls.get(&(task, u64::from(number))).copied();
        // A shell may ask before it sets, but does so each time.
        let once = of(maker).unwrap_or_default();
        assert!(once > 0 && of(born) == Some(2 * once), "{:?}", seen.calls);
    }

    #[test]
    fn what_is_followed_no_more_is_gone() {
        // Killed at any moment, also between a stop and what is told of it: its end stays for this thread.
        for _ in 0..20 {
            let mut child = stopped("exec sleep 1000");
            let following = Following::begin(child.id()).unwrap();
            go_on(&child);
            until(|| following.followed() == [child.id()]);
            drop(following);
            assert!(!child.wait().unwrap().success(), "it went on");
        }
    }

    #[test]
    fn what_is_gone_cannot_be_followed() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let failure = Following::begin(child.id()).unwrap_err();
        assert!(failure.0.starts_with("follow it: ptrace(SEIZE"), "{failure}");
    }
}
