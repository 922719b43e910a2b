//! Pods: what their containers share, how long it lives, and that nothing of it is left.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bulkhead_testkit::{requires, wait_until};
use serde_json::Value;

use crate::shop::{IMAGE, Shop, shop, systemd_makes_cgroups};

impl Shop {
    /// Makes a pod below the shop's cgroup.
    #[track_caller]
    pub(crate) fn pod(&self, name: &str, options: &[&str]) -> String {
        let parent = self.parent();
        let words = [&["pod", "create", "--cgroup-parent", &parent], options, &[name]].concat();
        self.said(&words).trim().to_owned()
    }

    /// Starts a container in a pod.
    #[track_caller]
    pub(crate) fn member(&self, pod: &str, name: &str, script: &str) {
        let words =
            ["run", "-d", "--pod", pod, "--name", name, "--stop-timeout", "1", IMAGE, "sh", "-c", script];
        self.said(&words);
    }

    /// The cgroups of a pod, one in each hierarchy that has it.
    fn pod_cgroups(&self, id: &str) -> Vec<PathBuf> {
        self.sandbox.cgroups(&match systemd_makes_cgroups() {
            true => format!("/system.slice/system-bulkhead_pod_{}.slice", &id[..12]),
            false => format!("/{}/pod-{id}", self.sandbox.name()),
        })
    }

    fn namespace(&self, name: &str, kind: &str) -> String {
        let pid = self.inspect(name)["State"]["Pid"].as_i64().unwrap();
        fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
    }

    fn monitor(&self, name: &str) -> i32 {
        let id = self.inspect(name)["Id"].as_str().unwrap().to_owned();
        let text = fs::read(self.path("engine/containers").join(id).join("status.json")).unwrap();
        let status: Value = serde_json::from_slice(&text).unwrap();
        i32::try_from(status["monitor"]["pid"].as_i64().unwrap()).unwrap()
    }
}

/// Ends a process at once, by its number.
fn kill(pid: i32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success(), "process {pid} is not there");
}

#[test]
fn containers_of_a_pod_share_network_ipc_and_host_name() {
    let shop = shop!();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let id = shop.pod("web", &["--label", "tier=front", "--add-host", "db:10.0.0.7"]);
    shop.member("web", "one", "hostname; echo shared > /dev/shm/note; nc -ll -p 8080 -e cat & sleep 1000");
    shop.member("web", "two", "sleep 1000");
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(shop.namespace("one", kind), shop.namespace("two", kind), "{kind}");
        assert_ne!(
            shop.namespace("one", kind),
            fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
        );
    }
    for kind in ["pid", "mnt"] {
        assert_ne!(shop.namespace("one", kind), shop.namespace("two", kind), "{kind}");
    }
    wait_until("the first has begun", || shop.said(&["logs", "one"]) == "web\n");
    assert_eq!(shop.said(&["exec", "two", "hostname"]), "web\n", "the host name is the pod's");
    assert_eq!(shop.said(&["exec", "two", "cat", "/dev/shm/note"]), "shared\n");
    assert!(shop.said(&["exec", "two", "cat", "/etc/hosts"]).contains("10.0.0.7\tdb"));
    wait_until("what one listens to, the other reaches", || {
        let heard = shop
            .bulkhead(&["exec", "-i", "two", "nc", "-w", "2", "127.0.0.1", "8080"])
            .input("hello\n")
            .output();
        heard.stdout == "hello\n"
    });
    assert_eq!(
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before,
        "the host's mounts are as they were"
    );

    assert_eq!(shop.said(&["pod", "ps", "-q", "--no-trunc"]), format!("{id}\n"));
    let row = shop.said(&[
        "pod",
        "ps",
        "--format",
        "{{.Name}} {{.Status}} {{.NumberOfContainers}} {{.ContainerNames}}",
    ]);
    assert_eq!(row, "web Running 2 one,two\n");
    assert_eq!(shop.said(&["pod", "ps", "-q", "--filter", "label=tier=back"]), "");
    assert_eq!(shop.said(&["pod", "ps", "-q", "--filter", "status=running"]).trim(), &id[..12]);
    assert_eq!(
        shop.said(&["ps", "--filter", "pod=web", "--format", "{{.Names}} {{.PodName}}"]),
        "two web\none web\n"
    );
    let told: Value = serde_json::from_str(&shop.said(&["pod", "inspect", "web"])).unwrap();
    assert_eq!(told[0]["SharedNamespaces"], serde_json::json!(["ipc", "net", "uts"]));
    assert_eq!(told[0]["Containers"][1]["Name"], "two");
    shop.said(&["pod", "rm", "-f", "web"]);
    assert_eq!(shop.said(&["ps", "-aq"]) + &shop.said(&["pod", "ps", "-q"]), "");
}

#[test]
fn what_is_shared_outlives_each_member() {
    let shop = shop!();
    shop.pod("web", &[]);
    shop.member("web", "one", "echo kept > /dev/shm/note; sleep 1000");
    shop.member("web", "two", "sleep 1000");
    let network = shop.namespace("two", "net");
    wait_until("it is written", || {
        shop.bulkhead(&["exec", "two", "cat", "/dev/shm/note"]).output().stdout == "kept\n"
    });
    // The first, which has made it all, ends in order and is gone.
    shop.said(&["rm", "-f", "one"]);
    shop.member("web", "three", "sleep 1000");
    assert_eq!(shop.namespace("three", "net"), network);
    assert_eq!(shop.said(&["exec", "three", "cat", "/dev/shm/note"]), "kept\n");
    // The monitor of one is killed; the other's goes on, and so does the next that comes.
    kill(shop.monitor("two"));
    wait_until("its end is noticed", || shop.inspect("two")["State"]["Status"] == "exited");
    assert_eq!(shop.inspect("three")["State"]["Status"], "running");
    shop.said(&["start", "two"]);
    assert_eq!(shop.namespace("two", "net"), network);
    assert_eq!(shop.said(&["exec", "two", "cat", "/dev/shm/note"]), "kept\n");
    // A policy starts a container anew in the same namespaces, also when it is the last.
    let words = [
        "run",
        "-d",
        "--pod",
        "web",
        "--name",
        "again",
        "--restart",
        "always",
        IMAGE,
        "sh",
        "-c",
        "cat /dev/shm/note; sleep 0.3; exit 1",
    ];
    shop.said(&words);
    shop.said(&["rm", "-f", "two", "three"]);
    wait_until("it was started again", || shop.said(&["logs", "again"]).lines().count() >= 3);
    assert!(
        shop.said(&["logs", "again"]).lines().all(|line| line == "kept"),
        "{}",
        shop.said(&["logs", "again"])
    );
    shop.said(&["pod", "rm", "-f", "web"]);
}

#[test]
fn nothing_is_left_of_a_pod() {
    let shop = shop!();
    let id = shop.pod("web", &[]);
    shop.member("web", "one", "sleep 1000");
    let refused = shop.bulkhead(&["pod", "rm", "web"]).output().exits_with(1);
    assert!(
        refused.stderr.contains("cannot remove pod web, whose container one is running"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("`bulkhead pod stop web` first"), "{}", refused.stderr);
    assert_eq!(shop.said(&["pod", "rm", "-f", "web"]).trim(), id);
    for directory in [
        "engine/pods",
        "engine-run/pods",
        "engine-run/containers",
        "engine/containers",
        "engine-run/runtime/bulkrun",
    ] {
        assert_eq!(fs::read_dir(shop.path(directory)).unwrap().count(), 0, "{directory} is empty");
    }
    assert_eq!(shop.pod_cgroups(&id), Vec::<PathBuf>::new());
    shop.bulkhead(&["pod", "exists", "web"]).output().exits_with(1);
    let missing = shop.bulkhead(&["pod", "inspect", "web"]).output().exits_with(1);
    assert!(missing.stderr.contains("web"), "{}", missing.stderr);
}

/// Reads what the kernel has in a file of a pod's cgroup, by its names in both versions, wherever that is.
fn limit(cgroups: &[PathBuf], names: [&str; 2]) -> String {
    let files = cgroups.iter().flat_map(|cgroup| names.map(|name| cgroup.join(name)));
    let found = files.filter_map(|file| fs::read_to_string(file).ok()).next();
    found.unwrap_or_else(|| panic!("{names:?} in {cgroups:?}")).trim().to_owned()
}

#[test]
fn a_pod_has_limits_of_its_own_for_all_of_its_containers() {
    let shop = shop!();
    let limits = [
        "--memory",
        "48m",
        "--memory-swap",
        "48m",
        "--pids-limit",
        "12",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "2048",
        "--cpuset-cpus",
        "0",
    ];
    let id = shop.pod("web", &limits);
    let cgroups = shop.pod_cgroups(&id);
    let check = |when: &str| {
        let in_force = |names| limit(&cgroups, names);
        assert_eq!(in_force(["memory.limit_in_bytes", "memory.max"]), (48 << 20).to_string(), "{when}");
        assert_eq!(in_force(["pids.max", "pids.max"]), "12", "{when}");
        assert_eq!(in_force(["cpuset.cpus", "cpuset.cpus"]), "0", "{when}");
        let quota = in_force(["cpu.cfs_quota_us", "cpu.max"]);
        assert!(["50000", "50000 100000"].contains(&quota.as_str()), "{when}: {quota}");
    };
    check("before any container is there");
    let told: Value = serde_json::from_str(&shop.said(&["pod", "inspect", "web"])).unwrap();
    assert_eq!((&told[0]["memory_limit"], &told[0]["cpu_shares"]), (&(48 << 20).into(), &2048.into()));
    assert_eq!((&told[0]["cpu_quota"], &told[0]["pids_limit"]), (&50_000.into(), &12.into()));
    shop.member("web", "one", "sleep 1000");
    // Together they may have so many processes, and no more.
    shop.member("web", "two", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 1000 & done; wait");
    check("with containers");
    wait_until("the pod is full", || shop.bulkhead(&["logs", "two"]).output().stderr.contains("can't fork"));
    let shared: usize = limit(&cgroups, ["pids.current", "pids.current"]).parse().unwrap();
    assert!(shared <= 12, "{shared}");
    // One that needs more memory than all have is killed, and the other is not.
    shop.said(&["stop", "-t", "0", "two"]);
    let script = "head -c 100m /dev/zero | tail > /dev/null; exit 137";
    let words = ["run", "--rm", "--pod", "web", IMAGE, "sh", "-c", script];
    shop.bulkhead(&words).output().exits_with(137);
    assert!(
        limit(&cgroups, ["memory.max_usage_in_bytes", "memory.peak"]).parse::<u64>().unwrap() <= 48 << 20
    );
    assert_eq!(shop.inspect("one")["State"]["Status"], "running");
    // Its limits come back with its cgroup, as after a boot.
    shop.said(&["pod", "stop", "-t", "0", "web"]);
    for cgroup in &cgroups {
        match systemd_makes_cgroups() {
            true => {
                let slice = cgroup.file_name().unwrap();
                drop(shop.sandbox.command("systemctl").arg("stop").arg(slice).output().succeeds());
            }
            false => fs::remove_dir(cgroup).unwrap(),
        }
    }
    shop.said(&["start", "one"]);
    check("after its cgroup had gone");
    let away = ["run", "--rm", "--pod", "web", "--cgroup-parent", "/elsewhere", IMAGE, "true"];
    shop.bulkhead(&away).output().exits_with(125).complains("--cgroup-parent with --pod web: ");
    shop.said(&["pod", "rm", "-f", "web"]);
    assert!(cgroups.iter().all(|path| !path.exists()), "{cgroups:?}");
}

#[test]
fn a_pod_whose_limits_cannot_be_is_not_made() {
    let shop = shop!();
    for (limit, words) in [
        (["--memory", "1m"], "--memory 1m: nothing runs in less than 6m"),
        (["--cpus", "4096"], "--cpus 4096: "),
        (["--cpuset-cpus", "3-"], "--cpuset-cpus 3-: expected numbers and ranges"),
        (["--cpuset-cpus", "8000"], "--cpuset-cpus 8000: not all of these are there; available: 0"),
    ] {
        let parent = shop.parent();
        let words_typed = ["pod", "create", "--cgroup-parent", &parent, limit[0], limit[1], "web"];
        shop.bulkhead(&words_typed).output().exits_with(125).complains(words);
        assert_eq!(shop.said(&["pod", "ps", "-q"]), "", "{limit:?}");
    }
    let left = shop.sandbox.cgroups(&format!("/{}", shop.sandbox.name()));
    let left = left.iter().filter_map(|path| fs::read_dir(path).ok()).flatten().flatten();
    let left = Vec::from_iter(left.map(|entry| entry.path()).filter(|path| path.is_dir()));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_cgroup_of_a_pod_that_was_half_removed_is_found() {
    let shop = shop!();
    let id = shop.pod("web", &["--pids-limit", "12"]);
    let cgroups = shop.pod_cgroups(&id);
    assert!(cgroups.iter().any(|path| path.exists()));
    // The removal has begun, and whoever did that is dead.
    let database = shop.path("engine/bulkhead.db");
    let store = rusqlite::Connection::open(database).unwrap();
    assert_eq!(store.execute("UPDATE pods SET stage = 'removing'", []).unwrap(), 1);
    drop(store);
    let told = shop.bulkhead(&["system", "check", "--dry-run"]).output().exits_with(1);
    assert!(told.stdout.contains("pod web: its removal was begun"), "{}", told.stdout);
    shop.said(&["system", "check"]);
    assert!(cgroups.iter().all(|path| !path.exists()), "{cgroups:?}");
}

#[test]
fn a_record_that_nobody_can_read_keeps_no_other_container_of_its_pod_from_starting() {
    let shop = shop!();
    let id = shop.pod("web", &[]);
    shop.member("web", "one", "exec sleep 1000");
    let namespace = shop.namespace("one", "net");
    let store = rusqlite::Connection::open(shop.path("engine/bulkhead.db")).unwrap();
    let document = |text: &str| {
        let changed = store.execute("UPDATE containers SET document = ? WHERE pod = ?", [text, &id]).unwrap();
        assert_eq!(changed, 1);
    };
    let text: String =
        store.query_row("SELECT document FROM containers WHERE pod = ?", [&id], |row| row.get(0)).unwrap();
    document("{");
    let words = ["run", "--rm", "--pod", "web", IMAGE, "readlink", "/proc/self/ns/net"];
    let ran = shop.bulkhead(&words).output();
    document(&text);
    assert_eq!(ran.succeeds().stdout.trim(), namespace, "and it shares what that one has");
}

#[test]
fn a_slice_goes_when_systemd_cannot_be_asked() {
    let shop = shop!();
    requires!(systemd_makes_cgroups(), "needs systemd, and cgroups that it makes");
    let id = shop.pod("web", &["--pids-limit", "12"]);
    let cgroups = shop.pod_cgroups(&id);
    assert_eq!(limit(&cgroups, ["pids.max", "pids.max"]), "12");
    shop.member("web", "one", "exec sleep 1000");
    // Nobody listens any more where it and its bus do.
    let hide =
        "for place in /run/systemd /run/dbus; do mount -t tmpfs none $place || exit 9; done; exec \"$@\"";
    let alone = shop.sandbox.command("unshare").args(["--mount", "sh", "-c", hide, "sh"]);
    shop.bulkhead_by(alone, &["pod", "rm", "--force", "web"]).output().succeeds();
    assert!(cgroups.iter().all(|path| !path.exists()), "{cgroups:?}");
    // systemd still has the unit, without anything in it.
    let unit = cgroups[0].file_name().unwrap();
    shop.sandbox.command("systemctl").arg("stop").arg(unit).output().succeeds();
}

#[test]
fn the_verbs_reach_all_members() {
    let shop = shop!();
    let id = shop.pod("web", &[]);
    for name in ["one", "two"] {
        let script = format!("echo {name}; sleep 1000");
        shop.said(&[
            "create",
            "--pod",
            "web",
            "--name",
            name,
            "--stop-timeout",
            "1",
            IMAGE,
            "sh",
            "-c",
            &script,
        ]);
    }
    let state = || shop.said(&["pod", "ps", "--format", "{{.Status}}"]).trim().to_owned();
    assert_eq!(state(), "Created");
    assert_eq!(shop.said(&["pod", "start", "web"]).trim(), id);
    assert_eq!(state(), "Running");
    wait_until("both speak", || shop.said(&["pod", "logs", "--names", "web"]).lines().count() == 2);
    let said = shop.said(&["pod", "logs", "--names", "web"]);
    assert!(said.contains("one one\n") && said.contains("two two\n"), "{said}");
    assert_eq!(shop.said(&["pod", "logs", "-c", "two", "web"]), "two\n");
    let processes = shop.said(&["pod", "top", "web"]);
    assert_eq!(processes.lines().filter(|line| line.contains("sleep 1000")).count(), 2, "{processes}");
    assert_eq!(
        shop.said(&["pod", "stats", "--no-stream", "--format", "{{.Name}}", "web"]).lines().count(),
        2
    );
    shop.said(&["pod", "pause", "web"]);
    assert_eq!(state(), "Paused");
    shop.said(&["pod", "unpause", "web"]);
    let before = shop.inspect("one")["State"]["Pid"].clone();
    shop.said(&["pod", "restart", "web"]);
    assert_ne!(shop.inspect("one")["State"]["Pid"], before);
    shop.said(&["stop", "one"]);
    assert_eq!(state(), "Degraded");
    shop.said(&["pod", "kill", "web"]);
    wait_until("all have ended", || state() == "Exited");
    shop.said(&["pod", "start", "web"]);
    shop.said(&["pod", "stop", "-t", "0", "web"]);
    assert_eq!(state(), "Exited");
    assert_eq!(shop.said(&["pod", "prune", "--force"]).trim(), id);
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}

#[test]
fn a_pod_can_be_new_and_what_does_not_fit_is_refused() {
    let shop = shop!();
    let parent = shop.parent();
    let words = [
        "run",
        "-d",
        "--pod",
        "new:web",
        "--hostname",
        "shop",
        "--cgroup-parent",
        &parent,
        "--name",
        "one",
        IMAGE,
        "sleep",
        "1000",
    ];
    shop.said(&words);
    assert_eq!(shop.said(&["exec", "one", "hostname"]), "shop\n");
    for (options, words) in [
        (
            &["--pod", "web", "--network", "host"][..],
            "--network with --pod web: its containers share a network",
        ),
        (&["--pod", "web", "--hostname", "x"], "the containers of its pod share a name"),
        (&["--pod", "web", "--dns", "1.1.1.1"], "the pod: give it to `bulkhead pod create`"),
        (&["--pod", "web", "--userns", "auto"], "--userns with --pod web"),
        (&["--pod", "wob"], "did you mean web?"),
        (&["--pod", "new:web"], "web"),
    ] {
        let output = shop.with("run", &[&["--rm"], options].concat(), &["true"]).output();
        assert!(output.code() == 125 && output.stderr.contains(words), "{}", output.stderr);
    }
    let failed =
        shop.with("run", &["--rm", "--pod", "new:other"], &["no-such-program"]).output().exits_with(127);
    assert!(failed.stderr.contains("no-such-program"), "{}", failed.stderr);
    shop.bulkhead(&["pod", "create", "--share", "ipc", "--hostname", "x"]).output().exits_with(125);
    shop.bulkhead(&["pod", "create", "--sysctl", "vm.swappiness=1"]).output().exits_with(125);
    shop.said(&["pod", "rm", "-f", "-a"]);
}

#[test]
fn a_pod_has_parameters_and_memory_of_its_own() {
    let shop = shop!();
    let options = ["--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.shmmni=55", "--shm-size", "3m"];
    shop.pod("web", &options);
    shop.member("web", "one", "sleep 1000");
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni; df -k /dev/shm | tail -1 | awk '{print $2}'";
    assert_eq!(shop.said(&["exec", "one", "sh", "-c", script]), "77\n55\n3072\n");
    assert!(shop.said(&["exec", "one", "ip", "addr"]).contains("lo: <LOOPBACK,UP"), "its loopback is up");
    shop.said(&["pod", "rm", "-f", "web"]);
}

#[test]
fn a_container_of_a_pod_can_remove_itself() {
    let shop = shop!();
    shop.pod("web", &[]);
    shop.member("web", "stays", "echo kept > /dev/shm/note; sleep 1000");
    wait_until("it is written", || {
        shop.bulkhead(&["exec", "stays", "cat", "/dev/shm/note"]).output().stdout == "kept\n"
    });
    // Nobody waits for it: its monitor removes it, and must not see the pod's memory then.
    shop.said(&["run", "-d", "--rm", "--pod", "web", "--name", "goes", IMAGE, "true"]);
    wait_until("it is gone", || shop.said(&["ps", "-a", "--format", "{{.Names}}"]) == "stays\n");
    assert_eq!(shop.said(&["exec", "stays", "cat", "/dev/shm/note"]), "kept\n", "what the others have stays");
    shop.said(&["pod", "rm", "-f", "web"]);
}

#[test]
fn processes_can_be_shared() {
    let shop = shop!();
    let shop = shop.with_shipped_monitor();
    shop.pod("web", &["--share", "+pid"]);
    shop.member("web", "one", "sleep 1234");
    shop.member("web", "two", "sleep 5678");
    assert_eq!(shop.namespace("one", "pid"), shop.namespace("two", "pid"));
    let seen = shop.said(&["exec", "one", "ps"]);
    assert!(seen.contains("sleep 1234") && seen.contains("sleep 5678"), "{seen}");
    assert!(
        seen.lines().any(|line| line.trim_start().starts_with("1 ") && line.contains("bulkmon pod")),
        "{seen}"
    );
    // Its first process is of no use to a container, whatever that may.
    let words = [
        "exec",
        "--privileged",
        "one",
        "sh",
        "-c",
        "ls /proc/1/root/; id -u < /dev/null; kill -9 1; echo still",
    ];
    let output = shop.bulkhead(&words).output().succeeds();
    assert!(!output.stdout.contains("etc") && output.stdout.ends_with("still\n"), "{output:?}");
    shop.said(&["rm", "-f", "one"]);
    assert_eq!(shop.inspect("two")["State"]["Status"], "running", "the end of a member ends no other");
    shop.member("web", "three", "sleep 1000");
    assert_eq!(shop.namespace("three", "pid"), shop.namespace("two", "pid"));
    kill(shop.monitor("three"));
    wait_until("its end is noticed", || shop.inspect("three")["State"]["Status"] == "exited");
    assert_eq!(shop.inspect("two")["State"]["Status"], "running");
    shop.said(&["pod", "stop", "web"]);
    assert_eq!(fs::read_dir(shop.path("engine-run/runtime/bulkrun")).unwrap().count(), 0, "nothing runs");
    shop.said(&["pod", "start", "web"]);
    assert_eq!(shop.namespace("three", "pid"), shop.namespace("two", "pid"));
    shop.said(&["pod", "rm", "-f", "web"]);
}
