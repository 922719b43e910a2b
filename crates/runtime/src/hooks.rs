//! Running hooks: the container's state on standard input, a timeout, failure rules by kind.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use bulkhead_sys::namespace::Kind;
use bulkhead_sys::process;
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};

use crate::error::{Doing, Error, Result, words};
use crate::lifecycle::Status;
use crate::plan::annotations;
use crate::plan::hooks::Hook;
use crate::state::State;
use crate::watch::{Watch, until_readable};

/// What hooks are told on standard input: the state document of the specification.
#[derive(Debug, Clone)]
pub struct Document {
    /// The state with everything but its status.
    pub state: bulkhead_spec::State,
    /// Where hooks run; `None` for where the caller is.
    directory: Option<PathBuf>,
    /// Where their standard output and standard error go.
    output: [Sink; 2],
}

/// Where what hooks print goes.
#[derive(Debug, Clone)]
enum Sink {
    /// Nowhere; of standard error the end is kept for a message.
    Nowhere,
    /// To the end of a file of the host, which an annotation names.
    Named(PathBuf),
    /// To the end of such a file, opened for a process that cannot reach it any more.
    Opened(Rc<File>),
}

impl Sink {
    fn of(state: &State, key: &str) -> Self {
        annotations::path(&state.annotations, key).map_or(Self::Nowhere, Self::Named)
    }

    /// Opens the file, which is made for the runtime's user alone.
    fn open(path: &Path) -> std::io::Result<File> {
        File::options().append(true).create(true).mode(0o600).open(path)
    }

    /// Returns what a hook gets; `None` for nothing.
    fn stdio(&self) -> std::result::Result<Option<Stdio>, String> {
        let opened = match self {
            Self::Named(path) => {
                Self::open(path).map_err(|error| format!("open {}: {}", path.display(), words(&error)))
            }
            Self::Opened(file) => file.try_clone().map_err(|error| words(&error)),
            Self::Nowhere => return Ok(None),
        };
        opened.map(|file| Some(file.into()))
    }
}

impl Document {
    /// Describes a container, with the pid of its process once it is known.
    pub fn new(recorded: &State, pid: Option<i32>) -> Self {
        let state = bulkhead_spec::State {
            oci_version: recorded.oci_version.clone(),
            id: recorded.id.clone(),
            pid,
            status: Status::Creating,
            bundle: recorded.bundle.display().to_string(),
            rootfs: None,
            created: None,
            annotations: recorded.annotations.clone(),
            owner: None,
        };
        let directory = Some(PathBuf::from(&recorded.bundle));
        let output =
            [annotations::HOOKS_STDOUT, annotations::HOOKS_STDERR].map(|key| Sink::of(recorded, key));
        Self { state, directory, output }
    }

    /// Opens what annotations name for the output of hooks, as hooks inside the container need it.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_output(&mut self) -> Result<()> {
        for sink in &mut self.output {
            if let Sink::Named(path) = sink {
                let opened = Sink::open(path).doing(|| format!("open {} for hooks", path.display()))?;
                *sink = Sink::Opened(Rc::new(opened));
            }
        }
        Ok(())
    }

    /// Lists the descriptors that hooks inside the container need.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.output.iter().filter_map(|sink| match sink {
            Sink::Opened(file) => Some(file.as_fd()),
            _ => None,
        })
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

/// Runs hooks at one point of a container's life.
#[derive(Debug, Clone, Copy)]
pub struct Runner<'a> {
    /// What they are told.
    pub document: &'a Document,
    /// The status that holds while they run.
    pub status: Status,
    /// Signals that may interrupt them.
    pub watch: Option<&'a Watch>,
    /// Namespaces of the container that they get as descriptors, named by [`NAMESPACES`].
    pub given: &'a [(Kind, OwnedFd)],
}

/// The variable that names the namespaces that a hook has as descriptors: `network=7,user=8`.
const NAMESPACES: &str = "BULKHEAD_HOOK_NAMESPACES";

impl Runner<'_> {
    /// Runs the hooks of one kind in order and stops at the first that fails.
    ///
    /// # Errors
    /// [`Error::Hook`] with the hook, how it failed and what it said.
    pub fn run(&self, kind: &'static str, hooks: &[Hook]) -> Result<()> {
        self.each(kind, hooks).collect()
    }

    /// Runs all hooks of one kind, whatever they do, and returns what went wrong as warnings.
    ///
    /// That is the rule for `poststop` (config.md, "Lifecycle").
    pub fn run_all(&self, kind: &'static str, hooks: &[Hook]) -> Vec<String> {
        self.each(kind, hooks).filter_map(|result| result.err().map(|error| error.to_string())).collect()
    }

    fn each(&self, kind: &'static str, hooks: &[Hook]) -> impl Iterator<Item = Result<()>> {
        let text = if hooks.is_empty() { Vec::new() } else { self.document.text(self.status) };
        hooks.iter().enumerate().map(move |(index, hook)| {
            let failed = |reason| Error::Hook { kind, index, path: hook.path.clone(), reason };
            self.one(hook, &text).map_err(failed)
        })
    }

    fn one(&self, hook: &Hook, text: &[u8]) -> std::result::Result<(), String> {
        let [stdout, stderr] = &self.document.output;
        // Not a pipe: nobody reads while the hook runs, and a daemon that it leaves would keep the pipe open for ever.
        let complaints = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC).map(File::from).ok();
        let kept = complaints.as_ref().and_then(|file| file.try_clone().ok()).map(Stdio::from);
        let mut command = command(hook, self.document.directory.as_deref(), text);
        command.stdout(stdout.stdio()?.unwrap_or_else(Stdio::null));
        command.stderr(stderr.stdio()?.or(kept).unwrap_or_else(Stdio::null));
        if hook.timeout.is_some() || self.watch.is_some() {
            // What it starts is killed with it.
            command.process_group(0);
        }
        let mut child = self
            .giving(|names| {
                if let Some(names) = names {
                    command.env(NAMESPACES, names);
                }
                process::spawn(&mut command)
            })
            .map_err(|error| format!("could not be executed: {}", words(&error)))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A hook that does not read its input is within its rights.
            let _ = stdin.write_all(text);
        }
        let status = wait(&mut child, hook.timeout, self.watch)?;
        if status.success() {
            return Ok(());
        }
        let said = complaints.as_ref().map(said).unwrap_or_default();
        Err(match status.code() {
            Some(code) => format!("failed with exit code {code}{said}"),
            // What a filter of the container does is looked for in runc's words.
            None if status.signal() == Some(Signal::SYS.as_raw()) => {
                format!("was ended by signal: bad system call{said}")
            }
            None => format!("was ended by {status}{said}"),
        })
    }
}

impl Runner<'_> {
    /// Starts a hook, to which the descriptors that it is given are open, and to nothing that is started afterwards.
    fn giving(&self, start: impl FnOnce(Option<String>) -> std::io::Result<Child>) -> std::io::Result<Child> {
        let mut names = String::new();
        for (kind, given) in self.given {
            let name = if *kind == Kind::Network { "network" } else { kind.link() };
            let comma = if names.is_empty() { "" } else { "," };
            names += &format!("{comma}{name}={}", given.as_raw_fd());
        }
        self.mark(false)?;
        let started = start(Some(names).filter(|names| !names.is_empty()));
        self.mark(true)?;
        started
    }

    /// Has programs that are started not have what hooks are given, or have it.
    fn mark(&self, close: bool) -> std::io::Result<()> {
        for (_, given) in self.given {
            process::set_close_on_exec(given.as_raw_fd(), close)?;
        }
        Ok(())
    }
}

fn command(hook: &Hook, directory: Option<&Path>, text: &[u8]) -> Command {
    let mut command = Command::new(&hook.path);
    if let Some(environment) = &hook.env {
        command.env_clear().envs(environment.iter().filter_map(|entry| entry.split_once('=')));
    }
    // Not a pipe either: a hook that neither reads nor ends would keep the runtime from counting its time.
    command.stdin(input(text).map_or_else(Stdio::piped, Stdio::from));
    // A bundle may be gone before its container.
    if let Some(directory) = directory.filter(|directory| directory.is_dir()) {
        command.current_dir(directory);
    }
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    command
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

fn wait(
    child: &mut Child,
    timeout: Option<Duration>,
    watch: Option<&Watch>,
) -> std::result::Result<ExitStatus, String> {
    let text = |error: std::io::Error| format!("could not be waited for: {}", words(&error));
    if timeout.is_none() && watch.is_none() {
        return child.wait().map_err(text);
    }
    let pidfd = process::open_pidfd(child.id().cast_signed())
        .map_err(|error| format!("could not be waited for: {error}"))?;
    let why = match until_readable(&pidfd, timeout, watch) {
        Ok(true) => return child.wait().map_err(text),
        Ok(false) => {
            let seconds = timeout.unwrap_or_default().as_secs();
            format!("did not end within its timeout of {seconds} s and was killed")
        }
        Err(error) => format!("was killed: {error}"),
    };
    // Not waited for yet, so that the number is still its own.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(why)
}
