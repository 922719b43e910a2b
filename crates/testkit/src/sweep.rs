//! Every system call of a command is made its last, then fails: what is left afterwards?
//!
//! A [`Sweep`] is one verb of the runtime on one ground. A first run tells its calls; each [`Sweep::inject`] then sets
//! the scene anew, lets one call of the verb go wrong, and holds the runtime to its promises:
//!
//! - A command that is killed leaves only what `delete --force` removes.
//! - A command that meets an error either succeeds, and the container works, or fails with one sentence. A failed
//!   `create` or `run` has taken back everything itself, a failed `exec` has left no process.
//! - Nothing hangs or panics.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

use rustix::io::Errno;

use crate::bundle::Bundle;
use crate::injection::{self, Seen};
use crate::run::{Output, Run};
use crate::sandbox::Sandbox;
use crate::{calls, leak};

pub use crate::injection::{Fault, Place};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long what a command set in motion may take.
const SETTLE: Duration = Duration::from_secs(5);

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `create`.
    Create,
    /// `start` of a created container, whose waiting process is process 1.
    Start,
    /// `run` in the foreground.
    Run,
    /// `exec` in a running container.
    Exec,
    /// `delete` of a stopped container.
    Delete,
    /// `delete --force` of a running container.
    ForcedDelete,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Verb; 6] =
        [Verb::Create, Verb::Start, Verb::Run, Verb::Exec, Verb::Delete, Verb::ForcedDelete];

    /// Returns the name by which a verb is chosen.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Start => "start",
            Verb::Run => "run",
            Verb::Exec => "exec",
            Verb::Delete => "delete",
            Verb::ForcedDelete => "delete-force",
        }
    }
}

/// Who the runtime is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Root, who makes cgroups.
    Root,
    /// An ordinary user, who may not.
    Rootless,
}

impl Ground {
    /// All grounds.
    pub const ALL: [Ground; 2] = [Ground::Root, Ground::Rootless];

    /// Returns the name by which a ground is chosen.
    pub fn name(self) -> &'static str {
        match self {
            Ground::Root => "root",
            Ground::Rootless => "rootless",
        }
    }
}

/// What came of an injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All promises were kept; the text tells how the command ended.
    Held(String),
    /// The fault makes no sense there, for this reason.
    Skipped(&'static str),
    /// The command did not come to this call this time.
    NotReached,
    /// A promise was broken.
    Violated(String),
}

/// One verb on one ground.
#[derive(Debug)]
pub struct Sweep {
    verb: Verb,
    sandbox: Sandbox,
    bundle: Bundle,
}

impl Sweep {
    /// Prepares a sweep of a runtime, in a sandbox of its own.
    ///
    /// # Panics
    /// As [`Sandbox::new`]; it takes root on any ground.
    #[track_caller]
    pub fn new(runtime: &Path, verb: Verb, ground: Ground) -> Sweep {
        let sandbox = match ground {
            Ground::Root => Sandbox::new(runtime),
            Ground::Rootless => Sandbox::new(runtime).as_user(1000, 1000),
        };
        let script = match verb {
            Verb::Exec | Verb::ForcedDelete => "exec sleep 1000",
            _ => "echo works > /tmp/works",
        };
        let bundle = sandbox.bundle("victim").script(script);
        // A filter, so that its calls are swept too.
        let bundle = bundle.seccomp(serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }],
        }));
        Sweep { verb, sandbox, bundle }
    }

    /// Lists the calls of the verb, by a run without a fault, which must succeed.
    ///
    /// # Errors
    /// What went wrong although nothing was made to.
    pub fn calls(&self) -> Result<Vec<Place>, String> {
        let (output, seen) = self.perform(None)?;
        let result = self.judge(&output, None).and_then(|_| self.clean_up());
        self.sandbox.purge();
        result.map(|()| seen.calls)
    }

    /// Makes one call of the verb go wrong.
    pub fn inject(&self, place: Place, fault: Fault) -> Outcome {
        if let Some(reason) = pointless(place.number, fault) {
            return Outcome::Skipped(reason);
        }
        let outcome = match self.perform(Some((place, fault))) {
            Err(reason) => Outcome::Violated(reason),
            Ok((output, Seen { hit, .. })) => {
                let fault = hit.map(|hit| (hit, fault));
                match self.judge(&output, fault).and_then(|how| self.clean_up().map(|()| how)) {
                    Err(reason) => Outcome::Violated(format!("{reason}\n{output}")),
                    Ok(_) if hit.is_none() => Outcome::NotReached,
                    Ok(how) => Outcome::Held(how),
                }
            }
        };
        self.sandbox.purge();
        outcome
    }

    /// Sets the scene and runs the verb.
    fn perform(&self, fault: Option<(Place, Fault)>) -> Result<(Output, Seen), String> {
        drop(fs::remove_file(self.proof()));
        let guests = self.set_scene()?;
        let run = self.sandbox.runtime_through(&injection::WAITING).timeout(LIMIT);
        // A library path, such as cargo's, would make the dynamic linker try hundreds of calls.
        let run = run.env("RUST_BACKTRACE", "0").env("LD_LIBRARY_PATH", "");
        let run = match self.verb {
            Verb::Create | Verb::Run => {
                run.arg(self.verb.name()).arg("--bundle").arg(self.bundle.directory())
            }
            Verb::Start | Verb::Exec | Verb::Delete => run.arg(self.verb.name()),
            Verb::ForcedDelete => run.args(["delete", "--force"]),
        };
        let run = run.arg(self.bundle.id());
        let run = match self.verb {
            Verb::Exec => run.args(["sh", "-c", "echo works > /tmp/works"]),
            _ => run,
        };
        let (output, seen) = injection::run(run, &guests, fault);
        match output {
            Ok(output) => Ok((output, seen)),
            Err(output) => Err(format!("it hangs\n{output}")),
        }
    }

    /// Makes the container that the verb wants; returns the processes that it sets in motion.
    fn set_scene(&self) -> Result<Vec<i32>, String> {
        let pid_file = self.bundle.directory().join("pid");
        let make = |run: Run| -> Result<i32, String> {
            let bundle = self.bundle.directory();
            let output =
                run.arg("--pid-file").arg(&pid_file).arg("--bundle").arg(bundle).arg(self.bundle.id());
            succeed(output)?;
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            text.trim().parse().map_err(|_| format!("the pid file has {text:?}"))
        };
        match self.verb {
            Verb::Create | Verb::Run => Ok(Vec::new()),
            Verb::Start => Ok(vec![make(self.sandbox.runtime().arg("create"))?]),
            Verb::Exec | Verb::ForcedDelete => {
                make(self.sandbox.runtime().args(["run", "--detach"])).map(|_| Vec::new())
            }
            Verb::Delete => {
                make(self.sandbox.runtime().args(["run", "--detach"]))?;
                let stopped = || self.status().as_deref() == Ok("stopped");
                if settles(stopped) { Ok(Vec::new()) } else { Err("the container does not end".into()) }
            }
        }
    }

    /// Holds the verb to its promises; tells in a word how it ended.
    fn judge(&self, output: &Output, fault: Option<(Place, Fault)>) -> Result<String, String> {
        let aborted = output.status.code().is_none() && fault.is_some_and(|(place, _)| may_abort(place));
        if output.stderr.contains("panicked") && !aborted {
            return Err("it panics".into());
        }
        let code = output.code();
        let own_death = fault.is_some_and(|(place, fault)| place.process == 0 && fault == Fault::Kill);
        let other_death = fault.is_some_and(|(place, fault)| place.process > 0 && fault == Fault::Kill);
        if own_death {
            return if code == 137 {
                Ok("killed".into())
            } else {
                Err(format!("killed, it exits with {code}"))
            };
        }
        if code == 0 {
            // A container whose process was killed has an end like any other.
            if !other_death {
                self.check_success()?;
            }
            return Ok("succeeded".into());
        }
        let killed_program = other_death && code == 137;
        if output.status.code().is_none() && !aborted {
            return Err(format!("it dies of signal {}", code - 128));
        }
        if !killed_program && !aborted {
            check_sentence(&output.stderr)?;
        }
        if aborted {
            return Ok("aborted".into());
        }
        self.check_failure()?;
        Ok(if killed_program { "reported the kill".into() } else { "failed".into() })
    }

    /// After success.
    fn check_success(&self) -> Result<(), String> {
        match self.verb {
            Verb::Create => {
                let status = self.status()?;
                if status != "created" {
                    return Err(format!("after a success the container is {status}"));
                }
                succeed(self.sandbox.runtime().arg("start").arg(self.bundle.id()))?;
                self.check_proof()
            }
            Verb::Start => self.check_proof(),
            Verb::Run => self.check_proof().and_then(|()| self.check_leaks("a success")),
            Verb::Exec => {
                self.check_proof()?;
                self.check_alone()
            }
            Verb::Delete | Verb::ForcedDelete => self.check_leaks("a success"),
        }
    }

    /// After a failure that the command itself reported.
    fn check_failure(&self) -> Result<(), String> {
        match self.verb {
            Verb::Create | Verb::Run => self.check_leaks("its failure"),
            Verb::Exec => {
                let status = self.status()?;
                if status != "running" {
                    return Err(format!("after a failed exec the container is {status}"));
                }
                self.check_alone()
            }
            Verb::Start | Verb::Delete | Verb::ForcedDelete => Ok(()),
        }
    }

    /// The container's program did what it was to do.
    fn check_proof(&self) -> Result<(), String> {
        let works = || fs::read_to_string(self.proof()).is_ok_and(|text| text == "works\n");
        if settles(works) { Ok(()) } else { Err("it succeeds, but the program did not run".into()) }
    }

    /// Nothing of the sandbox runs but the container's first process.
    fn check_alone(&self) -> Result<(), String> {
        let mut processes = Vec::new();
        let alone = settles(|| {
            processes = self.sandbox.processes();
            processes.len() == 1
        });
        if alone { Ok(()) } else { Err(format!("beside the container's process, or instead: {processes:?}")) }
    }

    fn check_leaks(&self, after: &str) -> Result<(), String> {
        let leaks = self.sandbox.leaks();
        if leaks.is_empty() {
            return Ok(());
        }
        let leaks: Vec<String> = leaks.iter().map(leak::Leak::to_string).collect();
        Err(format!("after {after} there is left:\n  {}", leaks.join("\n  ")))
    }

    /// Whatever happened, `delete --force` removes all of it.
    fn clean_up(&self) -> Result<(), String> {
        succeed(self.sandbox.runtime().args(["delete", "--force"]).arg(self.bundle.id()))?;
        self.check_leaks("delete --force")
    }

    fn status(&self) -> Result<String, String> {
        let output = succeed(self.sandbox.runtime().arg("state").arg(self.bundle.id()))?;
        let state: serde_json::Value =
            serde_json::from_str(&output.stdout).map_err(|error| error.to_string())?;
        Ok(state["status"].as_str().unwrap_or_default().to_owned())
    }

    /// What the container's program writes.
    fn proof(&self) -> PathBuf {
        self.bundle.rootfs().join("tmp/works")
    }
}

fn succeed(run: Run) -> Result<Output, String> {
    match run.timeout(LIMIT).spawn().wait_or_kill() {
        Ok(output) if output.code() == 0 => Ok(output),
        Ok(output) => Err(format!("afterwards this fails:\n{output}")),
        Err(output) => Err(format!("afterwards this hangs:\n{output}")),
    }
}

fn settles(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + SETTLE;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// A failure is told in one line that says more than a name of an error.
fn check_sentence(stderr: &str) -> Result<(), String> {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.contains("level=warning")).collect();
    match lines[..] {
        [] => Err("it fails without a word".into()),
        [line] if line.split_whitespace().count() < 4 => Err("it fails with hardly a word".into()),
        [_] => Ok(()),
        _ => Err(format!("it fails with {} lines", lines.len())),
    }
}

/// Calls by which a program gets memory: allocation has no way to fail but to abort.
const MEMORY: [&str; 6] = ["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"];
/// Calls that never fail.
const SURE: [&str; 13] = [
    "clock_gettime",
    "exit",
    "exit_group",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "rt_sigreturn",
    "set_tid_address",
    "umask",
];
/// Calls before `main`, made by the language's start-up code, which aborts when they fail.
const EARLY: usize = 90;

/// Tells why a fault is not tried.
fn pointless(number: i64, fault: Fault) -> Option<&'static str> {
    let Fault::Error(errno) = fault else { return None };
    let name = calls::name(number)?;
    if SURE.contains(&name) {
        return Some("the call never fails");
    }
    if name == "close" {
        return Some(
            "close(2) gives the descriptor up even when it reports an error; not making it would keep it",
        );
    }
    (MEMORY.contains(&name) && errno != Errno::NOMEM).then_some("memory calls fail with ENOMEM only")
}

fn may_abort(place: Place) -> bool {
    let is_memory = calls::name(place.number).is_some_and(|name| MEMORY.contains(&name));
    is_memory || (place.process == 0 && place.call < EARLY)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill => f.write_str("KILL"),
            Fault::Error(errno) => {
                let known = Fault::ALL.iter().find(|(_, fault)| fault == self);
                match known {
                    Some((name, _)) => f.write_str(name),
                    None => write!(f, "errno {}", errno.raw_os_error()),
                }
            }
        }
    }
}

impl Fault {
    /// The faults of a sweep, by name.
    pub const ALL: [(&'static str, Fault); 5] = [
        ("KILL", Fault::Kill),
        ("ENOMEM", Fault::Error(Errno::NOMEM)),
        ("ENOSPC", Fault::Error(Errno::NOSPC)),
        ("EIO", Fault::Error(Errno::IO)),
        ("EINTR", Fault::Error(Errno::INTR)),
    ];
}
