//! What can be measured on this machine, and why not more.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_sys::trace;
use serde::Serialize;

use crate::arena;
use crate::cgroups;
use crate::claim::{self, Claim};
use crate::error::{Doing as _, Error};
use crate::guard::Guard;
use crate::interference;
use crate::isolation;
use crate::isolation::eye;
use crate::isolation::instance::Instance;
use crate::machine::{Busy, Ours, Watch};
use crate::programs::{self, Supply};
use crate::stats::Failure;

/// Begins the name of the directory that a guard waits for.
pub(crate) const PREFIX: &str = "bh-doctor-";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, in a few words.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, and where something is missing what follows and what helps.
    pub says: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Good,
    /// It goes, but less well or less closely.
    Less,
    /// It does not go.
    Missing,
}

/// A controller without which limits or counts are missing.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids", "freezer"];

/// What takes the tracer or, the last one, what is like it.
const LEVELS: [&str; 3] =
    ["isolation, level 2 (functions)", "isolation, level 1 (tracepoints)", "isolation, level 1 (stacks)"];

/// Controllers by which sandboxes are kept apart.
const LIMITING: &[&str] = &["cpu", "memory", "pids"];

/// How often, and how long, the same piece of work is done again and again at least.
const SPINS: usize = 1000;
const SPELL: Duration = Duration::from_secs(1);

/// What the 99th percentile may take more than the median on a quiet machine.
const QUIET: f64 = 1.25;

/// Looks at everything. `is_root` and cgroups that cannot be had are findings, not errors.
///
/// As root, this process has mounts of its own afterwards. `guard` is a program that calls [`guard::keep`](crate::guard::keep) when it
/// is told `measure guard DIRECTORY`, so that nothing is left when this process is killed.
///
/// # Errors
/// When not even a directory can be made.
pub fn examine(guard: Option<&Path>) -> Result<Vec<Check>, Error> {
    let mut checks = vec![user(), hierarchy()];
    let room = Room::make(guard)?;
    let instance = cgroups::settle().and_then(|()| Instance::make(eye::PREFIX));
    checks.extend(match &instance {
        Ok(instance) => [functions(instance), tracepoints(instance), stacks(instance)],
        Err(error) => LEVELS.map(|name| {
            let says = format!("{}; root of a kernel with tracefs has it", Failure::of(error));
            Check { name, state: State::Missing, says }
        }),
    });
    checks.extend([calls(), limits(), neighbours(), witnesses(), real_programs(), noise()]);
    drop((instance, room));
    Ok(checks)
}

/// A directory that stands for a look while it lasts; it is removed in the end.
struct Room {
    claim: Claim,
    /// Goes last: it waits for the claim.
    _guard: Option<Guard>,
}

impl Room {
    /// Makes it, and takes away what looks left that were killed with their guards.
    fn make(guard: Option<&Path>) -> Result<Self, Error> {
        let place = std::env::temp_dir();
        claim::abandoned(&place, PREFIX)?.iter().try_for_each(clear_away)?;
        let claim = Claim::make(&place, PREFIX)?;
        let guard = guard.map(|program| Guard::post(program, claim.path())).transpose()?;
        Ok(Self { claim, _guard: guard })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // One that cannot be removed is the next one's.
        let _ = self.claim.remove();
    }
}

/// Takes away what a look left that was killed: its instance of the tracer is called like those of runs.
pub(crate) fn clear_away(abandoned: &Claim) -> Result<(), Error> {
    isolation::sweep(&abandoned.path().join("tracer"));
    abandoned.remove()
}

fn user() -> Check {
    let (state, says) = match arena::is_root() {
        true => (State::Good, "root: every platform can be measured"),
        false => (State::Less, arena::ORDINARY),
    };
    Check { name: "user", state, says: says.to_owned() }
}

fn hierarchy() -> Check {
    let mode = cgroups::mode();
    let there = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let enabled = |name: &&&str| {
        there.lines().any(|line| {
            let fields = Vec::from_iter(line.split_whitespace());
            fields.first() == Some(*name) && fields.last() == Some(&"1")
        })
    };
    let missing = Vec::from_iter(CONTROLLERS.iter().filter(|name| !enabled(name)).copied());
    let (state, says) = match (mode, &missing[..]) {
        ("none", _) => (State::Missing, "not mounted at /sys/fs/cgroup: there are no limits".to_owned()),
        (mode, []) => (State::Good, format!("{mode}, with all controllers that are needed")),
        // /proc/cgroups may be without those that only v2 knows; freezing is part of v2 itself.
        ("v2", _) => (State::Good, "v2".to_owned()),
        (mode, missing) => (State::Less, format!("{mode}, without {}", missing.join(", "))),
    };
    Check { name: "cgroups", state, says }
}

fn functions(instance: &Instance) -> Check {
    let (state, says) = match instance.try_functions() {
        Ok(()) => (State::Good, "the kernel counts which of its functions run".to_owned()),
        Err(error) => (
            State::Missing,
            format!("the kernel refuses its function tracer ({error}); a guest allows it: --in-guest"),
        ),
    };
    Check { name: LEVELS[0], state, says }
}

fn tracepoints(instance: &Instance) -> Check {
    let (state, says) = match instance.try_calls() {
        Ok(()) => (State::Good, "system calls are counted without slowing them much".to_owned()),
        Err(error) => (State::Missing, format!("the kernel refuses the tracepoint raw_syscalls ({error})")),
    };
    Check { name: LEVELS[1], state, says }
}

fn stacks(instance: &Instance) -> Check {
    let (state, says) = match eye::try_samples(instance) {
        Ok(()) => (State::Good, "the kernel's stacks are sampled: some of the functions that run".to_owned()),
        Err(refusal) => (State::Missing, refusal),
    };
    Check { name: LEVELS[2], state, says }
}

fn calls() -> Check {
    let (state, says) = match follow() {
        Ok(()) => (State::Good, "system calls are counted by ptrace, which slows them down".to_owned()),
        Err(error) => (State::Missing, format!("processes cannot be followed: {}", Failure::of(&error))),
    };
    Check { name: "isolation, level 0 (calls)", state, says }
}

fn follow() -> Result<(), Error> {
    let mut command = Command::new("sleep");
    let mut child = command.arg("60").stdin(Stdio::null()).spawn().doing(|| "start sleep".to_owned())?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let followed = trace::seize(pid).doing(|| "follow a process of our own".to_owned());
    // It is ours, and it must end whatever happened.
    let _ = child.kill();
    child.wait().doing(|| "wait for sleep".to_owned())?;
    followed
}

/// Whether two sandboxes can be kept apart as docker keeps them.
fn limits() -> Check {
    let there = cgroups::controllers();
    let missing = Vec::from_iter(LIMITING.iter().filter(|name| !there.contains(**name)).copied());
    let (state, says) = match &missing[..] {
        _ if !arena::is_root() => {
            (State::Missing, "limits of memory, CPU and processes take root: pairs have none".to_owned())
        }
        [] => (State::Good, "memory, CPU and processes of a sandbox can be limited".to_owned()),
        missing => (
            State::Less,
            format!("without {}: runtimes refuse such a limit, or leave it out", missing.join(", ")),
        ),
    };
    Check { name: "noninterference, limits", state, says }
}

/// Whether a victim and an antagonist have room beside each other.
fn neighbours() -> Check {
    let processors = arena::processors();
    let (tasks, mib) = interference::greatest();
    let mut says = format!(
        "antagonists of up to {tasks} processes and {mib} MiB on {processors} CPUs, of which a sandbox with limits has half"
    );
    let mut state = State::Good;
    if processors == 1 {
        state = State::Less;
        says.push_str("; with one CPU a victim without limits is owed no more than half of it");
    }
    // The antagonist's, and as much again for the victim and everything else.
    let available = available_mib().filter(|available| *available < f64::from(2 * mib));
    if let Some(available) = available {
        state = State::Less;
        says.push_str(&format!(
            "; only {available:.0} MiB of memory are free, so that the machine itself may run out"
        ));
    }
    Check { name: "noninterference, in time", state, says }
}

fn available_mib() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// Which attempts on the host somebody can be a witness of.
fn witnesses() -> Check {
    let (state, says) = match interference::unwitnessed() {
        Ok((all, missing)) if missing.is_empty() => {
            (State::Good, format!("each of {all} attempts on the host has a witness"))
        }
        Ok((all, missing)) => (
            State::Less,
            format!("{} of {all} attempts have a witness, not: {}", all - missing.len(), missing.join("; ")),
        ),
        Err(error) => (State::Missing, format!("no attempt has a witness: {}", Failure::of(&error))),
    };
    Check { name: "noninterference, in space", state, says }
}

/// What `--heavy` would measure.
fn real_programs() -> Check {
    let Supply { tree, programs } = programs::supply();
    let there = programs.iter().filter_map(|(name, found)| match found {
        Ok(Some(version)) => Some(format!("{name} {version}")),
        Ok(None) => Some((*name).to_owned()),
        Err(_) => None,
    });
    let there = Vec::from_iter(there).join(", ");
    let missing =
        programs.iter().filter_map(|(name, found)| Some(format!("{name}: {}", found.as_ref().err()?)));
    let missing = Vec::from_iter(missing).join("; ");
    let (state, says) = match (there.as_str(), missing.as_str()) {
        _ if !arena::is_root() => {
            (State::Missing, "--heavy takes root: its programs run in a root of their own".to_owned())
        }
        ("", missing) => (State::Missing, format!("--heavy has none; {missing}")),
        (there, "") => (State::Good, format!("--heavy has {there}, from {}", tree.display())),
        (there, missing) => (State::Less, format!("--heavy has {there}, from {}; {missing}", tree.display())),
    };
    Check { name: "real programs", state, says }
}

/// Does the same work again and again and looks how its time varies, and what else the machine does meanwhile.
fn noise() -> Check {
    let (before, busy) = (Watch::look(own()), Busy::look());
    let start = Instant::now();
    let mut times = Vec::with_capacity(SPINS);
    while times.len() < SPINS || start.elapsed() < SPELL {
        let began = Instant::now();
        std::hint::black_box((0..100_000_u64).fold(1_u64, |sum, number| std::hint::black_box(sum ^ number)));
        times.push(began.elapsed());
    }
    let disturbance = Watch::look(own()).noise(&before).disturbance();
    let busiest = Busy::look().busiest(&busy, start.elapsed());
    let (ratio, most) = spread(&mut times);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let cpus = std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64);
    let mut says = format!(
        "the same work takes {ratio:.2} times its median at the 99th percentile, {most:.1} times at most"
    );
    let quiet = ratio <= QUIET && load < cpus * 0.5 && disturbance.is_none();
    if !quiet {
        says.push_str(&format!("; the load is {load:.1} on {cpus} CPUs"));
        says.extend(disturbance.map(|disturbance| format!("; {disturbance}")));
        says.extend((!busiest.is_empty()).then(|| format!(" ({})", busiest.join(", "))));
        says.push_str(". Stop what else runs, or give it more time: verdicts will need more blocks");
    }
    Check { name: "noise", state: if quiet { State::Good } else { State::Less }, says }
}

/// What this process had of the machine.
fn own() -> Ours {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let time = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32);
    Ours { cpu: Some(time), ..Ours::default() }
}

/// The 99th percentile and the maximum, in medians.
fn spread(times: &mut [Duration]) -> (f64, f64) {
    times.sort();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1)) as f64 * share;
        times.get(index as usize).map_or(0.0, Duration::as_secs_f64)
    };
    (at(0.99) / at(0.5), at(1.0) / at(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_told_in_medians() {
        let mut times = Vec::from_iter(
            (1..=1000).map(|number| Duration::from_micros(if number <= 980 { 10 } else { 40 })),
        );
        assert_eq!(spread(&mut times), (4.0, 4.0));
    }

    #[test]
    fn everything_is_looked_at_and_nothing_is_left() {
        let checks = std::thread::scope(|scope| scope.spawn(|| examine(None)).join().unwrap()).unwrap();
        let names = Vec::from_iter(checks.iter().map(|check| check.name));
        assert_eq!(names.len(), 11, "{names:?}");
        assert!(checks.iter().all(|check| !check.says.is_empty()), "{checks:?}");
        let prefixes = [PREFIX, eye::PREFIX].map(|prefix| format!("{prefix}{}-", std::process::id()));
        let entries = std::env::temp_dir().read_dir().unwrap().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        assert!(!names.any(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))));
    }
}
