//! A directory with an OCI layout, or with what an archive of docker had.
//!
//! Its files are opened when a document names them, and never outside of it, whatever links it has.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bulkhead_sys::path::open_in_root;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Guess, Progress, Source, Watcher, guess, plain_path, refused, told_digest};
use crate::blob::DOCUMENT;
use crate::error::{Doing as _, Error, Result};
use crate::{Digest, Expected, Layer, Lease};

/// A directory that is loaded from.
pub(super) struct Directory<'l, 's, 'w> {
    lease: &'l Lease<'s>,
    root: File,
    watcher: Watcher<'w>,
}

impl<'l, 's, 'w> Directory<'l, 's, 'w> {
    pub(super) fn new(lease: &'l Lease<'s>, root: File, watcher: Watcher<'w>) -> Self {
        Self { lease, root, watcher }
    }

    /// Opens a regular file, if there is one of that path.
    fn open(&self, path: &str) -> Result<Option<(File, u64)>> {
        let Some(path) = plain_path(path)? else { return Ok(None) };
        // A fifo must not be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open_in_root(&self.root, Path::new(&path), flags) {
            Err(error) if error.errno() == Errno::NOENT => return Ok(None),
            Err(error) => return Err(Error::Io { doing: format!("open {path}"), source: error.into() }),
            Ok(file) => File::from(file),
        };
        let metadata = file.metadata().doing(|| format!("look at {path}"))?;
        if !metadata.is_file() {
            return Err(refused(&path, "is no regular file"));
        }
        Ok(Some((file, metadata.len())))
    }
}

impl Source for Directory<'_, '_, '_> {
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some((file, size)) = self.open(path)? else { return Ok(None) };
        if size > DOCUMENT {
            return Err(refused(
                path,
                &format!("has {size} bytes, and no document has more than {DOCUMENT}"),
            ));
        }
        let mut bytes = Vec::new();
        file.take(DOCUMENT + 1).read_to_end(&mut bytes).doing(|| format!("read {path}"))?;
        match told_digest(path).filter(|told| *told != Digest::of(&bytes)) {
            Some(expected) => {
                Err(Error::WrongDigest { subject: path.to_owned(), expected, found: Digest::of(&bytes) })
            }
            None => Ok(Some(bytes)),
        }
    }

    fn layer(&mut self, path: &str, expected: &Expected) -> Result<Option<Layer>> {
        if let (Some(blob), Some(diff_id)) = (expected.blob, expected.diff_id)
            && let Some((blob_size, of)) = self.lease.has_blob(&blob)?
            && of == Some(diff_id)
            && let Some(size) = self.lease.has_layer(&diff_id)?
        {
            return Ok(Some(Layer { diff_id, blob, blob_size, size }));
        }
        let Some((mut file, size)) = self.open(path)? else { return Ok(None) };
        let mut start = Vec::new();
        (&mut file).take(512).read_to_end(&mut start).doing(|| format!("read {path}"))?;
        if guess(path, &start, size) != Guess::Layer {
            return Ok(None);
        }
        let expected = Expected { blob: expected.blob.or(told_digest(path)), ..expected.clone() };
        let data = Data { file, part: path, size, done: start.len() as u64, watcher: &mut *self.watcher };
        self.lease.layer(&expected, &mut (&start[..]).chain(data)).map(Some)
    }
}

/// The bytes of a file.
struct Data<'a, 'w> {
    file: File,
    part: &'a str,
    size: u64,
    done: u64,
    watcher: Watcher<'w>,
}

impl Read for Data<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.done += length as u64;
        (self.watcher)(Progress { part: self.part, done: self.done, size: self.size });
        Ok(length)
    }
}
