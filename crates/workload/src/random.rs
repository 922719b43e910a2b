//! Numbers without order, the same in every run.

/// `xorshift64*` (Vigna 2016): good enough to spread keys.
pub(crate) struct Random(u64);

impl Random {
    /// The one sequence.
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number in `0..bound`; `bound` is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The remainder's bias is bound / 2^64.
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread() {
        let mut random = Random::new();
        let mut seen = [0_u32; 10];
        (0..10_000).for_each(|_| seen[random.below(10) as usize] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
