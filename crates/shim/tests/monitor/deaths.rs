//! What is left when a monitor or a client is killed.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_shim::client::{self, Event};
use bulkhead_shim::order::{Log, Stdin};
use bulkhead_shim::protocol::{Grace, Stop, ToMonitor};
use bulkhead_shim::status::Phase;
use bulkhead_shim::{Order, Status};
use bulkhead_testkit::{Sandbox, find_program, in_fresh_namespaces, is_root, requires, wait_until};

use crate::stand::{BULKMON, HEAR, SPEAK, Stand, hear, hear_until, next, sandbox};

#[test]
fn a_client_that_is_killed_takes_nothing_with_it() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("client").script("while :; do echo tick; sleep 0.05; done");
    let stand = Stand::new(&sandbox, &bundle, |order| order.stdin = Stdin::Open);
    drop(stand.start_with(SPEAK));
    for _ in 0..20 {
        let mut client = client::connect(&stand.run, SPEAK).unwrap();
        hear_until(&mut client, "tick");
    }
    assert_eq!(stand.status().phase, Phase::Running);
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    assert_eq!(stand.last_status().code, Some(137));
}

#[test]
fn a_monitor_that_is_killed_leaves_a_container_that_can_be_ended() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("lost").script("echo up; sleep 100");
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let mut started = stand.start_with(HEAR);
    hear_until(started.attachment.as_mut().unwrap(), "up");
    started.monitor.kill().unwrap();
    wait_until("it is known to be dead", || !client::alive(&stand.run).unwrap());
    assert!(started.process.runs(), "the container runs on");
    let status = client::lost(&stand.run).unwrap().unwrap();
    assert_eq!((status.phase, status.lost, status.process, status.code), (Phase::Exited, true, None, None));
    assert_eq!(stand.status(), status, "it is written down");
    assert!(status.finished >= status.started && status.finished.is_some(), "it ended: {status:?}");
    wait_until("the container has ended", || !started.process.runs());
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty());
    assert_eq!(stand.logged(), [("up\n".to_owned(), "stdout".to_owned())], "what it said is on disk");
    // And once more, as two commands that look at the same time may.
    assert!(client::lost(&stand.run).unwrap().unwrap().lost);
    stand.start();
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    assert!(!stand.last_status().lost, "a new life");
}

/// Has a runtime hang where one of its words is this, and none is that.
fn hang_at(sandbox: &Sandbox, order: &mut Order, (word, but_not): (&str, &str)) {
    let script = sandbox.directory().join(format!("hanging-{word}-{but_not}"));
    let real = sandbox.runtime_program().display();
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" != \"{but_not}\" ] || exec {real} \"$@\"; done\n\
         for word; do [ \"$word\" != {word} ] || exec sleep 1000; done\nexec {real} \"$@\"\n"
    );
    // By another process: what this one has open for writing could be busy.
    let write = "cat >\"$0\" && chmod 755 \"$0\"";
    sandbox.command("sh").args(["-c", write]).arg(&script).input(text).output().succeeds();
    order.runtime[0] = script.to_str().unwrap().to_owned();
}

/// Waits until a monitor has gone that waits for what hangs, and returns what it wrote last.
#[track_caller]
fn patient_status(stand: &Stand) -> Status {
    let end = Instant::now() + Duration::from_secs(60);
    while client::alive(&stand.run).unwrap() {
        assert!(Instant::now() < end, "the monitor waits for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    stand.last_status()
}

#[test]
fn a_runtime_that_hangs_in_delete_keeps_no_monitor() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("hangs").script("echo up");
    let stand = Stand::new(&sandbox, &bundle, |order| hang_at(&sandbox, order, ("delete", "")));
    drop(stand.start_alone());
    let status = patient_status(&stand);
    assert_eq!(status.code, Some(0), "how it ended is known: {status:?}");
    let says = "the runtime's delete: it had not ended after 15 seconds, and was killed; \
                the runtime cannot delete the container: it had not ended after 15 seconds, and was killed";
    assert_eq!(status.error.as_deref(), Some(says));
    // Whoever looks next takes it away, unless that hangs, too.
    let error = client::lost(&stand.run).unwrap_err().to_string();
    assert!(error.contains("it had not ended after 15 seconds, and was killed"), "{error}");
    let mut order = stand.order.clone();
    order.runtime[0] = sandbox.runtime_program().to_str().unwrap().to_owned();
    order.write(&stand.run.join("order.json")).unwrap();
    client::lost(&stand.run).unwrap();
}

#[test]
fn a_delete_that_hangs_is_told_also_where_force_does_it() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("forced").script("exit 3");
    let stand = Stand::new(&sandbox, &bundle, |order| hang_at(&sandbox, order, ("delete", "--force")));
    drop(stand.start_alone());
    let status = patient_status(&stand);
    let says = "the runtime's delete: it had not ended after 15 seconds, and was killed";
    assert_eq!((status.code, status.error.as_deref()), (Some(3), Some(says)));
    assert_eq!(fs::read_dir(sandbox.state_directory()).unwrap().count(), 0, "it was taken away");
}

#[test]
fn that_somebody_else_killed_a_runtime_is_not_said_to_be_its_time() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("killed").script("exec sleep 1000");
    let stand = Stand::new(&sandbox, &bundle, |order| {
        let real = sandbox.runtime_program().display().to_string();
        let script = sandbox.directory().join("killed");
        let text = format!(
            "#!/bin/sh\nfor word; do [ \"$word\" != delete ] && [ \"$word\" != 12 ] || kill -9 $$; done\nexec {real} \"$@\"\n"
        );
        let write = "cat >\"$0\" && chmod 755 \"$0\"";
        sandbox.command("sh").args(["-c", write]).arg(&script).input(text).output().succeeds();
        order.runtime[0] = script.to_str().unwrap().to_owned();
    });
    drop(stand.start_alone());
    let refused = stand.ask(&ToMonitor::Signal(12)).unwrap_err().to_string();
    assert!(refused.contains("signal 9 has ended it"), "{refused}");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    let status = stand.last_status();
    let says = "the runtime cannot delete the container: signal 9 has ended it";
    assert_eq!(status.error.as_deref(), Some(says));
    let mut order = stand.order.clone();
    order.runtime[0] = sandbox.runtime_program().to_str().unwrap().to_owned();
    order.write(&stand.run.join("order.json")).unwrap();
    client::lost(&stand.run).unwrap();
}

#[test]
fn a_runtime_that_hangs_over_a_signal_is_told() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("deaf").script("exec sleep 1000");
    let stand = Stand::new(&sandbox, &bundle, |order| hang_at(&sandbox, order, ("kill", "")));
    drop(stand.start_alone());
    // By a client that waits.
    let refused = stand.ask(&ToMonitor::Signal(12)).unwrap_err().to_string();
    assert!(refused.contains("it had not ended after 15 seconds, and was killed"), "{refused}");
    // By a stop: SIGTERM, then SIGKILL, then the kernel.
    let stop = Stop { signal: None, grace: Some(Grace::Seconds(1)) };
    stand.ask(&ToMonitor::Stop(stop)).unwrap();
    let status = patient_status(&stand);
    assert_eq!(status.code, Some(137));
    let error = status.error.unwrap();
    assert!(error.starts_with("the runtime's kill: it had not ended after "), "{error}");
    assert!(error.ends_with("seconds, and the container was ended without it"), "{error}");
}

#[test]
fn a_hook_after_the_end_has_its_time() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("hook");
    let mark = sandbox.directory().join("mark");
    let hook = format!("sleep 17; echo done >{}", mark.display());
    let bundle = bundle.script("exit 4").hook_script("poststop", &hook);
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    drop(stand.start_alone());
    let status = patient_status(&stand);
    assert_eq!((status.code, status.error), (Some(4), None));
    assert_eq!(fs::read_to_string(&mark).unwrap(), "done\n");
}

#[test]
fn a_hook_that_never_ends_goes_by_force() {
    let sandbox = sandbox!();
    let mark = sandbox.directory().join("mark");
    let hook = format!("[ ! -e {0} ] || exit 0; echo $$ >{0}; exec sleep 1000", mark.display());
    let bundle = sandbox.bundle("endless");
    let bundle = bundle.script("exit 4").hook_script("poststop", &hook);
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    drop(stand.start_alone());
    wait_until("the hook runs", || fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n')));
    let stop = Stop { signal: Some(9), grace: Some(Grace::Seconds(0)) };
    stand.ask(&ToMonitor::Stop(stop)).unwrap();
    let status = patient_status(&stand);
    let hook = fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
    bulkhead_sys::process::signal(bulkhead_sys::process::open_pidfd(hook).unwrap(), 9).unwrap();
    assert_eq!(status.code, Some(4));
    let error = status.error.unwrap();
    assert!(error.starts_with("the runtime's delete: it had not ended after 1"), "{error}");
}

/// How many system calls of a monitor are made its last, of all that it makes.
const SAMPLE: usize = 30;

#[test]
fn any_call_of_a_monitor_may_be_its_last() {
    let sandbox = sandbox!();
    requires!(find_program("strace").is_some(), "needs strace");
    let bundle = sandbox.bundle("calls").script("echo up; exec sleep 0.2");
    let trace = sandbox.directory().join("trace");
    // Without -f it follows the monitor alone.
    let run = |stand: &Stand, inject: Option<usize>| {
        let mut command = Command::new("strace");
        command.arg("-o").arg(&trace).args(["-e", "signal=none"]);
        if let Some(call) = inject {
            command.args(["-e", &format!("inject=all:signal=KILL:when={call}")]);
        }
        command.arg(BULKMON).arg(&stand.run).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let whole = Stand::new(&sandbox, &bundle, |_| {});
    run(&whole, None);
    assert_eq!(whole.last_status().code, Some(0), "with no fault at all");
    drop(whole);
    let calls = fs::read_to_string(&trace).unwrap().lines().count();
    assert!(calls > 100, "{calls} calls were seen");
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let offset = clock.subsec_micros() as usize;
    let step = calls.div_ceil(SAMPLE);
    println!("offset {}", offset % step);
    for call in (1 + offset % step..=calls).step_by(step) {
        fs::remove_dir_all(sandbox.directory().join(format!("run-{}", bundle.id()))).unwrap();
        let stand = Stand::new(&sandbox, &bundle, |_| {});
        run(&stand, Some(call));
        wait_until(&format!("nobody lives after call {call}"), || !client::alive(&stand.run).unwrap());
        let status = client::lost(&stand.run).unwrap_or_else(|error| panic!("after call {call}: {error}"));
        if let Some(status) = status {
            assert_eq!(status.phase, Phase::Exited, "after call {call}");
            assert_ne!(status.lost, status.code.is_some(), "a code or a loss after call {call}: {status:?}");
        }
        assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "a cgroup is left after call {call}");
        let state = sandbox.state_directory();
        assert_eq!(
            fs::read_dir(&state).unwrap().count(),
            0,
            "{} is not empty after call {call}",
            state.display()
        );
        for line in fs::read_to_string(&stand.log).unwrap_or_default().lines() {
            assert!(line.ends_with("\"}"), "{line} is whole after call {call}");
        }
        // The next life is as good as any.
        if call % 3 == 0 {
            let mut client = stand.start();
            assert_eq!(hear(&mut client).2.code, 0, "after call {call}");
            stand.last_status();
        }
    }
}

#[test]
fn a_full_disk_costs_lines_and_says_so() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = sandbox!();
    let disk = sandbox.directory().join("disk");
    fs::create_dir(&disk).unwrap();
    let shell =
        |script: String| assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    shell(format!("mount -t tmpfs -o size=256k tmpfs {}", disk.display()));
    let log = disk.join("log.json");
    let script = "while read line; do yes $line | head -n 4000; done";
    let bundle = sandbox.bundle("full").script(script);
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.stdin = Stdin::Open;
        order.log =
            Log::JsonFile { path: log.clone(), max_size: 0, max_file: 1, attributes: Default::default() };
        order.status = disk.join("status.json");
    });
    let mut client = stand.start_with(SPEAK).attachment.unwrap();
    client.offer(b"first\n").unwrap();
    let mut heard = 0;
    while heard < 4000 * "first\n".len() {
        match next(&mut client) {
            Some(Event::Stdout(bytes)) => heard += bytes.len(),
            other => panic!("after {heard} bytes came {other:?}"),
        }
    }
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.ends_with("\"}\n") && text.len() > 100_000, "the last line is whole: {}", text.len());
    // Room again: the gap is told where it is.
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    client.offer(b"second\n").unwrap();
    hear_until(&mut client, "second");
    wait_until("the gap is told", || fs::read_to_string(&log).unwrap().contains("are missing here"));
    drop(client);
    // And full again, to the last byte: how it ends is written down all the same.
    shell(format!("yes > {}/filler 2>/dev/null || test -e {0}/filler", disk.display()));
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    assert_eq!(stand.last_status().code, Some(137));
    drop(stand);
    shell(format!("umount {}", disk.display()));
}
