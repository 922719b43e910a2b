//! Running hooks: the container's state on standard input, a timeout, failure rules by kind.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bulkhead_sys::process;
use rustix::fs::MemfdFlags;

use crate::error::{Error, Result, words};
use crate::lifecycle::Status;
use crate::plan::hooks::Hook;
use crate::state::State;

/// What hooks are told on standard input: the state document of the specification.
#[derive(Debug, Clone)]
pub struct Document {
    /// The state with everything but its status.
    pub state: bulkhead_spec::State,
    /// Where hooks run; `None` for where the caller is.
    directory: Option<PathBuf>,
}

impl Document {
    /// Describes a container, with the pid of its process once it is known.
    pub fn new(state: &State, pid: Option<i32>) -> Self {
        let state = bulkhead_spec::State {
            oci_version: state.oci_version.clone(),
            id: state.id.clone(),
            pid,
            status: Status::Creating,
            bundle: state.bundle.display().to_string(),
            rootfs: None,
            created: None,
            annotations: state.annotations.clone(),
            owner: None,
        };
        let directory = Some(PathBuf::from(&state.bundle));
        Self { state, directory }
    }

    /// Returns what hooks inside the container are told: the pid is the caller's in its own pid namespace.
    #[must_use]
    pub fn inside(&self, directory: Option<&Path>) -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let mut inside = self.clone();
        inside.state.pid = Some(pid);
        inside.directory = directory.map(Path::to_path_buf);
        inside
    }

    /// Returns the document with a status.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> bulkhead_spec::State {
        self.state.status = status;
        self.state
    }

    /// Writes the document with the status that holds while a hook runs.
    fn text(&self, status: Status) -> Vec<u8> {
        let mut state = self.state.clone();
        state.status = status;
        serde_json::to_vec(&state).unwrap_or_default()
    }
}

/// Runs the hooks of one kind in order and stops at the first that fails.
///
/// # Errors
/// [`Error::Hook`] with the hook, how it failed and what it said.
pub fn run(kind: &'static str, hooks: &[Hook], document: &Document, status: Status) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = document.text(status);
    for (index, hook) in hooks.iter().enumerate() {
        one(hook, document, &text).map_err(|reason| Error::Hook {
            kind,
            index,
            path: hook.path.clone(),
            reason,
        })?;
    }
    Ok(())
}

/// Runs all hooks of one kind, whatever they do, and returns what went wrong as warnings.
///
/// That is the rule for `poststop` (config.md, "Lifecycle").
pub fn run_all(kind: &'static str, hooks: &[Hook], document: &Document, status: Status) -> Vec<String> {
    if hooks.is_empty() {
        return Vec::new();
    }
    let text = document.text(status);
    let warn = |(index, hook): (usize, &Hook)| {
        let reason = one(hook, document, &text).err()?;
        Some(Error::Hook { kind, index, path: hook.path.clone(), reason }.to_string())
    };
    hooks.iter().enumerate().filter_map(warn).collect()
}

fn one(hook: &Hook, document: &Document, text: &[u8]) -> std::result::Result<(), String> {
    let mut command = Command::new(&hook.path);
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    // Not a pipe either: a hook that neither reads nor ends would keep the runtime from counting its time.
    command.stdin(input(text).map_or_else(Stdio::piped, Stdio::from)).stdout(Stdio::null());
    // Not a pipe: nobody reads while the hook runs, and a daemon that it leaves would keep the pipe open for ever.
    let complaints = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC).map(File::from).ok();
    let stderr = complaints.as_ref().and_then(|file| file.try_clone().ok());
    command.stderr(stderr.map_or_else(Stdio::null, Stdio::from));
    // A bundle may be gone before its container.
    if let Some(directory) = document.directory.as_ref().filter(|directory| directory.is_dir()) {
        command.current_dir(directory);
    }
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    let mut child = process::spawn(&mut command).map_err(|error| words(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its input is within its rights.
        let _ = stdin.write_all(text);
    }
    let status = wait(&mut child, hook.timeout)?;
    if status.success() {
        return Ok(());
    }
    let said = complaints.as_ref().map(said).unwrap_or_default();
    Err(format!("{status}{said}"))
}

/// Makes the state a file to read from; `None` where a filter of the container forbids that.
fn input(text: &[u8]) -> Option<File> {
    let mut file = rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC).map(File::from).ok()?;
    file.write_all(text).and_then(|()| file.rewind()).ok()?;
    Some(file)
}

/// Reads what a failed hook said.
fn said(complaints: &File) -> String {
    let mut bytes = vec![0; 4096];
    let length = complaints.read_at(&mut bytes, 0).unwrap_or(0);
    match String::from_utf8_lossy(&bytes[..length]).trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

fn wait(child: &mut Child, timeout: Option<Duration>) -> std::result::Result<ExitStatus, String> {
    let Some(timeout) = timeout else { return child.wait().map_err(|error| error.to_string()) };
    let end = Instant::now() + timeout;
    let pidfd = process::open_pidfd(child.id().cast_signed()).map_err(|error| error.to_string())?;
    let left = end.saturating_duration_since(Instant::now());
    if ended(&pidfd, left) {
        return child.wait().map_err(|error| error.to_string());
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("it did not end within its timeout of {} s and was killed", timeout.as_secs()))
}

fn ended(pidfd: &std::os::fd::OwnedFd, left: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let end = Instant::now() + left;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&wait)) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            _ => return true,
        }
    }
}
