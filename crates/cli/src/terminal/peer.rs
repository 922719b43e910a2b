//! Whom the caller is attached to: a container, by its monitor, or a process that joined one.

use std::os::fd::{AsFd as _, BorrowedFd};

use bulkhead_engine::{Event, Joined, Piped, Session, Size};
use rustix::io::Errno;

use crate::failure::{Failure, chain};

/// The other side of a relay.
pub(crate) trait Peer {
    /// What is readable when something can be heard.
    fn sources(&self) -> Vec<BorrowedFd<'_>>;
    /// What is writable when something can be said.
    fn sink(&self) -> Option<BorrowedFd<'_>>;
    /// Whether it has a terminal.
    fn has_terminal(&self) -> bool;
    /// Takes one thing that it says.
    fn hear(&mut self) -> Result<Heard, Failure>;
    /// Offers bytes to its standard input, and returns how many it took.
    fn offer(&mut self, bytes: &[u8]) -> Result<usize, Failure>;
    /// Says that its standard input has ended; tells whether that was taken.
    fn close_stdin(&mut self) -> Result<bool, Failure>;
    /// Says which size its terminal has.
    fn resize(&mut self, size: Size) -> Result<(), Failure>;
    /// Sends its process a signal. It may have ended at this moment, which is heard next.
    fn signal(&mut self, number: i32);
}

/// What was heard.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Bytes of the standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of the standard error.
    Stderr(Vec<u8>),
    /// The process has ended with this code, and nothing follows.
    Exited(u8),
    /// Nothing, this time.
    Nothing,
}

impl Peer for Session<'_> {
    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.connection().as_fd()]
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        Some(self.connection().as_fd())
    }

    fn has_terminal(&self) -> bool {
        Session::has_terminal(self)
    }

    fn hear(&mut self) -> Result<Heard, Failure> {
        match self.next() {
            Ok(Some(Event::Stdout(bytes))) => Ok(Heard::Stdout(bytes)),
            Ok(Some(Event::Stderr(bytes))) => Ok(Heard::Stderr(bytes)),
            Ok(Some(Event::Ending(_))) => Ok(Heard::Nothing),
            Ok(Some(Event::Exited(exit))) => Ok(Heard::Exited(exit.code)),
            Ok(None) => {
                let failure = Failure::new("the container's monitor went away without a word");
                Err(failure.hint("`bulkhead ps -a` tells what became of the container"))
            }
            Err(error) => Err(Failure::new(chain(&error))),
        }
    }

    fn offer(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        Session::offer(self, bytes).map_err(|error| Failure::new(chain(&error)))
    }

    fn close_stdin(&mut self) -> Result<bool, Failure> {
        Session::close_stdin(self).map_err(|error| Failure::new(chain(&error)))
    }

    fn resize(&mut self, size: Size) -> Result<(), Failure> {
        // A size that is not taken is no reason to end: the next change of the window says it again.
        Session::resize(self, size).map(drop).map_err(|error| Failure::new(chain(&error)))
    }

    fn signal(&mut self, number: i32) {
        let _ = Session::signal(self, number);
    }
}

/// The most that is read of what a process leaves that has ended: more than a pipe or a terminal holds, for who outlives
/// that process may write for ever.
const LEFT_BEHIND: usize = 128 * 1024;

/// The most that is read at once.
const CHUNK: usize = 8192;

/// An end of a process: its code, and how much is heard after it.
#[derive(Debug, Clone, Copy)]
struct End {
    code: u8,
    left: usize,
}

/// Reads once from a descriptor that does not wait.
enum Read {
    Bytes(Vec<u8>),
    Nothing,
    Shut,
}

fn read(from: BorrowedFd<'_>) -> Read {
    let mut bytes = vec![0; CHUNK];
    match rustix::io::read(from, &mut bytes) {
        Ok(length) if length > 0 => {
            bytes.truncate(length);
            Read::Bytes(bytes)
        }
        Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
        // The end of a pipe, or a terminal that nobody has open any more.
        _ => Read::Shut,
    }
}

fn write(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Failure> {
    match rustix::io::write(to, bytes) {
        Ok(taken) => Ok(taken),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(errno) => Err(Failure::new(format!("write to the process: {errno}"))),
    }
}

/// A process in a container that has a terminal of its own.
#[derive(Debug)]
pub(crate) struct OnTerminal<'engine> {
    pub(crate) process: Joined<'engine>,
    /// Nobody in the container has the terminal open.
    is_shut: bool,
    end: Option<End>,
}

impl<'engine> OnTerminal<'engine> {
    pub(crate) fn new(process: Joined<'engine>) -> OnTerminal<'engine> {
        OnTerminal { process, is_shut: false, end: None }
    }
}

impl Peer for OnTerminal<'_> {
    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        // A terminal that is shut would be ready at any time.
        let terminal = (!self.is_shut).then(|| self.process.terminal());
        terminal.into_iter().chain([self.process.process()]).collect()
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_shut).then(|| self.process.terminal())
    }

    fn has_terminal(&self) -> bool {
        true
    }

    fn hear(&mut self) -> Result<Heard, Failure> {
        if self.end.is_none() {
            self.end = self.process.code()?.map(|code| End { code, left: LEFT_BEHIND });
        }
        if !self.is_shut && self.end.is_none_or(|end| end.left > 0) {
            match read(self.process.terminal()) {
                Read::Bytes(bytes) => {
                    self.end = self.end.map(|end| End { left: end.left.saturating_sub(bytes.len()), ..end });
                    return Ok(Heard::Stdout(bytes));
                }
                Read::Nothing => {}
                Read::Shut => self.is_shut = true,
            }
        }
        Ok(self.end.map_or(Heard::Nothing, |end| Heard::Exited(end.code)))
    }

    fn offer(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        write(self.process.terminal(), bytes)
    }

    /// A terminal has no end of input that one could tell.
    fn close_stdin(&mut self) -> Result<bool, Failure> {
        Ok(true)
    }

    fn resize(&mut self, size: Size) -> Result<(), Failure> {
        self.process.resize(size);
        Ok(())
    }

    /// Docker sends none on: what is typed makes its own.
    fn signal(&mut self, _number: i32) {}
}

/// A process in a container that has pipes where its caller has a terminal.
#[derive(Debug)]
pub(crate) struct OnPipes<'engine> {
    process: Piped<'engine>,
    end: Option<End>,
}

impl OnPipes<'_> {
    pub(crate) fn new(process: Piped<'_>) -> OnPipes<'_> {
        OnPipes { process, end: None }
    }

    /// Tells whether what is typed is to be passed on.
    pub(crate) fn speaks(&self) -> bool {
        self.process.stdin.is_some()
    }
}

impl Peer for OnPipes<'_> {
    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        let pipes = [&self.process.stdout, &self.process.stderr].into_iter().flatten();
        pipes.map(|pipe| pipe.as_fd()).chain([self.process.process()]).collect()
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.process.stdin.as_ref().map(|pipe| pipe.as_fd())
    }

    fn has_terminal(&self) -> bool {
        false
    }

    fn hear(&mut self) -> Result<Heard, Failure> {
        if self.end.is_none() {
            self.end = self.process.code()?.map(|code| End { code, left: LEFT_BEHIND });
        }
        let heard: [fn(Vec<u8>) -> Heard; 2] = [Heard::Stdout, Heard::Stderr];
        for (index, heard) in heard.into_iter().enumerate() {
            let pipe = if index == 0 { &mut self.process.stdout } else { &mut self.process.stderr };
            let Some(open) = pipe.as_ref().filter(|_| self.end.is_none_or(|end| end.left > 0)) else {
                continue;
            };
            match read(open.as_fd()) {
                Read::Bytes(bytes) => {
                    self.end = self.end.map(|end| End { left: end.left.saturating_sub(bytes.len()), ..end });
                    let heard = heard(bytes);
                    if matches!(heard, Heard::Stderr(_)) {
                        // The runtime's words are the failure's.
                        self.process.settle()?;
                    }
                    return Ok(heard);
                }
                Read::Nothing => {}
                Read::Shut => *pipe = None,
            }
        }
        Ok(self.end.map_or(Heard::Nothing, |end| Heard::Exited(end.code)))
    }

    fn offer(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        self.process.stdin.as_ref().map_or(Ok(bytes.len()), |pipe| write(pipe.as_fd(), bytes))
    }

    fn close_stdin(&mut self) -> Result<bool, Failure> {
        self.process.stdin = None;
        Ok(true)
    }

    fn resize(&mut self, _size: Size) -> Result<(), Failure> {
        Ok(())
    }

    fn signal(&mut self, number: i32) {
        self.process.signal(number);
    }
}
