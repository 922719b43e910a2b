//! Ways out of the container's cgroup: CVE-2022-0492, CVE-2023-25809, `..` in paths.

use std::fs;

use bulkhead_testkit::{is_root, requires};
use serde_json::{Value, json};

use crate::{exec, sandbox};

/// Needs the parser of sub-cgroups and their lookup beneath the container's cgroup. Must fail with both taking any
/// path: the process is in the sandbox's cgroup, beside the container's.
#[test]
fn a_sub_cgroup_stays_below_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("sub").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let elsewhere = format!("pids:/../../{}", sandbox.name());
    for hostile in
        ["..", "../", "/..", "a/../..", "/../..", "pids:..", "pids,cpu:a/../../b", "./..", &elsewhere]
    {
        let output = exec(&sandbox, &["--cgroup", hostile], &bundle, &["cat", "/proc/self/cgroup"]).output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{hostile} is refused\n{output}");
    }
}

/// A link cannot be in a cgroup file system, and a volume cannot be mounted over the one that the runtime writes: what
/// `exec --cgroup` names must exist, as a cgroup.
#[test]
fn a_sub_cgroup_that_is_not_there_is_not_made() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("missing").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    for missing in ["new", "cgroup.procs", "/", "a/b"] {
        let output = exec(&sandbox, &["--cgroup", missing], &bundle, &["/bin/echo", "ran"]).output();
        assert!(missing == "/" || output.code() != 0, "{missing} is refused\n{output}");
    }
    for cgroup in sandbox.cgroups(bundle.cgroups_path()) {
        let below = fs::read_dir(&cgroup).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
        assert_eq!(below, 0, "nothing was made in {}", cgroup.display());
    }
}

/// Needs `CgroupPath`. Must fail without its check of `..`.
#[test]
fn a_cgroup_path_with_dots_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (number, path) in ["/../x", "..", "/a/../../b", "a/../..", "/", "/."].iter().enumerate() {
        let bundle = sandbox
            .bundle(&format!("path{number}"))
            .script("echo started")
            .edit(|config| config["linux"]["cgroupsPath"] = (*path).into());
        sandbox.run(&bundle).output().exits_with(1).prints("").complains("cgroup path");
    }
}

/// Needs the cgroup mounts to be read-only where the configuration says so, each of them, and the capabilities that
/// could change that to be dropped. Must fail when the attributes are set on the tmpfs only.
#[test]
fn the_cgroup_mounts_cannot_be_written() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for namespace in ["with", "without"] {
        let bundle = sandbox.bundle(namespace).script(
            "cd /sys/fs/cgroup; for dir in . *; do mkdir $dir/new && echo made $dir/new; \
             for file in $dir/cgroup.procs $dir/tasks $dir/*max* $dir/*limit* $dir/notify_on_release; do \
             test -e $file && echo 1 > $file && echo wrote $file; done; done 2>/dev/null; \
             mount -o remount,rw . 2>/dev/null && echo remounted; true",
        );
        let bundle = if namespace == "with" { bundle } else { bundle.without_namespace("cgroup") };
        sandbox.run(&bundle).output().succeeds().prints("");
    }
}

/// A recursive `ro` of the cgroup mount closes every hierarchy in it. Seen to fail when only the mount's own attributes
/// are read: each hierarchy is a mount of its own, in which the container's root makes a group.
#[test]
fn a_recursive_read_only_closes_every_cgroup_mount() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for namespace in ["with", "without"] {
        let bundle = sandbox
            .bundle(namespace)
            .script("cd /sys/fs/cgroup; for dir in . *; do mkdir $dir/new 2>/dev/null && echo made $dir/new; done; true")
            .edit(|config| set_cgroup_options(config, &json!(["rro", "nosuid", "noexec", "nodev"])));
        let bundle = if namespace == "with" { bundle } else { bundle.without_namespace("cgroup") };
        sandbox.run(&bundle).output().succeeds().prints("");
    }
}

/// Replaces the options of the mount of control groups.
fn set_cgroup_options(config: &mut Value, options: &Value) {
    for mount in config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = options.clone();
        }
    }
}

/// The release agent runs on the host as root. It is a file of a hierarchy's root, which the container must not see;
/// and the container must not mount a hierarchy anew. Needs the clone of the container's own part of each hierarchy.
/// Must fail when the hierarchies are mounted whole (a new mount of type cgroup without a namespace).
#[test]
fn the_release_agent_cannot_be_set() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for options in [json!(["ro", "nosuid", "noexec", "nodev"]), json!(["rw", "nosuid", "noexec", "nodev"])] {
        for namespace in ["with", "without"] {
            let short = format!("{namespace}-{}", options[0].as_str().unwrap());
            let bundle = sandbox.bundle(&short).script(
                "find / -xdev -name release_agent; find /sys/fs/cgroup -name release_agent; \
                 mkdir /tmp/rdma; mount -t cgroup -o rdma cgroup /tmp/rdma 2>/dev/null && echo mounted; \
                 mount -t cgroup2 cgroup2 /tmp/rdma 2>/dev/null && echo mounted; \
                 unshare -UrC true 2>/dev/null && unshare -UrmC mount -t cgroup -o rdma cgroup /tmp/rdma 2>/dev/null \
                 && echo mounted; true",
            );
            let bundle = if namespace == "with" { bundle } else { bundle.without_namespace("cgroup") };
            let bundle = bundle.edit(|config| set_cgroup_options(config, &options));
            sandbox.run(&bundle).output().succeeds().prints("");
        }
    }
}

/// With a cgroup namespace nothing of the host's tree has a name inside; without one the container sees its own part
/// only. Needs the namespace to be made after the cgroups are joined.
#[test]
fn the_hosts_cgroups_are_not_in_sight() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox
        .bundle("inside")
        .script("cut -d: -f3- /proc/self/cgroup | sort -u; find /sys/fs/cgroup -type d");
    let output = sandbox.run(&bundle).output().succeeds();
    assert!(!output.stdout.contains(sandbox.name()), "no path of the host is visible\n{output}");
    let shared = sandbox
        .bundle("shared")
        .script("find /sys/fs/cgroup -type d -name 'bh-*'")
        .without_namespace("cgroup");
    sandbox.run(&shared).output().succeeds().prints("");
}

/// A container that is not the first in its cgroup is refused by runc; by us, too, if the cgroup holds processes.
/// Needs the check of the cgroup before it is used. Without it the limits of one container apply to another.
#[test]
fn a_cgroup_in_use_is_not_shared() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let first = sandbox.bundle("first").args(["sleep", "1000"]);
    sandbox.launch(&first);
    let path = first.cgroups_path().to_owned();
    let second = sandbox
        .bundle("second")
        .script("echo ran")
        .edit(|config| config["linux"]["cgroupsPath"] = path.into());
    let output = sandbox.run(&second).output().exits_with(1).prints("");
    assert!(output.stderr.contains("cgroup"), "the message is about the cgroup\n{output}");
    assert_eq!(sandbox.status(&first), "running", "the first one is as it was");
    assert!(fs::metadata(format!("/proc/{}", sandbox.pid(&first))).is_ok(), "its process lives");
}
