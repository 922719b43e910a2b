//! Network namespaces beside that of the test.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bulkhead_sys::namespace;

use crate::fail::OrFail;
use crate::run::{Run, Running};
use crate::sandbox::{Sandbox, wait_until};

/// A network namespace that lives as long as a process in it. Dropping it ends that.
#[derive(Debug)]
pub struct Network {
    // Dropped, it is killed, however long it has been there.
    _holder: Running,
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
        let own = fs::read_link("/proc/thread-self/ns/net").or_fail("find the own network namespace");
        wait_until("there is another network namespace", || {
            fs::read_link(&path).is_ok_and(|link| link != own)
        });
        Network { _holder: holder, path }
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

/// Gives the calling thread, and all that it starts from now on, a network namespace of its own with a loopback device that is
/// up: bridges and rules that are made there go with the last of these processes, even when they are killed. Called again it does
/// nothing: what the test has begun by then is reached from there.
///
/// # Panics
/// Without the right to, which root has.
#[track_caller]
pub fn isolate() {
    thread_local! {
        static IS_ISOLATED: Cell<bool> = const { Cell::new(false) };
    }
    if IS_ISOLATED.replace(true) {
        return;
    }
    namespace::unshare(namespace::Kind::Network).or_fail("make a network namespace for the test");
    bulkhead_sys::net::bring_loopback_up().or_fail("bring its loopback device up");
}

/// Makes a network namespace with a loopback device that is up, which nobody is in. It goes with its file, and with the last process
/// that was started in it.
///
/// # Panics
/// Without the right to, which root has.
#[track_caller]
pub fn empty() -> File {
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            isolate();
            File::open("/proc/thread-self/ns/net").or_fail("open the network namespace")
        });
        maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
