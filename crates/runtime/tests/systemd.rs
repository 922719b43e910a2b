//! Containers as units of systemd. On a machine without it `cargo xtask vm test runtime::systemd` runs these.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_testkit::{
    Bundle, Disk, Run, Sandbox, Session, fresh, is_disposable, is_root, requires, skip, wait_until,
};
use rustix::process::Signal;
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");
const NO_SYSTEMD: &str = "needs root, systemd and cgroup v2 alone";

fn has_systemd() -> bool {
    is_root()
        && Path::new("/run/systemd/system").is_dir()
        && Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A container in a scope of its own in `system.slice`.
fn unit(sandbox: &Sandbox, short: &str) -> Bundle {
    let path = format!("system.slice:{}:{short}", sandbox.name());
    sandbox.bundle(short).args(["sleep", "1000"]).edit(|config| config["linux"]["cgroupsPath"] = path.into())
}

fn scope(sandbox: &Sandbox, short: &str) -> String {
    format!("{}-{short}.scope", sandbox.name())
}

fn directory(sandbox: &Sandbox, short: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(scope(sandbox, short))
}

fn file(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap().trim_end().to_owned()
}

fn runtime(sandbox: &Sandbox) -> Run {
    sandbox.runtime().arg("--systemd-cgroup")
}

/// Runs a detached container.
#[track_caller]
fn launch(sandbox: &Sandbox, bundle: &Bundle) {
    let run = runtime(sandbox).args(["run", "--detach", "--bundle"]);
    run.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
}

/// Asks systemd for a property of a unit.
#[track_caller]
fn property(sandbox: &Sandbox, unit: &str, name: &str) -> String {
    let show = ["show", "--value", "--property", name, unit];
    sandbox.command("systemctl").args(show).output().succeeds().stdout.trim_end().to_owned()
}

#[track_caller]
fn end(sandbox: &Sandbox, bundle: &Bundle) {
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
}

/// Makes sure that nothing is left of a scope.
#[track_caller]
fn is_gone(sandbox: &Sandbox, short: &str) {
    assert_eq!(
        property(sandbox, &scope(sandbox, short), "LoadState"),
        "not-found",
        "systemd forgets the scope"
    );
    assert!(!directory(sandbox, short).exists(), "its cgroup is removed");
}

#[test]
fn limits_are_in_the_files_and_known_to_systemd() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").resources(json!({
        "memory": { "limit": 67_108_864, "swap": 100_663_296, "reservation": 33_554_432 },
        "pids": { "limit": 42 },
        "cpu": { "shares": 1024, "quota": 33_333, "period": 100_000, "cpus": "0", "mems": "0" },
    }));
    launch(&sandbox, &bundle);
    let directory = directory(&sandbox, "c");
    for (name, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("pids.max", "42"),
        ("cpu.max", "34000 100000"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
    ] {
        assert_eq!(file(&directory, name), value, "{name} is what the configuration says");
    }
    let scope = scope(&sandbox, "c");
    for (name, value) in [
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "33554432"),
        ("MemoryLow", "33554432"),
        ("TasksMax", "42"),
        ("CPUQuotaPerSecUSec", "340ms"),
        ("CPUWeight", "100"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("Description", format!("bulkrun container {}", bundle.id()).as_str()),
    ] {
        assert_eq!(property(&sandbox, &scope, name), value, "{name} is known to systemd");
    }
    assert_eq!(file(&directory, "cgroup.procs"), sandbox.pid(&bundle).to_string(), "the process is in it");
    end(&sandbox, &bundle);
    is_gone(&sandbox, "c");
}

#[test]
fn limits_outlive_a_reload_of_systemd() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let limits = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 42 } });
    let bundle = unit(&sandbox, "c").resources(limits);
    launch(&sandbox, &bundle);
    sandbox.runtime().args(["update", "--pids-limit", "43", bundle.id()]).output().succeeds();
    sandbox.command("systemctl").arg("daemon-reload").output().succeeds();
    // Another property makes systemd write all that it knows.
    let scope = scope(&sandbox, "c");
    sandbox
        .command("systemctl")
        .args(["set-property", "--runtime", &scope, "CPUWeight=50"])
        .output()
        .succeeds();
    let directory = directory(&sandbox, "c");
    wait_until("systemd has set the weight", || file(&directory, "cpu.weight") == "50");
    assert_eq!(file(&directory, "memory.max"), "67108864");
    assert_eq!(file(&directory, "pids.max"), "43", "an update is known to systemd, too");
    end(&sandbox, &bundle);
}

#[test]
fn update_changes_files_and_properties() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").resources(json!({ "cpu": { "quota": 50_000, "period": 100_000 } }));
    launch(&sandbox, &bundle);
    let update = ["update", "--memory", "50M", "--cpu-quota", "20000", "--pids-limit", "17", bundle.id()];
    sandbox.runtime().args(update).output().succeeds();
    let directory = directory(&sandbox, "c");
    for (name, value) in [("memory.max", "52428800"), ("cpu.max", "20000 100000"), ("pids.max", "17")] {
        assert_eq!(file(&directory, name), value, "{name} has changed");
    }
    let scope = scope(&sandbox, "c");
    for (name, value) in [("MemoryMax", "52428800"), ("CPUQuotaPerSecUSec", "200ms"), ("TasksMax", "17")] {
        assert_eq!(property(&sandbox, &scope, name), value, "{name} has changed");
    }
    end(&sandbox, &bundle);
}

/// systemd rounds a quota up to hundredths of a CPU, and would write that again after `systemctl daemon-reload`.
#[test]
fn a_quota_is_the_one_that_systemd_keeps() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").resources(json!({ "cpu": { "quota": 500_000, "period": 900_000 } }));
    launch(&sandbox, &bundle);
    let directory = directory(&sandbox, "c");
    assert_eq!(file(&directory, "cpu.max"), "504000 900000");
    sandbox.runtime().args(["update", "--cpu-quota", "600000", bundle.id()]).output().succeeds();
    assert_eq!(file(&directory, "cpu.max"), "603000 900000");
    assert_eq!(property(&sandbox, &scope(&sandbox, "c"), "CPUQuotaPerSecUSec"), "670ms");
    end(&sandbox, &bundle);
}

#[test]
fn what_becomes_idle_loses_its_weight_and_the_other_way_round() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c");
    launch(&sandbox, &bundle);
    let directory = directory(&sandbox, "c");
    requires!(directory.join("cpu.idle").exists(), "needs Linux 5.15");
    let update =
        |words: &[&str]| sandbox.runtime().arg("update").args(words).arg(bundle.id()).output().succeeds();
    update(&["--cpu-share", "200", "--cpu-idle", "1"]).complains("unable to apply both");
    assert_eq!(file(&directory, "cpu.idle"), "1");
    update(&["--cpu-share", "200"]);
    assert_eq!(file(&directory, "cpu.idle"), "0");
    update(&["--cpu-idle", "1"]);
    update(&["--cpu-idle", "0"]);
    assert_eq!(file(&directory, "cpu.idle"), "0");
    // What systemd was not told it undoes with the next property of the same controller.
    update(&["--cpu-quota", "50000"]);
    assert_eq!(file(&directory, "cpu.idle"), "0");
    end(&sandbox, &bundle);
}

/// systemd knows nothing of that controller, so nobody but the runtime hands it down.
#[test]
fn huge_pages_are_counted_and_limited_in_a_scope() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let offered = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    requires!(offered.contains("hugetlb"), "needs the controller hugetlb");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "later");
    launch(&sandbox, &bundle);
    let stats = sandbox.runtime().args(["events", "--stats", bundle.id()]).output().succeeds().json();
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").unwrap().count();
    let found = stats["data"]["hugetlb"].as_object().unwrap();
    assert!(sizes > 0 && found.len() == sizes, "without a limit, too, every size is counted: {stats}");
    assert!(found.values().all(|counted| *counted == json!({ "failcnt": 0 })), "as under runc: {stats}");
    let given = file(&directory(&sandbox, "later"), "cgroup.controllers");
    for name in ["rdma", "misc"].iter().filter(|name| offered.split_whitespace().any(|given| given == **name))
    {
        assert!(given.split_whitespace().any(|given| given == *name), "{name} is handed down: {given}");
    }
    // One that has no such limit can get it, also in a slice that has lost the controller.
    if is_disposable() {
        fs::write("/sys/fs/cgroup/system.slice/cgroup.subtree_control", "-hugetlb").unwrap();
        assert!(!directory(&sandbox, "later").join("hugetlb.2MB.max").exists());
    }
    let limits = r#"{"unified": {"hugetlb.2MB.max": "4194304"}}"#;
    sandbox.runtime().args(["update", "--resources", "-", bundle.id()]).input(limits).output().succeeds();
    assert_eq!(file(&directory(&sandbox, "later"), "hugetlb.2MB.max"), "4194304");
    end(&sandbox, &bundle);
    let bundle = unit(&sandbox, "c")
        .resources(json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 2_097_152 }] }));
    launch(&sandbox, &bundle);
    assert_eq!(file(&directory(&sandbox, "c"), "hugetlb.2MB.max"), "2097152");
    end(&sandbox, &bundle);
}

#[test]
fn a_container_lives_its_life_in_a_scope() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c");
    runtime(&sandbox)
        .args(["create", "--bundle"])
        .arg(bundle.directory())
        .arg(bundle.id())
        .output()
        .succeeds();
    assert_eq!(sandbox.status(&bundle), "created");
    assert_eq!(property(&sandbox, &scope(&sandbox, "c"), "ActiveState"), "active");
    sandbox.start(&bundle);
    // Other commands need not be told who made the cgroup.
    let own = sandbox.exec(&bundle, ["cat", "/proc/self/cgroup"]).output().succeeds();
    assert!(
        own.stdout.ends_with("0::/\n"),
        "exec is in the scope, the root of the namespace: {}",
        own.stdout
    );
    let ps = sandbox.runtime().args(["ps", "--format", "json", bundle.id()]).output().succeeds();
    assert_eq!(ps.stdout.trim(), format!("[{}]", sandbox.pid(&bundle)));
    sandbox.runtime().args(["pause", bundle.id()]).output().succeeds();
    assert_eq!(sandbox.status(&bundle), "paused");
    sandbox.runtime().args(["resume", bundle.id()]).output().succeeds();
    let stats = sandbox.runtime().args(["events", "--stats", bundle.id()]).output().succeeds();
    assert!(stats.stdout.contains("\"pids\""), "{stats}");
    let pid = sandbox.pid(&bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
    is_gone(&sandbox, "c");
}

#[test]
fn the_program_starts_with_its_limits() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c")
        .script("cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; cut -d: -f3 /proc/self/cgroup")
        .resources(json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 42 } }));
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().succeeds().prints("67108864\n42\n/\n");
    is_gone(&sandbox, "c");
}

#[test]
fn devices_that_are_not_allowed_are_denied() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").script(
        "mknod /kmsg c 1 11 && head -c1 /kmsg > /dev/null 2>&1 && echo open || echo denied; head -c1 /dev/zero | wc -c",
    );
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().prints("denied\n1\n");
}

#[test]
fn slices_lie_in_slices() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let outer = sandbox.name().replace('-', "_");
    let path = format!("{outer}-inner.slice:{}:c", sandbox.name());
    let bundle = unit(&sandbox, "c").edit(|config| config["linux"]["cgroupsPath"] = path.into());
    launch(&sandbox, &bundle);
    let place = format!("/sys/fs/cgroup/{outer}.slice/{outer}-inner.slice/{}", scope(&sandbox, "c"));
    assert_eq!(file(Path::new(&place), "cgroup.procs"), sandbox.pid(&bundle).to_string());
    end(&sandbox, &bundle);
    sandbox.command("systemctl").args(["stop", &format!("{outer}.slice")]).output().succeeds();
}

#[test]
fn without_a_path_the_scope_is_named_by_the_id() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").edit(|config| config["linux"]["cgroupsPath"] = serde_json::Value::Null);
    launch(&sandbox, &bundle);
    let scope = format!("bulkrun-{}.scope", bundle.id());
    assert_eq!(property(&sandbox, &scope, "Slice"), "system.slice");
    end(&sandbox, &bundle);
    assert_eq!(property(&sandbox, &scope, "LoadState"), "not-found");
}

#[test]
fn annotations_set_properties() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c")
        .annotation("org.systemd.property.TimeoutStopUSec", "uint64 5000000")
        .annotation("org.systemd.property.Documentation", "['man:bulkrun(1)']");
    launch(&sandbox, &bundle);
    let scope = scope(&sandbox, "c");
    assert_eq!(property(&sandbox, &scope, "TimeoutStopUSec"), "5s");
    let documentation = property(&sandbox, &scope, "Documentation");
    assert!(documentation.contains("man:bulkrun(1)"), "a list is a list: {documentation}");
    end(&sandbox, &bundle);
}

#[test]
fn what_systemd_refuses_is_told_and_leaves_nothing() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").annotation("org.systemd.property.NoSuchThing", "true");
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("NoSuchThing");
    is_gone(&sandbox, "c");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "no state is left");
}

#[test]
fn a_limit_that_cannot_be_set_leaves_no_scope() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").resources(json!({ "unified": { "memory.no_such_file": "1" } }));
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("memory.no_such_file");
    wait_until("systemd has removed the scope", || !directory(&sandbox, "c").exists());
    is_gone(&sandbox, "c");
}

#[test]
fn a_scope_in_use_is_not_taken_over() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let first = unit(&sandbox, "c");
    launch(&sandbox, &first);
    let path = first.config()["linux"]["cgroupsPath"].clone();
    let second = sandbox.bundle("second").edit(|config| config["linux"]["cgroupsPath"] = path);
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(second.directory()).arg(second.id());
    run.output().exits_with(1).complains("is not empty");
    assert_eq!(sandbox.status(&first), "running", "the first one is not hurt");
    end(&sandbox, &first);
}

/// The process would stop in it before it could be taken on, and could not be killed either.
#[test]
fn a_scope_whose_cgroup_is_frozen_is_refused() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c");
    let frozen = Emptied(directory(&sandbox, "c"));
    fs::create_dir(&frozen.0).unwrap();
    fs::write(frozen.0.join("cgroup.freeze"), "1").unwrap();
    let run =
        runtime(&sandbox).args(["run", "--detach", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("unexpectedly frozen");
    assert_eq!(file(&frozen.0, "cgroup.procs"), "", "nobody is in it");
}

/// A cgroup without processes, removed in the end.
struct Emptied(PathBuf);

impl Drop for Emptied {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_creation_that_was_killed_is_removed_by_force() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").hook_script("createRuntime", "kill -9 $PPID");
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(137);
    end(&sandbox, &bundle);
    is_gone(&sandbox, "c");
}

#[test]
fn a_path_of_the_other_driver_is_refused() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c");
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("slice:prefix:name");
}

#[test]
fn without_systemd_the_driver_says_so() {
    requires!(is_root(), "needs root");
    requires!(!Path::new("/run/systemd/system").exists(), "systemd is there");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c");
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("no systemd manages this machine");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "no state is left");
}

#[test]
fn weights_and_rates_are_in_the_files_and_known_to_systemd() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let Some(Disk { numbers: (major, minor), .. }) = Disk::find() else { skip!("needs a disk") };
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").resources(json!({
        "blockIO": {
            "weight": 100,
            "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 1_048_576 }],
            "throttleWriteIOPSDevice": [{ "major": major, "minor": minor, "rate": 70 }],
        },
        "cpu": { "shares": 512 },
        "unified": { "memory.high": "50331648", "memory.min": "4194304", "memory.oom.group": "1" },
    }));
    launch(&sandbox, &bundle);
    let directory = directory(&sandbox, "c");
    // By the specification's formula from 10–1000 to 1–10000, unless there is the scheduler whose range is the same.
    let has_bfq = directory.join("io.bfq.weight").exists();
    let (name, weight) = if has_bfq { ("io.bfq.weight", "100") } else { ("io.weight", "910") };
    assert_eq!(file(&directory, name).replace("default ", ""), weight, "{name}");
    let rates = file(&directory, "io.max");
    assert!(rates.contains(&format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=70")), "{rates}");
    for (name, value) in [
        ("cpu.weight", "59"),
        ("memory.high", "50331648"),
        ("memory.min", "4194304"),
        ("memory.oom.group", "1"),
    ] {
        assert_eq!(file(&directory, name), value, "{name} is what the configuration says");
    }
    let scope = scope(&sandbox, "c");
    let node = format!("/dev/block/{major}:{minor}");
    for (name, value) in [
        ("IOWeight", "910"),
        ("IOReadBandwidthMax", format!("{node} 1048576").as_str()),
        ("IOWriteIOPSMax", format!("{node} 70").as_str()),
        ("CPUWeight", "59"),
        ("MemoryHigh", "50331648"),
        ("MemoryMin", "4194304"),
    ] {
        assert_eq!(property(&sandbox, &scope, name), value, "{name} is known to systemd");
    }
    end(&sandbox, &bundle);
}

#[test]
fn devices_stay_denied_when_systemd_sets_all_that_it_knows_again() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c");
    launch(&sandbox, &bundle);
    sandbox.command("systemctl").arg("daemon-reload").output().succeeds();
    let scope = scope(&sandbox, "c");
    let set = ["set-property", "--runtime", &scope, "CPUWeight=50"];
    sandbox.command("systemctl").args(set).output().succeeds();
    wait_until("systemd has set the weight", || file(&directory(&sandbox, "c"), "cpu.weight") == "50");
    let open = "mknod /kmsg c 1 11 && head -c1 /kmsg > /dev/null 2>&1 && echo open || echo denied";
    sandbox.exec(&bundle, ["sh", "-c", open]).output().prints("denied\n");
    end(&sandbox, &bundle);
}

#[test]
fn a_scope_that_failed_is_there_to_see_until_it_is_deleted() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = unit(&sandbox, "c").edit(|config| {
        config["annotations"] = json!({
            "org.systemd.property.RuntimeMaxSec": "1",
            "org.systemd.property.TimeoutStopSec": "1",
        });
    });
    launch(&sandbox, &bundle);
    let scope = scope(&sandbox, "c");
    wait_until("the scope has failed", || property(&sandbox, &scope, "ActiveState") == "failed");
    wait_until("its process has ended", || sandbox.status(&bundle) == "stopped");
    sandbox.runtime().args(["delete", bundle.id()]).output().succeeds();
    is_gone(&sandbox, "c");
}

#[test]
fn a_scope_that_failed_is_in_nobodys_way() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let scope = scope(&sandbox, "c");
    let failing = ["--scope", "--slice=system.slice", "--property=RuntimeMaxSec=1", "--unit", &scope];
    sandbox.command("systemd-run").args(failing).args(["sleep", "1000"]).output();
    wait_until("the scope has failed", || property(&sandbox, &scope, "ActiveState") == "failed");
    let bundle = unit(&sandbox, "c");
    launch(&sandbox, &bundle);
    assert_eq!(property(&sandbox, &scope, "ActiveState"), "active");
    end(&sandbox, &bundle);
    is_gone(&sandbox, "c");
}

#[test]
fn a_name_that_is_taken_in_another_slice_is_refused_and_its_owner_not_hurt() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let first = unit(&sandbox, "c");
    launch(&sandbox, &first);
    let slice = format!("{}.slice", sandbox.name().replace('-', "_"));
    let path = format!("{slice}:{}:c", sandbox.name());
    let second = sandbox.bundle("second").edit(|config| config["linux"]["cgroupsPath"] = path.into());
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(second.directory()).arg(second.id());
    run.output().exits_with(1).complains("UnitExists");
    assert_eq!(sandbox.status(&first), "running", "the first one is not hurt");

    // What a runtime leaves that is killed before it could ask systemd: a record with that name.
    let third = unit(&sandbox, "third");
    runtime(&sandbox).args(["create", "--bundle"]).arg(third.directory()).arg(third.id()).output().succeeds();
    let pid = sandbox.pid(&third);
    sandbox.kill(&third, "KILL");
    sandbox.wait_for_exit(pid);
    let record = sandbox.state_directory().join(third.id()).join("state.json");
    let text = fs::read_to_string(&record).unwrap();
    let own = format!("{}-third.scope", sandbox.name());
    assert!(text.contains(&own), "{text}");
    let text = text
        .replace(&format!("system.slice/{own}"), &format!("{slice}/{}", scope(&sandbox, "c")))
        .replace(&own, &scope(&sandbox, "c"));
    fs::write(&record, text).unwrap();
    end(&sandbox, &third);
    assert_eq!(sandbox.status(&first), "running", "a unit of the same name in another slice is another's");
    end(&sandbox, &first);
}

/// A job of systemd that does not end by itself, as a service that must start before a scope does.
struct Obstacle(String);

impl Obstacle {
    fn new(sandbox: &Sandbox) -> Self {
        let unit = format!("{}-slow.service", sandbox.name());
        let options = ["--no-block", "--property=Type=oneshot", "--unit", &unit];
        sandbox.command("systemd-run").args(options).args(["sleep", "1000"]).output().succeeds();
        Self(unit)
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        let _ = std::process::Command::new("systemctl").args(["stop", &self.0]).status();
        let _ = std::process::Command::new("systemctl").args(["reset-failed", &self.0]).status();
    }
}

#[test]
fn a_signal_ends_the_wait_for_systemd_and_nothing_is_left() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let obstacle = Obstacle::new(&sandbox);
    let after = format!("['{}']", obstacle.0);
    let bundle = unit(&sandbox, "c").annotation("org.systemd.property.After", &after);
    let scope = scope(&sandbox, "c");
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id()).spawn();
    wait_until("systemd has a job for the scope", || property(&sandbox, &scope, "LoadState") == "loaded");
    run.signal(Signal::TERM);
    let begin = std::time::Instant::now();
    run.wait().exits_with(1).complains("interrupted by SIGTERM");
    assert!(begin.elapsed().as_secs() < 30, "it took {:?}", begin.elapsed());
    is_gone(&sandbox, "c");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "no state is left");
}

#[test]
fn a_runtime_that_dies_while_it_waits_for_systemd_leaves_what_delete_finds() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    let obstacle = Obstacle::new(&sandbox);
    let after = format!("['{}']", obstacle.0);
    let bundle = unit(&sandbox, "c").annotation("org.systemd.property.After", &after);
    let scope = scope(&sandbox, "c");
    // `create` has no ear for signals and ends as any program does.
    for (signal, code) in [(Signal::KILL, 137), (Signal::TERM, 143)] {
        let run = runtime(&sandbox).args(["create", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
        let run = run.spawn();
        wait_until("systemd has a job for the scope", || property(&sandbox, &scope, "LoadState") == "loaded");
        run.signal(signal);
        run.wait().exits_with(code);
        end(&sandbox, &bundle);
        is_gone(&sandbox, "c");
    }
}

#[test]
fn the_root_slice_and_an_empty_prefix_are_as_under_runc() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    for (path, unit, place) in [
        (format!("-.slice:{}:root", sandbox.name()), format!("{}-root.scope", sandbox.name()), ""),
        (format!("::{}", sandbox.name()), format!("-{}.scope", sandbox.name()), "/system.slice"),
    ] {
        let bundle = sandbox
            .bundle(if place.is_empty() { "root" } else { "empty" })
            .args(["sleep", "1000"])
            .edit(|config| config["linux"]["cgroupsPath"] = path.into());
        launch(&sandbox, &bundle);
        let directory = format!("/sys/fs/cgroup{place}/{unit}");
        assert_eq!(file(Path::new(&directory), "cgroup.procs"), sandbox.pid(&bundle).to_string());
        end(&sandbox, &bundle);
        assert!(!Path::new(&directory).exists(), "{directory} is removed");
    }
}

#[test]
fn what_is_no_slice_is_refused() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN);
    for (short, path) in [
        ("none", "system:p:c"),
        ("path", "a/b.slice:p:c"),
        ("dots", "../x.slice:p:c"),
        ("dashes", "a--b.slice:p:c"),
        ("slice", "system.slice:p:c.slice"),
        ("nameless", "system.slice:p:"),
    ] {
        let bundle = sandbox.bundle(short).edit(|config| config["linux"]["cgroupsPath"] = path.into());
        let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
        run.output().exits_with(1).complains("/linux/cgroupsPath");
    }
}

#[test]
fn without_systemds_own_socket_it_is_asked_over_the_bus() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    requires!(Path::new("/run/dbus/system_bus_socket").exists(), "needs a system bus");
    let script = "mount --bind /dev/null /run/systemd/private && exec \"$@\"";
    let sandbox = Sandbox::new(BULKRUN)
        .through(fresh::prefix(&[fresh::Kind::Mount]))
        .through(["sh", "-c", script, "sh"]);
    let bundle = unit(&sandbox, "c").resources(json!({ "pids": { "limit": 42 } }));
    launch(&sandbox, &bundle);
    assert_eq!(file(&directory(&sandbox, "c"), "pids.max"), "42");
    sandbox.runtime().args(["update", "--pids-limit", "43", bundle.id()]).output().succeeds();
    assert_eq!(property(&sandbox, &scope(&sandbox, "c"), "TasksMax"), "43");
    end(&sandbox, &bundle);
    is_gone(&sandbox, "c");
}

#[test]
fn a_systemd_for_which_pids_are_others_is_not_asked() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    let sandbox = Sandbox::new(BULKRUN).through(["unshare", "--pid", "--fork", "--mount-proc"]);
    let bundle = unit(&sandbox, "c");
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("systemd is in another pid namespace");
    is_gone(&sandbox, "c");
}

/// Plays a systemd that lets us in and then says nothing.
#[test]
fn a_systemd_that_does_not_answer_can_be_left_by_a_signal() {
    requires!(is_root(), "needs root");
    let preparation = Sandbox::new(BULKRUN);
    let socket = preparation.directory().join("private");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/systemd && ln -s {} /run/systemd/private && exec \"$@\"",
        socket.display()
    );
    let sandbox = Sandbox::new(BULKRUN).through(fresh::prefix(&[fresh::Kind::Mount])).through([
        "sh",
        "-c",
        script.as_str(),
        "sh",
    ]);
    let bundle = unit(&sandbox, "c");
    let run = runtime(&sandbox).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id()).spawn();
    let (mut silent, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut silent, b"OK 0123\r\n").unwrap();
    run.signal(Signal::INT);
    run.wait().exits_with(1).complains("interrupted by SIGINT");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "no state is left");
}

#[test]
fn an_ordinary_user_has_limits_by_a_systemd_of_its_own() {
    requires!(has_systemd(), "{NO_SYSTEMD}");
    requires!(is_disposable(), "needs a machine of its own, for it makes a user there");
    let preparation = Sandbox::new(BULKRUN);
    let session = Session::begin(&preparation);
    let uid = session.uid();
    let sandbox = Sandbox::new(BULKRUN).as_user(uid, uid);
    let path = format!(":{}:c", sandbox.name());
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]).edit(|config| {
        config["linux"]["cgroupsPath"] = path.into();
        config["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 42 } });
    });
    let directory = format!("/run/user/{uid}");
    let as_user = |run: Run| run.env("XDG_RUNTIME_DIR", &directory);
    let run = as_user(runtime(&sandbox)).args(["run", "--detach", "--bundle"]);
    run.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    let slice = format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/user.slice");
    let scope = Path::new(&slice).join(scope(&sandbox, "c"));
    assert_eq!(file(&scope, "memory.max"), "67108864");
    assert_eq!(file(&scope, "pids.max"), "42");
    assert_eq!(file(&scope, "cgroup.procs"), sandbox.pid(&bundle).to_string());
    // From another session the kernel lets nobody in, but the user's systemd moves its own processes.
    let exec = |arguments: &[&str]| {
        let run = as_user(sandbox.runtime()).arg("exec").args(arguments).arg(bundle.id());
        run.args(["cat", "/proc/self/cgroup"]).output().succeeds()
    };
    let output = exec(&[]);
    assert!(output.stdout.trim_end().ends_with(scope.file_name().unwrap().to_str().unwrap()), "{output}");
    fs::create_dir(scope.join("sub")).unwrap();
    std::os::unix::fs::chown(scope.join("sub"), Some(uid), Some(uid)).unwrap();
    std::os::unix::fs::chown(scope.join("sub/cgroup.procs"), Some(uid), Some(uid)).unwrap();
    let output = exec(&["--cgroup", "sub"]);
    assert!(output.stdout.trim_end().ends_with("/sub"), "{output}");
    let update = ["update", "--pids-limit", "43", bundle.id()];
    as_user(sandbox.runtime()).args(update).output().succeeds();
    assert_eq!(file(&scope, "pids.max"), "43");
    as_user(sandbox.runtime()).args(["delete", "--force", bundle.id()]).output().succeeds();
    assert!(!scope.exists(), "its cgroup is removed");

    // The same over the user's bus, where a directory has no socket of systemd's own.
    let bus = format!("unix:path=/run/user/{uid}/bus");
    assert!(Path::new(&directory).join("bus").exists(), "the user has a bus");
    let over_bus = |run: Run| run.env("DBUS_SESSION_BUS_ADDRESS", &bus);
    let run = over_bus(runtime(&sandbox)).args(["run", "--detach", "--bundle"]);
    run.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    assert_eq!(file(&scope, "memory.max"), "67108864");
    over_bus(sandbox.runtime()).args(["delete", "--force", bundle.id()]).output().succeeds();
    assert!(!scope.exists(), "its cgroup is removed");
    drop(sandbox);
    drop(session);
}
