//! Real engines over `bulkrun`: podman, docker and containerd, each on a machine of its own.
//!
//! `cargo xtask engines` puts them into the cache, as the machine's own release has them and as the newest suite has
//! them; each test runs with both. A test believes no exit code alone: [`Ours`] proves that a container is one that
//! `bulkrun` keeps a record of, with the process that the engine knows.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod containerd;
mod cri;
mod docker;
mod grpc;
mod image;
mod limits;
mod ours;
mod podman;
mod rootless;
mod streaming;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_testkit::{Sandbox, cached};

/// Why tests skip themselves without the engines.
pub(crate) const MISSING: &str = "no engines in the cache: `cargo xtask engines` brings them";

/// Whose engines a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Those of the machine's own release.
    Release,
    /// The newest.
    Newest,
}

impl Suite {
    /// The tree with its programs.
    pub(crate) fn tree(self) -> Option<PathBuf> {
        cached(match self {
            Suite::Release => "engines/release",
            Suite::Newest => "engines/newest",
        })
    }
}

/// Makes a test of each suite out of functions.
macro_rules! with_each_suite {
    ($($test:ident),* $(,)?) => {
        mod release {
            $(#[test] fn $test() { super::$test(crate::Suite::Release) })*
        }
        mod newest {
            $(#[test] fn $test() { super::$test(crate::Suite::Newest) })*
        }
    };
}
pub(crate) use with_each_suite;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Waits for what a busy machine may let take long, and fails the test after a minute with what was waited for.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
