//! Latencies: how long single operations took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::{Error, Result};

/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(7200);

/// Samples from which on the quantile 0.9 says something: ten of them lie above it.
pub(crate) const ENOUGH_FOR_P90: u64 = 100;

/// Samples from which on the quantile 0.999 says something: ten of them lie above it.
const ENOUGH_FOR_P999: u64 = 10_000;

/// Collects latencies to three significant digits.
pub(crate) struct Latencies(Histogram<u64>);

/// What is said of them; microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    p50: f64,
    /// None below 100 samples.
    p90: Option<f64>,
    /// Of fewer than 1 000 samples one that few lie above.
    p99: f64,
    /// None below 10 000 samples.
    p999: Option<f64>,
    max: f64,
    samples: u64,
}

impl Latencies {
    /// None so far.
    pub(crate) fn new() -> Result<Self> {
        // The bounds are constants that the crate accepts.
        Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)
            .map(Self)
            .map_err(|error| Error::Wrong(format!("histogram: {error}")))
    }

    /// Takes one, nanoseconds.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds.max(1));
    }

    /// How many there are.
    pub(crate) fn samples(&self) -> u64 {
        self.0.len()
    }

    /// What is to be said of them.
    pub(crate) fn summary(&self) -> Summary {
        let quantile = |quantile| micros(self.0.value_at_quantile(quantile));
        Summary {
            p50: quantile(0.5),
            p90: (self.samples() >= ENOUGH_FOR_P90).then(|| quantile(0.9)),
            p99: quantile(0.99),
            p999: (self.samples() >= ENOUGH_FOR_P999).then(|| quantile(0.999)),
            max: micros(self.0.max()),
            samples: self.samples(),
        }
    }
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: impl Iterator<Item = u64>) -> Summary {
        let mut latencies = Latencies::new().unwrap();
        values.for_each(|value| latencies.record(value));
        latencies.summary()
    }

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let Summary { p50, p90, p99, p999, max, samples } = summary((1..=10_000).map(|value| value * 1_000));
        assert_eq!(samples, 10_000);
        for (value, expected) in [
            (p50, 5_000.0),
            (p90.unwrap(), 9_000.0),
            (p99, 9_900.0),
            (p999.unwrap(), 9_990.0),
            (max, 10_000.0),
        ] {
            assert!((value / expected - 1.0).abs() < 0.001, "{value} is not {expected}");
        }
    }

    #[test]
    fn a_tail_needs_enough_samples() {
        assert_eq!(summary(1..=9_999).p999, None);
        assert_eq!((summary(1..=99).p90, summary(1..=100).p90.is_some()), (None, true));
        assert!(summary(1..=10_000).p999.is_some());
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let max = summary([u64::MAX].into_iter()).max;
        assert!((max / 7.2e9 - 1.0).abs() < 0.001, "{max} µs");
    }
}
