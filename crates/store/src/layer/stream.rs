//! The archive as it comes out of its compression, made by one thread and used by another.
//!
//! ```text
//! feeder:   read ─ count ─ decompress ─ count ─ digest ─► [256 KiB] ─►  user: parse, write files
//!                                                    ◄──── empty ◄────
//! ```
//! Decompressing and digesting take about as long as writing the files; beside each other they take half. The buffers
//! go round, so that memory stays the same however large a layer is.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use sha2::{Digest as _, Sha256};

use super::{Compression, Decoder, Error, Limits, Result};
use crate::Digest;

/// The size of a buffer: large enough that handing it over costs nothing, small enough to stay in a cache.
const BUFFER: usize = 256 * 1024;

/// How many there are.
const BUFFERS: usize = 4;

/// How much is read of the compressed stream at once.
const INPUT: usize = 128 * 1024;

/// What the feeder knows when all has passed.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) compression: Compression,
}

/// The thread that feeds a [`Stream`].
pub(super) struct Feeder<'scope>(ScopedJoinHandle<'scope, Result<Passed>>);

/// Starts the feeder.
///
/// # Errors
/// [`Error::Read`] when there can be no thread.
pub(super) fn start<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: R,
    limits: Limits,
) -> Result<(Feeder<'scope>, Stream)> {
    let (full, filled) = sync_channel(BUFFERS);
    let (empty, emptied) = channel();
    for _ in 0..BUFFERS {
        // The receiver is two lines away: it is there.
        let _ = empty.send(Vec::new());
    }
    let thread = Builder::new().name("layer".to_owned());
    let thread =
        thread.spawn_scoped(scope, move || feed(source, &limits, &full, &emptied)).map_err(Error::Read)?;
    Ok((Feeder(thread), Stream { filled, empty, buffer: Vec::new(), used: 0 }))
}

impl Feeder<'_> {
    /// Waits for the end. The [`Stream`] must have been read to its end, or dropped.
    pub(super) fn join(self) -> Result<Passed> {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn feed<R: Read>(
    source: R,
    limits: &Limits,
    full: &SyncSender<Vec<u8>>,
    emptied: &Receiver<Vec<u8>>,
) -> Result<Passed> {
    let counted = Counted { source, passed: 0 };
    let mut decoder = Decoder::new(BufReader::with_capacity(INPUT, counted))?;
    let compression = decoder.compression();
    let mut hash = Sha256::new();
    let mut length = 0;
    // Nobody gives buffers back any more when the user has given up: then the reason is its.
    while let Ok(mut buffer) = emptied.recv() {
        buffer.resize(BUFFER, 0);
        let filled = fill(&mut decoder, &mut buffer)?;
        buffer.truncate(filled);
        length += filled as u64;
        limits.check_stream(length, decoder.passed())?;
        hash.update(&buffer);
        if filled == 0 || full.send(buffer).is_err() {
            break;
        }
    }
    Ok(Passed { digest: Digest::from(hash), length, compression })
}

fn fill<R: BufRead>(decoder: &mut Decoder<R>, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match decoder.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from_read(error)),
        }
    }
    Ok(filled)
}

/// Counts what is read of the compressed stream.
struct Counted<R> {
    source: R,
    passed: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.passed += length as u64;
        Ok(length)
    }
}

impl<R: Read> Decoder<BufReader<Counted<R>>> {
    fn passed(&self) -> u64 {
        let source = match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        };
        source.get_ref().passed
    }
}

/// The uncompressed archive.
///
/// Its end is also where the feeder failed: only what [`Feeder::join`] returns tells that all went well.
#[derive(Debug)]
pub(super) struct Stream {
    filled: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    used: usize,
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            let next = self.filled.recv().unwrap_or_default();
            let spent = std::mem::replace(&mut self.buffer, next);
            self.used = 0;
            if spent.capacity() > 0 {
                // The feeder may have ended already.
                let _ = self.empty.send(spent);
            }
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, length: usize) {
        self.used = (self.used + length).min(self.buffer.len());
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
