//! Limits and policies that are changed.

use std::fs;

use bulkhead_testkit::wait_until;
use serde_json::json;

use crate::shop::{Shop, shop};

/// What the kernel has in a file of the container's cgroup, wherever cgroups of which version are.
fn limit(shop: &Shop, names: [&str; 2]) -> Option<String> {
    let pid = shop.inspect("web")["State"]["Pid"].as_i64().unwrap();
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let directories =
            controllers.split(',').map(|controller| format!("/sys/fs/cgroup/{controller}{path}"));
        let mut files = directories.flat_map(|directory| names.map(|name| format!("{directory}/{name}")));
        files.find_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
    })
}

#[test]
fn limits_change_while_it_runs_and_stay() {
    let shop = shop!();
    let options = ["-d", "--name", "web", "--memory", "64m", "--restart", "on-failure"];
    shop.with("run", &options, &["sh", "-c", "trap 'exit 1' USR1; while :; do sleep 0.05; done"])
        .output()
        .succeeds();
    assert_eq!(limit(&shop, ["memory.limit_in_bytes", "memory.max"]).unwrap(), (64 << 20).to_string());
    let words =
        ["update", "--memory", "96m", "--pids-limit", "77", "--cpus", "0.5", "--cpu-shares", "512", "web"];
    assert_eq!(shop.said(&words), "web\n");
    let check = |round: &str| {
        assert_eq!(
            limit(&shop, ["memory.limit_in_bytes", "memory.max"]).unwrap(),
            (96 << 20).to_string(),
            "{round}"
        );
        assert_eq!(limit(&shop, ["pids.max", "pids.max"]).unwrap(), "77", "{round}");
        let quota = limit(&shop, ["cpu.cfs_quota_us", "cpu.max"]).unwrap();
        assert!(quota == "50000" || quota == "50000 100000", "{round}: {quota}");
    };
    check("while it runs");
    let told = &shop.inspect("web")["HostConfig"];
    assert_eq!((&told["Memory"], &told["PidsLimit"]), (&json!(96 << 20), &json!(77)));
    assert_eq!((&told["NanoCpus"], &told["CpuShares"]), (&json!(500_000_000), &json!(512)));
    // Its policy starts it again, by what its monitor has.
    let pid = shop.inspect("web")["State"]["Pid"].clone();
    shop.said(&["kill", "--signal", "USR1", "web"]);
    wait_until("it is started again", || {
        let state = &shop.inspect("web")["State"];
        state["Status"] == "running" && state["Pid"] != pid
    });
    check("after its policy has started it again");
    shop.said(&["restart", "web"]);
    check("after it was started anew");
}

#[test]
fn a_limit_that_cannot_be_changes_nothing() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "web", "--memory", "64m", "--cpus", "1"], &["sleep", "1000"])
        .output()
        .succeeds();
    for (words, expected) in [
        (&["--memory", "1m"][..], "less than 6m"),
        (&["--memory", "512m"], "memory and swap together"),
        (&["--cpu-quota", "5000"], "has --cpus"),
        (&["--cpus", "1000"], "--cpus 1000"),
        (&["--cpuset-cpus", "x"], "--cpuset-cpus x"),
    ] {
        let words = [&["update"], words, &["web"]].concat();
        shop.bulkhead(&words).output().exits_with(1).complains(expected);
    }
    shop.bulkhead(&["update", "web"]).output().exits_with(125).complains("nothing is to be changed");
    shop.bulkhead(&["update", "--memory", "lots", "web"]).output().exits_with(125);
    shop.bulkhead(&["update", "--memory", "96m", "nobody", "web"]).output().exits_with(1).prints("web\n");
    assert_eq!(shop.inspect("web")["HostConfig"]["Memory"], 96 << 20);
}

#[test]
fn a_container_that_does_not_run_has_new_limits_when_it_does() {
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["sleep", "1000"]).output().succeeds();
    shop.said(&["update", "--pids-limit", "55", "--restart", "always", "web"]);
    shop.said(&["start", "web"]);
    assert_eq!(limit(&shop, ["pids.max", "pids.max"]).unwrap(), "55");
    assert_eq!(shop.inspect("web")["HostConfig"]["RestartPolicy"]["Name"], "always");
}

#[test]
fn a_policy_changes_while_it_runs() {
    let shop = shop!();
    shop.service("web", "trap 'exit 3' USR1; while :; do sleep 0.05; done");
    assert_eq!(shop.said(&["update", "--restart", "on-failure:2", "web"]), "web\n");
    let policy = &shop.inspect("web")["HostConfig"]["RestartPolicy"];
    assert_eq!((&policy["Name"], &policy["MaximumRetryCount"]), (&json!("on-failure"), &json!(2)));
    let pid = shop.inspect("web")["State"]["Pid"].clone();
    wait_until("it is there to hear", || shop.said(&["top", "web"]).contains("sleep"));
    shop.said(&["kill", "--signal", "USR1", "web"]);
    wait_until("it is started again", || {
        let state = &shop.inspect("web")["State"];
        state["Status"] == "running" && state["Pid"] != pid
    });
    shop.said(&["update", "--restart", "no", "web"]);
    wait_until("it is there to hear", || shop.said(&["top", "web"]).contains("sleep"));
    shop.said(&["kill", "--signal", "USR1", "web"]);
    assert_eq!(shop.said(&["wait", "web"]), "3\n");
    let removing = ["run", "-d", "--rm", "--name", "brief"];
    shop.with(removing[0], &removing[1..], &["sleep", "1000"]).output().succeeds();
    let refused = shop.bulkhead(&["update", "--restart", "always", "brief"]).output();
    refused.exits_with(1).complains("it removes itself");
}

#[test]
fn what_outgrows_its_memory_is_killed_and_its_processes_are_counted() {
    let shop = shop!();
    let options = ["--name", "web", "--memory", "24m", "--memory-swap", "24m"];
    let ended =
        shop.with("run", &options, &["tail", "-c", "200000000", "/dev/zero"]).output().exits_with(137);
    assert_eq!(ended.stdout, "", "it was ended before it wrote");
    assert_eq!(shop.inspect("web")["State"]["OOMKilled"], true);
    let script = "for i in $(seq 60); do sleep 5 & done; echo all";
    let full = shop.script(&["--pids-limit", "40"], script).output();
    assert!(full.stderr.contains("fork") && !full.stdout.contains("all"), "{full}");
}
