//! Whether a victim can still allocate, fork and write while another takes all that it can get.
//!
//! Open files are not among it: who opens too many meets a limit of its own process, or the memory that they take, and not another
//! sandbox; the machine's limit of them does not hold for root.
//!
//! A machine is not exhausted for that. Both sandboxes are in a [`Pool`] that is small, and each may have half of it where the
//! platform knows limits; the disk that they share is a small file system in memory.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use serde::Deserialize;

use crate::arena::{self, Arena, LIMIT};
use crate::bundle;
use crate::cgroups::Pool;
use crate::error::{Doing as _, Error};
use crate::plan::{Axis, BARE, LEFT, Limits, Quantity, Size, Task};
use crate::platform::{Platform, Seat};
use crate::printed::last_line;
use crate::record::{DIED, Finding, NOTHING_LEFT, UNPRESSED};
use crate::stage::Stage;
use crate::started::{self, Input, Started, TOO_LONG};
use crate::stats::{Amount, Failure, Outcome};

use super::kept::{self, Pressure};

/// What the two sandboxes have together: bytes, and processes.
const MEMORY: i64 = 512 << 20;
const TASKS: i64 = 512;

/// Where the small file system is mounted in the root, and its size.
const SHARED: &str = "/shared";
const SIZE: &str = "size=32m,mode=0777";

/// How long a hog has until it is refused more, also on a machine that is slow, such as an emulated one; then the victim comes
/// in any case.
const PATIENCE: Duration = Duration::from_secs(8);

/// The longest life of a hog.
const AT_MOST: &str = "40";

const VICTIM: usize = 0;
const HOG: usize = 1;

/// Something that can run out.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Resource {
    /// As `bulkload take` knows it.
    name: &'static str,
    /// How much the victim wants of it.
    wanted: &'static str,
    /// What takes it, and how much: more than the pool has.
    hog: &'static [&'static str],
    quick: bool,
}

#[rustfmt::skip]
const RESOURCES: &[Resource] = &[
    // Of processes the greatest is ended first where memory is short. With one that is smaller than the victim becomes, the hog
    // is not who goes, and it has another one at once.
    Resource { name: "memory", wanted: "128", hog: &["memory", "--hold-on", "--tasks", "16", "--mib", "640"], quick: true },
    Resource { name: "processes", wanted: "32", hog: &["fork", "--tasks", "640"], quick: true },
    Resource { name: "disk", wanted: "8", hog: &["disk", "--tasks", "2", "--mib", "128"], quick: false },
];

/// One resource, with limits or without.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Capacity {
    resource: Resource,
    limits: Limits,
}

/// What `bulkload take` printed.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Taken {
    got: f64,
    call: Option<String>,
}

/// A small file system that both sandboxes have in their root.
struct Disk(PathBuf);

/// Where a victim meets a hog.
struct Place<'a> {
    arena: &'a Arena,
    platform: &'a Platform,
    capacity: Capacity,
    pool: Pool,
}

/// The tasks of a run of this size.
pub(super) fn tasks(size: Size) -> Vec<Task> {
    let of_size = |capacity: &Capacity| {
        size == Size::Full || capacity.resource.quick && capacity.limits == Limits::With
    };
    all().filter(of_size).map(|capacity| capacity.task(size)).collect()
}

fn all() -> impl Iterator<Item = Capacity> {
    [Limits::With, Limits::Without]
        .into_iter()
        .flat_map(|limits| RESOURCES.iter().map(move |resource| Capacity { resource: *resource, limits }))
}

impl Capacity {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        all().find(|capacity| capacity.name() == name)
    }

    fn name(&self) -> String {
        let limits = if self.limits == Limits::With { "with" } else { "without" };
        format!("{} left, {limits} limits", self.resource.name)
    }

    fn task(&self, size: Size) -> Task {
        // One run may be an accident, which the report says; most of three are none. A short run has three if there is time.
        let (least, most) = if size == Size::Full { (5, 5) } else { (1, 3) };
        Task {
            name: self.name(),
            axis: Axis::Noninterference,
            says: format!(
                "A victim takes {} of {} beside the hog {}, both in a cgroup with 512 MiB and 512 processes{}; the share \
                 of what it gets alone. A wall is judged where the hog takes it away from bare processes.",
                self.resource.wanted,
                self.resource.name,
                self.resource.hog.join(" "),
                if self.limits == Limits::With { ", half of it for each" } else { "" }
            ),
            pair: None,
            rate: None,
            quantities: vec![Quantity::more(LEFT, "").beside()],
            least,
            most,
        }
    }

    /// Measures it once.
    pub(super) fn take(self, arena: &Arena, platform: &Platform) -> Finding {
        let place = Place::make(arena, platform, self);
        Finding::of(LEFT, place.and_then(|(place, _disk)| place.left()))
    }
}

impl<'a> Place<'a> {
    fn make(arena: &'a Arena, platform: &'a Platform, capacity: Capacity) -> Result<(Self, Disk), Failure> {
        let heavy = arena.heavy().ok_or_else(|| Failure("limits for several take root".to_owned()))?;
        let pool = heavy.pool(MEMORY, TASKS)?;
        let disk = Disk::make(arena)?;
        Ok((Self { arena, platform, capacity, pool }, disk))
    }

    fn left(&self) -> Outcome {
        let alone =
            self.victim().map_err(|Failure(reason)| Failure(format!("the victim alone: {reason}")))?;
        let (seat, command) = self.command(HOG, &self.hog_words())?;
        let left = self.beside(&alone, &seat, command);
        left.inspect_err(|_| self.arena.clear(self.platform, &seat))
    }

    fn beside(&self, alone: &Taken, seat: &Seat, command: Command) -> Outcome {
        let failed = |failure: Failure| of_hog(&failure);
        let mut hog = arena::start(command, seat, Input::Held).map_err(failed)?;
        hog.first_byte(LIMIT).map_err(failed)?;
        settle(&mut hog).map_err(failed)?;
        let beside = self.victim();
        // Held, it does not end by itself, however it says that it did.
        hog.look().map_err(|failure| kept::ended(&failure))?;
        hog.let_go();
        let pressure = Pressure::of(&hog.finish(LIMIT).map_err(failed)?.output).map_err(failed)?;
        pressure.took_all().map_err(|why| Failure(format!("{UNPRESSED}: {why}")))?;
        share(alone, &beside.map_err(|Failure(reason)| Failure(format!("{DIED}: {reason}")))?)
    }

    fn victim(&self) -> Result<Taken, Failure> {
        let resource = self.capacity.resource;
        let words = ["take", resource.name, "--amount", resource.wanted, "--directory", &self.directory()];
        let (seat, command) = self.command(VICTIM, &words.map(str::to_owned))?;
        let ran = arena::start(command, &seat, Input::Nothing).and_then(|started| started.finish(LIMIT));
        let ran = ran.inspect_err(|_| self.arena.clear(self.platform, &seat))?;
        last_line(&ran.output, "the victim")
    }

    fn hog_words(&self) -> Vec<String> {
        let words = std::iter::once("hog").chain(self.capacity.resource.hog.iter().copied());
        let words = words.chain(["--held", "--seconds", AT_MOST, "--directory"]);
        words.map(str::to_owned).chain([self.directory()]).collect()
    }

    /// The small file system, as the sandbox sees it.
    fn directory(&self) -> String {
        let bare = self.platform.kind.name == BARE;
        if bare { self.arena.root().join(&SHARED[1..]).display().to_string() } else { SHARED.to_owned() }
    }

    /// A command that does `words` in a sandbox of the pool.
    fn command(&self, number: usize, words: &[String]) -> Result<(Seat, Command), Failure> {
        let half =
            bundle::Limits { memory: MEMORY / 2, milli_cpus: 1000 * arena::processors(), tasks: TASKS / 2 };
        let name = format!("seat-{number}");
        let stage = Stage { arena: self.arena, platform: self.platform };
        let (seat, words) = stage.seat_as(number, words, |seat| {
            seat.limits = (self.capacity.limits == Limits::With).then_some(half);
            seat.cgroup = Some(self.pool.child(&name));
        })?;
        let command = self.platform.run(&seat, &words);
        let command =
            if self.platform.has_limits() { command } else { joining(&command, &self.pool.leaf(&name)?) };
        Ok((seat, command))
    }
}

/// Waits until the hog has all that it can get.
fn settle(hog: &mut Started) -> Result<(), Failure> {
    match hog.hear(PATIENCE) {
        // It is full, or it ended; whether it pressed is asked later.
        Ok(_) => Ok(()),
        Err(failure) if failure.0 == TOO_LONG => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Why there is no hog. Where the wall ends its whole sandbox, that is the finding, whether it comes before its first word, while it
/// takes, or when it is asked to end.
fn of_hog(failure: &Failure) -> Failure {
    if started::is_violent(&failure.0) {
        kept::ended(failure)
    } else {
        Failure(format!("the hog: {failure}"))
    }
}

/// The share of what there is alone; a reason where nothing is left.
fn share(alone: &Taken, beside: &Taken) -> Outcome {
    let why = || beside.call.clone().unwrap_or_else(|| "its process was killed".to_owned());
    match (alone.got, beside.got) {
        (0.0, _) => {
            Err(Failure(format!("nothing is there alone: {}", alone.call.clone().unwrap_or_default())))
        }
        (_, 0.0) => Err(Failure(format!("{NOTHING_LEFT}: {}", why()))),
        (alone, beside) => Amount::new(beside / alone),
    }
}

/// The same command, in the cgroups to whose files the process that executes it writes its id.
fn joining(command: &Command, files: &[PathBuf]) -> Command {
    const SCRIPT: &str =
        "while [ \"$1\" != -- ]; do echo $$ > \"$1\" || exit 125; shift; done; shift; exec \"$@\"";
    let mut joining = Command::new("sh");
    joining
        .args(["-c", SCRIPT, "sh"])
        .args(files)
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        joining.current_dir(directory);
    }
    joining.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    joining
}

impl Disk {
    fn make(arena: &Arena) -> Result<Self, Error> {
        let place = arena.root().join(&SHARED[1..]);
        std::fs::create_dir_all(&place).doing(|| format!("make {}", place.display()))?;
        let options = std::ffi::CString::new(SIZE).unwrap_or_default();
        rustix::mount::mount("tmpfs", &place, "tmpfs", MountFlags::empty(), options.as_c_str())
            .doing(|| format!("mount a small file system at {}", place.display()))?;
        Ok(Self(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It goes with this process's mounts at the latest.
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capacity_is_found_by_its_name() {
        assert_eq!((tasks(Size::Quick).len(), tasks(Size::Full).len()), (2, 6));
        for task in tasks(Size::Full) {
            assert_eq!(Capacity::named(&task.name).unwrap().task(Size::Full), task);
        }
        assert_eq!(Capacity::named("patience left, with limits"), None);
    }

    #[test]
    fn what_is_left_is_a_share_or_has_a_reason() {
        let taken = |got: f64, call: Option<&str>| Taken { got, call: call.map(str::to_owned) };
        let all = taken(64.0, None);
        assert_eq!(share(&all, &taken(16.0, Some("fork()"))).unwrap().value(), 0.25);
        assert_eq!(share(&all, &taken(0.0, Some("fork()"))).unwrap_err().0, "nothing was left: fork()");
        let killed = share(&all, &taken(0.0, None)).unwrap_err().0;
        assert_eq!(killed, "nothing was left: its process was killed");
        assert!(share(&taken(0.0, None), &all).unwrap_err().0.starts_with("nothing is there alone"));
        let line = br#"{"take":"disk","asked":8,"got":12,"unit":"MiB","call":"write()"}"#;
        assert_eq!(last_line::<Taken>(line, "x").unwrap(), taken(12.0, Some("write()")));
    }

    #[test]
    fn a_hog_that_was_ended_is_told_whenever_it_was() {
        let told = |reason: &str| of_hog(&Failure(reason.to_owned())).0;
        for reason in [
            "exit status: 137: it said nothing",
            "signal: 9 (SIGKILL): it said nothing",
            "exit status: 2: panic: no thread",
            "exit status: 2: fatal error: runtime: out of memory",
        ] {
            assert!(told(reason).starts_with(crate::record::ENDED), "{}", told(reason));
        }
        for reason in ["exit status: 1: no such file", "start runsc: not found", TOO_LONG] {
            assert_eq!(told(reason), format!("the hog: {reason}"));
        }
    }

    #[test]
    fn a_command_keeps_its_words_where_it_joins() {
        let mut command = Command::new("/bin/echo");
        command.args(["a b", "--", "c"]).current_dir("/tmp").env("X", "y");
        let scratch = bulkhead_testkit::Scratch::new();
        let file = scratch.path().join("procs");
        std::fs::write(&file, "").unwrap();
        let output = joining(&command, std::slice::from_ref(&file)).output().unwrap();
        assert_eq!(output.stdout, b"a b -- c\n");
        let joined = std::fs::read_to_string(&file).unwrap();
        assert!(joined.trim().parse::<u32>().is_ok(), "{joined:?} is no process");
    }
}
