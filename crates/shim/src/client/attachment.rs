//! A connection by which a client hears, and speaks to, a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_sys::message;
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{Error, Result};
use crate::protocol::{CHUNK, Ending, Exit, LONGEST, Size, ToClient, ToMonitor};

/// A client's end of a connection. Dropping it detaches: the container goes on.
#[derive(Debug)]
pub struct Attachment {
    socket: OwnedFd,
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the container wrote to its standard output, or to its terminal.
    Stdout(Vec<u8>),
    /// What the container wrote to its standard error.
    Stderr(Vec<u8>),
    /// The container's process has ended for good. What it had written may follow, and `Exited`. Only who takes the end
    /// hears it.
    Ending(Ending),
    /// The container's process has ended. All that it had written came before.
    Exited(Exit),
}

impl Attachment {
    pub(super) fn of(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Waits for the next event; `None` when the connection is over. It does not wait when the descriptor is readable.
    ///
    /// Without an [`Exit`] that ends before it, an end means that the monitor died, or lost patience with this client.
    ///
    /// # Errors
    /// [`Error::Refused`] when the monitor does not take what was said, [`Error::Malformed`].
    #[expect(clippy::should_implement_trait, reason = "an iterator's item would be a result in an option")]
    pub fn next(&mut self) -> Result<Option<Event>> {
        let received = message::receive(&self.socket, LONGEST)?.bytes;
        if received.is_empty() {
            return Ok(None);
        }
        match ToClient::decode(&received)? {
            ToClient::Stdout(bytes) => Ok(Some(Event::Stdout(bytes.to_owned()))),
            ToClient::Stderr(bytes) => Ok(Some(Event::Stderr(bytes.to_owned()))),
            ToClient::Ending(ending) => Ok(Some(Event::Ending(ending))),
            ToClient::Exited(exit) => Ok(Some(Event::Exited(exit))),
            ToClient::Refused(reason) => Err(Error::Refused { reason: reason.to_owned() }),
            ToClient::Done => self.next(),
        }
    }

    /// Offers bytes to the container's standard input and returns how many were taken. 0 means that the container does not
    /// read: the descriptor is writable again when it does, and what it writes must be heard meanwhile, else both wait for
    /// ever.
    ///
    /// # Errors
    /// EPIPE when the monitor has gone.
    pub fn offer(&self, bytes: &[u8]) -> Result<usize> {
        let chunk = &bytes[..bytes.len().min(CHUNK)];
        Ok(if self.say(&ToMonitor::Stdin(chunk))? { chunk.len() } else { 0 })
    }

    /// Says that the standard input has ended. `false` means that it was not taken, as with [`Attachment::offer`].
    ///
    /// # Errors
    /// EPIPE when the monitor has gone.
    pub fn close_stdin(&self) -> Result<bool> {
        self.say(&ToMonitor::CloseStdin)
    }

    /// Says which size the terminal has. `false` means that it was not taken, as with [`Attachment::offer`]; a request of
    /// its own gets past bytes that wait.
    ///
    /// # Errors
    /// EPIPE when the monitor has gone.
    pub fn resize(&self, size: Size) -> Result<bool> {
        self.say(&ToMonitor::Resize(size))
    }

    /// Says that what follows the end has been done, so that the monitor need not do it.
    ///
    /// # Errors
    /// EPIPE when the monitor has gone.
    pub fn taken(&self) -> Result<()> {
        Ok(message::send(&self.socket, &ToMonitor::Taken.encode(), &[])?)
    }

    fn say(&self, what: &ToMonitor<'_>) -> Result<bool> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &what.encode(), flags)) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(bulkhead_sys::Error::new("send(the monitor's socket)", errno).into()),
        }
    }
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
