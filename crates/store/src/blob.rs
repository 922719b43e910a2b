//! Blobs: files that are called by the digest of their bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rusqlite::{Transaction, params};
use sha2::{Digest as _, Sha256};

use crate::error::{Doing as _, Error, Result};
use crate::lease::{self, Kind};
use crate::{Digest, Durability, Lease, Store};

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
        Ok(BlobWriter { lease: self, file, path, hash: Sha256::new(), size: 0 })
    }

    /// Keeps a document, such as a manifest.
    ///
    /// # Errors
    /// As [`BlobWriter::finish`].
    pub fn document(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has_blob(&digest)?.is_none() {
            let mut writer = self.blob()?;
            writer.write_all(bytes).doing(|| format!("write blob {digest}"))?;
            writer.finish(Some(&digest))?;
        }
        Ok(digest)
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub struct BlobWriter<'l, 's> {
    lease: &'l Lease<'s>,
    file: File,
    path: PathBuf,
    hash: Sha256,
    size: u64,
}

impl BlobWriter<'_, '_> {
    /// Returns how many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Syncs, names, records and claims the blob; returns its digest and size.
    ///
    /// # Errors
    /// [`Error::WrongDigest`] when it is not what was expected, and then it is gone; as fsync(2) and the database.
    pub fn finish(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = self.digest(expected)?;
        self.file.sync_all().doing(|| format!("sync blob {digest}"))?;
        let store = self.lease.store;
        store.database.write(Durability::PowerLoss, |db| self.publish(db, &digest, None))?;
        Ok((digest, self.size))
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

    /// Names, records and claims the blob, which was synced.
    pub(crate) fn publish(
        &self,
        db: &Transaction<'_>,
        digest: &Digest,
        diff_id: Option<&Digest>,
    ) -> Result<()> {
        let store = self.lease.store;
        let name = store.places.blob(digest);
        let known = lease::blob_row(db, digest)?.filter(|_| name.exists());
        if known.is_none() {
            lease::publish(store, db, &self.path, &name)?;
        }
        let diff_id =
            diff_id.or(known.as_ref().and_then(|(_, diff_id)| diff_id.as_ref())).map(Digest::to_string);
        db.prepare_cached(
            "INSERT INTO blobs VALUES (?1, ?2, ?3, 0)
            ON CONFLICT DO UPDATE SET size = ?2, diff_id = ?3, damaged = 0",
        )
        .and_then(|mut statement| statement.execute(params![digest.to_string(), self.size, diff_id]))
        .doing(|| format!("record blob {digest}"))?;
        self.lease.claim(db, Kind::Blob, digest)
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

impl Drop for BlobWriter<'_, '_> {
    fn drop(&mut self) {
        // It has been renamed, or it is to go; what cannot be removed is left to the next collection.
        let _ = fs::remove_file(&self.path);
    }
}
