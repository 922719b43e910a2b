//! The container's standard input, as clients fill it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::poll::{Poll, Token};
use crate::log::Burst;
use crate::protocol::{HEAD, LONGEST};

/// The end of a pipe, or a terminal's.
#[derive(Debug)]
pub(super) struct Input {
    descriptor: Option<OwnedFd>,
    buffer: Burst,
    /// Which bytes of the buffer the container has yet to take.
    waiting: (usize, usize),
    flags: EventFlags,
}

/// What a client sent.
pub(super) enum Received<'a> {
    /// A message.
    Message(&'a [u8]),
    /// There is none.
    Nothing,
    /// It is gone.
    Gone,
}

impl Input {
    pub(super) fn new(descriptor: Option<OwnedFd>) -> Self {
        Self { descriptor, buffer: Burst::new(LONGEST), waiting: (0, 0), flags: EventFlags::empty() }
    }

    /// Tells whether nothing more can be taken.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.0 < self.waiting.1
    }

    /// Receives a message of a client, into memory that its bytes may stay in until the container takes them.
    pub(super) fn receive(&mut self, client: impl AsFd) -> Received<'_> {
        let Ok(buffer) = self.buffer.bytes() else { return Received::Nothing };
        let flags = RecvFlags::DONTWAIT;
        match rustix::io::retry_on_intr(|| rustix::net::recv(&client, &mut *buffer, flags)) {
            Ok((0, _)) => Received::Gone,
            // The kernel tells this once to whose peer ended with something unread; what it had said follows.
            Err(Errno::AGAIN | Errno::CONNRESET) => Received::Nothing,
            Err(_) => Received::Gone,
            Ok((length, _)) => Received::Message(&buffer[..length]),
        }
    }

    /// Writes the bytes of the message that was received last, as far as the container takes them.
    pub(super) fn take(&mut self, length: usize) {
        self.waiting = (HEAD, HEAD + length);
        self.write();
    }

    /// Goes on with that.
    pub(super) fn write(&mut self) {
        while let (begin, end) = self.waiting
            && begin < end
        {
            let (Some(descriptor), Ok(buffer)) = (&self.descriptor, self.buffer.bytes()) else {
                self.waiting = (0, 0);
                return;
            };
            match rustix::io::write(descriptor, &buffer[begin..end]) {
                Ok(written) => self.waiting.0 += written,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // Nobody in the container will ever read it.
                Err(_) => self.waiting = (0, 0),
            }
        }
    }

    /// Ends the container's standard input.
    pub(super) fn close(&mut self) {
        self.waiting = (0, 0);
        self.descriptor = None;
        self.flags = EventFlags::empty();
    }

    /// Is waited for while something is to be written.
    pub(super) fn arrange(&mut self, poll: &Poll) {
        let wanted = if self.is_full() { EventFlags::OUT } else { EventFlags::empty() };
        if let Some(descriptor) = &self.descriptor {
            poll.set(descriptor, Token::Stdin, (self.flags, wanted));
            self.flags = wanted;
        }
    }

    /// Gives memory back, if nothing is in it.
    pub(super) fn rest(&mut self) {
        if !self.is_full() {
            self.buffer.rest();
        }
    }
}
