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

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_testkit::{Init, Machine, Sandbox, cached, is_disposable, is_root, skip, slowness};

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
            $(#[test] fn $test() { crate::on_a_machine(crate::Suite::Release, crate::Init::Own, super::$test) })*
        }
        mod newest {
            $(#[test] fn $test() { crate::on_a_machine(crate::Suite::Newest, crate::Init::Own, super::$test) })*
        }
    };
}
pub(crate) use with_each_suite;

/// Makes tests out of functions of a [`Ground`], with the newest engines, in whose machine systemd makes the cgroups.
macro_rules! under_systemd {
    ($($test:ident),* $(,)?) => {
        mod systemd {
            mod newest {
                $(#[test] fn $test() {
                    crate::on_a_machine(crate::Suite::Newest, crate::Init::Systemd, super::super::$test)
                })*
            }
        }
    };
}
pub(crate) use under_systemd;

/// What a test stands on: a machine with the engines of a suite.
pub(crate) struct Ground<'s> {
    pub(crate) suite: Suite,
    pub(crate) sandbox: &'s Sandbox,
    pub(crate) machine: &'s Machine<'s>,
}

/// The tree with a suite's engines, or why no machine can be made of it.
fn tree(suite: Suite, init: Init) -> Result<PathBuf, &'static str> {
    if !is_root() {
        return Err("needs root");
    }
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if init == Init::Systemd && !(is_v2 && Path::new("/run/systemd/system").is_dir()) {
        return Err(
            "needs systemd and cgroup v2 alone: `cargo xtask engines --on systemd` has a guest with both",
        );
    }
    if init == Init::Systemd && !is_disposable() {
        // What is killed in between leaves its daemons, users and slices with that systemd.
        return Err("needs a machine of its own: `cargo xtask engines --on systemd` has a guest");
    }
    suite.tree().ok_or("no engines in the cache: `cargo xtask engines` brings them")
}

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Runs a test on a machine of its own.
fn on_a_machine(suite: Suite, init: Init, test: fn(&Ground<'_>)) {
    let tree = match tree(suite, init) {
        Ok(tree) => tree,
        Err(why) => skip!("{why}"),
    };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree, init);
    test(&Ground { suite, sandbox: &sandbox, machine: &machine });
}

/// Waits for what a busy machine may let take long, and fails the test after a minute, more on a machine that is known to
/// be slow, with what was waited for.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60) * slowness();
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
