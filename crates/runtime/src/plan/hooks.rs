//! The programs that run at points of the life cycle (config.md, "POSIX-platform Hooks").

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// The six lists of hooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// In the runtime's namespaces, after the container's exist (deprecated).
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, after `prestart`.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root becomes the root.
    pub create_container: Vec<Hook>,
    /// In the container, just before the user's program.
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program was started.
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container was deleted.
    pub poststop: Vec<Hook>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// Arguments with the zeroth; the path where none are given.
    pub args: Vec<String>,
    /// The whole environment; `None` for that of the process that runs it, as under runc and crun.
    pub env: Option<Vec<String>>,
    /// How long it may run; `None` for as long as it likes.
    pub timeout: Option<Duration>,
}

impl Hook {
    /// Gives it the environment of a program, unless it has its own.
    #[must_use]
    pub fn or_environment(mut self, entries: &[CString]) -> Self {
        let lines = || entries.iter().map(|entry| entry.to_string_lossy().into_owned()).collect();
        self.env.get_or_insert_with(lines);
        self
    }
}

impl Hooks {
    /// Decides the hooks of a configuration.
    ///
    /// # Errors
    /// A path that is not absolute, a timeout that is not positive, an environment entry without `=`.
    pub fn plan(hooks: &bulkhead_spec::Hooks) -> Result<Self> {
        let bulkhead_spec::Hooks {
            prestart,
            create_runtime,
            create_container,
            start_container,
            poststart,
            poststop,
        } = hooks;
        Ok(Self {
            prestart: list(prestart, "prestart")?,
            create_runtime: list(create_runtime, "createRuntime")?,
            create_container: list(create_container, "createContainer")?,
            start_container: list(start_container, "startContainer")?,
            poststart: list(poststart, "poststart")?,
            poststop: list(poststop, "poststop")?,
        })
    }

    /// Tells whether some run in the container's namespaces.
    pub fn inside(&self) -> bool {
        !self.create_container.is_empty() || !self.start_container.is_empty()
    }

    /// Tells whether the parent has work between the namespaces and the root.
    pub fn during_creation(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }
}

fn list(hooks: &[bulkhead_spec::Hook], name: &str) -> Result<Vec<Hook>> {
    hooks.iter().enumerate().map(|(index, hook)| plan(hook, &format!("/hooks/{name}/{index}"))).collect()
}

fn plan(hook: &bulkhead_spec::Hook, pointer: &str) -> Result<Hook> {
    if !hook.path.starts_with('/') {
        return Err(Error::invalid(
            format!("{pointer}/path"),
            format!("{:?} is not an absolute path", hook.path),
        ));
    }
    if let Some(index) = hook.env.iter().flatten().position(|entry| !entry.contains('=')) {
        return Err(Error::invalid(format!("{pointer}/env/{index}"), "an entry is NAME=VALUE"));
    }
    let timeout = match hook.timeout {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
            _ => return Err(Error::invalid(format!("{pointer}/timeout"), "a timeout is at least 1 second")),
        },
    };
    let args = if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() };
    Ok(Hook { path: hook.path.clone().into(), args, env: hook.env.clone(), timeout })
}
