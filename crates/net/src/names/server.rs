//! The helper at work: one thread, which waits for all at once.
//!
//! ```text
//! control    listener ─▶ connections: serve, stay, leave …        (names::protocol)
//! container  datagrams ─┬▶ answered from the tables                 (names::book)
//!            listener ─▶ clients ─┴▶ asked of a resolver ─▶ answered  (upstream)
//! ```
//!
//! A container cannot starve another: events are taken in turn, and a few at once of each; each container has its share of
//! questions that are being asked and of connections, and where all together are too many, the oldest of who has most goes.

mod control;
mod datagrams;
mod frame;
mod streams;
mod upstream;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::book::{Reach, Verdict};
use super::message::{self, Code, Query, Transport, Unreadable};
use super::resolvers::Resolvers;
use super::shelf::Shelf;
use crate::attendant::{Poll, Slab, Timers, Token};
use control::Control;
use streams::Client;
use upstream::Asked;

/// How many connections or datagrams of one source are taken before others have their turn.
const AT_ONCE: usize = 16;

/// The helper.
#[derive(Debug)]
pub(super) struct Server {
    poll: Poll,
    timers: Timers<Due>,
    things: Slab<Thing>,
    containers: Slab<Container>,
    shelf: Shelf,
    resolvers: Resolvers,
    limits: Limits,
    /// How long nobody must be there for it to end, or for the sockets that nobody keeps to be closed.
    grace: Duration,
    /// When it ends, if nobody comes.
    alone: Option<Instant>,
    is_over: bool,
    /// Room for one datagram, of which as much is touched as the longest has had.
    room: Vec<u8>,
}

/// What is waited for.
#[derive(Debug)]
enum Thing {
    Listener(OwnedFd),
    Control(Box<Control>),
    Datagrams(Token),
    Streams(Token),
    /// What keeps a container's sockets.
    Keeper(Token, OwnedFd),
    Client(Box<Client>),
    Asked(Box<Asked>),
}

/// What is due at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A thing has waited for too long.
    Thing(Token),
    /// Nobody has kept a container's sockets.
    Container(Token),
}

/// Somebody who asks.
#[derive(Debug)]
struct Container {
    id: Rc<str>,
    sockets: Option<Sockets>,
    /// The resolvers of its own.
    resolvers: Rc<[SocketAddr]>,
    /// How many connections keep it.
    stays: usize,
    keeper: Option<Token>,
    /// When it is given up, if nobody keeps it.
    until: Option<Instant>,
    /// Its questions that resolvers are asked, the oldest first.
    asked: VecDeque<Token>,
    /// Its connections, the oldest first.
    clients: VecDeque<Token>,
}

#[derive(Debug)]
struct Sockets {
    udp: Rc<OwnedFd>,
    tcp: Rc<OwnedFd>,
    things: [Token; 2],
}

/// How much there can be, which follows from how many files may be open.
#[derive(Debug, Clone, Copy)]
struct Limits {
    containers: usize,
    controls: usize,
    clients: usize,
    asked: usize,
}

/// More than any datagram has, and so much that the C library maps it, instead of keeping it filled with zeroes.
const ROOM: usize = 256 * 1024;
/// The share of one container.
const CLIENTS: usize = 16;
const ASKED: usize = 256;

/// What becomes of a message.
enum Outcome {
    Nothing,
    Answer(Vec<u8>),
    Ask(Rc<[SocketAddr]>, usize),
}

impl Server {
    /// Makes a helper that listens here.
    pub(super) fn new(
        listener: OwnedFd,
        shelf: Shelf,
        resolvers: Resolvers,
        grace: Duration,
    ) -> Result<Self, Errno> {
        let (poll, mut things) = (Poll::new()?, Slab::new());
        let token = things.insert(Thing::Listener(listener));
        if let Some(Thing::Listener(listener)) = things.get(token) {
            poll.add(listener, token, EventFlags::IN)?;
        }
        Ok(Self {
            poll,
            timers: Timers::new(),
            things,
            containers: Slab::new(),
            shelf,
            resolvers,
            limits: Limits::of(0),
            grace,
            alone: None,
            is_over: false,
            room: vec![0; ROOM],
        })
    }

    /// Returns the directory of the tables.
    pub(super) fn tables(&self) -> BorrowedFd<'_> {
        self.shelf.directory().as_fd()
    }

    /// Reads what there is to read, so that what cannot be done any more shows now, and not when somebody asks; so many files may
    /// be open.
    pub(super) fn begin(&mut self, files: u64) {
        self.limits = Limits::of(files);
        self.shelf.book();
        self.resolvers.now();
    }

    /// Works until nobody has been there for a while, or somebody says that it is enough.
    pub(super) fn run(mut self) {
        let mut events = Vec::new();
        loop {
            self.end_if_alone();
            if self.is_over {
                return;
            }
            let next = [self.timers.next(), self.alone].into_iter().flatten().min();
            self.poll.wait(next, &mut events);
            for (token, flags) in events.drain(..) {
                self.happened(token, flags);
            }
            while let Some(due) = self.timers.take_due() {
                match due {
                    Due::Thing(token) => self.waited_too_long(token),
                    Due::Container(key) => self.give_up(key),
                }
            }
        }
    }

    fn happened(&mut self, token: Token, flags: EventFlags) {
        match self.things.get(token) {
            None => {}
            Some(Thing::Listener(_)) => self.accept_controls(token),
            Some(Thing::Control(_)) => self.hear_control(token),
            Some(&Thing::Datagrams(key)) => self.hear_datagrams(key),
            Some(&Thing::Streams(key)) => self.accept_clients(key),
            Some(&Thing::Keeper(key, _)) => self.keeper_ended(token, key),
            Some(Thing::Client(_)) => self.client_happened(token, flags),
            Some(Thing::Asked(_)) => self.asked_happened(token),
        }
    }

    fn waited_too_long(&mut self, token: Token) {
        match self.things.get(token) {
            Some(Thing::Control(_)) => self.close_control(token),
            Some(Thing::Client(_)) => self.close_client(token),
            Some(Thing::Asked(_)) => self.ask_next(token),
            _ => {}
        }
    }

    /// Decides what becomes of a container's message.
    fn decide(&mut self, key: Token, bytes: &[u8], transport: Transport) -> Outcome {
        let Some(container) = self.containers.get(key) else { return Outcome::Nothing };
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Unreadable::Nothing) => return Outcome::Nothing,
            Err(Unreadable::Refused(code)) => {
                return message::refuse(bytes, code).map_or(Outcome::Nothing, Outcome::Answer);
            }
        };
        let book = self.shelf.book();
        let reach = match book.answer(&container.id, &query, transport) {
            Verdict::Answered(answer) => return Outcome::Answer(answer),
            Verdict::Forwarded(reach) => reach,
        };
        let own = Rc::clone(&container.resolvers);
        let (resolvers, first) = match (reach, own.is_empty()) {
            (Reach::Everywhere, true) => self.resolvers.now(),
            (Reach::Everywhere, false) => (own, 0),
            // Those of its own may be in its networks; they are asked from the host, which reaches more than it does.
            (Reach::Members, _) => {
                let is_reached = |resolver: &&SocketAddr| book.is_reached(&container.id, resolver.ip());
                (own.iter().filter(is_reached).copied().collect(), 0)
            }
        };
        if resolvers.is_empty() {
            return Outcome::Answer(query.answer(Code::Failed, transport).finished());
        }
        Outcome::Ask(resolvers, first)
    }

    /// Gives a container's sockets up, with all that it waits for.
    fn give_up(&mut self, key: Token) {
        let Some(container) = self.containers.remove(key) else { return };
        let Container { id: _, sockets, resolvers: _, stays: _, keeper, until, asked, clients } = container;
        let sockets = sockets.iter().flat_map(|sockets| sockets.things);
        for token in sockets.chain(keeper) {
            self.things.remove(token);
        }
        for token in asked {
            if let Some(Thing::Asked(asked)) = self.things.remove(token) {
                self.timers.forget(Due::Thing(token), asked.deadline);
            }
        }
        for token in clients {
            if let Some(Thing::Client(client)) = self.things.remove(token) {
                self.timers.forget(Due::Thing(token), client.deadline);
            }
        }
        if let Some(until) = until {
            self.timers.forget(Due::Container(key), until);
        }
    }

    /// Finds who has most of something, if that is more than a container has that wants one more.
    fn greediest(&self, than: usize, count: impl Fn(&Container) -> usize) -> Option<Token> {
        let most = self.containers.iter().max_by_key(|(_, container)| count(container));
        most.filter(|(_, container)| count(container) > than).map(|(key, _)| key)
    }

    fn end_if_alone(&mut self) {
        // The listener is one of the things.
        if self.containers.len() > 0 || self.things.len() > 1 {
            self.alone = None;
            return;
        }
        let until = *self.alone.get_or_insert_with(|| Instant::now() + self.grace);
        if Instant::now() >= until {
            // Who has connected meanwhile is heard first.
            let listener = self.things.iter().next().map(|(token, _)| token);
            listener.into_iter().for_each(|token| self.accept_controls(token));
            self.is_over = self.things.len() <= 1;
            self.alone = None;
        }
    }
}

impl Limits {
    fn of(files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX).clamp(64, 1 << 16);
        let (clients, asked) = ((files / 8).min(512), (files / 4).min(1024));
        // Two sockets, who keeps them, and a connection that stays.
        let containers = (files - clients - asked - 32) / 4;
        Self { containers, controls: containers + 16, clients, asked }
    }
}
