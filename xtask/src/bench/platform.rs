//! What takes part: runtimes that all understand the same command line, and the floor.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use bulkhead_measure::bundle::Limits;
use bulkhead_measure::cgroups;
use bulkhead_measure::claim::{self, Claim};
use bulkhead_measure::platform::{self, Platform, Seat, Step};
use bulkhead_seccomp::NATIVE;
use bulkhead_spec::Config;

use super::memory::Memory;
use super::yardstick;
use crate::peers::{self, Peer};
use crate::{invoke, shipped};

/// What each container may use.
const LIMITS: Limits = Limits { memory: 512 << 20, milli_cpus: 1000, tasks: 512 };

/// What is run in each.
const PROGRAM: &str = "/bin/true";

/// The name of our own runtime.
const OURS: &str = "bulkrun";

/// The name of what only does what must be done.
const FLOOR: &str = "floor";

/// Begins the name of the directory, and of every cgroup.
pub(super) const PREFIX: &str = "bh-bench-";

/// One that takes part, with a bundle of its own.
pub(super) struct Contestant {
    pub(super) platform: Platform,
    seat: Seat,
    /// The command that runs the container once, to the end.
    pub(super) run: Vec<OsString>,
}

/// Everything below one directory, removed at the end.
pub(super) struct Contestants {
    pub(super) all: Vec<Contestant>,
    claim: Claim,
    /// Where bundles and runtimes' state are.
    seats: PathBuf,
}

impl Contestants {
    /// Builds ours, fetches the peers, and gives each a bundle. `only` names those wanted, all when empty.
    ///
    /// What a benchmark left that was killed is removed before.
    pub(super) fn make(only: &[String]) -> Result<Self> {
        Self::make_with(only, None)
    }

    /// The same, with bundles and state in memory.
    pub(super) fn make_in_memory(only: &[String], memory: &Memory) -> Result<Self> {
        Self::make_with(only, Some(memory.path()))
    }

    fn make_with(only: &[String], seats: Option<&Path>) -> Result<Self> {
        let place = std::env::temp_dir();
        for abandoned in claim::abandoned(&place, PREFIX)? {
            // Another one's runtime has no part in this: what is left of a container is a directory and its cgroups.
            let cgroups = cgroups::named_after(abandoned.name());
            cgroups.iter().for_each(|cgroup| cgroups::remove_all(cgroup));
            abandoned.remove()?;
        }
        let claim = Claim::make(&place, PREFIX)?;
        let seats = seats.unwrap_or_else(|| claim.path()).to_owned();
        let mut made = Self { all: Vec::new(), claim, seats };
        make_image(&made.image())?;
        let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
        if wanted(FLOOR) {
            made.add_floor()?;
        }
        let mut runtimes = Vec::new();
        if wanted(OURS) {
            runtimes.push(Peer { name: OURS.to_owned(), program: shipped::build(&shipped::BULKRUN)? });
        }
        if only.is_empty() || !only.iter().all(|part| "floor bulkrun".contains(part.as_str())) {
            runtimes.extend(peers::all()?.into_iter().filter(|peer| wanted(&peer.name)));
        }
        for Peer { name, program } in runtimes {
            let mut made_one = made.prepared(&name, &program)?;
            let run = made_one.platform.run(&made_one.seat, &[]);
            made_one.run = words(&run);
            made.all.push(made_one);
        }
        Ok(made)
    }

    pub(super) fn directory(&self) -> &Path {
        self.claim.path()
    }

    /// Our own program, if it takes part.
    pub(super) fn program(&self) -> Option<&Path> {
        let ours = self.all.iter().find(|contestant| contestant.platform.name == OURS)?;
        Some(&ours.platform.program)
    }

    /// The name that its directory and all cgroups begin with.
    pub(super) fn claimed(&self) -> String {
        self.claim.name().to_owned()
    }

    /// The root of all containers.
    pub(super) fn image(&self) -> PathBuf {
        self.directory().join("image")
    }

    /// With a bundle, but without a command.
    fn prepared(&self, name: &str, program: &Path) -> Result<Contestant> {
        let id = format!("{}-{}", self.claim.name(), self.all.len());
        let bundle = self.seats.join(&id);
        let state = bundle.join("state");
        fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
        let chosen = platform::find::chosen(&[format!("{name}={}", program.display())])?;
        let platform = chosen.into_iter().next().with_context(|| format!("find {name}"))?;
        let cgroup = Some(format!("/{id}"));
        let seat = Seat { id, root: self.image(), bundle, state, cgroup, limits: None };
        let mut contestant = Contestant { platform, seat, run: Vec::new() };
        contestant.limit(LIMITS.memory)?;
        Ok(contestant)
    }

    /// It is told what it needs in words, and has the others' configuration to read.
    fn add_floor(&mut self) -> Result<()> {
        let program = yardstick::compile(FLOOR, self.directory())?;
        let mut floor = self.prepared(FLOOR, &program)?;
        let Seat { id, root, bundle, state, .. } = &floor.seat;
        let config = bundle.join("config.json");
        let text = fs::read_to_string(&config).with_context(|| format!("read {}", config.display()))?;
        let filter = bundle.join("filter.bpf");
        fs::write(&filter, filter_bytes(&Config::from_json(&text)?)?).context("write the floor's filter")?;
        let mut run = vec![program.into_os_string(), root.into(), id.into(), filter.into()];
        run.extend([config.into(), state.into()]);
        run.extend(cgroups::hierarchies().into_iter().map(OsString::from));
        floor.run = run;
        self.all.push(floor);
        Ok(())
    }
}

impl Drop for Contestants {
    fn drop(&mut self) {
        self.all.iter().for_each(Contestant::clean_up);
        // An engine leaves mounts.
        if let Err(error) = self.claim.remove() {
            eprintln!("{error:#}");
        }
    }
}

impl Contestant {
    /// Whether it can do nothing but run.
    pub(super) fn is_floor(&self) -> bool {
        self.platform.name == FLOOR
    }

    /// Writes its bundle, with this limit of memory, bytes.
    pub(super) fn limit(&mut self, memory: i64) -> Result<()> {
        self.seat.limits = Some(Limits { memory, ..LIMITS });
        Ok(self.platform.prepare(&self.seat, &[PROGRAM.to_owned()])?)
    }

    /// Takes the limit of memory back.
    pub(super) fn relax(&mut self) -> Result<()> {
        self.limit(LIMITS.memory)
    }

    /// Removes whatever a failed run left, so that the next one meets a clean machine.
    pub(super) fn clean_up(&self) {
        if !self.is_floor()
            && let Some(purge) = self.platform.step(&self.seat, Step::Purge)
        {
            // Where there is nothing to delete this fails, as it should.
            drop(invoke::quietly(Command::new("timeout").arg("10").args(words(&purge))));
        }
        cgroups::remove_all(&self.seat.id);
    }

    /// Creates the container and deletes it; tells whether that worked.
    pub(super) fn creates(&self) -> bool {
        let Some(create) = self.platform.create(&self.seat, &[PROGRAM.to_owned()]) else { return false };
        // The container inherits these: with a pipe, waiting for its end would never end.
        let null = Stdio::null;
        let mut patient = Command::new("timeout");
        patient.arg("10").args(words(&create)).stdin(null()).stdout(null()).stderr(null());
        let succeeded = patient.status().is_ok_and(|status| status.success());
        self.clean_up();
        succeeded
    }
}

fn words(command: &Command) -> Vec<OsString> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsString::from).collect()
}

/// The filter as an array of `struct sock_filter`.
fn filter_bytes(config: &Config) -> Result<Vec<u8>> {
    let profile =
        config.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()).context("find the filter")?;
    let program = bulkhead_seccomp::compile(profile, NATIVE).context("compile the filter")?;
    let mut bytes = Vec::with_capacity(program.instructions.len() * 8);
    for instruction in program.instructions {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

/// A static busybox and the directories that mounts need.
fn make_image(image: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(image.join(directory)).context("make the image")?;
    }
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = places.into_iter().find(|place| place.exists());
    let busybox = busybox.context("busybox is missing: apt-get install busybox-static")?;
    fs::copy(busybox, image.join("bin/busybox")).context("copy busybox")?;
    symlink("busybox", image.join("bin/true")).context("link true")
}
