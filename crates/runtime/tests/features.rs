//! What `features` says is true: each of its entries is tried in a container, or compared with the table that is.

#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires};
use serde_json::{Value, json};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

fn features(sandbox: &Sandbox) -> Value {
    sandbox.runtime().arg("features").output().succeeds().json()
}

/// Returns a list of the document.
fn list(features: &Value, pointer: &str) -> Vec<String> {
    let list = features.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing"));
    list.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

/// What a mount shows in mountinfo after an option: `+word` is there, `-word` is not.
const SHOWN: &[(&str, &str)] = &[
    ("acl", ""),
    ("async", "-sync"),
    ("atime", "+relatime"),
    ("bind", "+relatime"),
    ("defaults", "+rw"),
    ("dev", "-nodev"),
    ("diratime", "-nodiratime"),
    ("dirsync", "+dirsync"),
    ("exec", "-noexec"),
    ("idmap", "+idmapped"),
    ("iversion", ""),
    ("lazytime", "+lazytime"),
    ("loud", ""),
    ("mand", ""),
    ("noacl", ""),
    ("noatime", "+noatime"),
    ("nodev", "+nodev"),
    ("nodiratime", "+nodiratime"),
    ("noexec", "+noexec"),
    ("noiversion", ""),
    ("nolazytime", "-lazytime"),
    ("nomand", ""),
    ("norelatime", "-relatime"),
    ("nostrictatime", "+relatime"),
    ("nosuid", "+nosuid"),
    ("nosymfollow", "+nosymfollow"),
    ("private", "-shared"),
    ("ratime", "+relatime"),
    ("rbind", "+relatime"),
    ("rdev", "-nodev"),
    ("rdiratime", "-nodiratime"),
    ("relatime", "+relatime"),
    ("remount", "+rw"),
    ("rexec", "-noexec"),
    ("ridmap", "+idmapped"),
    ("rnoatime", "+noatime"),
    ("rnodev", "+nodev"),
    ("rnodiratime", "+nodiratime"),
    ("rnoexec", "+noexec"),
    ("rnorelatime", "-relatime"),
    ("rnostrictatime", "+relatime"),
    ("rnosuid", "+nosuid"),
    ("rnosymfollow", "+nosymfollow"),
    ("ro", "+ro"),
    ("rprivate", "-shared"),
    ("rrelatime", "+relatime"),
    ("rro", "+ro"),
    ("rrw", "+rw"),
    ("rshared", "+shared"),
    ("rslave", "-shared"),
    ("rstrictatime", "-relatime"),
    ("rsuid", "-nosuid"),
    ("rsymfollow", "-nosymfollow"),
    ("runbindable", "+unbindable"),
    ("rw", "+rw"),
    ("shared", "+shared"),
    ("silent", ""),
    ("slave", "-shared"),
    ("strictatime", "-relatime"),
    ("suid", "-nosuid"),
    ("symfollow", "-nosymfollow"),
    ("sync", "+sync"),
    ("tmpcopyup", "+rw"),
    ("unbindable", "+unbindable"),
];

#[test]
fn every_mount_option_does_what_its_name_says() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let known: BTreeSet<_> = list(&features(&sandbox), "/mountOptions").into_iter().collect();
    let tried: BTreeSet<_> = SHOWN.iter().map(|(word, _)| (*word).to_owned()).collect();
    assert_eq!(known, tried, "every option is tried");
    let source = sandbox.directory().join("source");
    fs::create_dir(&source).unwrap();
    let mount = |word: &str| {
        let destination = format!("/o/{word}");
        let map = json!([{ "containerID": 0, "hostID": 0, "size": 1000 }]);
        match word {
            "bind" | "rbind" => json!([{ "destination": destination, "source": source, "options": [word] }]),
            "idmap" | "ridmap" => json!([{
                "destination": destination, "source": source, "options": ["bind", word],
                "uidMappings": map, "gidMappings": map,
            }]),
            "remount" => json!([
                { "destination": destination, "type": "tmpfs", "options": ["ro"] },
                { "destination": destination, "type": "tmpfs", "options": ["remount", "rw"] },
            ]),
            _ => json!([{ "destination": destination, "type": "tmpfs", "options": [word] }]),
        }
    };
    let mounts: Vec<Value> =
        SHOWN.iter().flat_map(|(word, _)| mount(word).as_array().unwrap().clone()).collect();
    let bundle = sandbox.bundle("options").args(["cat", "/proc/self/mountinfo"]);
    let bundle = bundle.edit(|config| config["mounts"].as_array_mut().unwrap().extend(mounts));
    let output = sandbox.run(&bundle).output().succeeds();
    for (word, shown) in SHOWN {
        let point = format!(" /o/{word} ");
        let line = output.stdout.lines().rfind(|line| line.contains(&point));
        let line = line.unwrap_or_else(|| panic!("{word} is mounted: {output}"));
        let (_, options) = line.split_once(&point).unwrap();
        let words: BTreeSet<_> = options.split([' ', ',', ':']).collect();
        match shown.split_at_checked(1) {
            Some(("+", expected)) => assert!(words.contains(expected), "{word} shows {expected}: {line}"),
            Some((_, absent)) => assert!(!words.contains(absent), "{word} does not show {absent}: {line}"),
            None => {}
        }
    }
}

#[test]
fn every_hook_is_run() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let notes = sandbox.directory().join("notes");
    fs::create_dir(&notes).unwrap();
    let kinds = list(&features(&sandbox), "/hooks");
    let bundle = sandbox.bundle("hooks").args(["true"]).bind(&notes, notes.to_str().unwrap(), &["rw"]);
    let bundle = kinds
        .iter()
        .fold(bundle, |bundle, kind| bundle.hook_script(kind, &format!("echo > {}/{kind}", notes.display())));
    sandbox.run(&bundle).output().succeeds();
    for kind in &kinds {
        assert!(notes.join(kind).exists(), "{kind} has run");
    }
    assert_eq!(kinds.len(), 6, "all that the specification has: {kinds:?}");
}

#[test]
fn every_namespace_can_be_new() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for kind in list(&features(&sandbox), "/linux/namespaces") {
        let file = match kind.as_str() {
            "mount" => "mnt",
            "network" => "net",
            other => other,
        };
        let bundle = sandbox.bundle(&kind).args(["readlink", &format!("/proc/self/ns/{file}")]);
        let bundle = match kind.as_str() {
            "user" => bundle.user_namespace(&[(0, 0, 65536)], &[(0, 0, 65536)]),
            other => bundle.namespace(other),
        };
        let own = fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        let output = sandbox.run(&bundle).output().succeeds();
        assert_ne!(output.stdout.trim(), own.to_str().unwrap(), "{kind} is new");
    }
}

#[test]
fn every_capability_has_its_number() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let bounding = u64::from_str_radix(bounding, 16).unwrap();
    let log = sandbox.directory().join("log");
    let names = list(&features(&sandbox), "/linux/capabilities");
    let bundle = sandbox.bundle("capabilities").args(["sed", "-n", "s/^CapBnd:\t//p", "/proc/self/status"]);
    let bundle = bundle.edit(|config| config["process"]["capabilities"] = json!({ "bounding": names }));
    let run = sandbox.runtime().arg("--log").arg(&log).args(["run", "--bundle"]).arg(bundle.directory());
    let output = run.arg(bundle.id()).output().succeeds();
    let all = (1_u64 << names.len()) - 1;
    assert_eq!(u64::from_str_radix(output.stdout.trim(), 16).unwrap(), all & bounding, "{output}");
    let log = fs::read_to_string(log).unwrap_or_default();
    assert!(!log.contains("unknown capability"), "{log}");
}

fn with_filter(sandbox: &Sandbox, short: &str, filter: Value) -> Bundle {
    sandbox.bundle(short).seccomp(filter).args(["true"])
}

#[test]
fn every_word_of_a_filter_is_understood() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let features = features(&sandbox);
    for action in list(&features, "/linux/seccomp/actions") {
        let rule = json!({ "names": ["mkdir"], "action": action });
        let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        let output = sandbox.run(&with_filter(&sandbox, &action.to_lowercase(), filter)).output();
        match action.as_str() {
            // It needs somebody to ask, which says that it is understood.
            "SCMP_ACT_NOTIFY" => drop(output.exits_with(1).complains("/linux/seccomp")),
            _ => drop(output.succeeds()),
        }
    }
    for operator in list(&features, "/linux/seccomp/operators") {
        let argument = json!({ "index": 0, "value": 1, "valueTwo": 1, "op": operator });
        let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [argument] });
        let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        sandbox.run(&with_filter(&sandbox, &operator.to_lowercase(), filter)).output().succeeds();
    }
    for arch in list(&features, "/linux/seccomp/archs") {
        let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch] });
        let output = sandbox.run(&with_filter(&sandbox, &arch.to_lowercase(), filter)).output();
        // Not every architecture is another face of this machine; then it says so.
        if output.code() != 0 {
            output.complains("/linux/seccomp");
        }
    }
    let supported = list(&features, "/linux/seccomp/supportedFlags");
    for flag in list(&features, "/linux/seccomp/knownFlags") {
        let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag] });
        let output = sandbox.run(&with_filter(&sandbox, &flag.to_lowercase(), filter)).output();
        // The one that waits for an agent has no effect without one.
        let works = supported.contains(&flag) || flag.ends_with("WAIT_KILLABLE_RECV");
        assert_eq!(output.code() == 0, works, "{flag}: {output}");
    }
}

#[test]
fn every_memory_policy_is_set_or_the_kernel_says_no() {
    requires!(is_root() && fs::exists("/proc/self/numa_maps").unwrap(), "needs root and NUMA");
    let sandbox = sandbox();
    let features = features(&sandbox);
    let shown = BTreeMap::from([
        ("MPOL_DEFAULT", (None, "default")),
        ("MPOL_BIND", (Some("0"), "bind:0")),
        ("MPOL_INTERLEAVE", (Some("0"), "interleave:0")),
        ("MPOL_WEIGHTED_INTERLEAVE", (Some("0"), "weighted interleave:0")),
        ("MPOL_PREFERRED", (Some("0"), "prefer:0")),
        ("MPOL_PREFERRED_MANY", (Some("0"), "prefer (many):0")),
        ("MPOL_LOCAL", (None, "local")),
    ]);
    let run = |short: &str, policy: &Value| {
        let bundle = sandbox.bundle(short).script("head -n1 /proc/self/numa_maps");
        sandbox.run(&bundle.edit(|config| config["linux"]["memoryPolicy"] = policy.clone())).output()
    };
    let modes = list(&features, "/linux/memoryPolicy/modes");
    assert_eq!(modes.len(), shown.len(), "every mode is tried: {modes:?}");
    for mode in modes {
        let (nodes, expected) = shown[mode.as_str()];
        let policy = match nodes {
            Some(nodes) => json!({ "mode": mode, "nodes": nodes }),
            None => json!({ "mode": mode }),
        };
        let output = run(&mode.to_lowercase(), &policy);
        // What is newer than the kernel.
        let is_new = mode == "MPOL_WEIGHTED_INTERLEAVE" || mode == "MPOL_PREFERRED_MANY";
        if is_new && output.code() != 0 {
            output.complains("set /linux/memoryPolicy");
        } else {
            let output = output.succeeds();
            assert!(output.stdout.contains(&format!(" {expected} ")), "{mode}: {output}");
        }
    }
    for (flag, mode, expected) in [
        ("MPOL_F_NUMA_BALANCING", "MPOL_BIND", "bind"),
        ("MPOL_F_RELATIVE_NODES", "MPOL_BIND", "bind=relative:0"),
        ("MPOL_F_STATIC_NODES", "MPOL_INTERLEAVE", "interleave=static:0"),
    ] {
        assert!(list(&features, "/linux/memoryPolicy/flags").iter().any(|known| known == flag), "{flag}");
        let policy = json!({ "mode": mode, "nodes": "0", "flags": [flag] });
        let output = run(&flag.to_lowercase(), &policy);
        if flag == "MPOL_F_NUMA_BALANCING" && output.code() != 0 {
            // A kernel that does not balance.
            output.complains("set /linux/memoryPolicy");
        } else {
            let output = output.succeeds();
            assert!(output.stdout.contains(&format!(" {expected}")), "{flag}: {output}");
        }
    }
    assert_eq!(list(&features, "/linux/memoryPolicy/flags").len(), 3, "every flag is tried");
}

#[test]
fn the_rest_is_what_other_tests_try() {
    let sandbox = sandbox();
    let features = features(&sandbox);
    let mut linux = features["linux"].clone();
    for tried in ["namespaces", "capabilities", "seccomp", "memoryPolicy"] {
        linux.as_object_mut().unwrap().remove(tried).unwrap_or_else(|| panic!("{tried} is missing"));
    }
    // The tests `cgroups`, `systemd` and `rootless`; `process` for labels; `net_devices`; `mounts` and `idmapped`; and
    // the one below for resctrl.
    let expected = json!({
        "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        "apparmor": { "enabled": true },
        "selinux": { "enabled": true },
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    });
    assert_eq!(linux, expected);
    // The tests `rootfs`, `systemd` and `annotations`.
    let annotations = ["org.bulkhead.rootfs.overlay", "org.systemd.property.", "run.oci."];
    assert_eq!(list(&features, "/potentiallyUnsafeConfigAnnotations"), annotations);
    assert_eq!((&features["ociVersionMin"], &features["ociVersionMax"]), (&json!("1.0.0"), &json!("1.3.0")));
}

#[test]
fn a_class_of_service_needs_a_cpu_that_divides_its_cache() {
    requires!(is_root(), "needs root");
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ");
    requires!(!mounted, "this CPU divides its cache, and the file system is somebody's");
    let sandbox = sandbox();
    for (short, rdt) in [("own", json!({})), ("shared", json!({ "closID": "gold" }))] {
        let bundle = sandbox.bundle(short).args(["true"]);
        let bundle = bundle.edit(|config| config["linux"]["intelRdt"] = rdt);
        let output = sandbox.run(&bundle).output().exits_with(1);
        let output = output.complains("config.json: /linux/intelRdt: no resctrl file system is mounted");
        assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
    }
}
