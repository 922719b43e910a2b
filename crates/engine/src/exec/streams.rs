//! A process that joins a container without a terminal, and its caller's streams.
//!
//! A terminal of the caller's is never given into a container: its process could read what is typed there after it has
//! ended here, and make the terminal obey it. What is a terminal is therefore relayed by a pipe; a file or a pipe of the
//! caller's is handed over as it is.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};

use bulkhead_sys::process as sys_process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::retry_on_intr;

use super::{Complaints, Prepared};
use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::request::Exec;
use crate::runtime::Family;

/// What a process that joins a container has of its caller's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// All three.
    All,
    /// Output alone (docker's `exec` without `-i`).
    Output,
}

/// A process in a container, by the runtime that waits for it, and the ends of its streams that its caller has to serve.
#[derive(Debug)]
pub struct Piped<'engine> {
    /// Bytes for its standard input.
    pub stdin: Option<ChildStdin>,
    /// What it says on its standard output.
    pub stdout: Option<OwnedFd>,
    /// What it says on its standard error, or the runtime, see [`Piped::settle`].
    pub stderr: Option<OwnedFd>,
    engine: &'engine Engine,
    id: String,
    /// Whether the runtime may say on the standard error why the process was not started.
    complains: bool,
    call: Child,
    process: OwnedFd,
    log: Complaints,
    /// The runtime opens it by this process.
    _document: File,
}

impl Engine {
    /// Runs a process in a container on the caller's streams. The ends that come back do not wait, and have to be served
    /// until the code is there.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) when the container does not run; a user or a directory that cannot be.
    pub fn exec(&self, wanted: &str, exec: &Exec, streams: Streams) -> Result<Piped<'_>> {
        let known = self.running(wanted)?;
        let doing = || format!("run a process in container {}", known.record.name);
        let Prepared { mut command, log, document } = Prepared::new(self, &known, exec)?;
        command.stdin(match streams {
            Streams::Output => Stdio::null(),
            Streams::All => lent(io::stdin().is_terminal()),
        });
        // Only ours leaves the standard error to the process alone.
        let complains = known.runtime(self)?.family() != Family::Ours;
        command.stdout(lent(io::stdout().is_terminal()));
        command.stderr(lent(complains || io::stderr().is_terminal()));
        apart(&mut command);
        self.tell(&known, "exec_start");
        let mut call = command.arg(&known.record.id).spawn().doing(doing)?;
        let process = sys_process::open_pidfd(call.id().cast_signed()).doing(doing)?;
        let stdin = call.stdin.take();
        let stdout = call.stdout.take().map(OwnedFd::from);
        let stderr = call.stderr.take().map(OwnedFd::from);
        let ends = [
            stdin.as_ref().map(|end| end.as_fd()),
            stdout.as_ref().map(|end| end.as_fd()),
            stderr.as_ref().map(|end| end.as_fd()),
        ];
        for end in ends.into_iter().flatten() {
            fcntl_setfl(end, OFlags::NONBLOCK).doing(doing)?;
        }
        let (engine, id) = (self, known.record.id);
        Ok(Piped { stdin, stdout, stderr, engine, id, complains, call, process, log, _document: document })
    }

    /// Runs a process in a container that has no streams and is not waited for (`--detach`).
    ///
    /// # Errors
    /// As [`Engine::exec`]; [`Error::NotJoined`](crate::Error::NotJoined) when it cannot be started.
    pub fn exec_detached(&self, wanted: &str, exec: &Exec) -> Result<()> {
        let known = self.running(wanted)?;
        let doing = || format!("run a process in container {}", known.record.name);
        let Prepared { mut command, mut log, document: _document } = Prepared::new(self, &known, exec)?;
        command.arg("--detach").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let own = std::process::id();
        let pid_file = self.places().container_run(&known.record.id).join(format!("exec-{own}.pid"));
        if known.runtime(self)?.family() == Family::Gvisor {
            // Without a file for the pid it starts itself anew with one in the wrong place.
            command.arg("--pid-file").arg(&pid_file);
        }
        self.tell(&known, "exec_start");
        let status = command.arg(&known.record.id).status().doing(doing)?;
        drop(std::fs::remove_file(pid_file));
        match log.failure(status).doing(doing)? {
            None => Ok(()),
            Some(refusal) => Err(self.not_joined(&known.record.id, refusal)),
        }
    }
}

/// A stream of the caller's for the process, or a pipe in its place.
fn lent(is_relayed: bool) -> Stdio {
    if is_relayed { Stdio::piped() } else { Stdio::inherit() }
}

/// Puts the runtime into a process group of its own: what is typed at the caller's terminal reaches it by the caller alone.
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

impl Piped<'_> {
    /// Returns what is readable once the process has ended.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Returns the code of the process, if it has ended.
    ///
    /// # Errors
    /// [`Error::NotJoined`](crate::Error::NotJoined) when it was not started: then what is on its standard error are the
    /// runtime's words, which the error has. [`Error::State`](crate::Error::State) when the container ended, or was frozen,
    /// before that.
    pub fn code(&mut self) -> Result<Option<u8>> {
        let doing = || "wait for the process";
        let Some(status) = self.call.try_wait().doing(doing)? else { return Ok(None) };
        match self.log.code(status).doing(doing)? {
            Ok(code) => Ok(Some(code)),
            Err(refusal) => Err(self.engine.not_joined(&self.id, refusal)),
        }
    }

    /// Tells whose the first words on the standard error are: no error if they are the process's. A runtime that says there
    /// why it has not started one ends at once.
    ///
    /// # Errors
    /// As [`Piped::code`].
    pub fn settle(&mut self) -> Result<()> {
        const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if std::mem::take(&mut self.complains) {
            let mut process = [PollFd::new(&self.process, PollFlags::IN)];
            retry_on_intr(|| poll(&mut process, Some(&MOMENT))).doing(|| "wait for the runtime")?;
            self.code()?;
        }
        Ok(())
    }

    /// Sends the process a signal, by the runtime that waits for it. That both may just have ended is no error.
    pub fn signal(&self, number: i32) {
        let _ = sys_process::signal(&self.process, number);
    }
}
