//! In which order to measure.

use super::Prng;

/// An endless row of blocks; each names every platform (`0..platforms`) once, in a random order.
#[derive(Clone, Debug)]
pub struct Schedule {
    platforms: usize,
    prng: Prng,
}

impl Schedule {
    /// The schedule of `platforms` that belongs to `seed`.
    pub fn new(platforms: usize, seed: u64) -> Self {
        Self { platforms, prng: Prng::new(seed) }
    }
}

impl Iterator for Schedule {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let mut order = Vec::from_iter(0..self.platforms);
        self.prng.shuffle(&mut order);
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_every_platform_once() {
        for mut order in Schedule::new(5, 1).take(50) {
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_seed_repeats_its_schedule_and_another_does_not() {
        let of = |seed| Vec::from_iter(Schedule::new(4, seed).take(20));
        assert_eq!(of(9), of(9));
        assert_ne!(of(9), of(10));
    }
}
