//! What one run gives.

use std::fmt;

/// A measured amount, in whatever unit the caller counts: finite and above zero, so that it has a logarithm.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Amount(f64);

/// Why a run gave no amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// One run: what it took, or why that is not known.
pub type Outcome = Result<Amount, Failure>;

impl Amount {
    /// Takes a number that was measured; anything not finite and above zero is a failure of the measurement.
    pub fn new(value: f64) -> Outcome {
        if value.is_finite() && value > 0.0 {
            Ok(Self(value))
        } else {
            Err(Failure(format!("{value} is no amount")))
        }
    }

    /// The number, in the caller's unit.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl Failure {
    /// The error with what led to it.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Self(format!("{error}{source}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_finite_numbers_are_amounts() {
        for (value, expected) in
            [(0.1, true), (1e9, true), (0.0, false), (-1.0, false), (f64::NAN, false), (f64::INFINITY, false)]
        {
            assert_eq!(Amount::new(value).is_ok(), expected, "{value} was judged wrongly");
        }
    }
}
