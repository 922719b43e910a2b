//! Which namespaces a container has: new ones, the runtime's, and those that it joins.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// The types of the specification and the names of their links.
const KINDS: [(&str, &str); 8] = [
    ("mount", "mnt"),
    ("network", "net"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("pid", "pid"),
    ("cgroup", "cgroup"),
    ("time", "time"),
    ("user", "user"),
];

/// Reads a namespace link, of this process or of another.
fn link(process: impl std::fmt::Display, name: &str) -> String {
    fs::read_link(format!("/proc/{process}/ns/{name}")).unwrap().display().to_string()
}

fn has(kind: &str) -> bool {
    Path::new("/proc/self/ns").join(kind).exists()
}

/// Lets the container print one of its namespaces.
fn show(bundle: Bundle, name: &str) -> Bundle {
    bundle.args(["readlink", &format!("/proc/self/ns/{name}")])
}

fn sleeper(sandbox: &Sandbox, name: &str) -> Bundle {
    sandbox.bundle(name).args(["sleep", "1000"])
}

/// The path of a namespace of a running container.
fn namespace_of(sandbox: &Sandbox, bundle: &Bundle, name: &str) -> PathBuf {
    format!("/proc/{}/ns/{name}", sandbox.pid(bundle)).into()
}

#[test]
fn a_new_namespace_is_not_the_hosts() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    for (kind, name) in KINDS.into_iter().filter(|(_, name)| has(name)) {
        let bundle = show(sandbox.bundle(kind), name);
        let bundle = match kind {
            "user" => bundle.user_namespace(&[(0, 0, 65536)], &[(0, 0, 65536)]),
            kind => bundle.namespace(kind),
        };
        let output = sandbox.run(&bundle).output().succeeds();
        assert_ne!(output.stdout.trim(), link("self", name), "{kind} is new");
    }
}

#[test]
fn a_namespace_that_is_not_asked_for_is_the_hosts() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    for (kind, name) in KINDS.into_iter().filter(|(_, name)| has(name)) {
        let bundle = show(sandbox.bundle(kind), name).without_namespace(kind);
        let bundle = if kind == "uts" {
            bundle.edit(|config| drop(config.as_object_mut().unwrap().remove("hostname")))
        } else {
            bundle
        };
        let output = sandbox.run(&bundle).output().succeeds();
        assert_eq!(output.stdout.trim(), link("self", name), "{kind} is the host's");
    }
}

#[test]
fn a_container_joins_the_namespaces_of_another() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let first = sleeper(&sandbox, "first").namespace("time");
    sandbox.launch(&first);
    for (kind, name) in
        KINDS.into_iter().filter(|(kind, name)| !["mount", "user"].contains(kind) && has(name))
    {
        let path = namespace_of(&sandbox, &first, name);
        let expected = link(sandbox.pid(&first), name);
        let bundle = show(sandbox.bundle(kind), name).namespace_at(kind, &path);
        let output = sandbox.run(&bundle).output().succeeds();
        assert_eq!(output.stdout.trim(), expected, "{kind} is the other container's");
    }
}

#[test]
fn containers_with_one_pid_namespace_see_each_other() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let first = sleeper(&sandbox, "first");
    sandbox.launch(&first);
    let path = namespace_of(&sandbox, &first, "pid");
    let second = sandbox.bundle("second").script("cat /proc/1/comm; kill -0 1 && echo reachable");
    let second = second.namespace_at("pid", path);
    sandbox.run(&second).output().succeeds().prints("sleep\nreachable\n");
    assert_eq!(sandbox.status(&first), "running", "the end of the second is not that of the first");
}

#[test]
fn exec_follows_into_joined_namespaces() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let first = sleeper(&sandbox, "first");
    sandbox.launch(&first);
    let mut second = sleeper(&sandbox, "second");
    for (kind, name) in [("pid", "pid"), ("network", "net"), ("ipc", "ipc")] {
        second = second.namespace_at(kind, namespace_of(&sandbox, &first, name));
    }
    sandbox.launch(&second);
    for name in ["pid", "net", "ipc"] {
        let output =
            sandbox.exec(&second, ["readlink", &format!("/proc/self/ns/{name}")]).output().succeeds();
        assert_eq!(output.stdout.trim(), link(sandbox.pid(&first), name), "exec is in the joined {name}");
    }
}

#[test]
fn a_container_joins_the_user_namespace_of_another_and_what_belongs_to_it() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let maps = [(0, 100_000, 65536)];
    let first = sleeper(&sandbox, "first").user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    sandbox.launch(&first);
    let mut second = sandbox
        .bundle("second")
        .script("for n in user net ipc pid uts; do readlink /proc/self/ns/$n; done; id -u; stat -c %u /etc/passwd; touch /new")
        .owned_by(100_000, 100_000);
    for (kind, name) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("pid", "pid"), ("uts", "uts")]
    {
        second = second.namespace_at(kind, namespace_of(&sandbox, &first, name));
    }
    let expected: String =
        ["user", "net", "ipc", "pid", "uts"].map(|name| link(sandbox.pid(&first), name) + "\n").concat();
    sandbox.run(&second).output().succeeds().prints(&format!("{expected}0\n0\n"));
    let new = fs::metadata(second.rootfs().join("new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&new), 100_000, "root there is 100000 here");
}

#[test]
fn exec_works_in_a_joined_user_namespace() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let maps = [(0, 100_000, 65536)];
    let first = sleeper(&sandbox, "first").user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    sandbox.launch(&first);
    let path = namespace_of(&sandbox, &first, "user");
    let second = sleeper(&sandbox, "second").namespace_at("user", path).owned_by(100_000, 100_000);
    sandbox.launch(&second);
    let output = sandbox.exec(&second, ["readlink", "/proc/self/ns/user"]).output().succeeds();
    assert_eq!(output.stdout.trim(), link(sandbox.pid(&first), "user"), "exec is there too");
}

#[test]
fn a_new_user_namespace_goes_with_a_network_namespace_of_the_host() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let holder = sleeper(&sandbox, "holder");
    sandbox.launch(&holder);
    let maps = [(0, 100_000, 65536)];
    let bundle = show(sandbox.bundle("c"), "net")
        .namespace_at("network", namespace_of(&sandbox, &holder, "net"))
        .user_namespace(&maps, &maps)
        .owned_by(100_000, 100_000);
    let output = sandbox.run(&bundle).output().succeeds();
    assert_eq!(output.stdout.trim(), link(sandbox.pid(&holder), "net"), "the namespace is joined");
}

#[test]
fn a_path_that_is_no_such_namespace_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    for (number, (kind, path, complaint)) in [
        ("network", "/proc/self/ns/uts", "join the net namespace: its path names something else"),
        ("pid", "/proc/self/ns/uts", "join the pid namespace: its path names something else"),
        ("network", "/etc/passwd", "join the net namespace: its path names something else"),
        ("ipc", "/not/there", "open the ipc namespace to join"),
        ("ipc", "relative", "/linux/namespaces/5/path"),
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = sandbox.bundle(&format!("c{number}")).namespace_at(kind, path);
        sandbox.run(&bundle).output().exits_with(1).complains(complaint);
    }
}

#[test]
fn a_namespace_cannot_be_listed_twice() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "pid" }));
    });
    sandbox.run(&bundle).output().exits_with(1).complains("/linux/namespaces/6: namespace");
}

#[test]
fn a_new_network_namespace_has_its_loopback_up() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle =
        sandbox.bundle("c").script("ls /sys/class/net; ip addr show lo | grep -o 'inet 127.0.0.1/8'");
    sandbox.run(&bundle).output().succeeds().prints("lo\ninet 127.0.0.1/8\n");
}

#[test]
fn two_domain_names_are_a_contradiction() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let with = |short: &str, parameter: &str| {
        let bundle = sandbox.bundle(short).args(["cat", "/proc/sys/kernel/domainname"]);
        bundle.edit(|config| {
            config["domainname"] = "example.org".into();
            config["linux"]["sysctl"] = json!({ "kernel.domainname": parameter });
        })
    };
    let refused = sandbox.run(&with("two", "example.com")).output().exits_with(1);
    refused.complains("/linux/sysctl/kernel.domainname").complains("/domainname is another");
    sandbox.run(&with("one", "example.org")).output().succeeds().prints("example.org\n");
}

#[test]
fn names_are_the_containers_own() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let bundle = sandbox
        .bundle("c")
        .script("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname")
        .edit(|config| {
            config["hostname"] = "inner".into();
            config["domainname"] = "example.org".into();
        });
    sandbox.run(&bundle).output().succeeds().prints("inner\nexample.org\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host, "the host keeps its name");
}

/// Gives the clocks of the container offsets of a day and of two.
fn offset(bundle: Bundle) -> Bundle {
    bundle
        .namespace("time")
        .script("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets; readlink /proc/self/ns/time")
        .edit(|config| {
            config["linux"]["timeOffsets"] = json!({
                "monotonic": { "secs": 86400, "nanosecs": 5 },
                "boottime": { "secs": 172_800 },
            });
        })
}

#[track_caller]
fn check_offsets(output: &bulkhead_testkit::Output) {
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{output}");
    let uptime: u64 = lines[0].parse().unwrap();
    let host: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(
        uptime >= 172_800 && uptime <= 172_800 + host as u64 + 1,
        "the uptime is two days more\n{output}"
    );
    let words: Vec<Vec<&str>> = lines[1..3].iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["monotonic", "86400", "5"], ["boottime", "172800", "0"]], "{output}");
    assert_ne!(lines[3], link("self", "time"), "the namespace is new\n{output}");
}

#[test]
fn clocks_have_their_offsets() {
    requires!(is_root(), "needs root");
    requires!(has("time"), "this kernel has no time namespaces");
    let sandbox = Sandbox::new(BULKRUN);
    check_offsets(&sandbox.run(&offset(sandbox.bundle("c"))).output().succeeds());
}

#[test]
fn clocks_have_their_offsets_in_a_user_namespace() {
    requires!(is_root(), "needs root");
    requires!(has("time"), "this kernel has no time namespaces");
    let sandbox = Sandbox::new(BULKRUN);
    let maps = [(0, 100_000, 65536)];
    let bundle = offset(sandbox.bundle("c")).user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    check_offsets(&sandbox.run(&bundle).output().succeeds());
}

#[test]
fn exec_is_in_the_time_of_a_container_that_was_only_created() {
    requires!(is_root(), "needs root");
    requires!(has("time"), "this kernel has no time namespaces");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = offset(sleeper(&sandbox, "c"));
    sandbox.create(&bundle);
    let time = link(sandbox.pid(&bundle), "time");
    assert_ne!(time, link("self", "time"), "the container is in its time before it starts");
    let output = sandbox.exec(&bundle, ["cut", "-d.", "-f1", "/proc/uptime"]).output().succeeds();
    assert!(output.stdout.trim().parse::<u64>().unwrap() >= 172_800, "exec sees the offset\n{output}");
}

#[test]
fn offsets_that_make_no_sense_are_refused_with_their_place() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("none").edit(|config| {
        config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 1 } });
    });
    sandbox
        .run(&bundle)
        .output()
        .exits_with(1)
        .complains("/linux/timeOffsets: time offsets need a new namespace");
    let bundle = sandbox.bundle("nano").namespace("time").edit(|config| {
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1, "nanosecs": 1_000_000_000 } });
    });
    sandbox.run(&bundle).output().exits_with(1).complains("/linux/timeOffsets/boottime/nanosecs");
}

#[test]
fn the_personality_is_the_one_that_was_asked_for() {
    requires!(is_root(), "needs root");
    requires!(cfg!(target_arch = "x86_64"), "needs x86-64");
    let sandbox = Sandbox::new(BULKRUN);
    for (domain, machine) in [("LINUX", "x86_64\n"), ("LINUX32", "i686\n")] {
        let bundle = sandbox.bundle(domain).args(["uname", "-m"]).edit(|config| {
            config["linux"]["personality"] = json!({ "domain": domain });
        });
        sandbox.run(&bundle).output().succeeds().prints(machine);
    }
}
