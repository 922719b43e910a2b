//! A process outside that serves the container for as long as it lives, such as one that answers for names or carries its ports. The monitor stays
//! connected with it, which tells it that the container lives, and has it started again where it has died.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bulkhead_sys::message;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketType};

use super::poll::{Poll, Token};
use super::runtime::Runtime;
use crate::{order, socket};

/// What is waited before it is looked for again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The companion of an order, and the connection with it.
#[derive(Debug)]
pub(super) struct Companion {
    order: order::Companion,
    token: Token,
    connection: Option<OwnedFd>,
    /// When it is looked for again.
    again: Option<Instant>,
    pause: Duration,
}

impl Companion {
    /// Connects with the companion, which whoever wrote the order has started.
    pub(super) fn stay(order: order::Companion, token: Token, poll: &Poll) -> Self {
        let mut companion = Self { order, token, connection: None, again: None, pause: PAUSE.0 };
        if !companion.connect(poll) {
            companion.again = Some(Instant::now() + companion.pause);
        }
        companion
    }

    /// Reads what it says, which is nothing of interest, or notices that it is gone; then it is to be started again.
    pub(super) fn hear(&mut self, runtime: &Runtime) {
        let Some(connection) = &self.connection else { return };
        let mut buffer = [0; 256];
        match rustix::net::recv(connection, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => {
                // Closing it takes it out of what is waited for.
                self.connection = None;
                self.revive(runtime);
            }
        }
    }

    /// When it is looked for again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// Looks for it again, and has it started if it is not there.
    pub(super) fn look(&mut self, poll: &Poll, runtime: &Runtime) {
        self.again = None;
        if self.connect(poll) {
            self.pause = PAUSE.0;
        } else {
            self.revive(runtime);
        }
    }

    fn revive(&mut self, runtime: &Runtime) {
        // What keeps it from being started may pass.
        let _ = runtime.execute(&self.order.revive);
        self.again = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    fn connect(&mut self, poll: &Poll) -> bool {
        let Ok(connection) = socket::connect(&self.order.socket, SocketType::SEQPACKET) else { return false };
        let is_there = message::send(&connection, self.order.greeting.as_bytes(), &[]).is_ok()
            && poll.add(&connection, self.token, EventFlags::IN).is_ok();
        if is_there {
            self.connection = Some(connection);
        }
        is_there
    }
}
