//! Starting a monitor.
//!
//! It gets three descriptors as its standard streams, so that nothing between fork(2) and execve(2) needs code of ours and
//! the standard library can start it as cheaply as vfork(2) does: the end of a socketpair as standard input, for the first
//! client; a pipe as standard output, for what became of the start; the null device as standard error.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_sys::message;

use super::{Attachment, Error, Result};
use crate::protocol::{Attach, ToMonitor};
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
    let failed = |source| Error::Program { program: bulkmon.to_owned(), source };
    let (mut ready, tell) = std::io::pipe().map_err(failed)?;
    let mut command = Command::new(bulkmon);
    command.arg(run_directory).stdout(tell).stderr(Stdio::null());
    clean(&mut command);
    let attachment = match attach {
        Some(attach) => {
            let (ours, theirs) = first_client(attach)?;
            command.stdin(theirs);
            Some(Attachment::of(ours))
        }
        None => {
            command.stdin(Stdio::null());
            None
        }
    };
    let mut monitor = command.spawn().map_err(failed)?;
    // The command holds the other end of the pipe.
    drop(command);
    let mut text = Vec::new();
    ready.read_to_end(&mut text).map_err(failed)?;
    let failure = match serde_json::from_slice(&text) {
        Ok(Ready::Running(process)) => return Ok(Started { process, attachment, monitor }),
        Ok(Ready::Failed(failure)) => Error::NotStarted { failure },
        Err(_) => Error::Died { run_directory: run_directory.to_owned() },
    };
    // Its last word is spoken: it ends now, and waits for no client.
    drop(attachment);
    drop(monitor.wait());
    Err(failure)
}

/// Has a terminal kept open that its owner leaves, until nobody in the container has it: what runs in it goes on.
///
/// # Errors
/// [`Error::Program`] when the program cannot be started.
pub fn hold(bulkmon: &Path, terminal: OwnedFd) -> Result<()> {
    let failed = |source| Error::Program { program: bulkmon.to_owned(), source };
    let (mut ready, tell) = std::io::pipe().map_err(failed)?;
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

/// Makes the ends of the first client's connection, on which its first message waits already.
fn first_client(attach: Attach) -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = message::pair()?;
    message::send(&ours, &ToMonitor::Attach(attach).encode(), &[])?;
    Ok((ours, theirs))
}
