//! Containers on a kernel 5.10, of which a filter plays the calls and flags that are missing.
//!
//! What mount_setattr(2) does on a new kernel mount(2) must do there, so the mounts of the same bundle are compared. A
//! guest with a real 5.10 runs the core of the tests, as a part of `cargo xtask vm test --all`.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bulkhead_testkit::faults::linux_5_10;
use bulkhead_testkit::{Bundle, Sandbox, fresh, is_root, kernel, requires};

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// An ordinary user that no host has.
const USER: u32 = 54_321;

/// The container's ids in a user namespace are the host's from here on.
const FIRST: u32 = 100_000;

/// A machine whose mounts are shared, with `$D/tree` as a tmpfs that has two below it, one of which is hidden.
const SHARED_TREE: &str = "mount --make-rshared /; mkdir -p $D/tree; mount -t tmpfs -o mode=755 tree $D/tree; \
    mkdir -p $D/tree/sub; mount -t tmpfs -o mode=755 sub $D/tree/sub; \
    mkdir $D/tree/sub/deep; mount -t tmpfs -o mode=755,noexec deep $D/tree/sub/deep; \
    mkdir \"$D/tree/odd \\\\name\"; mount -t tmpfs -o mode=755,nosuid odd \"$D/tree/odd \\\\name\"; \
    mount -t tmpfs -o mode=755 hiding $D/tree/sub/deep; echo tight > $D/tree/file";

/// The machine on which a sandbox runs its containers.
#[derive(Clone, Copy)]
enum Machine {
    /// As it is.
    New,
    /// As with a kernel 5.10.
    Old,
}

fn on(machine: Machine, sandbox: Sandbox) -> Sandbox {
    match machine {
        Machine::New => sandbox,
        Machine::Old => sandbox.without_calls(&linux_5_10()),
    }
}

/// Runs the runtime in a mount namespace of its own, after a script with `$D` as the sandbox's directory.
fn prepared(sandbox: Sandbox, script: &str) -> Sandbox {
    let directory = sandbox.directory().to_owned();
    let script = format!("set -e; D={}; {script}\nexec \"$@\"", directory.display());
    sandbox.through(["unshare", "-m", "--propagation", "private", "sh", "-c", script.as_str(), "sh"])
}

/// What a mountinfo file says of each mount that can be seen, but for numbers that differ from one container to the next.
///
/// What is hidden under another mount keeps its attributes on an old kernel; whoever could lay it bare could change them.
fn summary(table: &str, directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ").unwrap();
        let left: Vec<&str> = left.split(' ').collect();
        let propagation: Vec<&str> = left[6..].iter().filter_map(|word| word.split(':').next()).collect();
        let kind = right.split(' ').next().unwrap();
        let rest = format!("{} {} {kind}", left[5], propagation.join(",")).replace(directory, "$D");
        (left[4].to_owned(), rest)
    };
    // Of two at the same place the later one is on top.
    let topmost: BTreeMap<_, _> = table.lines().map(line).collect();
    topmost.into_iter().map(|(point, rest)| format!("{point} {rest}")).collect()
}

/// Runs a container on both machines and compares what it sees mounted; returns that.
#[track_caller]
fn same_mounts(
    sandbox: impl Fn() -> Sandbox,
    script: &str,
    bundle: impl Fn(&Sandbox) -> Bundle,
) -> Vec<String> {
    let [new, old] = [Machine::New, Machine::Old].map(|machine| {
        let mut sandbox = on(machine, sandbox());
        if !script.is_empty() {
            sandbox = prepared(sandbox, script);
        }
        let bundle = bundle(&sandbox).script("cat /proc/self/mountinfo");
        let output = sandbox.run(&bundle).output().succeeds();
        summary(&output.stdout, sandbox.directory())
    });
    assert_eq!(old, new, "a container on an old kernel has the mounts that it has on a new one");
    new
}

fn root() -> Sandbox {
    Sandbox::new(BULKRUN)
}

fn mapped(bundle: Bundle) -> Bundle {
    let maps = [(0, FIRST, 65536)];
    bundle.user_namespace(&maps, &maps).owned_by(FIRST, FIRST)
}

#[test]
fn the_filter_plays_a_kernel_without_the_calls() {
    requires!(is_root(), "needs root");
    let sandbox = on(Machine::Old, root());
    let source = sandbox.directory().join("source");
    fs::create_dir(&source).unwrap();
    let bundle = sandbox.bundle("c").edit(|config| {
        config["mounts"].as_array_mut().unwrap().push(serde_json::json!({
            "destination": "/m", "type": "bind", "source": source, "options": ["bind"],
            "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }],
            "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }],
        }));
    });
    // The one thing for which nothing can stand in.
    sandbox.run(&bundle).output().exits_with(1).complains("that takes Linux 5.12");
}

#[test]
fn a_docker_like_container_has_the_same_mounts() {
    requires!(is_root(), "needs root");
    let mounts = same_mounts(root, "", |sandbox| sandbox.bundle("c").readonly());
    assert!(mounts.iter().any(|line| line.starts_with("/proc/sys ro,")), "{mounts:?}");
}

#[test]
fn a_whole_life_with_exec() {
    requires!(is_root(), "needs root");
    let sandbox = on(Machine::Old, root());
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]);
    sandbox.create(&bundle);
    assert_eq!(sandbox.status(&bundle), "created");
    sandbox.start(&bundle);
    let script =
        "touch /proc/sys/kernel/x 2>/dev/null || echo closed; wc -c < /proc/keys; id -u; echo > /dev/null";
    sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds().prints("closed\n0\n0\n");
    sandbox.runtime().arg("pause").arg(bundle.id()).output().succeeds();
    assert_eq!(sandbox.status(&bundle), "paused");
    sandbox.runtime().arg("resume").arg(bundle.id()).output().succeeds();
    let pid = sandbox.pid(&bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
}

#[test]
fn every_option_of_a_bind_mount() {
    requires!(is_root(), "needs root");
    let words = [
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "relatime",
        "nodiratime",
        "nosymfollow",
        "strictatime",
    ];
    let propagation = ["rprivate", "rshared", "rslave", "private", "shared", "slave", "unbindable"];
    let mounts = same_mounts(root, SHARED_TREE, |sandbox| {
        let source = sandbox.directory().join("tree");
        let file = source.join("file");
        let mut bundle = sandbox.bundle("c");
        for word in words.into_iter().chain(propagation) {
            bundle = bundle
                .bind(&source, &format!("/m/{word}"), &[word])
                .bind(&source, &format!("/m/r{word}"), &[&format!("r{word}")])
                .mount("bind", &file, &format!("/f/{word}"), &["bind", word]);
        }
        bundle.bind(
            &source,
            "/all",
            &["rro", "rnosuid", "rnoexec", "rnodev", "rnoatime", "nodiratime", "rslave"],
        )
    });
    for point in ["/m/rro", "/m/rro/sub", "/m/rro/sub/deep", "/m/rro/odd\\040\\134name", "/f/ro"] {
        assert!(mounts.iter().any(|line| line.starts_with(&format!("{point} ro,"))), "{point}: {mounts:#?}");
    }
}

#[test]
fn attributes_of_the_source_are_kept_and_cleared() {
    requires!(is_root(), "needs root");
    let tight = format!(
        "{SHARED_TREE}; for m in $D/tree/sub $D/tree; do \
         mount -o remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow $m; done"
    );
    same_mounts(root, &tight, |sandbox| {
        let source = sandbox.directory().join("tree");
        let clear = ["rw", "suid", "dev", "exec", "relatime", "symfollow"];
        let clear_all = ["rrw", "rsuid", "rdev", "rexec", "ratime", "rdiratime", "rsymfollow"];
        sandbox
            .bundle("c")
            .bind(&source, "/kept", &[])
            .bind(&source, "/more", &["noatime"])
            .bind(&source, "/cleared", &clear)
            .bind(&source, "/all", &clear_all)
    });
}

#[test]
fn new_file_systems_have_their_options() {
    requires!(is_root(), "needs root");
    let mounts = same_mounts(root, "", |sandbox| {
        sandbox
            .bundle("c")
            .mount("tmpfs", "tmpfs", "/a", &["ro", "nosuid", "nosymfollow"])
            .mount("tmpfs", "tmpfs", "/b", &["rw", "noexec", "shared", "size=64k"])
            .mount("none", "", "/b", &["remount", "ro", "nodev"])
            .mount("tmpfs", "tmpfs", "/etc", &["tmpcopyup", "ro", "rslave"])
    });
    let symlinks =
        mounts.iter().any(|line| line.starts_with("/a ro,nosuid,") && line.contains("nosymfollow"));
    assert!(symlinks, "{mounts:#?}");
}

#[test]
fn the_roots_propagation() {
    requires!(is_root(), "needs root");
    for propagation in ["private", "slave", "rprivate", "rslave", "shared", "rshared", "unbindable"] {
        same_mounts(root, SHARED_TREE, |sandbox| {
            let source = sandbox.directory().join("tree");
            sandbox.bundle("c").readonly().bind(source, "/m", &["rro"]).edit(|config| {
                config["linux"]["rootfsPropagation"] = propagation.into();
            })
        });
    }
}

#[test]
fn a_user_namespace() {
    requires!(is_root(), "needs root");
    same_mounts(root, SHARED_TREE, |sandbox| {
        let secret = sandbox.directory().join("secret");
        fs::create_dir_all(secret.join("volume")).unwrap();
        fs::write(secret.join("volume/file"), "").unwrap();
        // Only the runtime's parent can open what is in it.
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
        mapped(sandbox.bundle("c"))
            .bind(secret.join("volume"), "/secret", &["ro"])
            .bind(secret.join("volume/file"), "/file", &["ro"])
            .bind(sandbox.directory().join("tree"), "/tree", &["rro", "rslave"])
    });
}

#[test]
fn a_user_namespace_of_a_machine_without_shared_mounts() {
    requires!(is_root(), "needs root");
    same_mounts(root, "", |sandbox| mapped(sandbox.bundle("c")).readonly());
}

#[test]
fn an_ordinary_user() {
    requires!(is_root() && fresh::is_possible(&[fresh::Kind::User]), "needs root and user namespaces");
    let mounts = same_mounts(
        || root().as_user(USER, USER),
        "",
        |sandbox| {
            sandbox.bundle("c").edit(|config| {
                for mount in config["mounts"].as_array_mut().into_iter().flatten() {
                    if mount["destination"] == "/sys" {
                        // It becomes a bind mount of the host's with all below it.
                        *mount = serde_json::json!({
                            "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"],
                        });
                    }
                }
            })
        },
    );
    assert!(mounts.iter().any(|line| line.starts_with("/sys ro,")), "{mounts:#?}");
    let sandbox = on(Machine::Old, root().as_user(USER, USER));
    let bundle = sandbox.bundle("life").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    sandbox.exec(&bundle, ["id", "-u"]).output().succeeds().prints("0\n");
    let pid = sandbox.pid(&bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
}

#[test]
fn without_pivot_root() {
    requires!(is_root(), "needs root");
    let sandbox = on(Machine::Old, root());
    let bundle = sandbox.bundle("c").readonly().script("touch /x 2>/dev/null || echo closed");
    let mut words = vec!["run", "--no-pivot", "--bundle"];
    let directory = bundle.directory().to_str().unwrap().to_owned();
    words.extend([directory.as_str(), bundle.id()]);
    sandbox.runtime().args(words).output().succeeds().prints("closed\n");
}

#[test]
fn the_runtimes_own_file_is_a_sealed_copy() {
    requires!(is_root(), "needs root");
    let sandbox = on(Machine::Old, root());
    let bundle = sandbox.bundle("c").args(["true"]);
    sandbox.create(&bundle);
    let program = fs::read_link(format!("/proc/{}/exe", sandbox.pid(&bundle))).unwrap();
    assert!(program.to_string_lossy().starts_with("/memfd:bulkrun"), "{}", program.display());
    sandbox.start(&bundle);
    sandbox.wait_for_status(&bundle, "stopped");
    sandbox.delete(&bundle);
}

#[test]
fn a_flag_that_the_kernel_lacks_is_neither_listed_nor_taken() {
    requires!(is_root(), "needs root");
    requires!(kernel() >= (5, 19), "needs Linux 5.19, which has the flag that an older one lacks");
    const FLAG: &str = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
    let features = |machine| {
        let features = on(machine, root()).runtime().arg("features").output().succeeds().json();
        features["linux"]["seccomp"]["supportedFlags"].to_string()
    };
    assert!(features(Machine::New).contains(FLAG), "this kernel has it");
    assert!(!features(Machine::Old).contains(FLAG));
    let sandbox = on(Machine::Old, root());
    let agent = sandbox.directory().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let filter = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": [FLAG],
        "listenerPath": agent,
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let bundle = sandbox.bundle("c").args(["true"]).seccomp(filter);
    sandbox.run(&bundle).output().exits_with(1).complains("seccomp");
}
