//! Programs that want to end with their parent, under commands that leave them alone: these have no say in it.
//!
//! Each command takes half a second for its last call, so that the program is always the faster one.

use std::fs;
use std::time::Duration;

use bulkhead_testkit::{Bundle, Sandbox, find_program, is_root, requires, wait_until};

/// How long the end of a command takes, in microseconds of strace(1).
const SLOWLY: &str = "inject=exit_group:delay_enter=500000";

/// Dies with its parent, from the first moment on.
const BOUND: [&str; 5] = ["setpriv", "--pdeathsig", "KILL", "sleep", "1000"];

fn slow(sandbox: Sandbox) -> Sandbox {
    sandbox.through(["strace", "--output=/dev/null", "--trace=exit_group", "-e", SLOWLY])
}

/// Gives the container the programs of this machine.
fn with_programs(bundle: Bundle) -> Bundle {
    let parts =
        ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|part| fs::exists(part).unwrap_or(false));
    parts.fold(bundle, |bundle, part| bundle.bind(part, part, &["ro", "rbind"]))
}

/// Tells whether a process is what it was to become: `sleep`, which runs.
fn sleeps(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(sleep) S"))
}

#[test]
fn a_detached_run_takes_no_program_with_it() {
    requires!(is_root(), "needs root");
    requires!(
        find_program("strace").is_some() && find_program("setpriv").is_some(),
        "needs strace and setpriv"
    );
    let sandbox = slow(Sandbox::new(env!("CARGO_BIN_EXE_bulkrun")));
    for (short, change) in [
        ("plain", (|bundle| bundle) as fn(Bundle) -> Bundle),
        ("users", |bundle| {
            bundle.user_namespace(&[(0, 100_000, 65_536)], &[(0, 100_000, 65_536)]).owned_by(100_000, 100_000)
        }),
        ("time", |bundle| {
            let bundle = bundle.namespace("time");
            bundle
                .edit(|config| config["linux"]["timeOffsets"] = serde_json::json!({"monotonic": {"secs": 7}}))
        }),
    ] {
        let bundle = change(with_programs(sandbox.bundle(short)).args(BOUND));
        sandbox.run(&bundle).arg("--detach").output().succeeds();
        let pid = sandbox.pid(&bundle);
        std::thread::sleep(Duration::from_millis(100));
        wait_until(&format!("{short}: the program sleeps"), || sleeps(pid));
        sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    }
}

#[test]
fn a_detached_exec_takes_no_program_with_it() {
    requires!(is_root(), "needs root");
    requires!(
        find_program("strace").is_some() && find_program("setpriv").is_some(),
        "needs strace and setpriv"
    );
    let sandbox = slow(Sandbox::new(env!("CARGO_BIN_EXE_bulkrun")));
    let bundle = with_programs(sandbox.bundle("box").args(["sleep", "1000"]));
    sandbox.launch(&bundle);
    let file = sandbox.directory().join("pid");
    let exec = sandbox.runtime().args(["exec", "--detach", "--pid-file"]).arg(&file).arg(bundle.id());
    exec.args(BOUND).output().succeeds();
    let pid = fs::read_to_string(&file).unwrap_or_default().parse().unwrap_or_default();
    std::thread::sleep(Duration::from_millis(100));
    wait_until("the program sleeps", || sleeps(pid));
}
