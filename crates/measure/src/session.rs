//! One sitting: goes through the blocks of a plan until everything is known well enough, the time is up or someone interrupts.
//!
//! Blocks go round the tasks, so that a short budget leaves something of everything. In each block the platforms come
//! in an order drawn anew. What an earlier session on the same journal has done is not done again.

use std::collections::HashSet;
use std::time::Duration;

use crate::hash;
use crate::plan::{Plan, Task};
use crate::record::{End, Finding, Journal, JournalError, Line, Noise, Run, Turn};
use crate::results::Results;
use crate::stats::Schedule;

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
/// `budget` ends the session after a time, between two turns.
///
/// # Errors
/// When the journal cannot be written. A platform that fails is a finding and no error.
pub fn run(
    run: Run,
    earlier: Option<Results>,
    journal: &mut Journal,
    executor: &mut dyn Executor,
    budget: Option<Duration>,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Results, JournalError> {
    journal.add(&Line::Run(run.clone()))?;
    let mut results = match earlier {
        Some(earlier) => Results { run, end: None, ..earlier },
        None => Results::begun(run),
    };
    let plan = results.plan().clone();
    let key = |turn: &Turn| (turn.task.clone(), turn.platform.clone(), turn.block);
    let done: HashSet<_> = results.turns.iter().map(key).collect();
    let least = plan.tasks.iter().flat_map(|task| {
        plan.platforms.iter().flat_map(move |platform| {
            (0..task.least).map(move |block| (task.name.clone(), platform.clone(), block))
        })
    });
    let mut pace = Pace { due: least.filter(|key| !done.contains(key)).count(), ..Pace::default() };
    let end = 'session: {
        for block in 0..plan.tasks.iter().map(|task| task.most).max().unwrap_or(0) {
            for task in &plan.tasks {
                if block >= task.most || (block >= task.least && results.is_known(task)) {
                    continue;
                }
                for platform in order(&plan, task, block) {
                    if done.contains(&(task.name.clone(), platform.to_owned(), block)) {
                        continue;
                    }
                    if executor.is_interrupted() {
                        break 'session End::Interrupted;
                    }
                    if budget.is_some_and(|budget| executor.elapsed() >= budget) {
                        break 'session End::Budget;
                    }
                    let budget_left = budget.map(|budget| budget.saturating_sub(executor.elapsed()));
                    let left = pace.left(plan.platforms.len(), budget_left);
                    progress(&Progress { task: &task.name, platform, block, left });
                    let turn = turn(executor, task, platform, block);
                    // What an interruption broke off says nothing about the platform.
                    if executor.is_interrupted() {
                        break 'session End::Interrupted;
                    }
                    pace.note(&turn, block < task.least);
                    journal.add(&Line::Turn(turn.clone()))?;
                    results.turns.push(turn);
                }
            }
        }
        End::Complete
    };
    journal.add(&Line::End(end))?;
    results.end = Some(end);
    Ok(results)
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

/// What the turns took so far, by which the rest is guessed.
#[derive(Debug, Default)]
struct Pace {
    /// Turns that must be taken before anything may end, and were not.
    due: usize,
    turns: u32,
    seconds: f64,
}

impl Pace {
    fn note(&mut self, turn: &Turn, was_due: bool) {
        self.due -= usize::from(was_due);
        self.turns += 1;
        self.seconds += turn.seconds;
    }

    /// At least until each task had its least number of blocks, or until a block of one more task ends, at most until the
    /// budget does.
    fn left(&self, platforms: usize, budget: Option<Duration>) -> Option<Duration> {
        if self.turns == 0 {
            return budget;
        }
        let turns = self.due.max(platforms);
        let guess = Duration::from_secs_f64(turns as f64 * self.seconds / f64::from(self.turns));
        Some(budget.map_or(guess, |budget| budget.min(guess)))
    }
}

#[cfg(test)]
mod tests;
