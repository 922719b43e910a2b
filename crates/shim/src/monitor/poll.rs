//! What the monitor waits for: epoll(7) with names for its descriptors.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::error::{Doing, Result};

/// A descriptor that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Signals,
    Listener,
    /// The socket to which the runtime connects with a terminal.
    Console,
    /// The runtime, connected to it.
    ConsolePeer,
    Stdout,
    Stderr,
    Stdin,
    /// The output of a health check.
    Check,
    /// A process outside that serves the container.
    Companion(u8),
    Client(u32),
}

/// The first number of a companion, of which there are a handful.
const COMPANIONS: u64 = 16;

/// The first number of a client.
const CLIENTS: u64 = COMPANIONS + 256;

/// The tokens below those, each at its number.
const SINGLE: [Token; 8] = [
    Token::Signals,
    Token::Listener,
    Token::Console,
    Token::ConsolePeer,
    Token::Stdout,
    Token::Stderr,
    Token::Stdin,
    Token::Check,
];

/// How many events are taken at once.
pub(super) const AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC).doing(|| "make an epoll")? })
    }

    pub(super) fn add(&self, descriptor: impl AsFd, token: Token, flags: EventFlags) -> Result<()> {
        epoll::add(&self.epoll, descriptor, data(token), flags).doing(|| "wait for a descriptor")
    }

    /// Waits for a descriptor in this way from now on, and not at all without flags: an end would be told again and again.
    pub(super) fn set(&self, descriptor: impl AsFd, token: Token, (before, flags): (EventFlags, EventFlags)) {
        // None of these can fail for a descriptor that is known to be there or not to be there.
        let _ = match (before.is_empty(), flags.is_empty()) {
            _ if before == flags => Ok(()),
            (true, _) => epoll::add(&self.epoll, descriptor, data(token), flags),
            (false, true) => epoll::delete(&self.epoll, descriptor),
            (false, false) => epoll::modify(&self.epoll, descriptor, data(token), flags),
        };
    }

    /// Waits for the next events, at most for `limit`.
    pub(super) fn wait(&self, limit: Option<Duration>, events: &mut Vec<(Token, EventFlags)>) {
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut room = [MaybeUninit::<Event>::uninit(); AT_ONCE];
        events.clear();
        // A wait that a signal interrupts has no events; there is no other error here.
        let Ok((found, _)) = epoll::wait(&self.epoll, &mut room, limit.as_ref()) else { return };
        for event in found {
            events.push((token(event.data), event.flags));
        }
    }
}

fn data(token: Token) -> EventData {
    EventData::new_u64(match token {
        Token::Client(number) => CLIENTS + u64::from(number),
        Token::Companion(number) => COMPANIONS + u64::from(number),
        single => SINGLE.iter().position(|&other| other == single).unwrap_or(0) as u64,
    })
}

fn token(data: EventData) -> Token {
    let number = data.u64();
    if let Some(companion) = number.checked_sub(COMPANIONS).and_then(|number| u8::try_from(number).ok()) {
        return Token::Companion(companion);
    }
    let single = usize::try_from(number).ok().and_then(|number| SINGLE.get(number));
    single.copied().unwrap_or(Token::Client(number.saturating_sub(CLIENTS) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_known_by_its_token() {
        for expected in SINGLE.into_iter().chain([
            Token::Companion(0),
            Token::Companion(255),
            Token::Client(0),
            Token::Client(u32::MAX),
        ]) {
            let (read, write) = rustix::pipe::pipe().unwrap();
            let poll = Poll::new().unwrap();
            poll.add(&read, expected, EventFlags::IN).unwrap();
            let mut events = Vec::new();
            poll.wait(Some(Duration::ZERO), &mut events);
            assert_eq!(events, [], "nothing is written yet");
            rustix::io::write(&write, b"x").unwrap();
            poll.wait(None, &mut events);
            assert_eq!(events, [(expected, EventFlags::IN)]);
            poll.set(&read, expected, (EventFlags::IN, EventFlags::empty()));
            poll.wait(Some(Duration::ZERO), &mut events);
            assert_eq!(events, [], "nobody waits for it");
        }
    }
}
