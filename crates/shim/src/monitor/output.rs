//! One stream of the container's output: a pipe, or its terminal.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::poll::{Poll, Token};
use crate::clock;
use crate::log::{Burst, LONGEST, Lines, Log, Rest, Stream};
use crate::protocol::CHUNK;

/// After which pause a terminal is looked at again that nobody in the container has open. A program may close it and open
/// it again.
const TERMINAL_PAUSE: Duration = Duration::from_millis(100);

/// What can be read.
#[derive(Debug)]
pub(super) struct Output {
    descriptor: OwnedFd,
    stream: Stream,
    is_terminal: bool,
    lines: Lines,
    buffer: Burst,
    rest: Rest,
    /// Where the bytes are that were read last.
    read: (usize, usize),
    flags: EventFlags,
    /// When a terminal that nobody has open is looked at again.
    again: Option<Instant>,
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, which are in the log now.
    Bytes,
    /// There are none.
    Nothing,
    /// There will never be more.
    Ended,
}

impl Output {
    pub(super) fn new(descriptor: OwnedFd, stream: Stream, is_terminal: bool) -> Self {
        Self {
            descriptor,
            stream,
            is_terminal,
            lines: Lines::default(),
            buffer: Burst::new(LONGEST),
            rest: Rest::default(),
            read: (0, 0),
            flags: EventFlags::empty(),
            again: None,
        }
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Reads some bytes and has the log take the lines among them. Before that, those read last are forgotten.
    pub(super) fn read(&mut self, log: &mut Log) -> Read {
        // Without memory nothing is read: the container waits.
        let Ok(buffer) = self.buffer.bytes() else { return Read::Nothing };
        Lines::shift(buffer, std::mem::take(&mut self.rest));
        let at = if log.keeps() { self.lines.end() } else { 0 };
        self.read = (at, at);
        let room = &mut buffer[at..LONGEST.min(at + CHUNK)];
        let length = match rustix::io::retry_on_intr(|| rustix::io::read(&self.descriptor, &mut *room)) {
            Ok(0) => return Read::Ended,
            Err(Errno::IO) if self.is_terminal => {
                self.again = Some(Instant::now() + TERMINAL_PAUSE);
                return Read::Ended;
            }
            Err(Errno::AGAIN) => return Read::Nothing,
            Err(_) => return Read::Ended,
            Ok(length) => length,
        };
        self.read = (at, at + length);
        if log.keeps() {
            let origin = (self.stream, clock::now());
            self.rest = self.lines.cut(buffer, length, origin, |line| log.take(line));
            log.flush();
        }
        Read::Bytes
    }

    /// The bytes that were read last.
    pub(super) fn bytes(&mut self) -> &[u8] {
        let (begin, end) = self.read;
        match self.buffer.bytes() {
            Ok(buffer) if begin < end => &buffer[begin..end],
            _ => &[],
        }
    }

    /// Hands a line without an end to the log: nothing follows it.
    pub(super) fn finish(&mut self, log: &mut Log) {
        if let Ok(buffer) = self.buffer.bytes()
            && !self.lines.is_empty()
        {
            Lines::shift(buffer, std::mem::take(&mut self.rest));
            self.lines.finish(buffer, (self.stream, clock::now()), |line| log.take(line));
            log.flush();
        }
    }

    /// Is waited for, or not.
    pub(super) fn arrange(&mut self, poll: &Poll, wanted: EventFlags) {
        let wanted = if self.again.is_some() { EventFlags::empty() } else { wanted };
        let token = if self.stream == Stream::Stdout { Token::Stdout } else { Token::Stderr };
        poll.set(&self.descriptor, token, (self.flags, wanted));
        self.flags = wanted;
    }

    /// When it wants to be looked at again.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Looks at a terminal again.
    pub(super) fn wake(&mut self, now: Instant) {
        self.again = self.again.filter(|&again| again > now);
    }

    /// Gives memory back, if nothing is in it.
    pub(super) fn rest(&mut self) {
        if self.lines.is_empty() {
            self.read = (0, 0);
            self.buffer.rest();
        }
    }
}
