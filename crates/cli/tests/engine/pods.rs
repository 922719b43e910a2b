//! Pods: what their containers share, how long it lives, and that nothing of it is left.

use std::fs;
use std::process::Command;

use bulkhead_testkit::wait_until;
use serde_json::Value;

use crate::shop::{IMAGE, Shop, shop};

impl Shop {
    /// Makes a pod below the shop's cgroup.
    #[track_caller]
    fn pod(&self, name: &str, options: &[&str]) -> String {
        let parent = format!("/{}", self.sandbox.name());
        let words = [&["pod", "create", "--cgroup-parent", &parent], options, &[name]].concat();
        self.said(&words).trim().to_owned()
    }

    /// Starts a container in a pod.
    #[track_caller]
    fn member(&self, pod: &str, name: &str, script: &str) {
        let words =
            ["run", "-d", "--pod", pod, "--name", name, "--stop-timeout", "1", IMAGE, "sh", "-c", script];
        self.said(&words);
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
    let cgroups = shop.sandbox.cgroups(&format!("/{}/pod-{id}", shop.sandbox.name()));
    assert!(cgroups.iter().all(|path| !path.exists()), "{cgroups:?}");
    shop.bulkhead(&["pod", "exists", "web"]).output().exits_with(1);
    let missing = shop.bulkhead(&["pod", "inspect", "web"]).output().exits_with(1);
    assert!(missing.stderr.contains("web"), "{}", missing.stderr);
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
    let parent = format!("/{}", shop.sandbox.name());
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
