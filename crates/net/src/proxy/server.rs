//! The helper at work: one thread, which waits for all at once.
//!
//! ```text
//! ports       listener ─▶ connections: two ends, two flows          (streams, reach, carry)
//!             datagrams ─▶ sessions: one socket for each who sends    (datagrams)
//! stays       listener ─▶ those who keep it
//! ```
//!
//! Nobody can starve another: events are taken in turn, and a connection that has more to carry than a turn goes to the end of the
//! queue. What one side does not take waits in the kernel, and in one pipe for each way, and then the other side waits, too. How
//! many there can be follows from how many files may be open.

mod carry;
mod datagrams;
mod reach;
mod streams;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};

use self::carry::End;
use self::carry::Pipes;
use self::datagrams::{Key, Session};
use self::reach::{Sources, Supply};
use self::streams::{Connection, Side};
use super::start::{Ports, Route};
use crate::attendant::{Poll, Slab, Timers, Token};
use crate::rules::Protocol;

/// How many connections or datagrams of one source are taken before others have their turn.
const AT_ONCE: usize = 32;
/// How long it waits for anybody at all, and for another when the last who has kept it has gone.
const FIRST: Duration = Duration::from_secs(60);
pub(super) const NEXT: Duration = Duration::from_secs(5);
/// How many can keep it.
const STAYS: usize = 1024;
/// How long until it is looked whether there is room again, where another than itself has taken it.
const PAUSE: Duration = Duration::from_millis(100);
/// Room for one datagram, or for what is carried by hand.
const ROOM: usize = 64 * 1024;

/// The helper.
#[derive(Debug)]
pub(super) struct Server {
    poll: Poll,
    timers: Timers<Due>,
    things: Slab<Thing>,
    connections: Slab<Connection>,
    sessions: Slab<Session>,
    /// The sessions by who sends to where.
    known: HashMap<Key, Token>,
    /// Those of which only one side has said something, the oldest first.
    fresh: BTreeSet<(Instant, Token)>,
    pipes: Pipes,
    limits: Limits,
    sources: Sources,
    /// Who has come to a port, and could not be connected with the container yet.
    waiting: HashMap<Token, End>,
    /// Connections that have more to carry.
    queue: VecDeque<Token>,
    /// Whether connections are waiting to be taken for whom there was no room.
    is_full: bool,
    stays: usize,
    /// When it ends, if nobody keeps it, and how long it waits for somebody.
    alone: Option<Instant>,
    wait: Duration,
    is_over: bool,
    room: Vec<u8>,
    /// Ports at which nothing is heard.
    held: Vec<OwnedFd>,
}

/// What is waited for.
#[derive(Debug)]
enum Thing {
    /// Where those connect who keep it.
    Stays(OwnedFd),
    Stay(OwnedFd),
    Port(Rc<Port>),
    Side(Token, Side),
    Session(Token),
}

/// A port of the host.
#[derive(Debug)]
struct Port {
    protocol: Protocol,
    socket: OwnedFd,
    to: SocketAddr,
    supply: Supply,
}

/// What is due at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A container has not answered a connection.
    Connection(Token),
    /// Nothing has come by for long.
    Session(Token),
    /// There may be room for connections again.
    Room,
    /// There may be a way to the container for who has come to a port.
    Waiting(Token),
}

/// How much there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    connections: usize,
    sessions: usize,
    pipes: usize,
}

impl Server {
    /// Makes a helper with these ports, which those keep who connect here, and which waits for so long for the first who says that he
    /// does.
    pub(super) fn new(stays: OwnedFd, ports: Ports, wait: Duration) -> Result<Self, Errno> {
        let (poll, mut things) = (Poll::new()?, Slab::new());
        let Ports { routes, held } = ports;
        let ports = routes.into_iter().map(|Route { protocol, socket, to }| {
            Thing::Port(Rc::new(Port { protocol, socket, to, supply: Supply::default() }))
        });
        for thing in [Thing::Stays(stays)].into_iter().chain(ports) {
            let token = things.insert(thing);
            match things.get(token) {
                Some(Thing::Stays(socket)) => poll.add(socket, token, EventFlags::IN)?,
                Some(Thing::Port(port)) => poll.add(&port.socket, token, EventFlags::IN)?,
                _ => {}
            }
        }
        Ok(Self {
            poll,
            timers: Timers::new(),
            things,
            connections: Slab::new(),
            sessions: Slab::new(),
            known: HashMap::new(),
            fresh: BTreeSet::new(),
            pipes: Pipes::new(),
            limits: Limits::of(0, 0),
            sources: Sources::default(),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            is_full: false,
            stays: 0,
            alone: Some(Instant::now() + FIRST),
            wait,
            is_over: false,
            room: vec![0; ROOM],
            held,
        })
    }

    /// So many files may be open from here on, and these ports be bound.
    pub(super) fn begin(&mut self, files: u64, sources: Vec<u16>) {
        self.sources = Sources::of(sources);
        self.limits = Limits::of(files, self.things.len() + self.held.len());
        self.pipes.limit(self.limits.pipes);
    }

    /// Works until nobody has kept it for a while.
    pub(super) fn run(mut self) {
        let mut events = Vec::new();
        loop {
            let next = [self.timers.next(), self.alone].into_iter().flatten().min();
            let next = if self.queue.is_empty() { next } else { Some(Instant::now()) };
            self.poll.wait(next, &mut events);
            for (token, flags) in events.drain(..) {
                self.happened(token, flags);
            }
            for _ in 0..self.queue.len() {
                if let Some(token) = self.queue.pop_front() {
                    self.go_on(token);
                }
            }
            while let Some(due) = self.timers.take_due() {
                match due {
                    Due::Connection(token) => self.give_up(token),
                    Due::Session(token) => self.rest_session(token),
                    Due::Room => self.take_again(),
                    Due::Waiting(port) => self.try_again(port),
                }
            }
            self.end_if_alone();
            if self.is_over {
                return;
            }
        }
    }

    fn happened(&mut self, token: Token, flags: EventFlags) {
        match self.things.get(token) {
            None => {}
            Some(Thing::Stays(_)) => self.accept_stays(token),
            Some(Thing::Stay(_)) => self.hear_stay(token),
            Some(Thing::Port(port)) => {
                let port = Rc::clone(port);
                match port.protocol {
                    Protocol::Udp => self.hear_datagrams(token, &port),
                    _ => self.accept_connections(token, &port),
                }
            }
            Some(&Thing::Side(connection, side)) => self.side_happened(connection, side, flags),
            Some(&Thing::Session(session)) => self.hear_session(session),
        }
    }

    fn accept_stays(&mut self, token: Token) {
        for _ in 0..AT_ONCE {
            let Some(Thing::Stays(listener)) = self.things.get(token) else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(_) => return,
            };
            if self.stays == STAYS {
                continue;
            }
            let stay = self.things.insert(Thing::Stay(socket));
            let Some(Thing::Stay(socket)) = self.things.get(stay) else { return };
            if self.poll.add(socket, stay, EventFlags::IN).is_ok() {
                self.stays += 1;
                self.alone = None;
            } else {
                self.things.remove(stay);
            }
        }
    }

    /// Who keeps it says so, whatever his words are; who has nothing to say is who has started it.
    fn hear_stay(&mut self, token: Token) {
        let Some(Thing::Stay(socket)) = self.things.get(token) else { return };
        match rustix::net::recv(socket, &mut [0; 64][..], RecvFlags::DONTWAIT) {
            Ok((1.., _)) => self.wait = NEXT,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => {
                self.things.remove(token);
                self.stays -= 1;
                if self.stays == 0 {
                    self.alone = Some(Instant::now() + self.wait);
                }
            }
        }
    }

    fn end_if_alone(&mut self) {
        if self.alone.is_some_and(|alone| alone <= Instant::now()) {
            // Who has connected meanwhile is heard first; the listener is the first of the things.
            let listener = self.things.iter().next().map(|(token, _)| token);
            listener.into_iter().for_each(|token| self.accept_stays(token));
            self.is_over = self.alone.is_some();
        }
    }

    /// Has connections wait where they are, until one has ended or something else has made room.
    fn wait_for_room(&mut self) {
        if !self.is_full {
            self.is_full = true;
            self.heed_ports(EventFlags::empty());
            self.timers.set(Due::Room, PAUSE);
        }
    }

    fn take_again(&mut self) {
        if self.connections.len() < self.limits.connections {
            self.is_full = false;
            self.heed_ports(EventFlags::IN);
        } else {
            self.timers.set(Due::Room, PAUSE);
        }
    }

    fn heed_ports(&self, flags: EventFlags) {
        for (token, thing) in self.things.iter() {
            if let Thing::Port(port) = thing
                && port.protocol == Protocol::Tcp
                && !self.waiting.contains_key(&token)
            {
                self.poll.change(&port.socket, token, flags);
            }
        }
    }
}

impl Limits {
    /// Divides files, of which so many are taken for good.
    fn of(files: u64, taken: usize) -> Self {
        let files =
            usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(taken + STAYS.min(64)).max(32);
        // A session is one file, a pipe and a connection are two.
        let sessions = (files / 8).min(4096);
        let pipes = (files / 16).min(512);
        Self { connections: (files - sessions - 2 * pipes - 8) / 2, sessions, pipes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_there_can_be_fits_into_the_files_that_may_be_open() {
        for files in [0, 64, 256, 1024, 4096, 1 << 16] {
            for taken in [1, 3, 100] {
                let Limits { connections, sessions, pipes } = Limits::of(files, taken);
                assert!(connections > 0 && sessions > 0 && pipes > 0, "{files} {taken}");
                let all = (2 * connections + sessions + 2 * pipes + taken) as u64;
                assert!(files < 256 || all <= files, "{files} {taken}: {all}");
            }
        }
        assert!(Limits::of(1 << 16, 3).connections > 20_000);
    }
}
