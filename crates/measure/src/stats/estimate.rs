//! Medians, and how far they can be trusted.

use serde::Serialize;

use super::FEWEST_PAIRS;

/// How often an interval may miss the truth on each side: it is one of 95 %.
const ONE_SIDE: f64 = 0.025;

/// A median with its 95 % interval, which takes nothing for granted of how the values are distributed.
///
/// It would hold the true median in 94 to 96 of 100 experiments if the values were independent. It holds it less often
/// where neighbouring values resemble each other, as times do under a drift. The ratios of
/// [`Experiment::compare`](super::Experiment::compare) are free of what both platforms of a block share; a
/// [`Summary`](super::Summary) is not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median of the sample.
    pub estimate: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// The median of `values` with its interval; `None` for an empty sample. Of fewer than [`FEWEST_PAIRS`] the interval is
    /// their range, and [`certainty`] says what that is worth.
    ///
    /// The interval is that of the sign test: from the `k`-th least value to the `k`-th greatest, which holds the true median
    /// unless fewer than `k` of the values, of which each is a coin's throw, lie on one side of it. Between the widest of these
    /// that is too sure and the next that is not sure enough, Hettmansperger and Sheather interpolate (Confidence intervals
    /// based on interpolated order statistics, Statistics & Probability Letters 4, 1986, pages 75 to 79).
    pub fn of_median(values: &[f64]) -> Option<Self> {
        let estimate = median(values)?;
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len() - 1;
        let (place, share) = begins(sorted.len());
        let between = |outer: usize, inner: usize| sorted[outer] + share * (sorted[inner] - sorted[outer]);
        let low = between(place, (place + 1).min(last));
        let high = between(last - place, (last - place).saturating_sub(1));
        Some(Self { estimate, low, high })
    }

    /// The difference of the medians of two samples that have nothing to do with each other; `None` when one is empty.
    ///
    /// Its interval joins those of both medians as Zou and Donner do (Construction of confidence limits about effect measures:
    /// a general approach, Statistics in Medicine 27, 2008, pages 1693 to 1702): ends that are independent add up by
    /// their squares. It holds the truth in 96 to 98 of 100 experiments.
    pub(super) fn of_difference(one: &[f64], other: &[f64]) -> Option<Self> {
        let (one, other) = (Self::of_median(one)?, Self::of_median(other)?);
        let estimate = one.estimate - other.estimate;
        let below = (one.estimate - one.low).hypot(other.high - other.estimate);
        let above = (one.high - one.estimate).hypot(other.estimate - other.low);
        Some(Self { estimate, low: estimate - below, high: estimate + above })
    }

    /// The same estimate on another scale; `scale` must be increasing.
    pub(crate) fn map(self, scale: impl Fn(f64) -> f64) -> Self {
        Self { estimate: scale(self.estimate), low: scale(self.low), high: scale(self.high) }
    }
}

/// Where in `count` sorted values the interval of their median begins: a place, and the share of the way to the next. It ends
/// as far from the other end.
fn begins(count: usize) -> (usize, f64) {
    if count < FEWEST_PAIRS {
        return (0, 0.0);
    }
    // How likely it is that of `count` coins exactly `rank` fall on one side, by its logarithm, since 2^-count is no number of
    // 64 bits from 1075 on; and that fewer do.
    let mut logarithm = -(count as f64) * std::f64::consts::LN_2;
    let mut fewer = logarithm.exp();
    logarithm += (count as f64).ln();
    let mut exactly = logarithm.exp();
    let mut rank = 1;
    while fewer + exactly <= ONE_SIDE {
        fewer += exactly;
        logarithm += ((count - rank) as f64 / (rank + 1) as f64).ln();
        exactly = logarithm.exp();
        rank += 1;
    }
    // From the sure interval at `rank` towards the unsure one at `rank + 1`.
    let too_sure = (ONE_SIDE - fewer) / exactly;
    let (count, sure) = (count as f64, rank as f64);
    let share = (count - sure) * too_sure / (sure + (count - 2.0 * sure) * too_sure);
    (rank - 1, share)
}

/// The middle value, or the mean of the middle two; `None` for an empty sample.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

/// How sure it is that the interval of [`Estimate::of_median`] holds the true median, for a sample of so many values: 0.95,
/// and of fewer than [`FEWEST_PAIRS`], where the interval is their range, what the range of so many can give, which is
/// 1 - 2^(1 - count). None where there is no range.
pub fn certainty(count: usize) -> Option<f64> {
    match count {
        0 | 1 => None,
        few if few < FEWEST_PAIRS => Some(1.0 - 2.0_f64.powi(1 - few as i32)),
        _ => Some(0.95),
    }
}

/// The value below which a share `quantile` of the sample lies (nearest rank).
///
/// `None` unless at least ten values lie above it: p99 needs 1 000 values and p99.9 needs 10 000, since a tail
/// seen fewer times than that is an anecdote.
pub fn tail(values: &[f64], quantile: f64) -> Option<f64> {
    let above = (values.len() as f64 * (1.0 - quantile)).round();
    if !(0.0..1.0).contains(&quantile) || above < 10.0 {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Prng;

    /// A number between 0 and 1.
    fn uniform(prng: &mut Prng) -> f64 {
        (prng.next_bits() as f64 + 0.5) / 2.0_f64.powi(64)
    }

    /// Symmetric, with a median of 0.
    fn normal(prng: &mut Prng) -> f64 {
        (0..12).map(|_| uniform(prng)).sum::<f64>() - 6.0
    }

    /// Skewed, with a median of ln 2.
    fn exponential(prng: &mut Prng) -> f64 {
        -uniform(prng).ln()
    }

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[3.0, 1.0], Some(2.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 3.0, 2.0], Some(2.5)),
        ] {
            assert_eq!(median(values), expected, "wrong median of {values:?}");
        }
    }

    #[test]
    fn the_range_of_few_values_is_less_sure() {
        let found = [0, 1, 2, 3, 5, 6, 100].map(certainty);
        let expected = [None, None, Some(0.5), Some(0.75), Some(0.9375), Some(0.95), Some(0.95)];
        assert_eq!(found, expected);
        // The interval is their range, as long as it is called one.
        for count in 2..FEWEST_PAIRS {
            let values = Vec::from_iter((0..count).map(|number| number as f64));
            let Estimate { low, high, .. } = Estimate::of_median(&values).unwrap();
            assert_eq!((low, high), (0.0, count as f64 - 1.0), "of {count} values");
        }
    }

    #[test]
    fn the_interval_is_the_one_worked_out_by_hand() {
        // Of 6, 8 and 10 throws, fewer than 1, 1 and 2 fall on one side in 1 of 64, 1 of 256 and 11 of 1024 cases, and exactly as
        // many in 6, 8 and 45 more. So much of the latter is left until 2.5 %: 0.1, 0.675 and 0.324444.
        for (count, place, share) in [
            (6, 0, 5.0 * 0.1 / (1.0 + 4.0 * 0.1)),
            (8, 0, 7.0 * 0.675 / (1.0 + 6.0 * 0.675)),
            (10, 1, 8.0 * (14.6 / 45.0) / (2.0 + 6.0 * (14.6 / 45.0))),
        ] {
            let (found, of_the_way) = begins(count);
            assert_eq!(found, place, "of {count}");
            assert!((of_the_way - share).abs() < 1e-12, "of {count}: {of_the_way}, not {share}");
        }
        let eight = Estimate::of_median(&[8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0]).unwrap();
        assert!((eight.low - 1.935_644).abs() < 1e-6 && (eight.high - 7.064_356).abs() < 1e-6, "{eight:?}");
        let ten = Estimate::of_median(&[0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0, 64.0, 81.0]).unwrap();
        let (low, high) = (1.0 + 0.657_658 * 3.0, 64.0 - 0.657_658 * 15.0);
        assert!((ten.low - low).abs() < 1e-5 && (ten.high - high).abs() < 1e-5, "{ten:?}");
    }

    #[test]
    fn thousands_of_values_are_no_trouble() {
        // The normal approximation: half, less 1.96 times half the square root.
        for count in [1_000, 1_075, 5_000, 40_000] {
            let (place, share) = begins(count);
            let expected = count as f64 / 2.0 - 1.96 * (count as f64).sqrt() / 2.0;
            assert!((place as f64 + share - expected).abs() < 1.0, "of {count}: {place}, not {expected}");
            assert!((0.0..1.0).contains(&share), "of {count}: {share}");
        }
    }

    #[test]
    fn an_interval_of_95_per_cent_is_one_whatever_the_distribution() {
        const EXPERIMENTS: usize = 8_000;
        let mut prng = Prng::new(12);
        for count in [6, 7, 8, 10, 13, 40] {
            for (name, draw, truth) in [
                ("symmetric", normal as fn(&mut Prng) -> f64, 0.0),
                ("skewed", exponential, std::f64::consts::LN_2),
            ] {
                let mut holds = || {
                    let values = Vec::from_iter((0..count).map(|_| draw(&mut prng)));
                    let Estimate { low, high, .. } = Estimate::of_median(&values).unwrap();
                    low <= truth && truth <= high
                };
                let held = (0..EXPERIMENTS).filter(|_| holds()).count() as f64 / EXPERIMENTS as f64;
                assert!((0.94..=0.99).contains(&held), "{count} {name} values: {held}");
            }
        }
    }

    #[test]
    fn the_interval_of_a_difference_holds_it_95_times_in_100_at_least() {
        const EXPERIMENTS: usize = 4_000;
        let mut prng = Prng::new(21);
        for (one, other) in [(6, 6), (6, 13), (13, 40), (40, 40)] {
            let mut holds = || {
                let mut values = |count: usize| Vec::from_iter((0..count).map(|_| exponential(&mut prng)));
                let Estimate { low, high, .. } =
                    Estimate::of_difference(&values(one), &values(other)).unwrap();
                low <= 0.0 && 0.0 <= high
            };
            let held = (0..EXPERIMENTS).filter(|_| holds()).count() as f64 / EXPERIMENTS as f64;
            assert!((0.95..=0.99).contains(&held), "{one} and {other} values: {held}");
        }
        assert_eq!(Estimate::of_difference(&[1.0], &[]), None);
    }

    #[test]
    fn a_tail_needs_enough_values_above_it() {
        let values = |count: usize| Vec::from_iter((1..=count).map(|value| value as f64));
        assert_eq!(tail(&values(999), 0.999), None);
        assert_eq!(tail(&values(9_000), 0.999), None);
        assert_eq!(tail(&values(10_000), 0.999), Some(9_990.0));
        assert_eq!(tail(&values(1_000), 0.99), Some(990.0));
        assert_eq!(tail(&values(100), 0.9), Some(90.0));
    }

    #[test]
    fn the_interval_holds_the_median_and_shrinks() {
        let mut prng = Prng::new(1);
        let mut width = f64::INFINITY;
        for count in [10, 40, 160, 640] {
            let values = Vec::from_iter((0..count).map(|_| 10.0 + prng.below(1_000) as f64 / 1_000.0));
            let estimate = Estimate::of_median(&values).unwrap();
            assert!(estimate.low <= estimate.estimate && estimate.estimate <= estimate.high);
            assert!(estimate.high - estimate.low < width, "{count} values do not narrow the interval");
            width = estimate.high - estimate.low;
        }
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let estimate = Estimate::of_median(&[2.0; 12]).unwrap();
        assert_eq!((estimate.low, estimate.estimate, estimate.high), (2.0, 2.0, 2.0));
    }
}
