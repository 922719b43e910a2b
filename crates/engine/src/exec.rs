//! One more process in a container that runs: the runtime joins it, on streams of the caller or on a terminal of its own.
//!
//! What the runtime says of a process that it could not start is told by its log, and never by the process's own streams.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use bulkhead_spec::{Config, Process};
use bulkhead_store::Event;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use crate::configure::{self, ImageFiles};
use crate::container::State;
use crate::engine::{Engine, now};
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::request::Exec;
use crate::root;
use crate::rootfs::LONGEST;
use crate::runtime::Family;
use crate::{host, id, start};

mod streams;
mod terminal;

pub use streams::{Piped, Streams};
pub use terminal::Joined;

/// Docker's code for a process that cannot be started.
const CANNOT_RUN: u8 = 126;

/// What is refused of a container that does not run.
const JOIN: &str = "run a process in";

/// A call of the runtime's `exec` that lacks its last words.
struct Prepared {
    command: Command,
    log: Complaints,
    /// The runtime opens it by this process.
    document: File,
    /// SELinux has a label for the process.
    is_labelled: bool,
}

impl Prepared {
    fn new(engine: &Engine, known: &Known, exec: &Exec) -> Result<Self> {
        let process = engine.joining(known, exec)?;
        let is_labelled = process.selinux_label.is_some();
        let doing = || format!("run a process in container {}", known.record.name);
        let text = serde_json::to_vec(&process).map_err(std::io::Error::from).doing(doing)?;
        let mut document = memory("process.json").doing(doing)?;
        document.write_all(&text).doing(doing)?;
        let log = memory("runtime.log").doing(doing)?;
        // So they are nobody's to inherit, and leave no file.
        let own = std::process::id();
        let name = |file: &File| format!("/proc/{own}/fd/{}", file.as_raw_fd());
        let runtime = known.runtime(engine)?;
        let mut command = runtime.command();
        command.args(["--log", &name(&log), "--log-format", "json"]);
        if runtime.family() == Family::Ours {
            command.arg("--log-only");
        }
        command.args(["exec", "--process", &name(&document)]);
        Ok(Self { command, log: Complaints(log), document, is_labelled })
    }
}

/// The runtime's log.
#[derive(Debug)]
struct Complaints(File);

/// Why a process was not started.
#[derive(Debug)]
struct Refusal {
    /// Docker's code.
    code: u8,
    /// The runtime's words.
    reason: String,
}

impl Complaints {
    /// Returns the code with which the runtime's `exec` ended, which is the process's; else why that was not started.
    fn code(&mut self, status: ExitStatus) -> std::io::Result<std::result::Result<u8, Refusal>> {
        if status.success() {
            return Ok(Ok(0));
        }
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        Ok(of_failure(&self.read()?).map_or(Ok(code), Err))
    }

    /// Returns why `exec --detach` could not start the process, if so.
    fn failure(&mut self, status: ExitStatus) -> std::io::Result<Option<Refusal>> {
        if status.success() {
            return Ok(None);
        }
        let silent = || Refusal { code: CANNOT_RUN, reason: format!("the runtime ended with {status}") };
        Ok(Some(of_failure(&self.read()?).unwrap_or_else(silent)))
    }

    fn read(&mut self) -> std::io::Result<String> {
        let mut complaint = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut complaint)?;
        Ok(complaint)
    }
}

impl Engine {
    /// Finds a container that a process can join.
    fn running(&self, wanted: &str) -> Result<Known> {
        let known = self.find(wanted)?;
        match known.life.state {
            State::Running => Ok(known),
            _ => Err(known.refuses(JOIN)),
        }
    }

    /// Tells that a process was made in a container and started, and returns what is told of its end.
    fn tell_exec(&self, known: &Known, exec: &Exec) -> Event {
        let id = id::generate().unwrap_or_default();
        let words = beginning(exec.command.join(" "));
        let event = |action: &str| known.event(action).with("execID", &id);
        let begin = ["exec_create", "exec_start"].map(|action| event(&format!("{action}: {words}")));
        // What happened has happened, whether that can be recorded or not.
        let _ = self.store.record_events(&begin);
        event("exec_die")
    }

    /// Tells that such a process has ended, if nobody has.
    fn tell_exec_end(&self, event: &mut Option<Event>, code: u8) {
        if let Some(event) = event.take() {
            let event = Event { time: now().cast_signed(), ..event.with("exitCode", &code.to_string()) };
            // Its caller waits for the code.
            let _ = self.store.record_event_soon(&event);
        }
    }

    /// Says why a process was not started: in the runtime's words, unless the container has ended or was frozen meanwhile.
    fn not_joined(&self, id: &str, refusal: Refusal) -> Error {
        match self.running(id) {
            Err(changed) => changed,
            // Between the pause and its record, or by who asked the runtime.
            Ok(known) if known.is_frozen(self).unwrap_or(false) => {
                Error::State { operation: JOIN, name: known.record.name, state: State::Paused }
            }
            Ok(known) => {
                let Refusal { code, reason } = refusal;
                Error::NotJoined { name: known.record.name, code, reason }
            }
        }
    }

    /// Opens the root of a container that runs, as the container sees it; of one that the host does not see, as its layers
    /// have it. `None` when it has ended.
    fn seen_root(&self, known: &Known) -> Result<Option<OwnedFd>> {
        match known.runtime(self)?.family() {
            Family::Gvisor => self.root(known)?.open().map(Some),
            Family::Ours | Family::Other => {
                let found = known.life.process.map(root::of_process).transpose()?.flatten();
                Ok(found.map(|(root, _)| root))
            }
        }
    }

    /// Reads what the runtime was told of a container that runs.
    pub(crate) fn configuration(&self, id: &str) -> Result<Config> {
        let path = self.places().container_run(id).join(start::BUNDLE).join("config.json");
        let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        Config::from_json(&text)
            .map_err(|error| Error::Damaged { what: path.display().to_string(), reason: error.to_string() })
    }

    /// Decides what the process is, from what runs in the container.
    fn joining(&self, known: &Known, exec: &Exec) -> Result<Process> {
        let config = self.configuration(&known.record.id)?;
        let has_ended =
            || Error::State { operation: JOIN, name: known.record.name.clone(), state: State::Exited };
        let root = self.seen_root(known)?.ok_or_else(has_ended)?;
        let read = |name: &str| match root::read(&root, Path::new(name), LONGEST) {
            // Who asks for no user can do without, and may be there to mend it.
            Err(_) if exec.user.is_none() => Ok(Vec::new()),
            read => read.map(Option::unwrap_or_default),
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        let image = ImageFiles { passwd: &passwd, group: &group };
        configure::exec(&config, exec, image, host::capabilities()?).map_err(|error| match error {
            // The container runs, and the process that was asked for cannot: docker's code for that.
            Error::Invalid { what, reason } => Error::NotJoined {
                name: known.record.name.clone(),
                code: CANNOT_RUN,
                reason: format!("{what}: {reason}"),
            },
            other => other,
        })
    }
}

/// The longest command line that an event keeps, in bytes: arguments may have megabytes, and events are kept by the thousand.
const LONGEST_LINE: usize = 1024;

/// Cuts a command line that is longer than events keep.
fn beginning(mut line: String) -> String {
    if line.len() > LONGEST_LINE {
        let end = (0..=LONGEST_LINE).rev().find(|&end| line.is_char_boundary(end));
        line.truncate(end.unwrap_or_default());
        line.push('…');
    }
    line
}

/// Makes a file in memory.
fn memory(name: &str) -> std::io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Reads in the runtime's log why a process could not be started, if it says that.
fn of_failure(log: &str) -> Option<Refusal> {
    #[derive(Deserialize)]
    struct Entry {
        level: String,
        #[serde(default)]
        msg: String,
    }
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    let mut errors = entries.filter(|entry| matches!(entry.level.as_str(), "error" | "fatal"));
    let Entry { level: _, msg } = errors.next_back()?;
    let said = msg.to_lowercase();
    let is_missing = ["no such file", "not found"].iter().any(|words| said.contains(words));
    let reason = msg.strip_prefix("exec failed: ").unwrap_or(&msg).to_owned();
    Some(Refusal { code: if is_missing { 127 } else { CANNOT_RUN }, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_beginning_of_a_long_line() {
        let line = |length: usize| "x".repeat(length);
        assert_eq!(beginning(line(LONGEST_LINE)), line(LONGEST_LINE));
        assert_eq!(beginning(line(LONGEST_LINE + 1)), format!("{}…", line(LONGEST_LINE)));
        assert_eq!(
            beginning(format!("{}ää", line(LONGEST_LINE - 1))),
            format!("{}…", line(LONGEST_LINE - 1))
        );
    }

    #[test]
    fn what_the_runtime_complains_of_has_dockers_codes() {
        let line = |text: &str| format!("{{\"level\":\"error\",\"msg\":\"{text}\",\"time\":\"x\"}}\n");
        for (text, code, reason) in [
            ("exec x: no such file or directory", 127, "exec x: no such file or directory"),
            ("exec failed: executable file not found in $PATH", 127, "executable file not found in $PATH"),
            ("exec /x: permission denied", 126, "exec /x: permission denied"),
        ] {
            let refusal = of_failure(&line(text)).unwrap();
            assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason));
        }
        assert!(of_failure("{\"level\":\"warning\",\"msg\":\"not found\"}\n").is_none());
        assert!(of_failure("").is_none(), "it ran, and the code is its own");
    }
}
