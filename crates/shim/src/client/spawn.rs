//! Starting a monitor.
//!
//! It gets three descriptors as its standard streams, so that nothing between fork(2) and execve(2) needs code of ours and
//! the standard library can start it as cheaply as vfork(2) does: the end of a socketpair as standard input, on which the
//! first message lets it go on; a pipe as standard output, for what became of the start; the null device as standard error.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use bulkhead_sys::message;

use super::{Attachment, Error, Result};
use crate::protocol::{Attach, NO_CLIENT, ToMonitor};
use crate::ready::Ready;
use crate::status::Process;

/// What a monitor, and the runtime that it starts, may need of the environment; what else is there is the caller's own
/// business, and would stay in the memory of a process that lives for long.
const ENVIRONMENT: [&str; 7] =
    ["PATH", "HOME", "USER", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"];

/// Variables of ours, and of what calls us.
const PREFIX: &str = "BULKHEAD_";

/// A monitor whose container runs.
#[derive(Debug)]
pub struct Started {
    /// The container's first process.
    pub process: Process,
    /// The connection of the first client, if one was to be attached.
    pub attachment: Option<Attachment>,
    /// The monitor. A caller that lives for long waits for it; else the machine's first process does.
    pub monitor: Child,
}

/// A monitor that began before there was anything in its directory: it waits for a word. Dropped without it, it ends.
#[derive(Debug)]
pub struct Waiting {
    attach: Option<Attach>,
    /// The end on which it waits, and what has begun.
    parts: Option<(OwnedFd, Begun)>,
}

/// A monitor that goes on: it starts the container.
#[derive(Debug)]
pub struct Told {
    attachment: Option<Attachment>,
    begun: Begun,
}

#[derive(Debug)]
struct Begun {
    program: PathBuf,
    run_directory: PathBuf,
    ready: PipeReader,
    monitor: Starting,
}

#[derive(Debug)]
enum Starting {
    Started(Child),
    /// A thread starts it, since that takes until the program is loaded.
    Aside(JoinHandle<io::Result<Child>>),
}

/// Starts the monitor of a directory with an `order.json`, and returns when its container's process runs. A client that
/// attaches by `attach` hears all, from the first byte on.
///
/// # Errors
/// [`Error::NotStarted`] when the container could not be started, [`Error::Program`] without the monitor's program,
/// [`Error::Died`].
pub fn spawn(bulkmon: &Path, run_directory: &Path, attach: Option<Attach>) -> Result<Started> {
    let here = |mut command: Command| command.spawn().map(Starting::Started);
    Waiting::start(bulkmon, run_directory, attach, here)?.tell().started()
}

impl Waiting {
    /// Starts the monitor of a directory that is still to be made, beside what the caller does meanwhile.
    ///
    /// # Errors
    /// [`Error::Program`] when there is no room for it. Whether it could be started, [`Told::started`] tells.
    pub fn begin(bulkmon: &Path, run_directory: &Path, attach: Option<Attach>) -> Result<Self> {
        let aside = |mut command: Command| {
            let thread = std::thread::Builder::new().name("monitor".to_owned());
            thread.spawn(move || command.spawn()).map(Starting::Aside)
        };
        Self::start(bulkmon, run_directory, attach, aside)
    }

    fn start(
        bulkmon: &Path,
        run_directory: &Path,
        attach: Option<Attach>,
        start: impl FnOnce(Command) -> io::Result<Starting>,
    ) -> Result<Self> {
        let failed = |source| Error::Program { program: bulkmon.to_owned(), source };
        let (ready, tell) = io::pipe().map_err(failed)?;
        let (ours, theirs) = message::pair()?;
        let mut command = Command::new(bulkmon);
        command.arg(run_directory).stdin(theirs).stdout(tell).stderr(Stdio::null());
        clean(&mut command);
        let monitor = start(command).map_err(failed)?;
        let begun =
            Begun { program: bulkmon.to_owned(), run_directory: run_directory.to_owned(), ready, monitor };
        Ok(Self { attach, parts: Some((ours, begun)) })
    }

    /// Lets it go on, once `order.json` is in its directory. What its caller does next is done beside the start.
    pub fn tell(mut self) -> Told {
        let Some((socket, begun)) = self.parts.take() else { unreachable!("it is told once") };
        let word = self.attach.map(|attach| ToMonitor::Attach(attach).encode());
        // Whether it lives shows later.
        drop(message::send(&socket, word.as_deref().unwrap_or(NO_CLIENT), &[]));
        Told { attachment: self.attach.map(|_| Attachment::of(socket)), begun }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some((word, begun)) = self.parts.take() else { return };
        drop(word);
        if let Ok(mut child) = begun.monitor.child() {
            // It ends at once, and would be a corpse for as long as this process lives.
            drop(child.wait());
        }
    }
}

impl Told {
    /// Waits until the container's process runs.
    ///
    /// # Errors
    /// As [`spawn`].
    pub fn started(self) -> Result<Started> {
        let Self { attachment, begun: Begun { program, run_directory, mut ready, monitor } } = self;
        let failed = |source| Error::Program { program: program.clone(), source };
        // What starts it holds the other end of the pipe.
        let mut monitor = monitor.child().map_err(failed)?;
        let mut text = Vec::new();
        ready.read_to_end(&mut text).map_err(failed)?;
        let failure = match serde_json::from_slice(&text) {
            Ok(Ready::Running(process)) => return Ok(Started { process, attachment, monitor }),
            Ok(Ready::Failed(failure)) => Error::NotStarted { failure },
            Err(_) => Error::Died { run_directory },
        };
        // Its last word is spoken: it ends now, and waits for no client.
        drop(attachment);
        drop(monitor.wait());
        Err(failure)
    }
}

impl Starting {
    fn child(self) -> io::Result<Child> {
        match self {
            Self::Started(child) => Ok(child),
            Self::Aside(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        }
    }
}

/// Has a terminal kept open that its owner leaves, until nobody in the container has it: what runs in it goes on.
///
/// # Errors
/// [`Error::Program`] when the program cannot be started.
pub fn hold(bulkmon: &Path, terminal: OwnedFd) -> Result<()> {
    let failed = |source| Error::Program { program: bulkmon.to_owned(), source };
    let (mut ready, tell) = io::pipe().map_err(failed)?;
    let mut command = Command::new(bulkmon);
    command.arg("hold").stdin(terminal).stdout(tell).stderr(Stdio::null()).current_dir("/");
    clean(&mut command);
    command.spawn().map_err(failed)?;
    drop(command);
    // It closes the pipe when it has left the caller's session, whose end would be its own before that.
    ready.read_to_end(&mut Vec::new()).map_err(failed)?;
    Ok(())
}

/// Leaves a program only what it may need of the environment.
fn clean(command: &mut Command) {
    let environment = std::env::vars_os().filter(|(name, _)| {
        let ours = name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        ours || ENVIRONMENT.iter().any(|kept| name == kept)
    });
    command.env_clear().envs(environment);
}
