//! Containers and images as people type them: the program `bulkhead` with the monitor and the runtime of this build.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

mod containers;
mod images;
mod listings;
mod shop;
mod streams;
mod survive;
mod volumes;
mod walls;
