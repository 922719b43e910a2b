//! One more process in a container that runs: the runtime joins it, on the streams and the terminal of the caller.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use bulkhead_spec::{Config, Process};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::configure::{self, ImageFiles};
use crate::container::State;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::request::Exec;
use crate::root;
use crate::rootfs::LONGEST;
use crate::{host, start};

/// What a process that joins a container has of its caller's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// All three.
    All,
    /// Output alone (docker's `exec` without `-i`).
    Output,
    /// None: the caller goes on when it runs (`--detach`).
    None,
}

impl Engine {
    /// Runs a process in a container and returns its code: 126 when it cannot be executed, 127 when it is not there; then
    /// the runtime has said why on the standard error. One without streams is not waited for.
    ///
    /// # Errors
    /// [`Error::State`] when the container does not run; a user or a directory that cannot be.
    pub fn exec(&self, wanted: &str, exec: &Exec, streams: Streams) -> Result<u8> {
        let known = self.find(wanted)?;
        if known.life.state != State::Running {
            return Err(known.refuses("run a process in"));
        }
        let process = self.joining(&known, exec)?;
        let doing = || format!("run a process in container {}", known.record.name);
        let text = serde_json::to_vec(&process).map_err(std::io::Error::from).doing(doing)?;
        let mut document = memory("process.json").doing(doing)?;
        document.write_all(&text).doing(doing)?;
        let mut log = memory("runtime.log").doing(doing)?;
        // The runtime opens them by this process, so that they are nobody's to inherit and leave no file.
        let own = std::process::id();
        let name = |file: &File| format!("/proc/{own}/fd/{}", file.as_raw_fd());
        let mut command = known.runtime(self)?.command();
        command.args(["--log", &name(&log), "--log-format", "json", "exec", "--process", &name(&document)]);
        if streams != Streams::All {
            command.stdin(Stdio::null());
        }
        if streams == Streams::None {
            command.arg("--detach").stdout(Stdio::null());
        }
        self.tell(&known, "exec_start");
        let status = command.arg(&known.record.id).status().doing(doing)?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        let mut complaint = String::new();
        log.rewind().doing(doing)?;
        log.read_to_string(&mut complaint).doing(doing)?;
        Ok(if status.success() { 0 } else { of_failure(&complaint).unwrap_or(code) })
    }

    /// Decides what the process is, from what runs in the container.
    fn joining(&self, known: &Known, exec: &Exec) -> Result<Process> {
        let path = self.places().container_run(&known.record.id).join(start::BUNDLE).join("config.json");
        let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        let config = Config::from_json(&text).map_err(|error| Error::Damaged {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let root: Option<OwnedFd> = known.life.process.map(root::of_process).transpose()?.flatten();
        let root = root.ok_or_else(|| known.refuses("run a process in"))?;
        let read = |name: &str| root::read(&root, Path::new(name), LONGEST).map(Option::unwrap_or_default);
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        configure::exec(&config, exec, ImageFiles { passwd: &passwd, group: &group }, host::capabilities()?)
    }
}

/// Makes a file in memory.
fn memory(name: &str) -> std::io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Returns docker's code for a process that could not be started, if the runtime's log says that.
fn of_failure(log: &str) -> Option<u8> {
    let is_error = |line: &&str| line.contains("\"level\":\"error\"") || line.contains("\"level\":\"fatal\"");
    let line = log.lines().rfind(is_error)?.to_lowercase();
    let is_missing = ["no such file", "not found"].iter().any(|words| line.contains(words));
    Some(if is_missing { 127 } else { 126 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_complains_of_has_dockers_codes() {
        let line = |text: &str| format!("{{\"level\":\"error\",\"msg\":\"{text}\",\"time\":\"x\"}}\n");
        assert_eq!(of_failure(&line("exec x: no such file or directory")), Some(127));
        assert_eq!(of_failure(&line("executable file not found in $PATH")), Some(127));
        assert_eq!(of_failure(&line("exec /x: permission denied")), Some(126));
        assert_eq!(of_failure("{\"level\":\"warning\",\"msg\":\"not found\"}\n"), None);
        assert_eq!(of_failure(""), None, "it ran, and the code is its own");
    }
}
