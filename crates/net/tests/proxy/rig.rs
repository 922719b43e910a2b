//! A host whose loopback has containers, and a helper that carries to them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_net::proxy::{self, Begun, Helper, Ports, Route};
use bulkhead_net::rules::Protocol;
use bulkhead_testkit::Scratch;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bulkproxy");
/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Everything lies in a directory that goes with it, and so does the helper.
pub(crate) struct Rig {
    scratch: Scratch,
    pub(crate) begun: Option<Begun>,
    pub(crate) process: i32,
}

impl Rig {
    /// A helper that carries: protocol, port of the host, and where that leads.
    pub(crate) fn new(ways: &[(Protocol, &str, &str)]) -> Self {
        Self::by(PROGRAM.as_ref(), Scratch::new(), ways)
    }

    /// As [`Rig::new`], by a script that runs the program after something else.
    pub(crate) fn with(before: &str, ways: &[(Protocol, &str, &str)]) -> Self {
        let scratch = Scratch::new();
        let script = scratch.path().join("bulkproxy");
        let text = format!("#!/bin/sh\n{before}\nexec {PROGRAM} \"$@\"\n");
        // By another process: what this one has written could be busy.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(&script).arg(text);
        assert!(write.status().unwrap().success());
        Self::by(&script, scratch, ways)
    }

    fn by(program: &Path, scratch: Scratch, ways: &[(Protocol, &str, &str)]) -> Self {
        bulkhead_sys::net::bring_loopback_up().unwrap();
        let routes = Vec::from_iter(ways.iter().map(|(protocol, port, to)| Route {
            protocol: *protocol,
            socket: proxy::listen(*protocol, at(port)).unwrap(),
            to: at(to),
        }));
        let socket = scratch.path().join("ports.sock");
        let ports = Ports { routes, held: Vec::new() };
        let begun = Helper { program, owner: "4f", socket: &socket, wait: 5 }.start(&ports).unwrap();
        let process = begun.process;
        Self { scratch, begun: Some(begun), process }
    }

    /// Connects as a monitor does.
    pub(crate) fn stay(&self) -> OwnedFd {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(self.socket()).unwrap()).unwrap();
        bulkhead_sys::message::send(&socket, b"stay", &[]).unwrap();
        socket
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.path().join("ports.sock")
    }

    /// How many files the helper has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process)).unwrap().count()
    }

    /// The most memory that it has had, in KiB.
    pub(crate) fn peak(&self) -> u32 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if lives(self.process) {
            let pidfd = bulkhead_sys::process::open_pidfd(self.process).unwrap();
            proxy::end(&pidfd).unwrap();
        }
    }
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Tells whether a process lives.
pub(crate) fn lives(pid: i32) -> bool {
    bulkhead_sys::identity::stat(pid).unwrap().is_some_and(|stat| stat.alive)
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn connect(to: &str) -> TcpStream {
    let stream = TcpStream::connect_timeout(&at(to), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Says something, and hears it at the other end.
pub(crate) fn says(from: &mut TcpStream, to: &mut TcpStream, words: &str) {
    from.write_all(words.as_bytes()).unwrap();
    let mut heard = vec![0; words.len()];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words.as_bytes());
}

pub(crate) fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Receives one datagram: what it says, and from whom.
pub(crate) fn heard(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut room = [0; 65_535];
    let (length, from) = socket.recv_from(&mut room).unwrap();
    (String::from_utf8_lossy(&room[..length]).into_owned(), from)
}
