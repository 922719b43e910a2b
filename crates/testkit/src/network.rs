//! Network namespaces beside that of the test.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::fail::OrFail;
use crate::run::{Run, Running};
use crate::sandbox::{Sandbox, wait_until};

/// A network namespace that lives as long as a process in it. Dropping it ends that.
#[derive(Debug)]
pub struct Network {
    holder: Option<Running>,
    path: PathBuf,
}

impl Network {
    /// Makes one.
    ///
    /// # Panics
    /// Without the right to, which root has.
    #[track_caller]
    pub fn new(sandbox: &Sandbox) -> Network {
        let holder = sandbox.command("unshare").args(["--net", "sleep", "1000"]).spawn();
        let path = PathBuf::from(format!("/proc/{}/ns/net", holder.pid()));
        let own = fs::read_link("/proc/self/ns/net").or_fail("find the own network namespace");
        wait_until("there is another network namespace", || {
            fs::read_link(&path).is_ok_and(|link| link != own)
        });
        Network { holder: Some(holder), path }
    }

    /// Its file in `/proc`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Prepares a command that runs in it.
    pub fn command(&self, sandbox: &Sandbox, program: &str) -> Run {
        sandbox.command("nsenter").arg(format!("--net={}", self.path.display())).arg(program)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(holder) = self.holder.take() {
            holder.signal(Signal::KILL);
            let _ = holder.wait();
        }
    }
}
