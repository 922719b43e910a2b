//! One sitting: goes through the blocks of a plan until everything is known well enough, the time is up or someone interrupts.
//!
//! Blocks go round the tasks, so that a short time leaves something of everything (`course`). In each block the platforms come
//! in an order drawn anew. What an earlier session on the same journal has done is not done again.

use std::collections::HashSet;
use std::time::Duration;

use crate::hash;
#[cfg(doc)]
use crate::plan::Rank;
use crate::plan::{Plan, Task};
use crate::record::{End, Finding, Journal, JournalError, Line, Noise, OUT_OF_TIME, Run, Turn};
use crate::results::Results;
#[cfg(doc)]
use crate::stats::FEWEST_PAIRS;
use crate::stats::Schedule;

mod course;

use self::course::Course;

/// Whoever can do a task: the machine, or a test's stand-in.
pub trait Executor {
    /// Does `task` once on the platform of this name. What fails is a finding, too.
    fn take(&mut self, task: &Task, platform: &str, block: usize) -> Vec<Finding>;

    /// What else the machine did since this was asked last; None where that cannot be told.
    fn noise(&mut self) -> Option<Noise>;

    /// The machine's clock, milliseconds since 1970.
    fn clock(&self) -> u64;

    /// The time since the session began.
    fn elapsed(&self) -> Duration;

    /// Whether someone wants the session to end.
    fn is_interrupted(&self) -> bool;

    /// The session ends at this time since it began: what takes long may end earlier with what it has.
    fn ends(&mut self, _at: Duration) {}
}

/// How long a session may take. What does not fit in is left out, whole blocks of it, in an order of which [`Rank`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Until everything is known well enough.
    Unlimited,
    /// No longer than this.
    Firm(Duration),
    /// So long, but that rows have the blocks in any case of which an interval can be told ([`FEWEST_PAIRS`]).
    Meant(Duration),
}

/// How far a session is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<'a> {
    /// What is done next.
    pub task: &'a str,
    /// And on which platform.
    pub platform: &'a str,
    /// Counted from 0.
    pub block: usize,
    /// The time that is likely left, from the pace so far; None before anything is known.
    pub left: Option<Duration>,
}

/// Measures `run.plan` and writes everything into `journal`; `earlier` is what that holds already.
///
/// `time` ends the session between two turns.
///
/// # Errors
/// When the journal cannot be written. A platform that fails is a finding and no error.
pub fn run(
    run: Run,
    earlier: Option<Results>,
    journal: &mut Journal,
    executor: &mut dyn Executor,
    time: Time,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Results, JournalError> {
    journal.add(&Line::Run(run.clone()))?;
    let mut results = match earlier {
        Some(earlier) => Results { run, end: None, ..earlier },
        None => Results::begun(run),
    };
    if let Time::Firm(whole) = time {
        executor.ends(whole);
    }
    let plan = results.plan().clone();
    let mut course = Course::of(&plan, &results);
    let key = |turn: &Turn| (turn.task.clone(), turn.platform.clone(), turn.block);
    let done: HashSet<_> = results.turns.iter().map(key).collect();
    let end = 'session: {
        while let Some((number, block)) = course.next(time, executor.elapsed()) {
            let task = &plan.tasks[number];
            for platform in order(&plan, task, block) {
                if done.contains(&(task.name.clone(), platform.to_owned(), block)) {
                    continue;
                }
                if executor.is_interrupted() {
                    break 'session End::Interrupted;
                }
                if time.is_up(executor.elapsed()) && !(time.yields() && course.is_owed(number)) {
                    break 'session End::Budget;
                }
                let left = course.left(time, executor.elapsed());
                progress(&Progress { task: &task.name, platform, block, left });
                let turn = turn(executor, task, platform, block);
                // What an interruption broke off says nothing about the platform.
                if executor.is_interrupted() {
                    break 'session End::Interrupted;
                }
                if is_out_of_time(&turn) {
                    break 'session End::Budget;
                }
                course.note(&turn);
                journal.add(&Line::Turn(turn.clone()))?;
                results.turns.push(turn);
            }
            course.look(number, &results);
        }
        if course.is_complete() { End::Complete } else { End::Budget }
    };
    journal.add(&Line::End(end))?;
    results.end = Some(end);
    Ok(results)
}

/// Whether the end of the time is all that was found: the next session does it again.
fn is_out_of_time(turn: &Turn) -> bool {
    let is_so = |finding: &Finding| matches!(finding, Finding::Failure { reason, .. } if reason.starts_with(OUT_OF_TIME));
    !turn.findings.is_empty() && turn.findings.iter().all(is_so)
}

fn turn(executor: &mut dyn Executor, task: &Task, platform: &str, block: usize) -> Turn {
    let (clock, begun) = (executor.clock(), executor.elapsed());
    let findings = executor.take(task, platform, block);
    let seconds = executor.elapsed().saturating_sub(begun).as_secs_f64();
    let noise = executor.noise();
    let disturbance = noise.as_ref().and_then(Noise::disturbance);
    Turn {
        task: task.name.clone(),
        platform: platform.to_owned(),
        block,
        began: Some(clock),
        seconds,
        disturbance,
        noise,
        findings,
    }
}

/// The platforms in the order that belongs to this block of this task, the same in every session.
fn order<'a>(plan: &'a Plan, task: &Task, block: usize) -> impl Iterator<Item = &'a str> {
    // Each task has orders of its own.
    let name = hash::of(&task.name);
    let order = Schedule::new(plan.platforms.len(), plan.seed ^ name).nth(block).unwrap_or_default();
    order.into_iter().map(|platform| plan.platforms[platform].as_str())
}

impl Time {
    fn is_up(self, elapsed: Duration) -> bool {
        match self {
            Self::Unlimited => false,
            Self::Firm(whole) | Self::Meant(whole) => elapsed >= whole,
        }
    }

    /// Whether it yields to what a row is owed.
    fn yields(self) -> bool {
        matches!(self, Self::Meant(_))
    }
}

#[cfg(test)]
mod tests;
