//! A client of a container: it hears what the container says, and may speak to it.

use bulkhead_shim::client::{self, Attachment, Event};
use bulkhead_shim::protocol::{self, Ending, Exit, Size, Then, ToMonitor};
use bulkhead_store::Kind;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::remove::{Begun, Removal};

/// What a client wants of a container's streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attach {
    /// It speaks to the standard input.
    pub stdin: bool,
    /// It hears the standard output, or the terminal.
    pub stdout: bool,
    /// It hears the standard error.
    pub stderr: bool,
    /// For how many seconds the container waits for a client that does not read; 0 is for ever. Then it is let go.
    pub patience: u32,
    /// The size of the client's terminal, which that of a container that is started has from its first moment.
    pub size: Option<Size>,
}

impl Attach {
    /// Says it in the monitor's words.
    pub(crate) fn said(self, end: End) -> protocol::Attach {
        let Self { stdin, stdout, stderr, patience, size: _ } = self;
        let ours = end == End::Ours;
        protocol::Attach { stdin, stdout, stderr, takes_end: ours, hears_ending: ours, patience }
    }
}

/// A connection to a container's monitor. Dropping it detaches; the container goes on.
#[derive(Debug)]
pub struct Session<'engine> {
    engine: &'engine Engine,
    id: String,
    terminal: bool,
    end: End,
    attachment: Attachment,
    /// The removal that has begun while the runtime takes away what is left of the processes.
    begun: Option<Begun>,
    /// The end that was told before its time.
    ending: Option<Ending>,
    is_cut_short: bool,
}

/// Who does what follows the container's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing does, or the monitor.
    Theirs,
    /// This client removes the container.
    Ours,
}

impl<'engine> Session<'engine> {
    pub(crate) fn new(
        engine: &'engine Engine,
        id: &str,
        terminal: bool,
        end: End,
        attachment: Attachment,
    ) -> Self {
        Self {
            engine,
            id: id.to_owned(),
            terminal,
            end,
            attachment,
            begun: None,
            ending: None,
            is_cut_short: false,
        }
    }

    /// Returns the container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tells whether the container has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns the connection, to be waited for.
    pub fn connection(&self) -> &Attachment {
        &self.attachment
    }

    /// Waits for the next event, as [`Attachment::next`] does. A monitor that dies once it has told the end, and not yet that
    /// all is done, has told enough.
    ///
    /// # Errors
    /// As that.
    #[expect(clippy::should_implement_trait, reason = "an iterator's item would be a result in an option")]
    pub fn next(&mut self) -> client::Result<Option<Event>> {
        let event = self.attachment.next();
        match &event {
            Ok(Some(Event::Ending(ending))) if self.end == End::Ours => {
                // What cannot be done now is done, and told of, after the end.
                self.begun = self.engine.begin_to_remove(&self.id, *ending).unwrap_or_default();
                self.ending = Some(*ending);
            }
            Ok(Some(Event::Exited(_))) => self.ending = None,
            Ok(Some(_)) => {}
            Ok(None) | Err(client::Error::System(_)) => {
                if let Some(Ending { code, time: _ }) = self.ending.take() {
                    self.is_cut_short = true;
                    return Ok(Some(Event::Exited(Exit { code, then: Then::Ends, oom_killed: false })));
                }
            }
            Err(_) => {}
        }
        event
    }

    /// Tells whether the monitor died between both words, so that the last of the output may be missing.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// Offers bytes to the container's standard input, as [`Attachment::offer`] does.
    ///
    /// # Errors
    /// As that.
    pub fn offer(&self, bytes: &[u8]) -> client::Result<usize> {
        self.attachment.offer(bytes)
    }

    /// Says that the standard input has ended, as [`Attachment::close_stdin`] does.
    ///
    /// # Errors
    /// As that.
    pub fn close_stdin(&self) -> client::Result<bool> {
        self.attachment.close_stdin()
    }

    /// Says which size the client's terminal has, as [`Attachment::resize`] does.
    ///
    /// # Errors
    /// As that.
    pub fn resize(&self, size: Size) -> client::Result<bool> {
        self.attachment.resize(size)
    }

    /// Sends the container's first process a signal.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub fn signal(&self, signal: i32) -> Result<()> {
        client::request(&self.engine.places().container_run(&self.id), &ToMonitor::Signal(signal))?;
        Ok(())
    }

    /// Does what follows the container's end, once the connection has told that end.
    ///
    /// # Errors
    /// As [`Engine::remove`], when the container was to be removed.
    pub fn finish(self) -> Result<()> {
        if self.end == End::Ours {
            let removed = match self.begun {
                Some(begun) => self.engine.remove_begun(begun),
                None => self.engine.remove(&self.id, Removal::OF_ITSELF).map(drop),
            };
            match removed {
                // Somebody else was faster.
                Err(error) if error.kind() == Kind::NotFound => {}
                // Or has started it again: then its new monitor does that.
                Err(Error::State { .. }) => {}
                removed => removed?,
            }
            // The monitor is gone when it lost patience: then it has done the same.
            let _ = self.attachment.taken();
        }
        Ok(())
    }
}
