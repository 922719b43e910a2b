//! Labels of security modules. `cargo xtask vm test --lsm apparmor` and `--lsm selinux` run these in guests that have one.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

mod apparmor;
mod selinux;

use std::fs;
use std::process::Stdio;

use bulkhead_testkit::{Bundle, Run, Sandbox, find_criu, wait_until};

/// Why tests of containers that come back skip themselves.
const NO_CRIU: &str = "needs CRIU, which `cargo xtask peers` fetches";

/// A program without a descriptor of the host's, which says all the time whether it may read `/secret`.
const READER: &str = "exec </dev/null >/dev/null 2>&1; while :; do \
    if cat /secret; then echo told; else echo denied; fi > /dev/shm/next; mv /dev/shm/next /dev/shm/answer; sleep 0.1; done";

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Puts `exec FLAGS ID sh -c SCRIPT` together.
fn script(sandbox: &Sandbox, bundle: &Bundle, flags: &[&str], script: &str) -> Run {
    sandbox.runtime().arg("exec").args(flags).arg(bundle.id()).args(["sh", "-c", script])
}

/// Puts `checkpoint` or `restore` together, with CRIU in reach.
fn images(sandbox: &Sandbox, verb: &str) -> Run {
    let criu = find_criu().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}:/usr/sbin:/sbin", criu.parent().unwrap().display());
    sandbox.runtime().env("PATH", path).arg(verb).arg("--image-path").arg(sandbox.directory().join("images"))
}

/// Restores a container that is in the images, and looks at the label of its process.
#[track_caller]
fn restored(sandbox: &Sandbox, bundle: &Bundle, flags: &[&str]) -> String {
    let run = images(sandbox, "restore").arg("--detach").arg("--bundle").arg(bundle.directory());
    run.args(flags).arg(bundle.id()).stdout(Stdio::null()).output().succeeds();
    let label = fs::read_to_string(format!("/proc/{}/attr/current", sandbox.pid(bundle))).unwrap();
    label.trim_end_matches(['\0', '\n']).to_owned()
}

/// Waits for what [`READER`] says next.
fn answer(sandbox: &Sandbox, bundle: &Bundle) -> String {
    let file = format!("/proc/{}/root/dev/shm/answer", sandbox.pid(bundle));
    let _ = fs::remove_file(&file);
    wait_until("the container answers", || fs::exists(&file).unwrap());
    fs::read_to_string(file).unwrap()
}

fn end(sandbox: &Sandbox, bundle: &Bundle) {
    sandbox.kill(bundle, "KILL");
    sandbox.wait_for_status(bundle, "stopped");
    sandbox.delete(bundle);
}
