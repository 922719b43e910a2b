//! The verbs that look at containers, and `update`, on real ones.

use std::fs;
use std::path::Path;

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires, wait_until};
use serde_json::{Value, json};

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

fn sleeper(sandbox: &Sandbox, name: &str) -> Bundle {
    sandbox.bundle(name).args(["sleep", "1000"])
}

/// Kills a container and waits until its process is gone.
fn stop(sandbox: &Sandbox, bundle: &Bundle) {
    let pid = sandbox.pid(bundle);
    sandbox.kill(bundle, "KILL");
    sandbox.wait_for_exit(pid);
}

#[test]
fn state_tells_the_whole_life_of_a_container() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sleeper(&sandbox, "life").annotation("org.example.colour", "red");
    sandbox.create(&bundle);
    let created = sandbox.state(&bundle);
    assert_eq!(created["status"], "created");
    sandbox.start(&bundle);
    let running = sandbox.state(&bundle);
    let expected = json!({
        "ociVersion": bundle.config()["ociVersion"],
        "id": bundle.id(),
        "pid": created["pid"],
        "status": "running",
        "bundle": bundle.directory(),
        "rootfs": bundle.rootfs(),
        "created": created["created"],
        "annotations": { "org.example.colour": "red" },
        "owner": "root",
    });
    assert_eq!(running, expected);
    sandbox.runtime().arg("pause").arg(bundle.id()).output().succeeds();
    assert_eq!(sandbox.status(&bundle), "paused");
    sandbox.runtime().arg("resume").arg(bundle.id()).output().succeeds();
    assert_eq!(sandbox.status(&bundle), "running");
    stop(&sandbox, &bundle);
    let stopped = sandbox.state(&bundle);
    assert_eq!((&stopped["status"], &stopped["pid"]), (&json!("stopped"), &json!(0)));
    sandbox.delete(&bundle);
    sandbox.runtime().arg("state").arg(bundle.id()).output().exits_with(1).complains("does not exist");
}

#[test]
fn state_has_the_form_of_runc() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sleeper(&sandbox, "form");
    sandbox.create(&bundle);
    let text = sandbox.runtime().arg("state").arg(bundle.id()).output().succeeds().stdout;
    let keys: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
    assert_eq!(keys, ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]);
    assert!(text.starts_with("{\n  \"ociVersion\": \""), "{text}");
    let created = sandbox.state(&bundle)["created"].as_str().map(str::to_owned).unwrap_or_default();
    assert!(created.starts_with("20") && created.ends_with('Z') && created.contains('T'), "{created}");
}

#[test]
fn list_shows_every_container_and_passes_over_what_is_none() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let (one, two) = (sleeper(&sandbox, "one"), sleeper(&sandbox, "two"));
    sandbox.launch(&one);
    sandbox.create(&two);
    fs::create_dir(sandbox.state_directory().join("half-made")).expect("make a directory");
    fs::write(sandbox.state_directory().join("file"), "").expect("make a file");

    let list = |format: &[&str]| sandbox.runtime().arg("list").args(format).output().succeeds();
    let mut ids = [one.id(), two.id()];
    ids.sort_unstable();
    assert_eq!(list(&["-q"]).stdout, format!("{}\n{}\n", ids[0], ids[1]));
    let documents = list(&["-f", "json"]).json();
    let statuses: Vec<_> =
        documents.as_array().into_iter().flatten().map(|one| one["status"].clone()).collect();
    assert_eq!(documents[0]["id"], ids[0]);
    assert!(statuses.contains(&json!("running")) && statuses.contains(&json!("created")), "{documents}");
    let table = list(&[]).stdout;
    let row = table.lines().find(|line| line.starts_with(one.id())).unwrap_or_default();
    let cells: Vec<_> = row.split_whitespace().collect();
    let (pid, directory) = (sandbox.pid(&one).to_string(), one.directory().display().to_string());
    assert_eq!(cells[..4], [one.id(), pid.as_str(), "running", directory.as_str()], "{table}");
    assert_eq!(cells[5], "root", "{table}");
    fs::remove_dir(sandbox.state_directory().join("half-made")).expect("remove the directory");
    fs::remove_file(sandbox.state_directory().join("file")).expect("remove the file");
}

#[test]
fn ps_lists_processes_by_their_pids_on_the_host() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("ps").script("sleep 1000 & sleep 1000; true");
    sandbox.launch(&bundle);
    let ps = |args: &[&str]| sandbox.runtime().arg("ps").args(args).output();
    let mut pids = Value::Null;
    wait_until("three processes run", || {
        pids = ps(&["--format", "json", bundle.id()]).succeeds().json();
        pids.as_array().is_some_and(|pids| pids.len() == 3)
    });
    assert!(pids.as_array().unwrap().contains(&json!(sandbox.pid(&bundle))), "{pids}");

    let table = ps(&[bundle.id()]).succeeds().stdout;
    assert!(table.lines().next().is_some_and(|header| header.contains("PID")), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    let table = ps(&[bundle.id(), "-e", "-o", "pid,args"]).succeeds().stdout;
    assert_eq!(table.lines().skip(1).filter(|line| line.ends_with("sleep 1000")).count(), 2, "{table}");
    ps(&[bundle.id(), "-e", "-o", "comm"]).exits_with(1).complains("couldn't find PID field in ps output");
    ps(&[bundle.id(), "--no-such-option"]).exits_with(1).complains("ps ended with");
}

#[test]
fn what_only_a_cgroup_can_tell_is_refused_without_one() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sleeper(&sandbox, "bare").resources(json!({}));
    let run = |args: &[&str]| sandbox.runtime().args(args).arg(bundle.id());
    let create = ["--cgroup-manager", "disabled", "create", "--bundle"];
    sandbox.runtime().args(create).arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    sandbox.start(&bundle);
    run(&["ps"]).output().exits_with(1).complains("cannot list its processes");
    run(&["events", "--stats"]).output().exits_with(1).complains("cannot read its statistics");
    stop(&sandbox, &bundle);
}

#[test]
fn events_print_statistics_once() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sleeper(&sandbox, "stats").resources(json!({ "pids": { "limit": 77 } }));
    sandbox.launch(&bundle);
    let event = sandbox.runtime().args(["events", "--stats"]).arg(bundle.id()).output().succeeds().json();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id())));
    assert_eq!(event["data"]["pids"], json!({ "current": 1, "limit": 77 }));
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64() > Some(0), "{event}");
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64() > Some(0), "{event}");
    stop(&sandbox, &bundle);
    let stopped = sandbox.runtime().args(["events", "--stats"]).arg(bundle.id()).output();
    stopped.exits_with(1).complains("is not running");
}

#[test]
fn events_stream_until_the_container_stops() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sleeper(&sandbox, "stream");
    sandbox.launch(&bundle);
    let stream = sandbox.runtime().args(["events", "--interval", "50ms"]).arg(bundle.id()).spawn();
    wait_until("three events were printed", || stream.stdout().lines().count() >= 3);
    stop(&sandbox, &bundle);
    let output = stream.wait().succeeds();
    for line in output.stdout.lines() {
        let event: Value = serde_json::from_str(line).expect("each line is JSON");
        assert_eq!(event["type"], "stats", "{line}");
    }
}

#[test]
fn events_tell_of_an_oom_kill() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let limit = json!({ "memory": { "limit": 16 << 20 } });
    let script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; head -c 64m /dev/zero | tail; sleep 1000";
    let bundle = sandbox.bundle("oom").script(script).mount("tmpfs", "tmpfs", "/tmp", &[]).resources(limit);
    sandbox.launch(&bundle);
    let stream = sandbox.runtime().args(["events", "--interval", "1h"]).arg(bundle.id()).spawn();
    // The watch must stand before the memory is used; what it opens shows that it does.
    wait_until("events watches", || watches(stream.pid()));
    sandbox.exec(&bundle, ["touch", "/tmp/go"]).output().succeeds();
    let oom = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}", bundle.id());
    wait_until("an OOM kill was reported", || stream.stdout().lines().any(|line| line == oom));
    // The kernel may have killed the shell too: a second allocation can fail before the first victim is gone.
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    stream.wait().succeeds();
}

fn watches(pid: u32) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.into_iter().any(|target| {
        let target = target.to_string_lossy();
        target.contains("eventfd") || target.contains("inotify")
    })
}

/// Reads a file of the container's cgroup, wherever its controller is.
fn cgroup_file(sandbox: &Sandbox, bundle: &Bundle, names: [&str; 2]) -> String {
    let cgroups = sandbox.cgroups(bundle.cgroups_path());
    let read = |(cgroup, name): (&Path, &str)| fs::read_to_string(cgroup.join(name)).ok();
    let all = cgroups.iter().flat_map(|cgroup| names.map(|name| (cgroup.as_path(), name)));
    all.filter_map(read)
        .next()
        .unwrap_or_else(|| panic!("none of {names:?} in {cgroups:?}"))
        .trim()
        .to_owned()
}

#[test]
fn update_sets_what_is_typed_and_leaves_the_rest() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let limits = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 50 } });
    let bundle = sleeper(&sandbox, "update").resources(limits);
    sandbox.launch(&bundle);
    let memory = || cgroup_file(&sandbox, &bundle, ["memory.limit_in_bytes", "memory.max"]);
    let pids = || cgroup_file(&sandbox, &bundle, ["pids.max", "pids.max"]);
    let update = |args: &[&str]| sandbox.runtime().arg("update").args(args).arg(bundle.id()).output();

    update(&["--memory", "32M"]).succeeds().prints("");
    assert_eq!((memory(), pids()), ("33554432".to_owned(), "50".to_owned()));
    update(&["--pids-limit", "20", "--memory", "48m", "--cpu-share", "512"]).succeeds();
    assert_eq!((memory(), pids()), ("50331648".to_owned(), "20".to_owned()));
    update(&["--pids-limit", "-1"]).succeeds();
    assert_eq!(pids(), "max");
    update(&[]).succeeds();
    assert_eq!((memory(), pids()), ("50331648".to_owned(), "max".to_owned()));
}

#[test]
fn update_reads_a_document_in_which_zero_means_unchanged() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sleeper(&sandbox, "document").resources(json!({ "pids": { "limit": 50 } }));
    sandbox.launch(&bundle);
    let pids = || cgroup_file(&sandbox, &bundle, ["pids.max", "pids.max"]);
    // What docker sends: a field for everything, and zero for what nobody asked to change.
    let docker = r#"{"memory":{"limit":41943040,"reservation":0,"swap":0,"kernel":0},"cpu":{"shares":0,"quota":0,
        "period":0,"realtimeRuntime":0,"realtimePeriod":0,"cpus":"","mems":""},"blockIO":{"weight":0}}"#;
    let update = |file: &str| sandbox.runtime().args(["update", "--resources", file]).arg(bundle.id());
    update("-").input(docker).output().succeeds();
    assert_eq!(cgroup_file(&sandbox, &bundle, ["memory.limit_in_bytes", "memory.max"]), "41943040");
    assert_eq!(pids(), "50");

    let file = sandbox.directory().join("limits.json");
    fs::write(&file, r#"{"pids":{"limit":30}}"#).expect("write the document");
    update(&file.display().to_string()).output().succeeds();
    assert_eq!(pids(), "30");
    fs::remove_file(&file).expect("remove the document");
}

#[test]
fn a_refused_update_changes_nothing() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sleeper(&sandbox, "refused").resources(json!({ "pids": { "limit": 50 } }));
    sandbox.launch(&bundle);
    let update = |args: &[&str]| sandbox.runtime().arg("update").args(args).arg(bundle.id());
    update(&["--pids-limit", "10", "--cpu-period", "5"]).output().exits_with(1).complains("--cpu-period");
    update(&["-r", "-"]).input(r#"{"pids":{"limit":"ten"}}"#).output().exits_with(1).complains("/pids/limit");
    update(&["-r", "-"]).input("{").output().exits_with(1).complains("resources");
    update(&["-r", "/nowhere"]).output().exits_with(1).complains("open /nowhere");
    update(&["--l3-cache-schema", "L3:0=f"]).output().exits_with(1).complains("Intel RDT/CAT");
    assert_eq!(cgroup_file(&sandbox, &bundle, ["pids.max", "pids.max"]), "50");
    stop(&sandbox, &bundle);
    update(&["--pids-limit", "10"])
        .output()
        .exits_with(1)
        .complains("cannot update a container that is stopped");
}
