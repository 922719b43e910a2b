//! Standard streams, terminals and signals of containers in the foreground.

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::wait_until;
use rustix::process::Signal;

use crate::shop::shop;

#[test]
fn each_stream_stays_itself() {
    let shop = shop!();
    let output = shop.script(&[], "echo out; echo err >&2").output().succeeds();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let output = shop.script(&["-a", "stderr"], "echo out; echo err >&2").output().succeeds();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("", "err\n"),
        "one stream alone is attached"
    );
}

#[test]
fn what_is_typed_reaches_the_container_and_ends() {
    let shop = shop!();
    let text = "a line\n".repeat(100_000);
    let output = shop.script(&["-i"], "cat").input(&text).output().succeeds();
    assert!(output.stdout == text, "{} of {} bytes came back", output.stdout.len(), text.len());
    shop.script(&[], "cat").input("unheard").output().succeeds().prints("");
}

#[test]
fn much_output_arrives_whole() {
    let shop = shop!();
    let output = shop.script(&[], "yes | head -c 3000000").output().succeeds();
    assert_eq!(output.stdout.len(), 3_000_000);
}

#[test]
fn signals_are_passed_on() {
    let shop = shop!();
    let running =
        shop.script(&[], "trap 'echo heard; exit 5' TERM; echo ready; while :; do sleep 0.1; done").spawn();
    wait_until("it listens", || running.stdout() == "ready\n");
    running.signal(Signal::TERM);
    let output = running.wait().exits_with(5);
    assert_eq!(output.stdout, "ready\nheard\n");
}

#[test]
fn without_the_proxy_a_signal_leaves_the_container_alone() {
    let shop = shop!();
    let options = ["--name", "job", "--sig-proxy=false"];
    let running = shop.with("run", &options, &["sh", "-c", "echo ready; sleep 1000"]).spawn();
    wait_until("it runs", || running.stdout() == "ready\n");
    running.signal(Signal::INT);
    running.wait();
    assert_eq!(shop.inspect("job")["State"]["Status"], "running");
}

#[test]
fn a_terminal_needs_one() {
    let shop = shop!();
    let output = shop.script(&["-it"], "true").input("").output().exits_with(125);
    assert!(
        output.stderr.contains("no terminal") && output.stderr.contains("leave out -t"),
        "{}",
        output.stderr
    );
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}

#[test]
fn logs_are_followed_to_the_end() {
    let shop = shop!();
    shop.service("job", "for i in 1 2 3; do echo $i; sleep 0.1; done");
    assert_eq!(shop.said(&["logs", "--follow", "job"]), "1\n2\n3\n");
    let stamped = shop.said(&["logs", "-t", "-n", "1", "job"]);
    assert!(stamped.ends_with("Z 3\n") && stamped.starts_with("20"), "{stamped}");
    assert_eq!(
        shop.said(&["logs", "--since", "1h", "--until", "1s", "job"]),
        "",
        "nothing is as old as that"
    );
}

#[test]
fn logs_cannot_take_over_a_terminal() {
    let shop = shop!();
    shop.with("run", &["--name", "job"], &["printf", "\\033[31mred\\033[0m \\033]0;owned\\007\\n"])
        .output()
        .succeeds();
    assert!(shop.said(&["logs", "job"]).contains('\u{7}'), "a pipe gets what was said");
    let seat = Seat::new(24, 80);
    let running = seat.spawn(shop.bulkhead(&["logs", "job"]));
    seat.screen.shows("\u{1b}[31mred\u{1b}[0m \\e]0;owned\\x07");
    running.wait().succeeds();
}
