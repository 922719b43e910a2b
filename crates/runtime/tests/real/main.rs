//! Real use: whole programs of a Debian in containers, services over their whole life, crowds and races.
//!
//! What needs the Debian takes it from the cache, where `cargo xtask debian` puts it, and never writes to it: each
//! container has an overlay of its own over it.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod crowd;
mod debian;
mod programs;
mod races;

use bulkhead_testkit::{Bundle, Sandbox};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Makes a bundle whose container does nothing for long.
fn sleeper(sandbox: &Sandbox, short: &str) -> Bundle {
    sandbox.bundle(short).args(["sleep", "1000"])
}

/// Makes sure that nothing is left of a container.
#[track_caller]
fn is_gone(sandbox: &Sandbox, bundle: &Bundle) {
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "the state is removed");
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "the cgroups are removed");
}
