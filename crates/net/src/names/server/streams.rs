//! Questions that come by connections.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::frame::{Progress, framed, read_message, write_rest};
use super::upstream::ReplyTo;
use super::{AT_ONCE, CLIENTS, Due, Outcome, Server, Thing};
use crate::attendant::Token;
use crate::names::message::{MOST, Transport};

/// How long a client may take for its question, or for reading its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection of a container's.
#[derive(Debug)]
pub(super) struct Client {
    container: Token,
    socket: OwnedFd,
    state: State,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
enum State {
    /// It asks: what has come of the length and the message.
    Asking(Vec<u8>),
    /// A resolver is asked.
    Waiting(Option<Token>),
    /// It is told: what is left of it.
    Told(Vec<u8>, usize),
}

impl Server {
    pub(super) fn accept_clients(&mut self, key: Token) {
        for _ in 0..AT_ONCE {
            let Some(container) = self.containers.get(key) else { return };
            let Some(sockets) = &container.sockets else { return };
            let tcp = Rc::clone(&sockets.tcp);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(&*tcp, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(_) => return,
            };
            self.make_room_for_client(key);
            let state = State::Asking(Vec::new());
            let client = Client { container: key, socket, state, deadline: Instant::now() };
            let token = self.things.insert(Thing::Client(Box::new(client)));
            let Some(Thing::Client(client)) = self.things.get_mut(token) else { return };
            if self.poll.add(&client.socket, token, EventFlags::IN).is_err() {
                self.things.remove(token);
                continue;
            }
            client.deadline = self.timers.set(Due::Thing(token), PATIENCE);
            if let Some(container) = self.containers.get_mut(key) {
                container.clients.push_back(token);
            }
        }
    }

    /// Closes the oldest connection of the container, or of who has most, where there are too many.
    fn make_room_for_client(&mut self, key: Token) {
        let own = self.containers.get(key).map_or(0, |container| container.clients.len());
        let all: usize = self.containers.iter().map(|(_, container)| container.clients.len()).sum();
        let from = if own >= CLIENTS {
            key
        } else if all >= self.limits.clients {
            self.greediest(own, |container| container.clients.len()).unwrap_or(key)
        } else {
            return;
        };
        let oldest = self.containers.get(from).and_then(|container| container.clients.front().copied());
        if let Some(oldest) = oldest {
            self.close_client(oldest);
        }
    }

    pub(super) fn client_happened(&mut self, token: Token, flags: EventFlags) {
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            return self.close_client(token);
        }
        let Some(Thing::Client(client)) = self.things.get_mut(token) else { return };
        match client.state {
            State::Asking(_) => self.hear_client(token),
            State::Waiting(_) => {}
            State::Told(..) => self.go_on_telling(token),
        }
    }

    fn hear_client(&mut self, token: Token) {
        let Some(Thing::Client(client)) = self.things.get_mut(token) else { return };
        let State::Asking(heard) = &mut client.state else { return };
        match read_message(&client.socket, heard, MOST) {
            Progress::Blocked => {}
            Progress::Over => self.close_client(token),
            Progress::Whole => {
                let (message, key) = (heard.split_off(2), client.container);
                client.state = State::Waiting(None);
                self.poll.change(&client.socket, token, EventFlags::empty());
                self.timers.forget(Due::Thing(token), client.deadline);
                match self.decide(key, &message, Transport::Tcp) {
                    Outcome::Nothing => self.close_client(token),
                    Outcome::Answer(answer) => self.tell_client(token, &answer),
                    Outcome::Ask(resolvers, first) => {
                        self.ask(key, message, ReplyTo::Client(token), (resolvers, first));
                    }
                }
            }
        }
    }

    /// Sends an answer to who waits for it.
    pub(super) fn tell_client(&mut self, token: Token, answer: &[u8]) {
        let Some(Thing::Client(client)) = self.things.get_mut(token) else { return };
        client.state = State::Told(framed(answer), 0);
        client.deadline = self.timers.set(Due::Thing(token), PATIENCE);
        self.go_on_telling(token);
    }

    fn go_on_telling(&mut self, token: Token) {
        let Some(Thing::Client(client)) = self.things.get_mut(token) else { return };
        let State::Told(bytes, done) = &mut client.state else { return };
        match write_rest(&client.socket, bytes, done) {
            Progress::Over => self.close_client(token),
            Progress::Blocked => self.poll.change(&client.socket, token, EventFlags::OUT),
            Progress::Whole => {
                client.state = State::Asking(Vec::new());
                self.timers.forget(Due::Thing(token), client.deadline);
                client.deadline = self.timers.set(Due::Thing(token), PATIENCE);
                self.poll.change(&client.socket, token, EventFlags::IN);
            }
        }
    }

    pub(super) fn close_client(&mut self, token: Token) {
        let Some(Thing::Client(client)) = self.things.remove(token) else { return };
        self.timers.forget(Due::Thing(token), client.deadline);
        if let Some(container) = self.containers.get_mut(client.container) {
            container.clients.retain(|other| *other != token);
        }
        if let State::Waiting(Some(asked)) = client.state {
            self.forget_asked(asked);
        }
    }

    /// Notes which question a client waits for.
    pub(super) fn has_client_wait(&mut self, token: Token, asked: Token) {
        if let Some(Thing::Client(client)) = self.things.get_mut(token) {
            client.state = State::Waiting(Some(asked));
        }
    }
}
