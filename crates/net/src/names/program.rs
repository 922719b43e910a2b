//! What the program `bulkdns` was called for.
//!
//! `start` returns when a helper answers at the socket, started by this call or another: it has the lock of the socket's directory
//! meanwhile, makes the socket, and hands it to the same program as its standard input. `serve` is that: it leaves the
//! caller's session, gives its rights up, says so through its standard output, and stays. Since `start` has ended then, its
//! parent is the machine's first process.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_sys::{Call as _, credentials, path, process};
use rustix::fs::OFlags;

use super::confine::{Remaining, confine};
use super::resolvers::{PORT, Resolvers};
use super::server::Server;
use super::shelf::Shelf;
use crate::attendant::{PATIENCE, Place, complain, print};

const USAGE: &str = "\
usage: bulkdns start --tables DIRECTORY --socket PATH [OPTION…]

Sees to it that somebody answers containers of a network what others are called, and returns then. bulkhead calls it.

  --tables DIRECTORY   the files that say who is in which network
  --socket PATH        where containers' sockets are brought
  --upstream ADDRESS   who is asked for all other names, up to three times; as 10.0.0.1 or [fd00::1]:5353
  --resolv-conf PATH   the file that says so otherwise, /etc/resolv.conf unless it is given
  --grace SECONDS      how long it stays when nobody is there, 5 unless it is given
";

/// The code of a wrong command line.
const MISUSED: u8 = 2;
/// What it is called.
const NAME: &str = "bulkdns";
/// What is said when all is ready.
const READY: &str = "ready";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    tables: PathBuf,
    socket: PathBuf,
    upstream: Vec<SocketAddr>,
    resolv_conf: PathBuf,
    grace: Duration,
}

/// The main function of `bulkdns`; returns its exit status.
#[must_use]
pub fn run() -> u8 {
    let words = Vec::from_iter(std::env::args_os().skip(1));
    let (verb, rest) = match words.split_first() {
        Some((verb, rest)) => (verb.to_str().unwrap_or_default(), rest),
        None => ("", &words[..]),
    };
    let done = match (verb, rest) {
        ("start", rest) => Wanted::read(rest).map(|wanted| start(&wanted, rest)),
        ("serve", rest) => Wanted::read(rest).map(|wanted| serve(&wanted)),
        ("--help" | "-h", []) => return print(USAGE),
        ("--version" | "-V", []) => {
            return print(concat!("bulkdns version ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(Ok(())) => 0,
        Ok(Err(reason)) => complain("bulkdns", &reason, 1),
        Err(misuse) => complain("bulkdns", &misuse, MISUSED),
    }
}

/// Starts a helper, unless there is one.
fn start(wanted: &Wanted, words: &[OsString]) -> Result<(), String> {
    let begun = || -> bulkhead_sys::Result<Option<(Place<'_>, OwnedFd)>> {
        let place = Place::open(&wanted.socket)?;
        place.lock()?;
        if place.connect(PATIENCE)?.is_some() {
            return Ok(None);
        }
        let listener = place.bind()?;
        Ok(Some((place, listener)))
    };
    let Some((place, listener)) = begun().map_err(|error| error.to_string())? else { return Ok(()) };
    let said = begin(listener, words);
    match said.as_deref() {
        Ok(READY) => Ok(()),
        _ => {
            // Nobody will ever listen there.
            drop(place.remove());
            Err(said.unwrap_or_else(|error| error.to_string()))
        }
    }
}

/// Runs this program as the helper, and returns what it says.
fn begin(listener: OwnedFd, words: &[OsString]) -> std::io::Result<String> {
    let (mut hear, tell) = std::io::pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg("serve").args(words).stdin(listener).stdout(tell).stderr(Stdio::null());
    command.env_clear().current_dir("/");
    let _helper = command.spawn()?;
    // It holds the other end.
    drop(command);
    let mut said = String::new();
    hear.read_to_string(&mut said)?;
    if said.is_empty() {
        said.push_str("it died before it could say why");
    }
    Ok(said)
}

/// Is the helper, until it is not needed any more.
fn serve(wanted: &Wanted) -> Result<(), String> {
    let (server, mut tell) = match prepare(wanted) {
        Ok(prepared) => prepared,
        Err(error) => {
            // Who started it reads this, if he is there.
            let _ = std::io::stdout().write_all(error.to_string().as_bytes());
            return Err(error.to_string());
        }
    };
    let _ = tell.write_all(READY.as_bytes());
    drop(tell);
    server.run();
    Ok(())
}

fn prepare(wanted: &Wanted) -> bulkhead_sys::Result<(Server, std::fs::File)> {
    // It was executed by a path that says nothing.
    rustix::thread::set_name(c"bulkdns").call(|| "prctl(PR_SET_NAME)")?;
    credentials::set_dumpable(false)?;
    // Whatever the caller has left open; nothing of our own is, yet.
    process::close_all_but(3, Vec::new())?;
    process::new_session()?;
    let (listener, tell) = take_streams()?;
    // Whoever connects is told who has said this: the helper, not the process that made the socket.
    rustix::net::listen(&listener, 128).call(|| "listen()")?;
    let flags = rustix::fs::fcntl_getfl(&listener).call(|| "fcntl(F_GETFL)")?;
    rustix::fs::fcntl_setfl(&listener, flags | OFlags::NONBLOCK).call(|| "fcntl(F_SETFL, O_NONBLOCK)")?;
    let shelf = Shelf::open(&wanted.tables)?;
    let (resolvers, resolv_conf) = if wanted.upstream.is_empty() {
        (Resolvers::of_file(wanted.resolv_conf.clone()), Some(wanted.resolv_conf.as_path()))
    } else {
        (Resolvers::fixed(wanted.upstream.clone()), None)
    };
    let mut ports = Vec::from_iter(wanted.upstream.iter().map(SocketAddr::port));
    ports.push(PORT);
    let seed = wanted.socket.to_string_lossy();
    let server = Server::new(listener, shelf, resolvers, wanted.grace);
    let mut server = server.call(|| "epoll_create1()")?;
    let files = confine(&Remaining { tables: server.tables(), resolv_conf, ports: &ports, seed: &seed })?;
    server.begin(files);
    Ok((server, tell))
}

/// Takes the socket and the pipe that are the standard streams, and has the null device in their place.
fn take_streams() -> bulkhead_sys::Result<(OwnedFd, std::fs::File)> {
    let listener = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).call(|| "fcntl(0, F_DUPFD)")?;
    let tell = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).call(|| "fcntl(1, F_DUPFD)")?;
    let null = path::open_host(Path::new("/dev/null"), OFlags::RDWR)?;
    rustix::stdio::dup2_stdin(&null).call(|| "dup2(0)")?;
    rustix::stdio::dup2_stdout(&null).call(|| "dup2(1)")?;
    Ok((listener, tell.into()))
}

impl Wanted {
    fn read(words: &[OsString]) -> Result<Self, String> {
        use lexopt::prelude::{Long, ValueExt as _};
        let (mut tables, mut socket) = (None, None);
        let mut upstream = Vec::new();
        let mut resolv_conf = PathBuf::from("/etc/resolv.conf");
        let mut grace = Duration::from_secs(5);
        let mut parser = lexopt::Parser::from_args(words);
        let explained = |error: lexopt::Error| format!("{error}\n{USAGE}");
        while let Some(argument) = parser.next().map_err(explained)? {
            match argument {
                Long("tables") => tables = Some(PathBuf::from(parser.value().map_err(explained)?)),
                Long("socket") => socket = Some(PathBuf::from(parser.value().map_err(explained)?)),
                Long("resolv-conf") => resolv_conf = parser.value().map_err(explained)?.into(),
                Long("upstream") => {
                    let value =
                        parser.value().and_then(|value| value.parse_with(address)).map_err(explained)?;
                    upstream.push(value);
                }
                Long("grace") => {
                    let value = parser.value().and_then(|value| value.parse_with(seconds));
                    grace = value.map_err(explained)?;
                }
                other => return Err(explained(other.unexpected())),
            }
        }
        let missing = |option| format!("{option} is missing\n{USAGE}");
        let socket = socket.ok_or_else(|| missing("--socket PATH"))?;
        Ok(Self {
            tables: absolute(tables.ok_or_else(|| missing("--tables DIRECTORY"))?)?,
            socket: absolute(socket)?,
            upstream,
            resolv_conf: absolute(resolv_conf)?,
            grace,
        })
    }
}

/// Reads an address, with port 53 unless it names another.
fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.parse::<std::net::IpAddr>().map(|address| (address, PORT).into());
    bare.or_else(|_| text.parse()).map_err(|_| "it is no address, as 10.0.0.1 or [fd00::1]:5353".to_owned())
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// The helper has no working directory that anybody could mean.
fn absolute(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_absolute() {
        return Ok(path);
    }
    Err(format!("{} is no absolute path\n{USAGE}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Wanted, String> {
        Wanted::read(&Vec::from_iter(words.split_ascii_whitespace().map(OsString::from)))
    }

    #[test]
    fn words_are_read() {
        let wanted =
            read("--tables /t --socket /s --upstream 10.0.0.1 --upstream [::1]:5 --grace 0.5").unwrap();
        let expected = Wanted {
            tables: "/t".into(),
            socket: "/s".into(),
            upstream: vec!["10.0.0.1:53".parse().unwrap(), "[::1]:5".parse().unwrap()],
            resolv_conf: "/etc/resolv.conf".into(),
            grace: Duration::from_millis(500),
        };
        assert_eq!(wanted, expected);
    }

    #[test]
    fn wrong_words_are_told_and_what_is_right() {
        for (words, reason) in [
            ("--tables /t", "--socket PATH is missing"),
            ("--socket /s", "--tables DIRECTORY is missing"),
            ("--tables t --socket /s", "t is no absolute path"),
            ("--tables /t --socket /s --upstream a", "no address"),
            ("--tables /t --socket /s --grace -1", "-1"),
            ("--tables /t --socket /s more", "more"),
        ] {
            let error = read(words).unwrap_err();
            assert!(error.contains(reason) && error.contains("usage: bulkdns"), "{words}: {error}");
        }
    }
}
