//! What the turns of a journal say together: one experiment for each quantity.

use std::collections::{BTreeMap, HashMap};

use crate::plan::{LEFT, Plan, Quantity, RATE_KEPT, Task};
use crate::record::{End, Line, Places, Run, Turn};
#[cfg(doc)]
use crate::stats::Comparison;
use crate::stats::Experiment;

/// Everything that a journal holds, sessions that resumed an earlier one included.
#[derive(Clone, Debug)]
pub struct Results {
    /// The last session's beginning: the plan that holds.
    pub run: Run,
    /// In the order in which they were done.
    pub turns: Vec<Turn>,
    /// Why the last session ended; None while it goes on, and when it was killed.
    pub end: Option<End>,
    /// Where functions of the kernel are defined, if that was looked up.
    pub places: Option<Places>,
}

impl Results {
    /// Gathers the lines of a journal; None when no session ever began.
    ///
    /// When the same turn was done twice the later one counts.
    pub fn of(lines: impl IntoIterator<Item = Line>) -> Option<Self> {
        let mut run = None;
        let mut turns: Vec<Turn> = Vec::new();
        let mut places = HashMap::new();
        let mut end = None;
        let mut told = None;
        for line in lines {
            match line {
                Line::Run(begun) => (run, end) = (Some(begun), None),
                Line::End(reason) => end = Some(reason),
                Line::Places(places) => told = Some(places),
                Line::Turn(turn) => {
                    let key = (turn.task.clone(), turn.platform.clone(), turn.block);
                    match places.get(&key) {
                        Some(place) => turns[*place] = turn,
                        None => {
                            places.insert(key, turns.len());
                            turns.push(turn);
                        }
                    }
                }
            }
        }
        Some(Self { run: run?, turns, end, places: told })
    }

    /// A journal that has only begun.
    pub fn begun(run: Run) -> Self {
        Self { run, turns: Vec::new(), end: None, places: None }
    }

    /// What was measured and `plan` does not have: a platform or a task, which would vanish from the report.
    pub fn left_out(&self, plan: &Plan) -> Option<&str> {
        self.turns.iter().find_map(|turn| {
            let has_platform = plan.platforms.contains(&turn.platform);
            let missing = if has_platform { &turn.task } else { &turn.platform };
            (!has_platform || plan.task(&turn.task).is_none()).then_some(missing.as_str())
        })
    }

    /// A task that was measured and is another one in `plan`, by the same name ([`Task::means`]).
    pub fn changed(&self, plan: &Plan) -> Option<&str> {
        let is_other = |task: &&Task| plan.task(&task.name).is_some_and(|now| !now.means(task));
        let is_measured = |task: &&Task| self.turns.iter().any(|turn| turn.task == task.name);
        let mut changed = self.plan().tasks.iter().filter(is_other).filter(is_measured);
        changed.next().map(|task| task.name.as_str())
    }

    /// What was to be done.
    pub fn plan(&self) -> &Plan {
        &self.run.plan
    }

    /// All that is known of one quantity; its platforms are those of the plan, in that order.
    pub fn experiment(&self, task: &Task, quantity: &Quantity) -> Experiment {
        let platforms = &self.plan().platforms;
        let mut experiment = Experiment::new(platforms.iter().cloned());
        let turns = self.turns.iter().filter(|turn| turn.task == task.name);
        // A journal may name any block: only those count that are there.
        let mut blocks: BTreeMap<usize, Vec<&Turn>> = BTreeMap::new();
        turns.for_each(|turn| blocks.entry(turn.block).or_default().push(turn));
        for turns in blocks.into_values() {
            let mut entry = experiment.block();
            for turn in turns {
                let Some(platform) = platforms.iter().position(|name| *name == turn.platform) else {
                    continue;
                };
                if let Some(outcome) = turn.outcome(&quantity.name) {
                    entry.record(platform, outcome);
                }
                if let Some(disturbance) = &turn.disturbance {
                    entry.disturb(disturbance.clone());
                }
            }
        }
        experiment
    }

    /// The blocks in which anything of `task` was done.
    pub fn blocks(&self, task: &Task) -> usize {
        let turns = self.turns.iter().filter(|turn| turn.task == task.name);
        turns.map(|turn| turn.block + 1).max().unwrap_or(0)
    }

    /// The blocks of `task`, from the first on, in which it was done on every platform.
    pub fn whole_blocks(&self, task: &Task) -> usize {
        let mut begun: BTreeMap<usize, usize> = BTreeMap::new();
        let turns = self.turns.iter().filter(|turn| turn.task == task.name);
        let turns = turns.filter(|turn| self.plan().platforms.contains(&turn.platform));
        turns.for_each(|turn| *begun.entry(turn.block).or_default() += 1);
        let is_whole =
            |block: &usize| begun.get(block).is_some_and(|turns| *turns >= self.plan().platforms.len());
        (0..).take_while(is_whole).count()
    }

    /// Tells whether every deciding quantity of `task` is known well enough ([`Comparison::is_narrow`]).
    ///
    /// A platform that never gave a number says nothing more in further blocks.
    pub(crate) fn is_known(&self, task: &Task) -> bool {
        if task.pair.is_some() {
            return self.is_kept_known(task);
        }
        // One run beside a hog may be an accident, whatever it shows.
        if task.quantities.iter().any(|quantity| quantity.name == LEFT) {
            return false;
        }
        let deciding = task.quantities.iter().filter(|quantity| quantity.decides);
        let mut comparisons = deciding.flat_map(|quantity| {
            let experiment = self.experiment(task, quantity);
            Vec::from_iter((1..self.plan().platforms.len()).filter_map(|other| experiment.compare(other, 0)))
        });
        comparisons.all(|comparison| comparison.is_narrow())
    }

    /// What a victim keeps is a figure by itself, whatever it keeps on the bare machine.
    fn is_kept_known(&self, task: &Task) -> bool {
        let mut quantities = task.quantities.iter().filter(|quantity| quantity.name == RATE_KEPT);
        quantities.all(|quantity| {
            let experiment = self.experiment(task, quantity);
            (0..experiment.names().len()).all(|platform| experiment.summary(platform).is_narrow())
        })
    }
}
