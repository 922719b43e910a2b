//! Whose a container's control group is, and what a container may make of it: sub-cgroups with processes, also such that
//! leave no room in its own.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bulkhead_testkit::{Bundle, Sandbox, cgroups, is_root, requires, wait_until};
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// The container's root user, on the host.
const FIRST: u32 = 100_000;

const NO_V2: &str = "needs root and cgroup v2";

fn has_v2() -> bool {
    is_root() && cgroups::hierarchies().iter().any(|path| path.join("cgroup.controllers").exists())
}

/// Makes the cgroup mount writable.
fn writable(bundle: Bundle) -> Bundle {
    bundle.edit(|config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
            }
        }
        // Nothing can be limited on some machines.
        config["linux"]["resources"] = json!({});
    })
}

fn in_user_namespace(bundle: Bundle) -> Bundle {
    let maps = [(0, FIRST, 65536)];
    bundle.user_namespace(&maps, &maps).owned_by(FIRST, FIRST)
}

/// Finds the container's directory in the v2 hierarchy.
fn v2_directory(sandbox: &Sandbox, bundle: &Bundle) -> PathBuf {
    let found = sandbox.cgroups(bundle.cgroups_path()).into_iter();
    found.into_iter().find(|path| path.join("cgroup.controllers").exists()).unwrap()
}

fn owner(directory: &std::path::Path, file: &str) -> u32 {
    fs::metadata(directory.join(file)).unwrap().uid()
}

#[test]
fn a_writable_cgroup_is_the_containers_own_but_for_its_limits() {
    requires!(has_v2(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    let bundle = writable(in_user_namespace(sandbox.bundle("c"))).args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let script = "cd /sys/fs/cgroup && stat -c %u . cgroup.procs && mkdir -p sub/sub && echo 1 > sub/cgroup.procs && \
        grep ^0: /proc/1/cgroup; for file in cgroup.max.depth *.max cgroup.freeze; do echo 1 2>/dev/null > $file && \
        echo wrote $file; done; true";
    let output = sandbox.exec(&bundle, ["sh", "-c", script]).output();
    assert_eq!(
        output.stdout, "0\n0\n0::/sub\n",
        "the container's root makes groups and moves processes\n{output}"
    );
    let directory = v2_directory(&sandbox, &bundle);
    let owners =
        ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"].map(|file| owner(&directory, file));
    assert_eq!(owners, [FIRST; 4]);
    for limit in fs::read_dir(&directory).unwrap().flatten() {
        let name = limit.file_name().into_string().unwrap();
        if name.ends_with(".max") || name.starts_with("cgroup.max") || name == "cgroup.freeze" {
            assert_eq!(owner(&directory, &name), 0, "{name} stays the host's");
        }
    }
    assert_eq!(
        owner(directory.parent().unwrap(), "cgroup.procs"),
        0,
        "what is above is nobody's but the host's"
    );
}

#[test]
fn a_cgroup_belongs_to_whoever_runs_the_program() {
    requires!(has_v2(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    let script = "stat -c %u /sys/fs/cgroup; mkdir /sys/fs/cgroup/sub && echo made";
    for (short, bundle, seen) in [
        ("mapped", in_user_namespace(sandbox.bundle("mapped")), "1000\nmade\n"),
        ("plain", sandbox.bundle("plain"), "1000\nmade\n"),
    ] {
        let bundle = writable(bundle).user(1000, 1000).script(script);
        let output = sandbox.run(&bundle).output().succeeds();
        assert_eq!(output.stdout, seen, "{short}\n{output}");
    }
}

#[test]
fn a_container_that_joins_a_user_namespace_gets_its_cgroup_by_the_maps_of_that() {
    requires!(has_v2(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    let first = in_user_namespace(sandbox.bundle("first")).args(["sleep", "1000"]);
    let first = first.edit(|config| config["linux"]["resources"] = json!({}));
    sandbox.launch(&first);
    let namespace = format!("/proc/{}/ns/user", sandbox.pid(&first));
    let second = writable(sandbox.bundle("second")).owned_by(FIRST, FIRST).namespace_at("user", namespace);
    let second = second.args(["sleep", "1000"]);
    sandbox.launch(&second);
    assert_eq!(owner(&v2_directory(&sandbox, &second), ""), FIRST);
    sandbox.exec(&second, ["mkdir", "/sys/fs/cgroup/sub"]).output().succeeds();
}

/// Says in what a container has to differ so that its cgroup stays the host's.
fn closed(sandbox: &Sandbox) -> Vec<(&'static str, Bundle)> {
    let open = |short| writable(in_user_namespace(sandbox.bundle(short))).args(["sleep", "1000"]);
    let options = |bundle: Bundle, words: &[&str]| {
        bundle.edit(|config| {
            for mount in config["mounts"].as_array_mut().unwrap() {
                if mount["type"] == "cgroup" {
                    mount["options"] = json!(words);
                }
            }
        })
    };
    vec![
        ("a mount that is read-only", options(open("ro"), &["ro"])),
        ("a mount that is recursively read-only", options(open("rro"), &["rro"])),
        ("the host's cgroup namespace", open("shared").without_namespace("cgroup")),
        (
            "no cgroup mount",
            open("none").edit(|config| {
                config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
            }),
        ),
        (
            "a cgroup mount elsewhere",
            open("elsewhere").edit(|config| {
                for mount in config["mounts"].as_array_mut().unwrap() {
                    if mount["type"] == "cgroup" {
                        mount["destination"] = "/elsewhere".into();
                    }
                }
            }),
        ),
        ("something else over it", open("over").mount("tmpfs", "tmpfs", "/sys/fs/cgroup", &[])),
    ]
}

/// Needs the conditions of `Plan::cgroup_owner`, each of them: a cgroup that is given away without a namespace of its own
/// lets the container write wherever the user of the host may. Seen to fail with the cgroup given to every container.
#[test]
fn under_other_conditions_a_cgroup_stays_the_hosts() {
    requires!(has_v2(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    for (what, bundle) in closed(&sandbox) {
        sandbox.launch(&bundle);
        let directory = v2_directory(&sandbox, &bundle);
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            assert_eq!(owner(&directory, file), 0, "with {what} {file:?} is the host's");
        }
    }
}

#[test]
fn v1_is_never_given_away() {
    requires!(has_v2(), "{NO_V2}");
    requires!(cgroups::hierarchies().len() > 1, "no v1 hierarchy is mounted");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = writable(in_user_namespace(sandbox.bundle("c"))).args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    for directory in sandbox.cgroups(bundle.cgroups_path()) {
        assert_eq!(
            (owner(&directory, ""), owner(&directory, "cgroup.procs")),
            (0, 0),
            "{}",
            directory.display()
        );
    }
}

/// Has the container hand a controller down, which leaves no room for processes in its own cgroup.
fn occupy(sandbox: &Sandbox, bundle: &Bundle) {
    let script = "cd /sys/fs/cgroup && mkdir init other && for pid in $(cat cgroup.procs); do echo $pid > init/cgroup.procs; \
        done; set -- $(cat cgroup.controllers); for name; do case $name in cpu|cpuset|pids|perf_event) ;; *) \
        echo +$name > cgroup.subtree_control && exit;; esac; done; exit 9";
    sandbox.exec(bundle, ["sh", "-c", script]).output().succeeds();
}

#[test]
fn exec_joins_the_first_process_where_sub_cgroups_leave_no_room() {
    requires!(has_v2(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    let bundle = writable(sandbox.bundle("c")).args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let own = |arguments: &[&str]| {
        let run =
            sandbox.runtime().arg("exec").args(arguments).arg(bundle.id()).args(["cat", "/proc/self/cgroup"]);
        run.output()
    };
    let place = |arguments: &[&str]| {
        let output = own(arguments).succeeds();
        output.stdout.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned).unwrap()
    };
    assert_eq!(place(&[]), "/");
    occupy(&sandbox, &bundle);
    assert_eq!(place(&[]), "/init", "where the first process is");
    assert_eq!(place(&["--cgroup", "other"]), "/other", "where the caller says");
    let busy = "/cgroup.procs: device or resource busy: no process can be in this cgroup itself";
    own(&["--cgroup", "/"]).exits_with(255).complains(busy);
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "what the container made is removed with it");
}

#[test]
fn exec_works_in_threaded_cgroups() {
    requires!(has_v2(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN).v2_only();
    let bundle = writable(sandbox.bundle("c")).args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let script =
        "cd /sys/fs/cgroup && mkdir threads && echo threaded > threads/cgroup.type && cat cgroup.type";
    sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds().prints("domain threaded\n");
    for (arguments, place) in [(&[][..], "0::/"), (&["--cgroup", "threads"], "0::/threads")] {
        let run =
            sandbox.runtime().arg("exec").args(arguments).arg(bundle.id()).args(["cat", "/proc/self/cgroup"]);
        let output = run.output().succeeds();
        assert_eq!(output.stdout.lines().last(), Some(place), "{arguments:?}");
    }
    // A process in a threaded cgroup is still the container's.
    sandbox.exec(&bundle, ["sh", "-c", "echo 1 > /sys/fs/cgroup/threads/cgroup.threads"]).output().succeeds();
    let ps = sandbox.runtime().args(["ps", "--format", "json", bundle.id()]).output().succeeds();
    assert_eq!(ps.stdout.trim(), format!("[{}]", sandbox.pid(&bundle)));
    sandbox.runtime().args(["pause", bundle.id()]).output().succeeds();
    sandbox.runtime().args(["resume", bundle.id()]).output().succeeds();
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
}

#[test]
fn exec_follows_a_container_that_has_left_its_cgroup() {
    requires!(has_v2(), "{NO_V2}");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("c").args(["sleep", "1000"]);
    let bundle = bundle.edit(|config| config["linux"]["resources"] = json!({}));
    sandbox.launch(&bundle);
    let pid = sandbox.pid(&bundle).to_string();
    let own = sandbox.cgroups(bundle.cgroups_path());
    for directory in &own {
        let other = directory.with_file_name("elsewhere");
        fs::create_dir(&other).unwrap();
        for file in ["cpuset.mems", "cpuset.cpus"] {
            if let Ok(text) = fs::read_to_string(directory.join(file)) {
                let _ = fs::write(other.join(file), text.trim());
            }
        }
        fs::write(other.join("cgroup.procs"), &pid).unwrap();
        wait_until("the cgroup is empty", || fs::remove_dir(directory).is_ok());
    }
    let output = sandbox.exec(&bundle, ["cat", "/proc/self/cgroup"]).output().succeeds();
    let places = output.stdout.lines().filter(|line| line.ends_with("/../elsewhere")).count();
    assert_eq!(places, own.len(), "it is with the first process\n{output}");
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    for directory in &own {
        wait_until("nobody is left", || fs::remove_dir(directory.with_file_name("elsewhere")).is_ok());
    }
}
