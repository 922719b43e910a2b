//! What two platforms' blocks allow to claim.

use super::{Amount, Estimate, Experiment};

/// The margin within which two platforms count as equal: 5 % in either direction.
pub const MARGIN: f64 = 0.05;

/// How near to its estimate both ends of a ratio's interval must lie before no more blocks are wanted: 1 %, a fifth of
/// [`MARGIN`], so that what differs by less than 3 % is found equal.
const PRECISION: f64 = MARGIN / 5.0;

/// A ratio that is far from 1 need not be known so well: a share of the logarithm of its estimate is enough, so small
/// that no noise without a difference comes near it.
const FAR: f64 = 1.0 / 8.0;

/// The fewest blocks that decide anything. The true median lies between the least and the greatest of `n` values with
/// a probability of 1 − 2^(1 − n): of five, not even the widest interval is one of 95 % (93.8 %), of six it is (96.9 %).
pub const FEWEST_PAIRS: usize = 6;

/// What can be said of the first platform against the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval of the ratio lies below the margin.
    Faster,
    /// The whole interval lies above the margin.
    Slower,
    /// The whole interval lies within the margin.
    Equal,
    /// The interval crosses an edge of the margin, or there are too few blocks.
    NotDecided,
}

/// One platform against another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The first platform's amount divided by the second's: median over the blocks and its 95 % interval.
    pub ratio: Estimate,
    /// In how many blocks both were measured; of two samples that share none, the size of the smaller. Where these are fewer than all, the ratio leaves out the blocks in which
    /// one failed, and favours a platform that fails when it would have been slow.
    pub pairs: usize,
    /// What that allows to claim.
    pub verdict: Verdict,
}

impl Experiment {
    /// Compares platform `one` with `other`, block by block; `None` when no block measured both.
    pub fn compare(&self, one: usize, other: usize) -> Option<Comparison> {
        Comparison::of_logs(&Vec::from_iter(self.pairs(one, other).map(|(one, other)| log_ratio(one, other))))
    }
}

impl Comparison {
    /// What ratios say of which each comes from a block of its own; `None` for none.
    pub fn of_ratios(ratios: &[f64]) -> Option<Self> {
        Self::of_logs(&Vec::from_iter(ratios.iter().map(|ratio| ratio.ln())))
    }

    fn of_logs(logs: &[f64]) -> Option<Self> {
        let log = Estimate::of_median(logs)?;
        let verdict = if logs.len() < FEWEST_PAIRS { Verdict::NotDecided } else { Verdict::of(&log) };
        Some(Self { ratio: log.map(f64::exp), pairs: logs.len(), verdict })
    }

    /// Tells whether the ratio is known well enough, whatever the verdict is.
    ///
    /// Whoever measures until there is a verdict, and looks after each block, stops in a moment in which noise looks
    /// like a difference: that finds differences where none are more often than 5 times in 100. The width of an interval
    /// hardly depends on where it lies, so a rule about the width does not choose among verdicts.
    pub fn is_narrow(&self) -> bool {
        let Estimate { estimate, low, high } = self.ratio;
        let wanted = PRECISION.ln_1p().max(FAR * estimate.ln().abs());
        self.pairs >= FEWEST_PAIRS && (high / estimate).ln() <= wanted && (estimate / low).ln() <= wanted
    }
}

/// Compares two samples that share no blocks, such as those of two runs: the ratio of the medians of `one` and of
/// `other`, whose amounts must be above zero. `None` when one of them is empty.
///
/// What differed between the two occasions is part of the ratio: nothing here is compared within a block.
pub fn contrast(one: &[f64], other: &[f64]) -> Option<Comparison> {
    let logs = |values: &[f64]| Vec::from_iter(values.iter().map(|value| value.ln()));
    let log = Estimate::of_difference(&logs(one), &logs(other))?;
    let pairs = one.len().min(other.len());
    let verdict = if pairs < FEWEST_PAIRS { Verdict::NotDecided } else { Verdict::of(&log) };
    Some(Comparison { ratio: log.map(f64::exp), pairs, verdict })
}

/// How likely it is that ratios of which each comes from a block of its own lie as far beyond [`MARGIN`] as these, in the mean of
/// their logarithms and on either side, if they differ from 1 by chance alone: Student's test.
///
/// Of six blocks the sign test, on which verdicts rest, cannot be surer than 97 %; whoever looks at many ratios needs to be. Where
/// noise meets both of a pair alike, the logarithms lie symmetrically about 0, for which this test errs on the safe side if
/// their tails are heavy. 1 for fewer than two.
pub fn chance(ratios: &[f64]) -> f64 {
    let logs = Vec::from_iter(ratios.iter().map(|ratio| ratio.ln()));
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let beyond = mean.abs() - MARGIN.ln_1p();
    if logs.len() < 2 || beyond <= 0.0 {
        return 1.0;
    }
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    1.0 - within(beyond / (variance / count).sqrt(), logs.len() - 1)
}

/// How likely Student's t of so many degrees of freedom lies between `-t` and `t`: Abramowitz and Stegun, Handbook of Mathematical
/// Functions, 26.7.3 and 26.7.4.
fn within(t: f64, degrees: usize) -> f64 {
    let angle = (t / (degrees as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = degrees % 2 == 1;
    let (mut term, mut sum) = if is_odd { (cosine, 0.0) } else { (1.0, 0.0) };
    let first = if is_odd { 1 } else { 0 };
    for power in (first..degrees.saturating_sub(1)).step_by(2) {
        sum += term;
        term *= cosine.powi(2) * (power + 1) as f64 / (power + 2) as f64;
    }
    if is_odd { (angle + sine * sum) * std::f64::consts::FRAC_2_PI } else { sine * sum }
}

/// Logarithms, so that twice and half are equally far from equal.
fn log_ratio(one: Amount, other: Amount) -> f64 {
    one.value().ln() - other.value().ln()
}

impl Verdict {
    fn of(log: &Estimate) -> Self {
        let margin = MARGIN.ln_1p();
        if log.high < -margin {
            Self::Faster
        } else if log.low > margin {
            Self::Slower
        } else if -margin < log.low && log.high < margin {
            Self::Equal
        } else {
            Self::NotDecided
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Equal => "equal",
            Self::NotDecided => "not decided",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Failure, Prng, Schedule};

    /// A normal variate, as the sum of twelve uniform ones.
    fn normal(prng: &mut Prng) -> f64 {
        (0..12).map(|_| prng.next_bits() as f64 / u64::MAX as f64).sum::<f64>() - 6.0
    }

    /// Two platforms of 10 ms with log-normal noise, the first `factor` times as long; `course` scales a block.
    fn experiment(
        factor: f64,
        noise: f64,
        blocks: usize,
        seed: u64,
        course: impl Fn(usize) -> f64,
    ) -> Experiment {
        let mut prng = Prng::new(seed);
        let mut experiment = Experiment::new(["one", "other"]);
        for (number, order) in Schedule::new(2, seed).take(blocks).enumerate() {
            let mut block = experiment.block();
            for platform in order {
                let time = [10.0 * factor, 10.0][platform] * course(number);
                block.record(platform, Amount::new(time * (noise * normal(&mut prng)).exp()));
            }
        }
        experiment
    }

    fn steady(_: usize) -> f64 {
        1.0
    }

    #[test]
    fn an_experiment_against_itself_contains_one() {
        for blocks in [6, 7, 8, 10, 13, 40] {
            let holds_one = |seed: &u64| {
                let ratio = experiment(1.0, 0.1, blocks, *seed, steady).compare(0, 1).unwrap().ratio;
                ratio.low <= 1.0 && 1.0 <= ratio.high
            };
            let held = (0..400).filter(holds_one).count();
            assert!(
                (368..=396).contains(&held),
                "a 95 % interval of {blocks} blocks held the truth in {held} of 400 experiments"
            );
        }
    }

    #[test]
    fn chance_is_students() {
        for (t, degrees, expected) in [
            (12.706, 1, 0.95),
            (4.303, 2, 0.95),
            (3.182, 3, 0.95),
            (4.032, 5, 0.99),
            (3.707, 6, 0.99),
            (2.201, 11, 0.95),
            (2.023, 39, 0.95),
            (f64::INFINITY, 5, 1.0),
            (0.0, 6, 0.0),
        ] {
            let found = within(t, degrees);
            assert!((found - expected).abs() < 1e-4, "t of {t}, {degrees} degrees: {found}");
        }
        assert!(chance(&[1.2; 6]) < 1e-9 && (chance(&[1.04; 6]) - 1.0).abs() < 1e-9);
        let (near, mixed) = ([1.3, 1.2, 1.25, 1.4, 1.3, 1.2], [1.3, 0.8, 1.25, 0.7, 1.3, 1.2]);
        assert!(chance(&near) < 0.01 && chance(&mixed) > 0.2 && chance(&[9.0]) > 0.9);
        let turned = near.map(|ratio| 1.0 / ratio);
        assert!((chance(&near) - chance(&turned)).abs() < 1e-9, "one side is another than the other");
    }

    #[test]
    fn planted_differences_get_their_verdict() {
        for (factor, noise, expected) in [
            (1.0, 0.03, Verdict::Equal),
            (1.03, 0.01, Verdict::Equal),
            (0.97, 0.01, Verdict::Equal),
            (1.10, 0.03, Verdict::Slower),
            (0.90, 0.03, Verdict::Faster),
            (1.05, 0.10, Verdict::NotDecided),
            (1.10, 0.60, Verdict::NotDecided),
        ] {
            let verdict = |seed| experiment(factor, noise, 60, seed, steady).compare(0, 1).unwrap().verdict;
            let right = (0..20).filter(|seed| verdict(*seed) == expected).count();
            assert!(
                right >= 17,
                "{factor} under noise of {noise} was {expected} in {right} of 20 experiments"
            );
        }
    }

    #[test]
    fn the_ratio_is_found_under_drift() {
        let drifting = experiment(1.10, 0.02, 60, 5, |number| 1.0 + number as f64 / 15.0);
        let comparison = drifting.compare(0, 1).unwrap();
        assert!((comparison.ratio.estimate - 1.10).abs() < 0.02, "{comparison:?}");
        assert_eq!(comparison.verdict, Verdict::Slower);
        assert!(drifting.summary(0).median.unwrap().estimate > 20.0, "the drift was not there");
    }

    #[test]
    fn a_disturbed_block_does_not_move_the_ratio() {
        let mut disturbed = experiment(1.0, 0.01, 30, 2, steady);
        let mut block = disturbed.block();
        block.record(0, Amount::new(400.0));
        block.record(1, Amount::new(10.0));
        block.disturb("steal");
        let comparison = disturbed.compare(0, 1).unwrap();
        assert_eq!((comparison.pairs, comparison.verdict), (31, Verdict::Equal));
    }

    #[test]
    fn a_block_with_a_failure_gives_no_ratio() {
        let mut experiment = experiment(1.10, 0.01, 20, 4, steady);
        for _ in 0..20 {
            let mut block = experiment.block();
            block.record(0, Err(Failure("killed".to_owned())));
            block.record(1, Amount::new(10.0));
        }
        assert_eq!(experiment.compare(0, 1).unwrap().pairs, 20);
        assert_eq!(experiment.summary(0).failures.len(), 20);
    }

    #[test]
    fn too_few_blocks_decide_nothing() {
        let verdict = |blocks| experiment(0.5, 0.01, blocks, 1, steady).compare(0, 1).unwrap().verdict;
        assert_eq!(verdict(5), Verdict::NotDecided);
        assert_eq!(verdict(6), Verdict::Faster);
    }

    #[test]
    fn what_is_known_well_enough_depends_on_its_width() {
        let narrow = |factor: f64, noise: f64, blocks: usize| {
            experiment(factor, noise, blocks, 3, steady).compare(0, 1).unwrap().is_narrow()
        };
        for (factor, noise, blocks, expected) in [
            (1.0, 0.001, 6, true),
            (1.0, 0.001, 5, false),
            (1.0, 0.03, 12, false),
            (1.0, 0.03, 400, true),
            (1.2, 0.03, 12, false),
            (3.5, 0.10, 12, true),
            (1.0 / 3.5, 0.10, 12, true),
        ] {
            let found = narrow(factor, noise, blocks);
            assert_eq!(found, expected, "{factor} under noise of {noise} after {blocks} blocks");
        }
    }

    /// The session's rule: a look after each block, and an end when the interval is narrow.
    fn stopped(factor: f64, noise: f64, seed: u64) -> Verdict {
        let whole = experiment(factor, noise, 24, seed, steady);
        let looks = (FEWEST_PAIRS..=24).map(|blocks| whole.first(blocks).compare(0, 1).unwrap());
        let mut last = Verdict::NotDecided;
        for look in looks {
            last = look.verdict;
            if look.is_narrow() {
                break;
            }
        }
        last
    }

    #[test]
    fn looking_often_finds_nothing_where_nothing_is() {
        // Stopped by the first verdict instead of the width, 5 of the 60 with a noise of 0.3 are found different.
        let found = [0.03, 0.1, 0.3].map(|noise| {
            let different = |verdict| matches!(verdict, Verdict::Faster | Verdict::Slower);
            (0..60).filter(|seed| different(stopped(1.0, noise, *seed))).count()
        });
        let few = found.iter().all(|found| *found <= 3);
        assert!(few, "more than 5 of 100 were found different: {found:?} of 60");
    }

    #[test]
    fn looking_often_still_finds_what_is_there() {
        let right = |factor, noise, expected| {
            (0..20).filter(|seed| stopped(factor, noise, *seed) == expected).count()
        };
        assert!(right(1.10, 0.02, Verdict::Slower) >= 18, "10 % were not found");
        assert!(right(1.03, 0.01, Verdict::Equal) >= 18, "3 % are within the margin");
        assert!(right(3.5, 0.10, Verdict::Slower) >= 19, "three and a half times was not found");
    }

    #[test]
    fn two_occasions_are_contrasted() {
        let mut prng = Prng::new(6);
        let mut sample = |factor: f64, count: usize| {
            Vec::from_iter((0..count).map(|_| 10.0 * factor * (0.03 * normal(&mut prng)).exp()))
        };
        let samples = [sample(1.0, 40), sample(1.0, 50), sample(1.2, 40), sample(1.0, 5)];
        let verdict = |one: usize, other: usize| {
            contrast(&samples[one], &samples[other]).map(|contrast| contrast.verdict)
        };
        assert_eq!(verdict(0, 1), Some(Verdict::Equal));
        assert_eq!((verdict(2, 1), verdict(1, 2)), (Some(Verdict::Slower), Some(Verdict::Faster)));
        assert_eq!(verdict(2, 3), Some(Verdict::NotDecided), "five values decided something");
        assert_eq!(contrast(&samples[0], &[]), None);
    }

    #[test]
    fn both_directions_agree() {
        let experiment = experiment(0.5, 0.05, 40, 8, steady);
        let (there, back) = (experiment.compare(0, 1).unwrap(), experiment.compare(1, 0).unwrap());
        assert!((there.ratio.estimate * back.ratio.estimate - 1.0).abs() < 1e-9);
        assert_eq!((there.verdict, back.verdict), (Verdict::Faster, Verdict::Slower));
    }
}
