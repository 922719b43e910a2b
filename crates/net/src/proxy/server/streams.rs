//! Connections: what comes to a port of the host, and what is made to the container for it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};

use super::carry::{End, Flow, Turn};
use super::{AT_ONCE, Due, Port, Server, Thing};
use crate::attendant::Token;

/// How long a container may take for taking a connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// After how long without a word it is asked whether a side is there still, how often, and how many times.
const KEEP: (Duration, Duration, u32) = (Duration::from_secs(300), Duration::from_secs(30), 5);
/// All that can happen, told once for each time.
const ALL: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

/// A side of a connection: who has connected, or the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Outer,
    Inner,
}

/// A connection that is carried.
#[derive(Debug)]
pub(super) struct Connection {
    outer: End,
    inner: End,
    things: [Option<Token>; 2],
    inward: Flow,
    outward: Flow,
    /// Until when the container must have taken it.
    begins: Option<Instant>,
    is_queued: bool,
}

impl Server {
    pub(super) fn accept_connections(&mut self, token: Token, port: &Rc<Port>) {
        for _ in 0..AT_ONCE {
            if self.connections.len() >= self.limits.connections {
                return self.wait_for_room();
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&port.socket, flags) {
                Ok(socket) => {
                    if !self.take(token, port, End::of(socket)) {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.wait_for_room();
                }
                // Who was about to come has gone, or could not: accept(2) tells of errors of the network, too.
                Err(_) => {}
            }
        }
    }

    /// Has two ends be one connection.
    pub(super) fn begin_connection(&mut self, outer: End, inner: End) -> Result<(), Errno> {
        outer.prepare();
        inner.prepare();
        let token = self.connections.insert(Connection {
            outer,
            inner,
            things: [None, None],
            inward: Flow::default(),
            outward: Flow::default(),
            begins: None,
            is_queued: false,
        });
        let begins = self.timers.set(Due::Connection(token), PATIENCE);
        let sides = [Side::Outer, Side::Inner].map(|side| self.things.insert(Thing::Side(token, side)));
        let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
        connection.begins = Some(begins);
        connection.things = sides.map(Some);
        let [outer, inner] = sides;
        let heeded = self.poll.add(&connection.outer.socket, outer, ALL);
        let heeded = heeded.and_then(|()| self.poll.add(&connection.inner.socket, inner, ALL));
        if heeded.is_err() {
            self.close(token, Ending::Reset);
        }
        heeded
    }

    pub(super) fn side_happened(&mut self, token: Token, side: Side, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let end = match side {
            Side::Outer => &mut connection.outer,
            Side::Inner => &mut connection.inner,
        };
        let is_over = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        end.is_readable |= is_over || flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI);
        end.is_writable |= is_over || flags.contains(EventFlags::OUT);
        end.is_urgent |= flags.contains(EventFlags::PRI);
        end.has_failed |= flags.contains(EventFlags::ERR);
        if let Some(begins) = connection.begins {
            if connection.outer.has_failed {
                return self.close(token, Ending::Reset);
            }
            if side == Side::Outer || !connection.inner.is_writable {
                return;
            }
            // The container has answered, in one way or the other.
            if !matches!(sockopt::socket_error(&connection.inner.socket), Ok(Ok(()))) {
                return self.close(token, Ending::Reset);
            }
            connection.begins = None;
            self.timers.forget(Due::Connection(token), begins);
        }
        self.carry(token);
    }

    /// Goes on with a connection that had more to carry than a turn.
    pub(super) fn go_on(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(token) {
            connection.is_queued = false;
            self.carry(token);
        }
    }

    fn carry(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let Connection { outer, inner, inward, outward, .. } = connection;
        let (pipes, room) = (&mut self.pipes, &mut self.room);
        let turns = [inward.carry(outer, inner, pipes, room), outward.carry(inner, outer, pipes, room)];
        let has_more = turns.contains(&Turn::Goes);
        let has_failed = (outer.has_failed || inner.has_failed) && !has_more;
        if turns.contains(&Turn::Broken) || has_failed {
            self.close(token, Ending::Reset);
        } else if inward.is_shut && outward.is_shut {
            self.close(token, Ending::Whole);
        } else if has_more && !connection.is_queued {
            connection.is_queued = true;
            self.queue.push_back(token);
        }
    }

    /// Ends a connection that the container has not taken.
    pub(super) fn give_up(&mut self, token: Token) {
        self.close(token, Ending::Reset);
    }

    fn close(&mut self, token: Token, ending: Ending) {
        let Some(mut connection) = self.connections.remove(token) else { return };
        for thing in connection.things.into_iter().flatten() {
            self.things.remove(thing);
        }
        if let Some(begins) = connection.begins {
            self.timers.forget(Due::Connection(token), begins);
        }
        self.pipes.forget(&mut connection.inward);
        self.pipes.forget(&mut connection.outward);
        if ending == Ending::Reset {
            connection.outer.reset();
            connection.inner.reset();
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Both sides have said all.
    Whole,
    /// One is broken, and so is the other.
    Reset,
}

impl End {
    pub(super) fn of(socket: std::os::fd::OwnedFd) -> Self {
        Self { socket, is_readable: false, is_writable: false, is_urgent: false, has_failed: false }
    }

    /// What is carried is not held back, what is urgent stays in its place, and who has gone without a word is noticed. None of
    /// it can fail for a connection that is there, and one that is not ends by itself.
    fn prepare(&self) {
        let (idle, interval, count) = KEEP;
        let _ = sockopt::set_tcp_nodelay(&self.socket, true);
        let _ = sockopt::set_socket_oobinline(&self.socket, true);
        let _ = sockopt::set_socket_keepalive(&self.socket, true);
        let _ = sockopt::set_tcp_keepidle(&self.socket, idle);
        let _ = sockopt::set_tcp_keepintvl(&self.socket, interval);
        let _ = sockopt::set_tcp_keepcnt(&self.socket, count);
    }

    /// Has it end with a reset when it is closed.
    pub(super) fn reset(&self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}
