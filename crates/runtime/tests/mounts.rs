//! What the container's mounts are: types, options, propagation, id maps, and where they land.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use bulkhead_testkit::{Bundle, Output, Sandbox, idmap, is_root, requires};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// Prints what the container sees mounted.
const TABLE: &str = "cat /proc/self/mountinfo";

/// One line of the container's mountinfo.
#[derive(Debug, Clone)]
struct Line {
    options: Vec<String>,
    /// `shared:1`, `master:2` and the like.
    propagation: Vec<String>,
    kind: String,
    super_options: Vec<String>,
}

impl Line {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|word| word == option)
    }

    fn kinds_of_propagation(&self) -> Vec<&str> {
        self.propagation.iter().filter_map(|word| word.split(':').next()).collect()
    }
}

/// Finds the topmost mount at a point in a mountinfo file.
#[track_caller]
fn line(output: &Output, point: &str) -> Line {
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    let found = output.stdout.lines().rev().find(|line| line.split(' ').nth(4) == Some(point));
    let Some(line) = found else { panic!("{point} should be a mount\n{output}") };
    let (left, right) = line.split_once(" - ").unwrap();
    let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
    Line {
        options: words(left[5]),
        propagation: left[6..].iter().map(|&word| word.to_owned()).collect(),
        kind: right[0].to_owned(),
        super_options: words(right[2]),
    }
}

#[track_caller]
fn is_mount(output: &Output, point: &str) -> bool {
    output.stdout.lines().any(|line| line.split(' ').nth(4) == Some(point))
}

/// Makes a directory of the host for a test to mount.
fn directory(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.directory().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs the runtime in a mount namespace of its own, after a script with `$D` as the sandbox's directory.
fn prepared(sandbox: Sandbox, script: &str) -> Sandbox {
    let directory = sandbox.directory().to_owned();
    let script = format!("set -e; D={}; {script}\nexec \"$@\"", directory.display());
    sandbox.through(["unshare", "-m", "--propagation", "private", "sh", "-c", script.as_str(), "sh"])
}

/// A machine whose mounts are shared, as systemd makes them, with `$D/tree` as a tmpfs that has one below it.
const SHARED_TREE: &str = "mount --make-rshared /; mkdir -p $D/tree; mount -t tmpfs -o mode=755 tree $D/tree; \
    mkdir $D/tree/sub; mount -t tmpfs -o mode=755 sub $D/tree/sub";

#[test]
fn a_bind_mount_has_every_attribute_that_was_asked_for() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let source = directory(&sandbox, "source");
    let words = ["ro", "nosuid", "nodev", "noexec", "noatime", "relatime", "nodiratime", "nosymfollow"];
    let mut bundle = sandbox.bundle("c").script(TABLE);
    for word in words {
        bundle = bundle.mount("bind", &source, &format!("/m/{word}"), &["bind", word]);
    }
    bundle = bundle.mount("bind", &source, "/m/strictatime", &["bind", "strictatime"]);
    let output = sandbox.run(&bundle).output().succeeds();
    for word in words {
        assert!(line(&output, &format!("/m/{word}")).has(word), "{word} should hold\n{output}");
    }
    let strict = line(&output, "/m/strictatime");
    assert!(!strict.has("relatime") && !strict.has("noatime"), "strictatime is neither\n{output}");
}

#[test]
fn attributes_of_the_source_stay_only_where_no_option_is_given() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(
        Sandbox::new(BULKRUN),
        "mkdir -p $D/tight; mount -t tmpfs tight $D/tight; \
         mount -o remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow $D/tight",
    );
    let source = sandbox.directory().join("tight");
    let clear = ["bind", "rw", "suid", "dev", "exec", "relatime", "symfollow"];
    let bundle = sandbox
        .bundle("c")
        .script(TABLE)
        .mount("bind", &source, "/kept", &["bind", "rprivate"])
        .mount("bind", &source, "/cleared", &clear)
        .mount("bind", &source, "/one", &["bind", "noexec"]);
    let output = sandbox.run(&bundle).output().succeeds();
    let (kept, cleared, one) = (line(&output, "/kept"), line(&output, "/cleared"), line(&output, "/one"));
    for word in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"] {
        assert!(kept.has(word), "{word} should stay\n{output}");
        assert!(!cleared.has(word), "{word} should be cleared\n{output}");
        // As under runc and mount(8): access times stay unless others are chosen.
        let stays = ["noexec", "noatime", "nodiratime"].contains(&word);
        assert_eq!(one.has(word), stays, "{word} beside an option\n{output}");
    }
}

#[test]
fn a_link_is_copied_where_that_is_asked_for() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let (link, file) = (sandbox.directory().join("link"), sandbox.directory().join("file"));
    symlink("/no/where", &link).unwrap();
    fs::write(&file, "a file\n").unwrap();
    let bundle = |name: &str| {
        let bundle = sandbox.bundle(name).script("readlink /a/link; cat /a/file");
        let bundle = bundle.mount("bind", &link, "/a/link", &["rbind", "ro", "copy-symlink"]);
        bundle.mount("bind", &file, "/a/file", &["rbind", "copy-symlink"])
    };
    sandbox.run(&bundle("c")).output().succeeds().prints("/no/where\na file\n");
    let maps = [(0, 100_000, 65536)];
    let mapped = bundle("mapped").user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    sandbox.run(&mapped).output().succeeds().prints("/no/where\na file\n");
    let other = bundle("other").file("a/link", "not a link");
    sandbox.run(&other).output().exits_with(1).complains("copy a link to /a/link");
    let tmpfs = bundle("tmpfs").mount("tmpfs", "tmpfs", "/t", &["copy-symlink"]);
    sandbox.run(&tmpfs).output().exits_with(1).complains("copy-symlink is for bind mounts");
}

#[test]
fn the_root_of_another_mount_namespace_is_bound_and_nothing_else() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bound = |name: &str, source: &str, options: &[&str]| {
        let options = [&["bind", "mount-namespace"], options].concat();
        sandbox.bundle(name).script("ls -A /a").mount("bind", source, "/a", &options)
    };
    sandbox
        .run(&bound("net", "/proc/self/ns/net", &[]))
        .output()
        .exits_with(1)
        .complains("enter another mount namespace");
    sandbox
        .run(&bound("none", "/no/such", &[]))
        .output()
        .exits_with(1)
        .complains("open the mount namespace /no/such");
    for option in ["copy-symlink", "remount"] {
        let refused = sandbox.run(&bound(option, "/proc/self/ns/mnt", &[option])).output().exits_with(1);
        refused.complains("mount-namespace is for bind mounts");
    }
    let tmpfs = sandbox.bundle("tmpfs").mount("tmpfs", "tmpfs", "/t", &["mount-namespace"]);
    sandbox.run(&tmpfs).output().exits_with(1).complains("mount-namespace is for bind mounts");
    // A container without the rights over it does not get it, also where the runtime has them.
    let maps = [(0, 100_000, 65536)];
    let mapped =
        bound("mapped", "/proc/self/ns/mnt", &[]).user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    sandbox.run(&mapped).output().exits_with(1).complains("enter another mount namespace");
}

#[test]
fn a_read_only_bind_mount_leaves_its_submounts_and_the_source_alone() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(Sandbox::new(BULKRUN), SHARED_TREE);
    let bundle = sandbox
        .bundle("c")
        .script("touch /t/file 2>/dev/null || echo tree is closed; touch /t/sub/file && echo sub is open")
        .bind(sandbox.directory().join("tree"), "/t", &["ro"]);
    sandbox.run(&bundle).output().succeeds().prints("tree is closed\nsub is open\n");
}

#[test]
fn a_plain_bind_mount_comes_without_submounts() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(Sandbox::new(BULKRUN), SHARED_TREE);
    let source = sandbox.directory().join("tree");
    let bundle = sandbox
        .bundle("c")
        .script(TABLE)
        .mount("bind", &source, "/one", &["bind"])
        .mount("bind", &source, "/type", &[])
        .mount("none", &source, "/all", &["rbind"]);
    let output = sandbox.run(&bundle).output().succeeds();
    assert!(!is_mount(&output, "/one/sub"), "bind takes one mount\n{output}");
    assert!(!is_mount(&output, "/type/sub"), "the type bind alone takes one mount\n{output}");
    assert!(is_mount(&output, "/all/sub"), "rbind takes all\n{output}");
}

#[test]
fn recursive_attributes_reach_the_submounts() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(Sandbox::new(BULKRUN), SHARED_TREE);
    let source = sandbox.directory().join("tree");
    let words =
        ["rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rnosymfollow", "rrelatime"];
    let mut bundle = sandbox.bundle("c").script(TABLE);
    for word in words {
        bundle = bundle.bind(&source, &format!("/m/{word}"), &[word]);
    }
    bundle = bundle.bind(&source, "/m/rstrictatime", &["rstrictatime"]);
    let output = sandbox.run(&bundle).output().succeeds();
    for word in words {
        for point in [format!("/m/{word}"), format!("/m/{word}/sub")] {
            assert!(line(&output, &point).has(&word[1..]), "{word} should hold at {point}\n{output}");
        }
    }
    let strict = line(&output, "/m/rstrictatime/sub");
    assert!(!strict.has("relatime") && !strict.has("noatime"), "rstrictatime is neither\n{output}");
}

#[test]
fn recursive_attributes_are_cleared_recursively() {
    requires!(is_root(), "needs root");
    let tight = "for m in $D/tree/sub $D/tree; do \
        mount -o remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow $m; done";
    let sandbox = prepared(Sandbox::new(BULKRUN), &format!("{SHARED_TREE}; {tight}"));
    let clear = ["rrw", "rsuid", "rdev", "rexec", "ratime", "rdiratime", "rsymfollow"];
    let bundle = sandbox.bundle("c").script(TABLE).bind(sandbox.directory().join("tree"), "/t", &clear);
    let output = sandbox.run(&bundle).output().succeeds();
    for word in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"] {
        assert!(!line(&output, "/t").has(word), "{word} should be cleared\n{output}");
        assert!(!line(&output, "/t/sub").has(word), "{word} should be cleared below\n{output}");
    }
}

#[test]
fn the_last_of_contradicting_options_holds() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let source = directory(&sandbox, "source");
    let bundle = sandbox
        .bundle("c")
        .script(TABLE)
        .mount("bind", &source, "/rw", &["bind", "ro", "rw"])
        .mount("bind", &source, "/ro", &["bind", "rw", "ro"])
        .mount("tmpfs", "tmpfs", "/atime", &["noatime", "strictatime", "noatime"]);
    let output = sandbox.run(&bundle).output().succeeds();
    assert!(
        line(&output, "/rw").has("rw") && line(&output, "/ro").has("ro"),
        "the last word counts\n{output}"
    );
    assert!(line(&output, "/atime").has("noatime"), "the last word counts\n{output}");
}

#[test]
fn every_propagation_is_set() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(Sandbox::new(BULKRUN), SHARED_TREE);
    let source = sandbox.directory().join("tree");
    let mut bundle = sandbox
        .bundle("c")
        .script(TABLE)
        // With the default, a slave, "shared" means a peer group of its own that still receives.
        .edit(|config| config["linux"]["rootfsPropagation"] = "shared".into());
    let words = ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];
    for word in words {
        bundle = bundle.bind(&source, &format!("/{word}"), &[word]);
    }
    let output = sandbox.run(&bundle).output().succeeds();
    let expected = |word: &str| match word {
        "private" => vec![],
        "shared" => vec!["shared"],
        "slave" => vec!["master"],
        _ => vec!["unbindable"],
    };
    for word in words {
        let bare = if word == "rprivate" || word == "rshared" || word == "rslave" || word == "runbindable" {
            &word[1..]
        } else {
            word
        };
        let top = line(&output, &format!("/{word}"));
        assert_eq!(top.kinds_of_propagation(), expected(bare), "{word}\n{output}");
        let below = line(&output, &format!("/{word}/sub"));
        let inherited = if bare == word { vec!["shared"] } else { expected(bare) };
        assert_eq!(below.kinds_of_propagation(), inherited, "below {word}\n{output}");
    }
}

/// A host that shares `$D/volume`, mounts something in it when the container has, and counts the container's mount.
const HOST_OF_VOLUME: &str = "mount --make-rshared /; mkdir -p $D/volume; mount -t tmpfs volume $D/volume; \
    mkdir $D/volume/in $D/volume/out; ( \"$@\"; touch $D/volume/ended ) & \
    until [ -e $D/volume/ready ] || [ -e $D/volume/ended ]; do sleep 0.02; done; \
    grep -c \"$D/volume/in \" /proc/self/mountinfo || true; \
    mount -t tmpfs late $D/volume/out; touch $D/volume/go; wait; exit 0;";

/// A container that mounts something in `/volume`, and then counts the host's mount.
fn user_of_volume(sandbox: &Sandbox, option: &str) -> Bundle {
    sandbox
        .bundle("c")
        .script(
            "mount -t tmpfs inner /volume/in && touch /volume/ready; \
             n=0; until [ -e /volume/go ] || [ $n -gt 1500 ]; do sleep 0.02; n=$((n+1)); done; \
             grep -c ' /volume/out ' /proc/self/mountinfo",
        )
        .bind(sandbox.directory().join("volume"), "/volume", &[option])
        .edit(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_SYS_ADMIN".into());
            }
        })
}

#[test]
fn a_shared_volume_carries_mounts_both_ways() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(Sandbox::new(BULKRUN), HOST_OF_VOLUME);
    let bundle = user_of_volume(&sandbox, "rshared")
        .edit(|config| config["linux"]["rootfsPropagation"] = "shared".into());
    sandbox.run(&bundle).output().succeeds().prints("1\n1\n");
}

#[test]
fn a_slave_volume_receives_the_hosts_mounts_and_sends_none() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(Sandbox::new(BULKRUN), HOST_OF_VOLUME);
    let bundle = user_of_volume(&sandbox, "rslave");
    sandbox.run(&bundle).output().succeeds().prints("0\n1\n");
}

#[test]
fn a_private_volume_carries_none() {
    requires!(is_root(), "needs root");
    let sandbox = prepared(Sandbox::new(BULKRUN), HOST_OF_VOLUME);
    let bundle = user_of_volume(&sandbox, "rprivate");
    sandbox.run(&bundle).output().prints("0\n0\n");
}

/// Makes a file for each of two owners and returns the directory.
fn owned_files(path: &Path) {
    fs::create_dir_all(path).unwrap();
    for owner in [1000, 1001] {
        let file = path.join(owner.to_string());
        fs::write(&file, "").unwrap();
        chown(&file, Some(owner), Some(owner)).unwrap();
    }
}

/// Adds maps of their own to the last mount.
fn mapped(bundle: Bundle, container: u32, host: u32, size: u32) -> Bundle {
    let map = json!([{ "containerID": container, "hostID": host, "size": size }]);
    bundle.edit(|config| {
        let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
    })
}

/// Why tests skip themselves: the kernel says so, not the runtime.
const NO_IDMAP: &str = "needs a file system of the temporary directory that can be idmapped";

const OWNERS: &str = "stat -c '%n %u:%g' /m/*";

#[test]
fn an_idmapped_mount_shows_other_owners_and_writes_them_back() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NO_IDMAP}");
    let source = sandbox.directory().join("owned");
    owned_files(&source);
    let bundle = sandbox.bundle("c").script(&format!("touch /m/new && {OWNERS}")).mount(
        "bind",
        &source,
        "/m",
        &["bind", "idmap"],
    );
    // On disk 1000, in the mount 0. The directory itself is root's and has no counterpart there.
    chown(&source, Some(1000), Some(1000)).unwrap();
    let bundle = mapped(bundle, 1000, 0, 2);
    let output = sandbox.run(&bundle).output();
    output.succeeds().prints("/m/1000 0:0\n/m/1001 1:1\n/m/new 0:0\n");
    assert_eq!(fs::metadata(source.join("new")).unwrap().uid(), 1000, "root's files are 1000's on disk");
}

#[test]
fn mappings_alone_make_an_idmapped_mount_of_a_tmpfs() {
    requires!(is_root() && idmap::is_possible_for_tmpfs(), "needs root, and a kernel that can idmap tmpfs");
    let sandbox = prepared(
        Sandbox::new(BULKRUN),
        "mkdir -p $D/tmpfs; mount -t tmpfs tmpfs $D/tmpfs; touch $D/tmpfs/file; chown 5:6 $D/tmpfs/file",
    );
    let bundle =
        sandbox.bundle("c").script(OWNERS).mount("bind", sandbox.directory().join("tmpfs"), "/m", &["bind"]);
    let output = sandbox.run(&mapped(bundle, 0, 100, 10)).output();
    output.succeeds().prints("/m/file 105:106\n");
}

#[test]
fn ridmap_reaches_submounts_and_idmap_does_not() {
    requires!(is_root() && idmap::is_possible_for_tmpfs(), "needs root, and a kernel that can idmap tmpfs");
    let files = "touch $D/tree/file $D/tree/sub/file";
    let sandbox = prepared(Sandbox::new(BULKRUN), &format!("{SHARED_TREE}; {files}"));
    let source = sandbox.directory().join("tree");
    for (word, below) in [("idmap", "0"), ("ridmap", "100")] {
        let bundle = sandbox.bundle(word).script("stat -c '%u' /m/file /m/sub/file").mount(
            "bind",
            &source,
            "/m",
            &["rbind", word],
        );
        let output = sandbox.run(&mapped(bundle, 0, 100, 10)).output();
        output.succeeds().prints(&format!("100\n{below}\n"));
    }
}

#[test]
fn idmap_without_mappings_takes_those_of_the_containers_user_namespace() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(idmap::is_possible_at(sandbox.directory()), "{NO_IDMAP}");
    let source = sandbox.directory().join("owned");
    owned_files(&source);
    let maps = [(0, 100_000, 65536)];
    let bundle = sandbox
        .bundle("c")
        .script(OWNERS)
        .user_namespace(&maps, &maps)
        .owned_by(100_000, 100_000)
        .mount("bind", &source, "/m", &["bind", "idmap"]);
    let output = sandbox.run(&bundle).output();
    // On disk 1000 becomes 101000 on the host, which is 1000 in the container.
    output.succeeds().prints("/m/1000 1000:1000\n/m/1001 1001:1001\n");
}

#[test]
fn idmaps_that_make_no_sense_are_refused_with_their_place() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let source = directory(&sandbox, "source");
    let bundle = sandbox.bundle("none").mount("bind", &source, "/m", &["idmap"]);
    let at = bundle.config()["mounts"].as_array().unwrap().len() - 1;
    sandbox.run(&bundle).output().exits_with(1).complains(&format!("/mounts/{at}/options: idmap without"));
    let bundle = mapped(sandbox.bundle("empty").mount("bind", &source, "/m", &["bind"]), 0, 0, 0);
    sandbox.run(&bundle).output().exits_with(1).complains(&format!("/mounts/{at}/uidMappings/0/size"));
    let bundle = mapped(sandbox.bundle("new").mount("tmpfs", "tmpfs", "/m", &[]), 0, 0, 1);
    sandbox.run(&bundle).output().exits_with(1).complains("only a bind mount can map ids");
}

#[test]
fn tmpcopyup_fills_a_tmpfs_with_what_it_hides() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").file("/data/deep/file", "content").file("/data/set", "");
    let data = bundle.rootfs().join("data");
    symlink("deep/file", data.join("link")).unwrap();
    chown(data.join("set"), Some(7), Some(8)).unwrap();
    fs::set_permissions(data.join("set"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(data.join("deep"), fs::Permissions::from_mode(0o700)).unwrap();
    let bundle = bundle
        .script(
            "cd /data; cat deep/file; echo; readlink link; stat -c '%a %u:%g' set deep; \
             echo changed > deep/file; grep ' /data ' /proc/self/mountinfo | grep -o tmpfs | head -n1",
        )
        .mount("tmpfs", "tmpfs", "/data", &["tmpcopyup", "nosuid"]);
    sandbox.run(&bundle).output().succeeds().prints("content\ndeep/file\n4751 7:8\n700 0:0\ntmpfs\n");
    assert_eq!(fs::read(data.join("deep/file")).unwrap(), b"content", "the image stays as it was");
}

#[test]
fn tmpcopyup_works_read_only_too() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .file("/data/file", "content")
        .script("cat /data/file; touch /data/new 2>/dev/null || echo; echo closed")
        .mount("tmpfs", "tmpfs", "/data", &["tmpcopyup", "ro"]);
    sandbox.run(&bundle).output().succeeds().prints("content\nclosed\n");
}

#[test]
fn a_tmpfs_takes_the_mode_of_what_it_hides() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .script("stat -c '%n %a' /tmp /root /new /run")
        .mount("tmpfs", "tmpfs", "/tmp", &[])
        .mount("tmpfs", "tmpfs", "/root", &[])
        .mount("tmpfs", "tmpfs", "/new", &[])
        .mount("tmpfs", "tmpfs", "/run", &["mode=711"]);
    sandbox.run(&bundle).output().succeeds().prints("/tmp 1777\n/root 700\n/new 1777\n/run 711\n");
}

#[test]
fn a_remount_changes_attributes_and_options() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let source = directory(&sandbox, "source");
    let bundle = sandbox
        .bundle("c")
        .script(TABLE)
        .mount("bind", &source, "/bound", &["bind"])
        .mount("none", "none", "/bound", &["remount", "bind", "ro", "noexec"])
        .mount("tmpfs", "tmpfs", "/tmpfs", &["size=64k"])
        .mount("tmpfs", "tmpfs", "/tmpfs", &["remount", "size=128k", "nodev"]);
    let output = sandbox.run(&bundle).output().succeeds();
    let bound = line(&output, "/bound");
    assert!(bound.has("ro") && bound.has("noexec"), "the bind mount is remounted\n{output}");
    let tmpfs = line(&output, "/tmpfs");
    assert!(tmpfs.has("nodev"), "the attribute is set\n{output}");
    assert!(tmpfs.super_options.iter().any(|word| word == "size=128k"), "the size is changed\n{output}");
}

#[test]
fn a_remount_that_chooses_no_access_times_keeps_them() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let rows = [
        ("norelatime", "noatime", true),
        ("nostrictatime", "noatime", true),
        ("ro", "noatime", true),
        ("relatime", "noatime", false),
        ("atime", "strictatime", true),
    ];
    let bundle = rows.iter().fold(sandbox.bundle("c").script(TABLE), |bundle, (word, before, _)| {
        let point = format!("/{word}");
        let bundle = bundle.mount("tmpfs", "tmpfs", &point, &[before]);
        bundle.mount("none", "none", &point, &["remount", "bind", word])
    });
    let output = sandbox.run(&bundle).output().succeeds();
    for (word, before, stays) in rows {
        let found = line(&output, &format!("/{word}"));
        // strictatime is what is shown by no word.
        let is_there = if before == "strictatime" { !found.has("relatime") } else { found.has(before) };
        assert_eq!(is_there, stays, "{before} stays under {word}\n{output}");
    }
}

#[test]
fn a_remount_takes_back_flags_of_the_file_system() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .script(TABLE)
        .mount("tmpfs", "tmpfs", "/t", &["sync", "dirsync", "lazytime"])
        .mount("tmpfs", "tmpfs", "/t", &["remount", "async", "nolazytime"]);
    let output = sandbox.run(&bundle).output().succeeds();
    let options = line(&output, "/t").super_options;
    assert!(options.contains(&"dirsync".to_owned()), "what was not named stays\n{output}");
    assert!(!options.contains(&"sync".to_owned()), "async takes sync back\n{output}");
    assert!(!options.contains(&"lazytime".to_owned()), "nolazytime takes lazytime back\n{output}");
}

#[test]
fn the_propagation_of_the_cgroup_mount_is_set() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script(TABLE).edit(|config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(["ro", "runbindable"]);
            }
        }
    });
    let output = sandbox.run(&bundle).output().succeeds();
    let points = output.stdout.lines().filter_map(|line| line.split(' ').nth(4));
    let points: Vec<&str> = points.filter(|point| point.starts_with("/sys/fs/cgroup")).collect();
    assert!(!points.is_empty(), "the control groups are mounted\n{output}");
    for point in points {
        assert_eq!(line(&output, point).propagation, ["unbindable"], "{point}\n{output}");
    }
}

#[test]
fn a_remount_of_nothing_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").mount("none", "none", "/not/there", &["remount", "ro"]);
    sandbox.run(&bundle).output().exits_with(1).complains("/not/there");
    assert!(!bundle.rootfs().join("not").exists(), "nothing is made");
}

#[test]
fn relative_paths_start_at_the_bundle_and_the_root() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script("cat /here/file");
    fs::create_dir(bundle.directory().join("data")).unwrap();
    fs::write(bundle.directory().join("data/file"), "found\n").unwrap();
    let bundle = bundle.mount("bind", "data", "here", &["bind"]);
    sandbox.run(&bundle).output().succeeds().prints("found\n");
}

#[test]
fn missing_mount_points_are_made() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let (source, file) = (directory(&sandbox, "source"), sandbox.directory().join("file"));
    fs::write(&file, "content\n").unwrap();
    let bundle = sandbox
        .bundle("c")
        .script("cat /a/b/file; stat -c '%F %a' /x /x/y")
        .mount("bind", &file, "/a/b/file", &["bind"])
        .mount("bind", &source, "/x/y/z", &["bind"]);
    sandbox.run(&bundle).output().succeeds().prints("content\ndirectory 755\ndirectory 755\n");
    assert!(bundle.rootfs().join("a/b/file").is_file(), "the mount point of a file is a file");
}

#[test]
fn links_on_the_way_are_followed_inside_the_root() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let file = sandbox.directory().join("file");
    fs::write(&file, "mine\n").unwrap();
    let bundle = sandbox.bundle("c").script("cat /etc/resolv.conf /run/resolve/stub.conf /var/data/f");
    symlink("../run/resolve/stub.conf", bundle.rootfs().join("etc/resolv.conf")).unwrap();
    symlink("/../../var/data", bundle.rootfs().join("data")).unwrap();
    let bundle =
        bundle.mount("bind", &file, "/etc/resolv.conf", &["bind"]).mount("bind", &file, "/data/f", &["bind"]);
    sandbox.run(&bundle).output().succeeds().prints("mine\nmine\nmine\n");
}

#[test]
fn a_mount_lies_on_the_mounts_before_it() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let source = directory(&sandbox, "source");
    fs::write(source.join("file"), "inside\n").unwrap();
    let bundle = sandbox
        .bundle("c")
        .script("cat /t/deep/file; touch /t/x 2>/dev/null || echo closed")
        .mount("tmpfs", "tmpfs", "/t", &["ro"])
        .mount("bind", &source, "/t/deep", &["bind"]);
    sandbox.run(&bundle).output().succeeds().prints("inside\nclosed\n");
    assert!(!bundle.rootfs().join("t/deep").exists(), "the mount point is in the tmpfs");
}

#[test]
fn an_overlay_is_mounted_whose_options_are_longer_than_fsconfig_takes() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let long = "l".repeat(200);
    let mut lower = Vec::new();
    for number in 0..3 {
        let layer = directory(&sandbox, &format!("{long}{number}"));
        fs::write(layer.join(format!("from{number}")), "").unwrap();
        lower.push(layer.display().to_string());
    }
    let (upper, work) = (directory(&sandbox, "upper"), directory(&sandbox, "work"));
    let lower = format!("lowerdir={}", lower.join(":"));
    let upper_option = format!("upperdir={}", upper.display());
    let work = format!("workdir={}", work.display());
    let bundle = sandbox
        .bundle("c")
        .script("ls /o; touch /o/new; grep ' /o ' /proc/self/mountinfo | cut -d' ' -f6")
        .mount("overlay", "overlay", "/o", &[&lower, &upper_option, &work, "nosuid", "nodev", "noatime"]);
    sandbox.run(&bundle).output().succeeds().prints("from0\nfrom1\nfrom2\nrw,nosuid,nodev,noatime\n");
    assert!(upper.join("new").exists(), "what is written goes to the upper layer");
}

#[test]
fn a_short_overlay_is_mounted_read_only() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    for name in ["a", "b"] {
        fs::write(directory(&sandbox, name).join(name), "").unwrap();
    }
    let lower = format!("lowerdir={0}/a:{0}/b", sandbox.directory().display());
    let bundle = sandbox.bundle("c").script("ls /o; touch /o/new 2>/dev/null || echo closed").mount(
        "overlay",
        "overlay",
        "/o",
        &[&lower, "ro"],
    );
    sandbox.run(&bundle).output().succeeds().prints("a\nb\nclosed\n");
}

#[test]
fn file_system_flags_reach_the_superblock() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script(TABLE).mount(
        "tmpfs",
        "shown",
        "/t",
        &["sync", "dirsync", "lazytime", "defaults", "async"],
    );
    let output = sandbox.run(&bundle).output().succeeds();
    let tmpfs = line(&output, "/t");
    assert_eq!(tmpfs.kind, "tmpfs");
    assert!(output.stdout.contains(" - tmpfs shown "), "the source is shown\n{output}");
    assert!(tmpfs.super_options.iter().any(|word| word == "lazytime"), "lazytime is set\n{output}");
}

#[test]
fn the_kernels_own_file_systems_are_fresh() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").script(TABLE);
    let output = sandbox.run(&bundle).output().succeeds();
    for (point, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/sys", "sysfs"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/shm", "tmpfs"),
    ] {
        assert_eq!(line(&output, point).kind, kind, "{point}\n{output}");
    }
    let pts = line(&output, "/dev/pts");
    assert!(pts.super_options.iter().any(|word| word == "gid=5"), "options reach devpts\n{output}");
    assert!(line(&output, "/sys").has("ro"), "/sys is read-only\n{output}");
}

#[test]
fn a_mount_that_cannot_be_is_one_sentence_and_leaves_nothing() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let refusals: [(&str, &str, &str, &[&str], &str); 5] = [
        ("nofs", "/x", "nofs", &[], "mount nofs at /x"),
        ("tmpfs", "/x", "tmpfs", &["flavour=mint"], "flavour"),
        ("bind", "/x", "/not/there", &["bind"], "bind /not/there"),
        ("tmpfs", "/", "tmpfs", &[], "nothing can be mounted over the container's root"),
        ("proc", "/etc/passwd", "proc", &[], "/etc/passwd"),
    ];
    for (number, (kind, destination, source, options, complaint)) in refusals.into_iter().enumerate() {
        let bundle = sandbox.bundle(&format!("c{number}")).mount(kind, source, destination, options);
        sandbox.run(&bundle).output().exits_with(1).complains(complaint);
    }
}

#[test]
fn a_source_in_the_container_is_what_earlier_mounts_have_made_there() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let source = directory(&sandbox, "source");
    fs::write(source.join("file"), "from the host\n").unwrap();
    let bundle = sandbox.bundle("inside").args(["cat", "/second/file"]);
    let root = bundle.rootfs();
    // A link that would leave the root stays in it.
    symlink("/first", root.join("link")).unwrap();
    let second = root.join("second").display().to_string();
    let bundle = bundle.bind(&source, "/first", &["rbind"]).bind(root.join("link"), &second, &["rbind"]);
    sandbox.run(&bundle).output().succeeds().prints("from the host\n");
    let bundle =
        bundle.user_namespace(&[(0, 100_000, 1000)], &[(0, 100_000, 1000)]).owned_by(100_000, 100_000);
    sandbox.run(&bundle).output().succeeds().prints("from the host\n");
}
