//! A process that joins a container without a terminal, and its caller's streams.
//!
//! A terminal of the caller's is never given into a container: its process could read what is typed there after it has
//! ended here, and make the terminal obey it. What is a terminal is therefore relayed by a pipe; a file or a pipe of the
//! caller's is handed over as it is, unless SELinux labels the process: its policy need not let a container use the caller's
//! files, and the kernel would put /dev/null in the place of what it does not. But the standard error of a process that the runtime of somebody else starts is relayed in
//! any case: such a runtime says there, too, why it has not started one, which is for the caller to tell.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_store::Event;
use bulkhead_sys::process as sys_process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::retry_on_intr;

use super::{Complaints, Prepared};
use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::known::Known;
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
    /// What is to be told of its end.
    told: Option<Event>,
    /// Where a runtime that may say on the standard error why the process was not started leaves the number of one that was.
    pid_file: Option<PidFile>,
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
        let Prepared { mut command, log, document, is_labelled } = Prepared::new(self, &known, exec)?;
        command.stdin(match streams {
            Streams::Output => Stdio::null(),
            Streams::All => lent(is_labelled || io::stdin().is_terminal()),
        });
        // Only ours leaves the standard error to the process alone.
        let complains = known.runtime(self)?.family() != Family::Ours;
        command.stdout(lent(is_labelled || io::stdout().is_terminal()));
        command.stderr(lent(complains || is_labelled || io::stderr().is_terminal()));
        let pid_file = complains.then(|| PidFile::of(self, &known));
        if let Some(PidFile(path)) = &pid_file {
            command.arg("--pid-file").arg(path);
        }
        apart(&mut command);
        let mut call = command.arg(&known.record.id).spawn().doing(doing)?;
        let told = Some(self.tell_exec(&known, exec));
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
        Ok(Piped {
            stdin,
            stdout,
            stderr,
            engine,
            id,
            told,
            pid_file,
            call,
            process,
            log,
            _document: document,
        })
    }

    /// Runs a process in a container that has no streams and is not waited for (`--detach`).
    ///
    /// # Errors
    /// As [`Engine::exec`]; [`Error::NotJoined`](crate::Error::NotJoined) when it cannot be started.
    pub fn exec_detached(&self, wanted: &str, exec: &Exec) -> Result<()> {
        let known = self.running(wanted)?;
        let doing = || format!("run a process in container {}", known.record.name);
        let Prepared { mut command, mut log, document: _document, .. } = Prepared::new(self, &known, exec)?;
        command.arg("--detach").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let pid_file = PidFile::of(self, &known);
        if known.runtime(self)?.family() == Family::Gvisor {
            // Without a file for the pid it starts itself anew with one in the wrong place.
            command.arg("--pid-file").arg(&pid_file.0);
        }
        let status = command.arg(&known.record.id).status().doing(doing)?;
        if let Some(refusal) = log.failure(status).doing(doing)? {
            return Err(self.not_joined(&known.record.id, refusal));
        }
        // Nobody waits for its end.
        self.tell_exec(&known, exec);
        Ok(())
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

/// A file in which a runtime leaves the number of a process that it has started; it goes with this.
#[derive(Debug)]
struct PidFile(PathBuf);

impl PidFile {
    fn of(engine: &Engine, known: &Known) -> Self {
        let name = format!("exec-{}.pid", std::process::id());
        Self(engine.places().container_run(&known.record.id).join(name))
    }

    /// Tells whether the process that the runtime `call` has started runs its program, and not the runtime's any more.
    fn tells_of_a_program(&self, call: i32) -> bool {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let Ok(process) = text.trim().parse::<i32>() else { return false };
        // gVisor's processes are not the host's: it tells of itself once they run.
        let program = |pid: i32| {
            let metadata = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let own = program(process);
        process == call || own.is_some() && own != program(call) && own != parent(process).and_then(program)
    }
}

/// The process that has started another (proc_pid_stat(5)).
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have anything in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
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
            Ok(code) => {
                self.engine.tell_exec_end(&mut self.told, code);
                Ok(Some(code))
            }
            Err(refusal) => {
                // That it was started is told before anybody knows.
                self.engine.tell_exec_end(&mut self.told, refusal.code);
                Err(self.engine.not_joined(&self.id, refusal))
            }
        }
    }

    /// Tells whose the first words on the standard error are: no error if they are the process's. It waits until it is clear: the
    /// process runs its program, or the runtime has ended and logged why it does not.
    ///
    /// # Errors
    /// As [`Piped::code`].
    pub fn settle(&mut self) -> Result<()> {
        /// A process that begins to run its program is no event.
        const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        /// Where nobody can tell, which other users' processes and other numbers of processes keep from one, the words are
        /// the process's.
        const LIMIT: Duration = Duration::from_secs(1);
        let Some(pid_file) = self.pid_file.take() else { return Ok(()) };
        let end = Instant::now() + LIMIT;
        while Instant::now() < end && !pid_file.tells_of_a_program(self.call.id().cast_signed()) {
            let mut process = [PollFd::new(&self.process, PollFlags::IN)];
            if retry_on_intr(|| poll(&mut process, Some(&PAUSE))).doing(|| "wait for the runtime")? > 0 {
                self.code()?;
                break;
            }
        }
        Ok(())
    }

    /// Sends the process a signal, by the runtime that waits for it. That both may just have ended is no error.
    pub fn signal(&self, number: i32) {
        let _ = sys_process::signal(&self.process, number);
    }
}
