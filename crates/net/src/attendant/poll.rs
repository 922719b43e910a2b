//! What the helper waits for: descriptors by epoll(7), and moments.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::slab::Token;

/// How many events are taken at once.
const AT_ONCE: usize = 32;

/// The descriptors.
#[derive(Debug)]
pub(crate) struct Poll(OwnedFd);

impl Poll {
    pub(crate) fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Waits for a descriptor from now on, until it is closed.
    pub(crate) fn add(&self, descriptor: impl AsFd, token: Token, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.0, descriptor, EventData::new_u64(token.number()), flags)
    }

    /// Waits for something else of a descriptor; without flags only for its failure.
    pub(crate) fn change(&self, descriptor: impl AsFd, token: Token, flags: EventFlags) {
        // It cannot fail for one that was added.
        let _ = epoll::modify(&self.0, descriptor, EventData::new_u64(token.number()), flags);
    }

    /// Waits for the next events, at most until a moment.
    pub(crate) fn wait(&self, until: Option<Instant>, events: &mut Vec<(Token, EventFlags)>) {
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()));
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut room = [MaybeUninit::<Event>::uninit(); AT_ONCE];
        events.clear();
        // A wait that a signal interrupts has no events; there is no other error here.
        let Ok((found, _)) = epoll::wait(&self.0, &mut room, limit.as_ref()) else { return };
        events.extend(found.iter().map(|event| (Token::of_number(event.data.u64()), event.flags)));
    }
}

/// Moments at which something is due.
#[derive(Debug)]
pub(crate) struct Timers<T>(BTreeSet<(Instant, T)>);

impl<T: Ord + Copy> Timers<T> {
    pub(crate) fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Has something be due after a while, and returns when that is.
    pub(crate) fn set(&mut self, what: T, after: Duration) -> Instant {
        let moment = Instant::now() + after;
        self.0.insert((moment, what));
        moment
    }

    /// Forgets something that was to be due.
    pub(crate) fn forget(&mut self, what: T, moment: Instant) {
        self.0.remove(&(moment, what));
    }

    /// Returns when the next is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(moment, _)| *moment)
    }

    /// Takes what is due.
    pub(crate) fn take_due(&mut self) -> Option<T> {
        let (moment, what) = *self.0.first()?;
        if moment > Instant::now() {
            return None;
        }
        self.0.pop_first();
        Some(what)
    }
}
