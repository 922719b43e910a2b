//! What a container wrote, line by line, to where the order says it is kept.

mod journal;
mod json_file;
mod lines;

use bulkhead_sys::memory::Region;

use crate::clock;
use crate::order;
use crate::status::Unkept;

pub(crate) use lines::{LONGEST, Lines, Rest};

/// One of the two streams of a container; a terminal is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A line without its end, or a part of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) stream: Stream,
    pub(crate) bytes: &'a [u8],
    /// Whether the line ends with it: a longer one than [`LONGEST`] comes in parts, as from docker.
    pub(crate) ends: bool,
    pub(crate) time: u64,
}

/// Why a log cannot take anything.
pub(crate) type Reason = std::io::Error;

/// Where output goes.
#[derive(Debug)]
pub(crate) struct Log {
    kind: Kind,
    unkept: Option<Unkept>,
    /// The length of what is said of that, which is in memory with the lines that follow.
    said: Option<usize>,
}

#[derive(Debug)]
enum Kind {
    JsonFile(json_file::JsonFile),
    Journal(journal::Journal),
    None,
}

impl Log {
    /// Opens the log that an order names.
    ///
    /// # Errors
    /// A file that cannot be opened, a journal that does not run.
    pub(crate) fn open(order: order::Log) -> Result<Self, Reason> {
        let kind = match order {
            order::Log::JsonFile { path, max_size, max_file, attributes } => {
                Kind::JsonFile(json_file::JsonFile::open(path, max_size, max_file, &attributes)?)
            }
            order::Log::Journald { fields } => Kind::Journal(journal::Journal::open(&fields)?),
            order::Log::None => Kind::None,
        };
        Ok(Self { kind, unkept: None, said: None })
    }

    /// A log that keeps nothing.
    pub(crate) fn none() -> Self {
        Self { kind: Kind::None, unkept: None, said: None }
    }

    /// Tells whether lines matter to it.
    pub(crate) fn keeps(&self) -> bool {
        !matches!(self.kind, Kind::None)
    }

    /// Takes a line. It may stay in memory until [`Log::flush`].
    ///
    /// What cannot be kept is counted: the container goes on. When there is room again, a line of the log says how much it
    /// was, where it is missing.
    pub(crate) fn take(&mut self, line: Line<'_>) {
        // It is written together with what follows: where there is no room for that, it would be said in vain.
        if let (Some(unkept), None) = (&self.unkept, self.said) {
            let sentence = unkept.sentence();
            let notice =
                Line { stream: Stream::Stderr, bytes: sentence.as_bytes(), ends: true, time: clock::now() };
            self.said = Some(sentence.len());
            if let Err(reason) = self.kind.take(notice) {
                self.lose(&reason);
                self.count(1, line.bytes.len(), None);
                return;
            }
        }
        match self.kind.take(line) {
            Ok(()) => self.settle(),
            Err(reason) => {
                let before = self.unkept.as_ref().map_or(0, |unkept| unkept.lines);
                self.lose(&reason);
                // A line that did not come as far as the memory.
                if self.unkept.as_ref().map_or(0, |unkept| unkept.lines) == before {
                    self.count(1, line.bytes.len(), Some(&reason));
                }
            }
        }
    }

    /// Writes what it still has in memory.
    pub(crate) fn flush(&mut self) {
        match self.kind.flush() {
            Ok(()) => self.settle(),
            Err(reason) => self.lose(&reason),
        }
    }

    /// What was missing is said, once that is written.
    fn settle(&mut self) {
        if self.said.is_some() && self.kind.is_written() {
            self.unkept = None;
            self.said = None;
        }
    }

    /// Counts what is in memory and cannot be written. What was to be said of a loss is said anew, with this.
    fn lose(&mut self, reason: &Reason) {
        let (lines, bytes) = self.kind.forget();
        let said = self.said.take();
        let lines = lines.saturating_sub(u64::from(said.is_some()));
        self.count(lines, bytes.saturating_sub(said.unwrap_or(0)), Some(reason));
    }

    /// Gives memory back that only a burst of output needed.
    pub(crate) fn rest(&mut self) {
        if let Kind::JsonFile(file) = &mut self.kind {
            file.rest();
        }
    }

    /// What could not be kept and is not yet said in the log.
    pub(crate) fn unkept(&self) -> Option<&Unkept> {
        self.unkept.as_ref()
    }

    fn count(&mut self, lines: u64, bytes: usize, reason: Option<&Reason>) {
        let unkept = self.unkept.get_or_insert_with(|| Unkept { lines: 0, bytes: 0, reason: String::new() });
        unkept.lines += lines;
        unkept.bytes += bytes as u64;
        if let Some(reason) = reason {
            unkept.reason = reason.to_string();
        }
    }
}

impl Unkept {
    fn sentence(&self) -> String {
        let Self { lines, bytes, reason } = self;
        format!(
            "bulkmon: {lines} lines ({bytes} bytes) are missing here, which could not be written: {reason}"
        )
    }
}

impl Kind {
    fn take(&mut self, line: Line<'_>) -> Result<(), Reason> {
        match self {
            Self::JsonFile(file) => file.take(line),
            Self::Journal(journal) => journal.send(line),
            Self::None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Reason> {
        match self {
            Self::JsonFile(file) => file.flush(),
            Self::Journal(_) | Self::None => Ok(()),
        }
    }

    /// Tells whether nothing is in memory.
    fn is_written(&self) -> bool {
        match self {
            Self::JsonFile(file) => file.is_written(),
            Self::Journal(_) | Self::None => true,
        }
    }

    /// Drops what a flush could not write, and says how much it was.
    fn forget(&mut self) -> (u64, usize) {
        match self {
            Self::JsonFile(file) => file.forget(),
            Self::Journal(_) | Self::None => (0, 0),
        }
    }
}

/// Memory of its own mapping, which exists only while it is used: what a burst of output needs goes back to the machine.
#[derive(Debug)]
pub(crate) struct Burst {
    length: usize,
    region: Option<Region>,
}

impl Burst {
    pub(crate) fn new(length: usize) -> Self {
        Self { length, region: None }
    }

    /// The bytes, zero when they are used for the first time since [`Burst::rest`].
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn bytes(&mut self) -> bulkhead_sys::Result<&mut [u8]> {
        let region = match self.region.take() {
            Some(region) => region,
            None => Region::map(self.length)?,
        };
        Ok(self.region.insert(region).bytes())
    }

    /// Gives the memory back; what was in it is gone.
    pub(crate) fn rest(&mut self) {
        self.region = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Fails when what is said of a loss stays in memory, to be written as often as it was tried.
    #[test]
    fn a_loss_is_counted_once_and_said_once() {
        let order = order::Log::JsonFile {
            path: "/dev/full".into(),
            max_size: 0,
            max_file: 1,
            attributes: BTreeMap::new(),
        };
        let mut log = Log::open(order).unwrap();
        for _ in 0..5 {
            log.take(Line { stream: Stream::Stdout, bytes: b"four", ends: true, time: 0 });
            log.flush();
        }
        let long = [b'x'; LONGEST];
        log.take(Line { stream: Stream::Stdout, bytes: &long, ends: true, time: 0 });
        let unkept = log.unkept().unwrap();
        assert_eq!((unkept.lines, unkept.bytes), (6, 20 + LONGEST as u64));
        assert_eq!(log.kind.forget(), (0, 0), "nothing is left that would be written later");
    }
}
