//! Blocks of outcomes, and what they say of one platform.

use super::compare::FEWEST_PAIRS;
use super::{Amount, Estimate, Failure, MARGIN, Outcome};

/// All outcomes of an experiment, block by block.
#[derive(Clone, Debug)]
pub struct Experiment {
    names: Vec<String>,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct Block {
    outcomes: Vec<Option<Outcome>>,
    disturbance: Option<String>,
}

/// The block that is being measured.
#[derive(Debug)]
pub struct BlockEntry<'experiment>(&'experiment mut Block);

/// What is known of one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The platform's name.
    pub name: String,
    /// How many runs gave an amount.
    pub measured: usize,
    /// Why the other runs gave none, in their order.
    pub failures: Vec<Failure>,
    /// How many of the measured runs stand in a block that was disturbed; they count like any other.
    pub disturbed: usize,
    /// The least amount; `None` when nothing was measured.
    pub least: Option<Amount>,
    /// The median over the blocks with its 95 % interval; `None` when nothing was measured.
    pub median: Option<Estimate>,
}

impl Summary {
    /// Tells whether the median is known well enough to be one by itself: within [`MARGIN`] on either side. True also
    /// of a platform that never gave a number, and says nothing more in further blocks.
    pub fn is_narrow(&self) -> bool {
        let margin = MARGIN.ln_1p();
        let near = |Estimate { estimate, low, high }: Estimate| {
            (high / estimate).ln() <= margin && (estimate / low).ln() <= margin
        };
        self.median.is_none_or(|median| self.measured >= FEWEST_PAIRS && near(median))
    }
}

impl Experiment {
    /// An experiment on the platforms called `names`.
    pub fn new<Name: Into<String>>(names: impl IntoIterator<Item = Name>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), blocks: Vec::new() }
    }

    /// Begins the next block.
    pub fn block(&mut self) -> BlockEntry<'_> {
        let next = self.blocks.len();
        self.blocks.push(Block { outcomes: vec![None; self.names.len()], disturbance: None });
        BlockEntry(&mut self.blocks[next])
    }

    /// What was known after so many blocks.
    #[cfg(test)]
    pub(super) fn first(&self, blocks: usize) -> Self {
        Self { blocks: self.blocks.iter().take(blocks).cloned().collect(), ..self.clone() }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True before the first block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The platforms' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Describes one platform (an index into the names).
    pub fn summary(&self, platform: usize) -> Summary {
        let mut amounts = Vec::new();
        let mut failures = Vec::new();
        let mut disturbed = 0;
        for block in &self.blocks {
            match block.outcome(platform) {
                Some(Ok(amount)) => {
                    amounts.push(amount.value());
                    disturbed += usize::from(block.disturbance.is_some());
                }
                Some(Err(failure)) => failures.push(failure.clone()),
                None => {}
            }
        }
        let least = amounts.iter().copied().min_by(f64::total_cmp);
        Summary {
            name: self.names.get(platform).cloned().unwrap_or_default(),
            measured: amounts.len(),
            failures,
            disturbed,
            least: least.and_then(|least| Amount::new(least).ok()),
            median: Estimate::of_median(&amounts),
        }
    }

    /// What was measured of one platform (an index into the names), in the order of the blocks.
    pub fn amounts(&self, platform: usize) -> Vec<f64> {
        self.blocks.iter().filter_map(|block| Some(block.amount(platform)?.value())).collect()
    }

    /// The ratios of platform `one` to `other` from every block in which both were measured.
    pub fn ratios(&self, one: usize, other: usize) -> Vec<f64> {
        self.pairs(one, other).map(|(one, other)| one.value() / other.value()).collect()
    }

    /// Both platforms' amounts from every block in which both were measured.
    pub(super) fn pairs(&self, one: usize, other: usize) -> impl Iterator<Item = (Amount, Amount)> {
        self.blocks.iter().filter_map(move |block| Some((block.amount(one)?, block.amount(other)?)))
    }
}

impl Block {
    fn outcome(&self, platform: usize) -> Option<&Outcome> {
        self.outcomes.get(platform)?.as_ref()
    }

    fn amount(&self, platform: usize) -> Option<Amount> {
        self.outcome(platform)?.as_ref().ok().copied()
    }
}

impl BlockEntry<'_> {
    /// Notes what a platform's run gave; a second outcome in one block replaces the first.
    pub fn record(&mut self, platform: usize, outcome: Outcome) {
        if let Some(place) = self.0.outcomes.get_mut(platform) {
            *place = Some(outcome);
        }
    }

    /// Flags the block: something else was going on while it was measured. It is kept all the same.
    pub fn disturb(&mut self, reason: impl Into<String>) {
        self.0.disturbance = Some(reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Outcome {
        Err(Failure("exit code 1".to_owned()))
    }

    #[test]
    fn a_failure_is_never_a_time() {
        let mut experiment = Experiment::new(["a"]);
        for outcome in [Amount::new(5.0), failed(), Amount::new(7.0), Amount::new(0.0)] {
            experiment.block().record(0, outcome);
        }
        let summary = experiment.summary(0);
        assert_eq!(summary.measured, 2);
        assert_eq!(summary.failures.len(), 2);
        assert_eq!(summary.median.unwrap().estimate, 6.0);
        assert_eq!(summary.least.unwrap().value(), 5.0);
    }

    #[test]
    fn a_platform_that_always_fails_has_no_figures() {
        let mut experiment = Experiment::new(["a", "b"]);
        for _ in 0..10 {
            let mut block = experiment.block();
            block.record(0, Amount::new(5.0));
            block.record(1, failed());
        }
        let summary = experiment.summary(1);
        assert_eq!((summary.measured, summary.failures.len()), (0, 10));
        assert_eq!((summary.least, summary.median), (None, None));
        assert_eq!(experiment.compare(0, 1), None);
    }

    #[test]
    fn a_disturbed_block_is_flagged_and_kept() {
        let mut experiment = Experiment::new(["a"]);
        for number in 0..9 {
            let mut block = experiment.block();
            block.record(0, Amount::new(if number == 4 { 90.0 } else { 5.0 }));
            if number == 4 {
                block.disturb("load 35");
            }
        }
        let summary = experiment.summary(0);
        assert_eq!((summary.measured, summary.disturbed), (9, 1));
        assert_eq!(summary.median.unwrap().estimate, 5.0, "one wild block moved the median");
    }
}
