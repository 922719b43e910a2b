//! A process outside that serves the container.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use bulkhead_shim::order::{Companion, RecordedCompanion};
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_shim::socket::{self, Listener};
use bulkhead_shim::status::Process;
use bulkhead_shim::{Order, place, replace};
use bulkhead_sys::message;
use bulkhead_testkit::wait_until;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, SocketType, accept_with};

use crate::stand::{Stand, sandbox};

/// Waits for the monitor, and returns its connection and what it says.
fn greeted(listener: &Listener) -> (OwnedFd, String) {
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(
        poll(&mut [PollFd::new(&listener.socket, PollFlags::IN)], Some(&limit)).unwrap(),
        1,
        "nobody connects"
    );
    let connection = accept_with(&listener.socket, SocketFlags::CLOEXEC).unwrap();
    let said = message::receive(&connection, 4096).unwrap();
    (connection, String::from_utf8(said.bytes).unwrap())
}

#[test]
fn a_monitor_stays_with_a_helper_and_has_it_started_again_when_it_dies() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("served").script("sleep 100");
    let place = sandbox.directory().join("companion");
    let revived = sandbox.directory().join("revived");
    let listener = socket::listen(&place, SocketType::SEQPACKET, 4).unwrap();
    let stand = Stand::new(&sandbox, &bundle, |order| {
        let script = format!("echo again >>{}", revived.display());
        let revive = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        order.companion = Some(Companion { socket: place.clone(), greeting: "here I am".into(), revive });
    });
    stand.start_alone();
    let (connection, said) = greeted(&listener);
    assert_eq!(said, "here I am");
    assert!(!revived.exists(), "it was there");

    // It dies, and for a while nobody listens.
    drop(listener);
    drop(connection);
    wait_until("it is started again, and again", || {
        fs::read_to_string(&revived).is_ok_and(|text| text.lines().count() >= 2)
    });
    let listener = socket::listen(&place, SocketType::SEQPACKET, 4).unwrap();
    let (connection, said) = greeted(&listener);
    assert_eq!(said, "here I am");

    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
    assert!(
        message::receive(&connection, 16).unwrap().bytes.is_empty(),
        "it leaves when the container has ended"
    );
}

#[test]
fn a_monitor_stays_with_several_and_looks_for_each_by_itself() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("served").script("sleep 100");
    let places = ["names", "ports", "more"].map(|name| sandbox.directory().join(name));
    let listen = |number: usize| socket::listen(&places[number], SocketType::SEQPACKET, 4).unwrap();
    let mut listeners = Vec::from_iter((0..3).map(listen));
    let revived = sandbox.directory().join("revived");
    let stand = Stand::new(&sandbox, &bundle, |order| {
        let companion = |number: usize| {
            let script = format!("echo {number} >>{}", revived.display());
            let revive = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
            Companion { socket: places[number].clone(), greeting: format!("I am {number}"), revive }
        };
        order.companion = Some(companion(0));
        order.companions = vec![companion(1), companion(2)];
    });
    stand.start_alone();
    let mut connections = Vec::from_iter(listeners.iter().map(greeted));
    for (number, (_, said)) in connections.iter().enumerate() {
        assert_eq!(*said, format!("I am {number}"));
    }
    drop((listeners.remove(1), connections.remove(1)));
    wait_until("the one that died is started again", || {
        fs::read_to_string(&revived).is_ok_and(|text| text.starts_with('1'))
    });
    let again = listen(1);
    assert_eq!(greeted(&again).1, "I am 1");
    let revived = fs::read_to_string(&revived).unwrap();
    assert!(revived.lines().all(|line| line == "1"), "the others were there: {revived}");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
    for (connection, _) in connections {
        assert!(message::receive(&connection, 16).unwrap().bytes.is_empty(), "it leaves them all");
    }
}

/// A process that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn record(&self, file: &Path) {
        let process = Process::find(self.0.id().cast_signed()).unwrap();
        replace::with_json(file, &process).unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_monitor_sees_a_process_end_that_is_recorded_and_has_it_started_again_once_its_container_runs() {
    let sandbox = sandbox!();
    let slow = sandbox.directory().join("slow");
    let bundle = sandbox.bundle("carried").script("sleep 100");
    let (file, revived) = (sandbox.directory().join("process"), sandbox.directory().join("revived"));
    // The container comes to be without one if somebody has started it before.
    let (runtime, path) = (sandbox.runtime_program().display(), revived.display());
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" run \"*) sleep 2; [ ! -e {path} ] || exit 9;; esac\nexec {runtime} \"$@\"\n"
    );
    fs::write(&slow, script).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.runtime[0] = slow.display().to_string();
        let script = format!("echo again >>{}", revived.display());
        let revive = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        order.recorded = vec![RecordedCompanion { file: file.clone(), revive }];
    });
    stand.start_alone();
    let mut first = Sleeper::new();
    first.record(&file);
    let count = || fs::read_to_string(&revived).unwrap_or_default().lines().count();
    std::thread::sleep(Duration::from_secs(2));
    let before = count();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(count(), before, "it is there");
    first.kill();
    wait_until("it is started again", || count() > before);
    // One of another start with that number is another one.
    let second = Sleeper::new();
    let process = Process::find(second.0.id().cast_signed()).unwrap();
    replace::with_json(&file, &Process { start: process.start + 1, ..process }).unwrap();
    let before = count();
    wait_until("it is started again, and again", || count() > before);
    second.record(&file);
    std::thread::sleep(Duration::from_secs(2));
    let before = count();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(count(), before, "it is there");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}

#[test]
fn a_monitor_that_is_told_of_others_leaves_the_former_ones_and_has_the_new_ones_started_again() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("served").script("sleep 100");
    let places = ["names", "ports", "more"].map(|name| sandbox.directory().join(name));
    let listen = |number: usize| socket::listen(&places[number], SocketType::SEQPACKET, 4).unwrap();
    let revived = sandbox.directory().join("revived");
    let companion = |number: usize| {
        let script = format!("echo {number} >>{}", revived.display());
        let revive = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        Companion { socket: places[number].clone(), greeting: format!("I am {number}"), revive }
    };
    let listeners = [0, 1, 2].map(listen);
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.companion = Some(companion(0));
        order.companions = vec![companion(1)];
    });
    stand.start_alone();
    let (first, _) = greeted(&listeners[0]);
    let (second, _) = greeted(&listeners[1]);

    let change = |companion: Option<Companion>, companions: Vec<Companion>| {
        let order = Order { companion, companions, ..stand.order.clone() };
        order.write(&stand.run.join(place::ORDER)).unwrap();
        stand.ask(&ToMonitor::Companions).unwrap();
    };
    change(None, vec![companion(1), companion(2)]);
    assert!(message::receive(&first, 16).unwrap().bytes.is_empty(), "it leaves the first");
    let (third, said) = greeted(&listeners[2]);
    assert_eq!(said, "I am 2");
    let is_silent = |listener: &Listener| {
        let none = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
        poll(&mut [PollFd::new(&listener.socket, PollFlags::IN)], Some(&none)).unwrap() == 0
    };
    assert!(is_silent(&listeners[1]), "the second is not greeted again");

    let [first_place, _second_place, third_place] = listeners;
    drop((third_place, third, first_place));
    wait_until("the new one is started again when it dies", || {
        fs::read_to_string(&revived).is_ok_and(|text| text.starts_with('2'))
    });
    let again = listen(2);
    assert_eq!(greeted(&again).1, "I am 2");
    change(None, Vec::new());
    assert!(message::receive(&second, 16).unwrap().bytes.is_empty(), "it leaves the second");
    drop(again);
    // A process that was started before may write still.
    std::thread::sleep(Duration::from_millis(1000));
    let before = fs::read_to_string(&revived).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(fs::read_to_string(&revived).unwrap(), before, "nobody is looked for any more");

    // What nobody can read changes nothing.
    fs::write(stand.run.join(place::ORDER), "{").unwrap();
    let refused = stand.ask(&ToMonitor::Companions).unwrap_err().to_string();
    assert!(refused.contains("order.json"), "{refused}");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}
