//! What a run leaves: a journal of JSON lines, from which every report is made again at any time.
//!
//! A session begins with a [`Line::Run`], which says what is measured, where and with what. Each [`Line::Turn`] is one
//! task on one platform in one block, written when it has ended: what was interrupted is not there, and is done when
//! the run is resumed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Quantity, RATE_KEPT, TAIL_KEPT, Task};
use crate::printed;
use crate::provenance;
use crate::stats::{Amount, Failure, Outcome};

mod journal;

pub use journal::{Journal, JournalError, read};

/// The version of the journal's form. A reader refuses a higher one.
pub const VERSION: u32 = 1;

/// How the reason of a failure begins when the victim of a [`Pair`](crate::plan::Pair) did not survive.
pub const DIED: &str = "the victim died";

/// How the reason of a failure begins when the antagonist of a pair was there and did not press: nothing is known then.
pub const UNPRESSED: &str = "the antagonist did not press";

/// How the reason of a failure begins when the sandbox of the antagonist or hog ended by itself, after it had begun: where the
/// wall ends all of it, not a process, nobody presses any more.
pub const ENDED: &str = "the sandbox of the antagonist ended as a whole";

/// How the reason of a failure begins when a victim got nothing at all beside a hog.
pub const NOTHING_LEFT: &str = "nothing was left";

/// The reason of a failure when the run's time ended before there was a number: that says nothing of a platform, and is kept in no
/// journal.
pub const OUT_OF_TIME: &str = "the time of the run ended first";

/// The fact that says how much of the CPUs what is measured has where other work wants them, too.
pub(crate) const WEIGHT: &str = "weight";

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    /// A session begins.
    Run(Run),
    /// A task was done once on one platform.
    Turn(Turn),
    /// The session ended.
    End(End),
    /// Functions were put into directories of the kernel's sources; the last one counts.
    Places(Places),
}

/// Where functions of the kernel are defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// What that was taken from: `sources of Linux 6.1.192`.
    pub source: String,
    /// Directories by the names of [`Finding::Symbols`]; a function that is not there is in doubt.
    pub places: BTreeMap<String, String>,
}

/// What a session measures, where and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// What was to be done.
    pub plan: Plan,
    /// Facts about the machine by name, in the words of the report: kernel, mitigations, cgroup mode, processors.
    pub environment: BTreeMap<String, String>,
    /// What was measured, in the plan's order.
    pub platforms: Vec<Measured>,
}

/// A platform as it was on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// As in the plan.
    pub name: String,
    /// What it says of itself; empty when it has no version.
    pub version: String,
    /// SHA-256 of its program, hexadecimal; empty when there is none.
    pub sha256: String,
    /// What it does not do like the others, a sentence each.
    pub differences: Vec<String>,
}

/// One task on one platform in one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The task's name.
    pub task: String,
    /// The platform's name.
    pub platform: String,
    /// Counted from 0.
    pub block: usize,
    /// When it began by the machine's clock, milliseconds since 1970; None in journals of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// How long it took, seconds, everything included.
    pub seconds: f64,
    /// What of that is too much, in words; None when nothing stood out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disturbance: Option<String>,
    /// What else went on meanwhile; None where too little time has passed to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Turn {
    /// The outcome of one quantity; None when nothing is told of it. What a victim kept is made of what it did, where the journal has that.
    pub(crate) fn outcome(&self, wanted: &str) -> Option<Outcome> {
        let told = self.findings.iter().find_map(|finding| finding.outcome(wanted))?;
        let readings = self.findings.iter().find_map(|finding| match finding {
            Finding::Readings(readings) => Some(readings),
            _ => None,
        });
        // A victim that nobody disturbed kept nothing, whatever it did.
        Some(match (readings, wanted) {
            (Some(readings), RATE_KEPT) => told.and_then(|_| readings.rate_kept()),
            (Some(readings), TAIL_KEPT) => told.and_then(|_| readings.tail_kept()),
            _ => told,
        })
    }
}

/// What else the machine did during a turn, and for a moment before a short one. Shares are of 1; None where nobody counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// The time that this is about.
    pub seconds: f64,
    /// CPU time that other virtual machines had.
    pub stolen: Option<f64>,
    /// CPU time that programs had which do not belong to the measurement.
    pub others: Option<f64>,
    /// Time in which some task of the machine waited for memory, ours included.
    pub waited_for_memory: Option<f64>,
    /// Time in which some task of the machine waited for the disk, ours included.
    pub waited_for_disk: Option<f64>,
    /// The same without that in which some of ours did; only cgroup v2 counts these.
    pub others_waited_for_memory: Option<f64>,
    /// The same of the disk.
    pub others_waited_for_disk: Option<f64>,
    /// Tasks that ran or wanted to, mean of a minute.
    pub load: Option<f64>,
}

/// Something that was found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "kebab-case")]
pub enum Finding {
    /// A number, in the unit of its quantity.
    Amount {
        /// The quantity's name.
        quantity: String,
        /// Finite and above zero.
        value: f64,
    },
    /// Why there is no number.
    Failure {
        /// The quantity's name.
        quantity: String,
        /// In words: what failed or is not possible here.
        reason: String,
    },
    /// What a spatial probe found.
    Verdict {
        /// The probe's name.
        probe: String,
        /// What the sandbox could do.
        verdict: Reach,
        /// What its witness on the host saw.
        evidence: String,
    },
    /// What a victim and an antagonist came to, of which T and Q are made.
    Readings(Readings),
    /// Which code of the kernel ran.
    Footprint(Footprint),
    /// What is known of functions that footprints name, told once for each; what is told later counts.
    Symbols {
        /// By the function's name.
        symbols: BTreeMap<String, Symbol>,
    },
}

/// What an attempt from inside a sandbox reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// It was refused.
    Denied,
    /// The sandbox's own kernel answered; the host did not change.
    Virtual,
    /// Something of the host was read.
    Leak,
    /// Something of the host was changed.
    Breach,
    /// Nothing follows: the attempt does not even succeed without a wall, or it was not made.
    Moot,
}

/// What a victim did alone, and beside an antagonist.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// Alone; victims that meet several antagonists in a block share it.
    pub alone: Reading,
    /// When that had been taken, milliseconds since 1970.
    pub alone_at: u64,
    /// Beside the antagonist.
    pub beside: Reading,
}

/// What a victim said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Units a second of the closed loop, and of the open one for a victim that has no other.
    pub rate: f64,
    /// Of the open loop, microseconds; None where there was no loop with intended times.
    pub p90: Option<f64>,
    /// The share of the open loop's turns that never began.
    pub late: f64,
    /// Turns that it did.
    pub turns: u64,
}

/// How often each piece of the kernel ran on behalf of one process tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// Whose: `application`, `set-up`, `monitor`.
    pub part: String,
    /// What a name in `counts` is.
    pub level: Level,
    /// How often each function or system call was entered.
    pub counts: BTreeMap<String, u64>,
    /// Events that the kernel dropped; a footprint with any is a lower bound.
    pub lost: u64,
    /// How many stacks were sampled, of a footprint that comes from them; its counts say in how many each function stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
}

/// A function of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// The part of the kernel that it belongs to, as a directory of its sources: `mm`, `fs/ext4`.
    pub subsystem: String,
    /// The size of its code, bytes.
    pub bytes: u64,
}

/// How closely the kernel was watched (docs/measure.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Functions that stood in stacks of the kernel which were sampled: a lower bound, so that any complete count is better.
    Samples,
    /// System calls, by ptrace(2).
    Calls,
    /// System calls, by tracepoints.
    Tracepoints,
    /// Functions, by the function tracer.
    Functions,
}

impl Readings {
    /// T: the rate beside, divided by the rate alone.
    pub(crate) fn rate_kept(&self) -> Outcome {
        Amount::new(self.beside.rate / self.alone.rate)
    }

    /// Q: p90 alone, divided by p90 beside.
    pub(crate) fn tail_kept(&self) -> Outcome {
        if !printed::keeps_up(self.alone.late) {
            let share = self.alone.late * 100.0;
            return Err(Failure(format!(
                "alone it does not keep up either: {share:.0} % of its turns never began"
            )));
        }
        let both = self.alone.p90.zip(self.beside.p90);
        let (alone, beside) = both.ok_or_else(|| Failure("the victim told no latencies".to_owned()))?;
        Amount::new(alone / beside)
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum End {
    /// Everything that decides is known well enough, or was measured as often as planned.
    Complete,
    /// The time ran out.
    Budget,
    /// A signal came.
    Interrupted,
}

/// The fact that a run was in a guest.
pub(crate) const GUEST: &str = "guest";

/// Facts that make a machine.
const MACHINE: [&str; 3] = ["kernel", "processor", "memory"];

/// Facts that two runs must have in common to belong into one journal, and what is another one where they have not. Versions
/// that do not note one of them say nothing of it.
const IN_COMMON: &[(&str, &str)] = &[
    ("processors", "another machine or kernel"),
    ("cgroups", "another machine or kernel"),
    ("user", "another user"),
    ("files", "files on another file system, which TMPDIR names"),
    (WEIGHT, "another weight beside the machine's other work, which platforms with a daemon change"),
    (provenance::PROGRAM, "another bulkhead"),
    (provenance::WORKLOAD, "another bulkload"),
];

impl Run {
    /// Whether this and another run were on one machine. A guest tells nothing of the machine that it is in.
    pub fn shares_machine_with(&self, other: &Self) -> bool {
        let is_guest = |run: &Self| run.environment.contains_key(GUEST);
        let same = |fact: &&str| self.environment.get(*fact) == other.environment.get(*fact);
        is_guest(self) != is_guest(other) || MACHINE.iter().all(same)
    }

    /// Why numbers of this run and of an earlier one do not belong into one journal; None when they do.
    pub fn differs_from(&self, earlier: &Self) -> Option<String> {
        let mut facts = MACHINE.iter();
        if facts.any(|fact| self.environment.get(*fact) != earlier.environment.get(*fact)) {
            return Some("another machine or kernel".to_owned());
        }
        let differs = |(fact, _): &&(&str, &str)| {
            let both = earlier.environment.get(*fact).zip(self.environment.get(*fact));
            both.is_some_and(|(before, now)| before != now)
        };
        if let Some((_, other)) = IN_COMMON.iter().find(differs) {
            return Some((*other).to_owned());
        }
        let is_other = |platform: &&Measured| {
            let before = earlier.platforms.iter().find(|before| before.name == platform.name);
            before.is_some_and(|before| before.sha256 != platform.sha256)
        };
        self.platforms.iter().find(is_other).map(|other| format!("another program called {}", other.name))
    }
}

impl Finding {
    /// What a turn of `task` gave; a turn that failed gives each of the task's quantities the reason.
    pub fn of_task<Name: AsRef<str>>(
        task: &Task,
        amounts: Result<Vec<(Name, Outcome)>, Failure>,
    ) -> Vec<Self> {
        match amounts {
            Ok(amounts) => {
                amounts.into_iter().map(|(name, outcome)| Self::of(name.as_ref(), outcome)).collect()
            }
            Err(failure) => {
                let failed = |quantity: &Quantity| Self::of(&quantity.name, Err(failure.clone()));
                task.quantities.iter().map(failed).collect()
            }
        }
    }

    /// What a run gave, for the quantity called `quantity`.
    pub fn of(quantity: &str, outcome: Outcome) -> Self {
        let quantity = quantity.to_owned();
        match outcome {
            Ok(amount) => Self::Amount { quantity, value: amount.value() },
            Err(Failure(reason)) => Self::Failure { quantity, reason },
        }
    }

    /// The outcome of one quantity; None when this is about something else.
    pub fn outcome(&self, wanted: &str) -> Option<Outcome> {
        match self {
            Self::Amount { quantity, value } if quantity == wanted => Some(Amount::new(*value)),
            Self::Failure { quantity, reason } if quantity == wanted => Some(Err(Failure(reason.clone()))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kernel: &str, sha256: &str) -> Run {
        let measured = Measured {
            name: "runc".to_owned(),
            version: "1".to_owned(),
            sha256: sha256.to_owned(),
            differences: Vec::new(),
        };
        Run {
            version: VERSION,
            plan: Plan { platforms: Vec::new(), tasks: Vec::new(), seed: 1 },
            environment: [("kernel".to_owned(), kernel.to_owned())].into(),
            platforms: vec![measured],
        }
    }

    #[test]
    fn what_is_kept_is_made_of_what_was_read() {
        let reading = |rate, p90| Reading { rate, p90: Some(p90), late: 0.0, turns: 9 };
        let readings = Readings {
            alone: reading(100.0, 20.0),
            alone_at: 1_764_000_000_000,
            beside: reading(50.0, 80.0),
        };
        let line = serde_json::to_string(&Finding::Readings(readings)).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&line).unwrap(), Finding::Readings(readings), "{line}");
        assert!(line.len() < 250, "each of many turns has one of {} bytes", line.len());
        let of = |kept: [Outcome; 2]| {
            let [rate, tail] = kept;
            let findings =
                vec![Finding::Readings(readings), Finding::of(RATE_KEPT, rate), Finding::of(TAIL_KEPT, tail)];
            let (task, platform) = (String::new(), String::new());
            Turn {
                task,
                platform,
                block: 0,
                began: None,
                seconds: 1.0,
                disturbance: None,
                noise: None,
                findings,
            }
        };
        let turn = of([Amount::new(0.9), Amount::new(0.9)]);
        let kept = [RATE_KEPT, TAIL_KEPT].map(|name| turn.outcome(name).unwrap().unwrap().value());
        assert_eq!(kept, [0.5, 0.25]);
        let refused = || Err(Failure(UNPRESSED.to_owned()));
        assert_eq!(of([refused(), refused()]).outcome(RATE_KEPT), Some(refused()));
        assert_eq!(turn.outcome("rate"), None);
    }

    #[test]
    fn only_what_belongs_together_is_resumed() {
        let differs = |kernel: &str, sha256: &str| run(kernel, sha256).differs_from(&run("6.1", "aa"));
        assert_eq!(differs("6.1", "aa"), None);
        assert_eq!(differs("6.2", "aa").unwrap(), "another machine or kernel");
        assert!(run("6.1", "aa").shares_machine_with(&run("6.1", "bb")));
        assert!(!run("6.1", "aa").shares_machine_with(&run("6.2", "aa")));
        let mut guest = run("6.2", "aa");
        guest.environment.insert(GUEST.to_owned(), "QEMU".to_owned());
        assert!(guest.shares_machine_with(&run("6.1", "aa")), "it is in that machine, for all that is known");
        assert_eq!(differs("6.1", "bb").unwrap(), "another program called runc");
        for (fact, expected) in IN_COMMON {
            let with = |value: &str| {
                let mut run = run("6.1", "aa");
                run.environment.insert((*fact).to_owned(), value.to_owned());
                run
            };
            assert_eq!(with("cc").differs_from(&with("cc")), None, "{fact}");
            assert_eq!(run("6.1", "aa").differs_from(&with("cc")), None, "{fact}");
            assert_eq!(with("dd").differs_from(&with("cc")).as_deref(), Some(*expected), "{fact}");
        }
    }
}
