//! What happens between an attached container and its caller, until one of them goes.
//!
//! One loop waits for four things: signals, what is typed, what the container says, and room for it. Nothing is written
//! that does not fit at once, so that a reader who sleeps keeps no signal waiting.

use std::os::fd::{BorrowedFd, OwnedFd};

use bulkhead_engine::{Event, Exit, Session, Size};
use bulkhead_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};

use super::keys::{Keys, Watch};
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
    /// The container's process has ended.
    Exited(Exit),
    /// The caller has left, and the container goes on.
    Detached,
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
    session: &mut Session<'_>,
    stdin: Stdin,
    keys: Keys,
    signals: Signals,
) -> Result<Ended, Failure> {
    let mut relay = Relay::begin(session, stdin, keys, signals)?;
    let ended = relay.serve(session);
    // The terminal is as before when the last words are said.
    drop(relay.raw.take());
    relay.finish()?;
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
    fn begin(session: &mut Session<'_>, stdin: Stdin, keys: Keys, proxy: Signals) -> Result<Relay, Failure> {
        let failure = |error: bulkhead_sys::Error| Failure::new(chain(&error));
        let passed = NOT_PASSED.iter().fold(u64::MAX, |bits, signal| bits & !(1 << (signal - 1)));
        let ending = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGWINCH];
        let own = ending.iter().fold(0, |bits, signal| bits | 1 << (signal - 1));
        let set = signal::Set(if proxy == Signals::Proxied { passed } else { own });
        signal::set_mask(set).map_err(failure)?;
        let signals = signal::descriptor(set).map_err(failure)?;
        let has_terminal = session.has_terminal();
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
        relay.resize(session)?;
        Ok(relay)
    }

    fn serve(&mut self, session: &mut Session<'_>) -> Result<Ended, Failure> {
        loop {
            let ready = self.wait(session)?;
            if ready.signals
                && let Some(ended) = self.pass_signals(session)?
            {
                return Ok(ended);
            }
            for (index, room) in ready.room.into_iter().enumerate() {
                if room {
                    self.empty(index)?;
                }
            }
            if ready.heard
                && let Some(exit) = self.hear(session)?
            {
                return Ok(Ended::Exited(exit));
            }
            if ready.typed && self.type_in() {
                return Ok(Ended::Detached);
            }
            if ready.speak {
                self.speak(session)?;
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, session: &mut Session<'_>) -> Result<Ready, Failure> {
        let attachment = session.attachment();
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.said.iter().all(|said| said.len() < BUFFER));
        wanted.set(PollFlags::OUT, !self.typed.is_empty() || self.input == Input::Ending);
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(attachment, wanted)];
        let reads = self.input == Input::Open && self.typed.len() < BUFFER;
        fds.extend(reads.then(|| PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)));
        let writes = [0, 1].map(|index| !self.said[index].is_empty());
        for index in [0, 1].into_iter().filter(|index| writes[*index]) {
            fds.push(PollFd::from_borrowed_fd(stream(index), PollFlags::OUT));
        }
        retry_on_intr(|| poll(&mut fds, None))
            .map_err(|errno| Failure::new(format!("wait for the container: {errno}")))?;
        let mut events = fds.iter().map(PollFd::revents);
        let mut next = || events.next().unwrap_or(PollFlags::empty());
        let signals = !next().is_empty();
        let of_container = next();
        let typed = reads && !next().is_empty();
        Ok(Ready {
            signals,
            heard: wanted.contains(PollFlags::IN)
                && of_container.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            speak: of_container.contains(PollFlags::OUT),
            typed,
            room: writes.map(|writes| writes && !next().is_empty()),
        })
    }

    /// Sends signals on, or tells that one of them ends this program.
    fn pass_signals(&self, session: &mut Session<'_>) -> Result<Option<Ended>, Failure> {
        for number in signal::read_descriptor(&self.signals).map_err(|error| Failure::new(chain(&error)))? {
            match (number, self.proxy) {
                (libc::SIGWINCH, _) => self.resize(session)?,
                (_, Signals::Own) => return Ok(Some(Ended::Detached)),
                // The container may have ended at this moment, which is heard next.
                (_, Signals::Proxied) => drop(session.signal(number)),
            }
        }
        Ok(None)
    }

    fn resize(&self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.has_terminal
            && let Some((rows, columns)) = raw::size()
        {
            // A size that is not taken is no reason to end: the next change of the window says it again.
            session
                .attachment()
                .resize(Size { rows, columns })
                .map_err(|error| Failure::new(chain(&error)))?;
        }
        Ok(())
    }

    /// Takes one thing that the container says.
    fn hear(&mut self, session: &mut Session<'_>) -> Result<Option<Exit>, Failure> {
        match session.attachment().next() {
            Ok(Some(Event::Stdout(bytes))) => self.said[0].extend(bytes),
            Ok(Some(Event::Stderr(bytes))) => self.said[1].extend(bytes),
            Ok(Some(Event::Exited(exit))) => return Ok(Some(exit)),
            Ok(None) => {
                let failure = Failure::new("the container's monitor went away without a word");
                return Err(failure.hint("`bulkhead ps -a` tells what became of the container"));
            }
            Err(error) => return Err(Failure::new(chain(&error))),
        }
        for index in [0, 1] {
            self.empty(index)?;
        }
        Ok(None)
    }

    /// Reads what was typed; tells whether the caller leaves.
    fn type_in(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => false,
            Ok(length) if length > 0 => match &mut self.watch {
                Some(watch) => watch.pass(&bytes[..length], &mut self.typed),
                None => {
                    self.typed.extend(&bytes[..length]);
                    false
                }
            },
            // A raw terminal has no end of input: it is gone, and its person with it.
            _ if self.raw.is_some() => true,
            _ => {
                self.input = Input::Ending;
                false
            }
        }
    }

    /// Hands the container what was typed, and then that it is over.
    fn speak(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        let attachment = session.attachment();
        let failure = |error| Failure::new(chain(&error));
        if !self.typed.is_empty() {
            let taken = match attachment.offer(&self.typed) {
                Ok(taken) => taken,
                // The container does not listen any more; what it says is heard still.
                Err(_) => {
                    self.input = Input::Over;
                    self.typed.len()
                }
            };
            self.typed.drain(..taken);
        }
        if self.typed.is_empty()
            && self.input == Input::Ending
            && attachment.close_stdin().map_err(failure)?
        {
            self.input = Input::Over;
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
