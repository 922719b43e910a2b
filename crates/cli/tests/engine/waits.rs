//! Who waits for whom: what is said of it, and what a removal by force does about it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::{find_program, requires, wait_until};

use crate::shop::{IMAGE, Shop, shop};

impl Shop {
    /// A runtime that does as ours, but hangs over a verb.
    fn hanging(&self, verb: &str) -> PathBuf {
        let bulkrun = PathBuf::from(env!("CARGO_BIN_EXE_bulkhead")).with_file_name("bulkrun");
        let fifo = self.path("never");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = format!(
            "#!/bin/sh\nfor word; do [ \"$word\" != {verb} ] || read -r x < {}; done\nexec {} \"$@\"\n",
            fifo.display(),
            bulkrun.display()
        );
        let path = self.path("bulkrun-hanging");
        self.script_file(&path, &script);
        path
    }

    fn made_by(&self, runtime: &std::path::Path) {
        let parent = self.parent();
        let words = ["create", "--name", "job", "--cgroup-parent", &parent, "--runtime"];
        let command = [runtime.to_str().unwrap(), IMAGE, "sleep", "1000"];
        self.said(&[&words[..], &command].concat());
    }
}

/// Longer than the grace of a removal by force and what it takes besides, and shorter than a test's patience.
const SOON: Duration = Duration::from_secs(25);

/// Fails when who waits for the code of a process waits for who writes to the store, too.
#[test]
fn the_code_of_an_exec_comes_while_somebody_else_writes() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    let call =
        shop.bulkhead(&["exec", "web", "sh", "-c", "echo up; until [ -e /go ]; do sleep 0.05; done; exit 7"]);
    let call = call.spawn();
    wait_until("it runs", || call.stdout() == "up\n");
    let pid = shop.inspect("web")["State"]["Pid"].as_i64().unwrap();
    let mut store = rusqlite::Connection::open(shop.path("engine/bulkhead.db")).unwrap();
    let writing = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    let began = Instant::now();
    call.wait().exits_with(7);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(writing);
}

#[test]
fn a_removal_by_force_ends_a_runtime_that_hangs_over_the_start() {
    let shop = shop!();
    shop.made_by(&shop.hanging("run"));
    let first = shop.bulkhead(&["start", "job"]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    let second = shop.bulkhead(&["pause", "job"]).spawn();
    std::thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    assert_eq!(shop.said(&["rm", "-f", "job"]), "job\n");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_ne!(first.wait().code(), 0, "it could not be started");
    let waited = second.wait();
    assert_ne!(waited.code(), 0);
    let said = &waited.stderr;
    assert!(
        said.contains("warning: waiting for container job, which process ")
            && said.contains(" (bulkhead) holds"),
        "{said}"
    );
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}

#[test]
fn a_removal_by_force_ends_what_its_holder_waits_for() {
    let shop = shop!();
    shop.made_by(&shop.hanging("pause"));
    shop.said(&["start", "job"]);
    let holder = shop.bulkhead(&["pause", "job"]).spawn();
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    let removed = shop.bulkhead(&["rm", "-f", "job"]).output().succeeds();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(removed.stderr.contains("(bulkhead) holds"), "{}", removed.stderr);
    assert_ne!(holder.wait().code(), 0);
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}

#[test]
fn a_container_that_its_runtime_cannot_end_keeps_its_record() {
    let shop = shop!();
    let bulkrun = PathBuf::from(env!("CARGO_BIN_EXE_bulkhead")).with_file_name("bulkrun");
    let (stuck, runtime) = (shop.path("stuck"), shop.path("bulkrun-stuck"));
    let script = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" != --force ] || [ ! -e {} ] || {{ echo it is stuck: cgroup of container not found >&2; exit 1; }}; done\n\
         exec {} \"$@\"\n",
        stuck.display(),
        bulkrun.display()
    );
    shop.script_file(&runtime, &script);
    shop.made_by(&runtime);
    shop.said(&["start", "job"]);
    let state = shop.inspect("job")["State"].clone();
    let id = shop.inspect("job")["Id"].as_str().unwrap().to_owned();
    std::fs::write(&stuck, "").unwrap();
    let monitor = crate::survive::monitor(&shop, &id).to_string();
    assert!(Command::new("kill").args(["-9", &monitor]).status().unwrap().success());
    wait_until("it is known to be lost", || shop.inspect("job")["State"]["Status"] == "exited");
    let refused = shop.bulkhead(&["rm", "-f", "job"]).output().exits_with(1);
    assert!(refused.stderr.contains("it is stuck"), "{}", refused.stderr);
    assert!(shop.said(&["ps", "-aq", "--no-trunc"]).contains(&id), "something has to name what runs on");
    let process = format!("/proc/{}", state["Pid"]);
    assert!(std::path::Path::new(&process).exists(), "it runs");
    std::fs::remove_file(&stuck).unwrap();
    shop.said(&["rm", "-f", "job"]);
    // Whoever takes orphans in here may not have looked after it yet.
    wait_until("it has ended", || {
        let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

/// Fails without the sync: what a monitor writes is in memory until the kernel writes it.
#[test]
fn a_stop_that_was_acknowledged_is_on_the_disk() {
    let shop = shop!();
    requires!(find_program("strace").is_some(), "needs strace");
    let synced_of = |what: &str, words: &[&str]| {
        let trace = shop.path("trace");
        let strace = shop.sandbox.command("strace").args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o"]);
        shop.bulkhead_by(strace.arg(&trace), words).output().succeeds();
        std::fs::read_to_string(&trace).unwrap().matches(what).count()
    };
    let synced = |words: &[&str]| synced_of("/status.json>)", words);
    let id = shop.service("web", "exec sleep 1000");
    assert_eq!(synced(&["stop", "-t", "0", "web"]), 1);
    assert_eq!(synced(&["stop", "web"]), 1, "the first may have been killed before");
    let directory = format!("/containers/{id}>)");
    assert_eq!(synced_of(&directory, &["stop", "web"]), 1, "it took the place of an older one");
    shop.said(&["start", "web"]);
    assert_eq!(synced(&["rm", "-f", "web"]), 0, "what goes is not kept first");
    shop.with("run", &["-d", "--rm", "--name", "brief"], &["sleep", "1000"]).output().succeeds();
    assert_eq!(synced(&["stop", "-t", "0", "brief"]), 0);
}
