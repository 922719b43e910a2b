//! What the wall costs: the life of a sandbox, and the work in it.
//!
//! Each [`Act`] is a task of the plan. What it does is the same on every platform; where a platform cannot, the act
//! fails with the reason. Bare processes do what comes nearest: they are started instead of executed in a sandbox, and
//! frozen by the kernel without a program in between.

use std::time::Duration;

use crate::arena::{self, Arena, LIMIT};
use crate::plan::{Axis, BOOT, DENSITY, FIRST_BYTE, HEAVY, Quantity, Size, Task, WORK};
use crate::platform::{Platform, Seat};
use crate::record::Finding;
use crate::stage::Stage;
use crate::started::{Input, Started};
use crate::stats::{Amount, Failure, Outcome};

mod density;
mod heavy;
mod life;
mod throughput;
mod work;

pub use heavy::Load;
pub use work::Work;

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// From the start of the platform's program to the first byte of the program in the sandbox.
    Boot,
    /// A whole sandbox, from nothing to nothing.
    Run,
    /// One more program in a sandbox.
    Exec,
    /// Create, start, kill and delete.
    Steps,
    /// Pause and resume.
    Pause,
    /// Sandboxes in a second, this many at a time.
    Starts(usize),
    /// Memory that each of up to so many idle sandboxes takes.
    Density(usize),
    /// Memory that making a sandbox takes.
    Peak,
    /// A workload.
    Work(Work),
    /// Programs that others wrote; never a part of a run that did not ask for them.
    Heavy(Load),
}

/// What one turn gave, by the names of the quantities.
type Amounts = Vec<(&'static str, Outcome)>;

/// The tasks of this axis in a run of this size.
pub(crate) fn tasks(size: Size) -> Vec<Task> {
    acts(size).into_iter().map(|act| act.task(size)).collect()
}

/// The tasks of the heavy profile.
pub(crate) fn heavy_tasks() -> Vec<Task> {
    Load::all().map(|load| Act::Heavy(load).task(Size::Full)).collect()
}

/// Does `task` once; nothing when it is none of this axis.
pub(crate) fn take(task: &Task, arena: &Arena, platform: &Platform) -> Option<Vec<Finding>> {
    Act::named(&task.name).map(|act| Finding::of_task(task, act.take(task, arena, platform)))
}

/// Gives a task that wants one, and has none, the rate of its open loop.
pub(crate) fn set_rate(task: &mut Task, rate: f64) {
    if unpaced(task).is_some() {
        task.says += &work::says(rate);
        task.rate = Some(rate);
    }
}

/// The same with a rate that the bare process, asked now, finds easy. One that cannot be found out is missed later, by each
/// platform's turn.
pub(crate) fn pace(task: &mut Task, arena: &Arena, bare: &Platform) {
    let rate = unpaced(task).and_then(|work| work.rate(Stage { arena, platform: bare }).ok());
    rate.iter().for_each(|rate| set_rate(task, *rate));
}

/// The workload of a task that lacks the rate of its open loop.
fn unpaced(task: &Task) -> Option<Work> {
    match Act::named(&task.name) {
        Some(Act::Work(work)) if task.rate.is_none() && work::has_tail(task) => Some(work),
        _ => None,
    }
}

/// The acts of a run of this size, in the order in which a block goes through them.
pub fn acts(size: Size) -> Vec<Act> {
    let mut acts = match size {
        Size::Quick => vec![Act::Boot, Act::Run],
        Size::Full => vec![Act::Boot, Act::Run, Act::Exec, Act::Steps, Act::Pause, Act::Peak],
    };
    if size == Size::Full {
        acts.extend([1, 2, 8].map(Act::Starts));
        acts.extend([100, 1000].map(Act::Density));
    }
    acts.extend(Work::of(size).map(Act::Work));
    acts
}

impl Act {
    /// The act of this name, of any size or profile.
    pub fn named(name: &str) -> Option<Self> {
        let acts = acts(Size::Full).into_iter().chain(Load::all().map(Act::Heavy));
        acts.into_iter().find(|act| act.name() == name)
    }

    /// The task's name.
    pub fn name(self) -> String {
        match self {
            Self::Boot => BOOT.to_owned(),
            Self::Run => "run".to_owned(),
            Self::Exec => "exec".to_owned(),
            Self::Steps => "steps".to_owned(),
            Self::Pause => "pause".to_owned(),
            Self::Starts(count) => format!("starts, {count} at a time"),
            Self::Density(most) => format!("{DENSITY}to {most}"),
            Self::Peak => "set-up peak".to_owned(),
            Self::Work(work) => format!("{WORK}{}", work.name()),
            Self::Heavy(load) => format!("{HEAVY}{}", load.name()),
        }
    }

    /// The task as the plan has it.
    pub fn task(self, size: Size) -> Task {
        let (least, most) = self.blocks(size);
        let (says, quantities) = self.quantities(size);
        Task {
            name: self.name(),
            axis: Axis::Performance,
            says: says.to_owned(),
            quantities,
            least,
            most,
            pair: None,
            rate: None,
        }
    }

    /// How many blocks at least and at most.
    fn blocks(self, size: Size) -> (usize, usize) {
        match (self, size) {
            (Self::Density(most), _) => {
                if most > 100 {
                    (2, 2)
                } else {
                    (3, 6)
                }
            }
            (Self::Starts(_) | Self::Heavy(_), _) => (6, 12),
            (_, Size::Quick) => (6, 20),
            (_, Size::Full) => (12, 40),
        }
    }

    /// What the numbers mean, in one sentence, and the numbers.
    fn quantities(self, size: Size) -> (&'static str, Vec<Quantity>) {
        let less = Quantity::less;
        match self {
            Self::Boot => (
                "From the start of the platform's program to the first byte that the program in the sandbox writes.",
                vec![less(FIRST_BYTE, "ms"), less("CPU", "ms").beside()],
            ),
            Self::Run => (
                "A sandbox is made, runs a program that ends at once, and is removed.",
                vec![less("to exit", "ms"), less("CPU", "ms").beside()],
            ),
            Self::Exec => (
                "One more program in a sandbox that is there, from the call to its end.",
                vec![less("to exit", "ms"), less("CPU", "ms").beside()],
            ),
            Self::Steps => (
                "The four steps of a sandbox's life, each from the call to its end; after start and kill it is let alone for \
                 a fifth of a second. A bare process has no such steps.",
                ["create", "start", "kill", "delete"].map(|name| less(name, "ms").beside()).into(),
            ),
            Self::Pause => (
                "Pause and resume of a sandbox, from the call to its end; bare is the kernel's freezer alone.",
                ["pause", "resume"].map(|name| less(name, "ms").beside()).into(),
            ),
            Self::Starts(_) => (
                "Sandboxes that are made, run a program that ends at once, and are removed, as many at a time as said.",
                vec![Quantity::more("rate", "1/s")],
            ),
            Self::Density(most) => (
                "What each further idle sandbox takes, as the slope over 1 to as many as said: the memory of its \
                 processes, the runtime's or monitor's included (PSS), what its cgroup is charged, and the kernel's \
                 slabs, stacks and page tables.",
                vec![
                    // Of so many there are too few blocks for a verdict.
                    if most > 100 { less("processes", "KiB").beside() } else { less("processes", "KiB") },
                    less("charged", "KiB").beside(),
                    less("kernel", "KiB").beside(),
                ],
            ),
            Self::Peak => (
                "What the sandbox's cgroup was charged at most until its program ran: the least limit of memory.",
                vec![less("memory", "KiB").beside()],
            ),
            Self::Work(work) => (work.says(), work::quantities(work, size)),
            Self::Heavy(load) => (load.says(), load.quantities()),
        }
    }

    /// Does it once. What fails leaves nothing behind.
    fn take(self, task: &Task, arena: &Arena, platform: &Platform) -> Result<Amounts, Failure> {
        let stage = Stage { arena, platform };
        match self {
            Self::Boot => life::boot(stage),
            Self::Run => life::run(stage),
            Self::Exec => life::exec(stage),
            Self::Steps => life::steps(stage),
            Self::Pause => life::pause(stage),
            Self::Starts(count) => throughput::starts(stage, count),
            Self::Density(most) => density::slope(stage, most),
            Self::Peak => life::peak(stage),
            Self::Work(work) => work.take(task, stage),
            Self::Heavy(load) => load.take(stage),
        }
    }
}

impl Stage<'_> {
    /// Starts a sandbox whose program waits, does something with it, and lets it end.
    fn beside<T>(&self, what: impl FnOnce(&Seat, &Started) -> Result<T, Failure>) -> Result<T, Failure> {
        self.on_seat(&["ready"], |seat, words| {
            let mut started = arena::start(self.platform.run(seat, words), seat, Input::Held)?;
            started.first_byte(LIMIT)?;
            let found = what(seat, &started)?;
            started.let_go();
            started.finish(LIMIT)?;
            Ok(found)
        })
    }
}

fn milliseconds(time: Duration) -> Outcome {
    Amount::new(time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_is_found_by_its_name() {
        for act in acts(Size::Full).into_iter().chain(acts(Size::Quick)).chain(Load::all().map(Act::Heavy)) {
            assert_eq!(Act::named(&act.name()), Some(act), "{}", act.name());
            let task = act.task(Size::Quick);
            assert!(!task.quantities.is_empty() && task.least <= task.most, "{task:?}");
        }
        assert_eq!(Act::named("dance"), None);
    }

    #[test]
    fn a_rate_is_given_once_and_where_one_is_wanted() {
        for (act, size, is_wanted) in [
            (Act::named("work cpu").unwrap(), Size::Full, true),
            (Act::named("work cpu").unwrap(), Size::Quick, false),
            (Act::Boot, Size::Full, false),
        ] {
            let mut task = act.task(size);
            let before = task.clone();
            set_rate(&mut task, 500.0);
            assert_eq!(task.rate, is_wanted.then_some(500.0), "{}", task.name);
            assert_eq!(task.says.ends_with("500 a second."), is_wanted, "{}", task.says);
            let paced = task.clone();
            set_rate(&mut task, 200.0);
            assert_eq!(task, if is_wanted { paced } else { before });
        }
    }
}
