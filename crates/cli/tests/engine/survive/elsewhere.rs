//! kill -9 at moments of what has CNI plugins attach containers.

use bulkhead_testkit::wait_until;

use super::kill_monitor;
use super::moments::{Stage, Threads, moments, stage};
use crate::elsewhere::{leases, opened, plugins, traces};
use crate::networks::{greeter, heard};
use crate::shop::IMAGE;

/// Makes a stage with the network `office`, or ends the test where it cannot run.
macro_rules! office_stage {
    () => {{
        let found = plugins();
        bulkhead_testkit::requires!(
            found.is_some(),
            "needs CNI plugins, which cargo xtask networks fetches, and nft"
        );
        let Stage { shop } = stage!();
        Stage { shop: opened(shop, found.unwrap()) }
    }};
}

/// Nothing is left of the victim, neither of ours nor of plugins.
#[track_caller]
fn is_clean(stage: &Stage, after: &str) {
    stage.clean(after);
    assert_eq!(leases(&stage.shop, "office"), Vec::<String>::new(), "after {after}, addresses");
    assert_eq!(traces(&stage.shop), Vec::<String>::new(), "after {after}, records and rules");
}

#[test]
fn a_start_by_plugins_is_killed() {
    let stage = office_stage!();
    let parent = stage.shop.parent();
    let words = ["run", "-d", "--cgroup-parent", &parent, "--stop-timeout", "1", "--name", "victim"];
    let serve = greeter(80, "victim");
    let words = [&words[..], &["--network", "office", "-p", "8071:80", IMAGE, "sh", "-c", &serve]].concat();
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    whole.succeeds();
    is_clean(&stage, "no fault at all");
    for moment in moments(calls) {
        drop(stage.killed(&words, Threads::First, Some(moment)));
        let after = format!("call {moment} of run --network office");
        // Its record says at once what the container has, or there is nothing that anybody has.
        stage.judge(&after);
        let is_running = stage.exists() && stage.state() == "running";
        let given = usize::from(is_running);
        assert_eq!(leases(&stage.shop, "office").len(), given, "after {after}, and a check that mends");
        if stage.exists() {
            stage.shop.said(&["start", "victim"]);
            wait_until("its port answers", || heard("127.0.0.1:8071").as_deref() == Some("hello victim"));
            assert_eq!(leases(&stage.shop, "office").len(), 1, "after {after}, and a start");
        }
        is_clean(&stage, &after);
    }
}

#[test]
fn a_stop_by_plugins_is_killed() {
    let stage = office_stage!();
    let start = || {
        let options = ["-d", "--name", "victim", "--network", "office"];
        stage.shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    };
    for words in [&["rm", "-f", "victim"][..], &["network", "disconnect", "office", "victim"]] {
        start();
        let (whole, calls) = stage.killed(words, Threads::First, None);
        whole.succeeds();
        is_clean(&stage, "no fault at all");
        for moment in moments(calls) {
            start();
            drop(stage.killed(words, Threads::First, Some(moment)));
            let after = format!("call {moment} of {}", words.join(" "));
            stage.judge(&after);
            is_clean(&stage, &after);
        }
    }
}

#[test]
fn a_container_that_plugins_connect_while_it_runs_is_left_half_way() {
    let stage = office_stage!();
    let words = ["network", "connect", "office", "victim"];
    let start =
        || stage.shop.with("run", &["-d", "--name", "victim"], &["sleep", "1000"]).output().succeeds();
    start();
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    whole.succeeds();
    is_clean(&stage, "no fault at all");
    for moment in moments(calls) {
        start();
        drop(stage.killed(&words, Threads::First, Some(moment)));
        let after = format!("call {moment} of network connect");
        stage.judge(&after);
        // Whatever it has come to, it can be had, once.
        drop(stage.shop.bulkhead(&words).output());
        let addresses = stage.shop.said(&["exec", "victim", "ip", "-o", "-4", "addr"]);
        assert!(addresses.contains("eth1    inet 10.50.0."), "after {after}: {addresses}");
        assert_eq!(leases(&stage.shop, "office").len(), 1, "after {after}, and the same again");
        is_clean(&stage, &after);
    }
}

#[test]
fn a_monitor_of_what_plugins_have_attached_is_killed() {
    let stage = office_stage!();
    let shop = &stage.shop;
    let options = ["-d", "--name", "victim", "--network", "office", "-p", "8072:80"];
    let id = shop.with("run", &options, &["sleep", "1000"]).output().succeeds().stdout.trim().to_owned();
    assert_eq!(leases(shop, "office").len(), 1);
    kill_monitor(shop, &id);
    stage.judge("the death of a monitor");
    assert_eq!((leases(shop, "office"), traces(shop)), (vec![], vec![]), "a check has it taken back");
    shop.said(&["start", "victim"]);
    assert_eq!(leases(shop, "office").len(), 1);
    // A boot takes what is below `run`, and leaves what plugins have on the disk.
    kill_monitor(shop, &id);
    shop.said(&["rm", "-f", "victim"]);
    is_clean(&stage, "the death of a monitor, and a removal");
}
