//! Programs that want to end with their parent, which is no runtime: that has ended long before they do, and they go on.

use std::fs;

use bulkhead_testkit::{find_program, requires, wait_until};

use crate::shop::{IMAGE, shop};

/// Dies with its parent, from the first moment on.
const BOUND: [&str; 5] = ["setpriv", "--pdeathsig", "KILL", "sleep", "7777"];

#[test]
fn what_is_detached_outlives_the_runtime_that_started_it() {
    requires!(
        find_program("strace").is_some() && find_program("setpriv").is_some(),
        "needs strace and setpriv"
    );
    let shop = shop!();
    // Slow to end, so that the program is always faster.
    let slow = shop.path("bulkrun-slow");
    let bulkrun = env!("CARGO_BIN_EXE_bulkhead").replace("/bulkhead", "/bulkrun");
    let script = format!(
        "#!/bin/sh\nexec strace --output=/dev/null --trace=exit_group -e inject=exit_group:delay_enter=300000 {bulkrun} \"$@\"\n"
    );
    shop.script_file(&slow, &script);
    let parts = ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|part| fs::exists(part).unwrap());
    let volumes = Vec::from_iter(parts.map(|part| format!("--volume={part}:{part}:ro")));
    let mut options = vec!["--detach", "--name", "web", "--runtime", slow.to_str().unwrap()];
    options.extend(volumes.iter().map(String::as_str));
    shop.with("run", &options, &BOUND).output().succeeds();
    shop.bulkhead(&[&["exec", "--detach", "web"][..], &BOUND].concat()).output().succeeds();
    let sleepers = || shop.said(&["top", "web", "-o", "pid,args"]).matches("sleep 7777").count();
    wait_until("both sleep", || sleepers() == 2);
    assert_eq!(shop.inspect("web")["State"]["Running"], true);
}

#[test]
fn a_run_that_cannot_be_leaves_no_monitor() {
    requires!(find_program("strace").is_some(), "needs strace");
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    let trace = shop.path("trace");
    let traced = |words: &[&str], code: i32| {
        let strace =
            shop.sandbox.command("strace").args(["-f", "--trace=execve,exit_group", "-o"]).arg(&trace);
        shop.bulkhead_by(strace, words).output().exits_with(code);
        fs::read_to_string(&trace).unwrap()
    };
    for words in [&["run", "--pull", "never", "no-such-image"][..], &["run", "--name", "web", IMAGE]] {
        let trace = traced(words, 125);
        let loaded = trace.lines().find(|line| line.contains("/bulkmon\"")).expect("it is loaded meanwhile");
        let (monitor, _) = loaded.split_once(' ').unwrap();
        let ended = trace.lines().position(|line| line.starts_with(monitor) && line.contains("+++ exited"));
        let last = trace.lines().count() - 1;
        assert!(
            ended.is_some_and(|ended| ended < last),
            "it ends before the command does: {words:?}\n{trace}"
        );
    }
    let trace = traced(&["run", "--name", "no name", IMAGE], 125);
    assert!(!trace.contains("/bulkmon\""), "none is for a name that nobody can have");
}
