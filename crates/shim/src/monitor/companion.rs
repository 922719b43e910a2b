//! Processes outside that serve the container for as long as it lives, such as one that answers for names or carries its ports. The monitor stays
//! connected with each, which tells it that the container lives, and has it started again where it has died.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bulkhead_sys::message;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketType};

use super::poll::{Poll, Token};
use super::runtime::Runtime;
use crate::{order, socket};

/// What is waited before it is started again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// What is waited before it is looked for again at most: somebody else may have it started, and it does not wait for long.
const LOOK: Duration = Duration::from_secs(1);

/// All companions of a container, of which there are a handful at a time.
#[derive(Debug, Default)]
pub(super) struct Companions(Vec<Companion>);

/// A companion of the order, and the connection with it.
#[derive(Debug)]
struct Companion {
    order: order::Companion,
    number: u8,
    connection: Option<OwnedFd>,
    /// Since when it is there.
    since: Instant,
    /// When it is looked for again.
    again: Option<Instant>,
    /// Before this it is not started again.
    revival: Instant,
    pause: Duration,
}

impl Companions {
    /// Stays with these from now on, and leaves those that are not among them. Whoever has ordered them has started them.
    pub(super) fn stay(&mut self, orders: Vec<order::Companion>, poll: &Poll) {
        self.0.retain(|companion| orders.contains(&companion.order));
        for order in orders {
            if self.0.iter().any(|companion| companion.order == order) {
                continue;
            }
            let is_free = |number: &u8| !self.0.iter().any(|companion| companion.number == *number);
            if let Some(number) = (0..=u8::MAX).find(is_free) {
                self.0.push(Companion::stay(order, number, poll));
            }
        }
    }

    /// Leaves them all.
    pub(super) fn leave(&mut self) {
        self.0.clear();
    }

    /// Hears the one of a number, if it is still there.
    pub(super) fn hear(&mut self, number: u8, runtime: &Runtime) {
        if let Some(companion) = self.0.iter_mut().find(|companion| companion.number == number) {
            companion.hear(runtime);
        }
    }

    /// When one of them is looked for again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|companion| companion.again).min()
    }

    /// Looks for those again whose time has come.
    pub(super) fn look(&mut self, now: Instant, poll: &Poll, runtime: &Runtime) {
        for companion in &mut self.0 {
            if companion.again.is_some_and(|again| again <= now) {
                companion.look(poll, runtime);
            }
        }
    }
}

impl Companion {
    /// Connects with the companion.
    fn stay(order: order::Companion, number: u8, poll: &Poll) -> Self {
        let now = Instant::now();
        let (revival, pause) = (now + PAUSE.0, PAUSE.0);
        let mut companion = Self { order, number, connection: None, since: now, again: None, revival, pause };
        if !companion.connect(poll) {
            companion.again = Some(revival);
        }
        companion
    }

    /// Reads what it says, which is nothing of interest, or notices that it is gone; then it is to be started again.
    fn hear(&mut self, runtime: &Runtime) {
        let Some(connection) = &self.connection else { return };
        let mut buffer = [0; 256];
        match rustix::net::recv(connection, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => {
                // Closing it takes it out of what is waited for.
                self.connection = None;
                if self.since.elapsed() > PAUSE.1 {
                    self.pause = PAUSE.0;
                }
                self.revive(runtime);
            }
        }
    }

    /// Looks for it again, and has it started if it is not there.
    fn look(&mut self, poll: &Poll, runtime: &Runtime) {
        self.again = None;
        if !self.connect(poll) {
            self.revive(runtime);
        }
    }

    /// Has it started again, unless that was tried just before.
    fn revive(&mut self, runtime: &Runtime) {
        let now = Instant::now();
        if now >= self.revival {
            // What keeps it from being started may pass.
            let _ = runtime.execute(&self.order.revive);
            self.revival = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        self.again = Some(self.revival.min(now + LOOK));
    }

    fn connect(&mut self, poll: &Poll) -> bool {
        let Ok(connection) = socket::connect(&self.order.socket, SocketType::SEQPACKET) else { return false };
        let is_there = message::send(&connection, self.order.greeting.as_bytes(), &[]).is_ok()
            && poll.add(&connection, Token::Companion(self.number), EventFlags::IN).is_ok();
        if is_there {
            self.connection = Some(connection);
            self.since = Instant::now();
        }
        is_there
    }
}
