//! Starting a monitor.
//!
//! It gets three descriptors as its standard streams, so that nothing between fork(2) and execve(2) needs code of ours and
//! the standard library can start it as cheaply as vfork(2) does: the end of a socketpair as standard input, for the first
//! client, or for the word on which it waits, else the null device; a pipe as standard output, for what became of the start; the null device as
//! standard error.

use std::ffi::OsStr;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use bulkhead_sys::message;

use super::{Attachment, Error, Result};
use crate::program::{MISUSED, WAIT};
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

/// Starts the monitor of a directory with an `order.json`, and returns when its container's process runs. A client that
/// attaches by `attach` hears all, from the first byte on.
///
/// # Errors
/// [`Error::NotStarted`] when the container could not be started, [`Error::Program`] without the monitor's program,
/// [`Error::Died`].
pub fn spawn(bulkmon: &Path, run_directory: &Path, attach: Option<Attach>) -> Result<Started> {
    let (stdin, client) = match attach {
        Some(attach) => {
            let (ours, theirs) = message::pair()?;
            message::send(&ours, &ToMonitor::Attach(attach).encode(), &[])?;
            (theirs.into(), Some(ours))
        }
        None => (Stdio::null(), None),
    };
    let (mut command, ready) = command(bulkmon, &[run_directory.as_os_str()], stdin)?;
    let monitor = command.spawn().map_err(|source| Error::Program { program: bulkmon.to_owned(), source })?;
    // It holds the other end of the pipe.
    drop(command);
    let begun = Begun { program: bulkmon.to_owned(), run_directory: run_directory.to_owned(), ready };
    match begun.hear(monitor, client)? {
        Heard::Started(started) => Ok(started),
        // It says that it was called wrongly, which it was not.
        Heard::Misused => Err(Error::Died { run_directory: run_directory.to_owned() }),
    }
}

/// A monitor that begins before its directory is made: it waits for a word. Dropped without it, it ends.
#[derive(Debug)]
pub struct Waiting {
    attach: Option<Attach>,
    parts: Option<Parts>,
}

/// A monitor that goes on: it starts the container.
#[derive(Debug)]
pub struct Told {
    attach: Option<Attach>,
    parts: Parts,
}

#[derive(Debug)]
struct Parts {
    /// The end at whose other the monitor waits.
    word: OwnedFd,
    begun: Begun,
    /// Starts it, which takes until its program is loaded.
    thread: JoinHandle<io::Result<Child>>,
}

impl Waiting {
    /// Starts the monitor of a directory that is still to be made, beside what the caller does meanwhile.
    ///
    /// # Errors
    /// [`Error::Program`] when there is no room for it. Whether it could be started, [`Told::started`] tells.
    pub fn begin(bulkmon: &Path, run_directory: &Path, attach: Option<Attach>) -> Result<Self> {
        let (word, theirs) = message::pair()?;
        let words = [OsStr::new(WAIT), run_directory.as_os_str()];
        let (mut command, ready) = command(bulkmon, &words, theirs.into())?;
        let thread = std::thread::Builder::new().name("monitor".to_owned());
        let thread = thread
            .spawn(move || command.spawn())
            .map_err(|source| Error::Program { program: bulkmon.to_owned(), source })?;
        let begun = Begun { program: bulkmon.to_owned(), run_directory: run_directory.to_owned(), ready };
        Ok(Self { attach, parts: Some(Parts { word, begun, thread }) })
    }

    /// Lets it go on, once `order.json` is in its directory. What its caller does next is done beside the start.
    pub fn tell(mut self) -> Told {
        let Some(parts) = self.parts.take() else { unreachable!("it is told once") };
        let word = self.attach.map(|attach| ToMonitor::Attach(attach).encode());
        // Whether it lives shows later.
        drop(message::send(&parts.word, word.as_deref().unwrap_or(NO_CLIENT), &[]));
        Told { attach: self.attach, parts }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(Parts { word, begun: _, thread }) = self.parts.take() else { return };
        drop(word);
        if let Ok(mut child) = joined(thread) {
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
        let Self { attach, parts: Parts { word, begun, thread } } = self;
        let (program, run_directory) = (begun.program.clone(), begun.run_directory.clone());
        let monitor = joined(thread).map_err(|source| Error::Program { program: program.clone(), source })?;
        match begun.hear(monitor, attach.map(|_| word))? {
            Heard::Started(started) => Ok(started),
            // An older one, which waits for nothing.
            Heard::Misused => spawn(&program, &run_directory, attach),
        }
    }
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A monitor that was started, and has yet to tell what came of it.
#[derive(Debug)]
struct Begun {
    program: PathBuf,
    run_directory: PathBuf,
    ready: PipeReader,
}

/// What came of it.
#[derive(Debug)]
enum Heard {
    Started(Started),
    /// It does not know the words that it was called with.
    Misused,
}

impl Begun {
    fn hear(mut self, mut monitor: Child, client: Option<OwnedFd>) -> Result<Heard> {
        let mut text = Vec::new();
        let read = self.ready.read_to_end(&mut text);
        read.map_err(|source| Error::Program { program: self.program, source })?;
        let failure = match serde_json::from_slice(&text) {
            Ok(Ready::Running(process)) => {
                let attachment = client.map(Attachment::of);
                return Ok(Heard::Started(Started { process, attachment, monitor }));
            }
            Ok(Ready::Failed(failure)) => Some(failure),
            Err(_) => None,
        };
        // Its last word is spoken: it ends now, and waits for no client.
        drop(client);
        let ended = monitor.wait();
        match failure {
            Some(failure) => Err(Error::NotStarted { failure }),
            None if ended.is_ok_and(|status| status.code() == Some(MISUSED.into())) => Ok(Heard::Misused),
            None => Err(Error::Died { run_directory: self.run_directory }),
        }
    }
}

/// Returns the command of a monitor, and the pipe by which it tells what became of the start.
fn command(bulkmon: &Path, words: &[&OsStr], stdin: Stdio) -> Result<(Command, PipeReader)> {
    let pipe = io::pipe().map_err(|source| Error::Program { program: bulkmon.to_owned(), source });
    let (ready, tell) = pipe?;
    let mut command = Command::new(bulkmon);
    command.args(words).stdin(stdin).stdout(tell).stderr(Stdio::null());
    clean(&mut command);
    Ok((command, ready))
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
