//! Device nodes and the links in `/dev`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires};
use serde_json::{Value, json};

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

const DEFAULTS: &str = "cd /dev; stat -c '%n %F %a %t:%T %u:%g' null zero full random urandom tty";

fn devices(bundle: Bundle, devices: Value) -> Bundle {
    bundle.edit(|config| config["linux"]["devices"] = devices)
}

#[test]
fn every_container_has_the_default_devices() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let expected = "\
null character special file 666 1:3 0:0
zero character special file 666 1:5 0:0
full character special file 666 1:7 0:0
random character special file 666 1:8 0:0
urandom character special file 666 1:9 0:0
tty character special file 666 5:0 0:0
";
    let bundle = sandbox.bundle("c").script(DEFAULTS);
    sandbox.run(&bundle).output().succeeds().prints(expected);
    let bundle = sandbox.bundle("uses").script("echo x > /dev/null && head -c 2 /dev/zero | wc -c");
    sandbox.run(&bundle).output().succeeds().prints("2\n");
}

#[test]
fn every_container_has_the_links() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let script = "cd /dev; for l in fd stdin stdout stderr core ptmx; do echo $l $(readlink $l); done; \
        ( echo through > /dev/stdout ) | cat";
    let bundle = sandbox.bundle("c").script(script);
    sandbox.run(&bundle).output().succeeds().prints(
        "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n\
         core /proc/kcore\nptmx pts/ptmx\nthrough\n",
    );
}

#[test]
fn configured_devices_have_their_modes_and_owners() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle =
        sandbox.bundle("c").script("stat -c '%n %F %a %t:%T %u:%g' /dev/a /x/y/b /dev/pipe /dev/raw");
    let bundle = devices(
        bundle,
        json!([
            { "path": "/dev/a", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 10, "gid": 20 },
            { "path": "/x/y/b", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600 },
            { "path": "/dev/pipe", "type": "p", "fileMode": 0o622, "gid": 5 },
            { "path": "/dev/raw", "type": "u", "major": 1, "minor": 5 },
        ]),
    );
    sandbox.run(&bundle).output().succeeds().prints(
        "/dev/a character special file 640 1:3 10:20\n/x/y/b block special file 600 7:0 0:0\n\
         /dev/pipe fifo 622 0:0 0:5\n/dev/raw character special file 666 1:5 0:0\n",
    );
}

#[test]
fn a_configured_device_replaces_the_default() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script("stat -c '%a %u' /dev/null");
    let device =
        json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 9 }]);
    sandbox.run(&devices(bundle, device)).output().succeeds().prints("600 9\n");
}

#[test]
fn devices_are_made_in_the_image_where_nothing_is_mounted_on_dev() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script("stat -c '%t:%T' /dev/null; readlink /dev/fd").edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    sandbox.run(&bundle).output().succeeds().prints("1:3\n/proc/self/fd\n");
    // Once more: what the first left is what the second wants.
    sandbox.run(&bundle).output().succeeds().prints("1:3\n/proc/self/fd\n");
}

#[test]
fn a_file_of_the_image_is_no_device() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").file("/opt/node", "not a device");
    let bundle = devices(bundle, json!([{ "path": "/opt/node", "type": "c", "major": 1, "minor": 3 }]));
    sandbox.run(&bundle).output().exits_with(1).complains("the image has a /opt/node that is not the device");
}

#[test]
fn the_hosts_dev_is_left_as_it_is() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    // What a runtime would make or replace there.
    let identities = || {
        let identity =
            |name| fs::symlink_metadata(Path::new("/dev").join(name)).ok().map(|found| found.ino());
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "core", "bh-extra"]
            .map(identity)
    };
    let before = identities();
    let bundle = sandbox.bundle("c").script("ls /dev | wc -l; echo x > /dev/null").edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({
            "destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rprivate"],
        }));
        config["linux"]["devices"] =
            json!([{ "path": "/dev/bh-extra", "type": "c", "major": 1, "minor": 3 }]);
    });
    sandbox.run(&bundle).output().succeeds();
    assert_eq!(identities(), before, "the host's /dev is what it was");
}

#[test]
fn a_read_only_dev_has_its_devices_and_takes_no_more() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .script("echo x > /dev/null && touch /dev/new 2>/dev/null || echo closed; ls -d /dev/pts /dev/shm")
        .edit(|config| {
            for mount in config["mounts"].as_array_mut().unwrap() {
                if mount["destination"] == "/dev" {
                    mount["options"].as_array_mut().unwrap().push("ro".into());
                }
            }
        });
    sandbox.run(&bundle).output().succeeds().prints("closed\n/dev/pts\n/dev/shm\n");
}

#[test]
fn a_user_namespace_gets_the_hosts_nodes() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let maps = [(0, 100_000, 65536)];
    let script = "cd /dev; stat -c '%n %t:%T' null zero full random urandom tty; echo x > null; \
        readlink ptmx; readlink fd; stat -c '%F %a' pipe";
    let bundle = sandbox.bundle("c").script(script).user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    let bundle = devices(bundle, json!([{ "path": "/dev/pipe", "type": "p", "fileMode": 0o622 }]));
    sandbox.run(&bundle).output().succeeds().prints(
        "null 1:3\nzero 1:5\nfull 1:7\nrandom 1:8\nurandom 1:9\ntty 5:0\npts/ptmx\n/proc/self/fd\nfifo 622\n",
    );
}

#[test]
fn a_user_namespace_gets_devices_that_the_host_has_not() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let maps = [(0, 100_000, 65536)];
    let script = "stat -c '%n %F %a %t:%T %u:%g' /dev/bh-a /x/bh-b /dev/null; head -c 2 /dev/bh-a | wc -c; \
        grep -c ' /dev/bh-a ' /proc/self/mountinfo; grep -c '^tmpfs / ' /proc/mounts";
    let bundle = sandbox.bundle("c").script(script).user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    let bundle = devices(
        bundle,
        json!([
            { "path": "/dev/bh-a", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 10, "gid": 20 },
            { "path": "/x/bh-b", "type": "b", "major": 7, "minor": 0, "fileMode": 0o157 },
            { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o622 },
        ]),
    );
    sandbox.run(&bundle).output().exits_with(1).prints(
        "/dev/bh-a character special file 644 1:5 10:20\n/x/bh-b block special file 157 7:0 0:0\n\
         /dev/null character special file 622 1:3 0:0\n2\n1\n0\n",
    );
}

/// An owner that the namespace has not cannot own a node: then the host's node serves, or is missed.
#[test]
fn a_user_namespace_is_told_which_node_the_host_lacks() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN).without_calls("mknodat=EPERM");
    let maps = [(0, 100_000, 65536)];
    let bundle = sandbox.bundle("c").user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    let missing = devices(bundle, json!([{ "path": "/dev/bh-none", "type": "c", "major": 1, "minor": 3 }]));
    sandbox.run(&missing).output().exits_with(1).complains("bind the host's /dev/bh-none");
    let other = devices(missing, json!([{ "path": "/dev/zero", "type": "c", "major": 1, "minor": 3 }]));
    sandbox.run(&other).output().exits_with(1).complains("the host's /dev/zero is not the device 1:3");
}

#[test]
fn without_the_right_to_make_nodes_the_hosts_are_bound() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN).without_calls("mknodat=EPERM");
    let bundle = sandbox.bundle("c").script("echo x > /dev/null; stat -c '%t:%T' /dev/null");
    sandbox.run(&bundle).output().succeeds().prints("1:3\n");
}

#[test]
fn a_device_that_makes_no_sense_is_refused_with_its_place() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c");
    let negative = json!([{ "path": "/dev/x", "type": "c", "major": -1, "minor": 3 }]);
    let bundle = devices(bundle, negative);
    sandbox.run(&bundle).output().exits_with(1).complains("/linux/devices/0/major");
    let relative = json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }]);
    let bundle = devices(bundle, relative);
    sandbox.run(&bundle).output().exits_with(1).complains("/linux/devices/0/path");
}
