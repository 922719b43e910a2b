//! kill -9 at moments of what connects containers with networks. Who wants each call in turn sets `BULKHEAD_MOMENTS=1000`.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use bulkhead_testkit::wait_until;

use super::moments::{Stage, Threads, moments, stage};
use super::{WELL, leaves_nothing};
use crate::networks::name_servers;
use crate::shop::{IMAGE, shop};

/// The devices of networks on this host, once the kernel has taken away what went with a namespace.
fn left(stage: &Stage) -> String {
    let shop = &stage.shop;
    shop.said(&["network", "prune", "--force"]);
    let links = || shop.sandbox.command("ip").args(["-o", "link"]).output().succeeds().stdout;
    wait_until("the namespaces of what has ended are gone", || !links().contains(": bv-"));
    links().lines().filter(|line| line.contains(": bh-")).collect()
}

#[test]
fn a_start_with_ports_is_killed() {
    start_is_killed("dnat");
}

#[test]
fn a_start_with_ports_that_a_helper_carries_is_killed() {
    start_is_killed("proxy");
}

/// On a network with names, so that both helpers have to do with it.
fn start_is_killed(mode: &str) {
    let stage = stage!();
    stage.shop.said(&["network", "create", "front"]);
    let parent = stage.shop.parent();
    let words = [
        &["run", "-d", "--cgroup-parent", &parent, "--stop-timeout", "1", "--name", "victim"][..],
        &["--network", "front", "--publish-mode", mode, "-p", "8070:80", IMAGE, "sleep", "1000"],
    ]
    .concat();
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    whole.succeeds();
    stage.clean("no fault at all");
    for moment in moments(calls) {
        drop(stage.killed(&words, Threads::First, Some(moment)));
        let after = format!("call {moment} of run --publish-mode {mode}");
        stage.judge(&after);
        // Whether the victim is there or not: its port is its own, or free.
        if stage.exists() {
            stage.shop.said(&["start", "victim"]);
            let ports = stage.shop.said(&["port", "victim", "80"]);
            let expected = if mode == "proxy" { "0.0.0.0:8070\n[::]:8070\n" } else { "0.0.0.0:8070\n" };
            assert_eq!(ports, expected, "after {after}");
            stage.shop.said(&["exec", "victim", "nslookup", "victim", "127.0.0.11"]);
            assert_eq!(stage.shop.helpers().len(), 1, "after {after}, one has its ports");
        }
        stage.clean(&after);
        assert_eq!(stage.shop.helpers(), [0; 0], "after {after}, nobody has its ports");
        assert!(TcpListener::bind("0.0.0.0:8070").is_ok(), "after {after}, its port is free");
        stage.shop.script(&["-p", "8070:80"], "true").output().succeeds();
        wait_until("whoever answered it has ended", || name_servers(&stage.shop).is_empty());
        assert_eq!(left(&stage), "", "after {after}");
        stage.shop.said(&["network", "create", "front"]);
    }
}

#[test]
fn connect_and_disconnect_are_killed() {
    let stage = stage!();
    stage.shop.said(&["network", "create", "back"]);
    let start = || {
        stage.shop.with("run", &["-d", "--name", "victim"], &["sleep", "1000"]).output().succeeds();
    };
    let addresses = || stage.shop.said(&["exec", "victim", "ip", "-o", "-4", "addr"]).lines().count();
    for words in [&["network", "connect", "back", "victim"], &["network", "disconnect", "back", "victim"]] {
        let prepare = || {
            start();
            if words[1] == "disconnect" {
                stage.shop.said(&["network", "connect", "back", "victim"]);
            }
        };
        prepare();
        let (whole, calls) = stage.killed(words, Threads::First, None);
        whole.succeeds();
        stage.clean("no fault at all");
        for moment in moments(calls) {
            prepare();
            drop(stage.killed(words, Threads::First, Some(moment)));
            let after = format!("call {moment} of {}", words.join(" "));
            stage.judge(&after);
            // Whatever it has come to, it can be had either way.
            drop(stage.shop.bulkhead(words).output());
            let expected = if words[1] == "connect" { 3 } else { 2 };
            assert_eq!(addresses(), expected, "after {after}, and the same again");
            stage.shop.said(&["restart", "victim"]);
            assert_eq!(addresses(), expected, "after {after}, and a restart");
            stage.clean(&after);
        }
    }
    assert_eq!(left(&stage), "");
}

#[test]
fn network_create_and_rm_are_killed() {
    let stage = stage!();
    let words = ["network", "create", "made"];
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    whole.succeeds();
    stage.shop.said(&["network", "rm", "made"]);
    for moment in moments(calls) {
        drop(stage.killed(&words, Threads::First, Some(moment)));
        stage.judge(&format!("call {moment} of network create"));
        stage.shop.said(&["network", "rm", "--force", "made"]);
    }
    let words = ["network", "rm", "made"];
    let make = || {
        stage.shop.said(&["network", "create", "made"]);
        stage.shop.script(&["--network", "made"], "true").output().succeeds();
    };
    make();
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    whole.succeeds();
    for moment in moments(calls) {
        make();
        drop(stage.killed(&words, Threads::First, Some(moment)));
        stage.judge(&format!("call {moment} of network rm"));
        stage.shop.said(&["network", "rm", "--force", "made"]);
        assert_eq!(left(&stage), "", "after call {moment} of network rm");
    }
}

#[test]
fn two_hundred_containers_at_once_on_one_network() {
    let shop = shop!();
    const COUNT: usize = 200;
    shop.said(&["network", "create", "crowd"]);
    let parent = shop.parent();
    let start = |number: usize| {
        let name = format!("c{number}");
        let words = [
            "run",
            "-d",
            "--cgroup-parent",
            &parent,
            "--name",
            &name,
            "--network",
            "crowd",
            IMAGE,
            "sleep",
            "1000",
        ];
        shop.bulkhead(&words).timeout(Duration::from_secs(240)).spawn()
    };
    let all = Vec::from_iter((0..COUNT).map(start));
    for command in all {
        command.wait().succeeds();
    }
    let network: serde_json::Value =
        serde_json::from_str(&shop.said(&["network", "inspect", "crowd"])).unwrap();
    let members = network[0]["Containers"].as_object().unwrap().values();
    let addresses =
        BTreeSet::from_iter(members.map(|member| member["IPv4Address"].as_str().unwrap().to_owned()));
    assert_eq!(addresses.len(), COUNT, "each has an address of its own");
    // Everybody finds everybody.
    for (from, to) in [(0, COUNT - 1), (COUNT / 2, 0), (COUNT - 1, COUNT / 2)] {
        let (from, to) = (format!("c{from}"), format!("c{to}"));
        shop.said(&["exec", &from, "ping", "-c", "1", "-w", "5", &to]);
    }
    let ids = shop.said(&["ps", "-aq"]);
    let remove = Vec::from_iter(["rm", "-f"].into_iter().chain(ids.lines()));
    shop.bulkhead(&remove).timeout(Duration::from_secs(240)).output().succeeds();
    assert_eq!(shop.said(&["system", "check"]), WELL);
    let rest = shop.sandbox.command("ip").args(["-o", "link"]).output().succeeds().stdout;
    wait_until("the kernel has taken all devices away", || {
        let links = shop.sandbox.command("ip").args(["-o", "link"]).output().succeeds().stdout;
        !links.contains(": bv-")
    });
    assert!(rest.contains(": bh-"), "the bridge stays until its network goes: {rest}");
    shop.said(&["network", "rm", "crowd"]);
    leaves_nothing(&shop, "the crowd");
}
