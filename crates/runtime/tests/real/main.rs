//! Real use: whole programs of a Debian in containers, services over their whole life, crowds and races.
//!
//! What needs the Debian takes it from the cache, where `cargo xtask debian` puts it, and never writes to it: each
//! container has an overlay of its own over it.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod crowd;
mod debian;
mod postgresql;
mod programs;
mod races;
mod redis;
mod terminal;

use std::thread;
use std::time::{Duration, Instant};

use bulkhead_testkit::{Bundle, Sandbox};
use serde_json::Value;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Makes a bundle whose container does nothing for long.
fn sleeper(sandbox: &Sandbox, short: &str) -> Bundle {
    sandbox.bundle(short).args(["sleep", "1000"])
}

/// Waits for what a busy machine may let take long, and fails the test after a minute with what was waited for.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Makes sure that nothing is left of a container.
#[track_caller]
fn is_gone(sandbox: &Sandbox, bundle: &Bundle) {
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "the state is removed");
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "the cgroups are removed");
}

/// Makes a verb that says nothing change a container.
#[track_caller]
fn verb(sandbox: &Sandbox, words: &[&str], bundle: &Bundle) {
    sandbox.runtime().args(words).arg(bundle.id()).output().succeeds().prints("");
}

/// Reads the statistics that `events` prints.
#[track_caller]
fn statistics(sandbox: &Sandbox, bundle: &Bundle) -> Value {
    let output = sandbox.runtime().args(["events", "--stats"]).arg(bundle.id()).output().succeeds();
    output.json()["data"].take()
}
