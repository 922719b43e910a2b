//! The proof that a container of an engine is one of `bulkrun`.

use std::fs;
use std::path::Path;

use bulkhead_testkit::{Init, Machine};
use serde_json::Value;

use crate::eventually;

/// Where an engine lets `bulkrun` keep its records, and which processes it puts above a container.
#[derive(Clone, Copy)]
pub(crate) struct Ours<'m> {
    pub(crate) machine: &'m Machine<'m>,
    /// The runtime's `--root`, as the machine sees it.
    pub(crate) root: &'m str,
    /// The beginning of the name of the parent of a container's first process.
    pub(crate) monitor: &'m str,
}

impl Ours<'_> {
    /// Proves that `bulkrun` runs the container whose first process the engine says is `pid`.
    #[track_caller]
    pub(crate) fn runs(&self, id: &str, pid: u64) {
        self.machine.knows_unit(id);
        let state = self.state(id);
        assert_eq!(state["status"], "running", "{state}");
        assert_eq!(state["pid"], pid, "engine and runtime mean one process: {state}");
        let record = self.machine.path(self.root).join(id).join("state.json");
        let record: Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
        assert_eq!(record["id"], id, "the record is the container's, and in the format of bulkrun");
        assert!(record["version"].is_u64(), "{record}");
        let parent = self.field(pid, "PPid");
        let name = self.field(parent.parse().unwrap(), "Name");
        assert!(name.starts_with(self.monitor), "the container's parent is {}, not {name}", self.monitor);
        if self.machine.init() == Init::Systemd {
            self.is_in_a_scope(id, pid);
        }
    }

    /// Proves that a container is in a scope of its own, of which systemd knows.
    #[track_caller]
    fn is_in_a_scope(&self, id: &str, pid: u64) {
        let cgroup = fs::read_to_string(self.machine.path(format!("/proc/{pid}/cgroup"))).unwrap();
        // podman may have a cgroup of its own below.
        let scope = cgroup.trim().trim_end_matches("/container").rsplit('/').next().unwrap();
        assert!(scope.contains(id) && scope.ends_with(".scope"), "a scope is named after {id}: {cgroup}");
        let show = ["show", "--property=ActiveState", "--property=Delegate", scope];
        // A user has a systemd of his own.
        let user = self.root.strip_prefix("/run/user/").and_then(|rest| rest.split('/').next());
        let ask = match user {
            None => self.machine.command("systemctl"),
            Some(user) => {
                let uid = user.parse().unwrap();
                let ask =
                    self.machine.command_as(uid, uid, "env").arg(format!("XDG_RUNTIME_DIR=/run/user/{uid}"));
                ask.args(["systemctl", "--user"])
            }
        };
        let known = ask.args(show).output().succeeds().stdout;
        let known = Vec::from_iter(known.lines());
        assert!(
            known.contains(&"ActiveState=active") && known.contains(&"Delegate=yes"),
            "{scope}: {known:?}"
        );
    }

    /// The status that `bulkrun state` prints.
    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn state(&self, id: &str) -> Value {
        let state = self.machine.command("bulkrun").args(["--root", self.root, "state", id]);
        state.output().succeeds().json()
    }

    /// A line of `/proc/PID/status` of a process of the machine.
    #[track_caller]
    fn field(&self, pid: u64, name: &str) -> String {
        let status = self.machine.path(format!("/proc/{pid}/status"));
        let status = fs::read_to_string(&status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    /// Proves that no record and no cgroup is left of any container.
    #[track_caller]
    pub(crate) fn has_none(&self) {
        let root = self.machine.path(self.root);
        let records = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let records = Vec::from_iter(records);
        assert!(records.is_empty(), "records are left in {}: {records:?}", root.display());
        let cgroups = self.machine.cgroups();
        let left = cgroups.iter().filter(|path| is_a_containers(path));
        let left = Vec::from_iter(left);
        assert!(left.is_empty(), "cgroups are left: {left:?}");
        // podman does not wait for conmon, which ends when its container is removed, nor for systemd, which then
        // removes the scope.
        eventually("the cgroups of monitors are gone", || {
            !self.machine.cgroups().iter().any(|path| is_a_monitors(path))
        });
    }
}

/// Recognises the cgroup that podman's systemd makes for conmon.
fn is_a_monitors(cgroup: &Path) -> bool {
    let name = cgroup.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("libpod-conmon-")
}

/// Recognises the cgroup of a container by the name that an engine has made up. Not that of podman's pods: podman
/// removes it itself, and on v1 at times not everywhere, whatever the runtime.
fn is_a_containers(cgroup: &Path) -> bool {
    let name = cgroup.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let is_id = name.len() >= 64 && name.bytes().rev().take(64).all(|byte| byte.is_ascii_hexdigit());
    let is_pods = name.len() == 64 && cgroup.parent().is_some_and(|parent| parent.ends_with("libpod_parent"));
    is_id && !is_pods && !is_a_monitors(cgroup)
}
