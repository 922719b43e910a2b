//! Whole monitors with whole containers, by `bulkrun` of this build.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

mod companions;
mod deaths;
mod ends;
mod memory;
mod others;
mod owned;
mod restarts;
mod stand;
mod streams;
