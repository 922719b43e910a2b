//! One more process in a container that runs: the runtime joins it, on streams of the caller or on a terminal of its own.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use bulkhead_spec::{Config, Process};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use crate::configure::{self, ImageFiles};
use crate::container::State;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::request::Exec;
use crate::root;
use crate::rootfs::LONGEST;
use crate::runtime::Family;
use crate::{host, start};

mod streams;
mod terminal;

pub use streams::{Piped, Streams};
pub use terminal::Joined;

/// A call of the runtime's `exec` that lacks its last words.
struct Prepared {
    command: Command,
    log: Complaints,
    /// The runtime opens it by this process.
    document: File,
}

impl Prepared {
    fn new(engine: &Engine, known: &Known, exec: &Exec) -> Result<Self> {
        let process = engine.joining(known, exec)?;
        let doing = || format!("run a process in container {}", known.record.name);
        let text = serde_json::to_vec(&process).map_err(std::io::Error::from).doing(doing)?;
        let mut document = memory("process.json").doing(doing)?;
        document.write_all(&text).doing(doing)?;
        let log = memory("runtime.log").doing(doing)?;
        // So they are nobody's to inherit, and leave no file.
        let own = std::process::id();
        let name = |file: &File| format!("/proc/{own}/fd/{}", file.as_raw_fd());
        let mut command = known.runtime(engine)?.command();
        command.args(["--log", &name(&log), "--log-format", "json", "exec", "--process", &name(&document)]);
        Ok(Self { command, log: Complaints(log), document })
    }
}

/// The runtime's log.
#[derive(Debug)]
struct Complaints(File);

impl Complaints {
    /// Returns docker's code for how the runtime's `exec` ended: its own for a process that could not be started.
    fn code(&mut self, status: ExitStatus) -> std::io::Result<u8> {
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        Ok(if status.success() { 0 } else { of_failure(&self.read()?).map_or(code, |(code, _)| code) })
    }

    /// Returns docker's code and the runtime's words when `exec --detach` could not start the process.
    fn failure(&mut self, status: ExitStatus) -> std::io::Result<Option<(u8, String)>> {
        if status.success() {
            return Ok(None);
        }
        let silent = || (126, format!("the runtime ended with {status}"));
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
            _ => Err(known.refuses("run a process in")),
        }
    }

    /// Opens the root of a container that runs, as the container sees it; of one that the host does not see, as its layers
    /// have it. `None` when it has ended.
    fn seen_root(&self, known: &Known) -> Result<Option<OwnedFd>> {
        match known.runtime(self)?.family() {
            Family::Gvisor => self.root(known)?.open().map(Some),
            Family::Ours | Family::Other => {
                Ok(known.life.process.map(root::of_process).transpose()?.flatten())
            }
        }
    }

    /// Decides what the process is, from what runs in the container.
    fn joining(&self, known: &Known, exec: &Exec) -> Result<Process> {
        let path = self.places().container_run(&known.record.id).join(start::BUNDLE).join("config.json");
        let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        let config = Config::from_json(&text).map_err(|error| Error::Damaged {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let root = self.seen_root(known)?.ok_or_else(|| known.refuses("run a process in"))?;
        let read = |name: &str| match root::read(&root, Path::new(name), LONGEST) {
            // Who asks for no user can do without, and may be there to mend it.
            Err(_) if exec.user.is_none() => Ok(Vec::new()),
            read => read.map(Option::unwrap_or_default),
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        configure::exec(&config, exec, ImageFiles { passwd: &passwd, group: &group }, host::capabilities()?)
    }
}

/// Makes a file in memory.
fn memory(name: &str) -> std::io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Returns docker's code for a process that could not be started, and the reason, if the runtime's log says that.
fn of_failure(log: &str) -> Option<(u8, String)> {
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
    Some((if is_missing { 127 } else { 126 }, msg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_complains_of_has_dockers_codes() {
        let line = |text: &str| format!("{{\"level\":\"error\",\"msg\":\"{text}\",\"time\":\"x\"}}\n");
        for (text, code) in [
            ("exec x: no such file or directory", 127),
            ("executable file not found in $PATH", 127),
            ("exec /x: permission denied", 126),
        ] {
            assert_eq!(of_failure(&line(text)), Some((code, text.to_owned())));
        }
        assert_eq!(of_failure("{\"level\":\"warning\",\"msg\":\"not found\"}\n"), None);
        assert_eq!(of_failure(""), None, "it ran, and the code is its own");
    }
}
