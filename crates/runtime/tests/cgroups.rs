//! What a container sees at `/sys/fs/cgroup`.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::path::{Path, PathBuf};

use bulkhead_testkit::{Bundle, Output, Sandbox, cgroups, is_root, mounts, requires};
use serde_json::{Value, json};

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// Says whether v1 hierarchies are mounted.
fn has_v1() -> bool {
    mounts::own().iter().any(|mount| mount.kind == "cgroup")
}

/// Names the v1 hierarchies as the host has them.
fn v1_names() -> Vec<String> {
    let found = mounts::own().into_iter().filter(|mount| mount.kind == "cgroup" && mount.root == "/");
    let mut names: Vec<String> =
        found.map(|mount| mount.point.file_name().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// Changes the options of the cgroup mount.
fn options(bundle: Bundle, options: &[&str]) -> Bundle {
    bundle.edit(|config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"] = options.into();
            }
        }
    })
}

/// Finds the options and the root of a mount in what the container printed of its mountinfo.
#[track_caller]
fn mount(output: &Output, point: &str) -> (String, String) {
    let found = output.stdout.lines().rev().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(4) == Some(&point)).then(|| (fields[5].to_owned(), fields[3].to_owned()))
    });
    match found {
        Some(found) => found,
        None => panic!("{point} should be a mount\n{output}"),
    }
}

const TABLE: &str = "cat /proc/self/mountinfo";

#[test]
fn every_v1_hierarchy_is_there_under_its_name_read_only() {
    requires!(is_root(), "needs root");
    requires!(has_v1(), "no v1 hierarchy is mounted");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script(TABLE);
    let output = sandbox.run(&bundle).output().succeeds();
    for name in v1_names() {
        let (options, root) = mount(&output, &format!("/sys/fs/cgroup/{name}"));
        assert!(options.starts_with("ro,nosuid,nodev,noexec"), "{name} is closed: {options}\n{output}");
        assert_eq!(root, "/", "the container's cgroup is the root of its namespace\n{output}");
    }
    assert!(mount(&output, "/sys/fs/cgroup").0.starts_with("ro,"), "the directory is closed too\n{output}");
}

#[test]
fn single_controllers_of_a_joint_hierarchy_have_links() {
    requires!(is_root(), "needs root");
    let joint = v1_names().into_iter().find(|name| name.contains(','));
    let Some(joint) = joint else { bulkhead_testkit::skip!("no joint v1 hierarchy is mounted") };
    let sandbox = Sandbox::new(BULKRUN);
    let first = joint.split(',').next().unwrap();
    let bundle = sandbox.bundle("c").args(["readlink", &format!("/sys/fs/cgroup/{first}")]);
    sandbox.run(&bundle).output().succeeds().prints(&format!("{joint}\n"));
}

#[test]
fn nothing_of_the_host_is_visible_and_the_own_limits_are() {
    requires!(is_root(), "needs root");
    requires!(v1_names().iter().any(|name| name == "pids"), "needs the v1 controller pids");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script(
        "cd /sys/fs/cgroup/pids; cat pids.max; grep -c '' cgroup.procs | grep -qv '^0$' && echo members; \
         ls -d bh-* 2>/dev/null; grep :pids: /proc/self/cgroup | cut -d: -f3",
    );
    sandbox.run(&bundle).output().prints("200\nmembers\n/\n");
}

#[test]
fn a_cgroup_mount_is_closed_unless_it_was_asked_for_open() {
    requires!(is_root(), "needs root");
    requires!(v1_names().iter().any(|name| name == "pids"), "needs the v1 controller pids");
    let sandbox = Sandbox::new(BULKRUN);
    let script = "mkdir /sys/fs/cgroup/pids/sub 2>/dev/null && rmdir /sys/fs/cgroup/pids/sub && echo open || echo closed";
    let bundle = sandbox.bundle("closed").script(script);
    sandbox.run(&bundle).output().succeeds().prints("closed\n");
    let bundle = options(sandbox.bundle("open").script(script), &["rw", "nosuid", "nodev", "noexec"]);
    sandbox.run(&bundle).output().succeeds().prints("open\n");
}

#[test]
fn without_a_cgroup_namespace_the_own_part_is_all_that_is_visible() {
    requires!(is_root(), "needs root");
    requires!(v1_names().iter().any(|name| name == "pids"), "needs the v1 controller pids");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").without_namespace("cgroup").script(TABLE);
    let path = bundle.cgroups_path().to_owned();
    let output = sandbox.run(&bundle).output().succeeds();
    let (options, root) = mount(&output, "/sys/fs/cgroup/pids");
    assert!(root.ends_with(&path), "the mount is at the container's cgroup: {root}\n{output}");
    assert!(options.starts_with("ro,"), "it is closed: {options}");
    let bundle = sandbox
        .bundle("limit")
        .without_namespace("cgroup")
        .script("cat /sys/fs/cgroup/pids/pids.max; grep :pids: /proc/self/cgroup | cut -d: -f3");
    let path = bundle.cgroups_path().to_owned();
    let output = sandbox.run(&bundle).output().succeeds();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0] == "200" && lines[1].ends_with(&path), "the path is the host's\n{output}");
}

/// A container for a machine on which nothing can be limited.
fn unlimited(bundle: Bundle) -> Bundle {
    bundle.edit(|config| config["linux"]["resources"] = serde_json::json!({}))
}

#[test]
fn v2_alone_is_mounted_on_the_directory_itself() {
    requires!(is_root(), "needs root");
    requires!(
        cgroups::hierarchies().iter().any(|path| path.join("cgroup.controllers").exists()),
        "needs cgroup v2"
    );
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    for (name, words, expected) in [("ro", ["ro", "nosuid"], "closed"), ("rw", ["rw", "nosuid"], "open")] {
        let bundle = options(unlimited(sandbox.bundle(name)), &words).script(
            "cd /sys/fs/cgroup; test -e cgroup.procs && test -e cgroup.events && echo own part; \
             mkdir sub 2>/dev/null && rmdir sub && echo open || echo closed; cut -d: -f3 /proc/self/cgroup | grep -c '^/$' | grep -qv '^0$' && echo rooted",
        );
        sandbox.run(&bundle).output().succeeds().prints(&format!("own part\n{expected}\nrooted\n"));
    }
}

#[test]
fn v2_alone_without_a_namespace_shows_the_own_part() {
    requires!(is_root(), "needs root");
    requires!(
        cgroups::hierarchies().iter().any(|path| path.join("cgroup.controllers").exists()),
        "needs cgroup v2"
    );
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    let bundle = unlimited(sandbox.bundle("c")).without_namespace("cgroup").script(TABLE);
    let path = bundle.cgroups_path().to_owned();
    let output = sandbox.run(&bundle).output().succeeds();
    let (options, root) = mount(&output, "/sys/fs/cgroup");
    assert!(root.ends_with(&path) && options.starts_with("ro,"), "{root} {options}\n{output}");
}

#[test]
fn a_user_namespace_sees_its_part_too() {
    requires!(is_root(), "needs root");
    requires!(has_v1(), "no v1 hierarchy is mounted");
    let sandbox = Sandbox::new(BULKRUN);
    let maps = [(0, 100_000, 65536)];
    let bundle = sandbox.bundle("c").script(TABLE).user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    let output = sandbox.run(&bundle).output().succeeds();
    for name in v1_names() {
        let (options, root) = mount(&output, &format!("/sys/fs/cgroup/{name}"));
        assert!(options.starts_with("ro,") && root == "/", "{name}: {options} {root}\n{output}");
    }
}

#[test]
fn the_cgroup_is_mounted_where_the_configuration_says() {
    requires!(is_root(), "needs root");
    requires!(v1_names().iter().any(|name| name == "pids"), "needs the v1 controller pids");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script("cat /control/pids/pids.max").mount(
        "cgroup",
        "cgroup",
        "/control",
        &["ro"],
    );
    sandbox.run(&bundle).output().succeeds().prints("200\n");
    assert!(Path::new(&bundle.rootfs()).join("control").is_dir(), "the mount point is made");
}

/// Says whether v2 is alone and controls what it can; true of most machines with systemd.
fn has_v2_controllers() -> bool {
    std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|list| {
        ["cpu", "memory", "pids"].iter().all(|name| list.split_whitespace().any(|c| c == *name))
    })
}

const NO_V2: &str = "needs cgroup v2 with controllers";

/// Starts a container with limits, and finds its cgroup.
fn limited(sandbox: &Sandbox) -> (Bundle, PathBuf) {
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]).resources(json!({
        "memory": { "limit": 67_108_864, "swap": 67_108_864 },
        "cpu": { "quota": 20_000, "period": 100_000 },
        "pids": { "limit": 50 },
    }));
    sandbox.launch(&bundle);
    let [cgroup] = &sandbox.cgroups(bundle.cgroups_path())[..] else { panic!("v2 has one cgroup of it") };
    let cgroup = cgroup.clone();
    (bundle, cgroup)
}

#[test]
fn limits_of_v2_are_in_its_files_and_change_with_an_update() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN);
    let (bundle, cgroup) = limited(&sandbox);
    let file = |name: &str| std::fs::read_to_string(cgroup.join(name)).unwrap();
    assert_eq!(file("memory.max"), "67108864\n");
    assert_eq!(file("memory.swap.max"), "0\n", "swap counts memory too in the configuration");
    assert_eq!(file("cpu.max"), "20000 100000\n");
    assert_eq!(file("pids.max"), "50\n");
    let seen = sandbox.exec(&bundle, ["cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"]);
    seen.output().succeeds().prints("67108864\n50\n");
    let update = ["update", "--memory", "128M", "--memory-swap", "256M", "--cpu-quota", "30000"];
    sandbox.runtime().args(update).args(["--pids-limit", "60", bundle.id()]).output().succeeds();
    assert_eq!(file("memory.max"), "134217728\n");
    assert_eq!(file("memory.swap.max"), "134217728\n");
    assert_eq!(file("cpu.max"), "30000 100000\n");
    assert_eq!(file("pids.max"), "60\n");
}

#[test]
fn on_v2_a_program_holds_devices_that_are_not_allowed() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN);
    let script = "mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg; head -c1 /dev/zero | wc -c";
    let bundle = sandbox.bundle("c").script(script);
    sandbox.run(&bundle).output().prints("1\n").complains("Operation not permitted");
}

#[test]
fn on_v2_memory_beyond_the_limit_is_a_kill_that_is_told() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN);
    let (bundle, _) = limited(&sandbox);
    // dd holds its block in memory.
    let hog = sandbox.exec(&bundle, ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    hog.output().exits_with(137);
    let stats = sandbox.runtime().args(["events", "--stats", bundle.id()]).output().succeeds();
    let stats: Value = serde_json::from_str(&stats.stdout).unwrap();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 67_108_864, "{stats}");
    assert_eq!(sandbox.status(&bundle), "running", "only the process that wanted too much is dead");
}
