//! Containers whose cgroups, users or monitors are not the usual ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bulkhead_testkit::{Bundle, Run, Sandbox, requires, wait_until};
use serde_json::json;

use crate::{
    COUNTER, MISSING, checkpoint, come_back, count, end, images, is_possible, restore, runtime, sandbox,
    unconfigured,
};

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A property of the container's cgroup that CRIU keeps: of version 2 it knows but those that all controllers share.
fn property(sandbox: &Sandbox, bundle: &Bundle) -> PathBuf {
    let name = if is_v2() { "cgroup.max.depth" } else { "pids.max" };
    let cgroups = sandbox.cgroups(bundle.cgroups_path());
    let mut files = cgroups.iter().map(|cgroup| cgroup.join(name));
    files.find(|file| file.exists()).unwrap()
}

#[test]
fn limits_are_those_of_the_configuration_or_of_the_images() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").resources(json!({ "pids": { "limit": 70 } })).script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let read = || fs::read_to_string(property(&sandbox, &bundle)).unwrap();
    let made = read();
    fs::write(property(&sandbox, &bundle), "71\n").unwrap();
    checkpoint(&sandbox, &bundle).output().succeeds();
    let back = |mode: &str| restore(&sandbox, &bundle, &["--detach", "--manage-cgroups-mode", mode]);
    for (mode, expected) in [("", &*made), ("ignore", &made), ("soft", &made), ("full", "71\n")] {
        back(mode).stdout(Stdio::null()).output().succeeds();
        assert_eq!(read(), expected, "what the mode {mode:?} restores");
        let process = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid(&bundle))).unwrap();
        let path = bundle.cgroups_path();
        assert!(process.lines().any(|line| line.ends_with(path)), "the process is in {path}:\n{process}");
        end(&sandbox, &bundle);
    }
    let refused = back("strict").stdout(Stdio::null()).output().exits_with(1);
    refused.complains("Abort restore of existing cgroups");
    back("hard").output().exits_with(1).complains("hard");
}

#[test]
fn a_container_with_users_of_its_own_comes_back_with_them() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let map = [(0, 100_000, 65_536)];
    let bundle =
        unconfigured(&sandbox, "c").user_namespace(&map, &map).owned_by(100_000, 100_000).script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let look = || {
        let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c %u /dev/shm/n; \
            grep ^Cap /proc/1/status; cut -d' ' -f5,6 /proc/self/mountinfo | sort; touch /dev/full /etc/x";
        sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds().stdout
    };
    let before = look();
    checkpoint(&sandbox, &bundle).output().succeeds();
    come_back(&sandbox, &bundle, &[]);
    assert_eq!(look(), before, "a restored container is what it was");
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid(&bundle))).unwrap();
    assert!(status.contains("Uid:\t100000\t100000\t100000\t100000\n"), "{status}");
    end(&sandbox, &bundle);
}

#[test]
fn cgroups_below_the_containers_come_back() {
    requires!(is_possible() && is_v2(), "{MISSING}; and cgroup v2 alone");
    let sandbox = sandbox();
    let script =
        format!("mkdir /sys/fs/cgroup/inner && echo 0 >/sys/fs/cgroup/inner/cgroup.procs; {COUNTER}");
    let bundle = unconfigured(&sandbox, "c").script(&script).edit(|config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
            }
        }
    });
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let look = || sandbox.exec(&bundle, ["cat", "/proc/1/cgroup"]).output().succeeds().stdout;
    assert_eq!(look(), "0::/inner\n");
    checkpoint(&sandbox, &bundle).output().succeeds();
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "they end with the container");
    come_back(&sandbox, &bundle, &[]);
    assert_eq!(look(), "0::/inner\n", "the process is where it was");
    end(&sandbox, &bundle);
}

#[test]
fn a_scope_of_systemd_is_made_anew() {
    let is_systemd = is_v2() && Path::new("/run/systemd/system").is_dir();
    requires!(is_possible() && is_systemd, "{MISSING}; and systemd with cgroup v2 alone");
    let sandbox = sandbox();
    let path = format!("system.slice:{}:c", sandbox.name());
    let limits = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 70 } });
    let bundle = unconfigured(&sandbox, "c").script(COUNTER).resources(limits);
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = path.into());
    let systemd = |run: Run, verb: &str| run.arg("--systemd-cgroup").arg(verb);
    let make = systemd(sandbox.runtime(), "run").args(["--detach", "--bundle"]).arg(bundle.directory());
    make.arg(bundle.id()).output().succeeds();
    count(&sandbox, &bundle);
    let scope = Path::new("/sys/fs/cgroup/system.slice").join(format!("{}-c.scope", sandbox.name()));
    let holds = || {
        let file = |name: &str| fs::read_to_string(scope.join(name)).unwrap();
        assert_eq!(["memory.max", "pids.max"].map(file), ["67108864\n", "70\n"], "limits are in force");
        let (pid, processes) = (sandbox.pid(&bundle).to_string(), file("cgroup.procs"));
        assert!(processes.lines().any(|line| line == pid), "{pid} is in the scope: {processes}");
    };
    holds();
    let images = images(&sandbox);
    let write = systemd(runtime(&sandbox), "checkpoint").arg("--image-path").arg(&images);
    write.arg(bundle.id()).output().succeeds();
    wait_until("the scope is gone", || !scope.exists());
    let back = systemd(runtime(&sandbox), "restore").arg("--image-path").arg(&images).arg("--detach");
    let back = back.arg("--bundle").arg(bundle.directory()).arg(bundle.id());
    back.stdout(Stdio::null()).output().succeeds();
    holds();
    let went_on = count(&sandbox, &bundle);
    wait_until("the container counts on", || count(&sandbox, &bundle) > went_on);
    end(&sandbox, &bundle);
    wait_until("the scope is gone", || !scope.exists());
}
