//! Where everything is measured: one directory, one root for all platforms, one cgroup.
//!
//! What an earlier measurement left that was killed is removed first; a directory that another one uses is let alone.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::bundle::Limits;
use crate::cgroups::{self, Heavy, Weight};
use crate::claim::{self, Claim};
use crate::daemons::Daemons;
use crate::disk::Disk;
use crate::error::{Doing as _, Error};
use crate::guard::Guard;
use crate::machine::Ours;
use crate::platform::{self, Platform, Seat, Step, WORKING_DIRECTORY};
use crate::programs::{self, Brought};
use crate::record::OUT_OF_TIME;
use crate::started::{self, Input, Started};
use crate::stats::{Amount, Failure, Outcome};
use crate::{interference, interrupt, isolation};

/// Begins the name of the directory, and of every cgroup.
pub(crate) const PREFIX: &str = "bh-measure-";

/// The workload inside the root.
pub(crate) const WORKLOAD: &str = "/bin/bulkload";

/// The file that says which controllers were switched on for a measurement.
const SWITCHED_ON: &str = "controllers";

/// What mounts need.
const DIRECTORIES: &[&str] = &["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"];

/// A program that takes longer to end than its work should has hung.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// How many platforms' programs clear up at the same time.
const BATCH: usize = 16;

/// The directory, the root and the cgroup of a measurement; all of it is removed in the end.
#[derive(Debug)]
pub struct Arena {
    /// None for a user who may not make cgroups.
    heavy: Option<Heavy>,
    claim: Claim,
    /// What the heavy profile needs; None when nobody asked for that.
    brought: Option<Brought>,
    daemons: Daemons,
    /// When the run's time is over, if it is firm.
    end: Option<Instant>,
    /// Goes last: it waits for the claim.
    _guard: Option<Guard>,
}

impl Arena {
    /// Makes the root with the program `workload` in it, in the directory for temporary files, and as root the cgroup, which has this
    /// `weight` and which this process joins. `guard` is the program that takes everything away when this process is killed; without
    /// one the next measurement does.
    ///
    /// # Errors
    /// When something cannot be made, or the workload does not run where there is nothing else.
    pub fn make(workload: &Path, guard: Option<&Path>, weight: Weight) -> Result<Self, Error> {
        let place = std::env::temp_dir();
        for abandoned in claim::abandoned(&place, PREFIX)? {
            // It is no reason not to measure: the next one tries again.
            clear_away(&abandoned).unwrap_or_else(|error| complain(&error));
        }
        let claim = Claim::make(&place, PREFIX)?;
        // It must not be in the cgroup that it is to remove.
        let guard = guard.map(|program| Guard::post(program, claim.path())).transpose()?;
        let mut arena =
            Self { heavy: None, claim, brought: None, daemons: Daemons::default(), end: None, _guard: guard };
        for directory in DIRECTORIES {
            let path = arena.root().join(directory);
            fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
        }
        let inside = arena.workload();
        fs::copy(workload, &inside).doing(|| format!("copy {}", workload.display()))?;
        arena.try_workload(workload)?;
        if is_root() {
            let note = arena.claim.path().join(SWITCHED_ON);
            arena.heavy = Some(Heavy::make(arena.claim.name(), weight, &note)?);
        }
        Ok(arena)
    }

    /// Copies the programs of the heavy profile into the root, from `tree` or where there are most of them.
    ///
    /// # Errors
    /// For everyone but root, and when the root cannot be written.
    pub(crate) fn bring(&mut self, tree: Option<&Path>) -> Result<&Brought, Error> {
        if !is_root() {
            return Err(Error::Unusable(
                "the heavy profile takes root: its programs run in a root of their own, also the bare ones"
                    .to_owned(),
            ));
        }
        let brought = programs::bring(tree, &self.root(), &self.claim.path().join("complaints"))?;
        Ok(self.brought.insert(brought))
    }

    /// Finds the daemons that work for these platforms outside.
    pub(crate) fn beside(&mut self, platforms: &[Platform]) {
        self.daemons = Daemons::find(platforms, self.heavy.as_ref());
    }

    /// What works outside for platforms.
    pub(crate) fn daemons(&self) -> &Daemons {
        &self.daemons
    }

    /// Fails with the reason when one of these programs is not in the root.
    pub(crate) fn need(&self, programs: &[&str]) -> Result<(), Failure> {
        let brought = self.brought.as_ref();
        brought.ok_or_else(|| Failure("it is measured with --heavy only".to_owned()))?.need(programs)
    }

    /// What is to be told of the programs of the heavy profile.
    pub(crate) fn brought(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.brought.iter().flat_map(Brought::facts)
    }

    /// Unique on this machine.
    pub(crate) fn name(&self) -> &str {
        self.claim.name()
    }

    /// A directory that no sandbox has in its root.
    pub(crate) fn place(&self) -> &Path {
        self.claim.path()
    }

    /// The workload that every sandbox has in its root.
    pub(crate) fn workload(&self) -> PathBuf {
        self.root().join(WORKLOAD.trim_start_matches('/'))
    }

    /// The root of every sandbox's file system.
    pub fn root(&self) -> PathBuf {
        self.claim.path().join("root")
    }

    /// The cgroup, where there is one.
    pub(crate) fn heavy(&self) -> Option<&Heavy> {
        self.heavy.as_ref()
    }

    /// The CPU time that everything measured here had so far, with this process; None where no cgroup counts it.
    pub fn usage(&self) -> Option<Duration> {
        self.heavy.as_ref().and_then(Heavy::usage)
    }

    /// What everything measured here had of the machine so far, with this process and daemons.
    pub(crate) fn ours(&self) -> Ours {
        let stalls = self.heavy.as_ref().map_or([None; 2], Heavy::stalls);
        Ours { cpu: self.usage().map(|cpu| cpu + self.daemons.used()), stalls }
    }

    /// The CPU time that everything had so far that works for the platform, with this process.
    pub(crate) fn cpu(&self, platform: &Platform) -> Result<Duration, Failure> {
        let usage = self
            .usage()
            .ok_or_else(|| Failure("CPU time is counted by a cgroup, which takes root".to_owned()))?;
        Ok(usage + self.daemons.usage(platform)?)
    }

    /// The CPU time since `before`, milliseconds.
    pub(crate) fn cpu_since(&self, platform: &Platform, before: Result<Duration, Failure>) -> Outcome {
        taken(before?, self.cpu(platform)?)
    }

    /// Begins to look at the disk to which the platform's sandboxes write their files: a daemon has a place of its own for them.
    pub(crate) fn disk(&self, platform: &Platform) -> Result<Disk, Failure> {
        Disk::of(self.daemons.files(platform).unwrap_or_else(|| Ok(self.root()))?)
    }

    /// The place of one of the platform's sandboxes; `number` tells those apart that are there at the same time.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn seat(&self, platform: &Platform, number: usize) -> Result<Seat, Error> {
        let word = word(&platform.name);
        let id = format!("{}-{word}-{number}", self.claim.name());
        let directory = self.claim.path().join(format!("{word}-{number}"));
        // One place for all of a platform's sandboxes, as on a real machine.
        let state = self.claim.path().join(format!("{word}-state"));
        let bundle = directory.join("bundle");
        for path in [&bundle, &state] {
            fs::create_dir_all(path).doing(|| format!("make {}", path.display()))?;
        }
        let cgroup = self.heavy.as_ref().map(|heavy| heavy.child(&format!("{word}-{number}")));
        Ok(Seat { id, root: self.root(), bundle, state, cgroup, limits: Some(ample()) })
    }

    /// Ends what is on a seat and removes what is left of it; to be called when something failed.
    pub(crate) fn clear(&self, platform: &Platform, seat: &Seat) {
        if let Some(purge) = platform.step(seat, Step::Purge) {
            // Where there is nothing to remove this fails, as it should. An interruption must not stop it.
            drop(patient(&purge).status());
        }
        if let Some(heavy) = &self.heavy {
            heavy.remove_child(seat.cgroup.as_deref().unwrap_or_default());
        }
    }

    /// The same for many, several at a time. After an interruption nobody waits for a platform whose sandboxes are nothing but their
    /// processes and its state: both are removed with what is here.
    pub(crate) fn clear_all(&self, platform: &Platform, seats: &[Seat]) {
        let is_hasty = interrupt::check().is_err();
        if is_hasty && !seats.is_empty() {
            eprintln!("{} sandboxes of {} are ended", seats.len(), platform.name);
        }
        if !(is_hasty && platform.is_local()) {
            for batch in seats.chunks(BATCH) {
                let purges = batch.iter().filter_map(|seat| platform.step(seat, Step::Purge));
                let purges = Vec::from_iter(purges.filter_map(|purge| patient(&purge).spawn().ok()));
                purges.into_iter().for_each(|mut purge| drop(purge.wait()));
            }
        }
        if let Some(heavy) = &self.heavy {
            let cgroups = || seats.iter().map(|seat| seat.cgroup.as_deref().unwrap_or_default());
            heavy.kill_children(cgroups());
            cgroups().for_each(|cgroup| heavy.remove_child(cgroup));
        }
    }

    /// When a run that has a firm time ends, so that what takes long does not begin another part then.
    pub(crate) fn ends(&mut self, end: Instant) {
        self.end = Some(end);
    }

    /// Fails when the run's time is over.
    pub(crate) fn is_in_time(&self) -> Result<(), Failure> {
        match self.end {
            Some(end) if Instant::now() >= end => Err(Failure(OUT_OF_TIME.to_owned())),
            _ => Ok(()),
        }
    }

    fn try_workload(&self, workload: &Path) -> Result<(), Error> {
        let mut command = if is_root() {
            let mut command = Command::new("chroot");
            command.arg(self.root()).arg(WORKLOAD);
            command
        } else {
            Command::new(self.root().join(WORKLOAD.trim_start_matches('/')))
        };
        command.arg("ready");
        let log = self.claim.path().join("complaints");
        let tried = Started::begin(command, Input::Nothing, &log).and_then(|mut started| {
            started.first_byte(LIMIT)?;
            started.finish(LIMIT)
        });
        tried.map(drop).map_err(|Failure(reason)| {
            Error::Unusable(format!(
                "{} does not work in an empty root ({reason}); it must be the static program bulkload",
                workload.display()
            ))
        })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // First the processes, then what they use.
        self.heavy = None;
        leave(&self.claim);
        // What is not gone keeps its directory, by which the guard and the next measurement find it.
        let gone = all_is_gone(&self.claim).and_then(|()| self.claim.remove());
        gone.unwrap_or_else(|error| complain(&error));
    }
}

/// What was taken between these, milliseconds. A counter that went back is another one.
fn taken(before: Duration, now: Duration) -> Outcome {
    let taken = now.checked_sub(before);
    let taken = taken.ok_or_else(|| Failure("what counts CPU time began anew meanwhile".to_owned()))?;
    Amount::new(taken.as_secs_f64() * 1000.0)
}

/// What a platform is called in names of directories, cgroups and containers.
fn word(name: &str) -> String {
    name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
}

/// Two platforms whose sandboxes would have the same names, if there are any.
pub(crate) fn alike<'a>(names: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let mut pairs = names
        .iter()
        .enumerate()
        .flat_map(|(place, one)| names[place + 1..].iter().map(move |other| (*one, *other)));
    pairs.find(|(one, other)| word(one) == word(other))
}

/// The command with an end, of which nothing is heard.
fn patient(command: &Command) -> Command {
    let mut patient = Command::new("timeout");
    patient.arg("10").arg(command.get_program()).args(command.get_args());
    patient.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    patient.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    patient
}

fn complain(error: &Error) {
    eprintln!("{}", Failure::of(error));
}

fn all_is_gone(claim: &Claim) -> Result<(), Error> {
    let left = cgroups::left(claim.name());
    left.first().map_or(Ok(()), |cgroup| {
        Err(Error::Unusable(format!(
            "the cgroup {} cannot be removed, as a process in it does not end; the next measurement tries again",
            cgroup.display()
        )))
    })
}

/// Removes what platforms keep elsewhere.
fn leave(claim: &Claim) {
    let states = claim.path().read_dir().into_iter().flatten().flatten();
    let mut has_left = false;
    for mut leaving in states.filter_map(|entry| platform::leaving(&entry.path())) {
        has_left = true;
        let output = leaving.output();
        if let Some(output) = output.ok().filter(|output| !output.status.success()) {
            eprintln!("{leaving:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    if has_left {
        cgroups::remove_hidden(claim.name());
    }
}

/// Takes away what a measurement left that was killed.
pub(crate) fn clear_away(abandoned: &Claim) -> Result<(), Error> {
    cgroups::remove_all(abandoned.name());
    cgroups::switch_off(&abandoned.path().join(SWITCHED_ON));
    isolation::sweep(&abandoned.path().join("tracer"));
    interference::sweep(abandoned.name());
    leave(abandoned);
    all_is_gone(abandoned)?;
    abandoned.remove()
}

/// Starts `command` for `seat`. A program of the root begins in [`WORKING_DIRECTORY`].
pub(crate) fn start(command: Command, seat: &Seat, input: Input) -> Result<Started, Failure> {
    // A command with a directory of its own would be forked, which takes the longer the more memory this process has.
    let is_inside = Path::new(command.get_program()).starts_with(&seat.root);
    let _there = is_inside.then(|| There::go(&seat.on_host(WORKING_DIRECTORY))).transpose()?;
    Started::begin(command, input, &seat.complaints())
}

/// Runs one step to its end.
pub(crate) fn step(platform: &Platform, seat: &Seat, step: Step) -> Result<Duration, Failure> {
    let command = platform.step(seat, step);
    let command = command.ok_or_else(|| Failure(format!("{} has no such step", platform.name)))?;
    started::quietly(command, &seat.complaints(), LIMIT)
}

/// This process in another directory, until this is dropped.
struct There(OwnedFd);

impl There {
    fn go(directory: &Path) -> Result<Self, Failure> {
        let failed = |error: Errno| Failure(format!("go to {}: {error}", directory.display()));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let back = rustix::fs::open(".", flags, Mode::empty()).map_err(failed)?;
        rustix::process::chdir(directory).map_err(failed)?;
        Ok(Self(back))
    }
}

impl Drop for There {
    fn drop(&mut self) {
        if let Err(error) = rustix::process::fchdir(&self.0) {
            eprintln!("could not go back to where this was started: {error}");
        }
    }
}

/// Enough for every workload: what these limits cost is measured, not what they prevent.
fn ample() -> Limits {
    // All CPUs: bare processes have them, too.
    Limits { memory: 1 << 30, milli_cpus: 1000 * processors(), tasks: 4096 }
}

/// The CPUs of this machine that this process may use.
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1))
}

/// Whether this process may make containers with limits. Root of a user namespace may not: the machine's cgroups are not its.
pub fn is_root() -> bool {
    let is_everyone = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    rustix::process::geteuid().is_root() && fs::read_to_string("/proc/self/uid_map").is_ok_and(is_everyone)
}

/// What a process without root's rights measures, and what it does not.
pub const ORDINARY: &str = "an ordinary user, or root of a user namespace: of platforms bare, bubblewrap and charliecloud; \
    of interference pairs, probes of what this user may reach; of the kernel system calls (level 0). CPU times, limits, what is \
    left beside a hog, pauses, filters and the other platforms take root";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_went_back_tells_nothing() {
        let milliseconds = Duration::from_millis;
        assert_eq!(taken(milliseconds(5), milliseconds(12)), Amount::new(7.0));
        let Failure(why) = taken(milliseconds(12), milliseconds(5)).unwrap_err();
        assert_eq!(why, "what counts CPU time began anew meanwhile");
    }

    #[test]
    fn platforms_that_would_share_names_are_found() {
        assert_eq!(alike(&["bare", "bare again", "crun", "crun-1.28"]), None);
        assert_eq!(alike(&["bare", "a.b", "crun", "a-b"]), Some(("a.b", "a-b")));
        assert_eq!(alike(&["bare again", "bare-again"]), Some(("bare again", "bare-again")));
    }
}
