//! What is done next, and how often each task is done in the time that there is.
//!
//! ```text
//!   one block of everything ──► what a block of each task costs ──► goals: so many blocks of each in the time that is left
//!                                         ▲                                       │
//!                                         └── after each block ◄── the task that is furthest from its goal
//! ```
//!
//! Tasks share the whole time evenly, so that a noisy minute meets a part of everything and not all of something. Where time is
//! short, [`TIERS`] says what goes without.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hash;
use crate::plan::{Plan, Rank, Task};
use crate::record::Turn;
use crate::results::Results;
use crate::stats::FEWEST_PAIRS;

use super::Time;

/// The share of the time that is planned: no block takes exactly what those before took.
const PLANNED: f64 = 0.985;

/// In which order time is given, after one block of everything. What does not fit is left out from the end.
const TIERS: &[(Rank, Extent)] = &[
    (Rank::Row, Extent::Interval),
    (Rank::Pair, Extent::Interval),
    (Rank::Count, Extent::Most),
    (Rank::Row, Extent::Least),
    (Rank::Pair, Extent::Least),
    (Rank::Beside, Extent::Least),
    (Rank::Row, Extent::Most),
    (Rank::Pair, Extent::Most),
    (Rank::Beside, Extent::Most),
];

/// How many blocks of a task.
#[derive(Clone, Copy, Debug)]
enum Extent {
    /// The fewest that an interval of 95 % can be told of.
    Interval,
    /// [`Task::least`]
    Least,
    /// [`Task::most`]
    Most,
}

/// How far the tasks of a plan are.
#[derive(Debug)]
pub(super) struct Course<'a> {
    platforms: &'a [String],
    seed: u64,
    /// In the plan's order.
    tasks: Vec<Stand<'a>>,
}

/// How far one task is.
#[derive(Debug)]
struct Stand<'a> {
    task: &'a Task,
    /// Turns of each block that was begun.
    begun: BTreeMap<usize, usize>,
    seconds: f64,
    turns: usize,
    is_known: bool,
}

impl<'a> Course<'a> {
    /// After what `results` has of `plan`, which is theirs.
    pub(super) fn of(plan: &'a Plan, results: &Results) -> Self {
        let stand = |task| Stand { task, begun: BTreeMap::new(), seconds: 0.0, turns: 0, is_known: false };
        let mut course = Self {
            platforms: &plan.platforms,
            seed: plan.seed,
            tasks: plan.tasks.iter().map(stand).collect(),
        };
        results.turns.iter().for_each(|turn| course.note(turn));
        (0..plan.tasks.len()).for_each(|task| course.look(task, results));
        course
    }

    /// A turn was taken.
    pub(super) fn note(&mut self, turn: &Turn) {
        let stand = self.tasks.iter_mut().find(|stand| stand.task.name == turn.task);
        if let Some(stand) = stand.filter(|_| self.platforms.contains(&turn.platform)) {
            *stand.begun.entry(turn.block).or_default() += 1;
            stand.seconds += turn.seconds;
            stand.turns += 1;
        }
    }

    /// Whether the task of this number, of which a block has ended, is known well enough by now.
    pub(super) fn look(&mut self, task: usize, results: &Results) {
        if let Some(stand) = self.tasks.get_mut(task) {
            stand.is_known =
                stand.done(self.platforms.len()) >= stand.task.least && results.is_known(stand.task);
        }
    }

    /// The number of the task whose turn it is, and its block; None when nothing more is to be done in this time.
    pub(super) fn next(&self, time: Time, elapsed: Duration) -> Option<(usize, usize)> {
        let task = match time {
            Time::Unlimited => self.furthest(&self.wanted()),
            Time::Firm(whole) => self.within(spare(whole, elapsed)),
            Time::Meant(whole) => self.within(spare(whole, elapsed)).or_else(|| self.owed()),
        }?;
        Some((task, self.done(task)))
    }

    /// A victim meets its antagonists in an order that is drawn anew for each block: what its reading alone is too old for is not
    /// always the same of them. One of those that stand as `task` does and are due.
    fn drawn(&self, task: usize, is_due: impl Fn(usize) -> bool) -> usize {
        let victim =
            |task: usize| self.tasks[task].task.pair.as_ref().map(|pair| (&pair.victim, pair.limits));
        let block = self.done(task);
        let same = |other: &usize| victim(*other) == victim(task) && self.done(*other) == block;
        let met = (0..self.tasks.len())
            .filter(|_| victim(task).is_some())
            .filter(same)
            .filter(|other| is_due(*other));
        let draw =
            |other: &usize| hash::of(&format!("{} {block} {}", self.seed, self.tasks[*other].task.name));
        met.min_by_key(draw).unwrap_or(task)
    }

    /// Whether this task has a block to come in any time that is only meant.
    pub(super) fn is_owed(&self, task: usize) -> bool {
        self.tasks.get(task).is_some_and(|stand| {
            stand.task.rank() == Rank::Row && self.done(task) < stand.extent(Extent::Interval)
        })
    }

    /// Whether everything was done that was planned at most, or is known well enough.
    pub(super) fn is_complete(&self) -> bool {
        !(0..self.tasks.len()).any(|task| self.wants(task, self.done(task), Extent::Most))
    }

    /// The time that is likely left.
    pub(super) fn left(&self, time: Time, elapsed: Duration) -> Option<Duration> {
        let turns: usize = self.tasks.iter().map(|stand| stand.turns).sum();
        let mean = self.tasks.iter().map(|stand| stand.seconds).sum::<f64>() / turns as f64;
        let goals = match time {
            Time::Unlimited => self.wanted(),
            // Before everything was done once nobody knows: what is planned is all of it.
            Time::Firm(whole) | Time::Meant(whole) if turns == 0 || self.first().is_some() => {
                return Some(whole.saturating_sub(elapsed));
            }
            Time::Firm(whole) | Time::Meant(whole) => self.goals(spare(whole, elapsed)),
        };
        if turns == 0 {
            return None;
        }
        let left = self.tasks.iter().zip(goals).map(|(stand, goal)| {
            // Of what is not limited the least is due, and the block that was begun.
            let goal = if time == Time::Unlimited { goal.min(stand.task.least) } else { goal };
            let due = (0..goal.max(stand.begun.len())).map(|block| {
                self.platforms.len().saturating_sub(stand.begun.get(&block).copied().unwrap_or(0))
            });
            let each = if stand.turns == 0 { mean } else { stand.seconds / stand.turns as f64 };
            due.sum::<usize>() as f64 * each
        });
        let left = Duration::from_secs_f64(left.sum::<f64>().max(mean));
        Some(match time {
            Time::Unlimited | Time::Meant(_) => left,
            Time::Firm(whole) => left.min(whole.saturating_sub(elapsed)),
        })
    }

    /// The task to go on with in a time of which so many seconds are left to be planned.
    fn within(&self, left: f64) -> Option<usize> {
        if left <= 0.0 {
            return None;
        }
        let Some(first) = self.first() else { return self.furthest(&self.goals(left)) };
        // On a machine so slow that one of everything takes all of the time, rows get their intervals first. What has not been
        // done yet takes as long as anything else, for all that is known.
        let unknown = (0..self.tasks.len()).map(|task| self.cost(task)).fold(0.0, f64::max);
        let owed = self.owed().filter(|task| self.done(*task) > 0 && self.owing() + unknown >= left);
        owed.or(Some(first))
    }

    /// The first task of which nothing was done.
    fn first(&self) -> Option<usize> {
        let is_due = |task: usize| self.done(task) == 0 && self.tasks[task].task.most > 0;
        (0..self.tasks.len()).find(|task| is_due(*task)).map(|task| self.drawn(task, is_due))
    }

    /// The row that lacks most of what it is owed.
    fn owed(&self) -> Option<usize> {
        (0..self.tasks.len()).filter(|task| self.is_owed(*task)).min_by_key(|task| self.done(*task))
    }

    /// The seconds that all rows are owed.
    fn owing(&self) -> f64 {
        let owed = (0..self.tasks.len()).filter(|task| self.is_owed(*task));
        let seconds = owed.map(|task| {
            let blocks = self.tasks[task].extent(Extent::Interval) - self.done(task);
            blocks as f64 * self.cost(task)
        });
        seconds.sum()
    }

    /// Blocks of each task when no time is given: the least of all, and then as many as it takes to know them.
    fn wanted(&self) -> Vec<usize> {
        let is_short = |extent| (0..self.tasks.len()).any(|task| self.wants(task, self.done(task), extent));
        let extent = if is_short(Extent::Least) { Extent::Least } else { Extent::Most };
        let wanted = |task: usize| {
            let done = self.done(task);
            if self.wants(task, done, extent) { self.tasks[task].extent(extent) } else { done }
        };
        (0..self.tasks.len()).map(wanted).collect()
    }

    /// Blocks of each task of which one was done, when so many seconds are left.
    fn goals(&self, mut left: f64) -> Vec<usize> {
        let mut goals = Vec::from_iter((0..self.tasks.len()).map(|task| self.done(task)));
        for (rank, extent) in TIERS {
            loop {
                let of_rank = (0..goals.len()).filter(|task| self.tasks[*task].task.rank() == *rank);
                let wanting = Vec::from_iter(of_rank.filter(|task| self.wants(*task, goals[*task], *extent)));
                let Some(level) = wanting.iter().map(|task| goals[*task]).min() else { break };
                let level = Vec::from_iter(wanting.into_iter().filter(|task| goals[*task] == level));
                let price: f64 = level.iter().map(|task| self.cost(*task)).sum();
                let fits = price <= left;
                for task in level {
                    // Pairs are judged together, so that one more block of some of them is none.
                    if fits || *rank != Rank::Pair && self.cost(task) <= left {
                        goals[task] += 1;
                        left -= self.cost(task);
                    }
                }
                if !fits {
                    break;
                }
            }
        }
        goals
    }

    /// Whether more than so many blocks of this task are wanted: it shall come to more, and is not known well enough.
    fn wants(&self, task: usize, blocks: usize, extent: Extent) -> bool {
        let stand = &self.tasks[task];
        let is_enough = stand.is_known && blocks >= stand.task.least;
        blocks < stand.extent(extent) && !is_enough
    }

    /// The task that has the smallest part of its blocks, the first of several.
    fn furthest(&self, goals: &[usize]) -> Option<usize> {
        let part = |task: &usize| self.done(*task) as f64 / goals[*task] as f64;
        let is_due = |task: usize| self.done(task) < goals[task];
        let open = (0..goals.len()).filter(|task| is_due(*task));
        let furthest = open.min_by(|one, other| part(one).total_cmp(&part(other)));
        furthest.map(|task| self.drawn(task, |other| is_due(other) && part(&other) <= part(&task)))
    }

    /// The seconds that a block of this task takes; nothing while that is not known.
    fn cost(&self, task: usize) -> f64 {
        let Stand { seconds, turns, .. } = self.tasks[task];
        if turns == 0 { 0.0 } else { seconds / turns as f64 * self.platforms.len() as f64 }
    }

    fn done(&self, task: usize) -> usize {
        self.tasks[task].done(self.platforms.len())
    }
}

impl Stand<'_> {
    /// Whole blocks from the first on.
    fn done(&self, platforms: usize) -> usize {
        (0..).take_while(|block| self.begun.get(block).is_some_and(|turns| *turns >= platforms)).count()
    }

    fn extent(&self, extent: Extent) -> usize {
        match extent {
            Extent::Interval => FEWEST_PAIRS.min(self.task.most),
            Extent::Least => self.task.least,
            Extent::Most => self.task.most,
        }
    }
}

/// Seconds of the planned part of `whole` that are left.
fn spare(whole: Duration, elapsed: Duration) -> f64 {
    whole.as_secs_f64() * PLANNED - elapsed.as_secs_f64()
}
