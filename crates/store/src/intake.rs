//! A layer arrives: its archive becomes a blob and a tree at once.
//!
//! ```text
//! this thread:  read ─┬─ (compress) ─ digest ─► ingest/LEASE-n         the blob
//!                     └─► [pieces] ─► unpack ─► ingest/LEASE-m/        the tree, by two more threads
//! then: compare digests ─ wait for the name (`arrived.rs`)
//! ```
//! An archive that comes uncompressed is kept compressed, quickly: then what is saved and what is pushed agree, and the
//! disk holds less.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::write::GzEncoder;
use rusqlite::OptionalExtension as _;
use sha2::{Digest as _, Sha256};

use crate::arrived::Arrived;
use crate::blob::BlobWriter;
use crate::error::{Doing as _, Error, Result};
use crate::layer::archive::Whole;
use crate::layer::{self, Compression, Decoder, Owner, Owners, Unpack};
use crate::{Digest, Layer, Lease, trash, tree};

/// How much is handed from one thread to another at once, and how often before one waits.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;

/// What is known of a layer before it arrives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// What it is called in errors, such as the digest in a manifest or an archive's entry.
    pub subject: String,
    /// The digest of the bytes that arrive.
    pub blob: Option<Digest>,
    /// Their number.
    pub size: Option<u64>,
    /// The digest of the uncompressed archive.
    pub diff_id: Option<Digest>,
}

impl Lease<'_> {
    /// Takes a layer in: keeps its archive as a blob, and unpacks it unless that is done already. Both have their names once
    /// they are settled. The archive may be plain, gzip or zstd, and is read to its end.
    ///
    /// # Errors
    /// [`Error::Layer`] for an archive that is damaged or refused; [`Error::WrongDigest`]; [`Error::Invalid`] for a wrong
    /// size. Nothing of it is kept then.
    pub fn layer(&self, expected: &Expected, archive: &mut dyn Read) -> Result<Layer> {
        let known = expected.diff_id.map(|diff_id| self.has_layer(&diff_id)).transpose()?.flatten();
        let tree = match known {
            Some(_) => None,
            None => Some(TreeBeingMade::new(self)?),
        };
        let arrived = thread::scope(|scope| {
            let (pieces, arriving) = sync_channel(PIECES);
            let into = tree.as_ref().map(|tree| tree.path.as_path());
            let unpacking = thread::Builder::new()
                .name("unpack".to_owned())
                .spawn_scoped(scope, move || unpack(Arriving::new(arriving), into, expected))
                .doing(|| "start a thread")?;
            let pumped = self.pump(expected, archive, &pieces);
            // That is the end, for whoever unpacks.
            drop(pieces);
            let unpacked = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (pumped, unpacked) {
                // Whoever unpacks says what is wrong with the archive; a pump that was left alone says nothing.
                (Ok(_) | Err(Pumping::Alone), Err(error)) | (Err(Pumping::Failed(error)), _) => Err(error),
                (Err(Pumping::Alone), Ok(_)) => Err(expected.wrong("ends before its end")),
                (Ok(sink), Ok(unpacked)) => Ok((sink, unpacked)),
            }
        });
        let (sink, Unpacked { diff_id, size, entries }) = arrived?;
        let (blob, blob_size, archive) = sink.finish(expected, &diff_id)?;
        let (size, tree) = match tree {
            Some(tree) => {
                let summary = tree::summary(tree.open()?.as_fd())?;
                (size, Some(Arrived::Tree { tree, diff_id, size, entries, summary }))
            }
            None => (known.unwrap_or(size), None),
        };
        self.arrive(archive.into_iter().chain(tree))?;
        Ok(Layer { diff_id, blob, blob_size, size })
    }

    /// Takes in a layer that somebody writes, such as the changes of a container: [`Lease::layer`] for a writer.
    ///
    /// # Errors
    /// What `write` returns first; as [`Lease::layer`].
    pub fn layer_written(
        &self,
        subject: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    ) -> Result<Layer> {
        let (mut reader, mut writer) = io::pipe().doing(|| "make a pipe")?;
        thread::scope(|scope| {
            let writing = thread::Builder::new()
                .name("pack".to_owned())
                .spawn_scoped(scope, move || write(&mut writer))
                .doing(|| "start a thread")?;
            let expected = Expected { subject: subject.to_owned(), ..Expected::default() };
            let taken = self.layer(&expected, &mut reader);
            drop(reader);
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (written, taken) {
                (Err(error), Err(taken)) if error.kind() == io::ErrorKind::BrokenPipe => Err(taken),
                (Err(error), _) => Err(error).doing(|| format!("pack {subject}")),
                (Ok(()), taken) => taken,
            }
        })
    }

    /// Reads the archive, and hands it to the blob and to whoever unpacks.
    fn pump<'l>(
        &'l self,
        expected: &Expected,
        archive: &mut dyn Read,
        pieces: &SyncSender<Vec<u8>>,
    ) -> std::result::Result<Sink<'l>, Pumping> {
        let doing = || format!("read {}", expected.subject);
        let mut begun: Option<Sink<'_>> = None;
        let mut passed = 0;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = archive
                .take(PIECE as u64)
                .read_to_end(&mut piece)
                .map_err(|source| from_read(source, doing()));
            let length = read.map_err(Pumping::Failed)?;
            passed += length as u64;
            if let Some(size) = expected.size.filter(|size| passed > *size || (length == 0 && passed < *size))
            {
                let more = if passed > size { "more" } else { "fewer" };
                return Err(Pumping::Failed(expected.wrong(&format!("has {more} than {size} bytes"))));
            }
            let sink = match &mut begun {
                Some(sink) => sink,
                None => begun.insert(Sink::begin(self, expected, &piece).map_err(Pumping::Failed)?),
            };
            if length == 0 {
                break;
            }
            sink.write(&piece).map_err(Pumping::Failed)?;
            if pieces.send(piece).is_err() {
                return Err(Pumping::Alone);
            }
        }
        begun.ok_or(Pumping::Alone)
    }

    /// Claims a layer by its diff id, if both its tree and a blob of its archive are there.
    ///
    /// # Errors
    /// As the database.
    pub fn has(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let Some(size) = self.has_layer(diff_id)? else { return Ok(None) };
        if let Some((blob, blob_size)) = self.arrived_archive(diff_id) {
            return Ok(Some(Layer { diff_id: *diff_id, blob, blob_size, size }));
        }
        let blob: Option<String> = self.store.database.read(|db| {
            db.prepare_cached("SELECT digest FROM blobs WHERE diff_id = ? AND NOT damaged LIMIT 1")
                .and_then(|mut statement| {
                    statement.query_row([diff_id.to_string()], |row| row.get(0)).optional()
                })
                .doing(|| format!("look for a blob of layer {diff_id}"))
        })?;
        let Some(blob) = blob.map(|blob| Digest::parse(&blob)).transpose()? else { return Ok(None) };
        // Somebody may have taken it away meanwhile.
        let found = self.has_blob(&blob)?.filter(|(_, of)| of.as_ref() == Some(diff_id));
        Ok(found.map(|(blob_size, _)| Layer { diff_id: *diff_id, blob, blob_size, size }))
    }
}

impl Expected {
    pub(crate) fn wrong(&self, reason: &str) -> Error {
        Error::Invalid { subject: self.subject.clone(), reason: reason.to_owned() }
    }
}

/// Why the pump stopped.
enum Pumping {
    /// Nobody takes the pieces any more.
    Alone,
    Failed(Error),
}

/// The blob, as it is written.
enum Sink<'l> {
    /// The bytes as they came.
    Kept(BlobWriter<'l, 'l>),
    /// They came plain.
    Compressed(Box<GzEncoder<BlobWriter<'l, 'l>>>),
    /// They came plain, and there is a blob of them already.
    Known(Layer),
}

impl<'l> Sink<'l> {
    fn begin(lease: &'l Lease<'_>, expected: &Expected, start: &[u8]) -> Result<Self> {
        let compression = Compression::of(start).map_err(|source| expected.refused(source))?;
        let known = match expected.diff_id {
            Some(diff_id) if compression == Compression::None => lease.has(&diff_id)?,
            _ => None,
        };
        Ok(match (compression, known) {
            (Compression::None, Some(layer)) => Self::Known(layer),
            (Compression::None, None) => {
                let encoder = GzEncoder::new(lease.blob()?, flate2::Compression::fast());
                Self::Compressed(Box::new(encoder))
            }
            (Compression::Gzip | Compression::Zstd, _) => Self::Kept(lease.blob()?),
        })
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        match self {
            Self::Kept(writer) => writer.write_all(piece),
            Self::Compressed(writer) => writer.write_all(piece),
            Self::Known(_) => Ok(()),
        }
        .doing(|| "write a blob")
    }

    /// Ends the blob, and compares the digest of what arrived; returns the blob's digest and size, and itself if it is new.
    fn finish(self, expected: &Expected, diff_id: &Digest) -> Result<(Digest, u64, Option<Arrived>)> {
        // What came plain has its diff id as digest.
        let compare = |found: Digest| match expected.blob {
            Some(expected_digest) if expected_digest != found => Err(Error::WrongDigest {
                subject: expected.subject.clone(),
                expected: expected_digest,
                found,
            }),
            _ => Ok(()),
        };
        let end = |writer: BlobWriter<'_, '_>, digest| {
            (digest, writer.size(), Some(writer.arrived(digest, Some(*diff_id))))
        };
        match self {
            Self::Kept(writer) => {
                let digest = writer.digest(None)?;
                compare(digest)?;
                Ok(end(writer, digest))
            }
            Self::Compressed(encoder) => {
                compare(*diff_id)?;
                let writer = encoder.finish().doing(|| "write a blob")?;
                let digest = writer.digest(None)?;
                Ok(end(writer, digest))
            }
            Self::Known(layer) => {
                compare(*diff_id)?;
                Ok((layer.blob, layer.blob_size, None))
            }
        }
    }
}

/// What is known of a layer whose archive was read to its end.
struct Unpacked {
    diff_id: Digest,
    size: u64,
    entries: u64,
}

/// Unpacks what arrives, or only finds out its diff id.
fn unpack(arriving: Arriving, into: Option<&Path>, expected: &Expected) -> Result<Unpacked> {
    let known = match into {
        Some(path) => {
            let directory = File::open(path).doing(|| format!("open {}", path.display()))?;
            // umoci ends an archive with its last file: it is whole if it has the size or digest that somebody told.
            let is_told = expected.blob.is_some() || expected.size.is_some();
            let whole = if is_told { Whole::Known } else { Whole::Marked };
            let how = Unpack { diff_id: expected.diff_id, whole, ..unpack_as()? };
            let unpacked = layer::unpack(arriving, directory.as_fd(), &how)
                .map_err(|source| expected.refused(source))?;
            Unpacked { diff_id: unpacked.diff_id, size: unpacked.size, entries: unpacked.entries }
        }
        None => Unpacked { diff_id: plain_digest(arriving, expected)?, size: 0, entries: 0 },
    };
    match expected.diff_id {
        Some(diff_id) if diff_id != known.diff_id => {
            let subject = format!("uncompressed, {}", expected.subject);
            Err(Error::WrongDigest { subject, expected: diff_id, found: known.diff_id })
        }
        _ => Ok(known),
    }
}

/// Chooses how layers are unpacked for this user: with the owners that they tell if that is possible at all.
pub(crate) fn unpack_as() -> Result<Unpack<'static>> {
    let is_root = rustix::process::geteuid().is_root();
    let initial = bulkhead_sys::namespace::is_initial_user();
    let initial = initial
        .map_err(|error| Error::Io { doing: "look at the user namespace".into(), source: error.into() })?;
    let marks = if is_root && initial { layer::Marks::Trusted } else { layer::Marks::User };
    let owners = match (is_root, initial) {
        (true, true) => Owners::Kept,
        (true, false) => Owners::Mapped(&in_user_namespace),
        (false, _) => Owners::Caller,
    };
    Ok(Unpack { owners, ..Unpack::layer(marks) })
}

/// Tells an owner who is in the user namespace of this process; others cannot own anything there.
fn in_user_namespace(owner: Owner) -> Option<Owner> {
    static MAPS: OnceLock<[Vec<Range<u64>>; 2]> = OnceLock::new();
    let read = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
            let (first, count) = (numbers.next()?, numbers.nth(1)?);
            Some(first..first + count)
        };
        text.lines().filter_map(range).collect()
    };
    let [users, groups] = MAPS.get_or_init(|| ["/proc/self/uid_map", "/proc/self/gid_map"].map(read));
    let has = |maps: &[Range<u64>], id: u32| maps.iter().any(|range| range.contains(&u64::from(id)));
    (has(users, owner.user) && has(groups, owner.group)).then_some(owner)
}

fn plain_digest(arriving: Arriving, expected: &Expected) -> Result<Digest> {
    let mut decoder = Decoder::new(BufReader::new(arriving)).map_err(|source| expected.refused(source))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return Ok(Digest::from(hash)),
            Ok(length) => hash.update(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(from_read(error, format!("read {}", expected.subject))),
        }
    }
}

impl Expected {
    fn refused(&self, source: layer::Error) -> Error {
        Error::Layer { doing: format!("unpack {}", self.subject), source }
    }
}

/// Takes an error of ours out of the reader's, which may carry one.
fn from_read(source: io::Error, doing: String) -> Error {
    match source.downcast::<Error>() {
        Ok(ours) => ours,
        Err(source) => match source.downcast::<layer::Error>() {
            Ok(source) => Error::Layer { doing, source },
            Err(source) => Error::Io { doing, source },
        },
    }
}

/// The pieces as a stream.
struct Arriving {
    pieces: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    used: usize,
}

impl Arriving {
    fn new(pieces: Receiver<Vec<u8>>) -> Self {
        Self { pieces, piece: Vec::new(), used: 0 }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            // Nobody sends any more: that is the end.
            self.piece = self.pieces.recv().unwrap_or_default();
            self.used = 0;
        }
        let length = (&self.piece[self.used..]).read(buffer)?;
        self.used += length;
        Ok(length)
    }
}

/// A tree that is being unpacked, which goes unless it gets a name.
#[derive(Debug)]
pub(crate) struct TreeBeingMade {
    pub(crate) path: PathBuf,
}

impl TreeBeingMade {
    pub(crate) fn new(lease: &Lease<'_>) -> Result<Self> {
        let path = lease.place();
        DirBuilder::new().mode(0o755).create(&path).doing(|| format!("make {}", path.display()))?;
        // Whatever the umask is, a container's root is open to its users.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .doing(|| format!("open {} to a container's users", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn open(&self) -> Result<File> {
        File::open(&self.path).doing(|| format!("open {}", self.path.display()))
    }
}

impl Drop for TreeBeingMade {
    fn drop(&mut self) {
        // It has been renamed, or it is to go; what cannot be removed is left to the next collection.
        let _ = trash::empty(&self.path);
    }
}
