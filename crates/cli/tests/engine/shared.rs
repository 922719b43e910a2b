//! Containers in namespaces of others: which they are in when a policy starts them again, and what they never come into.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bulkhead_testkit::wait_until;
use serde_json::{Value, json};

use crate::shop::{Shop, shop};

impl Shop {
    fn pid_of(&self, name: &str) -> i64 {
        self.inspect(name)["State"]["Pid"].as_i64().unwrap()
    }

    fn is_up(&self, name: &str) -> bool {
        self.inspect(name)["State"]["Status"] == "running"
    }

    /// The namespace of a container's process; nothing for one that has just ended.
    fn namespace_of(&self, name: &str, kind: &str) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/ns/{kind}", self.pid_of(name))).ok()
    }

    /// Has a container crash, as far as its monitor can tell.
    fn crash(&self, name: &str) {
        let pid = self.pid_of(name);
        assert!(pid > 1, "{name} runs");
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        wait_until("its end is noticed", || self.pid_of(name) != pid);
    }

    fn why_not(&self, name: &str) -> String {
        self.inspect(name)["State"]["Error"].as_str().unwrap_or_default().to_owned()
    }

    fn db(&self) {
        let script = "echo up; exec sleep 1000";
        let options = ["-d", "--name", "db", "--ipc", "shareable"];
        self.with("run", &options, &["sh", "-c", script]).output().succeeds();
    }

    /// Starts a container for ever, in namespaces of `db`.
    fn beside_db(&self, name: &str, kinds: &[&str]) {
        self.beside_db_by("always", name, kinds);
    }

    fn beside_db_by(&self, policy: &str, name: &str, kinds: &[&str]) {
        let mut options = vec!["-d", "--name", name, "--restart", policy];
        for kind in kinds {
            options.extend([*kind, "container:db"]);
        }
        self.with("run", &options, &["sh", "-c", "echo up; exec sleep 1000"]).output().succeeds();
    }
}

/// Fails when what a policy starts again is started by what was true when its container was started first.
#[test]
fn a_policy_joins_the_namespaces_that_the_other_container_has_now() {
    let shop = shop!();
    shop.db();
    shop.beside_db("web", &["--network", "--ipc", "--uts"]);
    let kinds = ["net", "ipc", "uts"];
    let is_beside = |other: &str| {
        shop.is_up("web")
            && kinds.iter().all(|kind| {
                let of_web = shop.namespace_of("web", kind);
                of_web.is_some() && of_web == shop.namespace_of(other, kind)
            })
    };
    assert!(is_beside("db"));
    let first = shop.namespace_of("db", "net").unwrap();
    for round in 0..2 {
        shop.said(&["restart", "-t", "0", "db"]);
        assert!(shop.is_up("web") && !is_beside("db"), "it goes on in what it is in");
        shop.crash("web");
        wait_until("it is started again beside the other", || is_beside("db"));
        let file = format!("/dev/shm/{round}");
        shop.said(&["exec", "db", "touch", &file]);
        shop.said(&["exec", "web", "ls", &file]);
    }
    assert_ne!(shop.namespace_of("web", "net").unwrap(), first);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(shop.sandbox.name()), "nothing is mounted on the host: {mounts}");
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let directory = shop.run_directory.join("containers").join(id);
    let left = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let left = Vec::from_iter(left.filter(|name| name.to_string_lossy().starts_with("joined-")));
    assert!(left.is_empty(), "links are there during a start alone: {left:?}");
}

#[test]
fn a_policy_waits_for_the_other_container_and_says_so() {
    let shop = shop!();
    shop.db();
    // These end with the first process of theirs.
    shop.beside_db("web", &["--network", "--pid"]);
    shop.beside_db_by("on-failure:2", "brief", &["--pid"]);
    shop.said(&["stop", "-t", "0", "db"]);
    let says = "container db, whose namespaces are to be shared, does not run: start db first";
    wait_until("it says why it does not run", || shop.why_not("web") == says);
    // As long as two attempts and a third would take.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    for name in ["web", "brief"] {
        let told = shop.inspect(name);
        assert_eq!(told["State"]["Status"], "restarting", "{name}");
        assert_eq!(told["RestartCount"], 1, "what comes to nothing does not count: {name}");
    }
    shop.said(&["start", "db"]);
    wait_until("they are back", || shop.is_up("web") && shop.is_up("brief"));
    for kind in ["net", "pid"] {
        assert_eq!(shop.namespace_of("web", kind), shop.namespace_of("db", kind), "{kind}");
    }
    assert_eq!(shop.why_not("web"), "");
    shop.said(&["rm", "-f", "web"]);
    shop.said(&["stop", "-t", "0", "db"]);
    let refused = shop.script(&["--network", "container:db"], "true").output().exits_with(125);
    assert!(refused.stderr.contains("does not run; start it first"), "{}", refused.stderr);
}

/// Fails when a container is known to those that share its namespaces by a name alone, which another one may have later.
#[test]
fn one_that_is_made_anew_under_the_name_is_another() {
    let shop = shop!();
    shop.db();
    let id = shop.inspect("db")["Id"].as_str().unwrap().to_owned();
    shop.beside_db("web", &["--network"]);
    assert_eq!(
        shop.inspect("web")["HostConfig"]["NetworkMode"],
        format!("container:{id}"),
        "as docker has it"
    );
    shop.said(&["rename", "db", "old"]);
    shop.said(&["restart", "-t", "0", "web"]);
    assert_eq!(shop.namespace_of("web", "net"), shop.namespace_of("old", "net"));
    let refused =
        shop.script(&["--network", "container:old", "--dns", "1.1.1.1"], "true").output().exits_with(125);
    assert!(refused.stderr.contains("those of container old: give it there"), "{}", refused.stderr);
    shop.said(&["rename", "old", "db"]);
    shop.said(&["restart", "-t", "0", "web"]);

    shop.said(&["rm", "-f", "db"]);
    shop.db();
    shop.crash("web");
    let says = "the container db whose namespaces are to be shared is gone, and no other takes its place: make this one anew";
    wait_until("it says why it does not run", || shop.why_not("web") == says);
    assert!(!shop.is_up("web"));
    let refused = shop.bulkhead(&["restart", "-t", "0", "web"]).output().exits_with(1);
    let says =
        format!("--network container:{}: that container is gone, and no other takes its place", &id[..12]);
    assert!(refused.stderr.contains(&says), "{}", refused.stderr);
}

/// The number of the other container's process is another process's by now, of the host's in the worst case. Fails when a
/// number alone is believed.
#[test]
fn a_process_with_the_number_of_the_others_is_not_the_other() {
    let shop = shop!();
    shop.db();
    shop.beside_db("web", &["--network", "--ipc", "--uts"]);
    let id = shop.inspect("db")["Id"].as_str().unwrap().to_owned();
    let path = shop.path("engine/containers").join(id).join("status.json");
    let written = fs::read_to_string(&path).unwrap();
    let status: Value = serde_json::from_str(&written).unwrap();
    let process = &status["process"];
    let (pid, start) = (process["pid"].as_i64().unwrap(), process["start"].as_i64().unwrap());
    let mut of_host = Command::new("sleep").arg("1000").spawn().unwrap();
    let wrong = [json!({ "pid": of_host.id(), "start": start }), json!({ "pid": pid, "start": start + 1 })];
    for process in wrong {
        let mut changed = status.clone();
        changed["process"] = process.clone();
        fs::write(&path, changed.to_string()).unwrap();
        shop.crash("web");
        wait_until("it is not started", || shop.why_not("web").contains("container db"));
        assert!(!shop.is_up("web"), "with {process}");
        for option in ["--network", "--ipc", "--pid", "--uts"] {
            let refused = shop.script(&[option, "container:db"], "true").output().exits_with(125);
            assert!(refused.stderr.contains("does not run: start db first"), "{option}: {}", refused.stderr);
        }
        fs::write(&path, &written).unwrap();
        wait_until("it is back", || shop.is_up("web"));
        assert_eq!(shop.namespace_of("web", "net"), shop.namespace_of("db", "net"));
    }
    of_host.kill().unwrap();
    of_host.wait().unwrap();
}
