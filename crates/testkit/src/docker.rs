//! docker's daemon on a machine, with which what is done here is compared.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fail::OrFail;
use crate::machine::Machine;
use crate::run::Running;
use crate::sandbox::slowness;

/// A daemon whose only runtime is the sandbox's. It ends with its machine.
#[derive(Debug)]
pub struct Docker<'m> {
    machine: &'m Machine<'m>,
    _daemon: Running,
}

impl<'m> Docker<'m> {
    /// Starts the daemon, and waits until it answers. The machine must have been booted with a tree that has docker, such as
    /// `engines/newest` of the cache.
    ///
    /// # Panics
    /// When it ends, or answers nothing within a minute.
    #[track_caller]
    pub fn start(machine: &'m Machine<'m>) -> Self {
        let configuration = json!({
            "default-runtime": "bulkrun", "runtimes": { "bulkrun": { "path": "/opt/bulkrun" } },
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
        });
        let file = machine.shared().join("daemon.json");
        fs::write(&file, configuration.to_string()).or_fail(format_args!("write {}", file.display()));
        machine.script("mkdir -p /etc/docker; cp /run/shared/daemon.json /etc/docker/").output().succeeds();
        let daemon = machine.command("dockerd").spawn();
        let end = Instant::now() + Duration::from_secs(60) * slowness();
        while machine.command("docker").arg("version").output().code() != 0 {
            let is_late = Instant::now() > end || daemon.has_ended();
            assert!(!is_late, "the daemon should answer\n{}", daemon.stderr());
            thread::sleep(Duration::from_millis(100));
        }
        Self { machine, _daemon: daemon }
    }

    /// What docker's command line prints, which succeeds.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn call(&self, arguments: &[&str]) -> String {
        self.machine.command("docker").args(arguments).output().succeeds().stdout
    }
}
