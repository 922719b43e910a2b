//! Files whose owners a container sees through a map: layers of its root, and mounts of a joined user namespace.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use bulkhead_testkit::{Bundle, Sandbox, idmap, is_root, mounts, requires};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");
const OVERLAY: &str = "org.bulkhead.rootfs.overlay";

/// The first ids on the host of two containers that share layers.
const FIRSTS: [u32; 2] = [100_000, 300_000];

fn directory(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.directory().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Makes two layers out of a bundle's root, with files of several owners.
fn layers(sandbox: &Sandbox) -> Vec<PathBuf> {
    let image = sandbox.directory().join("image");
    fs::rename(sandbox.bundle("image").rootfs(), &image).unwrap();
    let top = directory(sandbox, "top, with: odd\\characters");
    for (name, owner) in [("root", 0), ("user", 1000)] {
        fs::write(top.join(name), name).unwrap();
        chown(top.join(name), Some(owner), Some(owner)).unwrap();
    }
    vec![top, image]
}

/// Lets the root be an overlay of mapped layers.
fn over(bundle: Bundle, lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> Bundle {
    let mut value = json!({ "lower": lower, "idmap": true });
    if let Some((upper, work)) = upper {
        value["upper"] = json!(upper);
        value["work"] = json!(work);
    }
    bundle.annotation(OVERLAY, &value.to_string())
}

fn in_user_namespace(bundle: Bundle, first: u32) -> Bundle {
    let maps = [(0, first, 65536)];
    bundle.user_namespace(&maps, &maps)
}

/// Why these tests skip themselves: the kernel says so, not the runtime.
const NEEDED: &str = "needs a file system of the temporary directory that can be idmapped";

/// Shows owners, then changes what belongs to root.
const SCRIPT: &str = "stat -c '%n %u:%g' /root-file /user /etc; echo more >> /etc/group && tail -n1 /etc/group; \
                      echo own > /new; stat -c %u /new";

#[test]
fn containers_with_different_maps_share_layers() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NEEDED}");
    let lower = layers(&sandbox);
    fs::rename(lower[0].join("root"), lower[0].join("root-file")).unwrap();
    for first in FIRSTS {
        let (upper, work) =
            (directory(&sandbox, &format!("upper{first}")), directory(&sandbox, &format!("work{first}")));
        let bundle = in_user_namespace(sandbox.bundle(&first.to_string()), first).script(SCRIPT);
        let output = sandbox.run(&over(bundle, &lower, Some((&upper, &work)))).output();
        output.succeeds().prints("/root-file 0:0\n/user 1000:1000\n/etc 0:0\nmore\n0\n");
        assert_eq!(
            fs::metadata(upper.join("new")).unwrap().uid(),
            0,
            "what it makes is on disk as it is inside"
        );
        assert_eq!(fs::metadata(upper.join("etc/group")).unwrap().uid(), 0, "and what it changes");
    }
    let group = lower[1].join("etc/group");
    assert_eq!(fs::metadata(&group).unwrap().uid(), 0, "the layer belongs to whom it did");
    assert!(!fs::read_to_string(group).unwrap().contains("more"), "the layer is as it was");
    let own = mounts::own();
    let leaked = own.iter().find(|mount| mount.point.starts_with(sandbox.directory()));
    assert_eq!(leaked, None, "the host has no mount of it");
}

#[test]
fn what_one_container_writes_belongs_to_the_same_users_of_the_next() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NEEDED}");
    let lower = layers(&sandbox);
    let (upper, work) = (directory(&sandbox, "above/upper"), directory(&sandbox, "above/work"));
    let over_both = |bundle: Bundle| over(bundle, &lower, Some((&upper, &work)));
    let script = "echo mine > /own; chown 1000:33 /own; chmod 640 /own; rm /user; mkdir /dir; ln -s own /link; \
                  chown -h 7:8 /link; chown 9:9 /etc/group; mkdir /tmp/moved; mv /tmp/moved /dir/; id -u";
    let bundle = in_user_namespace(sandbox.bundle("first"), FIRSTS[0]).script(script);
    sandbox.run(&over_both(bundle)).output().succeeds().prints("0\n");
    let owner = |name: &str| {
        let metadata = fs::symlink_metadata(upper.join(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    let on_disk = ["own", "link", "dir", "dir/moved", "etc", "etc/group", "user"].map(owner);
    assert_eq!(on_disk, [(1000, 33), (7, 8), (0, 0), (0, 0), (0, 0), (9, 9), (0, 0)], "a whiteout is root's");
    let script = "stat -c '%n %u:%g' /own /link /dir/moved /etc/group; ls /user 2>/dev/null; \
                  echo more >> /own && cat /own";
    let bundle = in_user_namespace(sandbox.bundle("second"), FIRSTS[1]).script(script);
    let output = sandbox.run(&over_both(bundle)).output().succeeds();
    output.prints("/own 1000:33\n/link 7:8\n/dir/moved 0:0\n/etc/group 9:9\nmine\nmore\n");
    let bundle = sandbox.bundle("host").script("stat -c %u:%g /own /link; cat /own");
    let value = json!({ "lower": lower, "upper": upper, "work": work });
    let output = sandbox.run(&bundle.annotation(OVERLAY, &value.to_string())).output();
    output.succeeds().prints("1000:33\n7:8\nmine\nmore\n");
}

#[test]
fn a_writable_layer_that_leads_elsewhere_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NEEDED}");
    let lower = layers(&sandbox);
    let (elsewhere, work) = (directory(&sandbox, "elsewhere"), directory(&sandbox, "above/work"));
    let upper = work.with_file_name("upper");
    std::os::unix::fs::symlink(&elsewhere, &upper).unwrap();
    let bundle = in_user_namespace(sandbox.bundle("link"), FIRSTS[0]).args(["true"]);
    let output = sandbox.run(&over(bundle, &lower, Some((&upper, &work)))).output().exits_with(1);
    output.complains("above/upper in its own directory");
    let bundle = in_user_namespace(sandbox.bundle("apart"), FIRSTS[0]).args(["true"]);
    let output = sandbox.run(&over(bundle, &lower, Some((&elsewhere, &work)))).output().exits_with(1);
    output.complains("they lie in one directory");
}

#[test]
fn mapped_layers_may_be_all_that_a_root_has() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NEEDED}");
    let lower = layers(&sandbox);
    let bundle = in_user_namespace(sandbox.bundle("closed"), FIRSTS[0]);
    let bundle = bundle.script("stat -c %u /user /etc; echo x > /new || echo closed");
    let output = sandbox.run(&over(bundle, &lower, None)).output();
    output.succeeds().prints("1000\n0\nclosed\n");
}

/// Starts a container with a user namespace, which others can join.
fn host_of_namespace(sandbox: &Sandbox) -> PathBuf {
    let bundle = in_user_namespace(sandbox.bundle("holder"), FIRSTS[1]);
    let bundle = bundle.owned_by(FIRSTS[1], FIRSTS[1]).args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    format!("/proc/{}/ns/user", sandbox.pid(&bundle)).into()
}

#[test]
fn a_user_namespace_that_is_joined_maps_layers_and_mounts() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NEEDED}");
    let lower = layers(&sandbox);
    let namespace = host_of_namespace(&sandbox);
    let bundle = sandbox.bundle("joins").namespace_at("user", namespace);
    let bundle = bundle.mount("bind", &lower[0], "/tmp", &["bind", "idmap"]);
    let bundle = bundle
        .script("grep -o 300000 /proc/self/uid_map; stat -c %u /user /tmp/user /tmp/root /etc; echo > /new");
    let (upper, work) = (directory(&sandbox, "above/upper"), directory(&sandbox, "above/work"));
    let output = sandbox.run(&over(bundle, &lower, Some((&upper, &work)))).output();
    output.succeeds().prints("300000\n1000\n1000\n0\n0\n");
    assert_eq!(fs::metadata(upper.join("new")).unwrap().uid(), 0, "what it makes is on disk as it is inside");
}

#[test]
fn a_layer_that_cannot_be_mapped_is_named() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    // procfs has no owners to map.
    let bundle = in_user_namespace(sandbox.bundle("proc"), FIRSTS[0]).args(["true"]);
    let output = sandbox.run(&over(bundle, &["/proc/sys".into()], None)).output().exits_with(1);
    output.complains("map the ids of /proc/sys: its file system cannot");
    let bundle = in_user_namespace(sandbox.bundle("missing"), FIRSTS[0]).args(["true"]);
    let output = sandbox.run(&over(bundle, &["/not/there".into()], None)).output().exits_with(1);
    let output = output.complains("/not/there").complains("no such file or directory");
    assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
    // Two that the kernel does not join, which the process in between has to say.
    requires!(idmap::is_possible_at(sandbox.directory()), "{NEEDED}");
    let lower = layers(&sandbox);
    let bundle = in_user_namespace(sandbox.bundle("work"), FIRSTS[0]).args(["true"]);
    let upper = directory(&sandbox, "above/upper");
    let output = sandbox.run(&over(bundle, &lower, Some((&upper, &upper)))).output();
    let output = output.exits_with(1).complains("overlay");
    assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
}

#[test]
fn layers_are_mapped_only_for_a_user_namespace_and_by_root() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = over(sandbox.bundle("none").args(["true"]), &["/usr".into()], None);
    let place = format!("config.json: /annotations/{OVERLAY}: ");
    let output = sandbox.run(&bundle).output().exits_with(1);
    output.complains(&place).complains("the container's user namespace, which has none");
    let sandbox = Sandbox::new(BULKRUN).as_user(1000, 1000);
    let bundle = over(sandbox.bundle("user").args(["true"]), &["/usr".into()], None);
    sandbox.run(&bundle).output().exits_with(1).complains(&place).complains("the host's root");
}

#[test]
fn a_mount_that_root_alone_can_reach_is_mapped_too() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NEEDED}");
    let closed = directory(&sandbox, "closed");
    let source = directory(&sandbox, "closed/source");
    fs::write(source.join("file"), "").unwrap();
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let bundle = in_user_namespace(sandbox.bundle("c"), FIRSTS[0]).owned_by(FIRSTS[0], FIRSTS[0]);
    let bundle = bundle.mount("bind", &source, "/m", &["rbind", "ridmap"]);
    let output = sandbox.run(&bundle.script("stat -c %u /m/file; echo x > /m/file && cat /m/file")).output();
    output.succeeds().prints("0\nx\n");
    assert_eq!(fs::metadata(source.join("file")).unwrap().uid(), 0, "on disk it is root's");
}
