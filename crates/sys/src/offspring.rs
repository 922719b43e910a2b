//! Child processes that are copies of their maker and end with it: fork(2), PR_SET_PDEATHSIG of prctl(2), getrusage(2).
//!
//! For programs that work in many processes without becoming others. `bulkrun` makes its processes elsewhere.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::process::exit_now;
use crate::syscall::check;
use crate::{Call, Result};

/// What a child ends with when its code panicked.
const PANICKED: i32 = 101;

/// A child that has not been waited for. It is killed when this is dropped.
#[derive(Debug)]
pub struct Offspring {
    pid: Pid,
    waited_for: bool,
}

/// Runs `run` in a copy of this process, which ends with what `run` returns, and is killed when its maker ends.
///
/// The maker must have one thread: a lock that another thread held would stay locked in the copy for ever. Owners in
/// the maker's frames are never dropped in the copy, so it has copies of the maker's descriptors until it ends.
///
/// # Errors
/// EAGAIN at a limit of processes, ENOMEM.
pub fn fork(run: impl FnOnce() -> u8) -> Result<Offspring> {
    let maker = rustix::process::getpid();
    // SAFETY: the caller promises that there is one thread, so the copy finds no lock taken; it runs `run` on its own
    // copy of the memory and then ends without returning to the maker's frames.
    let returned = unsafe { libc::fork() };
    let raw = check(returned.into()).call(|| "fork()")?;
    match i32::try_from(raw).ok().and_then(Pid::from_raw) {
        Some(pid) => Ok(Offspring { pid, waited_for: false }),
        None => exit_now(live(maker, run)),
    }
}

/// The life of the copy.
fn live(maker: Pid, run: impl FnOnce() -> u8) -> i32 {
    // A maker that ended before the wish was heard has passed the copy on to another parent.
    if end_with_parent().is_err() || rustix::process::getppid() != Some(maker) {
        return PANICKED;
    }
    // Unwinding must not reach the maker's frames, where it would drop what is the maker's.
    catch_unwind(AssertUnwindSafe(run)).map_or(PANICKED, i32::from)
}

/// Has the kernel kill this process when the thread that made it ends.
///
/// # Errors
/// None is known.
pub fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .call(|| "prctl(PR_SET_PDEATHSIG, SIGKILL)")
}

impl Offspring {
    /// Its pid, which is nobody else's as long as it is not waited for.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end of the child.
    ///
    /// # Errors
    /// ECHILD when somebody else has waited for it.
    pub fn wait(mut self) -> Result<WaitStatus> {
        loop {
            if let Some(status) = self.ask(WaitOptions::empty())? {
                return Ok(status);
            }
        }
    }

    /// Tells how the child ended; `None` while it lives.
    ///
    /// # Errors
    /// As [`Offspring::wait`].
    pub fn ended(&mut self) -> Result<Option<WaitStatus>> {
        self.ask(WaitOptions::NOHANG)
    }

    /// Kills the child and waits for its end.
    pub fn kill(self) {
        drop(self);
    }

    fn ask(&mut self, options: WaitOptions) -> Result<Option<WaitStatus>> {
        let answer = match rustix::process::waitpid(Some(self.pid), options) {
            Err(Errno::INTR) => return Ok(None),
            other => other.call(|| format!("waitpid({})", self.pid.as_raw_nonzero()))?,
        };
        self.waited_for |= answer.is_some();
        Ok(answer.map(|(_, status)| status))
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        if self.waited_for {
            return;
        }
        // The pid is still the child's: nobody has waited for it. Neither call can fail otherwise.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        while matches!(self.ask(WaitOptions::empty()), Ok(None)) {}
    }
}

/// The processor time, user and system, that this process and the children it has waited for have used.
///
/// # Errors
/// None is known.
pub fn processor_time() -> Result<Duration> {
    Ok(usage(libc::RUSAGE_SELF)? + usage(libc::RUSAGE_CHILDREN)?)
}

fn usage(whose: libc::c_int) -> Result<Duration> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes into the live struct and nothing else.
    let returned = unsafe { libc::getrusage(whose, usage.as_mut_ptr()) };
    check(returned.into()).call(|| format!("getrusage({whose})"))?;
    // SAFETY: all-zero bytes are a valid struct rusage, which is how it began.
    let usage = unsafe { usage.assume_init() };
    Ok([usage.ru_utime, usage.ru_stime].iter().map(duration).sum())
}

fn duration(time: &libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_what_it_returns() {
        let status = fork(|| 7).unwrap().wait().unwrap();
        assert_eq!(status.exit_status(), Some(7));
    }

    #[test]
    fn a_child_that_is_dropped_is_gone() {
        let child = fork(|| {
            loop {
                std::thread::park();
            }
        })
        .unwrap();
        let pid = child.pid;
        drop(child);
        assert_eq!(rustix::process::test_kill_process(pid), Err(Errno::SRCH), "{pid:?} lives");
    }

    #[test]
    fn a_panic_stays_in_the_child() {
        let status = fork(|| panic!("in the child")).unwrap().wait().unwrap();
        assert_eq!(status.exit_status(), Some(PANICKED));
    }

    #[test]
    fn processor_time_grows() {
        let before = processor_time().unwrap();
        let mut sum = 0_u64;
        while processor_time().unwrap() <= before {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
