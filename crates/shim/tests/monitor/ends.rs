//! Starts and ends: codes, errors, stops.

use std::path::Path;
use std::time::Duration;

use bulkhead_shim::client::{self, Error, Event, Waiting};
use bulkhead_shim::order::Restart;
use bulkhead_shim::protocol::{Grace, Stop, Then, ToMonitor};
use bulkhead_shim::status::{Phase, Process};
use bulkhead_testkit::wait_until;

use crate::stand::{BULKMON, HEAR, Stand, hear, next, sandbox};

#[test]
fn a_container_runs_and_its_code_is_told() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("code").script("echo out; echo err >&2; exit 7");
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let mut client = stand.start();
    let (stdout, stderr, exit) = hear(&mut client);
    assert_eq!((stdout.as_str(), stderr.as_str(), exit.code), ("out\n", "err\n", 7));
    assert_eq!((exit.then, exit.oom_killed), (Then::Ends, false));
    assert_eq!(next(&mut client), None, "then it goes");
    let status = stand.last_status();
    assert_eq!((status.code, status.oom_killed, status.process), (Some(7), false, None));
    assert!(status.started < status.finished, "{status:?}");
    assert!(status.is_of_this_boot());
    assert!(!stand.run.join("sock").exists(), "the socket has gone");
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "the runtime has taken the cgroup away");
}

#[test]
fn while_it_runs_its_process_is_known() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("running").args(["sleep", "100"]);
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let started = stand.start_alone();
    assert_eq!(Process::find(sandbox.pid(&bundle)), Some(started.process));
    let status = stand.status();
    assert_eq!((status.phase, status.process), (Phase::Running, Some(started.process)));
    assert!(status.monitor.exists() && client::alive(&stand.run).unwrap());
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    let status = stand.last_status();
    assert_eq!((status.code, status.stopped), (Some(137), true));
}

#[test]
fn who_could_not_be_started_is_told_by_docker_s_codes() {
    let sandbox = sandbox!();
    for (short, command, code, words) in [
        ("missing", "no-such-program", 127, "executable file not found in $PATH"),
        ("absolute", "/no/such", 127, "no such file or directory"),
        ("data", "/etc/passwd", 126, "permission denied"),
        ("directory", "/etc", 126, "is a directory"),
    ] {
        let bundle = sandbox.bundle(short).args([command]);
        let stand = Stand::new(&sandbox, &bundle, |_| {});
        let Err(Error::NotStarted { failure }) = client::spawn(Path::new(BULKMON), &stand.run, Some(HEAR))
        else {
            panic!("{command} was started");
        };
        assert_eq!(failure.kind.code(), code, "{command}: {}", failure.message);
        assert!(failure.message.contains(words), "{command}: {}", failure.message);
        let status = stand.last_status();
        assert_eq!((status.code, status.error), (Some(code), Some(failure.message)));
    }
    let bundle = sandbox.bundle("runtime").args(["true"]);
    let stand = Stand::new(&sandbox, &bundle, |order| order.runtime = vec!["/no/such/runtime".to_owned()]);
    let error = client::spawn(Path::new(BULKMON), &stand.run, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "start the runtime /no/such/runtime: No such file or directory (os error 2)"
    );
    stand.last_status();
}

#[test]
fn a_monitor_begins_before_its_directory_and_goes_on_when_it_is_told() {
    let sandbox = sandbox!();
    for (short, attach) in [("heard", Some(HEAR)), ("alone", None)] {
        let bundle = sandbox.bundle(short).script("echo here; exit 7");
        let waiting = Waiting::begin(Path::new(BULKMON), &Stand::place(&sandbox, &bundle), attach).unwrap();
        let stand = Stand::new(&sandbox, &bundle, |_| {});
        let started = waiting.tell().started().unwrap();
        assert_eq!(started.attachment.is_some(), attach.is_some());
        assert_eq!(stand.last_status().code, Some(7));
        let log = std::fs::read_to_string(&stand.log).unwrap();
        assert!(log.contains("here"), "{log}");
    }
}

#[test]
fn a_monitor_that_is_never_told_ends_and_touches_nothing() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("never").args(["true"]);
    for attach in [Some(HEAR), None] {
        let stand = Stand::place(&sandbox, &bundle);
        // It waits for the process to end.
        drop(Waiting::begin(Path::new(BULKMON), &stand, attach).unwrap());
        assert!(!stand.exists());
        let waiting = Waiting::begin(Path::new("/no/bulkmon"), &stand, attach).unwrap();
        let error = waiting.tell().started().unwrap_err();
        assert!(matches!(error, Error::Program { .. }), "{error}");
    }
}

#[test]
fn an_order_that_cannot_be_followed_is_an_error() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("order").args(["true"]);
    let stand = Stand::new(&sandbox, &bundle, |order| order.version = 99);
    let error = client::spawn(Path::new(BULKMON), &stand.run, None).unwrap_err().to_string();
    assert!(error.contains("order.json") && error.contains("version 99"), "{error}");
    let empty = sandbox.directory().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = client::spawn(Path::new(BULKMON), &empty, None).unwrap_err().to_string();
    assert!(error.contains("order.json") && error.contains("No such file"), "{error}");
    let error = client::spawn(Path::new("/no/bulkmon"), &stand.run, None).unwrap_err();
    assert!(matches!(error, Error::Program { .. }), "{error}");
}

#[test]
fn a_stop_asks_and_then_insists() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("polite").script("trap 'exit 3' TERM; while :; do sleep 0.1; done");
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    stand.start_alone();
    stand.ask(&ToMonitor::Stop(Stop::default())).unwrap();
    let status = stand.last_status();
    assert_eq!((status.code, status.stopped), (Some(3), true), "it heard the signal");

    let bundle = sandbox.bundle("deaf").script("trap '' TERM; echo deaf; while :; do sleep 0.1; done");
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let mut client = stand.start();
    crate::stand::hear_until(&mut client, "deaf");
    let began = std::time::Instant::now();
    stand.ask(&ToMonitor::Stop(Stop { signal: None, grace: Some(Grace::Seconds(1)) })).unwrap();
    assert!(began.elapsed().as_secs_f64() >= 1.0, "it had its second");
    assert_eq!(stand.last_status().code, Some(137));

    let bundle = sandbox.bundle("now").script("trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done");
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let mut client = stand.start();
    crate::stand::hear_until(&mut client, "up");
    stand.ask(&ToMonitor::Stop(Stop { signal: None, grace: Some(Grace::Seconds(0)) })).unwrap();
    assert_eq!(stand.last_status().code, Some(137), "without grace it is not asked");
    let gone = stand.ask(&ToMonitor::Signal(15)).unwrap_err();
    assert!(matches!(gone, Error::NoMonitor { .. }), "{gone}");
}

#[test]
fn a_signal_is_passed_on_and_a_bad_one_refused() {
    let sandbox = sandbox!();
    let bundle =
        sandbox.bundle("signal").script("trap 'echo usr1' USR1; echo up; while :; do sleep 0.1; done");
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let mut client = stand.start();
    crate::stand::hear_until(&mut client, "up");
    stand.ask(&ToMonitor::Signal(10)).unwrap();
    crate::stand::hear_until(&mut client, "usr1");
    let refused = stand.ask(&ToMonitor::Signal(99)).unwrap_err();
    assert!(matches!(&refused, Error::Refused { reason } if reason.contains("99")), "{refused}");
    stand.ask(&ToMonitor::Stop(Stop { signal: Some(9), grace: None })).unwrap();
    assert_eq!(hear(&mut client).2.code, 137);
    stand.last_status();
}

#[test]
fn what_follows_the_end_is_done_once() {
    let sandbox = sandbox!();
    let mark = sandbox.directory().join("mark");
    let at_end =
        |mark: &Path| vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("echo done >> {}", mark.display())];
    let stand = |short: &str| {
        let bundle = sandbox.bundle(short).args(["true"]);
        Stand::new(&sandbox, &bundle, |order| order.at_end = at_end(&mark))
    };
    let count = || std::fs::read_to_string(&mark).unwrap_or_default().lines().count();
    let alone = stand("alone");
    alone.start_alone();
    wait_until("the monitor has done it", || count() == 1);
    alone.last_status();

    // A client that does it says so.
    let taken = stand("taken");
    let mut started = taken.start_with(bulkhead_shim::protocol::Attach { takes_end: true, ..HEAR });
    let client = started.attachment.as_mut().unwrap();
    hear(client);
    assert!(!client::alive(&taken.run).unwrap(), "its directory is free when the end is told");
    client.taken().unwrap();
    assert_eq!(next(client), None);
    started.monitor.wait().ok();
    assert_eq!(count(), 1, "the monitor has not done it, too");

    // One that wanted to, and died.
    let died = stand("died");
    let mut started = died.start_with(bulkhead_shim::protocol::Attach { takes_end: true, ..HEAR });
    hear(started.attachment.as_mut().unwrap());
    drop(started.attachment);
    wait_until("the monitor has done it", || count() == 2);
    died.last_status();
}

#[test]
fn who_takes_the_end_hears_of_it_while_the_runtime_cleans_up() {
    let sandbox = sandbox!();
    let go = sandbox.directory().join("go");
    let bundle = sandbox.bundle("early").script("echo last; exit 7");
    let script = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
    let stand = Stand::new(&sandbox, &bundle.hook_script("poststop", &script), |_| {});
    let mut started =
        stand.start_with(bulkhead_shim::protocol::Attach { takes_end: true, hears_ending: true, ..HEAR });
    let client = started.attachment.as_mut().unwrap();
    let ending = loop {
        match next(client) {
            Some(Event::Ending(ending)) => break ending,
            Some(Event::Stdout(_)) => {}
            other => panic!("{other:?} was heard before the runtime had cleaned up"),
        }
    };
    assert!(client::alive(&stand.run).unwrap(), "the monitor waits for the runtime");
    std::fs::write(&go, "").unwrap();
    let (_, _, exit) = hear(client);
    assert_eq!((ending.code, exit.code), (7, 7));
    client.taken().unwrap();
    assert_eq!(stand.last_status().finished, Some(ending.time));
}

#[test]
fn an_end_that_is_none_is_not_told_early() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("again").script("exit 7");
    let stand = Stand::new(&sandbox, &bundle, |order| order.restart = Restart::OnFailure { maximum: 1 });
    let mut started =
        stand.start_with(bulkhead_shim::protocol::Attach { takes_end: true, hears_ending: true, ..HEAR });
    let client = started.attachment.as_mut().unwrap();
    let exits = [(); 2].map(|()| match next(client) {
        Some(Event::Exited(exit)) => exit.then,
        other => panic!("{other:?}"),
    });
    assert_eq!(exits, [Then::Restarts, Then::Ends]);
    client.taken().unwrap();
    stand.last_status();
}

#[test]
fn a_monitor_that_is_asked_to_end_stops_its_container_for_now() {
    let sandbox = sandbox!();
    let bundle =
        sandbox.bundle("shutdown").script("trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done");
    let stand = Stand::new(&sandbox, &bundle, |order| order.restart = Restart::Always);
    let mut client = stand.start();
    crate::stand::hear_until(&mut client, "up");
    let monitor = bulkhead_sys::process::open_pidfd(stand.status().monitor.pid).unwrap();
    bulkhead_sys::process::signal(monitor, 15).unwrap();
    let (_, _, exit) = hear(&mut client);
    assert_eq!((exit.code, exit.then), (4, Then::Ends));
    assert!(!stand.last_status().stopped, "nobody stopped it: it starts again with the machine");
}

#[test]
fn one_directory_has_one_monitor() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("one").args(["sleep", "100"]);
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    stand.start_alone();
    let error = client::lost(&stand.run).unwrap_err();
    assert!(matches!(error, Error::Alive { .. }), "{error}");
    let error = client::spawn(Path::new(BULKMON), &stand.run, None).unwrap_err();
    assert!(error.to_string().contains("the container runs already"), "{error}");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}

/// Fails when the end is written once: then the code is lost, and whoever looks takes the monitor for dead.
#[test]
fn the_end_is_written_before_the_directory_is_given_up() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("late").script("while [ ! -e /go ]; do sleep 0.05; done; exit 5");
    let place = sandbox.directory().join("place");
    std::fs::create_dir(&place).unwrap();
    let stand = Stand::new(&sandbox, &bundle, |order| order.status = place.join("status.json"));
    let mut client = stand.start();
    let away = sandbox.directory().join("away");
    let end = || std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    std::fs::rename(&place, &away).unwrap();
    end();
    std::thread::sleep(Duration::from_millis(1200));
    assert!(client::alive(&stand.run).unwrap(), "nobody else can begin before it is written");
    std::fs::rename(&away, &place).unwrap();
    assert_eq!(hear(&mut client).2.code, 5);
    assert_eq!(stand.last_status().code, Some(5));

    // Where it never can be written, nobody waits for ever, and nothing is written afterwards.
    std::fs::remove_file(bundle.rootfs().join("go")).unwrap();
    let mut client = stand.start();
    std::fs::rename(&place, &away).unwrap();
    end();
    assert_eq!(hear(&mut client).2.code, 5);
    wait_until("it has gone", || !client::alive(&stand.run).unwrap());
    std::fs::rename(&away, &place).unwrap();
    drop(client);
    assert_eq!(stand.status().phase, Phase::Running, "nobody knows how it ended");
    client::lost(&stand.run).unwrap();
    assert!(stand.last_status().lost);
}
