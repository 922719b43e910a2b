//! What is left is told, also when it is less than what was asked for.

use std::fs;

use bulkhead_testkit::{Sandbox, is_root, requires};
use serde_json::Value;

const BULKLOAD: &str = env!("CARGO_BIN_EXE_bulkload");

#[track_caller]
fn taken(line: &Value, asked: u64, got: std::ops::RangeInclusive<u64>) {
    assert_eq!(line["asked"], asked, "{line}");
    assert!(line["got"].as_u64().is_some_and(|count| got.contains(&count)), "not within {got:?}: {line}");
}

#[test]
fn all_is_had_where_nothing_is_short() {
    let sandbox = Sandbox::new(BULKLOAD);
    for (kind, amount) in [("memory", 8), ("processes", 5), ("files", 30), ("disk", 3)] {
        let run = sandbox.command(BULKLOAD).args(["take", kind, "--amount", &amount.to_string()]);
        let line = run.arg("--directory").arg(sandbox.directory().join("output")).output().succeeds().json();
        taken(&line, amount, amount..=amount);
        assert!(line["take"] == kind && line["call"].is_null(), "{line}");
    }
}

#[test]
fn a_limit_is_met_and_named() {
    requires!(is_root(), "needs root, to become somebody else");
    let sandbox = Sandbox::new(BULKLOAD);
    for (limit, kind, amount, call) in [
        ("--nofile=20", "files", 30, "openat("),
        ("--nproc=3", "processes", 5, "fork()"),
        ("--as=100000000", "memory", 200, "mmap("),
    ] {
        let run = sandbox.command("prlimit").args([limit, BULKLOAD, "take", kind]);
        let run = run.args(["--amount", &amount.to_string()]).as_user(31_998, 31_998);
        let line = run.output().succeeds().json();
        taken(&line, amount, 0..=amount - 1);
        assert!(line["call"].as_str().is_some_and(|said| said.starts_with(call)), "{line}");
    }
}

#[test]
fn a_full_disk_is_met() {
    requires!(is_root(), "needs root, to mount");
    let sandbox = Sandbox::new(BULKLOAD);
    let place = sandbox.directory().join("output/small");
    fs::create_dir(&place).unwrap();
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let run = sandbox.command("unshare").args(["-m", "sh", "-c", script]).arg(&place).arg(BULKLOAD);
    let run = run.args(["take", "disk", "--amount", "9", "--directory"]).arg(&place);
    let line = run.output().succeeds().json();
    taken(&line, 9, 3..=4);
    assert!(line["call"].as_str().is_some_and(|call| call.contains("space")), "{line}");
}
