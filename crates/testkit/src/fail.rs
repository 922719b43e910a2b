//! The kit's own failures end the test that uses it.

use std::fmt::Display;

/// Turns a failure of the kit into a failure of the test, at the place that called the kit.
pub(crate) trait OrFail<T> {
    /// Returns the value, or panics with a sentence: what could not be done, and why.
    #[track_caller]
    fn or_fail(self, what: impl Display) -> T;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self, what: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("testkit cannot {what}: {error}"),
        }
    }
}
