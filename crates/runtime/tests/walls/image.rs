//! Images whose `/proc`, `/sys` or `/dev` is not what it seems.
//!
//! CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2025-52881, CVE-2026-41579, CVE-2026-47766.

use std::fs;
use std::os::unix::fs::symlink;

use bulkhead_testkit::{is_root, requires};
use serde_json::json;

use crate::outside::Outside;
use crate::sandbox;

const OWN: [&str; 3] = ["proc", "sys", "dev"];

/// Needs the refusal of links at these three places (`target::open`, RESOLVE_NO_SYMLINKS). Must fail without it:
/// the container starts, with a procfs at a place of the image's choice.
#[test]
fn a_link_at_proc_sys_or_dev_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    for name in OWN {
        for (number, way) in outside.ways("inner").iter().chain(&["tmp".into(), "/".into()]).enumerate() {
            let bundle = sandbox.bundle(&format!("{name}{number}")).script("echo started");
            fs::remove_dir(bundle.rootfs().join(name)).unwrap();
            symlink(way, bundle.rootfs().join(name)).unwrap();
            let output = sandbox.run(&bundle).output().exits_with(1).prints("");
            output.complains(&format!("the image's /{name} is a symbolic link"));
        }
    }
    outside.is_untouched();
}

/// As above, for devices where the configuration mounts nothing at `/dev`: nodes must not be made through the link.
/// Must fail without RESOLVE_IN_ROOT and the refusal of links together: nodes appear in the host's directory.
#[test]
fn devices_are_not_made_through_a_link() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    for (number, way) in outside.ways("inner").iter().enumerate() {
        let bundle = sandbox
            .bundle(&format!("dev{number}"))
            .script("echo started")
            .edit(|config| config["mounts"] = json!([{ "destination": "/proc", "type": "proc" }]));
        fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
        symlink(way, bundle.rootfs().join("dev")).unwrap();
        let output = sandbox.run(&bundle).output().exits_with(1).prints("");
        output.complains("the image's /dev is a symbolic link");
    }
    outside.is_untouched();
}

/// Needs O_DIRECTORY at the lookup. Must fail without it: the error comes from move_mount(2), or a file system
/// whose root is a file is mounted.
#[test]
fn a_file_at_proc_sys_or_dev_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for name in OWN {
        let bundle = sandbox.bundle(name).script("echo started");
        fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        fs::write(bundle.rootfs().join(name), "").unwrap();
        let output = sandbox.run(&bundle).output().exits_with(1).prints("");
        output.complains(&format!("open /{name} in the container's root"));
    }
}

/// Links at other places are the image's right: they are followed, but inside the root. Needs RESOLVE_IN_ROOT. Must
/// fail without it: the file system is mounted at the host's directory and the container does not see it.
#[test]
fn links_elsewhere_are_followed_inside_the_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    for (number, way) in outside.ways("inner").iter().enumerate() {
        let bundle = sandbox
            .bundle(&format!("link{number}"))
            .script("echo inside > /data/made/file; cat $WHERE/made/file")
            .env(&format!("WHERE={}", outside.path().join("inner").display()))
            .mount("tmpfs", "tmpfs", "/data/made", &["mode=755"]);
        symlink(way, bundle.rootfs().join("data")).unwrap();
        sandbox.run(&bundle).output().succeeds().prints("inside\n");
    }
    outside.is_untouched();
}

/// What is mounted over the container's `/proc/sys` must not receive what is meant for the kernel. Needs the procfs of
/// our own (`procfs`). Must fail with `std::fs::write("/proc/sys/…")` after the root was entered: the value is in
/// the volume's file, and the kernel's is as it was.
#[test]
fn kernel_parameters_reach_the_kernel_whatever_is_mounted_at_proc() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let fake = sandbox.directory().join("fake");
    let file = fake.join("net/ipv4/ip_forward");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "fake\n").unwrap();
    let bundle = sandbox
        .bundle("sysctl")
        .args(["sleep", "1000"])
        .bind(&fake, "/proc/sys", &[])
        .edit(|config| config["linux"]["readonlyPaths"] = json!([]))
        .edit(|config| config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" }));
    sandbox.launch(&bundle);
    let pid = sandbox.pid(&bundle).to_string();
    let inside = ["-n", "-t", &pid, "cat", "/proc/sys/net/ipv4/ip_forward"];
    sandbox.command("nsenter").args(inside).output().succeeds().prints("1\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "fake\n", "the volume's file is not written");
}

/// A label that goes nowhere must be an error. Needs the procfs of our own. Must fail when the label is written to
/// the container's `/proc/self/attr/exec`: the volume's file has it, and the program runs unconfined.
#[test]
fn a_label_is_not_written_to_a_file_of_the_container() {
    requires!(is_root(), "needs root");
    requires!(
        !std::path::Path::new("/sys/kernel/security/apparmor").exists(),
        "needs a kernel without AppArmor"
    );
    let sandbox = sandbox();
    let fake = sandbox.directory().join("fake");
    for file in ["self/attr/exec", "self/attr/apparmor/exec", "1/attr/exec", "1/attr/apparmor/exec"] {
        fs::create_dir_all(fake.join(file).parent().unwrap()).unwrap();
        fs::write(fake.join(file), "").unwrap();
    }
    let bundle = sandbox
        .bundle("label")
        .script("echo unconfined")
        .bind(&fake, "/proc", &[])
        .edit(|config| config["linux"]["readonlyPaths"] = json!([]))
        .edit(|config| config["linux"]["maskedPaths"] = json!([]))
        .edit(|config| config["process"]["apparmorProfile"] = "strict".into());
    sandbox.run(&bundle).output().exits_with(1).prints("").complains("strict");
    for file in ["self/attr/exec", "self/attr/apparmor/exec", "1/attr/exec", "1/attr/apparmor/exec"] {
        assert_eq!(fs::read_to_string(fake.join(file)).unwrap(), "", "{file} is not written");
    }
}
