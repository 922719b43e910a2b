//! Labels of security modules. `cargo xtask vm test --lsm apparmor` and `--lsm selinux` run these in guests that have one.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

mod apparmor;
mod selinux;

use bulkhead_testkit::{Bundle, Run, Sandbox};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Puts `exec FLAGS ID sh -c SCRIPT` together.
fn script(sandbox: &Sandbox, bundle: &Bundle, flags: &[&str], script: &str) -> Run {
    sandbox.runtime().arg("exec").args(flags).arg(bundle.id()).args(["sh", "-c", script])
}
