//! A small generator, so that the order of an experiment can be repeated from its seed.

/// `SplitMix64` (Steele, Lea, Flood 2014): one 64-bit word of state, good enough to shuffle.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// Begins the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A uniform number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The high half of a 64 × 64 product: its bias is bound / 2^64, far below what any sample can show.
        let product = u128::from(self.next_bits()) * bound as u128;
        (product >> 64) as usize
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut prng = Prng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| prng.next_bits()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn every_number_below_the_bound_comes_up_alike() {
        let mut counts = [0; 6];
        let mut prng = Prng::new(3);
        (0..60_000).for_each(|_| counts[prng.below(6)] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "uneven: {counts:?}");
        assert_eq!(prng.below(0), 0);
    }

    #[test]
    fn all_orders_come_up_alike() {
        let mut prng = Prng::new(5);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..6_000 {
            let mut items = [0, 1, 2];
            prng.shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1_150).contains(count)), "uneven: {counts:?}");
    }
}
