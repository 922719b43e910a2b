//! Medians, and how far they can be trusted.

use serde::Serialize;

use super::{FEWEST_PAIRS, Prng};

/// Resamples of a bootstrap: enough for the ends of a 95 % interval to stand still in the third digit.
const RESAMPLES: usize = 4_000;

/// A median with its nominal 95 % interval.
///
/// The interval would hold the true median in 95 of 100 experiments if the values were many and independent. From six
/// to ten values it holds it less often, and so it does where neighbouring values resemble each other, as times do
/// under a drift. The ratios of [`Experiment::compare`](super::Experiment::compare) are free of what both platforms
/// of a block share; a [`Summary`](super::Summary) is not.
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
    /// The median of `values` with a 95 % percentile-bootstrap interval; `None` for an empty sample.
    pub(super) fn of_median(values: &[f64], prng: &mut Prng) -> Option<Self> {
        let estimate = median(values)?;
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        // Places in the sorted sample are in order when their values are, and much cheaper to compare.
        let mut draw = vec![0; sorted.len()];
        let mut resample = || {
            draw.fill_with(|| prng.below(sorted.len()));
            let middle = draw.len() / 2;
            let (below, upper, _) = draw.select_nth_unstable(middle);
            let lower = below.iter().max().filter(|_| sorted.len().is_multiple_of(2)).unwrap_or(upper);
            f64::midpoint(sorted[*lower], sorted[*upper])
        };
        let mut resampled = Vec::from_iter((0..RESAMPLES).map(|_| resample()));
        resampled.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| resampled[(share * (RESAMPLES - 1) as f64).round() as usize];
        Some(Self { estimate, low: at(0.025), high: at(0.975) })
    }

    /// The difference of the medians of two samples that have nothing to do with each other, with its interval by
    /// resampling both; `None` when one is empty.
    pub(super) fn of_difference(one: &[f64], other: &[f64], prng: &mut Prng) -> Option<Self> {
        let estimate = median(one)? - median(other)?;
        let mut draw = |values: &[f64]| {
            let draw = Vec::from_iter((0..values.len()).map(|_| values[prng.below(values.len())]));
            median(&draw).unwrap_or_default()
        };
        let mut resampled = Vec::from_iter((0..RESAMPLES).map(|_| draw(one) - draw(other)));
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| resampled[(share * (RESAMPLES - 1) as f64).round() as usize];
        Some(Self { estimate, low: at(0.025), high: at(0.975) })
    }

    /// The same estimate on another scale; `scale` must be increasing.
    pub(super) fn map(self, scale: impl Fn(f64) -> f64) -> Self {
        Self { estimate: scale(self.estimate), low: scale(self.low), high: scale(self.high) }
    }
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
            let Estimate { low, high, .. } = Estimate::of_median(&values, &mut Prng::new(1)).unwrap();
            assert_eq!((low, high), (0.0, count as f64 - 1.0), "of {count} values");
        }
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
            let estimate = Estimate::of_median(&values, &mut prng).unwrap();
            assert!(estimate.low <= estimate.estimate && estimate.estimate <= estimate.high);
            assert!(estimate.high - estimate.low < width, "{count} values do not narrow the interval");
            width = estimate.high - estimate.low;
        }
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let estimate = Estimate::of_median(&[2.0; 12], &mut Prng::new(1)).unwrap();
        assert_eq!((estimate.low, estimate.estimate, estimate.high), (2.0, 2.0, 2.0));
    }
}
