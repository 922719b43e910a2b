//! Questions that resolvers are asked, in the order of the list, beginning with who answered last.
//!
//! Each is asked by a socket of its own, whose port the kernel chooses at random, under a number of its own: whoever wants to
//! forge an answer must guess both, and be believed to be the resolver (RFC 5452).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType};
use rustix::rand::{GetRandomFlags, getrandom};

use super::frame::{Progress, framed, read_message, write_rest};
use super::{ASKED, Due, Server, Thing};
use crate::attendant::Token;
use crate::names::message::{self, Code, Query, Transport};

/// How long all resolvers together may take: less than the five seconds after which clients ask again.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How often a lone resolver is asked.
const LEAST: usize = 2;
/// The longest answer.
const LONGEST: usize = 65_535;

/// Who is told.
#[derive(Debug)]
pub(super) enum ReplyTo {
    /// Who sent a datagram.
    Datagram(SocketAddrAny),
    /// Who is connected.
    Client(Token),
}

/// A question that is being asked.
#[derive(Debug)]
pub(super) struct Asked {
    container: Token,
    query: Vec<u8>,
    reply_to: ReplyTo,
    resolvers: Rc<[SocketAddr]>,
    first: usize,
    /// How many have been asked.
    attempt: usize,
    /// The number under which it is asked.
    id: [u8; 2],
    exchange: Option<Exchange>,
    /// An answer that says that a resolver cannot or will not.
    refusal: Option<Vec<u8>>,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
enum Exchange {
    Datagram(OwnedFd),
    Stream { socket: OwnedFd, question: Vec<u8>, done: usize, heard: Vec<u8> },
}

/// What has come of asking one.
enum News {
    None,
    Answer(Vec<u8>),
    /// It is not there, or talks nonsense.
    Useless,
}

impl Server {
    /// Asks resolvers, the first of them first.
    pub(super) fn ask(
        &mut self,
        key: Token,
        query: Vec<u8>,
        reply_to: ReplyTo,
        (resolvers, first): (Rc<[SocketAddr]>, usize),
    ) {
        self.make_room_for_asked(key);
        let client = match reply_to {
            ReplyTo::Client(client) => Some(client),
            ReplyTo::Datagram(_) => None,
        };
        let asked = Asked {
            container: key,
            query,
            reply_to,
            resolvers,
            first,
            attempt: 0,
            id: [0; 2],
            exchange: None,
            refusal: None,
            deadline: Instant::now(),
        };
        let token = self.things.insert(Thing::Asked(Box::new(asked)));
        if let Some(container) = self.containers.get_mut(key) {
            container.asked.push_back(token);
        }
        if let Some(client) = client {
            self.has_client_wait(client, token);
        }
        self.ask_next(token);
    }

    /// Has the oldest question of the container, or of who has most, fail where there are too many.
    fn make_room_for_asked(&mut self, key: Token) {
        let own = self.containers.get(key).map_or(0, |container| container.asked.len());
        let all: usize = self.containers.iter().map(|(_, container)| container.asked.len()).sum();
        let from = if own >= ASKED {
            key
        } else if all >= self.limits.asked {
            self.greediest(own, |container| container.asked.len()).unwrap_or(key)
        } else {
            return;
        };
        let oldest = self.containers.get(from).and_then(|container| container.asked.front().copied());
        if let Some(oldest) = oldest {
            self.fail(oldest);
        }
    }

    /// Asks the next resolver, or says that none has answered.
    pub(super) fn ask_next(&mut self, token: Token) {
        let Some(Thing::Asked(asked)) = self.things.get_mut(token) else { return };
        self.timers.forget(Due::Thing(token), asked.deadline);
        let attempts = asked.resolvers.len().max(LEAST);
        while asked.attempt < attempts {
            let which = asked.which();
            asked.attempt += 1;
            let begun = begin(asked, asked.resolvers[which]);
            asked.exchange = begun.ok();
            let added = match &asked.exchange {
                None => continue,
                Some(Exchange::Datagram(socket)) => self.poll.add(socket, token, EventFlags::IN),
                Some(Exchange::Stream { socket, .. }) => self.poll.add(socket, token, EventFlags::OUT),
            };
            if added.is_ok() {
                let patience = PATIENCE / u32::try_from(attempts).unwrap_or(1);
                asked.deadline = self.timers.set(Due::Thing(token), patience);
                return;
            }
        }
        self.fail(token);
    }

    pub(super) fn asked_happened(&mut self, token: Token) {
        let Some(Thing::Asked(asked)) = self.things.get_mut(token) else { return };
        let news = match asked.exchange.take() {
            None => return,
            Some(Exchange::Datagram(socket)) => {
                let news = asked.hear_datagram(&socket, &mut self.room);
                asked.exchange = Some(Exchange::Datagram(socket));
                news
            }
            Some(Exchange::Stream { socket, question, mut done, mut heard }) => {
                let news = match write_rest(&socket, &question, &mut done) {
                    Progress::Over => News::Useless,
                    Progress::Blocked => News::None,
                    Progress::Whole => {
                        self.poll.change(&socket, token, EventFlags::IN);
                        asked.hear_stream(&socket, &mut heard)
                    }
                };
                asked.exchange = Some(Exchange::Stream { socket, question, done, heard });
                news
            }
        };
        match news {
            News::None => {}
            News::Useless => self.ask_next(token),
            News::Answer(answer) if message::is_refusal(&answer) => {
                asked.refusal = Some(answer);
                self.ask_next(token);
            }
            News::Answer(answer) => {
                let which = (asked.first + asked.attempt - 1) % asked.resolvers.len();
                self.resolvers.answered(&asked.resolvers, which);
                self.reply(token, answer);
            }
        }
    }

    /// Says that nobody has answered, or what a resolver has refused.
    fn fail(&mut self, token: Token) {
        let Some(Thing::Asked(asked)) = self.things.get_mut(token) else { return };
        let refusal = asked.refusal.take().or_else(|| {
            let query = Query::read(&asked.query).ok()?;
            Some(query.answer(Code::Failed, Transport::Udp).finished())
        });
        match refusal {
            Some(refusal) => self.reply(token, refusal),
            None => drop(self.forget_asked(token)),
        }
    }

    fn reply(&mut self, token: Token, mut answer: Vec<u8>) {
        let Some(Asked { container, query, reply_to, .. }) = self.forget_asked(token) else { return };
        answer[..2].copy_from_slice(&query[..2]);
        match reply_to {
            ReplyTo::Datagram(peer) => self.send_datagram(container, &peer, &answer),
            ReplyTo::Client(client) => self.tell_client(client, &answer),
        }
    }

    pub(super) fn forget_asked(&mut self, token: Token) -> Option<Asked> {
        let Some(Thing::Asked(asked)) = self.things.remove(token) else { return None };
        let asked = *asked;
        self.timers.forget(Due::Thing(token), asked.deadline);
        if let Some(container) = self.containers.get_mut(asked.container) {
            container.asked.retain(|other| *other != token);
        }
        Some(asked)
    }
}

impl Asked {
    /// Which resolver is asked next.
    fn which(&self) -> usize {
        (self.first + self.attempt) % self.resolvers.len()
    }

    fn hear_datagram(&self, socket: &OwnedFd, room: &mut [u8]) -> News {
        loop {
            match rustix::net::recv(socket, &mut *room, RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return News::None,
                // Nobody listens there.
                Err(_) => return News::Useless,
                Ok((length, _)) if self.is_answered_by(&room[..length]) => {
                    return News::Answer(room[..length].to_vec());
                }
                // Somebody guesses; the true one may still come.
                Ok(_) => {}
            }
        }
    }

    fn hear_stream(&self, socket: &OwnedFd, heard: &mut Vec<u8>) -> News {
        match read_message(socket, heard, LONGEST) {
            Progress::Blocked => News::None,
            Progress::Over => News::Useless,
            Progress::Whole => {
                let answer = heard.split_off(2);
                if self.is_answered_by(&answer) { News::Answer(answer) } else { News::Useless }
            }
        }
    }

    fn is_answered_by(&self, answer: &[u8]) -> bool {
        Query::read(&self.query).is_ok_and(|query| query.is_answered_by(answer, self.id))
    }
}

/// Asks one resolver, under a new number, from a new port.
fn begin(asked: &mut Asked, resolver: SocketAddr) -> Result<Exchange, Errno> {
    getrandom(&mut asked.id, GetRandomFlags::empty())?;
    let mut question = asked.query.clone();
    question[..2].copy_from_slice(&asked.id);
    let family = if resolver.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match asked.reply_to {
        ReplyTo::Datagram(_) => {
            let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
            rustix::net::connect(&socket, &resolver)?;
            rustix::net::send(&socket, &question, SendFlags::DONTWAIT)?;
            Ok(Exchange::Datagram(socket))
        }
        ReplyTo::Client(_) => {
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            match rustix::net::connect(&socket, &resolver) {
                Ok(()) | Err(Errno::INPROGRESS) => {}
                Err(errno) => return Err(errno),
            }
            Ok(Exchange::Stream { socket, question: framed(&question), done: 0, heard: Vec::new() })
        }
    }
}
