//! When a helper begins, whom it keeps, and when it ends.

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bulkhead_net::device::make_namespace;
use bulkhead_net::names::{self, Until};
use bulkhead_testkit::built::{self, Profile};
use bulkhead_testkit::{is_disposable, requires};

use crate::packets::{A, question};
use crate::rig::{Container, Rig, exchange, kill, lives, member, wait_until};

#[test]
fn any_number_of_starts_make_one_helper() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let pids = std::thread::scope(|scope| {
        let started = Vec::from_iter((0..8).map(|_| scope.spawn(|| rig.ensure().process().unwrap())));
        Vec::from_iter(started.into_iter().map(|thread| thread.join().unwrap()))
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    let mode = rig.socket().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else connects");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0])).unwrap();
    let fields = Vec::from_iter(stat.rsplit_once(") ").unwrap().1.split(' '));
    assert_ne!(fields[1], std::process::id().to_string(), "it is nobody's child here");
    assert_eq!(fields[3], pids[0].to_string(), "it has a session of its own");
    assert_eq!(fields[17], "1", "one thread");
}

#[test]
fn a_helper_that_was_killed_is_started_again_and_serves_what_is_brought() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    rig.network("shop", &[member("db", &["10.1.0.2"])]);
    // As a monitor that keeps the sockets does.
    let db = Container::new();
    let sockets = db.open();
    for _ in 0..3 {
        let connection = rig.ensure();
        connection.stay("db", Some(&sockets)).unwrap();
        assert_eq!(db.ask("db", A).answers, ["10.1.0.2"]);
        kill(connection.process().unwrap());
        assert!(connection.look().is_err(), "its end is heard");
    }
    // Who has asked meanwhile is answered by the next.
    let client = db.client();
    client.send(&question("db", A)).unwrap();
    let connection = rig.ensure();
    connection.stay("db", Some(&sockets)).unwrap();
    let mut room = [0; 512];
    let length = client.recv(&mut room).unwrap();
    assert_eq!(crate::packets::Told::read(&room[..length]).answers, ["10.1.0.2"]);
}

#[test]
fn the_end_of_who_stays_is_the_end_of_a_container_s_sockets() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let keeper = rig.ensure();
    let process = keeper.process().unwrap();
    let open = || std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let before = open();
    let db = rig.container("db");
    // Two who stay for one: the first to leave does not matter.
    let second = rig.ensure();
    second.stay("db", None).unwrap();
    assert_eq!(open(), before + 4, "two sockets, two connections");
    drop(db.stay);
    assert_eq!(keeper.look().unwrap(), ["db"]);
    drop(second);
    wait_until("it gives the container's namespace up", || open() == before);
    assert_eq!(keeper.look().unwrap(), [""; 0]);
}

#[test]
fn the_end_of_a_process_is_the_end_of_a_container_s_sockets() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let mut monitor = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pidfd = bulkhead_sys::process::open_pidfd(monitor.id().cast_signed()).unwrap();
    let db = Container::new();
    let connection = rig.ensure();
    connection.serve("db", &db.open(), &[], Until::End(pidfd.as_fd())).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(connection.look().unwrap(), ["db"]);
    bulkhead_sys::process::signal(&pidfd, 9).unwrap();
    wait_until("it is given up", || connection.look().unwrap().is_empty());
    monitor.wait().unwrap();
}

#[test]
fn what_nobody_keeps_is_given_up_and_the_helper_ends_when_nobody_is_left() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&["--grace", "0.3"]);
    let db = Container::new();
    let connection = rig.ensure();
    connection.serve("db", &db.open(), &[], Until::SomebodyStays).unwrap();
    assert_eq!(connection.look().unwrap(), ["db"]);
    wait_until("it is given up", || connection.look().unwrap().is_empty());
    let process = connection.process().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(lives(process), "somebody is connected");
    drop(connection);
    let begun = Instant::now();
    wait_until("it ends", || !lives(process));
    assert!(begun.elapsed() > Duration::from_millis(200), "{:?}", begun.elapsed());
    assert_ne!(rig.ensure().process().unwrap(), process, "the next takes its place");
}

#[test]
fn nobody_stays_with_a_container_whose_questions_arrive_nowhere() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let monitor = rig.ensure();
    let error = monitor.stay("db", None).unwrap_err().to_string();
    assert!(error.contains("no sockets"), "{error}");
    assert!(monitor.look().is_err(), "a monitor that hears this has it served");
    let db = rig.container("db");
    assert_eq!(rig.ensure().look().unwrap(), ["db"]);
    drop(db);
}

#[test]
fn a_container_leaves_and_a_network_s_helper_is_ended() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let db = rig.container("db");
    let connection = rig.ensure();
    assert!(!names::end(&rig.socket()).unwrap(), "it serves somebody");
    connection.leave("db").unwrap();
    connection.leave("db").unwrap();
    assert_eq!(connection.look().unwrap(), [""; 0]);
    let process = connection.process().unwrap();
    for _ in 0..2 {
        assert!(names::end(&rig.socket()).unwrap());
    }
    wait_until("it ends", || !lives(process));
    assert!(!rig.socket().exists());
    drop(db);
}

#[test]
fn what_is_brought_is_looked_at() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let db = Container::new();
    let connection = rig.ensure();
    let sockets = db.open();
    let swapped = names::Sockets { udp: sockets.tcp, tcp: sockets.udp };
    let error = connection.serve("db", &swapped, &[], Until::SomebodyStays).unwrap_err().to_string();
    assert!(error.contains("no socket for datagrams"), "{error}");
    let sockets = names::Sockets { udp: swapped.tcp, tcp: swapped.udp };
    let own = ["127.0.0.1".parse().unwrap()];
    let error = connection.serve("db", &sockets, &own, Until::SomebodyStays).unwrap_err().to_string();
    assert!(error.contains("the host's loopback"), "{error}");
    for words in
        [&b"{"[..], br#"{"version":9,"do":"look"}"#, br#"{"version":1,"do":"serve","container":"a"}"#]
    {
        bulkhead_sys::message::send(&connection, words, &[]).unwrap();
        let answer = bulkhead_sys::message::receive(&connection, 4096).unwrap();
        let answer = names::protocol::Answer::decode(&answer.bytes).unwrap();
        assert!(answer.error.is_some(), "{}", String::from_utf8_lossy(words));
    }
    connection.serve("db", &sockets, &[], Until::SomebodyStays).unwrap();
}

#[test]
fn more_containers_than_files_allow_are_refused_with_the_reason() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let few = rig.script("ulimit -n 64");
    let rig = rig.by(few);
    rig.network("shop", &[member("c0", &["10.1.0.2"])]);
    let containers = ["c0", "c1"].map(|id| rig.container(id));
    let third = Container::new();
    let error = rig.ensure().serve("c2", &third.open(), &[], Until::SomebodyStays).unwrap_err().to_string();
    assert!(error.contains("there are 2 containers, as many as its limit of open files allows"), "{error}");
    assert_eq!(containers[1].ask("c0", A).code, 2, "it is in no network");
    assert_eq!(containers[0].ask("c0", A).answers, ["10.1.0.2"]);
}

#[test]
fn who_says_too_much_is_not_heard_and_nothing_is_kept_of_it() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let (connection, other) = (rig.ensure(), rig.ensure());
    bulkhead_sys::message::send(&connection, &[b' '; 5000], &[]).unwrap();
    assert!(connection.look().is_err());
    assert_eq!(other.look().unwrap(), [""; 0]);
}

#[test]
fn two_hundred_containers_are_answered_fast_by_little_memory() {
    requires!(!is_disposable(), "an emulated machine tells nothing of speed");
    let shipped = built::standalone("bulkhead-net", "bulkdns", Profile::Release);
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]).by(shipped);
    let ids = Vec::from_iter((0..200).map(|number| format!("{number:064x}")));
    let members = ids.iter().enumerate().map(|(number, id)| {
        let mut member = member(id, &[&format!("10.1.{}.{}", number / 100, number % 100 + 1)]);
        member.names.insert(0, format!("c{number}"));
        member
    });
    rig.network("shop", &Vec::from_iter(members));
    let containers = Vec::from_iter(ids.iter().map(|id| rig.container(id)));
    for (number, container) in containers.iter().enumerate() {
        let told = container.ask(&format!("c{}", 199 - number), A);
        assert_eq!(told.answers.len(), 1, "{number}");
    }
    let median = median_of(&containers[100], 2000);
    let process = containers[0].stay.as_ref().unwrap().process().unwrap();
    let memory = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let own = memory.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap().trim();
    // 15 to 35 µs on a machine that does little else.
    assert!(median < Duration::from_millis(2), "{median:?}");
    // 372 KiB, of which 104 are there without any container.
    let kib: u32 = own.split(' ').next().unwrap().parse().unwrap();
    assert!(kib <= 450, "{memory}");
}

/// How long an answer about an own name takes.
fn median_of(container: &Container, count: usize) -> Duration {
    let client = container.client();
    let question = question("c7", A);
    let mut times = Vec::from_iter((0..count).map(|_| {
        let begun = Instant::now();
        exchange(&client, &question).unwrap();
        begun.elapsed()
    }));
    times.sort();
    times[count / 2]
}

#[test]
fn nobody_else_s_namespace_is_needed_for_an_end() {
    requires!(rustix::process::geteuid().is_root(), "needs root: the helper becomes another user");
    bulkhead_testkit::in_fresh_namespaces!(Mount, Network);
    let rig = Rig::new(&[]);
    rig.network("shop", &[member("db", &["10.1.0.2"])]);
    let namespace = make_namespace().unwrap();
    drop(namespace);
    let db = rig.container("db");
    assert_eq!(db.ask("db", A).answers, ["10.1.0.2"], "a user of its own reads the tables");
    rig.network("shop", &[member("db", &["10.1.0.3"])]);
    assert_eq!(db.ask("db", A).answers, ["10.1.0.3"], "and those that are written later");
}
