//! What is measured: everything that can run a program behind some wall, or behind none.
//!
//! A platform is a row of [`KINDS`], which says how it is called and what it does otherwise than the rest, and an
//! [`Adapter`], which says how it is told to run something. One sandbox on a platform is a [`Seat`]:
//!
//! 1. [`Platform::prepare`] writes what the platform reads: for an OCI runtime, the bundle.
//! 2. [`Platform::run`] is the command that makes the sandbox, runs the program in it to its end, and removes it; its
//!    standard streams are the program's.
//! 3. While it runs, [`Platform::exec`] starts another program in it, and [`Platform::step`] pauses and resumes it.
//!    [`Platform::create`] and then the steps start, kill and delete do what `run` does in pieces.
//! 4. [`Step::Purge`] ends a sandbox and removes what is left of it, whatever happened.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bundle::Limits;
use crate::error::{Doing as _, Error};
use crate::plan::{AGAIN, BARE};
use crate::record::Measured;
use crate::stats::Failure;

mod bare;
mod bubblewrap;
mod bulkhead;
mod charliecloud;
mod daemon;
mod docker;
mod engine;
pub mod find;
mod nspawn;
mod oci;
mod podman;

pub(crate) use daemon::are_all_made_by;
pub use find::version;

/// Where programs begin: a directory that they may write to, on the same file system everywhere. Some platforms have a
/// file system in memory at /tmp.
pub(crate) const WORKING_DIRECTORY: &str = "/root";

/// One kind of platform.
#[derive(Debug)]
pub struct Kind {
    /// By which it is chosen.
    pub name: &'static str,
    /// The program's name; none where this program does the work itself.
    pub program: Option<&'static str>,
    /// A sentence for those who do not have it.
    pub get: &'static str,
    /// What it does not do like the others, a sentence each.
    pub differences: &'static [&'static str],
    adapter: &'static dyn Adapter,
}

/// How a platform is told to run something.
trait Adapter: std::fmt::Debug + Sync {
    /// Writes what the platform reads before it runs `arguments` on `seat`.
    fn prepare(&self, _program: &Path, _seat: &Seat, _arguments: &[String]) -> Result<(), Error> {
        Ok(())
    }

    /// Whether [`Seat::limits`] mean something to it.
    fn has_limits(&self) -> bool {
        false
    }

    /// Whether nothing of a sandbox is left when its processes, its cgroup and the state directory are gone.
    fn is_local(&self) -> bool {
        true
    }

    /// Whether a daemon makes its sandboxes.
    fn has_daemon(&self) -> bool {
        false
    }

    /// The processes that make its sandboxes and are there already; none where its program does that.
    fn makers(&self, _program: &Path) -> Result<Vec<u32>, Failure> {
        Ok(Vec::new())
    }

    /// Where a daemon keeps the files of sandboxes.
    fn files(&self, _program: &Path) -> Result<PathBuf, Failure> {
        Err(Failure("it has no daemon that keeps files".to_owned()))
    }

    /// Why it cannot be measured now, although its program is there.
    fn obstacle(&self, _program: &Path) -> Option<String> {
        None
    }

    /// Runs it in the foreground.
    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command;

    /// Runs something else in the sandbox that is there.
    fn exec(&self, _program: &Path, _seat: &Seat, _arguments: &[String]) -> Option<Command> {
        None
    }

    /// Makes a sandbox for `arguments`, which wait for [`Step::Start`].
    fn create(&self, _program: &Path, _seat: &Seat, _arguments: &[String]) -> Option<Command> {
        None
    }

    /// Tells what a created sandbox has printed, where that does not come from who created it.
    fn printed(&self, _program: &Path, _seat: &Seat) -> Option<Command> {
        None
    }

    /// One step in the life of a sandbox.
    fn step(&self, _program: &Path, _seat: &Seat, _step: Step) -> Option<Command> {
        None
    }
}

/// What can be done to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let its program begin.
    Start,
    /// Let no process of it run.
    Pause,
    /// Let them run again.
    Resume,
    /// Send SIGKILL to its first process.
    Kill,
    /// Remove what is left.
    Delete,
    /// End it and remove what is left; also where nothing is left.
    Purge,
}

/// Where one sandbox lives: names and directories that no other has.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Unique on the machine.
    pub id: String,
    /// The root of the file system, shared by all.
    pub root: PathBuf,
    /// For the bundle.
    pub bundle: PathBuf,
    /// For what the platform remembers.
    pub state: PathBuf,
    /// As `cgroupsPath` has it; None for a user who makes no cgroups.
    pub cgroup: Option<String>,
    /// What the sandbox may use, where the platform knows limits; None for no limits at all.
    pub limits: Option<Limits>,
}

/// A platform that is there.
#[derive(Clone, Debug)]
pub struct Platform {
    /// As the plan and the report call it.
    pub name: String,
    /// What it is.
    pub kind: &'static Kind,
    /// The program; empty where there is none.
    pub program: PathBuf,
    /// What the program says of itself; empty where it says nothing.
    pub version: String,
    /// SHA-256 of the program, hexadecimal; empty where there is none.
    pub sha256: String,
}

/// gVisor's runtime, of which one more thing is to be known: how it catches system calls.
const RUNSC: &str = "runsc";

/// The engine of this project, which brings more programs along.
const BULKHEAD: &str = "bulkhead";

/// Every kind, in the order of the report.
pub const KINDS: &[Kind] = &[
    Kind {
        name: BARE,
        program: None,
        get: "it is always there",
        differences: &["no wall, no limits, no filter: what the others are compared with"],
        adapter: &bare::Bare,
    },
    Kind {
        name: "chroot",
        program: Some("chroot"),
        get: "it belongs to every system's coreutils",
        differences: &["only another root: no namespaces, no limits, no filter"],
        adapter: &bare::Chroot,
    },
    Kind {
        name: "bulkrun",
        program: Some("bulkrun"),
        get: "cargo xtask build says where it is, then --platforms bulkrun=PATH",
        differences: &[],
        adapter: &oci::PLAIN,
    },
    Kind {
        name: "crun",
        program: Some("crun"),
        get: "cargo xtask peers, or the package crun",
        differences: &[],
        adapter: &oci::PLAIN,
    },
    Kind {
        name: "runc",
        program: Some("runc"),
        get: "cargo xtask peers, or the package runc",
        differences: &[],
        adapter: &oci::PLAIN,
    },
    Kind {
        name: "youki",
        program: Some("youki"),
        get: "cargo xtask peers --youki",
        differences: &[],
        adapter: &oci::PLAIN,
    },
    Kind {
        name: RUNSC,
        program: Some("runsc"),
        get: "cargo xtask peers, or the package runsc",
        differences: &[
            "a kernel of its own answers the program, so that the filter of the bundle is not what guards the host",
            "no network but its own loopback",
            "a limit that is met ends the whole sandbox: the threads and the memory of its kernel count, too, and that \
             cannot do without",
        ],
        adapter: &oci::Oci { global: &["--network=none"], last_words: Some("--panic-log") },
    },
    Kind {
        name: "charliecloud",
        program: Some("ch-run"),
        get: "cargo xtask peers, or the package charliecloud-runtime",
        differences: &[
            "user and mount namespaces only: the host's network and processes, no limits, no filter",
        ],
        adapter: &charliecloud::Charliecloud,
    },
    Kind {
        name: "bubblewrap",
        program: Some("bwrap"),
        get: "cargo xtask peers, or the package bubblewrap",
        differences: &["every namespace, but no limits and no filter"],
        adapter: &bubblewrap::Bubblewrap,
    },
    Kind {
        name: "nspawn",
        program: Some("systemd-nspawn"),
        get: "the package systemd-container",
        differences: &["its own filter and capabilities, and no limits"],
        adapter: &nspawn::Nspawn,
    },
    Kind {
        name: BULKHEAD,
        program: Some("bulkhead"),
        get: "it is this program; bulkrun and bulkmon must be beside it, as cargo xtask build puts them",
        differences: &[
            "an engine: a runtime and a monitor work for it, on an image of the root under an overlay",
        ],
        adapter: &bulkhead::Bulkhead,
    },
    Kind {
        name: "podman",
        program: Some("podman"),
        get: "cargo xtask peers, or the package podman",
        differences: &[
            "an engine: a runtime, runc where cgroups are of both versions, and a monitor work for it",
            "its own filter; what the monitor still does when podman has ended is not in its times",
        ],
        adapter: &podman::Podman,
    },
    Kind {
        name: "docker",
        program: Some("docker"),
        get: "the package docker.io; its daemon must run, DOCKER_HOST says where",
        differences: &[
            "an engine: its daemon, containerd and a monitor work elsewhere; what these take meanwhile, whomever they serve, is in its \
             CPU times, its memory and its footprints",
            "where it takes part, no platform weighs more than the machine's other work",
            "its own filter, and an image of the root under an overlay",
        ],
        adapter: &docker::Docker,
    },
];

/// What a program that is no kind of ours is taken for.
static FOREIGN: Kind = Kind {
    name: "OCI runtime",
    program: None,
    get: "--platforms name=path",
    differences: &[],
    adapter: &oci::PLAIN,
};

/// Whether what is called so in a journal is known to give sandboxes neither limits nor a share of their own.
pub(crate) fn is_undivided(name: &str) -> bool {
    name == AGAIN || KINDS.iter().any(|kind| kind.name == name && !kind.adapter.has_limits())
}

impl Platform {
    /// The same platform under the second name of the plan's A/A test.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { name: AGAIN.to_owned(), ..self.clone() }
    }

    /// For the journal.
    pub fn measured(&self) -> Measured {
        let mut differences =
            Vec::from_iter(self.kind.differences.iter().map(|sentence| (*sentence).to_owned()));
        if self.kind.name == RUNSC {
            let keeps = "since 2023 what it writes stays in a file that it maps, and syncing reaches no disk";
            let is_older = find::year(&self.version).is_some_and(|year| year < 2023);
            differences.extend((!is_older).then(|| keeps.to_owned()));
            let way = find::gvisor_platform(&self.program);
            differences.extend(way.map(|way| {
                format!("it catches system calls by its platform {way}, the default of this version")
            }));
        }
        differences.extend((self.kind.name == BULKHEAD).then(|| bulkhead::brings(&self.program)).flatten());
        let Self { name, version, sha256, .. } = self.clone();
        Measured { name, version, sha256, differences }
    }

    /// Whether containers of it are made in cgroups, which takes root.
    pub fn needs_root(&self) -> bool {
        !matches!(self.kind.name, BARE | "bubblewrap" | "charliecloud")
    }

    /// Whether it gives a sandbox the limits of its seat.
    pub fn has_limits(&self) -> bool {
        self.kind.adapter.has_limits()
    }

    /// Whether nothing of a sandbox is left when its processes, its cgroup and the state directory are gone.
    pub(crate) fn is_local(&self) -> bool {
        self.kind.adapter.is_local()
    }

    /// Whether a daemon makes its sandboxes, which works elsewhere.
    pub(crate) fn has_daemon(&self) -> bool {
        self.kind.adapter.has_daemon()
    }

    /// Where its daemon keeps what sandboxes write.
    pub(crate) fn files(&self) -> Result<PathBuf, Failure> {
        self.kind.adapter.files(&self.program)
    }

    /// The processes that make its sandboxes and are there already, an engine's daemons; none where its program does that.
    pub(crate) fn makers(&self) -> Result<Vec<u32>, Failure> {
        self.kind.adapter.makers(&self.program)
    }

    /// Why it cannot be measured now, although its program is there: an engine whose daemon does not answer.
    pub fn obstacle(&self) -> Option<String> {
        self.kind.adapter.obstacle(&self.program)
    }

    /// Writes what the platform reads before it runs `arguments` on `seat`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn prepare(&self, seat: &Seat, arguments: &[String]) -> Result<(), Error> {
        self.kind.adapter.prepare(&self.program, seat, arguments)
    }

    /// The command that runs `arguments` on `seat`, for which it was prepared, in the foreground.
    pub fn run(&self, seat: &Seat, arguments: &[String]) -> Command {
        self.kind.adapter.run(&self.program, seat, arguments)
    }

    /// The command that runs `arguments` in the sandbox that is on `seat`; None where the platform has none.
    pub fn exec(&self, seat: &Seat, arguments: &[String]) -> Option<Command> {
        self.kind.adapter.exec(&self.program, seat, arguments)
    }

    /// The command that makes a sandbox for `arguments` on `seat`, for which it was prepared; None where the platform has only
    /// whole runs.
    pub fn create(&self, seat: &Seat, arguments: &[String]) -> Option<Command> {
        self.kind.adapter.create(&self.program, seat, arguments)
    }

    /// The command that tells what a created sandbox has printed; None where its output is that of who created it.
    pub fn printed(&self, seat: &Seat) -> Option<Command> {
        self.kind.adapter.printed(&self.program, seat)
    }

    /// The command that takes one step; None where the platform has none.
    pub fn step(&self, seat: &Seat, step: Step) -> Option<Command> {
        self.kind.adapter.step(&self.program, seat, step)
    }
}

/// In a platform's state directory: the command that removes what the platform keeps elsewhere for its sandboxes, a word
/// a line.
const LEAVE: &str = "leave";

/// The command that is to be run before the state directory is removed, if there is one.
pub(crate) fn leaving(state: &Path) -> Option<Command> {
    let text = std::fs::read_to_string(state.join(LEAVE)).ok()?;
    let mut words = text.lines();
    let mut command = Command::new("timeout");
    command.arg("60").arg(words.next()?).args(words).stdin(Stdio::null());
    Some(command)
}

impl Seat {
    /// Has `words` run when nothing more is measured, also after this process was killed. Tells whether that is news.
    fn leave(&self, words: &[&OsStr]) -> Result<bool, Error> {
        let place = self.state.join(LEAVE);
        let mut text = Vec::from_iter(words.iter().map(|word| word.as_bytes())).join(&b'\n');
        text.push(b'\n');
        match OpenOptions::new().write(true).create_new(true).open(&place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            file => {
                file.and_then(|mut file| file.write_all(&text))
                    .doing(|| format!("write {}", place.display()))?;
                Ok(true)
            }
        }
    }

    /// Takes [`Seat::leave`] back.
    fn stay(&self) -> Result<(), Error> {
        let place = self.state.join(LEAVE);
        std::fs::remove_file(&place).doing(|| format!("remove {}", place.display()))
    }

    /// Where what runs on it complains.
    pub(crate) fn complaints(&self) -> PathBuf {
        self.bundle.join("complaints")
    }

    /// The path of the root that programs take for `/`, on the host.
    pub(crate) fn on_host(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
