//! The first process of a container that was asked to have one.

use bulkhead_testkit::wait_until;

use crate::shop::shop;

/// Counts processes that nobody has waited for.
const ZOMBIES: &str = "grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";

#[test]
fn an_init_reaps_orphans_passes_signals_on_and_ends_as_its_command_does() {
    let shop = shop!().with_shipped_monitor();
    let line =
        shop.script(&["--init"], "tr '\\0' ' ' < /proc/1/cmdline; exit 7").output().exits_with(7).stdout;
    assert!(line.starts_with("/sbin/docker-init init -- sh -c "), "{line}");

    let orphan = "sh -c '(sleep 0.1 &)'; sh -c '(sleep 0.1 &)'; echo ready; exec sleep 1000";
    for (name, options, expected) in [("alone", &[][..], "2"), ("served", &["--init"], "0")] {
        let options = [&["-d", "--name", name], options].concat();
        shop.with("run", &options, &["sh", "-c", orphan]).output().succeeds();
        let told = format!("{name} has {expected} processes that nobody waits for");
        let ended = || shop.said(&["exec", name, "sh", "-c", "pidof sleep | wc -w"]).trim() == "1";
        wait_until("the orphans have ended", || ended() || expected == "2");
        wait_until(&told, || shop.said(&["exec", name, "sh", "-c", ZOMBIES]).trim() == expected);
    }
    // SIGTERM does nothing to a first process that does not wait for it.
    assert_eq!(shop.said(&["stop", "-t", "1", "alone"]), "alone\n");
    assert_eq!(shop.inspect("alone")["State"]["ExitCode"], 137);
    shop.said(&["stop", "-t", "30", "served"]);
    assert_eq!(shop.inspect("served")["State"]["ExitCode"], 143);

    let script = "trap 'echo heard; exit 9' USR1; echo ready; while :; do sleep 0.1; done";
    shop.with("run", &["-d", "--init", "--name", "job"], &["sh", "-c", script]).output().succeeds();
    wait_until("it listens", || shop.said(&["logs", "job"]) == "ready\n");
    shop.said(&["kill", "-s", "USR1", "job"]);
    assert_eq!(shop.said(&["wait", "job"]), "9\n");
    assert_eq!(shop.said(&["logs", "job"]), "ready\nheard\n");
}

#[test]
fn an_init_that_a_container_cannot_run_is_refused_when_it_is_created() {
    let shop = shop!();
    // A build for development needs libraries that an image may not have.
    let refused = shop.with("create", &["--init"], &["true"]).output().exits_with(1);
    assert!(refused.stderr.starts_with("error: --init: "), "{}", refused.stderr);
    assert!(refused.stderr.contains("cargo xtask build bulkmon"), "{}", refused.stderr);
    shop.script(&["--init"], "true").output().exits_with(125);
    assert_eq!(shop.said(&["ps", "-aq"]), "", "nothing is left of it");
}
