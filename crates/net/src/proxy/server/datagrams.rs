//! Datagrams: who sends some to a port has a session, a socket of which the container sees the address, until nothing has come by
//! for a while.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bulkhead_sys::datagram::{self, Local};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{AT_ONCE, Due, Port, Server, Thing};
use crate::attendant::Token;

/// How long a session rests, of which one side has said nothing or one thing, and one in which both have spoken: as the kernel remembers
/// connections of datagrams (`nf_conntrack_udp_timeout`, and `_stream`).
const IDLE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(120));

/// Who sends, to which port, at which of its addresses.
pub(super) type Key = (Token, SocketAddr, Option<Local>);

/// What somebody sends to a port, and the answers.
#[derive(Debug)]
pub(super) struct Session {
    key: Key,
    port: Rc<Port>,
    /// Connected with the container.
    socket: OwnedFd,
    thing: Option<Token>,
    begun: Instant,
    /// When something came by, and when it is looked at again.
    last: Instant,
    due: Instant,
    /// Whether the container has answered, and whether something came behind that.
    is_answered: bool,
    is_assured: bool,
}

impl Server {
    /// Passes on what was sent to a port.
    pub(super) fn hear_datagrams(&mut self, token: Token, port: &Rc<Port>) {
        let mut room = std::mem::take(&mut self.room);
        for _ in 0..AT_ONCE {
            let received = match datagram::receive(&port.socket, &mut room) {
                Ok(received) => received,
                Err(error) if error.errno() == Errno::AGAIN => break,
                // What is told here was about an earlier answer.
                Err(_) => continue,
            };
            let key = (token, received.peer, received.local);
            let Some(session) = self.session(key, port) else { continue };
            self.pass_in(session, &room[..received.length]);
        }
        self.room = room;
    }

    fn pass_in(&mut self, token: Token, bytes: &[u8]) {
        let Some(session) = self.sessions.get_mut(token) else { return };
        session.last = Instant::now();
        if session.is_answered && !session.is_assured {
            session.is_assured = true;
            self.fresh.remove(&(session.begun, token));
        }
        let send = || rustix::net::send(&session.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        // What was refused is told to the next who sends, of which this one is none.
        if let Err(Errno::CONNREFUSED) = send() {
            let _ = send();
        }
    }

    /// Finds the session of somebody, or begins one; nothing where there are too many, all of which talk.
    fn session(&mut self, key: Key, port: &Rc<Port>) -> Option<Token> {
        if let Some(found) = self.known.get(&key) {
            return Some(*found);
        }
        if self.sessions.len() >= self.limits.sessions {
            let (_, oldest) = *self.fresh.first()?;
            self.close_session(oldest);
        }
        let family = if port.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None).ok()?;
        rustix::net::connect(&socket, &port.to).ok()?;
        let begun = Instant::now();
        let token = self.sessions.insert(Session {
            key,
            port: Rc::clone(port),
            socket,
            thing: None,
            begun,
            last: begun,
            due: begun,
            is_answered: false,
            is_assured: false,
        });
        let (thing, due) =
            (self.things.insert(Thing::Session(token)), self.timers.set(Due::Session(token), IDLE.0));
        let session = self.sessions.get_mut(token)?;
        (session.thing, session.due) = (Some(thing), due);
        self.known.insert(key, token);
        self.fresh.insert((begun, token));
        if self.poll.add(&session.socket, thing, EventFlags::IN).is_err() {
            self.close_session(token);
            return None;
        }
        Some(token)
    }

    /// Passes on what the container answers.
    pub(super) fn hear_session(&mut self, token: Token) {
        let mut room = std::mem::take(&mut self.room);
        for _ in 0..AT_ONCE {
            let Some(session) = self.sessions.get_mut(token) else { break };
            match rustix::net::recv(&session.socket, &mut room[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let (_, peer, local) = session.key;
                    session.is_answered = true;
                    session.last = Instant::now();
                    // What is lost is asked for again.
                    let _ = datagram::send(&session.port.socket, &room[..length], peer, local);
                }
                // Nobody listens there now, which may pass.
                Err(Errno::INTR | Errno::CONNREFUSED) => {}
                Err(_) => break,
            }
        }
        self.room = room;
    }

    /// Ends a session that has rested for long enough.
    pub(super) fn rest_session(&mut self, token: Token) {
        let Some(session) = self.sessions.get_mut(token) else { return };
        let idle = if session.is_answered { IDLE.1 } else { IDLE.0 };
        match idle.checked_sub(session.last.elapsed()) {
            Some(left) if !left.is_zero() => session.due = self.timers.set(Due::Session(token), left),
            _ => self.close_session(token),
        }
    }

    fn close_session(&mut self, token: Token) {
        let Some(session) = self.sessions.remove(token) else { return };
        if let Some(thing) = session.thing {
            self.things.remove(thing);
        }
        self.timers.forget(Due::Session(token), session.due);
        self.known.remove(&session.key);
        self.fresh.remove(&(session.begun, token));
    }
}
