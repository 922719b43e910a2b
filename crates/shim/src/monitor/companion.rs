//! Processes outside that serve the container for as long as it lives, such as one that answers for names or carries its ports. The monitor stays
//! connected with each, which tells it that the container lives, and has it started again where it has died. Of a program of others, which hears
//! of nobody, it has a pidfd instead.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bulkhead_sys::{message, process};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketType};

use super::poll::{Poll, Token};
use super::runtime::Runtime;
use crate::order::{self, Order};
use crate::socket;
use crate::status::Process;

/// What is waited before it is started again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// What is waited before it is looked for again at most: somebody else may have it started, and it does not wait for long.
const LOOK: Duration = Duration::from_secs(1);

/// All companions of a container, of which there are a handful at a time.
#[derive(Debug, Default)]
pub(super) struct Companions(Vec<Companion>);

/// What an order says of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ordered {
    Heard(order::Companion),
    Recorded(order::RecordedCompanion),
}

/// A companion of the order, and by what its end is seen.
#[derive(Debug)]
struct Companion {
    order: Ordered,
    number: u8,
    /// The connection with it, or its pidfd.
    sign: Option<OwnedFd>,
    /// Since when it is there.
    since: Instant,
    /// When it is looked for again.
    again: Option<Instant>,
    /// Before this it is not started again.
    revival: Instant,
    pause: Duration,
}

impl Ordered {
    /// Takes all of an order.
    pub(super) fn of(order: &mut Order) -> Vec<Self> {
        let heard = order.companion.take().into_iter().chain(order.companions.drain(..)).map(Self::Heard);
        heard.chain(order.recorded.drain(..).map(Self::Recorded)).collect()
    }
}

impl Companions {
    /// Stays with these from now on, and leaves those that are not among them. Whoever has ordered them has started them, or wants those
    /// to be looked for at once that are not there.
    pub(super) fn stay(&mut self, orders: Vec<Ordered>, poll: &Poll) {
        self.0.retain(|companion| orders.contains(&companion.order));
        let now = Instant::now();
        for companion in self.0.iter_mut().filter(|companion| companion.sign.is_none()) {
            (companion.again, companion.revival) = (Some(now), now);
        }
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

    /// Hears the one of a number, if it is still there. Without a runtime it is not started again yet.
    pub(super) fn hear(&mut self, number: u8, runtime: Option<&Runtime>) {
        if let Some(companion) = self.0.iter_mut().find(|companion| companion.number == number) {
            companion.hear(runtime);
        }
    }

    /// When one of them is looked for again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|companion| companion.again).min()
    }

    /// Looks for those again whose time has come. Without a runtime none is started again yet.
    pub(super) fn look(&mut self, now: Instant, poll: &Poll, runtime: Option<&Runtime>) {
        for companion in &mut self.0 {
            if companion.again.is_some_and(|again| again <= now) {
                companion.look(poll, runtime);
            }
        }
    }
}

impl Companion {
    /// Connects with the companion.
    fn stay(order: Ordered, number: u8, poll: &Poll) -> Self {
        let now = Instant::now();
        let (revival, pause) = (now + PAUSE.0, PAUSE.0);
        let mut companion = Self { order, number, sign: None, since: now, again: None, revival, pause };
        if !companion.connect(poll) {
            companion.again = Some(revival);
        }
        companion
    }

    /// Reads what it says, which is nothing of interest, or notices that it is gone; then it is to be started again.
    fn hear(&mut self, runtime: Option<&Runtime>) {
        let Some(sign) = &self.sign else { return };
        let is_there = match self.order {
            Ordered::Heard(_) => {
                let received = rustix::net::recv(sign, &mut [0; 256][..], RecvFlags::DONTWAIT);
                matches!(received, Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR))
            }
            // It can be read from its end on; another one may have had this number before.
            Ordered::Recorded(_) => !can_be_read(sign),
        };
        if !is_there {
            // Closing it takes it out of what is waited for.
            self.sign = None;
            if self.since.elapsed() > PAUSE.1 {
                self.pause = PAUSE.0;
            }
            self.revive(runtime);
        }
    }

    /// Looks for it again, and has it started if it is not there.
    fn look(&mut self, poll: &Poll, runtime: Option<&Runtime>) {
        self.again = None;
        if !self.connect(poll) {
            self.revive(runtime);
        }
    }

    /// Has it started again, unless that was tried just before.
    fn revive(&mut self, runtime: Option<&Runtime>) {
        let now = Instant::now();
        let Some(runtime) = runtime else {
            self.again = Some(now + LOOK);
            return;
        };
        if now >= self.revival {
            // What keeps it from being started may pass.
            let (Ordered::Heard(order::Companion { revive, .. })
            | Ordered::Recorded(order::RecordedCompanion { revive, .. })) = &self.order;
            let _ = runtime.execute(revive);
            self.revival = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        self.again = Some(self.revival.min(now + LOOK));
    }

    fn connect(&mut self, poll: &Poll) -> bool {
        let sign = match &self.order {
            Ordered::Heard(order) => greet(order),
            Ordered::Recorded(order) => open(order),
        };
        self.sign = sign.filter(|sign| poll.add(sign, Token::Companion(self.number), EventFlags::IN).is_ok());
        self.since = Instant::now();
        self.sign.is_some()
    }
}

/// Connects with one that hears of us.
fn greet(order: &order::Companion) -> Option<OwnedFd> {
    let connection = socket::connect(&order.socket, SocketType::SEQPACKET).ok()?;
    message::send(&connection, order.greeting.as_bytes(), &[]).ok().map(|()| connection)
}

/// Opens the process of one that does not.
fn open(order: &order::RecordedCompanion) -> Option<OwnedFd> {
    let recorded: Process = serde_json::from_slice(&std::fs::read(&order.file).ok()?).ok()?;
    // It has had its number since before it was opened.
    process::open_pidfd(recorded.pid).ok().filter(|_| recorded.runs())
}

fn can_be_read(sign: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(sign, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}
