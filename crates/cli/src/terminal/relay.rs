//! What happens between an attached container and its caller, until one of them goes.
//!
//! One loop waits for four things: signals, what is typed, what the container says, and room for it. Nothing is written
//! that does not fit at once, so that a reader who sleeps keeps no signal waiting.

use std::os::fd::{BorrowedFd, OwnedFd};

use bulkhead_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};

use super::keys::{Keys, Watch};
use super::peer::{Heard, Peer};
use super::raw::{self, Raw};
use crate::failure::{Failure, chain};

/// What becomes of the signals that this program gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    /// They are sent on to the container.
    Proxied,
    /// They end this program, and leave the container as it is.
    Own,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process has ended with this code.
    Exited(u8),
    /// The caller has left by his keys, and the container goes on.
    Detached,
    /// The caller's terminal is gone.
    Gone,
    /// This signal, which was not to be sent on, ends this program.
    Signalled(i32),
}

/// Bytes that one direction holds at most before its source is left alone.
const BUFFER: usize = 64 * 1024;

/// Bytes that are written at once: poll(2) promises room for no more.
const CHUNK: usize = 4096;

/// Signals that mean this program alone: faults, its children, job control, and what its own writing causes.
const NOT_PASSED: [i32; 16] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
    libc::SIGKILL,
    libc::SIGSTOP,
];

/// Relays between this process and a container until that ends, or the caller leaves.
///
/// # Errors
/// A monitor that dies, and a terminal that cannot be set.
pub(crate) fn relay(
    peer: &mut impl Peer,
    stdin: Stdin,
    keys: Keys,
    signals: Signals,
) -> Result<Ended, Failure> {
    let mut relay = Relay::begin(peer, stdin, keys, signals)?;
    let ended = relay.serve(peer);
    // The terminal is as before when the last words are said.
    drop(relay.raw.take());
    let finished = relay.finish();
    relay.release();
    finished?;
    ended
}

/// Whether what is typed goes to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    Attached,
    Left,
}

/// The end of the standard input, on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// It has ended, which the container has not heard yet.
    Ending,
    Over,
}

struct Relay {
    raw: Option<Raw>,
    /// A container without a terminal hears the keys like all others.
    watch: Option<Watch>,
    signals: OwnedFd,
    proxy: Signals,
    has_terminal: bool,
    input: Input,
    /// What was typed, and what was said on the two streams, all on their way.
    typed: Vec<u8>,
    said: [Vec<u8>; 2],
}

/// What the loop found ready.
#[derive(Debug, Default)]
struct Ready {
    signals: bool,
    heard: bool,
    speak: bool,
    typed: bool,
    room: [bool; 2],
}

impl Relay {
    fn begin(peer: &mut impl Peer, stdin: Stdin, keys: Keys, proxy: Signals) -> Result<Relay, Failure> {
        let failure = |error: bulkhead_sys::Error| Failure::new(chain(&error));
        let passed = NOT_PASSED.iter().fold(u64::MAX, |bits, signal| bits & !(1 << (signal - 1)));
        let ending = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGWINCH];
        let own = ending.iter().fold(0, |bits, signal| bits | 1 << (signal - 1));
        let set = signal::Set(if proxy == Signals::Proxied { passed } else { own });
        signal::set_mask(set).map_err(failure)?;
        let signals = signal::descriptor(set).map_err(failure)?;
        let has_terminal = peer.has_terminal();
        let is_attached = stdin == Stdin::Attached;
        let raw = if has_terminal && is_attached { Raw::begin()? } else { None };
        let relay = Relay {
            watch: raw.as_ref().map(|_| Watch::new(keys)),
            raw,
            signals,
            proxy,
            has_terminal,
            input: if is_attached { Input::Open } else { Input::Over },
            typed: Vec::new(),
            said: Default::default(),
        };
        relay.resize(peer)?;
        Ok(relay)
    }

    fn serve(&mut self, peer: &mut impl Peer) -> Result<Ended, Failure> {
        loop {
            let ready = self.wait(peer)?;
            if ready.signals
                && let Some(ended) = self.pass_signals(peer)?
            {
                return Ok(ended);
            }
            for (index, room) in ready.room.into_iter().enumerate() {
                if room {
                    self.empty(index)?;
                }
            }
            if ready.heard
                && let Some(code) = self.hear(peer)?
            {
                return Ok(Ended::Exited(code));
            }
            if ready.typed
                && let Some(ended) = self.type_in()
            {
                self.hand_over(peer)?;
                return Ok(ended);
            }
            if ready.speak {
                self.speak(peer)?;
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, peer: &impl Peer) -> Result<Ready, Failure> {
        // Whoever is not listened to would be ready all the same once he has gone.
        let hears = self.said.iter().all(|said| said.len() < BUFFER);
        let sources = if hears { peer.sources() } else { Vec::new() };
        let speaks = !self.typed.is_empty() || self.input == Input::Ending;
        let sink = peer.sink().filter(|_| speaks);
        let reads = self.input == Input::Open && self.typed.len() < BUFFER;
        let writes = [0, 1].map(|index| !self.said[index].is_empty());
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let writable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT);
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(sources.iter().copied().map(readable));
        fds.extend(sink.map(writable));
        fds.extend(reads.then(|| readable(rustix::stdio::stdin())));
        fds.extend([0, 1].into_iter().filter(|index| writes[*index]).map(|index| writable(stream(index))));
        retry_on_intr(|| poll(&mut fds, None))
            .map_err(|errno| Failure::new(format!("wait for the container: {errno}")))?;
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || ready.next().unwrap_or(false);
        Ok(Ready {
            signals: next(),
            heard: sources.iter().fold(false, |heard, _| next() || heard),
            speak: if sink.is_some() { next() } else { speaks && peer.sink().is_none() },
            typed: reads && next(),
            room: writes.map(|writes| writes && next()),
        })
    }

    /// Sends signals on, or tells that one of them ends this program.
    fn pass_signals(&self, peer: &mut impl Peer) -> Result<Option<Ended>, Failure> {
        for number in signal::read_descriptor(&self.signals).map_err(|error| Failure::new(chain(&error)))? {
            match (number, self.proxy) {
                (libc::SIGWINCH, _) => self.resize(peer)?,
                (_, Signals::Own) => return Ok(Some(Ended::Signalled(number))),
                (_, Signals::Proxied) => peer.signal(number),
            }
        }
        Ok(None)
    }

    fn resize(&self, peer: &mut impl Peer) -> Result<(), Failure> {
        match raw::size() {
            Some(size) if self.has_terminal => peer.resize(size),
            _ => Ok(()),
        }
    }

    /// Takes one thing that the container says; returns the code of its end.
    fn hear(&mut self, peer: &mut impl Peer) -> Result<Option<u8>, Failure> {
        match peer.hear()? {
            Heard::Stdout(bytes) => self.said[0].extend(bytes),
            Heard::Stderr(bytes) => self.said[1].extend(bytes),
            Heard::Exited(code) => return Ok(Some(code)),
            Heard::Nothing => {}
        }
        for index in [0, 1] {
            self.empty(index)?;
        }
        Ok(None)
    }

    /// Reads what was typed; tells how the caller leaves, if he does.
    fn type_in(&mut self) -> Option<Ended> {
        let mut bytes = [0; 16 * 1024];
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(length) if length > 0 => match &mut self.watch {
                Some(watch) => watch.pass(&bytes[..length], &mut self.typed).then_some(Ended::Detached),
                None => {
                    self.typed.extend(&bytes[..length]);
                    None
                }
            },
            // A raw terminal has no end of input: it is gone, and its person with it.
            _ if self.raw.is_some() => Some(Ended::Gone),
            _ => {
                self.input = Input::Ending;
                None
            }
        }
    }

    /// Hands the container what was typed, and then that it is over.
    fn speak(&mut self, peer: &mut impl Peer) -> Result<(), Failure> {
        if !self.typed.is_empty() {
            let taken = match peer.offer(&self.typed) {
                Ok(taken) => taken,
                // The container does not listen any more; what it says is heard still.
                Err(_) => {
                    self.input = Input::Over;
                    self.typed.len()
                }
            };
            self.typed.drain(..taken);
        }
        if self.typed.is_empty() && self.input == Input::Ending && peer.close_stdin()? {
            self.input = Input::Over;
        }
        Ok(())
    }

    /// Lets signals end this program again, and those that it starts. What came too late for the container is forgotten.
    fn release(&self) {
        let _ = signal::read_descriptor(&self.signals);
        // It cannot fail with these arguments.
        let _ = signal::set_mask(signal::Set::EMPTY);
    }

    /// Hands over what was typed before the caller left, unless nobody takes it.
    fn hand_over(&mut self, peer: &mut impl Peer) -> Result<(), Failure> {
        let patience = rustix::time::Timespec { tv_sec: 1, tv_nsec: 0 };
        while !self.typed.is_empty() {
            let Some(sink) = peer.sink() else { break };
            let ready = &mut [PollFd::from_borrowed_fd(sink, PollFlags::OUT)];
            if matches!(retry_on_intr(|| poll(ready, Some(&patience))), Ok(0) | Err(_)) {
                break;
            }
            self.speak(peer)?;
        }
        Ok(())
    }

    /// Writes as much as fits at once.
    fn empty(&mut self, index: usize) -> Result<(), Failure> {
        let said = &mut self.said[index];
        if said.is_empty() {
            return Ok(());
        }
        let ready = &mut [PollFd::from_borrowed_fd(stream(index), PollFlags::OUT)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        if matches!(retry_on_intr(|| poll(ready, Some(&now))), Ok(0)) {
            return Ok(());
        }
        match rustix::io::write(stream(index), &said[..said.len().min(CHUNK)]) {
            Ok(length) => drop(said.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE) => return Err(Failure::Unread),
            Err(errno) => return Err(Failure::new(format!("write what the container says: {errno}"))),
        }
        Ok(())
    }

    /// Writes all that is left.
    fn finish(&mut self) -> Result<(), Failure> {
        for index in [0, 1] {
            while !self.said[index].is_empty() {
                let ready = &mut [PollFd::from_borrowed_fd(stream(index), PollFlags::OUT)];
                let waited = retry_on_intr(|| poll(ready, None));
                waited.map_err(|errno| Failure::new(format!("write what the container said: {errno}")))?;
                self.empty(index)?;
            }
        }
        Ok(())
    }
}

/// The standard output, or the standard error.
fn stream(index: usize) -> BorrowedFd<'static> {
    if index == 0 { rustix::stdio::stdout() } else { rustix::stdio::stderr() }
}
