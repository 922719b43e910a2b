//! The one place where a process is made that shares this program's memory image: clone3(2).
//!
//! The child goes on in a copy of the parent, so the parent must be single-threaded (ARCHITECTURE.md, invariant 2):
//! a lock that another thread held would stay locked in the copy for ever.
#![expect(unsafe_code, reason = "clone3(2) duplicates the process; see the safety comment")]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bulkhead_sys as sys;
use bulkhead_sys::identity;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::custody::Keeper;
use crate::watch::until_readable;

/// CLONE_PIDFD.
const PIDFD: u64 = 0x1000;
/// CLONE_PARENT.
const PARENT: u64 = 0x8000;
/// CLONE_INTO_CGROUP.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// How long a process that was killed may take to end.
pub(crate) const LAST_BREATH: Duration = Duration::from_secs(10);

/// What the new process shares with and differs from its maker.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// CLONE_NEW* bits of the namespaces it gets anew.
    pub namespaces: u64,
    /// The cgroup of the v2 hierarchy that it starts in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether it becomes a sibling of its maker, a child of the maker's parent.
    pub sibling: bool,
}

/// A process that was made and has not been waited for.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the maker's pid namespace.
    pub pid: i32,
    /// A descriptor that refers to it for good.
    pub pidfd: OwnedFd,
    /// Its parent, if that is not the maker.
    keeper: Option<Keeper>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// Somebody else has waited for it.
    Unknown,
    /// Not at all, as far as can be seen.
    NotYet,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => f.write_str("it is gone"),
            Self::NotYet => f.write_str("it lives, but does not answer"),
        }
    }
}

impl Child {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd, keeper: Option<Keeper>) -> Self {
        Self { pid, pidfd, keeper }
    }

    /// Has it adopted, if it is to outlive its maker: from now on its number says nothing.
    pub(crate) fn leave_alone(&mut self) {
        self.keeper = None;
    }

    /// Waits a while for the end of the process and tells how it was; it can still be waited for.
    pub(crate) fn end(&self) -> End {
        if !self.ends_within(LAST_BREATH) {
            return End::NotYet;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let ended = |status: WaitIdStatus| {
            status.terminating_signal().map(End::Signal).or(status.exit_status().map(End::Status))
        };
        let end = match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => status.and_then(ended),
            Err(_) => self.keeper.as_ref().and_then(|_| identity::wait_status(self.pid)).and_then(of_status),
        };
        end.unwrap_or(End::Unknown)
    }

    /// Tells whether the process ends before that.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        until_readable(&self.pidfd, Some(patience), None).unwrap_or(true)
    }

    /// Kills the process and waits until it has ended, at most for `patience`: one that is frozen dies when it is thawed.
    pub fn put_an_end_to(&self, patience: Duration) {
        // It may have ended by itself; then only the waiting is left.
        let _ = sys::process::signal(&self.pidfd, sys::signal::KILL);
        let _ = self.ends_within(patience);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// The arguments of clone3(2), `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a process that runs `child` in a copy of this one and exits with what it returns.
///
/// # Errors
/// As clone3(2): EPERM without the right to a namespace, ENOSPC at the limit of nested ones, EAGAIN at RLIMIT_NPROC
/// or `pids.max`.
pub fn spawn(request: &Request<'_>, child: impl FnOnce() -> i32) -> sys::Result<Child> {
    let mut pidfd: i32 = -1;
    let mut arguments = Arguments {
        flags: request.namespaces | PIDFD,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        // The kernel takes the exit signal from the group leader with CLONE_PARENT and refuses another one.
        exit_signal: if request.sibling { 0 } else { libc_sigchld() },
        ..Arguments::default()
    };
    if request.sibling {
        arguments.flags |= PARENT;
    }
    if let Some(cgroup) = request.cgroup {
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    }
    // SAFETY: without CLONE_VM the child works on a copy of the address space with its own copy of this stack, as
    // after fork(2). That copy is consistent because this program is single-threaded (invariant 2, kept by every
    // caller: bulkrun starts no thread). `pidfd` outlives the call.
    let returned = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) };
    match returned {
        0 => {
            // The frames above belong to the parent: nothing may unwind or return into them.
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(1);
            // A process that ends gives up its memory, and with it its refusal to be traced, before its descriptors:
            // a container could open them in between (ptrace(2), "dumpable"). It ends even if they cannot be closed.
            let _ = sys::process::close_all_but(0, Vec::new());
            sys::process::exit_now(code)
        }
        -1 => {
            let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
            Err(sys::Error::new(format!("clone3({:#x})", arguments.flags), errno))
        }
        pid => {
            // SAFETY: with CLONE_PIDFD the kernel has stored a fresh close-on-exec descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child::new(pid as i32, pidfd, None))
        }
    }
}

/// Reads a status as wait(2) returns it.
fn of_status(status: i32) -> Option<End> {
    match (libc::WIFEXITED(status), libc::WIFSIGNALED(status)) {
        (true, _) => Some(End::Status(libc::WEXITSTATUS(status))),
        (_, true) => Some(End::Signal(libc::WTERMSIG(status))),
        _ => None,
    }
}

fn libc_sigchld() -> u64 {
    libc::SIGCHLD.unsigned_abs().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_runs_the_closure_and_exits_with_its_value() {
        let child = spawn(&Request::default(), || 42).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
        assert_eq!(status.unwrap().unwrap().exit_status(), Some(42));
    }
}
