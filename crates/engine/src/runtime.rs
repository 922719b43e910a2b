//! The OCI runtime of a container: ours or another one, by the same command line.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::configure;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::program;

/// The name of our own.
pub(crate) const OURS: &str = "bulkrun";

/// A runtime, with the directory of its states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runtime {
    program: PathBuf,
    states: PathBuf,
}

impl Engine {
    /// Finds the runtime that a request names, by a name or a path; without one ours.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is not installed.
    pub(crate) fn runtime(&self, wanted: Option<&str>) -> Result<Runtime> {
        let program = match wanted {
            None | Some(OURS) => self.own_runtime()?,
            Some(path) if path.contains('/') => PathBuf::from(path),
            Some(name) => program::in_path(name).unwrap_or_default(),
        };
        if wanted.is_some() && !program::is_program(&program) {
            return Err(Error::Invalid {
                what: format!("runtime {:?}", wanted.unwrap_or(OURS)),
                reason: "there is no such program; name one that is in PATH, or its path".into(),
            });
        }
        let name = program.file_name().and_then(OsStr::to_str).unwrap_or(OURS);
        Ok(Runtime { states: self.places().runtime(name), program })
    }
}

impl Runtime {
    /// Tells whether it is ours, which mounts the layers of a root itself, in the container's own mount namespace.
    pub(crate) fn kind(&self) -> configure::Runtime {
        if self.program.file_name() == Some(OsStr::new(OURS)) {
            configure::Runtime::Ours
        } else {
            configure::Runtime::Foreign
        }
    }

    /// Returns the directory of its states.
    pub(crate) fn states(&self) -> &Path {
        &self.states
    }

    /// Returns the program and the arguments before its verb.
    pub(crate) fn words(&self) -> Vec<String> {
        vec![
            self.program.to_string_lossy().into_owned(),
            "--root".to_owned(),
            self.states.to_string_lossy().into_owned(),
        ]
    }

    /// Puts a command together, whose verb and arguments are to come.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.states);
        command
    }

    /// Runs a verb on a container that people know by `name`, and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Runtime`] with the runtime's words.
    pub(crate) fn run(&self, verb: &'static str, name: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = self.command();
        command.arg(verb).args(arguments).stdin(Stdio::null());
        let output = command.output().doing(|| format!("run {}", self.program.display()))?;
        checked(verb, name, output)
    }

    /// As [`Runtime::run`], with something to read on the standard input.
    pub(crate) fn run_with(
        &self,
        verb: &'static str,
        name: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Vec<u8>> {
        let doing = || format!("run {}", self.program.display());
        let mut command = self.command();
        command.arg(verb).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(doing)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read all says why.
            let _ = stdin.write_all(input);
        }
        checked(verb, name, child.wait_with_output().doing(doing)?)
    }
}

/// Takes what a runtime printed, or makes an error of what it complained.
pub(crate) fn checked(verb: &'static str, name: &str, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = match said.trim() {
        "" => format!("the runtime ended with {}", output.status),
        said => said.lines().map(message).collect::<Vec<_>>().join("; "),
    };
    Err(Error::Runtime { verb, name: name.to_owned(), reason })
}

/// Takes the message from a line of logrus, which some runtimes write to their standard error.
fn message(line: &str) -> String {
    let quoted = line.split_once("msg=").map(|(_, rest)| rest);
    let unquoted = quoted.and_then(|rest| serde_json::from_str::<String>(rest.trim()).ok());
    unquoted.unwrap_or_else(|| line.trim_start_matches("error: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_what_a_runtime_complains_of() {
        assert_eq!(message("time=\"x\" level=error msg=\"no \\\"a\\\"\""), "no \"a\"");
        assert_eq!(message("error: cannot pause"), "cannot pause");
    }
}
