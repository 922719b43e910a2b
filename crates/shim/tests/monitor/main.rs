//! Whole monitors with whole containers, by `bulkrun` of this build.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod stand;
mod streams;
