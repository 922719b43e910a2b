//! Blobs: files that are called by the digest of their bytes.

use std::fs::File;
use std::io::Read as _;

use crate::error::{Doing as _, Error, Result};
use crate::{Digest, Store};

/// The longest document that is read into memory: registries refuse manifests of more than 4 MiB.
const SMALL: u64 = 8 * 1024 * 1024;

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
            .take(SMALL + 1)
            .read_to_end(&mut bytes)
            .doing(|| format!("read blob {digest}"))?;
        let damaged = |reason: String| Err(Error::Damaged { subject: format!("blob {digest}"), reason });
        if bytes.len() as u64 > SMALL {
            return damaged(format!("it is longer than {SMALL} bytes, which no document is"));
        }
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => damaged(format!("its bytes have the digest {found}; pull or load the image again")),
        }
    }
}
