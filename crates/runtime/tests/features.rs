//! What `features` says is true: each of its entries is tried in a container, or compared with the table that is.

#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bulkhead_testkit::{Sandbox, is_root, requires};
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

/// What a mount shows in mountinfo after an option, or after another and this one: `+word` is there, `-word` is not.
const SHOWN: &[(&str, &str, &str)] = &[
    ("async", "sync", "-sync"),
    ("atime", "noatime", "+relatime"),
    ("bind", "", "+/source"),
    ("copy-symlink", "", "+/source"),
    ("dev", "nodev", "-nodev"),
    ("diratime", "nodiratime", "-nodiratime"),
    ("dirsync", "", "+dirsync"),
    ("exec", "noexec", "-noexec"),
    ("idmap", "", "+idmapped"),
    ("lazytime", "", "+lazytime"),
    ("mount-namespace", "", "+/"),
    ("noatime", "", "+noatime"),
    ("nodev", "", "+nodev"),
    ("nodiratime", "", "+nodiratime"),
    ("noexec", "", "+noexec"),
    ("nolazytime", "lazytime", "-lazytime"),
    ("norelatime", "noatime", "+noatime"),
    ("nostrictatime", "strictatime", "+relatime"),
    ("nosuid", "", "+nosuid"),
    ("nosymfollow", "", "+nosymfollow"),
    ("private", "shared", "-shared"),
    ("ratime", "rnoatime", "+relatime"),
    ("rbind", "", "+/source"),
    ("rdev", "rnodev", "-nodev"),
    ("rdiratime", "rnodiratime", "-nodiratime"),
    ("relatime", "noatime", "+relatime"),
    ("remount", "", "+rw"),
    ("rexec", "rnoexec", "-noexec"),
    ("ridmap", "", "+idmapped"),
    ("rnoatime", "", "+noatime"),
    ("rnodev", "", "+nodev"),
    ("rnodiratime", "", "+nodiratime"),
    ("rnoexec", "", "+noexec"),
    ("rnorelatime", "rnoatime", "+noatime"),
    ("rnostrictatime", "rstrictatime", "+relatime"),
    ("rnosuid", "", "+nosuid"),
    ("rnosymfollow", "", "+nosymfollow"),
    ("ro", "", "+ro"),
    ("rprivate", "rshared", "-shared"),
    ("rrelatime", "rnoatime", "+relatime"),
    ("rro", "", "+ro"),
    ("rrw", "rro", "+rw"),
    ("rshared", "", "+shared"),
    ("rslave", "rshared", "-shared"),
    ("rstrictatime", "rrelatime", "-relatime"),
    ("rsuid", "rnosuid", "-nosuid"),
    ("rsymfollow", "rnosymfollow", "-nosymfollow"),
    ("runbindable", "", "+unbindable"),
    ("rw", "ro", "+rw"),
    ("shared", "", "+shared"),
    ("slave", "shared", "-shared"),
    ("strictatime", "relatime", "-relatime"),
    ("suid", "nosuid", "-nosuid"),
    ("symfollow", "nosymfollow", "-nosymfollow"),
    ("sync", "", "+sync"),
    ("tmpcopyup", "", "+tmpfs"),
    ("unbindable", "", "+unbindable"),
];

/// Options that show nowhere, on a tmpfs at least: all there is to see is that they are not left to the file system,
/// which would refuse them.
const UNSEEN: &[&str] =
    &["acl", "defaults", "iversion", "loud", "mand", "noacl", "noiversion", "nomand", "silent"];

#[test]
fn what_a_mount_does_not_show_was_shown_before() {
    for (word, before, shown) in SHOWN.iter().filter(|(_, _, shown)| shown.starts_with('-')) {
        let taken_back = shown.replace('-', "+");
        // A new mount has this one without being asked.
        let is_default = taken_back == "+relatime";
        let is_shown = SHOWN.iter().any(|row| row.0 == *before && row.2 == taken_back);
        assert!(is_shown || is_default, "{word} takes back what {before} shows");
    }
}

#[test]
fn every_mount_option_does_what_its_name_says() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let known: BTreeSet<_> = list(&features(&sandbox), "/mountOptions").into_iter().collect();
    let words = SHOWN.iter().map(|(word, _, _)| *word).chain(UNSEEN.iter().copied());
    assert_eq!(known, words.map(str::to_owned).collect(), "every option is tried");
    let source = sandbox.directory().join("source");
    fs::create_dir(&source).unwrap();
    let mount = |word: &str, before: &str| {
        let destination = format!("/o/{word}");
        let map = json!([{ "containerID": 0, "hostID": 0, "size": 1000 }]);
        match word {
            "copy-symlink" => {
                json!([{ "destination": destination, "source": source, "options": ["bind", word] }])
            }
            "bind" | "rbind" => json!([{ "destination": destination, "source": source, "options": [word] }]),
            "idmap" | "ridmap" => json!([{
                "destination": destination, "source": source, "options": ["bind", word],
                "uidMappings": map, "gidMappings": map,
            }]),
            "mount-namespace" => json!([{
                "destination": destination, "source": "/proc/self/ns/mnt", "options": ["bind", word],
            }]),
            "remount" => json!([
                { "destination": destination, "type": "tmpfs", "options": ["ro"] },
                { "destination": destination, "type": "tmpfs", "options": ["remount", "rw"] },
            ]),
            _ => {
                let options = Vec::from_iter([before, word].into_iter().filter(|word| !word.is_empty()));
                json!([{ "destination": destination, "type": "tmpfs", "options": options }])
            }
        }
    };
    let rows = SHOWN.iter().map(|(word, before, _)| (*word, *before));
    let mounts: Vec<Value> = rows
        .chain(UNSEEN.iter().map(|word| (*word, "")))
        .flat_map(|(word, before)| mount(word, before).as_array().unwrap().clone())
        .collect();
    let bundle = sandbox.bundle("options").file("o/tmpcopyup/kept", "copied up\n");
    let bundle = bundle.script("cat /proc/self/mountinfo /o/tmpcopyup/kept");
    let bundle = bundle.edit(|config| config["mounts"].as_array_mut().unwrap().extend(mounts));
    let output = sandbox.run(&bundle).output().succeeds();
    let line = |word: &str| {
        let point = format!(" /o/{word} ");
        let line = output.stdout.lines().rfind(|line| line.contains(&point));
        line.unwrap_or_else(|| panic!("{word} is mounted: {output}"))
    };
    for (word, _, shown) in SHOWN {
        let line = line(word);
        // A bind mount shows the directory of the file system that it is of, the third field from here.
        let words: BTreeSet<_> = line.split([' ', ',', ':']).collect();
        let has = |expected: &str| match expected.strip_prefix('/') {
            Some(_) => line.split(' ').nth(3).is_some_and(|root| root.ends_with(expected)),
            None => words.contains(expected),
        };
        match shown.split_at_checked(1) {
            Some(("+", expected)) => assert!(has(expected), "{word} shows {expected}: {line}"),
            Some((_, absent)) => assert!(!has(absent), "{word} does not show {absent}: {line}"),
            None => panic!("{word} shows something or is among those that do not"),
        }
    }
    UNSEEN.iter().for_each(|word| assert!(line(word).contains(" tmpfs "), "{word} is a mount"));
    assert_eq!(output.stdout.lines().last(), Some("copied up"), "tmpcopyup copies what it hides");
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

/// System calls that neither the runtime nor `true` makes.
const RARE: &[&str] =
    &["swapon", "swapoff", "acct", "quotactl", "reboot", "vhangup", "adjtimex", "settimeofday", "syslog"];

/// Architectures whose order of bytes is not that of the machines on which this runs.
const BIG_ENDIAN: &[&str] =
    &["M68K", "MIPS", "MIPS64", "MIPS64N32", "PARISC", "PARISC64", "PPC", "PPC64", "S390", "S390X", "SHEB"];

#[test]
fn every_word_of_a_filter_is_understood() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let features = features(&sandbox);
    let run = |short: &str, filter: Value| {
        sandbox.run(&sandbox.bundle(short).seccomp(filter).args(["true"])).output()
    };
    // Each of many words has a rule of its own in one filter; one that nobody knows would make it an error.
    let of_rules = |words: &[String], rule: &dyn Fn(&str) -> Value| {
        assert!(words.len() <= RARE.len(), "there are calls for {words:?}");
        let rules = words.iter().zip(RARE).map(|(word, call)| {
            let mut rule = rule(word);
            rule["names"] = json!([call]);
            rule
        });
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": Vec::from_iter(rules) })
    };
    let by_action = |word: &str| json!({ "action": word });
    let by_operator = |word: &str| json!({ "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "valueTwo": 1, "op": word }] });
    let notify = ["SCMP_ACT_NOTIFY".to_owned()];
    let mut actions = list(&features, "/linux/seccomp/actions");
    actions.retain(|action| !notify.contains(action));
    assert_eq!(actions.len() + 1, list(&features, "/linux/seccomp/actions").len(), "that one is listed, too");
    run("actions", of_rules(&actions, &by_action)).succeeds();
    // It needs somebody to ask, which says that it is understood.
    run("notify", of_rules(&notify, &by_action)).exits_with(1).complains("listenerPath");
    run("operators", of_rules(&list(&features, "/linux/seccomp/operators"), &by_operator)).succeeds();
    let of_architectures =
        |names: &[String]| json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": names });
    // One filter reads numbers in one order of bytes.
    let (other, same) = list(&features, "/linux/seccomp/archs")
        .into_iter()
        .partition::<Vec<_>, _>(|name| BIG_ENDIAN.contains(&name.trim_start_matches("SCMP_ARCH_")));
    assert_eq!(other.len(), BIG_ENDIAN.len(), "each of them is listed: {other:?}");
    run("architectures", of_architectures(&same)).succeeds();
    for name in other {
        let short = name.to_lowercase();
        run(&short, of_architectures(&[name])).exits_with(1).complains("has another byte order");
    }
    let supported = list(&features, "/linux/seccomp/supportedFlags");
    let flags = |flag: &str| json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag] });
    for flag in list(&features, "/linux/seccomp/knownFlags") {
        let output = run(&flag.to_lowercase(), flags(&flag));
        // The one that waits for an agent has no effect without one.
        let works = supported.contains(&flag) || flag.ends_with("WAIT_KILLABLE_RECV");
        assert_eq!(output.code() == 0, works, "{flag}: {output}");
    }
    let unknown = ["SCMP_NONSENSE".to_owned()];
    for (short, filter) in [
        ("no-action", of_rules(&unknown, &by_action)),
        ("no-operator", of_rules(&unknown, &by_operator)),
        ("no-architecture", of_architectures(&unknown)),
        ("no-flag", flags(&unknown[0])),
    ] {
        run(short, filter).exits_with(1).complains("SCMP_NONSENSE");
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
    // The tests `rootfs`, `rootless`, `checkpoint`, `systemd` and `annotations`.
    let annotations = [
        "org.bulkhead.rootfs.overlay",
        "org.bulkhead.hooks.namespaces",
        "org.criu.config",
        "org.systemd.property.",
        "run.oci.",
    ];
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
