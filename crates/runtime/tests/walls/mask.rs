//! Masked and read-only paths, seen and attacked from inside.

use std::fs;
use std::os::unix::fs::symlink;

use bulkhead_testkit::{is_root, requires};
use serde_json::json;

use crate::outside::{Outside, SECRET};
use crate::sandbox;

/// Needs `rootfs::mask`. Must fail without it.
#[test]
fn masked_paths_are_hidden_whatever_leads_to_them() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox
        .bundle("masked")
        .file("secrets/file", SECRET)
        .file("hidden", SECRET)
        .edit(|config| {
            config["linux"]["maskedPaths"] = json!(["/secrets", "/hidden", "/by-link", "/missing"]);
        })
        .file("target", SECRET)
        .script(
            "cat /hidden /target /secrets/file /by-link /proc/self/root/hidden /proc/1/root/secrets/file \
             /proc/self/cwd/hidden; ls -A /secrets; echo x > /secrets/new; touch /secrets/new; true",
        );
    symlink("target", bundle.rootfs().join("by-link")).unwrap();
    let output = sandbox.run(&bundle).output().succeeds().prints("");
    assert!(!output.stderr.contains(SECRET), "nothing shows what is masked\n{output}");
    assert!(!bundle.rootfs().join("secrets/new").exists(), "nothing is written below the mask");
}

/// Needs `rootfs::make_readonly`. Must fail without it: the kernel's parameters can be written.
#[test]
fn readonly_paths_cannot_be_written_with_docker_s_capabilities() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox
        .bundle("readonly")
        .file("frozen/file", "as it was\n")
        .edit(|config| {
            let paths = config["linux"]["readonlyPaths"].as_array_mut().unwrap();
            paths.extend([json!("/frozen"), json!("/missing")]);
        })
        .script(
            "echo new > /frozen/file; touch /frozen/other; mkdir /frozen/dir; rm /frozen/file; \
             mv /frozen /thawed; ln /frozen/file /frozen/link; chmod 777 /frozen/file; \
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo h > /proc/sysrq-trigger; \
             cat /frozen/file /proc/sys/net/ipv4/ip_forward; ls -A /frozen",
        );
    sandbox.run(&bundle).output().succeeds().prints("as it was\n0\nfile\n");
    let kept = fs::read_to_string(bundle.rootfs().join("frozen/file")).unwrap();
    assert_eq!(kept, "as it was\n", "the image is as it was");
}

/// A mask or a read-only mount could be taken away by whoever may mount. Needs the capabilities to be dropped
/// (`credentials`). Must fail with CAP_SYS_ADMIN in the bounding and permitted sets.
#[test]
fn masks_cannot_be_taken_away_with_docker_s_capabilities() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let attempts = [
        "umount /proc/kcore",
        "umount -l /proc/sys",
        "umount /proc",
        "mount -o remount,rw /proc/sys",
        "mount -o remount,bind,rw /proc/sys",
        "mount -o remount,rw /",
        "mount -o remount,bind,rw /sys",
        "mount -t proc proc /tmp",
        "mount -t sysfs sysfs /tmp",
        "mount -t tmpfs tmpfs /tmp",
        "mount --bind /proc /tmp",
        "mount --rbind / /tmp",
        "mount --move /proc /tmp",
        "mount --make-rshared /",
        "unshare -m true",
        "unshare -C true",
        "unshare -p true",
        "nsenter -m -t 1 true",
        "pivot_root / /tmp",
    ];
    let script =
        attempts.map(|attempt| format!("{attempt} 2>/dev/null && echo 'worked: {attempt}'")).join("\n");
    let bundle = sandbox.bundle("remount").script(&format!("{script}\ntrue")).readonly();
    sandbox.run(&bundle).output().succeeds().prints("");
    let bundle = sandbox.bundle("exec").args(["sleep", "1000"]).readonly();
    sandbox.launch(&bundle);
    let exec = sandbox.exec(&bundle, ["/bin/sh", "-c", &format!("{script}\ntrue")]);
    exec.output().succeeds().prints("");
}

/// A user namespace gives every capability inside, but not over the mounts of the namespace above. Needs the masks to
/// be mounted before the container's program can make one; the kernel locks them then.
#[test]
fn masks_hold_in_a_user_namespace_of_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox
        .bundle("nested")
        .file("hidden", SECRET)
        .edit(|config| config["linux"]["maskedPaths"] = json!(["/hidden"]))
        .script(
            "unshare -U -r -m sh -c 'umount /hidden; cat /hidden; \
             mount --bind / /tmp && cat /tmp/hidden; \
             mount -t proc proc /tmp && ls /tmp/kcore; true'; true",
        );
    sandbox.run(&bundle).output().succeeds().prints("");
}

/// Links of the image at masked and read-only paths cover what they lead to inside the root. Needs RESOLVE_IN_ROOT.
/// Must fail without it: the mounts are made over the host's files, and what they lead to inside stays open.
#[test]
fn links_at_masked_paths_are_followed_inside_the_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let inside = outside.path().join("secret").display().to_string();
    for (number, way) in outside.ways("secret").iter().enumerate() {
        let bundle = sandbox
            .bundle(&format!("links{number}"))
            .file(&inside, "a secret of the image\n")
            .edit(|config| config["linux"]["maskedPaths"] = json!(["/link"]))
            .script(&format!("cat {inside} /link"));
        symlink(way, bundle.rootfs().join("link")).unwrap();
        sandbox.run(&bundle).output().succeeds().prints("");
    }
    outside.is_untouched();
}

/// A read-only root stays so, although volumes in it can be written.
#[test]
fn a_readonly_root_cannot_be_written() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let volume = sandbox.directory().join("volume");
    fs::create_dir(&volume).unwrap();
    let bundle = sandbox.bundle("root").readonly().bind(&volume, "/tmp", &[]).script(
        "touch /new /etc/new /usr/bin/new; rm /etc/passwd; echo x >> /bin/busybox; touch /tmp/new && echo written",
    );
    sandbox.run(&bundle).output().succeeds().prints("written\n");
    assert!(!bundle.rootfs().join("new").exists(), "the image is as it was");
    assert!(bundle.rootfs().join("etc/passwd").exists(), "the image is as it was");
}
