//! When a helper begins, who keeps it, what it has, and when it ends.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_net::proxy::{self, Helper, Ports, Route};
use bulkhead_net::rules::Protocol::Tcp;
use bulkhead_testkit::{Scratch, requires};
use rustix::io::Errno;

use crate::rig::{PROGRAM, Rig, accept, at, connect, lives, says, wait_until};

#[test]
fn it_stays_as_long_as_somebody_is_connected_and_gives_the_port_up_when_nobody_is() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let mut rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let (first, second) = (rig.stay(), rig.stay());
    drop(rig.begun.take());
    drop(first);
    std::thread::sleep(Duration::from_secs(7));
    let mut client = connect("127.0.0.1:8080");
    says(&mut client, &mut accept(&container), "ping");
    let begun = Instant::now();
    drop(second);
    wait_until("it ends", || !lives(rig.process));
    assert!(begun.elapsed() > Duration::from_secs(3), "another may come: {:?}", begun.elapsed());
    proxy::listen(Tcp, at("127.0.0.1:8080")).unwrap();
}

#[test]
fn who_starts_it_and_goes_leaves_time_for_who_keeps_it() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_sys::net::bring_loopback_up().unwrap();
    let scratch = Scratch::new();
    let socket = scratch.path().join("ports.sock");
    let mut rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let begun = Helper { program: PROGRAM.as_ref(), owner: "4f", socket: &socket, wait: 60 }
        .start(&Ports::default())
        .unwrap();
    let waiting = begun.process;
    drop((rig.begun.take(), begun));
    wait_until("the one that waits for nobody in particular ends", || !lives(rig.process));
    std::thread::sleep(Duration::from_secs(3));
    assert!(lives(waiting), "the other one stays for a minute");
    proxy::end(&bulkhead_sys::process::open_pidfd(waiting).unwrap()).unwrap();
}

#[test]
fn it_ends_at_once_when_it_is_ended() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let error = proxy::listen(Tcp, at("127.0.0.1:8080")).unwrap_err();
    assert_eq!(error.errno(), Errno::ADDRINUSE);
    let pidfd = proxy::find(&rig.socket()).unwrap().expect("it is found by its socket");
    for _ in 0..2 {
        proxy::end(&pidfd).unwrap();
        proxy::listen(Tcp, at("127.0.0.1:8080")).unwrap();
    }
    assert!(proxy::find(&rig.socket()).unwrap().is_none(), "nobody is there any more");
    assert!(proxy::find("/nothing".as_ref()).unwrap().is_none());
}

#[test]
fn it_has_no_rights_and_no_files() {
    requires!(rustix::process::geteuid().is_root(), "needs root: the helper becomes another user");
    bulkhead_testkit::in_fresh_namespaces!(Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.process)).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let user = field("Uid:");
    let user: u32 = user.split_whitespace().next().unwrap().parse().unwrap();
    assert!(user > 1_900_000_000, "{user}");
    assert_eq!(field("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), 0, "{set}");
    }
    assert_eq!([field("NoNewPrivs:"), field("Seccomp:"), field("Threads:")], ["1", "2", "1"]);
    let links = std::fs::read_dir(format!("/proc/{}/fd", rig.process)).unwrap();
    for link in links {
        let to = std::fs::read_link(link.unwrap().path()).unwrap();
        let to = to.to_string_lossy();
        let is_own = ["socket:", "anon_inode:", "pipe:"].iter().any(|kind| to.starts_with(kind));
        assert!(is_own || to == "/dev/null", "{to}");
    }
    let parent = field("PPid:");
    assert_eq!(parent, std::process::id().to_string());
    says(&mut connect("127.0.0.1:8080"), &mut accept(&container), "ping");
    // What it has when it does nothing: 100 to 400 KiB of its own.
    let memory = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", rig.process)).unwrap();
    let own = memory.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap().trim();
    let kib: u32 = own.split(' ').next().unwrap().parse().unwrap();
    assert!(kib <= 600, "{memory}");
}

#[test]
fn ports_that_it_holds_are_nobody_else_s_and_hear_nobody() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_sys::net::bring_loopback_up().unwrap();
    let scratch = Scratch::new();
    let socket = scratch.path().join("ports.sock");
    let addresses = Vec::from_iter((8000..8100).map(|port| format!("0.0.0.0:{port}")));
    let hold = |address: &String| proxy::hold(Tcp, at(address)).unwrap().unwrap();
    let ports = Ports { routes: Vec::new(), held: addresses.iter().map(hold).collect() };
    let helper = Helper { program: PROGRAM.as_ref(), owner: "4f", socket: &socket, wait: 5 };
    let begun = helper.start(&ports).unwrap();
    drop(ports);
    for address in ["127.0.0.1:8000", "127.0.0.1:8099"] {
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    proxy::end(&bulkhead_sys::process::open_pidfd(begun.process).unwrap()).unwrap();
    TcpListener::bind("127.0.0.1:8099").unwrap();
}

#[test]
fn what_keeps_it_from_beginning_is_told() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_sys::net::bring_loopback_up().unwrap();
    let scratch = Scratch::new();
    let socket = scratch.path().join("ports.sock");
    let route = || Route {
        protocol: Tcp,
        socket: proxy::listen(Tcp, at("127.0.0.1:8080")).unwrap(),
        to: at("127.0.1.1:80"),
    };
    let carried = || Ports { routes: vec![route()], held: Vec::new() };
    let missing = scratch.path().join("nothing");
    let error =
        Helper { program: &missing, owner: "4f", socket: &socket, wait: 5 }.start(&carried()).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    let error = Helper { program: "/bin/true".as_ref(), owner: "4f", socket: &socket, wait: 5 }
        .start(&carried())
        .unwrap_err();
    assert!(error.to_string().contains("died before"), "{error}");
    // The port is free again.
    drop(route());
}

#[test]
fn who_gives_it_nothing_hears_why_it_does_not_begin() {
    let (own, theirs) = bulkhead_sys::message::pair().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--name", "4f", "--tcp", "127.0.0.1:80"]).stdin(theirs).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    bulkhead_sys::message::send(&own, b"nothing", &[]).unwrap();
    let said = bulkhead_sys::message::receive(&own, 4096).unwrap();
    assert!(String::from_utf8_lossy(&said.bytes).contains("1 ports"), "{said:?}");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    let output = Command::new(PROGRAM).arg("dance").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage: bulkproxy"));
}
