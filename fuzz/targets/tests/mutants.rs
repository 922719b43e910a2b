//! Mutants of the seeds, on stable Rust: nothing is measured of what they reach, so that cargo-fuzz finds more in less time.
//!
//! A few of each target, the same each time; `BULKHEAD_FUZZ_SECONDS=60` gives each target a minute and others each time, and
//! `BULKHEAD_FUZZ_TARGET=layer` all of it to one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_targets::TARGETS;

/// How many mutants of each target, if nobody says how long.
const FEW: u64 = 50;

/// A mutant has at most so many bytes.
const LONGEST: usize = 8192;

#[test]
fn mutants_of_the_seeds_keep_every_promise() {
    let seconds = std::env::var("BULKHEAD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let only = std::env::var("BULKHEAD_FUZZ_TARGET").ok();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    if seconds.is_some() {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        dice.0 ^= u64::from(clock.subsec_nanos()) << 20 ^ clock.as_secs();
    }
    for (name, run) in TARGETS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let seeds = seeds(name);
        let begin = Instant::now();
        let mut count = 0;
        let goes_on = |count| match seconds {
            None => count < FEW,
            Some(seconds) => begin.elapsed() < Duration::from_secs(seconds),
        };
        while goes_on(count) {
            let mutant = dice.mutant(&seeds);
            let kept = catch_unwind(AssertUnwindSafe(|| run(&mutant)));
            assert!(kept.is_ok(), "{name} breaks a promise with b\"{}\"", mutant.escape_ascii());
            count += 1;
        }
        println!("{name}: {count} executions in {} s", begin.elapsed().as_secs());
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(name);
    let mut paths = Vec::from_iter(std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A generator of numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        // Those that mean something in most formats come more often.
        const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t \"',./:;<=>@[\\]{}|-_0123456789aAzZ";
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }

    fn mutant(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut mutant = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(mutant.len() + 1);
            let end = at + self.below((mutant.len() - at).min(64) + 1);
            match self.below(6) {
                0 if at < mutant.len() => mutant[at] ^= 1 << self.below(8),
                1 if at < mutant.len() => mutant[at] = self.byte(),
                2 => drop(mutant.drain(at..end)),
                3 => {
                    let copy = mutant[at..end].to_vec();
                    let to = self.below(mutant.len() + 1);
                    mutant.splice(to..to, copy);
                }
                4 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    let length = self.below((other.len() - from).min(512) + 1);
                    mutant.splice(at..end, other[from..from + length].iter().copied());
                }
                _ => {
                    let bytes = Vec::from_iter((0..=self.below(8)).map(|_| self.byte()));
                    mutant.splice(at..at, bytes);
                }
            }
        }
        mutant.truncate(LONGEST);
        mutant
    }
}
