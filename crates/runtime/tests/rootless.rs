//! Containers of an ordinary user.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use bulkhead_testkit::{Bundle, Run, Sandbox, find_program, fresh, is_root, kernel, requires};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// An ordinary user that no host has.
const USER: u32 = 54_321;

/// Says whether root can be asked for an ordinary user, and that one for namespaces.
fn is_possible() -> bool {
    is_root() && fresh::is_possible(&[fresh::Kind::User])
}

fn sandbox() -> Sandbox {
    Sandbox::new(BULKRUN).as_user(USER, USER)
}

#[test]
fn an_ordinary_user_runs_a_container() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle =
        sandbox.bundle("c").script("id -u; id -g; tr -s ' ' < /proc/self/uid_map; touch /new; hostname");
    sandbox.run(&bundle).output().succeeds().prints("0\n0\n 0 54321 1\ntestkit\n");
    assert_eq!(fs::metadata(bundle.rootfs().join("new")).unwrap().uid(), USER, "the file is the user's");
}

#[test]
fn a_rootless_container_lives_its_life() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]);
    sandbox.create(&bundle);
    assert_eq!(sandbox.status(&bundle), "created");
    sandbox.start(&bundle);
    assert_eq!(sandbox.status(&bundle), "running");
    let script = "id -u; cat /proc/1/comm; readlink /proc/self/ns/user";
    let output = sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds();
    let pid = sandbox.pid(&bundle);
    let user = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(output.stdout, format!("0\nsleep\n{}\n", user.display()), "exec is in the container");
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
}

#[test]
fn groups_are_denied_with_a_map_of_ones_own() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").script("cat /proc/self/setgroups");
    sandbox.run(&bundle).output().succeeds().prints("deny\n");
    let bundle = sandbox.bundle("wants").edit(|config| {
        config["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5] });
    });
    sandbox.run(&bundle).output().exits_with(1).complains("additionalGids");
}

#[test]
fn what_spec_writes_for_rootless_runs_as_it_is() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c");
    let config = bundle.directory().join("config.json");
    fs::remove_file(&config).unwrap();
    sandbox.runtime().arg("spec").arg("--rootless").current_dir(bundle.directory()).output().succeeds();
    // Only the terminal and the program are this test's.
    let mut document: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    document["process"]["terminal"] = false.into();
    document["process"]["args"] = json!(["sh", "-c", "id -u; ls -d /sys/class/net/lo"]);
    fs::write(&config, document.to_string()).unwrap();
    sandbox.run(&bundle).output().succeeds().prints("0\n/sys/class/net/lo\n");
}

#[test]
fn without_a_user_namespace_the_way_out_is_named() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").without_namespace("user").edit(|config| {
        config["linux"]["uidMappings"] = json!([]);
        config["linux"]["gidMappings"] = json!([]);
    });
    sandbox.run(&bundle).output().exits_with(1).complains("spec --rootless");
}

#[test]
fn a_new_network_has_its_own_sysfs() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").namespace("network").script("ls /sys/class/net").edit(|config| {
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            if mount["destination"] == "/sys" {
                *mount =
                    json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] });
            }
        }
    });
    sandbox.run(&bundle).output().succeeds().prints("lo\n");
}

#[test]
fn a_sysfs_of_the_hosts_network_becomes_a_bind_mount() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox
        .bundle("c")
        .script("ls -d /sys/class/net/lo; touch /sys/x 2>/dev/null || echo closed")
        .edit(|config| {
            for mount in config["mounts"].as_array_mut().into_iter().flatten() {
                if mount["destination"] == "/sys" {
                    *mount =
                        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] });
                }
            }
        });
    sandbox.run(&bundle).output().succeeds().prints("/sys/class/net/lo\nclosed\n");
}

#[test]
fn devices_are_the_hosts() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").script(
        "cd /dev; for n in null zero full random urandom tty; do test -c $n || echo no $n; done; \
         echo x > null && head -c 1 zero | wc -c",
    );
    sandbox.run(&bundle).output().succeeds().prints("1\n");
}

#[test]
fn a_file_that_the_user_cannot_open_is_not_bound() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let secret = sandbox.directory().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let bundle = sandbox.bundle("c").bind(secret.join("file"), "/file", &[]);
    sandbox.run(&bundle).output().exits_with(1).complains("permission denied");
}

#[test]
fn an_overlay_root_is_the_users_own() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(kernel() >= (5, 11), "needs Linux 5.11, which mounts overlays in user namespaces");
    let sandbox = sandbox();
    let bundle =
        sandbox.bundle("c").script("rm -r /usr/sbin && mkdir /usr/sbin && ls -A /usr/sbin; touch /new");
    let parts = ["upper", "work"].map(|name| bundle.directory().join(name));
    for part in &parts {
        fs::create_dir(part).unwrap();
    }
    let [upper, work] = &parts;
    let image = bundle.directory().join("image");
    fs::rename(bundle.rootfs(), &image).unwrap();
    fs::create_dir(bundle.rootfs()).unwrap();
    let value = json!({ "lower": [image], "upper": upper, "work": work }).to_string();
    let bundle = bundle.annotation("org.bulkhead.rootfs.overlay", &value).owned_by(USER, USER);
    sandbox.run(&bundle).output().succeeds().prints("");
    assert_eq!(fs::metadata(upper.join("new")).unwrap().uid(), USER);
}

#[test]
fn clocks_have_their_offsets() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(std::path::Path::new("/proc/self/ns/time").exists(), "this kernel has no time namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").namespace("time").script("cut -d. -f1 /proc/uptime").edit(|config| {
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 172_800 } });
    });
    let output = sandbox.run(&bundle).output().succeeds();
    assert!(output.stdout.trim().parse::<u64>().unwrap() >= 172_800, "{output}");
}

#[test]
fn without_rights_over_cgroups_a_container_goes_without_limits() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").script("echo fine");
    assert_eq!(bundle.cgroups_path(), "", "no path is asked for");
    sandbox.run(&bundle).output().succeeds().prints("fine\n");
}

#[test]
fn a_limit_that_cannot_be_set_is_one_clear_error() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let limits = json!({ "memory": { "limit": 100_000_000 } });
    let bundle = sandbox.bundle("limit").edit(|config| config["linux"]["resources"] = limits);
    sandbox.run(&bundle).output().exits_with(1).complains("memory");
    let bundle = sandbox.bundle("path").edit(|config| config["linux"]["cgroupsPath"] = "/bh-not-mine".into());
    sandbox.run(&bundle).output().exits_with(1).complains("bh-not-mine");
}

/// Runs a bundle as the user where `/etc/subuid` and `/etc/subgid` give that user a range.
fn with_range(sandbox: &Sandbox, bundle: &Bundle) -> Run {
    with_ranges(sandbox, bundle, &format!("{USER}:300000:65536\n"))
}

/// Runs a bundle as the user with this text in `/etc/subuid` and `/etc/subgid`.
fn with_ranges(sandbox: &Sandbox, bundle: &Bundle, ranges: &str) -> Run {
    for file in ["subuid", "subgid"] {
        fs::write(sandbox.directory().join(file), ranges).unwrap();
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = format!("{passwd}bh-user:x:{USER}:{USER}::/:/bin/sh\n");
    fs::write(sandbox.directory().join("passwd"), own).unwrap();
    let script = "for f in subuid subgid passwd; do mount --bind $D/$f /etc/$f || exit 1; done; \
        exec setpriv --reuid $U --regid $U --clear-groups \"$@\"";
    let script = format!("D={}; U={USER}; {script}", sandbox.directory().display());
    let run = sandbox.command("unshare").args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
    run.arg(sandbox.directory().join("runtime"))
        .arg("--root")
        .arg(sandbox.state_directory())
        .arg("run")
        .arg("--bundle")
        .arg(bundle.directory())
        .arg(bundle.id())
}

#[test]
fn a_range_of_ids_is_mapped_by_newuidmap_and_newgidmap() {
    requires!(is_possible(), "needs root and user namespaces");
    for program in ["newuidmap", "newgidmap", "setpriv"] {
        requires!(find_program(program).is_some(), "needs {program}");
    }
    requires!(
        ["subuid", "subgid"].iter().all(|f| std::path::Path::new("/etc").join(f).exists()),
        "needs /etc/subuid"
    );
    let sandbox = sandbox();
    let bundle = sandbox
        .bundle("c")
        .user_namespace(&[(0, USER, 1), (1, 300_000, 65535)], &[(0, USER, 1), (1, 300_000, 65535)])
        .script("tr -s ' ' < /proc/self/uid_map; cat /proc/self/setgroups; touch /x; chown 1000:5 /x; id -G")
        .edit(|config| {
            config["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5] });
        });
    with_range(&sandbox, &bundle).output().succeeds().prints(" 0 54321 1\n 1 300000 65535\nallow\n0 5\n");
    let found = fs::metadata(bundle.rootfs().join("x")).unwrap();
    assert_eq!((found.uid(), found.gid()), (300_999, 300_004), "ids are those of the range");
}

#[test]
fn ids_beyond_the_range_are_refused_with_the_helpers_words() {
    requires!(is_possible(), "needs root and user namespaces");
    for program in ["newuidmap", "newgidmap", "setpriv"] {
        requires!(find_program(program).is_some(), "needs {program}");
    }
    requires!(
        ["subuid", "subgid"].iter().all(|f| std::path::Path::new("/etc").join(f).exists()),
        "needs /etc/subuid"
    );
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").user_namespace(&[(0, 300_000, 70_000)], &[(0, 300_000, 65536)]);
    let output = with_range(&sandbox, &bundle).output().exits_with(1);
    output
        .complains("newuidmap refused the identity map (uid range [0-70000) -> [300000-370000) not allowed)");
}

#[test]
fn without_mappings_the_caller_is_root_with_a_range_behind_if_there_is_one() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(maps_ranges(), "{NO_RANGES}");
    let sandbox = sandbox();
    let script = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; cat /proc/self/setgroups";
    let bundle = |short| sandbox.bundle(short).user_namespace(&[], &[]).script(script);
    let output = with_range(&sandbox, &bundle("range")).output().succeeds();
    let map = " 0 54321 1\n 1 300000 65536\n";
    output.prints(&format!("{map}{map}allow\n")).complains("(1 from 54321, 65536 from 300000)");
    let output = with_ranges(&sandbox, &bundle("alone"), "").output().succeeds();
    output.prints(" 0 54321 1\n 0 54321 1\ndeny\n").complains("(1 from 54321)");
    let other = bundle("other").user(1000, 1000);
    let output = with_ranges(&sandbox, &other, "").output().exits_with(1);
    output.complains("/process/user/uid: 1000 is not mapped in the container's user namespace");
}

/// Says whether the programs are there that map ranges.
fn maps_ranges() -> bool {
    ["newuidmap", "newgidmap", "setpriv"].iter().all(|program| find_program(program).is_some())
        && ["subuid", "subgid"].iter().all(|file| std::path::Path::new("/etc").join(file).exists())
}

const NO_RANGES: &str = "needs newuidmap, newgidmap, setpriv and /etc/subuid";

#[test]
fn several_ranges_are_mapped_in_one_go() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(maps_ranges(), "{NO_RANGES}");
    let sandbox = sandbox();
    let maps = [(0, USER, 1), (1, 300_000, 1000), (1001, 500_000, 500)];
    let bundle = sandbox.bundle("c").user_namespace(&maps, &maps).script(
        "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; touch /x; chown 1001:1500 /x",
    );
    let text = " 0 54321 1\n 1 300000 1000\n 1001 500000 500\n";
    let ranges = format!("{USER}:300000:65536\n{USER}:500000:500\n");
    with_ranges(&sandbox, &bundle, &ranges).output().succeeds().prints(&format!("{text}{text}"));
    let found = fs::metadata(bundle.rootfs().join("x")).unwrap();
    assert_eq!((found.uid(), found.gid()), (500_000, 500_499), "ids are those of the last range");
}

#[test]
fn a_user_without_a_range_is_told_where_ranges_come_from() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(maps_ranges(), "{NO_RANGES}");
    let sandbox = sandbox();
    let maps = [(0, USER, 1), (1, 300_000, 1000)];
    let bundle = sandbox.bundle("c").user_namespace(&maps, &maps);
    let output = with_ranges(&sandbox, &bundle, "").output().exits_with(1);
    output
        .complains("newuidmap refused the identity map (uid range [1-1001) -> [300000-301000) not allowed)")
        .complains("/etc/subuid must have bh-user:300000:1000, or uidMappings keep to the ids that it has");
    // The uids are the user's own, the gids are not.
    let bundle = sandbox.bundle("gids").user_namespace(&[(0, USER, 1)], &maps);
    let output = with_ranges(&sandbox, &bundle, "").output().exits_with(1);
    output
        .complains("newgidmap refused the identity map")
        .complains("/etc/subgid must have bh-user:300000:1000, or gidMappings keep to the ids that it has");
}

#[test]
fn a_helper_that_is_missing_is_named_with_its_package() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let maps = [(0, USER, 1), (1, 300_000, 1000)];
    let bundle = sandbox.bundle("c").user_namespace(&maps, &maps);
    let output = sandbox.run(&bundle).env("PATH", "/nonexistent").output().exits_with(1);
    let output = output.complains("no program newuidmap is in PATH").complains("the ids of /etc/subuid");
    output.complains("package uidmap").complains("let uidMappings be of size 1 and of one's own id");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
    let bundle = sandbox.bundle("gids").user_namespace(&[(0, USER, 1)], &maps);
    let output = sandbox.run(&bundle).env("PATH", "/nonexistent").output().exits_with(1);
    output.complains("no program newgidmap is in PATH").complains("the ids of /etc/subgid");
}

/// As on a file system that is mounted with nosuid.
#[test]
fn a_helper_without_its_rights_is_told_which_it_needs() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(maps_ranges(), "{NO_RANGES}");
    let sandbox = sandbox();
    let maps = [(0, USER, 1), (1, 300_000, 1000)];
    let bundle = sandbox.bundle("c").user_namespace(&maps, &maps);
    let plain = sandbox.directory().join("plain");
    fs::create_dir(&plain).unwrap();
    fs::copy(find_program("newuidmap").unwrap(), plain.join("newuidmap")).unwrap();
    fs::set_permissions(plain.join("newuidmap"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", plain.display(), std::env::var("PATH").unwrap_or_default());
    let output = with_range(&sandbox, &bundle).env("PATH", path).output().exits_with(1);
    output
        .complains("newuidmap refused the identity map (write to uid_map failed: Operation not permitted)")
        .complains("for the ids of /etc/subuid it must be set-user-id root or have CAP_SETUID");
}

/// Runs a bundle as the user where something hides a part of one of the kernel's file systems, as in most containers.
fn hiding(sandbox: &Sandbox, place: &str, bundle: &Bundle) -> Run {
    let script = format!(
        "mount -t tmpfs -o ro tmpfs {place} || exit 9; exec setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\""
    );
    let run = sandbox.command("unshare").args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let run = run.arg(sandbox.runtime_program()).arg("--root").arg(sandbox.state_directory());
    run.args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id())
}

/// Mounts a sysfs with these options.
fn with_sysfs(bundle: Bundle, options: &[&str]) -> Bundle {
    bundle.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
        mounts.push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options }));
    })
}

#[test]
fn where_sysfs_is_partly_hidden_it_is_bound_if_it_is_read_only() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(find_program("setpriv").is_some(), "needs setpriv");
    requires!(std::path::Path::new("/sys/firmware").is_dir(), "needs /sys/firmware");
    let sandbox = sandbox();
    let script = "ls -d /sys/class/net; ls -A /sys/firmware; touch /sys/x 2>/dev/null || echo closed; \
        umount /sys/firmware 2>/dev/null && echo opened; true";
    let bundle = with_sysfs(sandbox.bundle("ro"), &["ro", "nosuid"]).namespace("network").script(script);
    hiding(&sandbox, "/sys/firmware", &bundle).output().succeeds().prints("/sys/class/net\nclosed\n");
    let bundle = with_sysfs(sandbox.bundle("rw"), &["nosuid"]).namespace("network").script("echo started");
    let output = hiding(&sandbox, "/sys/firmware", &bundle).output().exits_with(1).prints("");
    output.complains("mount sysfs at /sys (a user namespace may do that only where it sees one of which nothing is hidden)");
}

#[test]
fn where_proc_is_partly_hidden_there_is_no_other() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(find_program("setpriv").is_some(), "needs setpriv");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").script("echo started");
    let output = hiding(&sandbox, "/proc/bus", &bundle).output().exits_with(1).prints("");
    output.complains("(a user namespace may do that only where it sees one of which nothing is hidden)");
}

#[test]
fn a_file_system_for_somebody_who_is_not_mapped_is_refused_with_its_place() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").script("stat -c '%u %g' /mine").mount(
        "tmpfs",
        "tmpfs",
        "/mine",
        &["uid=0", "gid=0"],
    );
    sandbox.run(&bundle).output().succeeds().prints("0 0\n");
    let number = bundle.config()["mounts"].as_array().unwrap().len();
    for (kind, option, id) in [("tmpfs", "uid", 7), ("tmpfs", "gid", 7), ("devpts", "gid", 5)] {
        let short = format!("{kind}-{option}");
        let option = format!("{option}={id}");
        let bundle = sandbox.bundle(&short).mount("tmpfs", "tmpfs", "/mine", &[]).mount(
            kind,
            kind,
            "/other",
            &[&option],
        );
        let complaint =
            format!("/mounts/{number}/options: {option} is not mapped in the container's user namespace");
        sandbox.run(&bundle).output().exits_with(1).complains(&complaint);
    }
}

/// Needs a process that is not dumpable to make the one that is born there. Seen to fail when `launch` hides privileged
/// callers only; must fail when the process in `birth` that sets the time does not hide: a process of the other container can open
/// whatever the runtime has open of the host (CVE-2016-9962).
#[test]
fn an_ordinary_user_hides_from_a_container_before_it_joins_it() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(find_program("strace").is_some(), "needs strace");
    let sandbox = sandbox();
    let first = sandbox.bundle("first").args(["sleep", "1000"]);
    sandbox.launch(&first);
    let joining = |short: &str| {
        let bundle = sandbox.bundle(short).script("cut -d. -f1 /proc/uptime").edit(|config| {
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
        });
        let path = |name| format!("/proc/{}/ns/{name}", sandbox.pid(&first));
        bundle.namespace_at("user", path("user")).namespace_at("pid", path("pid"))
    };
    let mut bundles = vec![(joining("second"), 0)];
    if std::path::Path::new("/proc/self/ns/time").exists() {
        let offsets = json!({ "boottime": { "secs": 172_800 } });
        let bundle = joining("third").namespace("time");
        bundles.push((bundle.edit(|config| config["linux"]["timeOffsets"] = offsets), 172_800));
    }
    for (bundle, uptime) in bundles {
        let trace = sandbox.directory().join(format!("{}.trace", bundle.id()));
        fs::write(&trace, "").unwrap();
        std::os::unix::fs::chown(&trace, Some(USER), Some(USER)).unwrap();
        let run = sandbox.command("strace").args(["-f", "-e", "trace=prctl,clone3", "-o"]).arg(&trace);
        let run = run.arg(sandbox.runtime_program()).arg("--root").arg(sandbox.state_directory());
        let run = run.args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
        let output = run.as_user(USER, USER).output().succeeds();
        assert!(output.stdout.trim().parse::<u64>().unwrap() >= uptime, "{output}");
        let trace = fs::read_to_string(trace).unwrap();
        let hides = trace.lines().position(|line| line.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"));
        let born = trace.lines().filter(|line| line.contains("clone3(")).count();
        let birth = trace.lines().enumerate().filter(|(_, line)| line.contains("clone3(")).nth(1);
        assert!(born == 2, "one process in between makes the other\n{trace}");
        assert!(hides.is_some() && hides < birth.map(|(line, _)| line), "it hides first\n{trace}");
    }
}

/// What the hooks of an ordinary user see of a container's process: from outside, and as the root of its user namespace, which is
/// what a program that carries its packets becomes.
const SPY: &str = r#"
PATH=/usr/bin:/bin:/usr/sbin:/sbin
pid=$(sed 's/.*"pid":\([0-9]*\).*/\1/')
network=${BULKHEAD_HOOK_NAMESPACES#network=} user=${BULKHEAD_HOOK_NAMESPACES#*,user=}
network=${network%%,*}
loot='cd /proc/$0 && for name in exe root cwd ns/user ns/net ns/mnt fd/*; do readlink $name; cat $name; done 2>/dev/null
    head -c 1 environ maps mem auxv 2>/dev/null; ls root/ fd/ 2>/dev/null'
nsenter --preserve-credentials --user=/proc/self/fd/$user --net=/proc/self/fd/$network sh -c 'id -u; ls /proc/self/net/dev; readlink /proc/self/ns/net'
readlink /proc/self/fd/$network
echo outside; sh -c "$loot" $pid
echo inside; nsenter --preserve-credentials --user=/proc/self/fd/$user --net=/proc/self/fd/$network sh -c "$loot" $pid
echo itself; nsenter --preserve-credentials --user=/proc/self/fd/$user sh -c 'readlink /proc/$$/root'
"#;

/// Needs `launch` to open the namespaces while the process can be seen, and the process to hide at once after it has its identity.
/// Seen to fail when it hides only after the hooks: its descriptors of the host, its memory and its root are open to whoever is
/// root in the user namespace (CVE-2016-9962).
#[test]
fn hooks_of_an_ordinary_user_get_new_namespaces_and_see_nothing_of_the_process_in_them() {
    requires!(is_possible(), "needs root and user namespaces");
    requires!(find_program("nsenter").is_some(), "needs nsenter");
    let sandbox = sandbox();
    let notes = sandbox.directory().join("notes");
    fs::write(&notes, "").unwrap();
    std::os::unix::fs::chown(&notes, Some(USER), Some(USER)).unwrap();
    for kind in ["prestart", "createRuntime"] {
        let bundle = sandbox.bundle(kind).namespace("network").hook_script(kind, SPY);
        let bundle = bundle.script("readlink /proc/self/ns/net; ls /proc/self/fd");
        let bundle = bundle.annotation("run.oci.hooks.stdout", notes.to_str().unwrap());
        let bundle = bundle.annotation("org.bulkhead.hooks.namespaces", "network,user");
        let said = sandbox.run(&bundle).output().succeeds().stdout;
        let (network, descriptors) = said.split_once('\n').unwrap();
        // 3 is the directory that `ls` itself lists.
        assert_eq!(descriptors, "0\n1\n2\n3\n", "the program has none of them");
        let seen = String::from_utf8_lossy(&fs::read(&notes).unwrap()).into_owned();
        let expected = format!("0\n/proc/self/net/dev\n{network}\n{network}\noutside\ninside\nitself\n/\n");
        assert_eq!(seen, expected, "{kind}");
        fs::write(&notes, "").unwrap();
    }
}

#[test]
fn hooks_get_new_namespaces_of_new_users_alone() {
    requires!(is_possible(), "needs root and user namespaces");
    let sandbox = sandbox();
    let key = "org.bulkhead.hooks.namespaces";
    for (short, kinds, says) in [
        ("kind", "mount", "mount: hooks get a new `network` or `user`"),
        ("old", "user,network", "network: hooks get a new"),
    ] {
        let bundle = sandbox.bundle(short).annotation(key, kinds).without_namespace("network");
        sandbox.run(&bundle).output().exits_with(1).complains(says);
    }
    let roots = Sandbox::new(BULKRUN);
    let bundle = roots.bundle("c").namespace("network").annotation(key, "network");
    roots.run(&bundle).output().exits_with(1).complains("network: hooks get a new");
}
