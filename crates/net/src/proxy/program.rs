//! What the program `bulkproxy` was called for.
//!
//! Its standard input is a socket by which whoever starts it sends descriptors, and hears that all is well:
//!
//! ```text
//! bulkhead                          bulkproxy
//!   [socket of those who stay, ports in the order of the words] ──▶   32 at once
//!                                            ◀── "ready", or why not
//! ```

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use bulkhead_sys::{Call as _, credentials, message, path, process};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::confine::{Kind, confine};
use super::server::{NEXT, Server};
use super::sources;
use super::start::{Ports, Route};
use crate::attendant::{complain, print};
use crate::rules::Protocol;

const USAGE: &str = "\
usage: bulkproxy serve --name ID [--wait SECONDS] [--tcp ADDRESS:PORT]… [--udp ADDRESS:PORT]… [--held NUMBER]

Carries what comes to ports of the host to a container. bulkhead calls it, and gives it the ports by its standard input.

  --name ID            whose ports they are
  --wait SECONDS       how long it stays for somebody to keep it, at first; 5 unless it is given
  --tcp ADDRESS:PORT   where connections of the next port lead
  --udp ADDRESS:PORT   where datagrams of the next port lead
  --held NUMBER        how many more ports there are, which it only holds
";

/// The code of a wrong command line.
const MISUSED: u8 = 2;
/// What it is called.
pub(super) const NAME: &str = "bulkproxy";
/// What is said when all is ready.
pub(super) const READY: &[u8] = b"ready";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    wait: Duration,
    ways: Vec<(Protocol, SocketAddr)>,
    held: usize,
}

/// The main function of `bulkproxy`; returns its exit status.
#[must_use]
pub fn run() -> u8 {
    let words = Vec::from_iter(std::env::args_os().skip(1));
    let (verb, rest) = match words.split_first() {
        Some((verb, rest)) => (verb.to_str().unwrap_or_default(), rest),
        None => ("", &words[..]),
    };
    let done = match (verb, rest) {
        ("serve", rest) => Wanted::read(rest).map(|wanted| serve(&wanted)),
        ("--help" | "-h", []) => return print(USAGE),
        ("--version" | "-V", []) => {
            return print(concat!("bulkproxy version ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(Ok(())) => 0,
        Ok(Err(reason)) => complain(NAME, &reason, 1),
        Err(misuse) => complain(NAME, &misuse, MISUSED),
    }
}

/// Is the helper, until it is not needed any more.
fn serve(wanted: &Wanted) -> Result<(), String> {
    let starter = match prepare() {
        Ok(starter) => starter,
        Err(error) => return Err(error.to_string()),
    };
    match make(wanted, &starter) {
        Ok(server) => {
            // Who has started it may be gone, and somebody else keep it.
            let _ = message::send(&starter, READY, &[]);
            drop(starter);
            server.run();
            Ok(())
        }
        Err(error) => {
            let _ = message::send(&starter, error.to_string().as_bytes(), &[]);
            Err(error.to_string())
        }
    }
}

/// Leaves its caller, and returns the socket that leads there.
fn prepare() -> bulkhead_sys::Result<OwnedFd> {
    credentials::set_dumpable(false)?;
    // Whatever the caller has left open; nothing of our own is, yet.
    process::close_all_but(3, Vec::new())?;
    process::new_session()?;
    let starter = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).call(|| "fcntl(0, F_DUPFD)")?;
    let null = path::open_host(Path::new("/dev/null"), OFlags::RDWR)?;
    rustix::stdio::dup2_stdin(&null).call(|| "dup2(0)")?;
    Ok(starter)
}

fn make(wanted: &Wanted, starter: &OwnedFd) -> bulkhead_sys::Result<Server> {
    let mut sockets = Vec::new();
    let ports = wanted.ways.len() + wanted.held;
    while sockets.len() <= ports {
        let message = message::receive(starter, 64)?;
        if message.descriptors.is_empty() {
            return Err(Errno::PIPE).call(|| format!("recvmsg({ports} ports)"));
        }
        sockets.extend(message.descriptors);
    }
    let mut sockets = sockets.into_iter();
    let stays = sockets.next().ok_or(Errno::BADF).call(|| "recvmsg()")?;
    // Whoever connects is told who has said this: the helper, not the process that made the socket.
    rustix::net::listen(&stays, 128).call(|| "listen()")?;
    let flags = rustix::fs::fcntl_getfl(&stays).call(|| "fcntl(F_GETFL)")?;
    rustix::fs::fcntl_setfl(&stays, flags | OFlags::NONBLOCK).call(|| "fcntl(F_SETFL, O_NONBLOCK)")?;
    let ways = wanted.ways.iter().copied();
    let routes = Vec::from_iter(ways.zip(sockets.by_ref()).map(|((protocol, to), socket)| Route {
        protocol,
        socket,
        to,
    }));
    let reached = Vec::from_iter(
        routes.iter().filter(|route| route.protocol == Protocol::Tcp).map(|route| route.to.port()),
    );
    let mut server = Server::new(stays, Ports { routes, held: sockets.collect() }, wanted.wait)
        .call(|| "epoll_create1()")?;
    let carries = |kind: Protocol| wanted.ways.iter().any(|(protocol, _)| *protocol == kind);
    let kinds = [(Protocol::Tcp, Kind::Connections), (Protocol::Udp, Kind::Datagrams)];
    let kinds =
        Vec::from_iter(kinds.into_iter().filter_map(|(protocol, kind)| carries(protocol).then_some(kind)));
    let sources = if kinds == [Kind::Connections] { sources::choose(&wanted.name) } else { Vec::new() };
    let files = confine(&format!("ports of {}", wanted.name), &reached, &sources, &kinds)?;
    server.begin(files, sources);
    Ok(server)
}

impl Wanted {
    fn read(words: &[OsString]) -> Result<Self, String> {
        use lexopt::prelude::{Long, ValueExt as _};
        let (mut name, mut wait, mut ways, mut held) = (None, NEXT, Vec::new(), 0);
        let mut parser = lexopt::Parser::from_args(words);
        let explained = |error: lexopt::Error| format!("{error}\n{USAGE}");
        while let Some(argument) = parser.next().map_err(explained)? {
            let protocol = match argument {
                Long("name") => {
                    let value = parser.value().and_then(|value| value.string());
                    name = Some(value.map_err(explained)?);
                    continue;
                }
                Long("wait") => {
                    let value = parser.value().and_then(|value| value.parse());
                    wait = Duration::from_secs(value.map(u32::into).map_err(explained)?);
                    continue;
                }
                Long("held") => {
                    held = parser.value().and_then(|value| value.parse()).map_err(explained)?;
                    continue;
                }
                Long("tcp") => Protocol::Tcp,
                Long("udp") => Protocol::Udp,
                other => return Err(explained(other.unexpected())),
            };
            let to = parser.value().and_then(|value| value.parse_with(address)).map_err(explained)?;
            ways.push((protocol, to));
        }
        Ok(Self { name: name.ok_or_else(|| format!("--name ID is missing\n{USAGE}"))?, wait, ways, held })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "it is no address with a port, as 10.0.0.1:80 or [fd00::1]:80".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Wanted, String> {
        Wanted::read(&Vec::from_iter(words.iter().map(OsString::from)))
    }

    #[test]
    fn words_say_where_each_port_leads() {
        let wanted = read(&[
            "--name",
            "4f",
            "--wait",
            "60",
            "--tcp",
            "10.0.0.2:80",
            "--udp",
            "[fd00::2]:53",
            "--held",
            "2",
        ]);
        let ways = vec![
            (Protocol::Tcp, "10.0.0.2:80".parse().unwrap()),
            (Protocol::Udp, "[fd00::2]:53".parse().unwrap()),
        ];
        let wait = Duration::from_secs(60);
        assert_eq!(wanted.unwrap(), Wanted { name: "4f".to_owned(), wait, ways, held: 2 });
        for (words, reason) in [
            (&["--tcp", "10.0.0.2:80"][..], "--name ID is missing"),
            (&["--name", "4f", "--tcp", "10.0.0.2"], "no address with a port"),
            (&["--name", "4f", "--sctp", "10.0.0.2:80"], "--sctp"),
            (&["--name"], "--name"),
            (&["--name", "4f", "--wait", "-1"], "-1"),
        ] {
            let error = read(words).unwrap_err();
            assert!(error.contains(reason) && error.contains("usage"), "{error}");
        }
    }
}
