//! The engine's interface by the life of a container: real monitors, real runtimes, on places of the test's own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what fails fails the test")]

mod end;
mod ground;
mod inside;
mod run;
