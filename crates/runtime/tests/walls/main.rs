//! The walls that must hold: each test plays an attack that worked against some runtime.
//!
//! A container, its image or its volume is hostile; the caller and the configuration are not. A test says in a comment
//! which protection it needs: "seen to fail" is what happened with that removed, "must fail" is what is expected but
//! was not tried. `SECURITY.md` lists them by class.
//!
//! `BULKHEAD_ATTACKED=/usr/bin/runc` attacks another runtime instead, and `BULKHEAD_RACES=10000` makes races longer.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod attack;
mod cgroup;
mod config;
mod credentials;
mod device;
mod directory;
mod executable;
mod fds;
mod id;
mod image;
mod join;
mod locked;
mod mask;
mod outside;
mod passwd;
mod race;
mod shared_mounts;
mod state;

use bulkhead_testkit::{Bundle, Run, Sandbox};

/// Makes a sandbox for the runtime under attack.
fn sandbox() -> Sandbox {
    let runtime = std::env::var_os("BULKHEAD_ATTACKED");
    Sandbox::new(runtime.unwrap_or_else(|| env!("CARGO_BIN_EXE_bulkrun").into()))
}

/// Puts `exec OPTIONS ID COMMAND…` together.
fn exec(sandbox: &Sandbox, options: &[&str], bundle: &Bundle, command: &[&str]) -> Run {
    sandbox.runtime().arg("exec").args(options).arg(bundle.id()).args(command)
}
