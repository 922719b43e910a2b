//! Containers, and processes in them, that have a terminal.

use std::path::PathBuf;

use bulkhead_testkit::skip::find_program;
use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{skip, wait_until};
use rustix::process::Signal;

use crate::shop::{Shop, shop};

/// Says its size at once, and again when that changes, and goes on.
const SIZES: &str = "stty size; trap 'stty size' WINCH; echo up; while :; do sleep 0.1; done";

/// Docker's keys: Ctrl-P, Ctrl-Q.
const LEAVE: &str = "\u{10}\u{11}";

fn runs(shop: &Shop, name: &str) -> bool {
    shop.inspect(name)["State"]["Running"] == true
}

#[test]
fn a_terminal_has_the_size_of_its_caller_s_from_the_start_and_follows_it() {
    let shop = shop!();
    let seat = Seat::new(21, 83);
    let running = seat.spawn(shop.with("run", &["-it", "--name", "job"], &["sh", "-c", SIZES]));
    seat.screen.shows("21 83\r\nup\r\n");
    assert!(seat.is_raw(), "what is typed goes to the container as it is");
    seat.resize(30, 99);
    running.signal(Signal::WINCH);
    seat.screen.shows("30 99\r\n");
    assert_eq!(shop.inspect("job")["HostConfig"]["ConsoleSize"], serde_json::json!([21, 83]));
    running.signal(Signal::KILL);
    running.wait();
    assert!(runs(&shop, "job"), "a client that dies ends no container");

    let other = Seat::new(40, 120);
    let attached = other.spawn(shop.bulkhead(&["attach", "job"]));
    other.screen.shows("40 120\r\n");
    other.screen.type_in(LEAVE);
    attached.wait().succeeds();
    shop.said(&["rm", "-f", "job"]);
}

#[test]
fn who_starts_a_container_gives_it_his_size() {
    let shop = shop!();
    shop.with("create", &["-it", "--name", "job"], &["sh", "-c", SIZES]).output().succeeds();
    let seat = Seat::new(12, 34);
    let running = seat.spawn(shop.bulkhead(&["start", "-ai", "job"]));
    seat.screen.shows("12 34\r\nup\r\n");
    seat.screen.type_in(LEAVE);
    running.wait().succeeds();
    shop.said(&["stop", "-t", "0", "job"]);
    // One that is left alone has the size of the terminal before which it was made.
    let maker = Seat::new(17, 71);
    maker.spawn(shop.with("create", &["-t", "--name", "other"], &["sh", "-c", SIZES])).wait().succeeds();
    shop.said(&["start", "other"]);
    wait_until("it says its size", || shop.said(&["logs", "other"]).contains("17 71\r\nup\r\n"));
    shop.said(&["rm", "-f", "other"]);
}

#[test]
fn keys_leave_a_container_that_goes_on() {
    let shop = shop!();
    let seat = Seat::new(24, 80);
    let running = seat.spawn(shop.with("run", &["-it", "--name", "job"], &["cat"]));
    // Before that it would say everything once more.
    wait_until("the terminal is the container's", || seat.is_raw());
    seat.screen.type_in("hello\r");
    seat.screen.shows("hello\r\nhello\r\n");
    // What only begins like the keys is the container's.
    seat.screen.type_in("\u{10}x\r");
    seat.screen.shows("^Px\r\n\u{10}x\r\n");
    seat.screen.type_in(LEAVE);
    running.wait().succeeds();
    seat.is_restored();
    assert!(runs(&shop, "job"));

    let again = seat.spawn(shop.bulkhead(&["attach", "--detach-keys", "ctrl-a,x", "job"]));
    seat.screen.type_in("still there\r");
    seat.screen.shows("still there\r\nstill there\r\n");
    seat.screen.type_in("\u{1}x");
    again.wait().succeeds();
    assert!(runs(&shop, "job"));

    // Docker's configuration has keys, too.
    let docker = shop.path("docker");
    std::fs::create_dir(&docker).unwrap();
    std::fs::write(docker.join("config.json"), r#"{ "detachKeys": "ctrl-e,e" }"#).unwrap();
    let configured = seat.spawn(shop.bulkhead(&["attach", "job"]).env("DOCKER_CONFIG", &docker));
    seat.screen.type_in("and on\r");
    seat.screen.shows("and on\r\nand on\r\n");
    seat.screen.type_in("\u{5}e");
    configured.wait().succeeds();
    assert!(runs(&shop, "job"));

    let last = seat.spawn(shop.bulkhead(&["attach", "job"]));
    // Before that the terminal itself would end its input.
    wait_until("the terminal passes keys on", || seat.is_raw());
    seat.screen.type_in("\u{4}");
    last.wait().succeeds();
    assert!(!runs(&shop, "job"), "Ctrl-D ended cat");
    std::fs::write(docker.join("config.json"), r#"{ "detachKeys": "ctrl-1" }"#).unwrap();
    let wrong = seat.spawn(shop.bulkhead(&["start", "-ai", "job"]).env("DOCKER_CONFIG", &docker));
    wrong.wait().exits_with(125);
    assert!(!runs(&shop, "job"), "wrong keys are told before anything runs");
}

#[test]
fn a_process_that_joins_has_a_terminal_of_its_own() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    let seat = Seat::new(22, 77);
    let running = seat.spawn(shop.bulkhead(&["exec", "-it", "web", "sh", "-c", SIZES]));
    seat.screen.shows("22 77\r\nup\r\n");
    assert!(seat.is_raw());
    seat.resize(31, 98);
    running.signal(Signal::WINCH);
    seat.screen.shows("31 98\r\n");
    seat.screen.type_in("\u{3}");
    running.wait().exits_with(130);
    seat.is_restored();

    let output = shop.bulkhead(&["exec", "-t", "web", "sh", "-c", "tty; exit 5"]).output().exits_with(5);
    assert!(output.stdout.starts_with("/dev/pts/") && output.stdout.ends_with("\r\n"), "{}", output.stdout);
    shop.bulkhead(&["exec", "-t", "web", "no-such-program"])
        .output()
        .exits_with(127)
        .complains("no-such-program");
    let much = shop.bulkhead(&["exec", "-t", "web", "seq", "100000"]).output().succeeds();
    assert!(much.stdout.ends_with("99999\r\n100000\r\n"), "all is heard before the end");
    let refused = shop.bulkhead(&["exec", "-it", "web", "true"]).input("").output().exits_with(1);
    assert!(refused.stderr.contains("no terminal"), "{}", refused.stderr);
}

#[test]
fn a_terminal_is_not_lent_to_a_process_that_did_not_ask_for_one() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    let seat = Seat::new(24, 80);
    let script = "test -t 0 || test -t 1 || test -t 2 || echo none; echo aside >&2; exit 3";
    let running = seat.spawn(shop.bulkhead(&["exec", "web", "sh", "-c", script]));
    seat.screen.shows("none\r\n");
    let output = running.wait().exits_with(3);
    assert_eq!(output.stderr, "aside\n", "what is no terminal is handed over");
    let speaking = seat.spawn(shop.bulkhead(&["exec", "-i", "web", "sh", "-c", "test -t 0 || cat"]));
    seat.screen.type_in("typed\r");
    seat.screen.shows("typed\r\ntyped\r\n");
    seat.screen.type_in("\u{4}");
    speaking.wait().succeeds();
    // Signals go to the process, which ends as it likes.
    let script = "trap 'echo heard; exit 6' INT; echo waits; while :; do sleep 0.1; done";
    let signalled = seat.spawn(shop.bulkhead(&["exec", "web", "sh", "-c", script]));
    seat.screen.shows("waits\r\n");
    signalled.signal(Signal::INT);
    signalled.wait().exits_with(6);
    seat.screen.shows("heard\r\n");
}

#[test]
fn keys_leave_a_process_that_goes_on_in_its_container() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    let made = |file: &str| shop.bulkhead(&["exec", "web", "test", "-e", file]).output().code() == 0;
    let seat = Seat::new(24, 80);
    // It would be told that its terminal has gone, or could not write to it, if nobody kept that.
    let script = "echo up; read go; yes | head -c 100000; echo went on > /made; sleep 1000";
    let words = ["exec", "-it", "--detach-keys", "ctrl-a,x", "web", "sh", "-c", script];
    let running = seat.spawn(shop.bulkhead(&words));
    seat.screen.shows("up\r\n");
    seat.screen.type_in("\r\u{1}x");
    running.wait().succeeds();
    seat.is_restored();
    wait_until("it goes on", || made("/made"));
    // In the background it has one, too.
    shop.said(&["exec", "-dt", "web", "sh", "-c", "test -t 1 && echo yes > /tty; sleep 1000"]);
    wait_until("it runs", || made("/tty"));
    // Whoever just dies hangs up.
    let words = [
        "exec",
        "-it",
        "web",
        "sh",
        "-c",
        "trap 'echo > /hung-up; exit' HUP; echo up; while :; do sleep 0.1; done",
    ];
    let killed = seat.spawn(shop.bulkhead(&words));
    seat.screen.shows("up\r\nup\r\n");
    killed.signal(Signal::KILL);
    killed.wait();
    wait_until("it is hung up on", || made("/hung-up"));
    shop.said(&["rm", "-f", "web"]);
}

#[test]
fn directories_with_long_names_hold_sockets() {
    let mut shop = shop!();
    shop.run_directory = shop.path(&"long-".repeat(40));
    let mut runtimes = vec![PathBuf::from("bulkrun")];
    runtimes.extend(["runc", "crun"].into_iter().filter_map(find_program));
    let seat = Seat::new(24, 80);
    for runtime in runtimes {
        let runtime = runtime.to_str().unwrap();
        let started = shop.with(
            "run",
            &["-dt", "--name", "job", "--runtime", runtime],
            &["sh", "-c", "tty; sleep 1000"],
        );
        started.output().succeeds();
        wait_until("it has a terminal", || shop.said(&["logs", "job"]).contains("/dev/"));
        let running = seat.spawn(shop.bulkhead(&["exec", "-it", "job", "sh", "-c", "stty size; read line"]));
        seat.screen.shows("24 80\r\n");
        seat.screen.type_in("\r");
        running.wait().succeeds();
        shop.said(&["stop", "-t", "0", "job"]);
        shop.said(&["rm", "job"]);
    }
    if find_program("runc").is_none() {
        skip!("no runc here: bulkrun alone was tried");
    }
}
