//! Who meets whom: every victim beside every antagonist, with limits and without.

use crate::arena;
use crate::bundle;
use crate::plan::{Axis, Limits, Pair, Quantity, RATE_KEPT, Size, TAIL_KEPT, Task};

use super::kept::Proof;

/// How long each loop of a victim lasts: as long as a period of the CPU controller, in which an antagonist with limits has
/// run and waited once.
const SECONDS: &str = "0.1";

/// An antagonist lives no longer than this, whatever becomes of the one who started it.
const AT_MOST: &str = "40";

/// Of the memory and the CPUs that a pair has together with limits, each has half.
const MEMORY: i64 = 256 << 20;

/// As many processes as the greatest bomb needs where each is several on the host, as in gVisor, whose kernel ends when it is
/// refused one. Whether processes are left is another task's question.
const TASKS: i64 = 4096;

/// MiB over which an antagonist goes: more than it may have with limits, less than any machine has.
const GREED: u32 = 512;

/// Processes of a fork bomb at a time for each processor, and at least and at most in all: enough to be heard on any machine, and not
/// so many that their end takes longer than what is measured beside them (in gVisor 1.6 s for 320 of them).
const BOMB: u32 = 64;
const BOMBS: (u32, u32) = (128, 320);

/// A task of `bulkload` that is interfered with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Victim {
    /// As `bulkload` knows it.
    pub(super) name: &'static str,
    /// Turns a second of its open loop: less than any platform can do alone.
    rate: f64,
    /// Whether it knows no closed loop.
    is_open: bool,
    quick: bool,
}

/// A hog of `bulkload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Antagonist {
    /// As `bulkload` knows it.
    pub(super) name: &'static str,
    /// What shows that it pressed.
    pub(super) proof: Proof,
    quick: bool,
}

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Meeting {
    pub(super) victim: Victim,
    pub(super) antagonist: Antagonist,
    pub(super) limits: Limits,
}

const VICTIMS: &[Victim] = &[
    Victim { name: "cpu", rate: 1000.0, is_open: false, quick: true },
    Victim { name: "memory", rate: 200.0, is_open: false, quick: false },
    Victim { name: "mmap", rate: 200.0, is_open: false, quick: false },
    Victim { name: "fork", rate: 300.0, is_open: false, quick: true },
    Victim { name: "timer", rate: 1000.0, is_open: true, quick: false },
    Victim { name: "file", rate: 200.0, is_open: false, quick: false },
    Victim { name: "tcp-latency", rate: 1000.0, is_open: false, quick: true },
];

const ANTAGONISTS: &[Antagonist] = &[
    Antagonist { name: "cpu", proof: Proof::Processors, quick: true },
    Antagonist { name: "memory-bandwidth", proof: Proof::Processors, quick: true },
    Antagonist { name: "memory", proof: Proof::Memory, quick: false },
    Antagonist { name: "fork", proof: Proof::Processors, quick: true },
    Antagonist { name: "disk", proof: Proof::Written, quick: false },
    Antagonist { name: "packets", proof: Proof::Processors, quick: false },
];

/// The pairs of a run of this size. Those of one victim follow each other, so that it is measured alone only once.
pub(super) fn pairs(size: Size) -> impl Iterator<Item = Meeting> {
    let limits: &[Limits] = match size {
        Size::Quick => &[Limits::With],
        Size::Full => &[Limits::With, Limits::Without],
    };
    let all = move |quick: bool| quick || size == Size::Full;
    limits.iter().flat_map(move |limits| {
        VICTIMS.iter().filter(move |victim| all(victim.quick)).flat_map(move |victim| {
            let others = ANTAGONISTS.iter().filter(move |antagonist| all(antagonist.quick));
            others.map(|antagonist| Meeting { victim: *victim, antagonist: *antagonist, limits: *limits })
        })
    })
}

/// The most processes of an antagonist at a time, and the most MiB.
pub(super) fn greatest() -> (u32, u32) {
    pairs(Size::Full).map(|meeting| meeting.sizes()).fold((0, 0), |(tasks, mib), (more_tasks, more_mib)| {
        (tasks.max(more_tasks), mib.max(more_mib.unwrap_or(0)))
    })
}

/// The share of its rate that a bare victim is owed beside a bare antagonist on a machine with so many CPUs: between processes of one
/// cgroup a fair scheduler divides by tasks, and whoever waits for what both want has half. None for antagonists whose
/// tasks come and go or sleep, and for pairs that this program does not know.
pub(crate) fn owed_bare(victim: &str, antagonist: &str, processors: u32) -> Option<f64> {
    let mut all = pairs(Size::Full);
    let met = all.find(|pair| (pair.victim.name, pair.antagonist.name) == (victim, antagonist))?;
    let spinning = match antagonist {
        "cpu" | "memory-bandwidth" => met.sizes_on(processors).0,
        _ => return None,
    };
    let by_tasks = f64::from(processors) / f64::from(spinning + 1);
    Some(by_tasks.min(met.floor(processors)))
}

impl Victim {
    /// Whether each of its turns waits for the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.name == "file"
    }
}

impl Meeting {
    /// The pair that `task` is about; None when this program does not know it.
    pub(super) fn of(task: &Task) -> Option<Self> {
        let Pair { victim, antagonist, limits, .. } = task.pair.as_ref()?;
        pairs(Size::Full).find(|meeting| {
            meeting.victim.name == victim
                && meeting.antagonist.name == antagonist
                && meeting.limits == *limits
        })
    }

    /// The task as the plan has it.
    pub(super) fn task(&self, size: Size) -> Task {
        let Self { victim, antagonist, limits } = self;
        let (word, least, most) = match (limits, size) {
            (Limits::With, Size::Quick) => ("with limits", 6, 6),
            (Limits::With, Size::Full) => ("with limits", 10, 20),
            (Limits::Without, _) => ("without limits", 10, 20),
        };
        Task {
            name: format!("{} beside {}, {word}", victim.name, antagonist.name),
            axis: Axis::Noninterference,
            says: format!(
                "The task {} in one sandbox while the hog {} presses in another, {word}; in each block also without it. \
                 Its latencies are of an open loop of {} turns a second; their tail is the 90th percentile.",
                victim.name, antagonist.name, victim.rate
            ),
            pair: Some(Pair {
                victim: victim.name.to_owned(),
                antagonist: antagonist.name.to_owned(),
                limits: *limits,
                floor: Some(self.floor(arena::processors())),
            }),
            rate: Some(victim.rate),
            quantities: [RATE_KEPT, TAIL_KEPT].map(|name| Quantity::more(name, "").beside()).to_vec(),
            least,
            most,
        }
    }

    /// The share of its rate that a fair scheduler owes the victim on a machine with so many CPUs.
    ///
    /// A victim is busy on one CPU, and half of the machine is its own. Who wants the same memory bus or the same disk as
    /// the antagonist is owed half of it.
    fn floor(&self, processors: u32) -> f64 {
        match (self.victim.name, self.antagonist.name, self.limits) {
            ("memory", "memory-bandwidth", _) | ("file", "disk", _) => 0.5,
            // Alone it has no more than its half either.
            (_, _, Limits::With) => 1.0,
            (_, _, Limits::Without) => (f64::from(processors) / 2.0).min(1.0),
        }
    }

    /// What each of the two sandboxes may use.
    pub(super) fn bounds(&self) -> Option<bundle::Limits> {
        let half = bundle::Limits { memory: MEMORY, milli_cpus: 500 * arena::processors(), tasks: TASKS };
        (self.limits == Limits::With).then_some(half)
    }

    /// What `bulkload` is told to do as the victim.
    pub(super) fn task_words(&self) -> Vec<String> {
        let Victim { name, rate, is_open, .. } = self.victim;
        let option = if is_open { "--rate" } else { "--then-rate" };
        ["work", name, "--seconds", SECONDS, option, &rate.to_string()].map(str::to_owned).to_vec()
    }

    /// MiB that the antagonist goes over.
    pub(super) fn wanted(&self) -> f64 {
        f64::from(self.sizes().1.unwrap_or(0))
    }

    /// How many processes the antagonist has at a time, and how many MiB.
    fn sizes(&self) -> (u32, Option<u32>) {
        self.sizes_on(arena::processors())
    }

    /// The same on a machine with so many CPUs.
    fn sizes_on(&self, processors: u32) -> (u32, Option<u32>) {
        match self.antagonist.name {
            "cpu" => (4 * processors, None),
            "fork" => ((BOMB * processors).clamp(BOMBS.0, BOMBS.1), None),
            "memory" => (1, Some(GREED)),
            "memory-bandwidth" => (processors, Some((64 * processors).min(192).max(2 * processors))),
            "disk" => (2, Some(128)),
            _ => (processors, None),
        }
    }

    /// What `bulkload` is told to do as the antagonist.
    pub(super) fn hog_words(&self) -> Vec<String> {
        let (tasks, mib) = self.sizes();
        let words =
            ["hog", self.antagonist.name, "--held", "--seconds", AT_MOST, "--tasks", &tasks.to_string()];
        let mut words = Vec::from_iter(words.map(str::to_owned));
        words.extend(mib.into_iter().flat_map(|mib| ["--mib".to_owned(), mib.to_string()]));
        words
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_matrix_is_whole() {
        let names = |size| BTreeSet::from_iter(pairs(size).map(|meeting| meeting.task(size).name));
        let (quick, full) = (names(Size::Quick), names(Size::Full));
        assert_eq!((quick.len(), full.len()), (3 * 3, 7 * 6 * 2));
        assert!(quick.is_subset(&full), "a quick pair is another one: {quick:?}");
    }

    #[test]
    fn a_pair_is_found_by_its_task() {
        for meeting in pairs(Size::Full) {
            let task = meeting.task(Size::Quick);
            assert_eq!(Meeting::of(&task), Some(meeting), "{}", task.name);
            assert!(task.least <= task.most && Meeting::of(&Task { pair: None, ..task }).is_none());
        }
    }

    #[test]
    fn a_fair_scheduler_owes_half_of_what_is_shared() {
        let floor = |victim: &str, antagonist: &str, limits: Limits, processors: u32| {
            let mut all = pairs(Size::Full);
            let found = all.find(|pair| {
                (pair.victim.name, pair.antagonist.name, pair.limits) == (victim, antagonist, limits)
            });
            found.map(|pair| pair.floor(processors))
        };
        for (victim, antagonist, limits, processors, expected) in [
            ("cpu", "cpu", Limits::Without, 1, 0.5),
            ("cpu", "cpu", Limits::Without, 2, 1.0),
            ("cpu", "cpu", Limits::Without, 64, 1.0),
            ("cpu", "cpu", Limits::With, 1, 1.0),
            ("memory", "memory-bandwidth", Limits::Without, 8, 0.5),
            ("file", "disk", Limits::With, 8, 0.5),
        ] {
            let found = floor(victim, antagonist, limits, processors);
            assert_eq!(
                found,
                Some(expected),
                "{victim} beside {antagonist} on {processors} CPUs, {limits:?}"
            );
        }
    }

    #[test]
    fn between_bare_processes_tasks_divide_the_machine() {
        for (victim, antagonist, processors, expected) in [
            ("cpu", "cpu", 2, Some(2.0 / 9.0)),
            ("cpu", "memory-bandwidth", 2, Some(2.0 / 3.0)),
            ("memory", "memory-bandwidth", 2, Some(0.5)),
            ("cpu", "cpu", 1, Some(0.2)),
            ("cpu", "fork", 2, None),
            ("cpu", "patience", 2, None),
        ] {
            assert_eq!(owed_bare(victim, antagonist, processors), expected, "{victim} beside {antagonist}");
        }
    }

    #[test]
    fn antagonists_are_bounded_and_want_more_memory_than_they_may_have() {
        for meeting in pairs(Size::Full) {
            let words = meeting.hog_words();
            let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
            assert!(after("--seconds").is_some() && words.iter().any(|word| word == "--held"), "{words:?}");
            let tasks: i64 = after("--tasks").unwrap().parse().unwrap();
            let mib = after("--mib").map_or(0, |mib| mib.parse::<i64>().unwrap());
            assert!(tasks <= 4096 && mib <= i64::from(GREED), "{words:?}");
            match meeting.antagonist.name {
                // A process of gVisor's is up to twelve of the host.
                "fork" => assert!((128..=320).contains(&tasks) && 12 * 320 < TASKS, "{words:?}"),
                "memory" => assert!(mib << 20 > MEMORY, "{words:?}"),
                _ => assert!(mib << 20 < MEMORY, "{words:?}"),
            }
        }
    }
}
