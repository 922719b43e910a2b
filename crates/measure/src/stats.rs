//! From outcomes to verdicts.
//!
//! An experiment is a row of *blocks*. In each block every platform runs once, in an order drawn anew by a
//! [`Schedule`], so that a drift of the machine meets all of them alike. A run gives an [`Outcome`]: an
//! [`Amount`], or the reason why there is none. A failure can therefore never be mistaken for a short time.
//!
//! [`Experiment::summary`] describes one platform, [`Experiment::compare`] compares two by the logarithm of
//! their ratio *within* each block and gives a [`Verdict`].
//!
//! ```
//! use bulkhead_measure::stats::{Amount, Experiment, Schedule, Verdict};
//!
//! let mut experiment = Experiment::new(["ours", "theirs"]);
//! for order in Schedule::new(2, 7).take(20) {
//!     let mut block = experiment.block();
//!     for platform in order {
//!         let milliseconds = [6.0, 14.0][platform]; // run the platform here
//!         block.record(platform, Amount::new(milliseconds));
//!     }
//! }
//! let comparison = experiment.compare(0, 1).unwrap();
//! assert_eq!(comparison.verdict, Verdict::Faster);
//! assert!(comparison.ratio.estimate < 0.5);
//! ```

mod compare;
mod estimate;
mod experiment;
mod outcome;
mod prng;
mod schedule;

pub use compare::{Comparison, FEWEST_PAIRS, MARGIN, Verdict, chance, contrast};
pub use estimate::{Estimate, certainty, median, tail};
pub use experiment::{BlockEntry, Experiment, Summary};
pub use outcome::{Amount, Failure, Outcome};
pub use prng::Prng;
pub use schedule::Schedule;
