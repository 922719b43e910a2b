//! What a victim still had beside a hog that took all it could get, and what follows from it.

use serde::Serialize;

use crate::plan::{AGAIN, BARE, LEFT, Task};
use crate::record::{DIED, ENDED, NOTHING_LEFT};
use crate::results::Results;
use crate::started;
use crate::stats::{Outcome, median};

use super::Reason;

/// A share from which on all was left, and one up to which nothing was.
const ALL: f64 = 0.95;
const NOTHING: f64 = 0.05;

/// One resource, with limits or without.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capacity {
    /// The task.
    pub task: String,
    /// What the two bare processes kept of it together: what the hog does where there is no wall.
    pub control: Kept,
    /// In the plan's order, without the bare processes.
    pub walls: Vec<Kept>,
}

/// What one platform's victims kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// The platform.
    pub platform: String,
    /// What follows from most of its runs; [`Keeps::Moot`] where the hog takes nothing away without a wall either.
    pub verdict: Keeps,
    /// The median share of the runs that gave one.
    pub share: Option<f64>,
    /// How often it was tried.
    pub runs: usize,
    /// How many of these say by themselves what they say together.
    pub agree: usize,
    /// Why it was not all, the most frequent reason.
    pub reason: Option<String>,
}

/// What a victim keeps of what it gets alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeps {
    /// As good as all.
    All,
    /// Some.
    Part,
    /// As good as nothing.
    Nothing,
    /// The hog's whole sandbox ended where it met its limit, so that nobody took anything.
    Ended,
    /// Nothing follows: without a wall the hog takes nothing away either.
    Moot,
    /// It was not found out.
    Unmade,
}

pub(super) fn of(results: &Results) -> Vec<Capacity> {
    let is_one = |task: &&Task| task.quantities.iter().any(|quantity| quantity.name == LEFT);
    let tasks = results.plan().tasks.iter().filter(is_one);
    let all = tasks.map(|task| {
        let runs = |names: &[&str]| {
            let turns = results.turns.iter().filter(|turn| turn.task == task.name);
            let turns = turns.filter(|turn| names.contains(&turn.platform.as_str()));
            Vec::from_iter(
                turns.filter_map(|turn| turn.findings.iter().find_map(|found| found.outcome(LEFT))),
            )
        };
        let control = Kept::of(BARE, &runs(&[BARE, AGAIN]));
        let names = results.plan().platforms.iter().filter(|name| ![BARE, AGAIN].contains(&name.as_str()));
        let walls = names.map(|name| Kept::of(name, &runs(&[name])).beside(&control));
        Capacity { task: task.name.clone(), walls: walls.collect(), control }
    });
    all.filter(|capacity| capacity.runs() > 0).collect()
}

impl Capacity {
    /// `processes with limits`, of the task `processes left, with limits`.
    pub fn name(&self) -> String {
        self.task.replacen(" left,", "", 1)
    }

    /// Whether the hog takes something away where there is no wall.
    pub fn is_told(&self) -> bool {
        self.control.is_taken()
    }

    /// How often it was tried on any platform.
    fn runs(&self) -> usize {
        self.control.runs + self.walls.iter().map(|wall| wall.runs).sum::<usize>()
    }
}

impl Kept {
    fn of(platform: &str, runs: &[Outcome]) -> Self {
        let each = Vec::from_iter(runs.iter().map(verdict));
        let is_share = |verdict: &Keeps| matches!(verdict, Keeps::All | Keeps::Part | Keeps::Nothing);
        let count = |that: &dyn Fn(&Keeps) -> bool| each.iter().filter(|verdict| that(verdict)).count();
        let (shared, ended) = (count(&is_share), count(&|verdict| *verdict == Keeps::Ended));
        let share = median(&Vec::from_iter(runs.iter().filter_map(share)));
        let verdict = match share {
            Some(share) if 2 * shared > runs.len() => of_share(share),
            _ if 2 * ended > runs.len() => Keeps::Ended,
            _ => Keeps::Unmade,
        };
        let reasons = runs.iter().filter_map(|run| Some(run.as_ref().err()?.0.clone()));
        Self {
            platform: platform.to_owned(),
            verdict,
            share,
            runs: runs.len(),
            agree: count(&|known| *known == verdict),
            reason: Reason::count(reasons).into_iter().next().map(|reason| reason.reason),
        }
    }

    /// A wall is not credited with what the hog does not do without one.
    fn beside(self, control: &Self) -> Self {
        let verdict = if control.is_taken() { self.verdict } else { Keeps::Moot };
        Self { verdict, ..self }
    }

    fn is_taken(&self) -> bool {
        matches!(self.verdict, Keeps::Part | Keeps::Nothing)
    }
}

fn verdict(run: &Outcome) -> Keeps {
    match (share(run), run) {
        (Some(share), _) => of_share(share),
        (None, Err(failure)) if is_end(&failure.0) => Keeps::Ended,
        (None, _) => Keeps::Unmade,
    }
}

/// Journals of earlier versions call the end of a hog so only if it was seen at one moment.
fn is_end(reason: &str) -> bool {
    let of_hog = reason.strip_prefix("the hog: ");
    reason.starts_with(ENDED) || of_hog.is_some_and(started::is_violent)
}

fn of_share(share: f64) -> Keeps {
    match share {
        share if share >= ALL => Keeps::All,
        share if share > NOTHING => Keeps::Part,
        _ => Keeps::Nothing,
    }
}

/// None where it is not known. To have got nothing is a share, too, and who dies beside a hog keeps nothing.
fn share(run: &Outcome) -> Option<f64> {
    match run {
        Ok(share) => Some(share.value()),
        Err(failure) if [NOTHING_LEFT, DIED].iter().any(|begin| failure.0.starts_with(begin)) => Some(0.0),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Amount, Failure};

    fn failed(reason: String) -> Outcome {
        Err(Failure(reason))
    }

    #[test]
    fn most_runs_decide_and_one_does_not() {
        let (all, part, none) =
            (Amount::new(1.0), Amount::new(0.3), failed(format!("{NOTHING_LEFT}: fork()")));
        let (ended, odd) = (failed(format!("{ENDED}: exit status: 2")), failed("the hog: no".to_owned()));
        let died = failed(format!("{DIED}: signal: 9 (SIGKILL): it said nothing"));
        let early = failed("the hog: exit status: 137: it said nothing".to_owned());
        for (runs, expected, agree) in [
            (vec![&all, &all, &none], Keeps::All, 2),
            (vec![&none, &all, &none], Keeps::Nothing, 2),
            (vec![&part, &all, &none], Keeps::Part, 1),
            (vec![&ended, &ended, &all], Keeps::Ended, 2),
            (vec![&odd, &ended, &all], Keeps::Unmade, 1),
            (vec![&odd, &all, &all], Keeps::All, 2),
            (vec![&odd, &all], Keeps::Unmade, 1),
            (vec![&early, &ended, &early], Keeps::Ended, 3),
            (vec![&died, &all, &died], Keeps::Nothing, 2),
            (vec![&died, &all], Keeps::Part, 0),
            (vec![], Keeps::Unmade, 0),
        ] {
            let runs = Vec::from_iter(runs.into_iter().cloned());
            let kept = Kept::of("x", &runs);
            assert_eq!((kept.verdict, kept.agree, kept.runs), (expected, agree, runs.len()), "{runs:?}");
        }
    }

    #[test]
    fn a_wall_is_judged_where_the_hog_takes_something_away_without_one() {
        let (all, none) = (Amount::new(1.0), failed(format!("{NOTHING_LEFT}: fork()")));
        let wall = Kept::of("x", &[all.clone(), all.clone()]);
        let judged = |control: &[Outcome]| wall.clone().beside(&Kept::of(BARE, control)).verdict;
        assert_eq!(judged(&[none.clone(), none.clone(), all.clone()]), Keeps::All);
        let died = failed(format!("{DIED}: signal: 9 (SIGKILL)"));
        assert_eq!(judged(&[died, all.clone()]), Keeps::All, "one of two bare victims died beside the hog");
        assert_eq!(judged(&[all.clone(), none, all]), Keeps::Moot);
        assert_eq!(judged(&[failed("the hog: no".to_owned())]), Keeps::Moot);
    }
}
