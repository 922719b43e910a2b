//! Containers in user namespaces, made by root.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use bulkhead_testkit::{Bundle, Run, Sandbox, is_root, requires};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// The container's ids are the host's from here on.
const FIRST: u32 = 100_000;

/// Puts a bundle into a user namespace whose root owns its files.
fn mapped(bundle: Bundle) -> Bundle {
    let maps = [(0, FIRST, 65536)];
    bundle.user_namespace(&maps, &maps).owned_by(FIRST, FIRST)
}

#[test]
fn the_maps_are_those_of_the_configuration() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox
        .bundle("c")
        .script("tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; cat /proc/self/setgroups")
        .user_namespace(&[(0, FIRST, 10), (10, 200_000, 5)], &[(0, FIRST, 20)])
        .owned_by(FIRST, FIRST);
    sandbox.run(&bundle).output().succeeds().prints(" 0 100000 10\n 10 200000 5\n 0 100000 20\nallow\n");
}

#[test]
fn files_belong_to_the_host_ids_behind_the_containers() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c")).script(
        "stat -c '%u:%g' /etc/passwd; touch /roots && touch /users && chown 1000:1001 /users && stat -c '%u:%g' /users",
    );
    sandbox.run(&bundle).output().succeeds().prints("0:0\n1000:1001\n");
    let owner = |name: &str| {
        let found = fs::metadata(bundle.rootfs().join(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner("roots"), (FIRST, FIRST), "root's");
    assert_eq!(owner("users"), (FIRST + 1000, FIRST + 1001), "the user's");
}

#[test]
fn mount_points_that_are_made_belong_to_the_containers_root() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c")).script("stat -c '%u' /made /made/deep").mount(
        "tmpfs",
        "tmpfs",
        "/made/deep",
        &[],
    );
    sandbox.run(&bundle).output().succeeds().prints("0\n0\n");
    assert_eq!(fs::metadata(bundle.rootfs().join("made")).unwrap().uid(), FIRST);
}

#[test]
fn the_user_and_its_groups_are_of_the_namespace() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c")).args(["id"]).edit(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [2000, 5] });
    });
    let output = sandbox.run(&bundle).output().succeeds();
    assert!(output.stdout.contains("uid=1000(user) gid=1000(user) groups="), "{output}");
    assert!(output.stdout.contains("2000(extra)") && output.stdout.contains("5(tty)"), "{output}");
}

#[test]
fn sources_that_root_alone_can_open_are_bound() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let secret = sandbox.directory().join("secret");
    fs::create_dir_all(secret.join("volume")).unwrap();
    fs::write(secret.join("volume/file"), "content\n").unwrap();
    fs::write(secret.join("single"), "alone\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let bundle = mapped(sandbox.bundle("c"))
        .script("cat /volume/file /single; touch /volume/new 2>/dev/null || echo not the owner")
        .bind(secret.join("volume"), "/volume", &[])
        .bind(secret.join("single"), "/single", &["ro"]);
    sandbox.run(&bundle).output().succeeds().prints("content\nalone\nnot the owner\n");
}

#[test]
fn a_bundle_that_root_alone_can_open_is_run() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c")).script("cat /etc/passwd | head -n 1; touch /new");
    std::os::unix::fs::chown(bundle.directory(), Some(0), Some(0)).unwrap();
    fs::set_permissions(bundle.directory(), fs::Permissions::from_mode(0o700)).unwrap();
    sandbox.run(&bundle).output().succeeds().prints("root:x:0:0:root:/root:/bin/sh\n");
}

#[test]
fn a_container_lives_its_life_in_a_user_namespace() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c")).args(["sleep", "1000"]);
    sandbox.create(&bundle);
    assert_eq!(sandbox.status(&bundle), "created");
    sandbox.start(&bundle);
    let script = "id -u; tr -s ' ' < /proc/self/uid_map; cat /proc/1/comm; grep CapEff /proc/self/status";
    let inside = sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds();
    assert!(inside.stdout.starts_with("0\n 0 100000 65536\nsleep\n"), "exec is in the namespace\n{inside}");
    let pid = sandbox.pid(&bundle);
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), FIRST, "on the host it is 100000's");
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
}

#[test]
fn the_host_is_nobodys_in_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c"))
        .script("( echo 1 > /proc/sys/vm/drop_caches ) 2>/dev/null || echo closed; stat -c %u /proc/sys/vm")
        .edit(|config| config["linux"]["readonlyPaths"] = json!([]));
    sandbox.run(&bundle).output().succeeds().prints("closed\n65534\n");
}

#[test]
fn a_parameter_of_an_own_namespace_is_set_in_a_user_namespace() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c"))
        .script("cat /proc/sys/net/ipv4/ip_forward")
        .edit(|config| config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" }));
    sandbox.run(&bundle).output().succeeds().prints("1\n");
}

#[test]
fn sysfs_stands_in_where_the_network_is_the_hosts() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c"))
        .without_namespace("network")
        .script(
            "ls -d /sys/class/net/lo; touch /sys/x 2>/dev/null || echo closed; \
             grep ' /sys ' /proc/self/mountinfo | cut -d' ' -f6 | tr , '\\n' | sort -u",
        )
        .edit(|config| config["linux"]["maskedPaths"] = json!([]));
    let output = sandbox.run(&bundle).output().succeeds();
    assert!(output.stdout.starts_with("/sys/class/net/lo\nclosed\n"), "{output}");
    for word in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(output.stdout.lines().any(|line| line == word), "/sys is {word}\n{output}");
    }
}

#[test]
fn the_hosts_message_queues_stand_in_where_they_are_shared() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    requires!(std::path::Path::new("/dev/mqueue").is_dir(), "the host has no /dev/mqueue");
    let bundle = mapped(sandbox.bundle("c"))
        .without_namespace("ipc")
        .script("grep -c ' /dev/mqueue ' /proc/self/mountinfo");
    sandbox.run(&bundle).output().succeeds().prints("1\n");
}

#[test]
fn the_hosts_proc_stands_in_where_the_processes_are_the_hosts() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c")).without_namespace("pid").script("readlink /proc/self/ns/pid");
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    sandbox.run(&bundle).output().succeeds().prints(&format!("{}\n", own.display()));
}

/// Fails when a label is to go through a procfs that the user namespace may not mount. A kernel without security modules has the
/// file refuse it, or has none.
#[test]
fn a_label_reaches_the_kernel_where_the_processes_are_the_hosts() {
    requires!(is_root(), "needs root");
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    requires!(!modules.contains("apparmor") && !modules.contains("selinux"), "needs a kernel without them");
    let sandbox = Sandbox::new(BULKRUN);
    let of_host = |name: &str| mapped(sandbox.bundle(name)).without_namespace("pid");
    let bundle = of_host("first")
        .script("true")
        .edit(|config| config["process"]["apparmorProfile"] = "x-label".into());
    sandbox.run(&bundle).output().exits_with(1).complains("x-label").complains("attr/exec");
    let bundle = of_host("further").script("exec sleep 1000");
    sandbox.launch(&bundle);
    let run = sandbox.runtime().args(["exec", "--apparmor=x-label", bundle.id(), "true"]);
    run.output().exits_with(255).complains("x-label").complains("attr/exec");
}

/// Calls the runtime for a bundle where `/etc/subuid` and `/etc/subgid` hold this text.
fn where_ranges_are(ranges: &str, sandbox: &Sandbox, verb: &str, bundle: &Bundle) -> Run {
    for file in ["subuid", "subgid"] {
        fs::write(sandbox.directory().join(file), ranges).unwrap();
    }
    let script = "for f in subuid subgid; do mount --bind $D/$f /etc/$f || exit 9; done";
    after(script, sandbox, verb, bundle)
}

/// Calls the runtime for a bundle in a mount namespace of its own, after a script that knows the sandbox's directory.
fn after(script: &str, sandbox: &Sandbox, verb: &str, bundle: &Bundle) -> Run {
    let script = format!("D={}; {script}; exec \"$@\"", sandbox.directory().display());
    let run = sandbox.command("unshare").args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let run = run.arg(sandbox.runtime_program()).arg("--root").arg(sandbox.state_directory());
    run.args([verb, "--bundle"]).arg(bundle.directory()).arg(bundle.id())
}

/// People look for runc's words in logs; what follows them reads like strace.
#[test]
fn a_mount_that_is_refused_is_told_in_runcs_words() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let source = sandbox.directory().join("source");
    fs::create_dir(&source).unwrap();
    let bundle = mapped(sandbox.bundle("c")).mount("bind", &source, "/mnt", &["bind", "rw"]);
    let number = bundle.config()["mounts"].as_array().unwrap().len() - 1;
    let script = "mount --bind $D/source $D/source && mount -o remount,bind,ro $D/source || exit 9";
    let output = after(script, &sandbox, "run", &bundle).output().exits_with(1);
    let words = format!(
        "bulkrun run failed: unable to start container process: error during container init: error mounting {source:?} to \
         rootfs at \"/mnt\": config.json: /mounts/{number}: "
    );
    let output = output.complains(&words.replace('"', "\\\""));
    let call = "{attr_clr=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSYMFOLLOW}): operation not permitted";
    output.complains("mount_setattr(").complains(call);
}

fn has_ranges() -> bool {
    ["/etc/subuid", "/etc/subgid"].iter().all(|file| std::path::Path::new(file).exists())
}

#[test]
fn a_user_namespace_without_mappings_has_the_range_of_root() {
    requires!(is_root(), "needs root");
    requires!(has_ranges(), "needs /etc/subuid and /etc/subgid");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").user_namespace(&[], &[]).owned_by(FIRST, FIRST).args(["sleep", "1000"]);
    let ranges = format!("other:1:5\nroot:{FIRST}:65536\n");
    let created = where_ranges_are(&ranges, &sandbox, "create", &bundle).output().succeeds();
    created.complains("the user namespace has no mappings").complains(&format!("65536 from {FIRST}"));
    sandbox.start(&bundle);
    let pid = sandbox.pid(&bundle);
    assert_eq!(
        fs::metadata(format!("/proc/{pid}")).unwrap().uid(),
        FIRST,
        "it is nobody whom the host knows"
    );
    // Whoever joins needs no range, and asks for none.
    let script = "tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; touch /new; stat -c %u /new";
    let inside = sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds();
    assert_eq!(inside.stdout, format!(" 0 {FIRST} 65536\n 0 {FIRST} 65536\n0\n"), "exec is in the namespace");
    let nobody =
        sandbox.runtime().args(["exec", "--user", "70000:0", bundle.id(), "id"]).output().exits_with(255);
    nobody.complains("/process/user/uid: 70000 is not mapped in the container's user namespace");
    // Without CRIU it does not come so far.
    let images = sandbox.directory().join("images");
    let checkpoint = sandbox.runtime().args(["checkpoint", "--leave-running", "--image-path"]).arg(&images);
    let checkpoint = checkpoint.arg(bundle.id()).output();
    assert!(!checkpoint.stderr.contains("needs a mapping"), "its namespace is known\n{checkpoint}");
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
}

#[test]
fn root_without_a_range_makes_no_user_namespace_without_mappings() {
    requires!(is_root(), "needs root");
    requires!(has_ranges(), "needs /etc/subuid and /etc/subgid");
    let sandbox = Sandbox::new(BULKRUN);
    for (number, ranges) in ["", "other:1000000:65536\n", "root:0:65536\n"].into_iter().enumerate() {
        let bundle = sandbox.bundle(&format!("c{number}")).user_namespace(&[], &[]).script("echo started");
        let output = where_ranges_are(ranges, &sandbox, "run", &bundle).output().exits_with(1).prints("");
        output.complains(
            "/linux/uidMappings: a new user namespace needs a mapping of its ids: write uidMappings and \
             gidMappings, or give root a range in /etc/subuid",
        );
    }
}

#[test]
fn maps_that_make_no_sense_are_refused_with_their_place() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let one: &[(u32, u32, u32)] = &[(0, FIRST, 10)];
    let cases: [(&[_], &[_], &str); 5] = [
        (&[], one, "/linux/uidMappings: a new user namespace needs a mapping"),
        (one, &[], "/linux/gidMappings: a new user namespace needs a mapping"),
        (&[(0, FIRST, 0)], one, "/linux/uidMappings/0/size: the range is empty"),
        (&[(0, FIRST, 10), (5, 300_000, 10)], one, "/linux/uidMappings/1: the range overlaps"),
        (one, &[(0, u32::MAX, 10)], "/linux/gidMappings/0/hostID"),
    ];
    for (number, (uids, gids, complaint)) in cases.into_iter().enumerate() {
        let bundle = sandbox.bundle(&format!("c{number}")).user_namespace(uids, gids);
        sandbox.run(&bundle).output().exits_with(1).complains(complaint);
    }
    let bundle = sandbox.bundle("none").user_namespace(one, one).without_namespace("user");
    sandbox.run(&bundle).output().exits_with(1).complains("/linux/uidMappings: id mappings need a namespace");
}

#[test]
fn a_user_that_is_not_mapped_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mapped(sandbox.bundle("c")).user(70_000, 0);
    sandbox
        .run(&bundle)
        .output()
        .exits_with(1)
        .complains("/process/user/uid: 70000 is not mapped in the container's user namespace");
    let bundle = mapped(sandbox.bundle("group")).user(0, 70_000);
    sandbox.run(&bundle).output().exits_with(1).complains("/process/user/gid: 70000 is not mapped");
}

#[test]
fn a_container_without_a_root_of_its_own_is_set_up_by_its_first_user() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let maps = [(1000, FIRST, 10)];
    let bundle = sandbox
        .bundle("c")
        .script("id -u; stat -c %u /etc/passwd; touch /new; echo x > /dev/null")
        .user_namespace(&maps, &maps)
        .owned_by(FIRST, FIRST)
        .user(1000, 1000)
        .edit(|config| {
            for mount in config["mounts"].as_array_mut().unwrap() {
                // The group tty is not mapped.
                mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
            }
        });
    sandbox.run(&bundle).output().succeeds().prints("1000\n1000\n");
    assert_eq!(fs::metadata(bundle.rootfs().join("new")).unwrap().uid(), FIRST);
}

/// Engines of ordinary users run the runtime as root of a user namespace, in the pid namespace of the host.
#[test]
fn root_of_nothing_but_a_user_namespace_comes_into_pid_namespaces() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let plain = |short: &str| {
        let bundle = sandbox.bundle(short).rootless(0, 0).without_namespace("user");
        bundle.edit(|config| {
            for maps in ["uidMappings", "gidMappings"] {
                config["linux"][maps] = serde_json::Value::Null;
            }
        })
    };
    // As docker's filter, it forbids what the runtime itself needs to look at its own namespace.
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["fsopen", "fsmount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
    });
    let first = plain("first").args(["sleep", "1000"]).seccomp(filter);
    let first = first.edit(|config| config["process"]["noNewPrivileges"] = false.into());
    // It runs in the namespace of a process that the script learns when it runs.
    let second = plain("second").script("cat /proc/1/comm").namespace_at("pid", "/run/testkit/pid-of-first");
    let noted = second.directory().join("noted");
    let hooked =
        second.hook_script("createRuntime", &format!("readlink /proc/self/ns/pid >{}", noted.display()));
    let script = "run() { \"$RUNTIME\" --root \"$STATE\" \"$@\"; }
        trap 'run delete --force first; run delete --force second' EXIT
        run run --detach --bundle \"$FIRST\" first </dev/null >/dev/null 2>&1
        run exec first sh -c 'cat /proc/1/comm; exit 5' || echo $?
        run exec --additional-gids 0 first echo own
        run exec --additional-gids 1 first true 2>/dev/null || echo refused
        pid=$(run state first | jq .pid)
        sed -i \"s:/run/testkit/pid-of-first:/proc/$pid/ns/pid:\" \"$SECOND/config.json\"
        run run --bundle \"$SECOND\" second";
    let inside =
        sandbox.command("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-euc", script]);
    // In such a namespace setgroups(2) is denied, which a process without additional groups does not notice.
    let inside = inside.env("RUNTIME", BULKRUN).env("STATE", sandbox.state_directory());
    let inside = inside.env("FIRST", first.directory()).env("SECOND", hooked.directory());
    inside.output().succeeds().prints("sleep\n5\nown\nrefused\nsleep\n");
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let noted = fs::read_to_string(noted).unwrap();
    assert_eq!(noted.trim(), own.to_str().unwrap(), "hooks stay where the runtime is");
}
