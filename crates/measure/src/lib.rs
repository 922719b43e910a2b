//! Statistics for honest comparisons of platforms.
//!
//! Nothing in here measures or starts anything; it plans in which order to measure, and says what the numbers
//! allow to claim.

pub mod stats;
