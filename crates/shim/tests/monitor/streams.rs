//! What goes in and out of a container.

use std::time::{Duration, Instant};

use bulkhead_shim::client::{self, Attachment, Event};
use bulkhead_shim::order::{Log, Stdin};
use bulkhead_shim::protocol::{Attach, Size, ToMonitor};
use bulkhead_testkit::wait_until;

use crate::stand::{HEAR, SPEAK, Stand, hear, hear_until, next, sandbox};

/// Has the container take all of `bytes`.
#[track_caller]
fn say(client: &Attachment, mut bytes: &[u8]) {
    let end = Instant::now() + Duration::from_secs(20);
    while !bytes.is_empty() {
        assert!(Instant::now() < end, "the container does not take {} bytes", bytes.len());
        match client.offer(bytes).unwrap() {
            0 => std::thread::sleep(Duration::from_millis(1)),
            taken => bytes = &bytes[taken..],
        }
    }
}

#[test]
fn input_once_ends_with_its_client() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("once").args(["cat"]);
    let stand = Stand::new(&sandbox, &bundle, |order| order.stdin = Stdin::Once);
    let mut client = stand.start_with(SPEAK).attachment.unwrap();
    say(&client, b"hello\n");
    hear_until(&mut client, "hello\n");
    assert!(client.close_stdin().unwrap());
    let (rest, _, exit) = hear(&mut client);
    assert_eq!((rest.as_str(), exit.code), ("", 0), "cat has ended");
    stand.last_status();

    // The same when the client just goes.
    let bundle = sandbox.bundle("goes").script("cat; echo end");
    let stand = Stand::new(&sandbox, &bundle, |order| order.stdin = Stdin::Once);
    let client = stand.start_with(SPEAK).attachment.unwrap();
    say(&client, b"last words\n");
    drop(client);
    stand.last_status();
    let lines: Vec<_> = stand.logged().into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["last words\n", "end\n"]);
}

#[test]
fn input_that_stays_open_outlives_its_clients() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("open").args(["cat"]);
    let stand = Stand::new(&sandbox, &bundle, |order| order.stdin = Stdin::Open);
    let mut first = stand.start_with(SPEAK).attachment.unwrap();
    say(&first, b"one\n");
    hear_until(&mut first, "one\n");
    first.close_stdin().unwrap();
    drop(first);
    let mut second = client::connect(&stand.run, SPEAK).unwrap();
    say(&second, b"two\n");
    assert_eq!(hear_until(&mut second, "two\n"), "two\n", "what was said before is not said again");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}

#[test]
fn many_bytes_go_through_and_come_back() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("bytes").args(["cat"]);
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.stdin = Stdin::Once;
        order.log = Log::None;
    });
    let mut client = stand.start_with(SPEAK).attachment.unwrap();
    let sent: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| (number % 251).to_le_bytes()).step_by(4).collect();
    let (mut heard, mut left) = (Vec::new(), &sent[..]);
    while heard.len() < sent.len() {
        let taken = client.offer(left).unwrap();
        left = &left[taken..];
        // Who only speaks and never listens waits for a container that waits for him.
        if taken == 0 || left.is_empty() {
            match next(&mut client) {
                Some(Event::Stdout(bytes)) => heard.extend(bytes),
                other => panic!("after {} bytes came {other:?}", heard.len()),
            }
        }
    }
    assert!(heard == sent, "the bytes are the same");
    client.close_stdin().unwrap();
    assert_eq!(hear(&mut client).2.code, 0);
    stand.last_status();
    assert!(!stand.log.exists(), "nothing is kept");
}

#[test]
fn clients_come_and_go_and_hear_what_is_said_while_they_are_there() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("come").script("while read line; do echo \"heard $line\"; done");
    let stand = Stand::new(&sandbox, &bundle, |order| order.stdin = Stdin::Open);
    stand.start_alone();
    let mut speaker = client::connect(&stand.run, SPEAK).unwrap();
    say(&speaker, b"one\n");
    hear_until(&mut speaker, "heard one\n");
    let mut listener = client::connect(&stand.run, HEAR).unwrap();
    let mut errors = client::connect(&stand.run, Attach { stdout: false, ..HEAR }).unwrap();
    // A connection is served in the order of its words; this one's have been read when an answer to another has come.
    std::thread::sleep(Duration::from_millis(100));
    say(&speaker, b"two\n");
    assert_eq!(hear_until(&mut listener, "two\n"), "heard two\n", "no replay");
    drop(listener);
    drop(speaker);
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    let (stdout, stderr, exit) = hear(&mut errors);
    assert_eq!((stdout.as_str(), stderr.as_str(), exit.code), ("", "", 137), "it heard the end alone");
    stand.last_status();
    assert_eq!(stand.logged().len(), 2);
}

#[test]
fn a_terminal_comes_to_have_the_size_of_the_order_whatever_the_runtime_reads() {
    let sandbox = sandbox!();
    let script = "until [ \"$(stty size)\" = '24 300' ]; do sleep 0.01; done";
    let bundle = sandbox.bundle("sized").script(script).terminal();
    let stand = Stand::new(&sandbox, &bundle, |order| order.size = Some(Size { rows: 24, columns: 300 }));
    assert_eq!(hear(&mut stand.start()).2.code, 0);
    stand.last_status();
}

#[test]
fn a_terminal_has_a_size_and_can_be_left() {
    let sandbox = sandbox!();
    // A signal ends `read` without a line, in some shells and at some moments.
    let script = "trap 'stty size' WINCH; stty size; echo up; line=; \
        until [ \"$line\" = end ]; do line=; read line && echo \"<$line>\"; done; tty";
    let bundle = sandbox.bundle("tty").script(script).terminal();
    let stand = Stand::new(&sandbox, &bundle, |order| order.stdin = Stdin::Open);
    let mut client = stand.start_with(SPEAK).attachment.unwrap();
    hear_until(&mut client, "up\r\n");
    client.resize(Size { rows: 33, columns: 101 }).unwrap();
    say(&client, b"x\n");
    hear_until(&mut client, "33 101");
    stand.ask(&ToMonitor::Resize(Size { rows: 34, columns: 102 })).unwrap();
    say(&client, b"y\n");
    hear_until(&mut client, "34 102");
    drop(client);
    let mut client = client::connect(&stand.run, SPEAK).unwrap();
    say(&client, b"again\n");
    hear_until(&mut client, "<again>");
    say(&client, b"end\n");
    let (rest, _, exit) = hear(&mut client);
    assert!(rest.contains("/dev/pts/0") && exit.code == 0, "{rest:?}, {exit:?}");
    stand.last_status();
}

#[test]
fn a_client_that_does_not_read_holds_back_as_long_as_it_asked_for() {
    let sandbox = sandbox!();
    let script = "i=0; while [ $i -lt 2000 ]; do echo \"line $i of many, as long as a line is, more or less, in a log\"; i=$((i+1)); done; \
        echo all > /done; sleep 100";
    let bundle = sandbox.bundle("slow").script(script);
    let done = bundle.rootfs().join("done");
    let many = "yes 'a line that is as long as lines are' | head -n 100000; touch /done; sleep 100";
    let bundle = bundle.script(many);
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let impatient = Attach { patience: 1, ..HEAR };
    let mut slow = stand.start_with(impatient).attachment.unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!done.exists(), "the container waits");
    wait_until("the monitor has lost patience", || done.exists());
    let mut last = None;
    while let Some(event) = next(&mut slow) {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Stdout(_))), "it was let go without an end: {last:?}");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
    assert_eq!(stand.logged().len(), 100_000, "the log has all");
}

#[test]
fn long_lines_are_cut_as_docker_cuts_them() {
    let sandbox = sandbox!();
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; printf tail";
    let bundle = sandbox.bundle("long").script(script);
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let (stdout, _, _) = hear(&mut stand.start());
    assert_eq!(stdout.len(), 40_005);
    stand.last_status();
    let lengths: Vec<_> = stand.logged().iter().map(|(line, _)| (line.len(), line.ends_with('\n'))).collect();
    assert_eq!(lengths, [(16_384, false), (16_384, false), (7233, true), (4, false)]);
}

#[test]
fn logs_are_rotated() {
    let sandbox = sandbox!();
    let bundle =
        sandbox.bundle("rotate").script("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done");
    let stand = Stand::new(&sandbox, &bundle, |order| {
        if let Log::JsonFile { max_size, max_file, .. } = &mut order.log {
            (*max_size, *max_file) = (20_000, 3);
        }
    });
    hear(&mut stand.start());
    stand.last_status();
    let sizes = ["", ".1", ".2", ".3"].map(|suffix| {
        let path = format!("{}{suffix}", stand.log.display());
        std::fs::metadata(path).map(|file| file.len()).ok()
    });
    let [Some(newest), Some(second), Some(third), None] = sizes else { panic!("{sizes:?}") };
    assert!(
        newest < 20_200 && (20_000..20_200).contains(&second) && (20_000..20_200).contains(&third),
        "{sizes:?}"
    );
    assert_eq!(stand.logged().last().unwrap().0, "line 999\n");
}
