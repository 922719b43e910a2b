//! The place in which one test runs containers, and which is as empty afterwards as before.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bundle::Bundle;
use crate::fail::OrFail;
use crate::faults::Faults;
use crate::leak::{self, Leak};
use crate::process;
use crate::run::{Output, Run};
use crate::scratch::{Scratch, force_out};
use crate::{cgroups, fresh};

/// The runtime's `--root` in a sandbox's directory.
pub(crate) const STATE: &str = "state";
/// Where the bundles are.
const BUNDLES: &str = "bundles";
/// Where the output of commands goes.
const CAPTURES: &str = "output";
/// How long the kernel may take to finish what a test ended: exits, empty cgroups.
const SETTLE: Duration = Duration::from_secs(3);

/// A directory, a state directory and a cgroup of its own for a test's containers.
///
/// Its name, such as `bh-test-4711-3`, is in everything that belongs to it: the directory, the cgroups, the ids of
/// containers, the environment of commands. When it is dropped, it deletes the containers that are left with
/// `delete --force`, looks for what is left of them, removes that by force, and fails the test if there was any.
/// When the test fails anyway, it only cleans up.
#[derive(Debug)]
pub struct Sandbox {
    /// Goes last, when the check for leaks is done.
    place: Scratch,
    runtime: PathBuf,
    /// Words before the runtime, such as a launcher's.
    prefix: Vec<OsString>,
    faults: Option<Faults>,
    user: Option<(u32, u32)>,
    captures: AtomicUsize,
    settle: Duration,
}

impl Sandbox {
    /// Makes a sandbox for a runtime, usually `env!("CARGO_BIN_EXE_bulkrun")`.
    ///
    /// Removes sandboxes that tests which were killed have left.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[track_caller]
    pub fn new(runtime: impl Into<PathBuf>) -> Sandbox {
        process::become_subreaper();
        let place = Scratch::new();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))
            .or_fail("open the sandbox's directory");
        for part in [STATE, BUNDLES, CAPTURES] {
            fs::create_dir(place.path().join(part)).or_fail(format_args!("create the sandbox's {part}"));
        }
        Sandbox {
            place,
            runtime: runtime.into(),
            prefix: Vec::new(),
            faults: None,
            user: None,
            captures: AtomicUsize::new(0),
            settle: SETTLE,
        }
    }

    /// Lets system calls fail in the runtime and below: `without_calls("open_tree,mount_setattr=EPERM")`.
    ///
    /// # Panics
    /// When the list cannot be understood, see [`Faults`].
    #[must_use]
    #[track_caller]
    pub fn without_calls(mut self, list: &str) -> Sandbox {
        let faults: Faults = list.parse().or_fail(format_args!("understand {list:?}"));
        self.faults = Some(self.faults.take().unwrap_or_default().and(faults));
        self
    }

    /// Waits no longer than this for the kernel to finish what a test ended, where a leak is expected.
    #[must_use]
    pub fn settling_in(mut self, time: Duration) -> Sandbox {
        self.settle = time;
        self
    }

    /// Starts the runtime through another program, as in `through(["strace", "-f"])`.
    #[must_use]
    pub fn through<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Sandbox {
        self.prefix.extend(words.into_iter().map(Into::into));
        self
    }

    /// Shows the runtime a machine on which only cgroup v2 is mounted, without what v1 controls here.
    ///
    /// Needs root. Each command gets a mount namespace of its own for it; the machine's mounts stay.
    #[must_use]
    pub fn v2_only(self) -> Sandbox {
        // It is shared, as systemd has it.
        let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
            mount --make-shared /sys/fs/cgroup && exec \"$@\"";
        let namespace = fresh::prefix(&[fresh::Kind::Mount]);
        self.through(namespace).through(["sh", "-c", script, "sh"])
    }

    /// Runs a copy of the runtime that nobody else uses, for a test that lets a container try to destroy it.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    #[track_caller]
    pub fn with_own_runtime(mut self) -> Sandbox {
        self.runtime = self.copy_runtime();
        self
    }

    /// Returns the program that the sandbox runs as the runtime.
    pub fn runtime_program(&self) -> &Path {
        &self.runtime
    }

    /// Copies the runtime into the sandbox.
    #[track_caller]
    fn copy_runtime(&self) -> PathBuf {
        let copy = self.place.directory.join("runtime");
        // By another process: a program that this one has written could be busy for as long as any child of this
        // one, forked by another thread, holds the descriptor.
        self.command("cp").arg(&self.runtime).arg(&copy).output().succeeds();
        copy
    }

    /// Runs the runtime as an ordinary user of the host, who gets the state directory and an XDG_RUNTIME_DIR.
    ///
    /// The runtime is copied into the sandbox: where it was built the user may not be allowed to go.
    ///
    /// # Panics
    /// When the directories cannot be given to the user; that takes root.
    #[must_use]
    #[track_caller]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Sandbox {
        let runtime_directory = self.place.directory.join("xdg");
        fs::create_dir(&runtime_directory).or_fail("create the user's runtime directory");
        for directory in [&self.place.directory.join(STATE), &runtime_directory] {
            chown(directory, Some(uid), Some(gid)).or_fail(format_args!("chown {}", directory.display()));
        }
        self.runtime = self.copy_runtime();
        self.user = Some((uid, gid));
        self
    }

    /// Returns the name, unique on the machine.
    pub fn name(&self) -> &str {
        self.place.name.as_str()
    }

    /// Returns the directory, in which a test may put files of its own.
    pub fn directory(&self) -> &Path {
        &self.place.directory
    }

    /// Returns the runtime's state directory, its `--root`.
    pub fn state_directory(&self) -> PathBuf {
        self.place.directory.join(STATE)
    }

    /// Returns the id of the container that is called `short` in this sandbox.
    pub fn id(&self, short: &str) -> String {
        format!("{}-{short}", self.place.name)
    }

    /// Makes a bundle for a container that is called `short` in this sandbox; its cgroup is the sandbox's child.
    ///
    /// # Panics
    /// When there is one already, or busybox-static is missing.
    #[track_caller]
    pub fn bundle(&self, short: &str) -> Bundle {
        let id = self.id(short);
        let cgroups_path = format!("/{}/{id}", self.place.name);
        let bundle = Bundle::create(&self.place.directory.join(BUNDLES).join(short), &id, &cgroups_path);
        match self.user {
            Some((uid, gid)) => bundle.rootless(uid, gid).owned_by(uid, gid),
            None => bundle,
        }
    }

    /// Puts any command together. It belongs to the sandbox but is not affected by faults, launchers or users.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Run {
        self.marked(Run::new(&[], program.as_ref(), self.capture()))
    }

    /// Puts a command of the runtime together, `bulkrun --root STATE` with more arguments to come.
    pub fn runtime(&self) -> Run {
        self.runtime_behind(&self.prefix)
    }

    fn runtime_behind(&self, prefix: &[OsString]) -> Run {
        let run = Run::new(prefix, self.runtime.as_os_str(), self.capture()).faults(self.faults.clone());
        let run = match self.user {
            Some((uid, gid)) => {
                run.as_user(uid, gid).env("XDG_RUNTIME_DIR", self.place.directory.join("xdg"))
            }
            None => run,
        };
        self.marked(run).arg("--root").arg(self.state_directory())
    }

    fn marked(&self, run: Run) -> Run {
        run.env(leak::VARIABLE, self.place.name.as_str())
    }

    fn capture(&self) -> PathBuf {
        let number = self.captures.fetch_add(1, Ordering::Relaxed);
        self.place.directory.join(CAPTURES).join(number.to_string())
    }

    /// Puts a command of the runtime together that is started through a program, which comes before any other.
    pub(crate) fn runtime_through(&self, words: &[&str]) -> Run {
        let prefix = self.prefix.iter().cloned().chain(words.iter().map(OsString::from));
        self.runtime_behind(&prefix.collect::<Vec<_>>())
    }

    /// Puts `run --bundle BUNDLE ID` together.
    pub fn run(&self, bundle: &Bundle) -> Run {
        self.runtime().arg("run").arg("--bundle").arg(bundle.directory()).arg(bundle.id())
    }

    /// Creates a container.
    ///
    /// # Panics
    /// When the runtime fails.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) {
        self.runtime()
            .arg("create")
            .arg("--bundle")
            .arg(bundle.directory())
            .arg(bundle.id())
            .output()
            .succeeds();
    }

    /// Starts a container that was created.
    ///
    /// # Panics
    /// When the runtime fails.
    #[track_caller]
    pub fn start(&self, bundle: &Bundle) {
        self.runtime().arg("start").arg(bundle.id()).output().succeeds();
    }

    /// Creates and starts a container, which keeps running.
    ///
    /// # Panics
    /// When the runtime fails.
    #[track_caller]
    pub fn launch(&self, bundle: &Bundle) {
        self.create(bundle);
        self.start(bundle);
    }

    /// Puts `exec ID COMMAND…` together.
    pub fn exec<A: AsRef<std::ffi::OsStr>>(
        &self,
        bundle: &Bundle,
        command: impl IntoIterator<Item = A>,
    ) -> Run {
        self.runtime().arg("exec").arg(bundle.id()).args(command)
    }

    /// Sends a signal, by name or number, to a container.
    ///
    /// # Panics
    /// When the runtime fails.
    #[track_caller]
    pub fn kill(&self, bundle: &Bundle, signal: &str) {
        self.runtime().arg("kill").arg(bundle.id()).arg(signal).output().succeeds();
    }

    /// Deletes a container that has stopped.
    ///
    /// # Panics
    /// When the runtime fails.
    #[track_caller]
    pub fn delete(&self, bundle: &Bundle) {
        self.runtime().arg("delete").arg(bundle.id()).output().succeeds();
    }

    /// Returns what `state` prints.
    ///
    /// # Panics
    /// When the runtime fails or prints no JSON.
    #[track_caller]
    pub fn state(&self, bundle: &Bundle) -> Value {
        self.runtime().arg("state").arg(bundle.id()).output().succeeds().json()
    }

    /// Returns the status that `state` prints, such as `running`.
    ///
    /// # Panics
    /// When the runtime fails or prints no JSON.
    #[track_caller]
    pub fn status(&self, bundle: &Bundle) -> String {
        self.state(bundle)["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the pid that `state` prints.
    ///
    /// # Panics
    /// When the runtime fails or prints no JSON.
    #[track_caller]
    pub fn pid(&self, bundle: &Bundle) -> i32 {
        self.state(bundle)["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default()
    }

    /// Waits until a container has this status.
    ///
    /// # Panics
    /// When it takes longer than 10 s.
    #[track_caller]
    pub fn wait_for_status(&self, bundle: &Bundle, status: &str) {
        wait_until(&format!("{} is {status}", bundle.id()), || self.status(bundle) == status);
    }

    /// Waits for a process that was orphaned to the test, such as the init of a container that was created, and
    /// returns how it ended. Works once for each.
    ///
    /// # Panics
    /// When it takes longer than 10 s.
    #[track_caller]
    pub fn wait_for_exit(&self, pid: i32) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("process {pid} has ended"), || {
            status = process::orphan_status(pid);
            status.is_some()
        });
        status.unwrap_or_default()
    }

    /// Lists where a cgroup of this path, such as [`Bundle::cgroups_path`], exists.
    pub fn cgroups(&self, path: &str) -> Vec<PathBuf> {
        let path = path.trim_start_matches('/');
        let everywhere = cgroups::hierarchies().into_iter().map(|hierarchy| hierarchy.join(path));
        everywhere.filter(|cgroup| cgroup.is_dir()).collect()
    }

    /// Lists what is there of the sandbox's containers, after the kernel had time to finish what has ended.
    ///
    /// With all containers deleted that is a leak; while one runs, it is part of the list.
    pub fn leaks(&self) -> Vec<Leak> {
        let end = Instant::now() + self.settle;
        loop {
            let leaks = leak::find(&self.place.name, &self.place.directory);
            if leaks.is_empty() || Instant::now() > end {
                return leaks;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Describes the processes that belong to the sandbox and run.
    pub(crate) fn processes(&self) -> Vec<String> {
        process::reap_orphans();
        let describe = |(process, evidence): (process::Process, String)| {
            format!("{} ({}): {evidence}", process.pid, process.name)
        };
        leak::processes(&self.place.name).into_iter().map(describe).collect()
    }

    /// Removes by force whatever containers left, so that the next begins as if it were the first.
    pub(crate) fn purge(&self) {
        let leaks = leak::find(&self.place.name, &self.place.directory);
        if !leaks.is_empty() {
            force_out(&self.place.name, &self.place.directory);
            for leak in leaks {
                if let Leak::File(path) = leak {
                    // Whichever of the two it is not refuses.
                    drop(fs::remove_dir_all(&path));
                    drop(fs::remove_file(&path));
                }
            }
        }
        let captures = fs::read_dir(self.place.directory.join(CAPTURES)).into_iter().flatten().flatten();
        captures.for_each(|capture| drop(fs::remove_file(capture.path())));
    }

    /// Deletes all containers with `delete --force`; what the runtime says is of interest only if something is left.
    fn delete_containers(&self) -> Vec<Output> {
        let entries = fs::read_dir(self.state_directory()).into_iter().flatten().flatten();
        let containers = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let delete = |id: OsString| {
            let run = self.runtime().faults(None).args(["delete", "--force"]).arg(id);
            run.spawn().wait_or_kill().unwrap_or_else(|killed| killed)
        };
        containers.map(|entry| delete(entry.file_name())).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let fails_anyway = thread::panicking();
        let deletions = if self.runtime.exists() { self.delete_containers() } else { Vec::new() };
        let leaks = self.leaks();
        force_out(&self.place.name, &self.place.directory);
        if leaks.is_empty() {
            return;
        }
        let mut report = format!("{} left something behind:\n", self.place.name);
        for leak in &leaks {
            report.push_str(&format!("  {leak}\n"));
        }
        for deletion in deletions {
            report.push_str(&format!("{deletion}\n"));
        }
        assert!(fails_anyway, "{report}");
        eprintln!("{report}");
    }
}

/// Says, for tests in an emulated machine, by what everything takes longer there.
const SLOWNESS: &str = "BULKHEAD_SLOWNESS";

/// By what this machine is slower than others, where somebody has said so (`BULKHEAD_SLOWNESS`); 1 elsewhere.
pub fn slowness() -> u32 {
    std::env::var(SLOWNESS).ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Waits until a condition holds, and fails the test after 10 s, longer on a machine that is known to be slow
/// (`BULKHEAD_SLOWNESS`), with what was waited for.
///
/// # Panics
/// When the condition does not hold in time.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let slowness = slowness();
    let end = Instant::now() + Duration::from_secs(10) * slowness;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
