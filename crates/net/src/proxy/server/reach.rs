//! Making connections to the container: from which ports.
//!
//! Who ends a connection first remembers its port for a minute (TIME_WAIT), so that nothing which is still on its way is taken for a
//! part of the next one. Where clients end first that is the helper, and of the kernel's 28 232 ports there are no more than 470 a
//! second. Where timestamps tell packets of two connections apart, a port can be used again at once (RFC 6191); the kernel does that for
//! who asks for a port by its number, with SO_REUSEADDR set of both, and by itself only on the loopback
//! (`net.ipv4.tcp_tw_reuse`). So some ports are known by their numbers, and used when the kernel finds none, or has to search for long. They are
//! few: the helper can bind no others, and programs of the host are given none of these meanwhile.
//!
//! Where these do not help, connections wait at the port of the host at which they have come: one that was taken, the others where they are.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::carry::End;
use super::{Due, Port, Server, Thing};
use crate::attendant::Token;

/// How long the kernel is not asked again that has found no port, or only after a search: where half of them are remembered it looks at
/// all of these each time, for 3 to 4 ms, while others wait.
const SCARCE: Duration = Duration::from_secs(1);
/// What is a search. A port that is found at once takes 20 µs.
const SEARCH: Duration = Duration::from_micros(300);
/// How long until a connection that waits is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long nothing has worked when no more connections wait: longer than the kernel remembers a port.
const HOPELESS: Duration = Duration::from_secs(70);

/// The ports from which connections are made when the kernel finds none, in turn.
#[derive(Debug, Default)]
pub(super) struct Sources {
    numbers: Vec<u16>,
    next: usize,
}

/// What is known of the ports for connections to one port of the container.
#[derive(Debug, Default)]
pub(super) struct Supply {
    /// The host's address, from which they are made.
    from: Cell<Option<IpAddr>>,
    /// When the kernel had to search for one.
    searched: Cell<Option<Instant>>,
    /// Since when nothing has worked.
    failing: Cell<Option<Instant>>,
}

impl Sources {
    pub(super) fn of(numbers: Vec<u16>) -> Self {
        Self { numbers, next: 0 }
    }

    /// Begins a connection with the container.
    ///
    /// # Errors
    /// EADDRNOTAVAIL where no port is left; as socket(2) and connect(2).
    fn connect(&mut self, port: &Port) -> Result<OwnedFd, Errno> {
        let searched = &port.supply.searched;
        if searched.get().is_some_and(|searched| searched.elapsed() < SCARCE) {
            return self.again(port).or_else(|_| by_any(port));
        }
        let begun = Instant::now();
        let done = by_any(port);
        if begun.elapsed() > SEARCH {
            searched.set(Some(begun));
        }
        match done {
            Err(Errno::ADDRNOTAVAIL) => self.again(port),
            done => done,
        }
    }

    /// Connects from one of the own ports.
    fn again(&mut self, port: &Port) -> Result<OwnedFd, Errno> {
        let Some(from) = port.supply.from.get() else { return Err(Errno::ADDRNOTAVAIL) };
        let mut unbound = None;
        for _ in 0..self.numbers.len() {
            self.next = (self.next + 1) % self.numbers.len();
            let socket = unbound.take().map_or_else(|| socket(port), Ok)?;
            match rustix::net::bind(&socket, &SocketAddr::new(from, self.numbers[self.next])) {
                Ok(()) => {}
                // Somebody else's.
                Err(Errno::ADDRINUSE | Errno::ACCESS) => {
                    unbound = Some(socket);
                    continue;
                }
                // The address is not the host's any more.
                Err(error) => {
                    port.supply.from.set(None);
                    return Err(error);
                }
            }
            match rustix::net::connect(&socket, &port.to) {
                Ok(()) | Err(Errno::INPROGRESS) => return Ok(socket),
                // There is a connection from there.
                Err(Errno::ADDRNOTAVAIL) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::ADDRNOTAVAIL)
    }
}

/// Connects from whatever port the kernel finds.
fn by_any(port: &Port) -> Result<OwnedFd, Errno> {
    let socket = socket(port)?;
    match rustix::net::connect(&socket, &port.to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let from = &port.supply.from;
    if from.get().is_none() {
        let name = rustix::net::getsockname(&socket).ok().and_then(|name| SocketAddr::try_from(name).ok());
        from.set(name.map(|name| name.ip()));
    }
    Ok(socket)
}

fn socket(port: &Port) -> Result<OwnedFd, Errno> {
    let family = if port.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // So that its port may be used again.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

impl Server {
    /// Begins a connection with the container for who has come to a port, or has him wait, and all behind him; tells whether others may come.
    pub(super) fn take(&mut self, token: Token, port: &Rc<Port>, outer: End) -> bool {
        let failing = &port.supply.failing;
        match self.sources.connect(port) {
            Ok(inner) => {
                failing.set(None);
                if self.begin_connection(outer, End::of(inner)).is_ok() {
                    return true;
                }
                self.wait_for_room();
                false
            }
            Err(Errno::ADDRNOTAVAIL | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                if failing.get().is_none_or(|since| since.elapsed() < HOPELESS) =>
            {
                failing.set(failing.get().or_else(|| Some(Instant::now())));
                self.poll.change(&port.socket, token, EventFlags::empty());
                self.waiting.insert(token, outer);
                self.timers.set(Due::Waiting(token), AGAIN);
                false
            }
            // What cannot be carried is closed, which its other side sees.
            Err(_) => {
                outer.reset();
                true
            }
        }
    }

    /// Tries again for who waits at a port.
    pub(super) fn try_again(&mut self, token: Token) {
        let Some(Thing::Port(port)) = self.things.get(token) else { return };
        let port = Rc::clone(port);
        let Some(outer) = self.waiting.remove(&token) else { return };
        if self.take(token, &port, outer) && !self.is_full {
            self.poll.change(&port.socket, token, EventFlags::IN);
        }
    }
}
