//! Control groups of an ordinary user: none, or such as were delegated.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use bulkhead_testkit::{Bundle, Output, Run, Sandbox, cgroups, fresh, is_root, requires};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// An ordinary user that no host has.
const USER: u32 = 54_322;

const NOT_HERE: &str = "needs root, user namespaces and cgroup v2";

fn is_possible() -> bool {
    is_root() && fresh::is_possible(&[fresh::Kind::User]) && v2_root().is_some()
}

fn v2_root() -> Option<PathBuf> {
    cgroups::hierarchies().into_iter().find(|path| path.join("cgroup.controllers").exists())
}

/// A container that names no cgroup and wants no limit.
fn modest(bundle: Bundle) -> Bundle {
    bundle.edit(|config| {
        config["linux"]["resources"] = json!({});
        config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    })
}

fn mount_options(bundle: Bundle, options: &[&str]) -> Bundle {
    bundle.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options }));
    })
}

/// Directories of the v2 hierarchy that belong to the user, removed in the end.
struct Delegated {
    top: PathBuf,
}

impl Delegated {
    /// Makes a cgroup for callers and gives it, and what is above it, to the user.
    fn new(sandbox: &Sandbox) -> Self {
        let top = v2_root().unwrap().join(sandbox.name());
        let caller = top.join("caller");
        fs::create_dir_all(&caller).unwrap();
        for directory in [&top, &caller] {
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(directory.join(file), Some(USER), Some(USER)).unwrap();
            }
        }
        Self { top }
    }

    /// A command of the runtime that runs as the user, from this cgroup or from that of the test.
    fn run(&self, sandbox: &Sandbox, from: From, arguments: &[&str]) -> Run {
        let enter = match from {
            From::Inside => {
                let name = self.top.file_name().unwrap().display();
                format!("echo $$ > /sys/fs/cgroup/{name}/caller/cgroup.procs || exit 9;")
            }
            From::Outside => String::new(),
        };
        let script = format!(
            "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 9; {enter} \
             exec setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\""
        );
        let run =
            sandbox.command("unshare").args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
        run.arg(sandbox.runtime_program()).arg("--root").arg(sandbox.state_directory()).args(arguments)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.top.join("caller"));
        let _ = fs::remove_dir(&self.top);
    }
}

#[derive(Clone, Copy)]
enum From {
    Inside,
    Outside,
}

#[test]
fn without_rights_a_container_runs_and_says_that_it_has_no_limits() {
    requires!(is_possible(), "{NOT_HERE}");
    let sandbox = Sandbox::new(BULKRUN).as_user(USER, USER);
    let bundle = modest(sandbox.bundle("c")).script("echo fine");
    sandbox
        .run(&bundle)
        .output()
        .succeeds()
        .prints("fine\n")
        .complains("runs without a cgroup, and so without limits");
}

#[test]
fn a_limit_or_a_path_without_rights_is_refused_with_the_way_out() {
    requires!(is_possible(), "{NOT_HERE}");
    let sandbox = Sandbox::new(BULKRUN).as_user(USER, USER);
    let limit = modest(sandbox.bundle("limit"));
    let limit = limit.edit(|config| config["linux"]["resources"] = json!({ "pids": { "limit": 100 } }));
    let output = sandbox.run(&limit).output().exits_with(1);
    let output = output
        .complains("rootless needs no limits + no cgrouppath when no permission is granted for cgroups");
    output.complains("systemd-run --user --scope");
    let path = modest(sandbox.bundle("path"));
    let path = path.edit(|config| config["linux"]["cgroupsPath"] = "/bh-not-mine/c".into());
    let output = sandbox.run(&path).output().exits_with(1).complains("unable to apply cgroup configuration");
    output.complains("permission denied");
    let never = modest(sandbox.bundle("never"));
    let run = sandbox.runtime().args(["--rootless", "false", "run", "--bundle"]);
    run.arg(never.directory())
        .arg(never.id())
        .output()
        .exits_with(1)
        .complains("unable to apply cgroup configuration");
}

#[test]
fn a_limit_is_refused_also_where_no_cgroups_are_mounted() {
    requires!(is_possible(), "{NOT_HERE}");
    let sandbox = Sandbox::new(BULKRUN);
    let script = "umount -R /sys/fs/cgroup; exec \"$@\"";
    let sandbox = sandbox.through(fresh::prefix(&[fresh::Kind::Mount])).through(["sh", "-c", script, "sh"]);
    let run = |short: &str, limits| {
        let bundle = modest(sandbox.bundle(short))
            .script("echo fine")
            .edit(|config| config["linux"]["resources"] = limits);
        let run = sandbox.runtime().args(["--rootless", "true", "run", "--bundle"]);
        run.arg(bundle.directory()).arg(bundle.id()).output()
    };
    run("without", json!({})).succeeds().prints("fine\n");
    run("with", json!({ "pids": { "limit": 100 } })).exits_with(1).complains("cannot set pids.max");
}

#[test]
fn whether_a_caller_is_rootless_can_be_said() {
    requires!(is_possible(), "{NOT_HERE}");
    let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 -o ro cgroup2 /sys/fs/cgroup && exec \"$@\"";
    let sandbox = Sandbox::new(BULKRUN);
    let sandbox = sandbox.through(fresh::prefix(&[fresh::Kind::Mount])).through(["sh", "-c", script, "sh"]);
    let run = |value: &str| {
        let bundle = modest(sandbox.bundle(value)).script("echo fine");
        let run = sandbox.runtime().args(["--rootless", value, "run", "--bundle"]);
        run.arg(bundle.directory()).arg(bundle.id()).output()
    };
    run("true").succeeds().prints("fine\n").complains("without limits");
    for value in ["auto", "false"] {
        run(value)
            .exits_with(1)
            .complains("unable to apply cgroup configuration")
            .complains("read-only file system");
    }
}

#[test]
fn a_delegated_cgroup_is_used() {
    requires!(is_possible(), "{NOT_HERE}");
    let sandbox = Sandbox::new(BULKRUN).as_user(USER, USER);
    let delegated = Delegated::new(&sandbox);
    let bundle = modest(sandbox.bundle("c")).args(["sleep", "1000"]);
    let directory = bundle.directory().to_str().unwrap();
    let run = |from, arguments: &[&str]| delegated.run(&sandbox, from, arguments);
    run(From::Inside, &["run", "--detach", "--bundle", directory, bundle.id()]).output().succeeds();
    let own = delegated.top.join(bundle.id());
    assert_eq!(fs::read_to_string(own.join("cgroup.procs")).unwrap(), format!("{}\n", sandbox.pid(&bundle)));
    assert_eq!(fs::metadata(&own).unwrap().uid(), USER);
    let place = ["exec", bundle.id(), "cat", "/proc/self/cgroup"];
    let output = run(From::Inside, &place).output().succeeds();
    let is_inside = |output: &Output| output.stdout.trim_end().ends_with(bundle.id());
    assert!(is_inside(&output), "exec is in the container's cgroup\n{output}");
    // From another session: as under runc the process runs, but not unnoticed.
    let output =
        run(From::Outside, &place).output().succeeds().complains("runs without the container's limits");
    assert!(!is_inside(&output), "{output}");
    let named = ["exec", "--cgroup", "/", bundle.id(), "true"];
    run(From::Outside, &named).output().exits_with(255).complains("cannot be entered from the caller's own");
    run(From::Inside, &["pause", bundle.id()]).output().succeeds();
    run(From::Inside, &["resume", bundle.id()]).output().succeeds();
    run(From::Inside, &["delete", "--force", bundle.id()]).output().succeeds();
    assert!(!own.exists(), "it is removed");
}

/// Lists the cgroups that a container can make.
const MAKES: &str = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/new 2>/dev/null && echo made in $d; done; \
    test -e /sys/fs/cgroup/cgroup.procs && echo seen; mount -o remount,bind,rw /sys/fs/cgroup 2>/dev/null && echo opened; true";

/// A container without a cgroup of its own sees that of its maker, and may not write there whatever its configuration says
/// (CVE-2023-25809). Seen to fail without `close_foreign`: the container makes cgroups beside its maker's processes.
#[test]
fn the_callers_cgroup_is_shown_but_closed() {
    requires!(is_possible(), "{NOT_HERE}");
    let sandbox = Sandbox::new(BULKRUN).as_user(USER, USER);
    let delegated = Delegated::new(&sandbox);
    for (short, options) in [("rw", &["rw"][..]), ("rrw", &["rrw"])] {
        let bundle = mount_options(modest(sandbox.bundle(short)), options).script(MAKES);
        let arguments = [
            "--cgroup-manager",
            "disabled",
            "run",
            "--bundle",
            bundle.directory().to_str().unwrap(),
            bundle.id(),
        ];
        let output = delegated.run(&sandbox, From::Inside, &arguments).output().succeeds();
        assert_eq!(output.stdout, "seen\n", "with {short}\n{output}");
    }
    let left =
        fs::read_dir(delegated.top.join("caller")).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(left.count(), 0);
}

#[test]
fn the_callers_hierarchies_of_v1_are_shown_too() {
    requires!(is_possible(), "{NOT_HERE}");
    requires!(cgroups::hierarchies().len() > 1, "no v1 hierarchy is mounted");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = mount_options(modest(sandbox.bundle("c")), &["rw"]);
    let script = "for d in /sys/fs/cgroup/*/; do test -e $d/cgroup.procs || echo nothing in $d; \
        now=$(cat $d/notify_on_release); echo $now 2>/dev/null > $d/notify_on_release && echo open; done; ls /sys/fs/cgroup | wc -l";
    let bundle = bundle.script(script);
    let run = sandbox.runtime().args(["--cgroup-manager", "disabled", "run", "--bundle"]);
    let output = run.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    assert!(output.stdout.trim().parse::<u32>().is_ok_and(|count| count > 1), "{output}");
}

#[test]
fn root_of_a_user_namespace_goes_on_without_rules_about_devices() {
    requires!(is_possible(), "{NOT_HERE}");
    // As podman's runtime of an ordinary user: it has all rights in a namespace, and none over programs of the kernel.
    let sandbox = Sandbox::new(BULKRUN).v2_only().through(["unshare", "--user", "--map-root-user"]);
    let path = format!("/{}/c", sandbox.name());
    let bundle = sandbox.bundle("c").rootless(0, 0).script("echo here").edit(|config| {
        config["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        config["linux"]["cgroupsPath"] = path.into();
    });
    sandbox.run(&bundle).output().succeeds().prints("here\n");
}
