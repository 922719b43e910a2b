//! The configuration of a container that exists: the copy that `create` kept, whatever became of the bundle.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bulkhead_spec::{Config, NamespaceType};

use super::Plan;
use super::ending::Ending;
use super::hooks::Hooks;
use super::namespaces::Elsewhere;
use super::process::Process;
use crate::bundle::CONFIG;
use crate::cli::{ExecCommand, ExecProcess};
use crate::error::{Doing, Error, Result};
use crate::state::StateDir;

/// The configuration that a container was created with.
#[derive(Debug)]
pub struct Stored(Config);

impl Stored {
    /// Reads the copy in the state directory.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is missing, [`Error::Parse`] when it is not whole.
    pub fn read(dir: &StateDir) -> Result<Self> {
        let Some(text) = dir.read(CONFIG)? else {
            let reason = "the copy of its configuration is missing".to_owned();
            return Err(Error::Damaged { id: dir.id().as_str().to_owned(), reason });
        };
        Ok(Self(Config::from_json(&text)?))
    }

    /// Decides again what the configuration means; `elsewhere` tells the maps that the container has got if there are none.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, bundle: &Path, elsewhere: Elsewhere<'_>) -> Result<Plan> {
        Plan::new(&self.0, bundle, elsewhere)
    }

    /// Tells whether it shares its pid namespace: then its processes outlive its first one.
    pub fn shares_pids(&self) -> bool {
        let namespaces = self.0.linux.as_ref().map(|linux| linux.namespaces.as_slice()).unwrap_or_default();
        !namespaces.iter().any(|namespace| namespace.kind == NamespaceType::Pid && namespace.path.is_none())
    }

    /// Returns its hooks.
    ///
    /// # Errors
    /// As [`Hooks::plan`].
    pub fn hooks(&self) -> Result<Hooks> {
        Hooks::plan(&self.0.hooks)
    }

    /// Returns what is to be done when its first process has ended, however that came: an `exec` may have put a process
    /// anywhere, so others may live.
    ///
    /// # Errors
    /// As [`Hooks::plan`].
    pub fn ending(&self) -> Result<Ending> {
        Ok(Ending { hooks: self.hooks()?.poststop, ..Ending::default() })
    }

    /// Decides what a process is that joins the container: a document of its own, or the container's with changes.
    ///
    /// # Errors
    /// A document that cannot be read, values that are not valid.
    pub fn joining_process(&self, what: &ExecProcess, warnings: &mut Vec<String>) -> Result<Process> {
        let document = match what {
            ExecProcess::File(path) => {
                let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
                self.completed(bulkhead_spec::Process::from_json(&text)?)
            }
            ExecProcess::Command(command) => self.changed(command)?,
        };
        Process::plan(&document, &self.0, warnings)
    }

    /// Fills in, from the container's own process, what a document does not mention, by runc's rules: without labels it
    /// would be unconfined in a confined container.
    fn completed(&self, mut process: bulkhead_spec::Process) -> bulkhead_spec::Process {
        let own = self.0.process.clone().unwrap_or_default();
        process.capabilities = process.capabilities.or(own.capabilities);
        process.apparmor_profile = label(process.apparmor_profile).or(own.apparmor_profile);
        process.selinux_label = label(process.selinux_label).or(own.selinux_label);
        process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
        process.scheduler = process.scheduler.or(own.scheduler);
        process.io_priority = process.io_priority.or(own.io_priority);
        process.exec_cpu_affinity = process.exec_cpu_affinity.or(own.exec_cpu_affinity);
        if process.rlimits.is_empty() {
            process.rlimits = own.rlimits;
        }
        process
    }

    /// Applies what was typed to the container's own process, by runc's rules.
    fn changed(&self, command: &ExecCommand) -> Result<bulkhead_spec::Process> {
        let Some(mut process) = self.0.process.clone() else {
            return Err(Error::invalid("/process", "the container has no process to start from"));
        };
        process.args = command.args.iter().map(|argument| text(argument)).collect::<Result<_>>()?;
        process.terminal = command.tty;
        process.console_size = None;
        if let Some(cwd) = &command.cwd {
            process.cwd = text(cwd.as_os_str())?;
        }
        process.env.extend(command.env.iter().map(|entry| text(entry)).collect::<Result<Vec<_>>>()?);
        if let Some(user) = command.user {
            process.user.uid = user.uid;
            process.user.gid = user.gid.unwrap_or(process.user.gid);
        }
        process.user.additional_gids.extend(&command.additional_gids);
        process.selinux_label = label(command.process_label.clone()).or(process.selinux_label);
        process.apparmor_profile = label(command.apparmor.clone()).or(process.apparmor_profile);
        process.no_new_privileges = command.no_new_privs.unwrap_or(process.no_new_privileges);
        add_capabilities(&mut process, &command.caps);
        Ok(process)
    }
}

/// An empty label says nothing.
fn label(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn text(value: &std::ffi::OsStr) -> Result<String> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).map_err(|_| Error::Usage(format!("{} is not UTF-8 text", value.display())))
}

/// Adds capabilities to every set that makes the process hold them; to the ambient set only where it is in use.
fn add_capabilities(process: &mut bulkhead_spec::Process, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let sets = process.capabilities.get_or_insert_default();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend_from_slice(names);
    }
    if !sets.ambient.is_empty() {
        sets.inheritable.extend_from_slice(names);
        sets.ambient.extend_from_slice(names);
    }
}
