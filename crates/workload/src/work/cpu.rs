//! Arithmetic: primes by trial division.

use std::hint::black_box;

use super::Work;
use crate::error::{Error, Result};

const BOUND: u32 = 10_000;

/// The number of primes below [`BOUND`].
const PRIMES: usize = 1229;

/// Needs nothing.
pub(super) struct Cpu;

impl Work for Cpu {
    fn turn(&mut self) -> Result<()> {
        match primes(black_box(BOUND)) {
            PRIMES => Ok(()),
            count => Err(Error::Wrong(format!("{count} primes below {BOUND}, where there are {PRIMES}"))),
        }
    }
}

/// Counts the primes below `bound`.
pub(crate) fn primes(bound: u32) -> usize {
    (2..bound).filter(|&number| is_prime(number)).count()
}

fn is_prime(number: u32) -> bool {
    (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_counted() {
        for (bound, expected) in [(0, 0), (2, 0), (3, 1), (10, 4), (BOUND, PRIMES)] {
            assert_eq!(primes(bound), expected, "primes below {bound}");
        }
    }
}
