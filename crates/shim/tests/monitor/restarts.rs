//! What follows an end: policies, health, memory.

use std::time::{Duration, Instant};

use bulkhead_shim::client::Event;
use bulkhead_shim::order::{Health, OnUnhealthy, Restart};
use bulkhead_shim::protocol::{Stop, Then, ToMonitor};
use bulkhead_shim::status::{Phase, Verdict};
use bulkhead_testkit::wait_until;
use serde_json::json;

use crate::stand::{Stand, hear, hear_until, next, sandbox};

#[test]
fn what_fails_is_started_again_as_often_as_was_said() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("again").script("echo run; exit 5");
    let stand = Stand::new(&sandbox, &bundle, |order| order.restart = Restart::OnFailure { maximum: 2 });
    let began = Instant::now();
    let mut client = stand.start();
    for then in [Then::Restarts, Then::Restarts, Then::Ends] {
        let (stdout, _, exit) = hear(&mut client);
        assert_eq!((stdout.as_str(), exit.code, exit.then), ("run\n", 5, then));
    }
    assert_eq!(next(&mut client), None);
    assert!(began.elapsed() >= Duration::from_millis(300), "100 and 200 ms lie between");
    let status = stand.last_status();
    assert_eq!((status.restarts, status.code, status.stopped), (2, Some(5), false));
    assert_eq!(stand.logged().len(), 3, "one log has all");
}

#[test]
fn what_waits_to_be_started_again_can_be_stopped_and_a_policy_changed() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("waits").args(["false"]);
    let stand = Stand::new(&sandbox, &bundle, |order| order.restart = Restart::Always);
    stand.start_alone();
    wait_until("it waits for the third time", || {
        let status = stand.status();
        status.phase == Phase::Restarting && status.restarts >= 3
    });
    let refused = stand.ask(&ToMonitor::Signal(15)).unwrap_err();
    assert_eq!(refused.to_string(), "the container does not run");
    stand.ask(&ToMonitor::Stop(Stop::default())).unwrap();
    let status = stand.last_status();
    assert_eq!((status.code, status.stopped), (Some(1), true));

    let bundle = sandbox.bundle("policy").args(["cat"]);
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.restart = Restart::Always;
        order.stdin = bulkhead_shim::order::Stdin::Once;
    });
    let mut client = stand.start_with(crate::stand::SPEAK).attachment.unwrap();
    stand.ask(&ToMonitor::Policy(Restart::No)).unwrap();
    client.close_stdin().unwrap();
    assert_eq!(hear(&mut client).2.then, Then::Ends);
    stand.last_status();
}

#[test]
fn a_start_that_fails_later_counts_as_an_end() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("later").script("echo up; while [ ! -e /go ]; do sleep 0.1; done");
    let program = bundle.rootfs().join("bin/sh");
    let hidden = bundle.rootfs().join("bin/hidden");
    let stand = Stand::new(&sandbox, &bundle, |order| order.restart = Restart::Always);
    let mut client = stand.start();
    hear_until(&mut client, "up");
    std::fs::rename(&program, &hidden).unwrap();
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    assert_eq!(hear(&mut client).2.code, 0);
    let (_, _, exit) = hear(&mut client);
    assert_eq!((exit.code, exit.then), (127, Then::Restarts));
    assert!(stand.status().error.unwrap().contains("/bin/sh"), "the reason is told");
    std::fs::rename(&hidden, &program).unwrap();
    std::fs::remove_file(bundle.rootfs().join("go")).unwrap();
    hear_until(&mut client, "up");
    assert_eq!(stand.status().error, None, "it runs");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}

/// A check that looks for a file, every 200 ms.
fn check(command: &[&str], on_failure: OnUnhealthy) -> Health {
    let milliseconds = 1_000_000;
    Health {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        interval: 200 * milliseconds,
        timeout: 1000 * milliseconds,
        start_period: 0,
        start_interval: 0,
        retries: 2,
        on_failure,
    }
}

#[test]
fn checks_tell_how_a_container_is() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("health").args(["sleep", "100"]).env("WANTED=/well");
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.health = Some(check(&["sh", "-c", "echo looked; cat $WANTED"], OnUnhealthy::None));
    });
    stand.start_alone();
    let health = || stand.status().health.unwrap();
    wait_until("it is unhealthy", || health().state == Verdict::Unhealthy);
    let first = health().log[0].clone();
    assert_eq!(
        (first.code, first.output.as_str()),
        (1, "looked\ncat: can't open '/well': No such file or directory\n")
    );
    assert!(first.begin < first.end);
    std::fs::write(bundle.rootfs().join("well"), "yes").unwrap();
    wait_until("it is healthy", || health().state == Verdict::Healthy);
    assert_eq!(health().failing, 0);
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    assert_eq!(stand.last_status().health.unwrap().state, Verdict::Healthy, "the last verdict stays");
}

#[test]
fn a_check_that_takes_too_long_is_ended_in_the_container() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("long").args(["sleep", "100"]);
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.health = Some(check(&["sh", "-c", "echo looks; exec sleep 54321"], OnUnhealthy::None));
    });
    stand.start_alone();
    wait_until("a check has failed", || !stand.status().health.unwrap().log.is_empty());
    let first = stand.status().health.unwrap().log[0].clone();
    assert_eq!((first.code, first.output.as_str()), (-1, "Health check exceeded timeout (1s): looks\n"));
    let processes = sandbox.exec(&bundle, ["ps"]).output().succeeds().stdout;
    assert!(processes.matches("54321").count() <= 1, "only the next one may run:\n{processes}");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}

#[test]
fn an_unhealthy_container_is_started_again_or_stopped() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("restart").script("echo up; exec sleep 100");
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.health = Some(check(&["false"], OnUnhealthy::Restart));
        order.stop.grace = 0;
    });
    let mut client = stand.start();
    let (_, _, exit) = hear(&mut client);
    assert_eq!((exit.code, exit.then), (137, Then::Restarts), "without a policy, too");
    hear_until(&mut client, "up");
    stand.ask(&ToMonitor::Stop(Stop::default())).unwrap();
    stand.last_status();

    for (short, action, then) in
        [("kill", OnUnhealthy::Kill, Then::Restarts), ("stop", OnUnhealthy::Stop, Then::Ends)]
    {
        let bundle = sandbox.bundle(short).args(["sleep", "100"]);
        let stand = Stand::new(&sandbox, &bundle, |order| {
            order.health = Some(check(&["false"], action));
            order.stop.grace = 0;
            order.restart = Restart::Always;
        });
        let mut client = stand.start();
        let (_, _, exit) = hear(&mut client);
        assert_eq!((exit.code, exit.then), (137, then), "{short}");
        drop(stand.ask(&ToMonitor::Stop(Stop::default())));
        assert!(stand.last_status().stopped, "{short}");
    }
}

#[test]
fn a_paused_container_is_not_checked() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("paused").args(["sleep", "100"]);
    let stand =
        Stand::new(&sandbox, &bundle, |order| order.health = Some(check(&["true"], OnUnhealthy::None)));
    stand.start_alone();
    wait_until("it is healthy", || stand.status().health.unwrap().state == Verdict::Healthy);
    sandbox.runtime().arg("pause").arg(bundle.id()).output().succeeds();
    std::thread::sleep(Duration::from_millis(1500));
    let log = stand.status().health.unwrap().log;
    let last = log.last().unwrap().clone();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(stand.status().health.unwrap().log.last(), Some(&last), "nothing was checked");
    assert!(log.iter().all(|check| check.code == 0), "{log:?}");
    sandbox.runtime().arg("resume").arg(bundle.id()).output().succeeds();
    wait_until("it is checked again", || stand.status().health.unwrap().log.last() != Some(&last));
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}

#[test]
fn that_memory_was_short_is_told_also_of_one_that_ends_at_once() {
    let sandbox = sandbox!();
    let limits = json!({ "memory": { "limit": 4 << 20, "swap": 4 << 20 } });
    let hog = "tail /dev/zero; exit 3";
    for (short, script, code) in
        [("hog", "exec tail /dev/zero", 137), ("child", hog, 3), ("well", "exit 0", 0)]
    {
        let bundle = sandbox.bundle(short).script(script).resources(limits.clone());
        let stand = Stand::new(&sandbox, &bundle, |_| {});
        let (_, _, exit) = hear(&mut stand.start());
        assert_eq!((exit.code, exit.oom_killed), (code, code != 0), "{short}");
        assert_eq!(stand.last_status().oom_killed, code != 0, "{short}");
    }
}

#[test]
fn each_client_hears_each_end() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("ends").script("sleep 0.3; exit 1");
    let stand = Stand::new(&sandbox, &bundle, |order| order.restart = Restart::OnFailure { maximum: 1 });
    let mut first = stand.start();
    let mut waiter =
        bulkhead_shim::client::connect(&stand.run, bulkhead_shim::protocol::Attach::default()).unwrap();
    for client in [&mut first, &mut waiter] {
        for then in [Then::Restarts, Then::Ends] {
            match next(client) {
                Some(Event::Exited(exit)) => assert_eq!((exit.code, exit.then), (1, then)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(next(client), None);
    }
    stand.last_status();
}
