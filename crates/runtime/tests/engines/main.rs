//! Real engines over `bulkrun`: podman, docker and containerd, each on a machine of its own.
//!
//! `cargo xtask engines` puts them into the cache, as the machine's own release has them and as the newest suite has
//! them; each test runs with both. A test believes no exit code alone: [`Ours`] proves that a container is one that
//! `bulkrun` keeps a record of, with the process that the engine knows.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod containerd;
mod cri;
mod docker;
mod engine;
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

use bulkhead_testkit::{Machine, Sandbox, cached, is_root, requires, skip};

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

/// Makes tests out of functions of a [`Ground`], one with each suite.
macro_rules! with_each_suite {
    ($($test:ident),* $(,)?) => {
        mod release {
            $(#[test] fn $test() { crate::on_a_machine(crate::Suite::Release, super::$test) })*
        }
        mod newest {
            $(#[test] fn $test() { crate::on_a_machine(crate::Suite::Newest, super::$test) })*
        }
    };
}
pub(crate) use with_each_suite;

/// What a test stands on: a machine with the engines of a suite.
pub(crate) struct Ground<'s> {
    pub(crate) suite: Suite,
    pub(crate) sandbox: &'s Sandbox,
    pub(crate) machine: &'s Machine<'s>,
}

/// Runs a test on a machine of its own.
fn on_a_machine(suite: Suite, test: fn(&Ground<'_>)) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else {
        skip!("no engines in the cache: `cargo xtask engines` brings them")
    };
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"));
    let machine = sandbox.boot(&tree);
    test(&Ground { suite, sandbox: &sandbox, machine: &machine });
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
