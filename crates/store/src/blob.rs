//! Blobs: files that are called by the digest of their bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;

use sha2::{Digest as _, Sha256};

use crate::arrived::{Arrived, Part};
use crate::error::{Doing as _, Error, Result};
use crate::{Digest, Lease, Store};

/// The longest document that is read into memory: registries refuse manifests of more than 4 MiB.
pub(crate) const DOCUMENT: u64 = 8 * 1024 * 1024;

impl Store {
    /// Opens a blob, such as a layer's archive. Its bytes are not checked.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.places.blob(digest);
        File::open(&path).doing(|| format!("open blob {digest}"))
    }

    /// Reads a blob that is a document, such as a manifest, and checks it.
    ///
    /// # Errors
    /// [`Error::Damaged`] when its bytes have another digest, or are more than 8 MiB.
    pub fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_blob(digest)?
            .take(DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .doing(|| format!("read blob {digest}"))?;
        let damaged = |reason: String| Err(Error::Damaged { subject: format!("blob {digest}"), reason });
        if bytes.len() as u64 > DOCUMENT {
            return damaged(format!("it is longer than {DOCUMENT} bytes, which no document is"));
        }
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => damaged(format!("its bytes have the digest {found}; pull or load the image again")),
        }
    }
}

impl<'s> Lease<'s> {
    /// Begins a blob, which is written and then finished; until then it has no name, and dropped it is gone.
    ///
    /// # Errors
    /// As open(2).
    pub fn blob(&self) -> Result<BlobWriter<'_, 's>> {
        let path = self.place();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .doing(|| format!("make {}", path.display()))?;
        Ok(BlobWriter { lease: self, file, part: Part(path), hash: Sha256::new(), size: 0 })
    }

    /// Keeps a document, such as a manifest; it has its name once it is settled.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub fn document(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has_blob(&digest)?.is_none() {
            let mut writer = self.blob()?;
            writer.write_all(bytes).doing(|| format!("write blob {digest}"))?;
            self.arrive([writer.arrived(digest, None)])?;
        }
        Ok(digest)
    }

    /// Opens a blob of this lease, which may have no name yet.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File> {
        match self.arrived_blob(digest) {
            Some((_, _, path)) => File::open(path).doing(|| format!("open blob {digest}")),
            None => self.store.open_blob(digest),
        }
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub struct BlobWriter<'l, 's> {
    lease: &'l Lease<'s>,
    file: File,
    part: Part,
    hash: Sha256,
    size: u64,
}

impl BlobWriter<'_, '_> {
    /// Returns how many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Settles the blob, and whatever else has arrived; returns its digest and size.
    ///
    /// # Errors
    /// [`Error::WrongDigest`] when it is not what was expected, and then it is gone; as [`Lease::settle`].
    pub fn finish(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = self.digest(expected)?;
        let (lease, size) = (self.lease, self.size);
        lease.arrive([self.arrived(digest, None)])?;
        lease.settle()?;
        Ok((digest, size))
    }

    /// Tells the digest of what was written.
    pub(crate) fn digest(&self, expected: Option<&Digest>) -> Result<Digest> {
        let found = Digest::from(self.hash.clone());
        match expected {
            Some(expected) if *expected != found => {
                Err(Error::WrongDigest { subject: "blob".to_owned(), expected: *expected, found })
            }
            _ => Ok(found),
        }
    }

    /// The blob, as one that waits for its name.
    pub(crate) fn arrived(self, digest: Digest, diff_id: Option<Digest>) -> Arrived {
        Arrived::Blob { part: self.part, digest, size: self.size, diff_id }
    }
}

impl Write for BlobWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
