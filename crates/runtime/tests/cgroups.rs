//! What a container sees at `/sys/fs/cgroup`.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::path::{Path, PathBuf};

use bulkhead_testkit::{
    Bundle, Disk, Output, Sandbox, cgroups, find_program, is_root, kernel, mounts, requires, skip,
};
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
    let Some(joint) = joint else { skip!("no joint v1 hierarchy is mounted") };
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
             mkdir sub 2>/dev/null && rmdir sub && echo open || echo closed; cut -d: -f3 /proc/self/cgroup | grep -c '^/$' | grep -qv '^0$' && echo rooted; \
             grep ' /sys/fs/cgroup .*master:' /proc/self/mountinfo || echo nobody follows the host",
        );
        let expected = format!("own part\n{expected}\nrooted\nnobody follows the host\n");
        sandbox.run(&bundle).output().succeeds().prints(&expected);
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

/// As programs write them that leave JSON to Go, whose parser heeds no case.
#[test]
fn limits_count_that_are_written_with_capitals() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]).edit(|config| {
        config["linux"]["resources"] = json!({ "Pids": { "Limit": 50 } });
    });
    sandbox.launch(&bundle);
    let cgroups = sandbox.cgroups(bundle.cgroups_path());
    let file = cgroups.iter().map(|cgroup| cgroup.join("pids.max")).find(|file| file.exists());
    let Some(file) = file else { skip!("no controller limits processes") };
    let limit = || std::fs::read_to_string(&file).unwrap();
    assert_eq!(limit(), "50\n");
    let update = sandbox.runtime().args(["update", "--resources", "-", bundle.id()]);
    update.input(r#"{"Pids": {"limit": 60}}"#).output().succeeds();
    assert_eq!(limit(), "60\n");
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

/// A program that opens a device; whether there is such a device does not matter.
const OPEN: [&str; 3] =
    ["sh", "-c", "(: < /tmp/fuse) 2>&1 | grep -q 'not permitted' && echo closed || echo open"];

#[test]
fn an_update_may_list_other_device_rules() {
    requires!(is_root(), "needs root");
    for v2 in [false, true] {
        requires!(
            !v2 || cgroups::hierarchies().iter().any(|path| path.join("cgroup.controllers").exists()),
            "needs cgroup v2"
        );
        let sandbox = Sandbox::new(BULKRUN);
        let sandbox = if v2 { sandbox.v2_only() } else { sandbox };
        let bundle = unlimited(sandbox.bundle("c")).args(["sleep", "1000"]);
        sandbox.launch(&bundle);
        sandbox.exec(&bundle, ["mknod", "/tmp/fuse", "c", "10", "229"]).output().succeeds();
        let rules = |rules: Value| {
            let run = sandbox.runtime().args(["update", "--resources", "-", bundle.id()]);
            run.input(json!({ "devices": rules }).to_string()).output().succeeds().prints("");
        };
        let seen = |expected: &str| sandbox.exec(&bundle, OPEN).output().prints(expected);
        seen("closed\n");
        rules(json!([{ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }]));
        seen("open\n");
        sandbox.runtime().args(["update", "--resources", "-", bundle.id()]).input("{}").output().succeeds();
        seen("open\n");
        rules(json!([{ "allow": false, "access": "rwm" }]));
        seen("closed\n");
        sandbox.exec(&bundle, ["sh", "-c", "echo x > /dev/null"]).output().succeeds();
        let bad = json!({ "devices": [{ "allow": true, "access": "x" }] }).to_string();
        let run = sandbox.runtime().args(["update", "--resources", "-", bundle.id()]).input(bad);
        run.output().exits_with(1).complains("/devices/0");
    }
}

#[test]
fn on_v2_the_whole_group_dies_of_want_of_memory_where_that_is_asked_for() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]).resources(json!({
        "memory": { "limit": 67_108_864, "swap": 67_108_864 },
        "unified": { "memory.oom.group": "1" },
    }));
    sandbox.launch(&bundle);
    let [cgroup] = &sandbox.cgroups(bundle.cgroups_path())[..] else { panic!("v2 has one cgroup of it") };
    assert_eq!(std::fs::read_to_string(cgroup.join("memory.oom.group")).unwrap(), "1\n");
    let hog = sandbox.exec(&bundle, ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    hog.output().exits_with(137);
    sandbox.wait_for_status(&bundle, "stopped");
}

#[test]
fn on_v2_pressure_is_told_by_its_names() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    requires!(Path::new("/proc/pressure/cpu").exists(), "this kernel does not tell of pressure");
    let sandbox = Sandbox::new(BULKRUN);
    let (bundle, cgroup) = limited(&sandbox);
    // More processes than a fifth of a CPU has room for.
    let script = "for i in 1 2 3 4; do while :; do :; done & done";
    sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds();
    bulkhead_testkit::wait_until("somebody waited for a CPU", || {
        let text = std::fs::read_to_string(cgroup.join("cpu.pressure")).unwrap();
        !text.lines().next().unwrap().ends_with("total=0")
    });
    let stats = sandbox.runtime().args(["events", "--stats", bundle.id()]).output().succeeds();
    let stats: Value = serde_json::from_str(&stats.stdout).unwrap();
    assert!(stats["data"]["cpu"]["psi"]["some"]["total"].as_u64().is_some_and(|total| total > 0), "{stats}");
    for resource in ["cpu", "memory", "blkio"] {
        for part in ["some", "full"] {
            let psi = &stats["data"][resource]["psi"][part];
            let keys: Vec<_> = psi.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["avg10", "avg300", "avg60", "total"], "{resource} {part}");
        }
    }
}

#[test]
fn on_v2_huge_pages_are_counted_without_a_limit() {
    let has_hugetlb = |path: &PathBuf| {
        let offered = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        offered.split_whitespace().any(|name| name == "hugetlb")
    };
    requires!(
        is_root() && cgroups::hierarchies().iter().any(has_hugetlb),
        "needs root and hugetlb on cgroup v2"
    );
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    let bundle = unlimited(sandbox.bundle("c")).args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let stats = sandbox.runtime().args(["events", "--stats", bundle.id()]).output().succeeds().json();
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").unwrap().count();
    let found = stats["data"]["hugetlb"].as_object().unwrap();
    assert!(sizes > 0 && found.len() == sizes, "every size of this machine is there: {stats}");
    assert!(found.values().all(|counted| *counted == json!({ "failcnt": 0 })), "as under runc: {stats}");
}

#[test]
fn on_v2_input_and_output_is_limited_by_disk() {
    requires!(is_root(), "needs root");
    let has_io =
        || std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|list| list.contains("io"));
    requires!(has_v2_controllers() && has_io(), "{NO_V2}");
    let Some(Disk { numbers: (major, minor), .. }) = Disk::find() else { skip!("needs a disk") };
    let disk = format!("{major}:{minor}");
    let sandbox = Sandbox::new(BULKRUN);
    let rate = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]).resources(json!({ "blockIO": {
        "throttleReadBpsDevice": rate(1_048_576),
        "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(100),
        "throttleWriteIOPSDevice": rate(200),
    } }));
    sandbox.launch(&bundle);
    let [cgroup] = &sandbox.cgroups(bundle.cgroups_path())[..] else { panic!("v2 has one cgroup of it") };
    let file = |name: &str| std::fs::read_to_string(cgroup.join(name)).unwrap();
    assert_eq!(file("io.max"), format!("{disk} rbps=1048576 wbps=2097152 riops=100 wiops=200\n"));
    let update = |resources: Value| {
        let run = sandbox.runtime().args(["update", "--resources", "-", bundle.id()]);
        run.input(resources.to_string()).output()
    };
    update(json!({ "blockIO": { "throttleReadIOPSDevice": rate(0), "throttleWriteBpsDevice": rate(4096) } }))
        .succeeds();
    assert_eq!(
        file("io.max"),
        format!("{disk} rbps=1048576 wbps=4096 riops=max wiops=200\n"),
        "0 is no limit"
    );
    // The weight goes to whoever shares the disk out, of which a kernel may have none.
    let weight = update(json!({ "blockIO": { "weight": 500 } }));
    if cgroup.join("io.bfq.weight").exists() {
        weight.succeeds();
        assert!(file("io.bfq.weight").contains("500"), "{}", file("io.bfq.weight"));
    } else if cgroup.join("io.weight").exists() {
        weight.succeeds();
        assert_eq!(file("io.weight").lines().next(), Some("default 4950"), "converted as by runc");
    } else {
        weight.exits_with(1).complains("io.weight");
    }
}

#[test]
fn on_v2_a_partition_of_cpus_is_left_alone() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    let cpus = std::thread::available_parallelism().unwrap().get();
    requires!(cpus > 1, "needs two CPUs");
    requires!(kernel() >= (6, 1), "needs Linux 6.1, which makes partitions of cgroups with children");
    let sandbox = Sandbox::new(BULKRUN);
    let keeper =
        sandbox.bundle("keeper").args(["sleep", "1000"]).resources(json!({ "cpu": { "cpus": "1" } }));
    sandbox.launch(&keeper);
    let [above] = &sandbox.cgroups(&format!("/{}", sandbox.name()))[..] else { panic!("v2 has one of it") };
    std::fs::write(above.join("cpuset.cpus"), "1").unwrap();
    let partition = || std::fs::read_to_string(above.join("cpuset.cpus.partition")).unwrap();
    std::fs::write(above.join("cpuset.cpus.partition"), "root").unwrap();
    assert_eq!(partition(), "root\n", "it is one");
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]).resources(json!({ "pids": { "limit": 50 } }));
    sandbox.launch(&bundle);
    let inside = sandbox.exec(
        &bundle,
        ["cat", "/sys/fs/cgroup/cpuset.cpus.effective", "/sys/fs/cgroup/cpuset.cpus.partition"],
    );
    inside.output().succeeds().prints("1\nmember\n");
    let update = ["update", "--pids-limit", "60", "--cpuset-cpus", "1", bundle.id()];
    sandbox.runtime().args(update).output().succeeds();
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    assert_eq!(partition(), "root\n", "it is still one");
    std::fs::write(above.join("cpuset.cpus.partition"), "member").unwrap();
}

#[test]
fn on_v2_the_configuration_may_name_any_file_of_a_controller() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]).resources(json!({ "unified": {
        "cgroup.max.descendants": "7", "memory.high": "33554432", "pids.max": "99", "cpu.weight": "77",
    } }));
    sandbox.launch(&bundle);
    let [cgroup] = &sandbox.cgroups(bundle.cgroups_path())[..] else { panic!("v2 has one cgroup of it") };
    for (name, value) in [
        ("cgroup.max.descendants", "7"),
        ("memory.high", "33554432"),
        ("pids.max", "99"),
        ("cpu.weight", "77"),
    ] {
        assert_eq!(std::fs::read_to_string(cgroup.join(name)).unwrap().trim(), value, "{name}");
    }
}

#[test]
fn on_v2_what_only_some_machines_have_is_limited_where_it_is() {
    requires!(is_root(), "needs root");
    requires!(has_v2_controllers(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN);
    // The kernel takes a limit only of what it can count, which is listed in the root: keys of encrypted guests, say.
    let capacity = std::fs::read_to_string("/sys/fs/cgroup/misc.capacity").unwrap_or_default();
    for (number, name) in capacity.lines().filter_map(|line| line.split(' ').next()).enumerate() {
        let bundle = sandbox.bundle(&format!("misc{number}")).args(["sleep", "1000"]);
        let bundle = bundle.resources(json!({ "unified": { "misc.max": format!("{name} 1") } }));
        sandbox.launch(&bundle);
        let [cgroup] = &sandbox.cgroups(bundle.cgroups_path())[..] else { panic!("v2 has one cgroup of it") };
        let limits = std::fs::read_to_string(cgroup.join("misc.max")).unwrap();
        assert!(limits.lines().any(|line| line == format!("{name} 1")), "{limits}");
    }
    let offers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let refused = sandbox.bundle("misc").resources(json!({ "unified": { "misc.max": "no_such_thing 1" } }));
    let output = sandbox.run(&refused).output().exits_with(1);
    if offers.split_whitespace().any(|name| name == "misc") {
        output.complains("misc.max").complains("invalid argument");
    } else {
        output.complains("the requested cgroup controller `misc` is not available");
    }
}

/// Runs a command of the runtime whose first clone3(2) fails as it does for a cgroup that nobody can be born into, and
/// returns what was traced of these calls.
fn without_birth(sandbox: &Sandbox, words: &[&str]) -> (Output, String) {
    let trace = sandbox.directory().join("trace");
    let run = sandbox.command("strace").args(["--follow-forks", "--trace=clone3", "--output"]).arg(&trace);
    let run = run.arg("--inject=clone3:error=EOPNOTSUPP:when=1").arg(sandbox.runtime_program());
    let output = run.arg("--root").arg(sandbox.state_directory()).args(words).output();
    (output, std::fs::read_to_string(trace).unwrap())
}

/// Must fail when nothing joins the cgroup where clone3(2) cannot: the process is then in that of the runtime.
#[test]
fn a_process_that_cannot_be_born_in_its_v2_cgroup_joins_it() {
    requires!(is_root() && find_program("strace").is_some(), "needs root and strace");
    requires!(mounts::own().iter().any(|mount| mount.kind == "cgroup2"), "cgroup v2 is not mounted");
    let sandbox = Sandbox::new(BULKRUN);
    let show = "sed -n s/^0:://p /proc/self/cgroup";
    let bundle = sandbox.bundle("run").without_namespace("cgroup").script(show);
    let words = ["run", "--bundle", bundle.directory().to_str().unwrap(), bundle.id()];
    let (output, trace) = without_birth(&sandbox, &words);
    output.succeeds().prints(&format!("{}\n", bundle.cgroups_path()));
    let refused = |line: &&str| line.contains("CLONE_INTO_CGROUP") && line.contains("(INJECTED)");
    assert_eq!(trace.lines().filter(refused).count(), 1, "{trace}");
    let bundle = sandbox.bundle("exec").without_namespace("cgroup").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let (output, trace) = without_birth(&sandbox, &["exec", bundle.id(), "sh", "-c", show]);
    output.succeeds().prints(&format!("{}\n", bundle.cgroups_path()));
    assert_eq!(trace.lines().filter(refused).count(), 1, "{trace}");
}
