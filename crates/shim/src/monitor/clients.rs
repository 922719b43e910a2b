//! Who is connected to the monitor.
//!
//! A chunk of output goes to every client that wants it before the next is read, so a monitor has one chunk in memory and
//! not a queue for each client. A client that does not read therefore holds the container back, as the reader of a pipe
//! does, for as long as it asked for (`Attach::patience`); then it is let go. What it misses is in the log.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, SocketFlags};

use super::poll::{Poll, Token};
use crate::log::Stream;
use crate::protocol::{Attach, Ending, HEAD, STDERR, STDOUT, ToClient, VERSION};

/// What a client is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It has not yet said so.
    New,
    /// It hears the container.
    Attached(Attach),
    /// It waits until the container has ended for good.
    AwaitsEnd,
    /// It waits for a call of the runtime.
    AwaitsCall,
    /// It goes when it has heard the last word.
    Leaves,
}

/// What becomes of a chunk that a client does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slow {
    /// Nothing more is read before it has.
    HoldsBack,
    /// It is kept for the client: the container has ended, and what it left in its pipes is not much.
    IsKeptFor,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    number: u32,
    socket: OwnedFd,
    pub(super) role: Role,
    /// Whether it has yet to take the chunk of output for which all wait.
    owes_chunk: bool,
    /// The messages that it has yet to take after that.
    words: VecDeque<Vec<u8>>,
    since: Instant,
    flags: EventFlags,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    list: Vec<Client>,
    next: u32,
}

impl Clients {
    /// Adds one.
    pub(super) fn add(&mut self, socket: OwnedFd, poll: &Poll) {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        // Without memory for it in the kernel it is turned away, which it notices.
        if poll.add(&socket, Token::Client(number), EventFlags::IN).is_ok() {
            let (role, since, flags) = (Role::New, Instant::now(), EventFlags::IN);
            let words = VecDeque::new();
            self.list.push(Client { number, socket, role, owes_chunk: false, words, since, flags });
        }
    }

    /// Accepts who waits at the listening socket.
    pub(super) fn accept(&mut self, listener: &OwnedFd, poll: &Poll) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(listener, flags) {
            self.add(socket, poll);
        }
    }

    pub(super) fn get(&mut self, number: u32) -> Option<&mut Client> {
        self.list.iter_mut().find(|client| client.number == number)
    }

    /// Forgets one, and says what it was here for.
    pub(super) fn remove(&mut self, number: u32) -> Option<Role> {
        let place = self.list.iter().position(|client| client.number == number)?;
        Some(self.list.swap_remove(place).role)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Says what a client is here for.
    pub(super) fn set_role(&mut self, number: u32, role: Role) {
        if let Some(client) = self.get(number) {
            client.role = role;
        }
    }

    /// Says a last word to one, if it is still there.
    pub(super) fn tell_and_leave(&mut self, number: u32, message: ToClient<'_>) {
        self.tell(number, message);
        self.set_role(number, Role::Leaves);
    }

    /// Tells whether anybody has yet to take something.
    pub(super) fn is_behind(&self) -> bool {
        self.list.iter().any(|client| client.is_behind())
    }

    /// Tells whether anybody speaks to the container.
    pub(super) fn speaks(&self) -> bool {
        self.list.iter().any(Client::speaks)
    }

    /// Those that wait for the container's end.
    pub(super) fn awaiting_end(&self) -> Vec<u32> {
        let waiting = self.list.iter().filter(|client| client.role == Role::AwaitsEnd);
        waiting.map(|client| client.number).collect()
    }

    /// Gives a chunk of output to those who want it.
    pub(super) fn give(&mut self, stream: Stream, bytes: &[u8], slow: Slow) {
        for client in self.list.iter_mut().filter(|client| client.wants(stream)) {
            if client.is_behind() || !client.send_chunk(stream, bytes) {
                match slow {
                    Slow::HoldsBack => client.owes_chunk = true,
                    Slow::IsKeptFor => client.words.push_back(chunk(stream, bytes)),
                }
                client.since = Instant::now();
            }
        }
    }

    /// Keeps what was given last for those who have not taken it, so that the next chunk can be read.
    pub(super) fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        for client in self.list.iter_mut().filter(|client| client.owes_chunk) {
            client.owes_chunk = false;
            client.words.push_front(chunk(stream, bytes));
        }
    }

    /// Says something to all that are attached.
    pub(super) fn tell_attached(&mut self, message: ToClient<'_>) {
        for client in self.list.iter_mut().filter(|client| matches!(client.role, Role::Attached(_))) {
            client.say(message);
        }
    }

    /// Says to those who want to hear it that the end has begun.
    pub(super) fn tell_ending(&mut self, ending: Ending) {
        let message = ToClient::Ending(ending);
        let hears =
            |client: &&mut Client| matches!(client.role, Role::Attached(attach) if attach.hears_ending);
        for client in self.list.iter_mut().filter(hears) {
            client.say(message);
        }
    }

    /// Says something to one, if it is still there.
    pub(super) fn tell(&mut self, number: u32, message: ToClient<'_>) {
        if let Some(client) = self.get(number) {
            client.say(message);
        }
    }

    /// Tries again what clients did not take; `given` is what was given last.
    pub(super) fn catch_up(&mut self, number: u32, given: Option<(Stream, &[u8])>) {
        let Some(client) = self.get(number) else { return };
        if client.owes_chunk {
            client.owes_chunk = match given {
                Some((stream, bytes)) => !client.send_chunk(stream, bytes),
                None => false,
            };
        }
        while !client.owes_chunk
            && let Some(word) = client.words.pop_front()
        {
            if !client.send(&[&word]) {
                client.words.push_front(word);
                return;
            }
        }
    }

    /// Lets everybody go who has nothing left to hear or to do, and has the others waited for as is right now. While the
    /// container's standard input takes nothing, nobody who speaks to it is listened to.
    pub(super) fn arrange(&mut self, poll: &Poll, stdin_is_full: bool) {
        self.list.retain(|client| client.role != Role::Leaves || client.is_behind());
        for client in &mut self.list {
            let hears = if stdin_is_full && client.speaks() { EventFlags::empty() } else { EventFlags::IN };
            let waits = if client.is_behind() { EventFlags::OUT } else { EventFlags::empty() };
            let flags = hears | waits;
            poll.set(&client.socket, Token::Client(client.number), (client.flags, flags));
            client.flags = flags;
        }
    }

    /// Has all go that are attached and do not take the end over, once they have heard everything.
    pub(super) fn dismiss(&mut self) {
        for client in &mut self.list {
            let stays = matches!(client.role, Role::Attached(attach) if attach.takes_end);
            if !stays {
                client.role = Role::Leaves;
            }
        }
    }

    /// When the first client's patience ends, that is its own for the container.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.list.iter().filter_map(Client::deadline).min()
    }

    /// Names those that have taken nothing for too long.
    pub(super) fn late(&self, now: Instant) -> Vec<u32> {
        let late =
            self.list.iter().filter(|client| client.deadline().is_some_and(|deadline| deadline <= now));
        late.map(|client| client.number).collect()
    }
}

impl Client {
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Tells whether its bytes go to the container's standard input.
    pub(super) fn speaks(&self) -> bool {
        matches!(self.role, Role::Attached(attach) if attach.stdin)
    }

    fn deadline(&self) -> Option<Instant> {
        let Role::Attached(attach) = self.role else { return None };
        let waits = self.is_behind() && attach.patience > 0;
        waits.then(|| self.since + Duration::from_secs(attach.patience.into()))
    }

    fn is_behind(&self) -> bool {
        self.owes_chunk || !self.words.is_empty()
    }

    fn wants(&self, stream: Stream) -> bool {
        let Role::Attached(attach) = self.role else { return false };
        match stream {
            Stream::Stdout => attach.stdout,
            Stream::Stderr => attach.stderr,
        }
    }

    fn say(&mut self, message: ToClient<'_>) {
        let word = message.encode();
        if self.is_behind() || !self.send(&[&word]) {
            self.words.push_back(word);
            self.since = Instant::now();
        }
    }

    fn send_chunk(&self, stream: Stream, bytes: &[u8]) -> bool {
        self.send(&[&head(stream), bytes])
    }

    /// Sends a message; `false` when it has to wait. Who is gone takes everything: that it is, its descriptor tells.
    fn send(&self, parts: &[&[u8]]) -> bool {
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut none = SendAncillaryBuffer::default();
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.socket, &slices[..parts.len()], &mut none, flags)
        });
        !matches!(sent, Err(Errno::AGAIN | Errno::NOBUFS))
    }
}

fn head(stream: Stream) -> [u8; HEAD] {
    [VERSION, if stream == Stream::Stdout { STDOUT } else { STDERR }]
}

fn chunk(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    [&head(stream), bytes].concat()
}
