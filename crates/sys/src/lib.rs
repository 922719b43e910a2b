//! Typed, safe Linux system calls that rustix lacks, with errors that read like strace.
//!
//! A wrapper is one policy decision: descriptors come first, paths second, everything is close-on-exec,
//! and the safe choice has the short name. A failed call is an [`Error`] that prints the call with its
//! arguments as strace would.

mod error;

pub use error::{Call, Error, Result};
