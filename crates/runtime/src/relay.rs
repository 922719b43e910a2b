//! The relay between the runtime's own terminal and the container's: raw mode, window size, bytes both ways.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::error::{Doing, Result};

/// Bytes that one direction holds at most before its source is left alone.
const BUFFER: usize = 64 * 1024;

/// Bytes that are written at once: poll(2) promises room for no more, and a write that waits would keep signals waiting.
const CHUNK: usize = 4096;

/// One end of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The runtime's standard input.
    Input,
    /// The runtime's standard output.
    Output,
    /// The master of the container's terminal.
    Master,
}

/// A relay in progress. The runtime's terminal is as it was before when this value is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    master: OwnedFd,
    restore: Option<Restore>,
    to_container: VecDeque<u8>,
    to_user: VecDeque<u8>,
    input_open: bool,
    output_open: bool,
    master_open: bool,
}

/// The settings to return to.
#[derive(Debug)]
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Prepares a container's terminal for the relay, before the program starts, which may use it at once: it gets the size
/// of the runtime's, and ends lines as the program does. What reads them, a terminal or a file, knows what it wants there.
pub(crate) fn prepare(master: impl AsFd) {
    lend_size(&master);
    // A program that finds a carriage return too much is no reason to fail.
    if let Ok(mut settings) = tcgetattr(&master) {
        settings.output_modes.remove(OutputModes::ONLCR);
        let _ = tcsetattr(&master, OptionalActions::Now, &settings);
    }
}

/// Gives a container's terminal the size of the runtime's, if that is one.
fn lend_size(master: impl AsFd) {
    // A terminal without a size has nothing to lend, and what is no terminal has none.
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin())
        && (size.ws_col, size.ws_row) != (0, 0)
    {
        let _ = tcsetwinsize(master, size);
    }
}

impl Relay {
    /// Begins to relay to `master`: the runtime's terminal, if it has one, becomes raw and lends its size.
    ///
    /// # Errors
    /// A terminal that cannot be set.
    pub(crate) fn begin(master: OwnedFd) -> Result<Self> {
        let doing = || "prepare the terminal";
        let flags = rustix::fs::fcntl_getfl(&master).doing(doing)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).doing(doing)?;
        let stdin = rustix::stdio::stdin();
        let restore = if isatty(stdin) {
            let settings = tcgetattr(stdin).doing(doing)?;
            let mut raw = settings.clone();
            raw.make_raw();
            // Lines come as the program ends them.
            raw.output_modes |= settings.output_modes & OutputModes::OPOST;
            let restore = Restore(settings);
            tcsetattr(stdin, OptionalActions::Now, &raw).doing(doing)?;
            Some(restore)
        } else {
            None
        };
        Ok(Self {
            master,
            restore,
            to_container: VecDeque::new(),
            to_user: VecDeque::new(),
            input_open: true,
            output_open: true,
            master_open: true,
        })
    }

    /// Gives the container's terminal the size of the runtime's.
    pub(crate) fn resize(&self) {
        lend_size(&self.master);
    }

    /// Says whether the runtime's own terminal is gone: its window was closed, or the connection to it.
    pub(crate) fn is_hung_up(&self) -> bool {
        // A raw terminal has no other end of input.
        self.restore.is_some() && !self.input_open
    }

    /// Returns the descriptor of an end.
    pub(crate) fn end(&self, end: End) -> BorrowedFd<'_> {
        match end {
            End::Input => rustix::stdio::stdin(),
            End::Output => rustix::stdio::stdout(),
            End::Master => self.master.as_fd(),
        }
    }

    /// Lists what to wait for.
    pub(crate) fn wanted(&self) -> Vec<(End, PollFlags)> {
        let mut wanted = Vec::with_capacity(3);
        let mut master = PollFlags::empty();
        if self.master_open && self.to_user.len() < BUFFER {
            master |= PollFlags::IN;
        }
        if self.master_open && !self.to_container.is_empty() {
            master |= PollFlags::OUT;
        }
        if !master.is_empty() {
            wanted.push((End::Master, master));
        }
        if self.master_open && self.input_open && self.to_container.len() < BUFFER {
            wanted.push((End::Input, PollFlags::IN));
        }
        if self.output_open && !self.to_user.is_empty() {
            wanted.push((End::Output, PollFlags::OUT));
        }
        wanted
    }

    /// Moves what an end has or takes. An end that fails is closed: the other direction goes on.
    pub(crate) fn serve(&mut self, end: End, events: PollFlags) {
        let readable = events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        match end {
            End::Input if readable => {
                self.input_open = fill(rustix::stdio::stdin(), &mut self.to_container);
            }
            End::Output if !events.is_empty() => {
                self.output_open = empty(rustix::stdio::stdout(), &mut self.to_user);
            }
            End::Master => {
                if events.contains(PollFlags::OUT) {
                    self.master_open = empty(self.master.as_fd(), &mut self.to_container);
                }
                if readable && self.master_open {
                    self.master_open = fill(self.master.as_fd(), &mut self.to_user);
                }
            }
            End::Input | End::Output => {}
        }
        if !self.output_open {
            self.to_user.clear();
        }
    }

    /// Takes in what the container wrote before it ended; tells whether something waits to be passed on.
    pub(crate) fn drain(&mut self) -> bool {
        while self.master_open && self.to_user.len() < BUFFER {
            let before = self.to_user.len();
            self.master_open = fill(self.master.as_fd(), &mut self.to_user);
            if self.to_user.len() == before {
                break;
            }
        }
        self.output_open && !self.to_user.is_empty()
    }
}

/// Reads once; tells whether more may come.
fn fill(from: BorrowedFd<'_>, buffer: &mut VecDeque<u8>) -> bool {
    let mut bytes = [0_u8; 16 * 1024];
    match rustix::io::read(from, &mut bytes) {
        Ok(0) => false,
        Ok(length) => {
            buffer.extend(&bytes[..length]);
            true
        }
        Err(Errno::AGAIN | Errno::INTR) => true,
        // EIO: nobody has the container's end open any more.
        Err(_) => false,
    }
}

/// Writes once; tells whether the end still takes anything.
fn empty(to: BorrowedFd<'_>, buffer: &mut VecDeque<u8>) -> bool {
    let (front, _) = buffer.as_slices();
    match rustix::io::write(to, &front[..front.len().min(CHUNK)]) {
        Ok(length) => {
            buffer.drain(..length);
            true
        }
        Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}
