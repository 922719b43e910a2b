//! What the container's root is made of, what of it is hidden, and that the host's mounts stay out of it.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bulkhead_testkit::{Bundle, Sandbox, is_root, mounts, requires, wait_until};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");
const OVERLAY: &str = "org.bulkhead.rootfs.overlay";

fn directory(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.directory().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Gives the process CAP_SYS_ADMIN, to play with mounts.
fn privileged(bundle: Bundle) -> Bundle {
    bundle.edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_SYS_ADMIN".into());
        }
    })
}

/// Runs the runtime where all mounts are shared, and prints before and after it how many there are.
fn on_shared_mounts(sandbox: Sandbox) -> Sandbox {
    let script = "mount --make-rshared /; mkdir -p $D/under; mount -t tmpfs under $D/under; \
        wc -l < /proc/self/mountinfo; \"$@\"; code=$?; wc -l < /proc/self/mountinfo; exit $code";
    let script = format!("D={}; {script}", sandbox.directory().display());
    sandbox.through(["unshare", "-m", "--propagation", "private", "sh", "-c", script.as_str(), "sh"])
}

/// Returns what the container printed between the two numbers of [`on_shared_mounts`], which must be the same.
#[track_caller]
fn between(output: &bulkhead_testkit::Output) -> String {
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.len() >= 2, "there should be two numbers\n{output}");
    assert_eq!(lines.first(), lines.last(), "the host should have the mounts that it had\n{output}");
    lines[1..lines.len() - 1].join("\n")
}

#[test]
fn a_root_is_writable_unless_it_is_read_only() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let script = "touch /new && echo open; touch /dev/new && echo dev is open";
    let bundle = sandbox.bundle("open").script(script);
    sandbox.run(&bundle).output().succeeds().prints("open\ndev is open\n");
    assert!(bundle.rootfs().join("new").exists(), "what is written is in the root");
    let bundle = sandbox.bundle("closed").script(script).readonly();
    sandbox.run(&bundle).output().succeeds().prints("dev is open\n");
    assert!(!bundle.rootfs().join("new").exists(), "nothing is written to a read-only root");
}

#[test]
fn a_read_only_root_gets_its_mount_points_first() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .script("ls -d /made/deep /work; pwd")
        .mount("tmpfs", "tmpfs", "/made/deep", &[])
        .edit(|config| config["process"]["cwd"] = "/work".into())
        .readonly();
    sandbox.run(&bundle).output().succeeds().prints("/made/deep\n/work\n/work\n");
}

#[test]
fn masked_paths_are_empty_and_missing_ones_no_matter() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .file("/secret/key", "open sesame")
        .file("/other/key", "open sesame")
        .file("/file", "open sesame")
        .script(
            "ls -A /secret /secret2; wc -c < /file; echo x > /file; wc -c < /file; cat /other/key; echo; \
             touch /secret/x 2>/dev/null || echo closed",
        )
        .edit(|config| {
            config["linux"]["maskedPaths"] =
                json!(["/secret", "/secret2", "/file", "/not/there", "/file/below", "/link"]);
        });
    fs::create_dir(bundle.rootfs().join("secret2")).unwrap();
    symlink("/nowhere", bundle.rootfs().join("link")).unwrap();
    sandbox.run(&bundle).output().succeeds().prints("/secret:\n\n/secret2:\n0\n0\nopen sesame\nclosed\n");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("file")).unwrap(), "open sesame");
}

#[test]
fn readonly_paths_are_readable_and_no_more() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .file("/tree/deep/file", "content\n")
        .file("/file", "content\n")
        .script(
            "cat /tree/deep/file /file; for f in /tree/new /tree/deep/file /file /t/sub/new; do \
             ( echo x > $f ) 2>/dev/null && echo $f is open; done; \
             grep ' /t/sub ' /proc/self/mountinfo | cut -d' ' -f6",
        )
        .mount("tmpfs", "tmpfs", "/t", &[])
        .mount("tmpfs", "tmpfs", "/t/sub", &["noexec"])
        .edit(|config| config["linux"]["readonlyPaths"] = json!(["/tree", "/file", "/not/there", "/t"]));
    let output = sandbox.run(&bundle).output();
    assert!(output.stdout.starts_with("content\ncontent\n"), "the content is there\n{output}");
    assert!(!output.stdout.contains("is open"), "nothing is writable\n{output}");
    assert!(output.stdout.contains("ro,noexec"), "other attributes stay\n{output}");
}

#[test]
fn the_default_masks_hide_the_kernel() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script(
        "wc -c < /proc/keys; ls -A /sys/firmware; ( echo 1 > /proc/sys/kernel/panic ) 2>/dev/null || echo closed",
    );
    sandbox.run(&bundle).output().succeeds().prints("0\nclosed\n");
}

#[test]
fn masks_can_be_told_from_the_host_by_nobody_in_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    // The image's own null device is not what covers a file.
    let bundle = sandbox
        .bundle("c")
        .file("/file", "open sesame")
        .file("/dev/null", "the image's")
        .script("cat /file")
        .edit(|config| {
            config["linux"]["maskedPaths"] = json!(["/file"]);
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }));
        });
    sandbox.run(&bundle).output().succeeds().prints("");
}

/// Lets the root be an overlay with the bundle's root at the bottom.
fn overlay(bundle: Bundle, top: &[PathBuf], upper: Option<(&Path, &Path)>) -> Bundle {
    let mut lower = top.to_vec();
    let image = bundle.directory().join("image");
    fs::rename(bundle.rootfs(), &image).unwrap();
    fs::create_dir(bundle.rootfs()).unwrap();
    lower.push(image);
    let mut value = json!({ "lower": lower });
    if let Some((upper, work)) = upper {
        value["upper"] = json!(upper);
        value["work"] = json!(work);
    }
    bundle.annotation(OVERLAY, &value.to_string())
}

#[test]
fn an_overlay_root_takes_writes_and_is_seen_by_the_container_alone() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let (upper, work) = (directory(&sandbox, "upper"), directory(&sandbox, "work"));
    let bundle = overlay(
        sandbox.bundle("c").script("echo new > /etc/new; rm /etc/group; touch /ready; exec sleep 1000"),
        &[],
        Some((&upper, &work)),
    );
    sandbox.launch(&bundle);
    wait_until("the container has written", || upper.join("ready").exists());
    sandbox.exec(&bundle, ["cat", "/etc/new"]).output().succeeds().prints("new\n");
    let own = mounts::own();
    let leaked = own.iter().find(|mount| mount.point.starts_with(sandbox.directory()));
    assert_eq!(leaked, None, "the host has no mount of it");
    assert_eq!(fs::read_dir(bundle.rootfs()).unwrap().count(), 0, "the host sees an empty mount point");
    assert_eq!(fs::read_to_string(upper.join("etc/new")).unwrap(), "new\n");
    let image = bundle.directory().join("image");
    assert!(image.join("etc/group").exists() && !image.join("etc/new").exists(), "the layer is as it was");
    let pid = sandbox.pid(&bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
}

#[test]
fn layers_may_have_any_name() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let odd = directory(&sandbox, r"a:b,c\d e");
    fs::write(odd.join("file"), "found\n").unwrap();
    let (upper, work) = (directory(&sandbox, r"u:p,p\er"), directory(&sandbox, r"w:o,r\k"));
    let bundle = overlay(sandbox.bundle("c").script("cat /file; touch /new"), &[odd], Some((&upper, &work)));
    sandbox.run(&bundle).output().succeeds().prints("found\n");
    assert!(upper.join("new").exists(), "the upper layer is the one that was named");
}

#[test]
fn a_root_may_have_two_hundred_layers() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let layer = |number: usize| {
        let path = directory(&sandbox, &format!("layers/of-a-rather-long-name-as-digests-are-{number:064}"));
        fs::write(path.join(format!("layer{number}")), "").unwrap();
        path
    };
    let layers: Vec<PathBuf> = (0..200).map(layer).collect();
    let bundle =
        overlay(sandbox.bundle("c").script("ls -d /layer* | wc -l; touch /x || echo closed"), &layers, None);
    sandbox.run(&bundle).output().succeeds().prints("200\nclosed\n");
}

#[test]
fn a_layer_with_a_very_long_path_is_found() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let deep = directory(&sandbox, &["d".repeat(200), "e".repeat(200)].join("/"));
    fs::write(deep.join("file"), "found\n").unwrap();
    let bundle = overlay(sandbox.bundle("c").script("cat /file"), &[deep], None);
    sandbox.run(&bundle).output().succeeds().prints("found\n");
}

#[test]
fn an_overlay_root_serves_a_user_namespace() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let (upper, work) = (directory(&sandbox, "upper"), directory(&sandbox, "work"));
    let maps = [(0, 100_000, 65536)];
    let bundle = sandbox
        .bundle("c")
        .script("rm -r /usr/sbin && mkdir /usr/sbin && ls -A /usr/sbin; stat -c '%u' /usr/sbin")
        .user_namespace(&maps, &maps)
        .owned_by(100_000, 100_000);
    std::os::unix::fs::chown(&upper, Some(100_000), Some(100_000)).unwrap();
    let bundle = overlay(bundle, &[], Some((&upper, &work)));
    sandbox.run(&bundle).output().succeeds().prints("0\n");
}

#[test]
fn an_overlay_that_cannot_be_is_one_sentence() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    for (number, (value, complaint)) in [
        (r#"{"lower":[]}"#, "an overlay needs at least one lower directory"),
        (r#"{"lower":["a"]}"#, "a is not an absolute path"),
        (r#"{"lower":["/a\u0000b"]}"#, "a path contains a NUL byte"),
        (r#"{"lower":["/"],"upper":"/tmp"}"#, "upper and work go together"),
        (r#"{"lower":["/not/there"]}"#, "overlay"),
        ("[]", "/annotations/org.bulkhead.rootfs.overlay"),
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = sandbox.bundle(&format!("c{number}")).annotation(OVERLAY, value);
        sandbox.run(&bundle).output().exits_with(1).complains(complaint);
    }
}

#[test]
fn no_rootfs_propagation_lets_the_hosts_mounts_come_to_harm() {
    requires!(is_root(), "needs root");
    let sandbox = on_shared_mounts(Sandbox::new(BULKRUN));
    for (value, seen) in [
        ("", "master"),
        ("private", ""),
        ("rprivate", ""),
        ("slave", ""),
        ("rslave", "master"),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let script = "grep ' / / \\| / [^ ]* ' /proc/self/mountinfo | head -n 1 > /dev/null; \
            awk '$5 == \"/\" { split($7, word, \":\"); print word[1] == \"-\" ? \"\" : word[1] }' /proc/self/mountinfo";
        let bundle = sandbox.bundle(&format!("c{value}")).script(script);
        let bundle = match value {
            "" => bundle,
            value => bundle.edit(|config| config["linux"]["rootfsPropagation"] = value.into()),
        };
        let output = sandbox.run(&bundle).output().succeeds();
        assert_eq!(between(&output), seen, "the root under {value:?}\n{output}");
    }
}

#[test]
fn a_root_on_a_shared_mount_serves_every_propagation() {
    requires!(is_root(), "needs root");
    for value in ["private", "rslave", "shared", "rshared", "unbindable"] {
        let sandbox = Sandbox::new(BULKRUN);
        let bundle = sandbox
            .bundle("c")
            .script("echo fine")
            .edit(|config| config["linux"]["rootfsPropagation"] = value.into());
        // The bundle itself is a shared mount.
        let script = format!(
            "mount --make-rshared /; mount --rbind {0} {0}; mount --make-shared {0}; exec \"$@\"",
            bundle.directory().display()
        );
        let run =
            sandbox.command("unshare").args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
        run.arg(BULKRUN)
            .arg("--root")
            .arg(sandbox.state_directory())
            .arg("run")
            .arg("--bundle")
            .arg(bundle.directory())
            .arg(bundle.id())
            .output()
            .succeeds()
            .prints("fine\n");
    }
}

#[test]
fn a_user_namespace_on_shared_mounts_keeps_its_mounts_to_itself() {
    requires!(is_root(), "needs root");
    let sandbox = on_shared_mounts(Sandbox::new(BULKRUN));
    let maps = [(0, 100_000, 65536)];
    let volume = directory(&sandbox, "volume");
    fs::create_dir_all(volume.join("in")).unwrap();
    let bundle = privileged(sandbox.bundle("c"))
        .script("mount -t tmpfs inner /volume/in && echo mounted")
        .user_namespace(&maps, &maps)
        .owned_by(100_000, 100_000)
        .bind(&volume, "/volume", &[]);
    let output = sandbox.run(&bundle).output().succeeds();
    assert_eq!(between(&output), "mounted", "{output}");
}

#[test]
fn without_pivot_root_the_hosts_files_are_gone_too() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script("ls /; cat /proc/1/comm").readonly();
    let run = |verb: &str| {
        sandbox.runtime().args(["run", verb]).arg("--bundle").arg(bundle.directory()).arg(bundle.id())
    };
    let moved = run("--no-pivot").output().succeeds();
    let pivoted = sandbox.run(&bundle).output().succeeds();
    assert_eq!(moved.stdout, pivoted.stdout, "the container sees the same");
}

#[test]
fn without_pivot_root_no_whole_procfs_is_left_to_mount_another_by() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    // As root the old mounts stay in the table, out of reach; of /proc and /sys none may.
    let bundle =
        sandbox.bundle("c").script("cut -d' ' -f4,5 /proc/self/mountinfo; grep -c ' proc ' /proc/mounts");
    let output = sandbox
        .runtime()
        .args(["run", "--no-pivot", "--bundle"])
        .arg(bundle.directory())
        .arg(bundle.id())
        .output()
        .succeeds();
    let whole = output.stdout.lines().filter(|line| *line == "/ /proc").count();
    assert_eq!(whole, 1, "the container's own\n{output}");
}

#[test]
fn a_bundle_whose_root_is_behind_a_link_works() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script("echo inside");
    fs::rename(bundle.rootfs(), bundle.directory().join("real")).unwrap();
    symlink("real", bundle.rootfs()).unwrap();
    let bundle = bundle.edit(|config| config["linux"]["rootfsPropagation"] = "shared".into());
    sandbox.run(&bundle).output().succeeds().prints("inside\n");
}
