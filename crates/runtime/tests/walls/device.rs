//! Device nodes and terminals that the image made: CVE-2025-31133, CVE-2025-52565, CVE-2025-62161.

use std::fs;
use std::os::unix::fs::symlink;

use bulkhead_testkit::{Bundle, is_root, requires};
use serde_json::json;

use crate::outside::{Outside, SECRET};
use crate::sandbox;

/// Makes a bundle whose `/dev` is the image's own directory, on the image's file system.
fn with_own_dev(bundle: Bundle) -> Bundle {
    bundle.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    })
}

/// Needs the check of what is there already (`device::check`). Must fail without it: the container starts with a
/// file of its choice where programs expect the null device.
#[test]
fn what_is_not_the_null_device_is_not_taken_for_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let secret = outside.path().join("secret");
    let make = |kind: &str, bundle: &Bundle| {
        let null = bundle.rootfs().join("dev/null");
        match kind {
            "file" => fs::write(null, "").unwrap(),
            "directory" => fs::create_dir(null).unwrap(),
            "link" => symlink(&secret, null).unwrap(),
            "link-to-device" => symlink("zero", null).unwrap(),
            // The kernel's memory.
            "other-device" => {
                drop(sandbox.command("mknod").arg(null).args(["c", "1", "1"]).output().succeeds());
            }
            "block-device" => {
                drop(sandbox.command("mknod").arg(null).args(["b", "1", "3"]).output().succeeds());
            }
            _ => drop(sandbox.command("mkfifo").arg(null).output().succeeds()),
        }
    };
    for kind in ["file", "directory", "link", "link-to-device", "other-device", "block-device", "fifo"] {
        let bundle = with_own_dev(sandbox.bundle(kind)).script("echo started");
        make(kind, &bundle);
        let output = sandbox.run(&bundle).output().exits_with(1).prints("");
        output.complains("the image has a /dev/null that is not the device c 1:3");
    }
    outside.is_untouched();
}

/// Needs the masks to be clones of the *host's* null device (`rootfs::host_null`). Must fail with the container's
/// `/dev/null` as their source: the masked file shows the file that the image linked there.
#[test]
fn a_mask_is_not_made_of_the_containers_null_device() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let dev = sandbox.directory().join("dev");
    fs::create_dir(&dev).unwrap();
    symlink("/bait", dev.join("null")).unwrap();
    let bundle = with_own_dev(sandbox.bundle("mask"))
        .file("bait", "the bait\n")
        .file("hidden", SECRET)
        .bind(&dev, "/dev", &[])
        .edit(|config| config["linux"]["maskedPaths"] = json!(["/hidden"]))
        .script("cat /hidden; stat -c '%F %t:%T' /hidden");
    sandbox.run(&bundle).output().succeeds().prints("character special file 1:3\n");
}

/// A hook of the container runs after devices are made and before paths are masked: the moment for an exchange. As
/// above.
#[test]
fn an_exchange_of_the_null_device_before_the_masks_changes_nothing() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox
        .bundle("hook")
        .file("bait", "the bait\n")
        .file("hidden", SECRET)
        .edit(|config| config["linux"]["maskedPaths"] = json!(["/hidden", "/proc/interrupts"]))
        .script("cat /hidden; stat -c '%F %t:%T' /hidden /proc/interrupts");
    let root = bundle.rootfs().display().to_string();
    let exchange = format!("rm {root}/dev/null && ln -s ../bait {root}/dev/null");
    let bundle = bundle.hook_script("createContainer", &exchange);
    let output = sandbox.run(&bundle).output().succeeds();
    output.prints("character special file 1:3\ncharacter special file 1:3\n");
}

/// Needs the terminal to be checked by its device numbers and to come from TIOCGPTPEER. Must fail without the check:
/// the error is the one of an ioctl on whatever was opened.
#[test]
fn what_is_not_a_terminal_is_not_taken_for_one() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let make = |kind: &str, bundle: &Bundle| {
        let pts = bundle.rootfs().join("dev/pts");
        fs::create_dir(&pts).unwrap();
        match kind {
            "file" => fs::write(pts.join("ptmx"), "").unwrap(),
            "link" => symlink(outside.path().join("secret"), pts.join("ptmx")).unwrap(),
            "null" => {
                sandbox.command("mknod").arg(pts.join("ptmx")).args(["c", "1", "3"]).output().succeeds();
            }
            // The right device on the wrong file system leads to the host's devpts.
            _ => {
                sandbox.command("mknod").arg(pts.join("ptmx")).args(["c", "5", "2"]).output().succeeds();
            }
        }
    };
    for kind in ["file", "link", "null", "multiplexer"] {
        let bundle = with_own_dev(sandbox.bundle(kind)).script("echo started").terminal();
        make(kind, &bundle);
        let output = sandbox.run(&bundle).output().exits_with(1).prints("");
        output.complains("terminal");
    }
    outside.is_untouched();
}

/// Links at `/dev/console` and `/dev/pts/0` of the image must not decide where the terminal is bound, or what is bound.
/// Needs the terminal as a descriptor and the lookup in the root. Must fail when the target is opened on the host.
#[test]
fn a_link_at_the_console_stays_inside() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    for (number, way) in outside.ways("secret").iter().enumerate() {
        let bundle = sandbox.bundle(&format!("console{number}"));
        let dev = sandbox.directory().join(format!("dev{number}"));
        fs::create_dir_all(dev.join("pts")).unwrap();
        symlink(way, dev.join("console")).unwrap();
        let bundle = bundle.terminal().script("stat -L -c '%F %t' /dev/console").edit(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/dev" && mount["destination"] != "/dev/mqueue");
            mounts.retain(|mount| mount["destination"] != "/dev/shm");
            mounts.insert(0, json!({ "destination": "/dev", "source": dev, "options": ["bind"] }));
        });
        let output = sandbox.run(&bundle).output().succeeds();
        assert!(
            output.stdout.starts_with("character special file 88"),
            "the console is a terminal\n{output}"
        );
    }
    outside.is_untouched();
}

/// Nodes that the image brings along can be seen but not opened. Needs the device rules of the cgroup. Must fail
/// without them: the disk and the kernel's memory are open.
#[test]
fn nodes_of_the_image_cannot_be_opened() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("nodes").script(
        "for node in /srv/*; do head -c 1 $node 2>&1 | sed 's/.*: //'; done; \
         mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem 2>&1 | sed 's/.*: //'",
    );
    fs::create_dir(bundle.rootfs().join("srv")).unwrap();
    for (name, numbers) in [("kmsg", ["c", "1", "11"]), ("mem", ["c", "1", "1"]), ("ram", ["b", "1", "0"])] {
        let node = bundle.rootfs().join("srv").join(name);
        sandbox.command("mknod").arg(node).args(numbers).output().succeeds();
    }
    let refused = "Operation not permitted\n".repeat(4);
    sandbox.run(&bundle).output().succeeds().prints(&refused);
}

/// Configured devices below a link of the image are made inside the root. Needs RESOLVE_IN_ROOT. Must fail without
/// it: the node is in the host's directory.
#[test]
fn configured_devices_are_made_inside_the_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    for (number, way) in outside.ways("inner").iter().enumerate() {
        let bundle = sandbox
            .bundle(&format!("below{number}"))
            .edit(|config| {
                config["linux"]["devices"] =
                    json!([{ "path": "/link/node", "type": "c", "major": 1, "minor": 3 }]);
            })
            .script("stat -c %F /link/node");
        symlink(way, bundle.rootfs().join("link")).unwrap();
        sandbox.run(&bundle).output().succeeds().prints("character special file\n");
    }
    outside.is_untouched();
}
