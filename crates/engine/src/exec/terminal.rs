//! A process that joins a container and has a terminal: its caller holds the terminal's other end, and can leave it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bulkhead_shim::protocol::Size;
use bulkhead_shim::{client, socket};
use bulkhead_store::Event;
use bulkhead_sys::{message, process as sys_process};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::SocketType;
use rustix::process::{Pid, WaitOptions, WaitStatus, set_child_subreaper, waitpid};
use rustix::termios::{Winsize, tcsetwinsize};

use super::Prepared;
use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::request::Exec;

/// The most that a runtime says when it sends a terminal: a name.
const LONGEST_NAME: usize = 4096;

/// A process in a container, by its terminal. When this is dropped the process is hung up on, unless it was left.
#[derive(Debug)]
pub struct Joined<'engine> {
    engine: &'engine Engine,
    /// What is to be told of its end.
    told: Option<Event>,
    terminal: OwnedFd,
    process: OwnedFd,
    pid: Pid,
    monitor: PathBuf,
}

impl Engine {
    /// Starts a process in a container with a terminal of its own, which has the size that is asked for from its first
    /// moment. It becomes a child of the calling process.
    ///
    /// # Errors
    /// As [`Engine::exec`]; [`Error::NotJoined`](crate::Error::NotJoined) when it cannot be started.
    pub fn exec_on_terminal(&self, wanted: &str, exec: &Exec) -> Result<Joined<'_>> {
        let known = self.running(wanted)?;
        let doing = || format!("run a process in container {}", known.record.name);
        let monitor = self.monitor()?;
        let exec = Exec { terminal: true, ..exec.clone() };
        let Prepared { mut command, mut log, document: _document, .. } = Prepared::new(self, &known, &exec)?;
        let desk = Desk::new(&self.places().container_run(&known.record.id)).doing(doing)?;
        // The runtime goes, and its caller is to hear the end.
        set_child_subreaper(Some(rustix::process::getpid())).doing(doing)?;
        command.arg("--detach").arg("--console-socket").arg(&desk.listener.address);
        command.arg("--pid-file").arg(desk.pid_file());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.arg(&known.record.id).status().doing(doing)?;
        if let Some(refusal) = log.failure(status).doing(doing)? {
            return Err(self.not_joined(&known.record.id, refusal));
        }
        let told = Some(self.tell_exec(&known, &exec));
        let pid = desk.pid().doing(doing)?;
        let process = sys_process::open_pidfd(pid.as_raw_nonzero().get()).doing(doing)?;
        let terminal = desk.terminal().doing(doing)?;
        Ok(Joined { engine: self, told, terminal, process, pid, monitor })
    }
}

impl Joined<'_> {
    /// Returns the terminal's other end, which does not wait.
    pub fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }

    /// Returns what is readable once the process has ended.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Returns the code of the process, if it has ended; 128 and the signal, if that ended it.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn code(&mut self) -> Result<Option<u8>> {
        let waited = retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::NOHANG));
        let code = waited.doing(|| "wait for the process")?.map(|(_, status)| code(status));
        if let Some(code) = code {
            self.engine.tell_exec_end(&mut self.told, code);
        }
        Ok(code)
    }

    /// Gives the terminal another size.
    pub fn resize(&self, size: Size) {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        // A terminal takes any size.
        let _ = tcsetwinsize(&self.terminal, size);
    }

    /// Leaves the process alone: it goes on, and its terminal is kept for it.
    ///
    /// # Errors
    /// When the program that keeps it cannot be started.
    pub fn leave(self) -> Result<()> {
        Ok(client::hold(&self.monitor, self.terminal)?)
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Where the runtime leaves the terminal and the number of the process: a directory that goes with this value.
#[derive(Debug)]
struct Desk {
    directory: PathBuf,
    listener: socket::Listener,
}

impl Desk {
    fn new(run_directory: &Path) -> io::Result<Self> {
        let directory = run_directory.join(format!("exec-{}", std::process::id()));
        // A command that was killed may have left one, and had the same number.
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&directory)?;
        let listener = socket::listen(&directory.join("console"), SocketType::STREAM, 1)?;
        Ok(Self { directory, listener })
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    /// Reads the number that the runtime has written.
    fn pid(&self) -> io::Result<Pid> {
        let text = fs::read_to_string(self.pid_file())?;
        let number = text.trim().parse().ok().and_then(Pid::from_raw);
        number
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the runtime's pid file has no number"))
    }

    /// Takes the terminal, which the runtime has sent.
    fn terminal(&self) -> io::Result<OwnedFd> {
        let missing = || io::Error::other("the runtime has sent no terminal");
        let peer = match rustix::net::accept_with(&self.listener.socket, rustix::net::SocketFlags::CLOEXEC) {
            Err(Errno::AGAIN) => return Err(missing()),
            accepted => accepted?,
        };
        let message = message::receive(&peer, LONGEST_NAME)?;
        let terminal = message.descriptors.into_iter().next().ok_or_else(missing)?;
        rustix::fs::fcntl_setfl(&terminal, OFlags::NONBLOCK | OFlags::RDWR)?;
        Ok(terminal)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // It goes with the container's directory otherwise.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
