//! How much of the host's kernel runs on behalf of a sandbox, and how much of it could.
//!
//! ```text
//!   eye        the closest look that this kernel allows: functions, system calls, or system calls by ptrace
//!   listen     what the tracer records  ┐   stacks: what was sampled
//!   follow     what ptrace tells        ┴─► seen: counts of each task ─► parts: set-up, application, monitor, …
//!   roles      who is who                                                     │ kernel: names and places of functions
//!   watch      one sandbox's life, watched                                    ▼
//!   surface    the filter that is loaded                                 footprints of the journal
//! ```
//!
//! What is watched is never timed. What the kernel does in its own threads and in interrupts is nobody's here.

use std::collections::{BTreeMap, BTreeSet};

use crate::arena::Arena;
use crate::plan::{Axis, Quantity, SURFACE, Size, Task};
use crate::platform::Platform;
use crate::record::{Finding, Footprint, Level};
use crate::stats::{Amount, Failure, Outcome};

pub(crate) mod eye;
mod follow;
pub(crate) mod instance;
pub(crate) mod kernel;
mod listen;
pub(crate) mod ring;
mod roles;
mod seen;
pub(crate) mod stacks;
mod surface;
mod watch;

use self::eye::Eye;
use self::seen::{APPLICATION, Tally};
use self::watch::Watched;

const KERNEL: &str = "kernel entered";

/// How often a sandbox is watched: union and intersection of the runs are reported.
const RUNS: usize = 3;

/// The quantities of [`KERNEL`].
const FOOTPRINT: &str = "footprint";
const FREQUENCY: &str = "frequency";
const SET_UP_FOOTPRINT: &str = "footprint of the set-up";
const SET_UP_FREQUENCY: &str = "frequency of the set-up";

/// Functions in stacks that were sampled, where functions cannot be watched.
const SAMPLED: &str = "functions in sampled stacks, at least";

const SET_UP: &str = "set-up";
const TEAR_DOWN: &str = "tear-down";

/// What watches, and what was told of the kernel's functions already.
#[derive(Debug)]
pub(crate) struct Watcher {
    eye: Eye,
    told: BTreeSet<String>,
    /// Platforms that did everything once in this arena without being watched.
    rehearsed: BTreeSet<String>,
}

/// Removes what programs left in the kernel's tracer that were killed; `place` is a path for a moment, where nothing is.
pub(crate) fn sweep(place: &std::path::Path) {
    instance::sweep(place, eye::PREFIX);
}

/// The tasks of this axis, the same in every run.
pub(crate) fn tasks(_: Size) -> Vec<Task> {
    let task = |name: &str, says: &str, quantities: &[&str], runs: usize| Task {
        name: name.to_owned(),
        axis: Axis::Isolation,
        says: says.to_owned(),
        pair: None,
        rate: None,
        quantities: quantities.iter().map(|name| Quantity::less(name, "").beside()).collect(),
        least: runs,
        most: runs,
    };
    vec![
        task(
            KERNEL,
            "A fixed mix of processes, files, memory and conversations, watched in the kernel: how many different \
             functions, or system calls where those cannot be seen, are entered (footprint), and how often (frequency). \
             Beside system calls, the functions that stand in sampled stacks are counted, which are some of those entered.",
            &[FOOTPRINT, FREQUENCY, SET_UP_FOOTPRINT, SET_UP_FREQUENCY, SAMPLED],
            RUNS,
        ),
        task(
            SURFACE,
            "The system calls that the filters which are loaded for the sandbox's processes let through, with some \
             arguments at least.",
            &[SURFACE],
            1,
        ),
    ]
}

impl Watcher {
    /// Finds out how closely this kernel can be watched.
    pub(crate) fn new() -> Self {
        Self { eye: Eye::open(), told: BTreeSet::new(), rehearsed: BTreeSet::new() }
    }

    /// How closely, and why not more, for the journal.
    pub(crate) fn says(&self) -> String {
        self.eye.says()
    }

    /// Does `task` once; nothing when it is none of this axis.
    pub(crate) fn take(&mut self, task: &Task, arena: &Arena, platform: &Platform) -> Option<Vec<Finding>> {
        let taken = match task.name.as_str() {
            KERNEL => self.watch(arena, platform),
            SURFACE => Ok(vec![Finding::of(SURFACE, surface(arena, platform))]),
            _ => return None,
        };
        Some(taken.unwrap_or_else(|failure| {
            let failed = |quantity: &Quantity| Finding::of(&quantity.name, Err(failure.clone()));
            task.quantities.iter().map(failed).collect()
        }))
    }

    fn watch(&mut self, arena: &Arena, platform: &Platform) -> Result<Vec<Finding>, Failure> {
        if !self.rehearsed.contains(&platform.name) {
            // What happens once only, such as reading a program from the disk, is no part of a sandbox's life. A run that goes on
            // has another root.
            watch::rehearse(arena, platform)?;
            self.rehearsed.insert(platform.name.clone());
        }
        let Watched { set_up, application, tear_down, roles } = watch::watch(&mut self.eye, arena, platform)?;
        let mut parts = application.parts(&roles);
        if !parts.contains_key(APPLICATION) {
            return Err(Failure("no process of the application was seen".to_owned()));
        }
        parts.insert(SET_UP.to_owned(), set_up.whole());
        parts.insert(TEAR_DOWN.to_owned(), tear_down.whole());
        let mut findings = self.amounts(&parts);
        findings.extend(parts.iter().flat_map(|(part, tally)| self.footprints(part, tally)));
        let functions = &self.eye.functions;
        let sampled = parts.values().flat_map(|tally| functions.in_stacks(&tally.stacks).0.into_keys());
        let addresses = parts.values().flat_map(|tally| tally.functions.keys().copied()).chain(sampled);
        let symbols = functions.news(addresses, &mut self.told);
        if !symbols.is_empty() {
            findings.push(Finding::Symbols { symbols });
        }
        Ok(findings)
    }

    /// The sizes of the parts that are compared, at the level that was reached.
    fn amounts(&self, parts: &BTreeMap<String, Tally>) -> Vec<Finding> {
        let counts = |tally: &Tally| match self.eye.level() {
            Level::Functions => tally.functions.clone(),
            Level::Tracepoints | Level::Calls | Level::Samples => tally.calls.clone(),
        };
        let size = |part: &str| parts.get(part).map_or_else(BTreeMap::new, counts);
        let (application, set_up) = (size(APPLICATION), size(SET_UP));
        let footprint = |counts: &BTreeMap<u64, u64>| Amount::new(counts.len() as f64);
        let frequency =
            |counts: &BTreeMap<u64, u64>| Amount::new(counts.values().map(|count| *count as f64).sum());
        let mut amounts = vec![
            Finding::of(FOOTPRINT, footprint(&application)),
            Finding::of(FREQUENCY, frequency(&application)),
            Finding::of(SET_UP_FOOTPRINT, footprint(&set_up)),
            Finding::of(SET_UP_FREQUENCY, frequency(&set_up)),
        ];
        // Where functions are watched, there is nothing to be estimated.
        if self.eye.level() != Level::Functions {
            amounts.push(Finding::of(SAMPLED, self.sampled(parts.get(APPLICATION))));
        }
        amounts
    }

    /// How many functions the application's sampled stacks hold.
    fn sampled(&self, application: Option<&Tally>) -> Outcome {
        self.eye.samples.clone().map_err(Failure)?;
        let entered = application.map(|tally| self.eye.functions.in_stacks(&tally.stacks).0);
        match entered.map_or(0, |entered| entered.len()) {
            0 => Err(Failure("no sample hit the application in the kernel".to_owned())),
            count => Amount::new(count as f64),
        }
    }

    /// What was seen of one part; where functions are watched, or stacks sampled, system calls beside them.
    fn footprints(&self, part: &str, tally: &Tally) -> Vec<Finding> {
        let Tally { functions, calls, stacks, lost, unsampled } = tally;
        let footprint = |level: Level, counts: BTreeMap<String, u64>| {
            Finding::Footprint(Footprint { part: part.to_owned(), level, counts, lost: *lost, samples: None })
        };
        let level = self.eye.level();
        let mut footprints = Vec::new();
        if level == Level::Functions {
            footprints.push(footprint(level, self.eye.functions.named(functions)));
        }
        let by_calls = if level == Level::Calls { Level::Calls } else { Level::Tracepoints };
        footprints.push(footprint(by_calls, named(calls)));
        let (entered, samples) = self.eye.functions.in_stacks(stacks);
        if samples > 0 {
            footprints.push(Finding::Footprint(Footprint {
                part: part.to_owned(),
                level: Level::Samples,
                counts: self.eye.functions.named(&entered),
                lost: *unsampled,
                samples: Some(samples),
            }));
        }
        footprints
    }
}

/// System calls by their names; one that nobody here knows keeps its number.
fn named(calls: &BTreeMap<u64, u64>) -> BTreeMap<String, u64> {
    let name = |number: u64| {
        let known = u32::try_from(number).ok();
        let known = known.and_then(|number| bulkhead_seccomp::name(bulkhead_seccomp::NATIVE, number));
        known.map_or_else(|| format!("call {number}"), str::to_owned)
    };
    calls.iter().map(|(number, count)| (name(*number), *count)).collect()
}

/// How many calls the sandbox's processes can make; of several processes that stand for the application, all that any can.
fn surface(arena: &Arena, platform: &Platform) -> Outcome {
    let passed = watch::beside(arena, platform, |processes| {
        let mut passed = BTreeSet::new();
        // A process that another one of the sandbox traces makes no call but through that.
        for process in processes.iter().filter(|process| !is_traced(**process)) {
            passed.extend(surface::of(*process)?);
        }
        Ok(passed)
    })?;
    Amount::new(passed.len() as f64)
}

fn is_traced(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_their_names() {
        let known = bulkhead_seccomp::number(bulkhead_seccomp::NATIVE, "openat").unwrap();
        let counts = [(u64::from(known), 3), (99_999, 1), (u64::MAX, 1)].into();
        let expected = [("openat", 3), ("call 99999", 1), ("call 18446744073709551615", 1)];
        assert_eq!(named(&counts), expected.map(|(name, count)| (name.to_owned(), count)).into());
    }
}
