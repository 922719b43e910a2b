//! Paths of the configuration that lead up, or end early for whoever reads them as C does.

use std::fs;

use bulkhead_testkit::{Bundle, fresh, is_root, requires};
use serde_json::{Value, json};

use crate::outside::Outside;
use crate::sandbox;

/// Puts a path into one place of the configuration.
type Place = fn(&mut Value, &str);

/// Every path inside the container that a configuration has.
const INSIDE: [(&str, Place); 6] = [
    ("destination", |config, path| {
        add_mount(config, json!({ "destination": path, "type": "tmpfs", "source": "up" }));
    }),
    ("device", |config, path| {
        config["linux"]["devices"] = json!([{ "path": path, "type": "c", "major": 1, "minor": 3 }]);
    }),
    ("masked", |config, path| config["linux"]["maskedPaths"] = json!([path])),
    ("readonly", |config, path| config["linux"]["readonlyPaths"] = json!([path])),
    ("cwd", |config, path| config["process"]["cwd"] = path.into()),
    ("args", |config, path| config["process"]["args"] = json!([path])),
];

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// Needs RESOLVE_IN_ROOT and the normal form of destinations. Must fail without both: the host's directory is
/// mounted over or has a node in it.
#[test]
fn a_path_that_leads_up_ends_at_the_containers_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let inner = outside.path().join("inner/made").display().to_string();
    let up = format!("{}{inner}", "/..".repeat(24));
    for (name, place) in INSIDE {
        let bundle = sandbox.bundle(name).script("echo inside").edit(|config| place(config, &up));
        let output = sandbox.run(&bundle).output();
        if name == "args" {
            output.exits_with(1).complains("no such file or directory");
        } else {
            output.succeeds().prints("inside\n");
        }
    }
    outside.is_untouched();
}

fn refuses(bundle: &Bundle, output: &bulkhead_testkit::Output, name: &str) {
    assert!(output.code() == 1 && output.stdout.is_empty(), "a NUL byte in {name} is refused\n{output}");
    assert!(
        fs::read_dir(bundle.rootfs().join("tmp")).unwrap().next().is_none(),
        "nothing was made for {name}"
    );
}

/// Needs paths to be kept with their length until the kernel gets them, by a call that refuses a NUL byte. Must
/// fail with texts cut at the NUL: the mount is made at `/tmp/made`.
#[test]
fn a_nul_byte_ends_no_path() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outer: [(&str, Place); 9] = [
        ("root", |config, path| config["root"]["path"] = path.into()),
        ("source", |config, path| {
            add_mount(config, json!({ "destination": "/tmp/x", "source": path, "options": ["bind"] }));
        }),
        ("type", |config, path| {
            add_mount(config, json!({ "destination": "/tmp/x", "type": path, "source": "x" }));
        }),
        ("namespace", |config, path| {
            config["linux"]["namespaces"][1] = json!({ "type": "network", "path": path });
        }),
        ("cgroup", |config, path| config["linux"]["cgroupsPath"] = path.into()),
        ("hook", |config, path| config["hooks"] = json!({ "createContainer": [{ "path": path }] })),
        ("hostname", |config, path| config["hostname"] = path.into()),
        ("env", |config, path| config["process"]["env"] = json!([format!("A={path}")])),
        ("sysctl", |config, path| config["linux"]["sysctl"] = json!({ format!("net.{path}"): "1" })),
    ];
    for (name, place) in INSIDE.into_iter().chain(outer) {
        let bundle =
            sandbox.bundle(name).script("echo started").edit(|config| place(config, "/tmp/made\0/../../etc"));
        let output = sandbox.run(&bundle).output();
        refuses(&bundle, &output, name);
    }
}

/// Relative paths where the specification wants absolute ones are refused, not resolved at whatever directory the
/// runtime happens to be in.
#[test]
fn a_relative_path_is_not_resolved_at_the_runtimes_directory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    for (name, place) in INSIDE.into_iter().filter(|(name, _)| !["destination", "args"].contains(name)) {
        let bundle = sandbox.bundle(name).script("echo started").edit(|config| place(config, "inner"));
        let output = sandbox.run(&bundle).current_dir(outside.path()).output();
        output.exits_with(1).prints("").complains("is not an absolute path");
    }
    outside.is_untouched();
}

/// A namespace may be joined by a path that is the host's own. Needs `Birth::of_container` to look at what it has
/// opened. Seen to fail without: the host's parameter is changed.
#[test]
fn what_belongs_to_a_namespace_of_the_host_is_not_changed_by_joining_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    let host =
        || (fs::read_to_string(range).unwrap(), fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
    let before = host();
    let cases: [(&str, &str, &str, Place, &str); 3] = [
        (
            "parameter",
            "network",
            "net",
            |config, value| config["linux"]["sysctl"] = json!({ "net.ipv4.ip_local_port_range": value }),
            "/linux/sysctl/net.ipv4.ip_local_port_range",
        ),
        ("name", "uts", "uts", |config, value| config["hostname"] = value.into(), "/hostname"),
        ("domain", "uts", "uts", |config, value| config["domainname"] = value.into(), "/domainname"),
    ];
    for (name, kind, link, change, pointer) in cases {
        let bundle = sandbox.bundle(name).namespace_at(kind, format!("/proc/self/ns/{link}"));
        let bundle = bundle.script("echo started").edit(|config| {
            config.as_object_mut().unwrap().remove("hostname");
            change(config, "40000 50000");
        });
        sandbox.run(&bundle).output().exits_with(1).prints("").complains(pointer);
        assert_eq!(host(), before, "the host is as it was");
    }
}

/// The same for the root of whoever runs the runtime, who is moved into the container with it. Here that is a mount
/// namespace of the test's own, so that nothing but that is lost when it fails, as it must without the mount namespace
/// in `Plan::change_to`.
#[test]
fn a_mount_namespace_of_the_host_keeps_its_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let script = format!(
        "\"$@\"; code=$?; test -e {} && exit $code; echo another root; exit 9",
        sandbox.directory().display()
    );
    let sandbox = sandbox.through(["unshare", "-m", "sh", "-c", &script, "sh"]);
    let bundle = sandbox.bundle("root").namespace_at("mount", "/proc/self/ns/mnt").args(["true"]);
    sandbox.run(&bundle).output().exits_with(1).prints("").complains("/root: ");
}

/// Needs the check of the file system's type. Seen to fail without it: a directory for a class is made where none divides
/// anything, and the container runs as if it had its share.
#[test]
fn what_is_no_resctrl_file_system_is_not_taken_for_one() {
    requires!(is_root(), "needs root");
    let preparation = sandbox();
    let place = preparation.directory().join("fs");
    let empty = place.join("resctrl");
    fs::create_dir_all(&empty).unwrap();
    fs::create_dir(place.join("cgroup")).unwrap();
    let script = format!(
        "mount --rbind /sys/fs/cgroup {0}/cgroup && mount --rbind {0} /sys/fs && exec \"$@\"",
        place.display()
    );
    let sandbox = sandbox().through(fresh::prefix(&[fresh::Kind::Mount]));
    let sandbox = sandbox.through(["sh", "-c", &script, "sh"]);
    let bundle = sandbox.bundle("rdt").args(["true"]).edit(|config| config["linux"]["intelRdt"] = json!({}));
    sandbox.run(&bundle).output().exits_with(1).complains("no resctrl file system is mounted");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "nothing is made there");
}
