//! Shares of the cache and of memory bandwidth, on a machine that seems to divide them.
//!
//! Few CPUs do. A launcher shows the runtime a table of mounts with one more line, by which a directory of the test is
//! the resctrl file system. What the kernel fills when it is made is there before, so the runtime finds each class as it
//! would after another container of the name; what it makes and removes itself is tested beside `resctrl`.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bulkhead_testkit::{Bundle, Recorder, Sandbox, find_program, fresh, is_root, requires, wait_until};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// Why these tests skip themselves.
const NEEDED: &str = "needs root, and a machine without a resctrl file system of its own";

/// All that there is, as the kernel writes it.
const SCHEMATA: &str = "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n";

fn is_possible() -> bool {
    is_root() && !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ")
}

/// A runtime that sees a CPU with two caches, and the directory that is its resctrl file system.
fn machine() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new(BULKRUN);
    let tree = sandbox.directory().join("resctrl");
    for (file, text) in [
        ("info/L3/cbm_mask", "7ff\n"),
        ("info/L3/min_cbm_bits", "2\n"),
        ("info/L3/num_closids", "16\n"),
        ("info/MB/bandwidth_gran", "10\n"),
        ("info/MB/delay_linear", "1\n"),
        ("info/MB/min_bandwidth", "10\n"),
        ("info/MB/num_closids", "8\n"),
        ("info/L3_MON/mon_features", "llc_occupancy\n"),
        ("info/last_cmd_status", "ok\n"),
    ] {
        put(&tree.join(file), text);
    }
    class(&tree);
    let table = sandbox.directory().join("table");
    let script = format!(
        "t={}.$$; cat /proc/self/mountinfo > $t && echo '9999 1 0:99 / {} rw - resctrl resctrl rw' >> $t && \
         mount --bind $t /proc/$$/mountinfo && rm $t && exec \"$@\"",
        table.display(),
        tree.display()
    );
    let namespace = fresh::prefix(&[fresh::Kind::Mount]);
    (sandbox.through(namespace).through(["sh", "-c", &script, "sh"]), tree)
}

fn put(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// Fills a class of service as the kernel does.
fn class(directory: &Path) {
    put(&directory.join("schemata"), SCHEMATA);
    fs::create_dir(directory.join("mon_groups")).unwrap();
    group(directory, 1000);
}

/// Fills what counts.
fn group(directory: &Path, occupied: u64) {
    put(&directory.join("tasks"), "");
    put(&directory.join("mon_data/mon_L3_00/llc_occupancy"), &format!("{occupied}\n"));
}

/// Returns what was written to a file since it was looked at last. The kernel takes each write for itself.
fn take(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, "").unwrap();
    text
}

fn divided(bundle: Bundle, rdt: serde_json::Value) -> Bundle {
    bundle.args(["sleep", "1000"]).edit(|config| config["linux"]["intelRdt"] = rdt)
}

#[test]
fn a_container_and_what_joins_it_are_in_its_class_which_update_changes() {
    requires!(is_possible(), "{NEEDED}");
    let (sandbox, tree) = machine();
    let bundle = divided(sandbox.bundle("c"), json!({ "l3CacheSchema": "L3:0=7f0;1=1f" }));
    let own = tree.join(bundle.id());
    class(&own);
    take(&own.join("schemata"));
    sandbox.launch(&bundle);
    assert_eq!(take(&own.join("schemata")), "L3:0=7f0;1=1f\n");
    assert_eq!(take(&own.join("tasks")), sandbox.pid(&bundle).to_string());
    let output = sandbox.exec(&bundle, ["cat", "/proc/self/stat"]).output().succeeds();
    assert_ne!(output.stdout, "");
    let joined: i32 = take(&own.join("tasks")).parse().unwrap();
    assert_ne!(joined, sandbox.pid(&bundle), "another process has joined");
    let update = |flags: &[&str]| sandbox.runtime().arg("update").args(flags).arg(bundle.id()).output();
    update(&["--l3-cache-schema", "L3:0=f0;1=f"]).succeeds();
    assert_eq!(take(&own.join("schemata")), "L3:0=f0;1=f\n");
    update(&["--mem-bw-schema", "MB:0=20;1=70"]).succeeds();
    assert_eq!(take(&own.join("schemata")), "MB:0=20;1=70\n");
    update(&["--mem-bw-schema", "MB:0=30", "--l3-cache-schema", "L3:0=ff"]).succeeds();
    assert_eq!(take(&own.join("schemata")), "L3:0=ff\nMB:0=30\n");
    assert_eq!(take(&tree.join("schemata")), SCHEMATA, "the default class is left alone");
    assert_eq!(take(&tree.join("tasks")), "");
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_status(&bundle, "stopped");
    sandbox.delete(&bundle);
    assert!(own.exists(), "a class that was there stays");
}

#[test]
fn a_restored_container_is_in_its_class_from_the_first_process_on() {
    requires!(is_possible() && find_program("python3").is_some(), "{NEEDED}; and python3");
    let (sandbox, tree) = machine();
    let recorder = Recorder::new(&sandbox);
    let images = sandbox.directory().join("images");
    put(&images.join("descriptors.json"), r#"["/dev/null", "/dev/null", "/dev/null"]"#);
    class(&tree.join("gold"));
    let bundle = divided(sandbox.bundle("c"), json!({ "closID": "gold" })).without_namespace("network");
    let run = sandbox.runtime().args(["restore", "--detach", "--image-path"]).arg(&images).arg("--bundle");
    let run = recorder.before(run.arg(bundle.directory()).arg(bundle.id()));
    run.output().exits_with(1).complains("criu failed: type RESTORE");
    let joined: u32 = take(&tree.join("gold/tasks")).parse().unwrap();
    assert_ne!(joined, 0, "CRIU is in it before it makes the container's processes");
    assert_eq!(take(&tree.join("tasks")), "");
}

#[test]
fn events_tell_what_a_container_may_use_and_what_it_has_used() {
    requires!(is_possible(), "{NEEDED}");
    let (sandbox, tree) = machine();
    let bundle = divided(sandbox.bundle("c"), json!({ "closID": "gold", "enableMonitoring": true }));
    class(&tree.join("gold"));
    put(&tree.join("gold/schemata"), "MB:0=50;1=50\nL3:0=f;1=f\n");
    let counted = tree.join("gold/mon_groups").join(bundle.id());
    group(&counted, 42);
    sandbox.launch(&bundle);
    let pid = sandbox.pid(&bundle).to_string();
    assert_eq!((take(&tree.join("gold/tasks")), take(&counted.join("tasks"))), (pid.clone(), pid));
    let stats = sandbox.runtime().args(["events", "--stats", bundle.id()]).output().succeeds().json();
    let rdt = &stats["data"]["intel_rdt"];
    for (name, value) in [
        ("l3_cache_info", json!({ "cbm_mask": "7ff", "min_cbm_bits": 2, "num_closids": 16 })),
        ("l3_cache_schema_root", json!("L3:0=7ff;1=7ff")),
        ("l3_cache_schema", json!("L3:0=f;1=f")),
        ("mem_bw_schema", json!("MB:0=50;1=50")),
        ("schemata", json!(["MB:0=50;1=50", "L3:0=f;1=f"])),
        ("cmt_stats", json!([{ "llc_occupancy": 42 }])),
    ] {
        assert_eq!(rdt[name], value, "{name} of {rdt}");
    }
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_status(&bundle, "stopped");
    // The kernel's part of removing it.
    fs::remove_dir_all(&counted).unwrap();
    fs::create_dir(&counted).unwrap();
    sandbox.delete(&bundle);
    assert!(!counted.exists(), "its counters end with the container");
    assert!(tree.join("gold").exists(), "a class that others use stays");
}

#[test]
fn what_the_cpu_does_not_divide_is_refused() {
    requires!(is_possible(), "{NEEDED}");
    let (sandbox, tree) = machine();
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let update = |flags: &[&str]| sandbox.runtime().arg("update").args(flags).arg(bundle.id()).output();
    fs::remove_dir_all(tree.join("info/MB")).unwrap();
    update(&["--mem-bw-schema", "MB:0=20"]).exits_with(1).complains("memory bandwidth schema is not enabled");
    assert_eq!(take(&tree.join("schemata")), SCHEMATA, "the default class is left alone");
}

#[test]
fn update_gives_a_first_class_to_all_that_runs_in_a_container() {
    requires!(is_possible(), "{NEEDED}");
    let (sandbox, tree) = machine();
    let bundle = sandbox.bundle("c").script("sleep 1000 & sleep 1000 & wait");
    sandbox.launch(&bundle);
    let processes = || {
        let listed = sandbox.runtime().args(["ps", "--format", "json", bundle.id()]).output().succeeds();
        let mut pids: Vec<i32> = serde_json::from_str(&listed.stdout).unwrap();
        pids.sort_unstable();
        pids
    };
    wait_until("all of them run", || processes().len() == 3);
    let own = tree.join(bundle.id());
    class(&own);
    take(&own.join("schemata"));
    // Each write is kept here, and not over the one before.
    fs::remove_file(own.join("tasks")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, own.join("tasks"), rustix::fs::Mode::RWXU).unwrap();
    let mut tasks = fs::File::options().read(true).write(true).open(own.join("tasks")).unwrap();
    let update = |flags: &[&str]| sandbox.runtime().arg("update").args(flags).arg(bundle.id()).output();
    update(&["--l3-cache-schema", "L3:0=f", "--mem-bw-schema", "MB:0=20"]).succeeds();
    assert_eq!(take(&own.join("schemata")), "L3:0=f\nMB:0=20\n");
    let first = sandbox.pid(&bundle);
    let mut expected = processes();
    let written = |tasks: &mut fs::File| {
        tasks.write_all(b"end").unwrap();
        let mut text = String::new();
        while !text.ends_with("end") {
            let mut buffer = [0; 4096];
            let count = tasks.read(&mut buffer).unwrap();
            text += std::str::from_utf8(&buffer[..count]).unwrap();
        }
        text
    };
    let mut text = written(&mut tasks);
    // The longest first, so that no number is found in another.
    expected.sort_by_key(|pid| std::cmp::Reverse(pid.to_string().len()));
    for pid in expected {
        assert!(text.contains(&pid.to_string()), "{pid} is moved: {text}");
        text = text.replacen(&pid.to_string(), "", 1);
    }
    assert_eq!(text, "end", "nothing else is, and {first} only once");
    update(&["--l3-cache-schema", "L3:0=ff"]).succeeds();
    assert_eq!(take(&own.join("schemata")), "L3:0=ff\n");
    sandbox.exec(&bundle, ["true"]).output().succeeds();
    assert_ne!(written(&mut tasks), "end", "what joins the container joins its class");
    assert_eq!(take(&tree.join("tasks")), "", "the default class is left alone");
}

#[test]
fn a_first_class_that_cannot_be_had_leaves_nothing() {
    requires!(is_possible(), "{NEEDED}");
    let (sandbox, tree) = machine();
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    // What is made here stays empty, so that no shares can be set.
    let update = sandbox.runtime().args(["update", "--l3-cache-schema", "L3:0=f", bundle.id()]).output();
    update.exits_with(1).complains("schemata of the resctrl file system");
    assert!(!tree.join(bundle.id()).exists(), "the class is gone");
    let state = fs::read_to_string(sandbox.state_directory().join(bundle.id()).join("state.json")).unwrap();
    assert!(!state.contains("\"rdt\""), "the record does not tell of it: {state}");
    sandbox.exec(&bundle, ["true"]).output().succeeds();
}

#[test]
fn a_class_that_is_there_with_other_shares_is_refused() {
    requires!(is_possible(), "{NEEDED}");
    let (sandbox, tree) = machine();
    class(&tree.join("gold"));
    let rdt = json!({ "closID": "gold", "l3CacheSchema": "L3:0=1" });
    let bundle = divided(sandbox.bundle("other"), rdt);
    let output = sandbox.run(&bundle).output().exits_with(1);
    output.complains("config.json: /linux/intelRdt/l3CacheSchema: ").complains("another schema");
    let bundle = divided(sandbox.bundle("missing"), json!({ "closID": "silver" }));
    let output = sandbox.run(&bundle).output().exits_with(1);
    output.complains("config.json: /linux/intelRdt/closID: there is no class of service");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
}
