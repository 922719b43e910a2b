//! From the runtime to the user: the last steps of a process, the same for the container's first and for `exec`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_seccomp::Program;
use bulkhead_sys::{credentials as sys_credentials, signal};
use rustix::fs::{Mode, OFlags};

use crate::console;
use crate::credentials;
use crate::error::{Doing, Result};
use crate::handshake;
use crate::idmap::Groups;
use crate::plan::process::Process;
use crate::procfs::Procfs;
use crate::{fds, limits, program};

/// What a process needs to know beside its own description.
pub(crate) struct Persona<'a> {
    /// The system call filter.
    pub filter: Option<&'a Program>,
    /// Name of the session keyring; without one the runtime's is kept.
    pub keyring: Option<&'a CStr>,
    /// Whether supplementary groups can be set.
    pub groups: Groups,
    /// Whether root is root of a user namespace only.
    pub in_user_namespace: bool,
    /// How many descriptors from 3 on are passed.
    pub passed: u32,
    /// Signals that the runtime's caller ignores.
    pub ignored: Option<signal::Set>,
    /// The conversation with the parent.
    pub socket: &'a handshake::Child,
    /// The gate at which the process waits for `start`.
    pub gate: Option<BorrowedFd<'a>>,
    /// Where labels are written, opened before the host's root was left; without it the process mounts one.
    pub procfs: Option<Procfs>,
    /// What else it needs until it becomes the program: where hooks write.
    pub kept: Vec<BorrowedFd<'a>>,
}

impl Persona<'_> {
    /// Becomes what `process` says, inside the container's root, and finds its program.
    ///
    /// # Errors
    /// The first thing that the kernel refuses, and a program that is not there.
    pub(crate) fn assume(mut self, process: &mut Process) -> Result<CString> {
        limits::apply(process)?;
        if self.procfs.is_none() && process.is_labelled() {
            self.procfs = Some(Procfs::mount()?);
        }
        self.join_keyring(process)?;
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| "open the container's root")?;
        program::complete_environment(&root, process);
        drop(root);
        let needed = std::iter::once(self.socket.as_fd()).chain(self.gate).chain(self.kept.iter().copied());
        let needed = needed.chain(self.procfs.as_ref().map(AsFd::as_fd));
        let needed = Vec::from_iter(needed);
        fds::seal(self.passed, &needed)?;
        // Root can open its own streams again without owning them, but not those of an id outside its namespace.
        if process.user.uid != 0 || self.in_user_namespace {
            console::give_streams(process.user.uid, process.user.gid);
        }
        if let Some(procfs) = self.procfs.take() {
            credentials::label(&procfs, process)?;
        }
        rustix::process::umask(Mode::from_raw_mode(process.user.umask));
        signal::reset_all(self.ignored).doing(|| "reset signals")?;
        if self.gate.is_some() {
            // While it waits it can be ended as any process, as in runc. Later a filter may forbid to say so.
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
                signal::end_by(signal).doing(|| "heed signals")?;
            }
        }
        limits::set_rlimits(&process.rlimits)?;
        let entered = program::enter_directory_early(&process.cwd)?;
        let hand_over = |listener: OwnedFd| self.socket.listener(listener.as_fd());
        credentials::assume(process, self.filter, self.groups == Groups::Denied, &hand_over)?;
        if !entered {
            program::enter_directory(&process.cwd)?;
        }
        let found = program::find(process)?;
        credentials::load_last(process, self.filter, &hand_over)?;
        Ok(found)
    }

    fn join_keyring(&self, process: &Process) -> Result<()> {
        let Some(name) = self.keyring else { return Ok(()) };
        if let Some(procfs) = &self.procfs {
            credentials::label_keys(procfs, process)?;
        }
        match sys_credentials::join_session_keyring(name) {
            // A kernel without keyrings has none to leak.
            Err(error) if error.errno() == rustix::io::Errno::NOSYS => Ok(()),
            other => other.doing(|| "join a session keyring"),
        }
    }
}
