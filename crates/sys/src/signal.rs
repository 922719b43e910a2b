//! Signal dispositions, masks, names and signalfd(2).

mod named;

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::syscall::check;
use crate::{Call, Result};

pub use named::Signal;

/// The number of the last signal (SIGRTMAX).
pub const LAST: i32 = 64;
/// SIGKILL.
pub const KILL: i32 = 9;

/// A set of signals: bit `n - 1` is signal number `n`, as the kernel has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// All signals; SIGKILL and SIGSTOP in it are ignored by the kernel.
    pub const ALL: Self = Self(u64::MAX);
    /// No signal.
    pub const EMPTY: Self = Self(0);

    /// Tells whether the set holds `signal`.
    pub fn has(self, signal: i32) -> bool {
        (1..=LAST).contains(&signal) && self.0 >> (signal - 1) & 1 == 1
    }
}

/// Replaces the mask of blocked signals of the calling thread.
///
/// # Errors
/// None is known.
pub fn set_mask(set: Set) -> Result<()> {
    const SET_MASK: libc::c_int = 2;
    // SAFETY: the kernel reads eight bytes of the live set; the old mask is not asked for.
    let returned = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, SET_MASK, &raw const set.0, std::ptr::null::<u64>(), 8)
    };
    check(returned).map(drop).call(|| format!("rt_sigprocmask(SETMASK, {:#x})", set.0))
}

/// Gives `signal` its default disposition, those signals too that the C library keeps for itself.
///
/// # Errors
/// EINVAL for SIGKILL, SIGSTOP and numbers that do not exist.
pub fn reset(signal: i32) -> Result<()> {
    /// SIG_DFL without flags and mask: all bytes are zero, in the layout of any machine.
    const DEFAULT: [u64; 8] = [0; 8];
    // SAFETY: the kernel reads a struct sigaction, 32 bytes at most, from the live array; the old one is not asked for.
    // SIG_DFL runs no code of ours, so no handler can break an invariant.
    let returned = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), 8)
    };
    check(returned).map(drop).call(|| format!("rt_sigaction({signal}, SIG_DFL)"))
}

/// Ignores `signal`.
///
/// # Errors
/// As [`reset`].
pub fn ignore(signal: i32) -> Result<()> {
    // SAFETY: SIG_IGN runs no code of ours, so no handler can break an invariant.
    let returned = unsafe { libc::signal(signal, libc::SIG_IGN) };
    let result = if returned == libc::SIG_ERR { Err(Errno::INVAL) } else { Ok(()) };
    result.call(|| format!("signal({signal}, SIG_IGN)"))
}

/// The signals that [`note`] saw, as [`Set`] has them.
static NOTED: AtomicU64 = AtomicU64::new(0);

/// Only notes `signal` from now on instead of being ended by it, unless it is ignored; [`noted`] tells.
///
/// Calls that wait are interrupted (EINTR). A program that is executed has the default disposition again.
///
/// # Errors
/// EINVAL for SIGKILL, SIGSTOP and numbers that do not exist.
pub fn note(signal: i32) -> Result<()> {
    // SAFETY: all bytes zero are a valid sigaction: SIG_DFL, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the C library writes into the live struct and changes nothing else.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    if asked == 0 && action.sa_sigaction == libc::SIG_IGN {
        return Ok(());
    }
    set_handler(signal, action, remember)
}

/// Sets one of the handlers of this file.
fn set_handler(signal: i32, mut action: libc::sigaction, handler: extern "C" fn(libc::c_int)) -> Result<()> {
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = 0;
    // SAFETY: the struct lives through the call. The handlers do one atomic operation or one system call that ends the
    // program, which is allowed wherever a signal may strike, and touch nothing else.
    let returned = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    let result = if returned == 0 { Ok(()) } else { Err(Errno::INVAL) };
    result.call(|| format!("sigaction({signal})"))
}

/// Tells which of the signals of [`note`] came so far.
pub fn noted() -> Set {
    Set(NOTED.load(Ordering::Relaxed))
}

extern "C" fn remember(signal: libc::c_int) {
    NOTED.fetch_or(1 << (signal - 1), Ordering::Relaxed);
}

/// Ends the program by `signal` from now on, which to the first process of a pid namespace does nothing by default.
///
/// The exit status is 128 and the signal's number. A program that is executed has the default disposition again.
///
/// # Errors
/// EINVAL for SIGKILL, SIGSTOP and numbers that do not exist.
pub fn end_by(signal: i32) -> Result<()> {
    // SAFETY: all bytes zero are a valid sigaction: SIG_DFL, no flags, an empty mask.
    let action: libc::sigaction = unsafe { std::mem::zeroed() };
    set_handler(signal, action, end)
}

extern "C" fn end(signal: libc::c_int) {
    crate::process::exit_now(128 + signal)
}

/// Gives every signal its default disposition and blocks none, as a program expects to start.
///
/// `ignored` names the signals to reset where it is known (SigIgn of `/proc/self/status`), else all are tried:
/// clone3(2) cannot do it, because CLONE_CLEAR_SIGHAND leaves ignored signals ignored.
///
/// # Errors
/// As [`set_mask`].
pub fn reset_all(ignored: Option<Set>) -> Result<()> {
    let ignored = ignored.unwrap_or(Set::ALL);
    for signal in
        (1..=LAST).filter(|&signal| ignored.has(signal) && signal != libc::SIGKILL && signal != libc::SIGSTOP)
    {
        reset(signal)?;
    }
    set_mask(Set::EMPTY)
}

/// Opens a descriptor from which the blocked signals of `set` are read.
///
/// # Errors
/// EMFILE at the limit of descriptors.
pub fn descriptor(set: Set) -> Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel reads eight bytes of the live set and returns a fresh descriptor.
    let returned = check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set.0, 8, flags) })
        .call(|| format!("signalfd4(-1, {:#x})", set.0))?;
    // SAFETY: the call returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(returned as libc::c_int) })
}

/// Reads the numbers of pending signals from a descriptor of [`descriptor`], oldest first; none when there are none.
///
/// # Errors
/// As read(2).
pub fn read_descriptor(descriptor: &OwnedFd) -> Result<Vec<i32>> {
    const RECORD: usize = size_of::<libc::signalfd_siginfo>();
    /// Signals that are read at once. Fewer mean that no more were there, which saves asking.
    const AT_ONCE: usize = 8;
    let mut numbers = Vec::new();
    loop {
        let mut records = [0_u8; RECORD * AT_ONCE];
        let length = match rustix::io::read(descriptor, &mut records) {
            Ok(length) => length,
            Err(Errno::AGAIN) => 0,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).call(|| "read(signalfd)"),
        };
        let number = |record: &[u8]| i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        numbers.extend(records[..length].chunks_exact(RECORD).map(number));
        if length < records.len() {
            return Ok(numbers);
        }
    }
}

/// Raises `signal` for the calling process itself.
///
/// # Errors
/// EINVAL for a number that does not exist.
pub fn raise(signal: i32) -> Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: kill(2) takes two integers; the target is the caller itself.
    check(unsafe { libc::syscall(libc::SYS_kill, own, signal) })
        .map(drop)
        .call(|| format!("kill(self, {signal})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noted_signal_does_not_end_the_process() {
        note(libc::SIGUSR1).unwrap();
        assert!(!noted().has(libc::SIGUSR1), "nobody sent it yet");
        raise(libc::SIGUSR1).unwrap();
        // Another thread of the test program may be the one that takes it, a moment later.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !noted().has(libc::SIGUSR1) {
            assert!(std::time::Instant::now() < end, "the signal was not noted");
            std::thread::yield_now();
        }
        assert!(note(libc::SIGKILL).is_err(), "SIGKILL ends whoever gets it");
    }

    #[test]
    fn an_ignored_signal_stays_ignored() {
        ignore(libc::SIGUSR2).unwrap();
        note(libc::SIGUSR2).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
        assert!(Set(u64::from_str_radix(ignored, 16).unwrap()).has(libc::SIGUSR2), "ignored are {ignored}");
    }
}
