//! The OCI runtime: library and the program bulkrun.

pub mod cli;
pub mod id;
pub mod log;
pub mod signal;
pub mod template;
pub mod timestamp;
