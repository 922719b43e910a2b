//! Calls of the runtime: one process each, by the OCI command line.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bulkhead_sys::{process, signal};
use rustix::fs::OFlags;
use rustix::net::SocketType;
use rustix::pipe::{PipeFlags, pipe_with};

use super::error::{Doing, Result};
use super::failure;
use super::memory;
use crate::place;
use crate::ready::Failure;
use crate::socket::{self, Listener};

/// How to call the runtime of one container.
#[derive(Debug)]
pub(super) struct Runtime {
    /// The program and the arguments before its verb.
    pub(super) words: Vec<String>,
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) run_directory: PathBuf,
    /// What children have as their `oom_score_adj` where the monitor has another one.
    pub(super) score: Option<String>,
    /// Whether a process was started since this was looked at: signals may have gone by unseen, of which those of children
    /// leave no trace.
    pub(super) has_spawned: Cell<bool>,
}

/// The file of the calling process (proc_pid_oom_score_adj(5)).
const SCORE: &str = "/proc/self/oom_score_adj";

/// What the monitor would like to have there: it should be among the last to be killed for want of memory.
const OWN_SCORE: &str = "-999";

/// Lowers the score of this process, which takes a right that not every root has. Returns what it was before.
pub(super) fn lower_score() -> Option<String> {
    let before = std::fs::read_to_string(SCORE).ok()?;
    std::fs::write(SCORE, OWN_SCORE).ok().map(|()| before)
}

/// What a start is given, and what the monitor keeps of it.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// Where the runtime connects with the terminal.
    pub(super) console: Option<Listener>,
}

/// Which streams a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Terminal,
    Pipes,
    PipesAndInput,
}

impl Runtime {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.run_directory.join(name)
    }

    fn command(&self) -> Command {
        let (program, before) =
            self.words.split_first().map_or(("", &[][..]), |(program, before)| (program.as_str(), before));
        let mut command = Command::new(program);
        command.args(before).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a process with no signal blocked, since a mask is inherited; what comes meanwhile is noted (`signal::note`).
    fn spawn(&self, command: &mut Command) -> std::io::Result<i32> {
        if let Some(score) = &self.score {
            std::fs::write(SCORE, score)?;
        }
        let unblocked = signal::set_mask(signal::Set::EMPTY);
        self.has_spawned.set(true);
        let child = unblocked.map_err(Into::into).and_then(|()| command.spawn());
        // It cannot fail with these arguments.
        let _ = signal::set_mask(signal::Set::ALL);
        if self.score.is_some() {
            std::fs::write(SCORE, OWN_SCORE)?;
        }
        Ok(child?.id().cast_signed())
    }

    /// Calls `run`. The lock is inherited, so that a monitor that dies meanwhile is not taken for gone before its runtime
    /// is: what it makes could be found by nobody.
    pub(super) fn run(&self, wanted: Wanted, lock: &OwnedFd) -> Result<(i32, Streams)> {
        for name in [place::PID, place::RUNTIME_LOG, place::CONSOLE] {
            drop(std::fs::remove_file(self.file(name)));
        }
        let mut command = self.command();
        command.arg("--log").arg(self.file(place::RUNTIME_LOG)).args(["--log-format", "json"]);
        command.args(["run", "--detach", "--bundle"]).arg(&self.bundle);
        command.arg("--pid-file").arg(self.file(place::PID));
        let streams = match wanted {
            Wanted::Terminal => {
                let path = self.file(place::CONSOLE);
                let doing = || format!("make the console socket {}", path.display());
                let console = socket::listen(&path, SocketType::STREAM, 1).doing(doing)?;
                command.arg("--console-socket").arg(&console.address);
                command.stderr(Stdio::from(self.error_file()?));
                Streams { stdin: None, stdout: None, stderr: None, console: Some(console) }
            }
            Wanted::Pipes | Wanted::PipesAndInput => pipes(&mut command, wanted)?,
        };
        command.arg(&self.id);
        let kept = lock.as_fd().as_raw_fd();
        process::set_close_on_exec(kept, false).doing(|| "pass the lock on")?;
        let spawned = self.spawn(&mut command);
        process::set_close_on_exec(kept, true).doing(|| "keep the lock")?;
        let pid = spawned.doing(|| format!("start the runtime {}", self.words.join(" ")))?;
        Ok((pid, streams))
    }

    /// Why `run` failed. With pipes, what the runtime wrote to its standard error is in that of the container.
    pub(super) fn failure(&self, stderr: &[u8], ended: &str) -> Failure {
        let log = std::fs::read(self.file(place::RUNTIME_LOG)).unwrap_or_default();
        failure::find(&log, stderr, ended)
    }

    /// The process that `run` has started.
    pub(super) fn pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.file(place::PID)).ok()?.trim().parse().ok()
    }

    /// Calls `kill`, `delete` or another verb that takes the id and words after it. What it says is kept for
    /// [`Runtime::said`].
    pub(super) fn call(&self, verb: &[&str], after: &[&str]) -> Result<i32> {
        let mut command = self.command();
        command.args(verb).arg(&self.id).args(after).stderr(Stdio::from(self.error_file()?));
        self.spawn(&mut command).doing(|| format!("start the runtime {}", self.words.join(" ")))
    }

    /// The last words of the last call.
    pub(super) fn said(&self) -> String {
        let text = std::fs::read(self.file(place::RUNTIME_LOG)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .unwrap_or("the runtime did not say why")
            .to_owned()
    }

    /// Executes a program and its words, of whose end nobody is told.
    pub(super) fn execute(&self, words: &[String]) -> Result<()> {
        let Some((program, words)) = words.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.spawn(&mut command).doing(|| format!("start {program}")).map(drop)
    }

    /// Calls `exec` for a health check, and returns the end of a pipe with its output.
    pub(super) fn check(&self, command_line: &[String]) -> Result<(i32, OwnedFd)> {
        let doing = || "start a health check";
        drop(std::fs::remove_file(self.file(place::CHECK_PID)));
        let (read, write) = pipe()?;
        let mut command = self.command();
        command
            .arg("exec")
            .arg("--pid-file")
            .arg(self.file(place::CHECK_PID))
            .arg(&self.id)
            .args(command_line);
        command.stdout(write.try_clone().doing(doing)?).stderr(write);
        Ok((self.spawn(&mut command).doing(doing)?, read))
    }

    /// Kills what a check's `exec`, the process `call`, runs in the container.
    pub(super) fn end_check(&self, call: i32) {
        let text = std::fs::read_to_string(self.file(place::CHECK_PID)).unwrap_or_default();
        if let Ok(pid) = text.trim().parse()
            && let Ok(pidfd) = process::open_pidfd(pid)
            && memory::parent(pid) == Some(call)
        {
            let _ = process::signal(pidfd, signal::KILL);
        }
        kill(call);
    }

    fn error_file(&self) -> Result<File> {
        let path = self.file(place::RUNTIME_LOG);
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        opened.doing(|| format!("open {}", path.display()))
    }
}

/// Kills a child that was not waited for, so that its number is its own.
pub(super) fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn pipes(command: &mut Command, wanted: Wanted) -> Result<Streams> {
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    command.stdout(stdout).stderr(stderr);
    let mut stdin = None;
    if wanted == Wanted::PipesAndInput {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe")?;
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK).doing(|| "make a pipe")?;
        command.stdin(theirs);
        stdin = Some(ours);
    }
    Ok(Streams { stdin, stdout: Some(out), stderr: Some(err), console: None })
}

/// A pipe whose reading end does not wait.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let doing = || "make a pipe";
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).doing(doing)?;
    Ok((read, write))
}
