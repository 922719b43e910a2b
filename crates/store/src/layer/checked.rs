//! Bytes that are compared with their digest while they pass.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::Error;
use crate::Digest;

/// A reader of a blob that fails at its end, unless it was what it should be.
///
/// Whoever reads to the end has the right bytes; who stops before knows nothing. A blob that is longer than it should
/// be fails as soon as that is seen.
pub struct Checked<R> {
    source: R,
    hash: Option<Sha256>,
    expected: Digest,
    size: Option<u64>,
    passed: u64,
}

impl<R: Read> Checked<R> {
    /// Expects bytes of this digest, and of this size if it is known.
    pub fn new(source: R, digest: Digest, size: Option<u64>) -> Self {
        Self { source, hash: Some(Sha256::new()), expected: digest, size, passed: 0 }
    }

    /// Compares what has passed with what was expected.
    fn judge(&mut self) -> io::Result<()> {
        if let Some(expected) = self.size.filter(|size| *size != self.passed) {
            return Err(Error::WrongSize { expected, found: self.passed }.into());
        }
        // At a second end there is nothing to be said.
        let Some(hash) = self.hash.take() else { return Ok(()) };
        let found = Digest::from(hash);
        if found != self.expected {
            return Err(Error::WrongDigest { subject: "blob", expected: self.expected, found }.into());
        }
        Ok(())
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        if length == 0 && !buffer.is_empty() {
            self.judge()?;
            return Ok(0);
        }
        self.passed += length as u64;
        if let Some(expected) = self.size.filter(|size| self.passed > *size) {
            return Err(Error::WrongSize { expected, found: self.passed }.into());
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..length]);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], digest: Digest, size: Option<u64>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut checked = Checked::new(bytes, digest, size);
        checked.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    #[test]
    fn only_the_expected_bytes_have_an_end() {
        let digest = Digest::of(b"blob");
        assert_eq!(read(b"blob", digest, Some(4)).unwrap(), b"blob");
        assert_eq!(read(b"blob", digest, None).unwrap(), b"blob");
        for (bytes, size, sentence) in [
            (
                &b"blub"[..],
                Some(4),
                format!("the blob has digest {} instead of {digest}", Digest::of(b"blub")),
            ),
            (b"blob", Some(5), "the blob has only 4 bytes instead of 5".to_owned()),
            (b"blobs", Some(4), "the blob has at least 5 bytes instead of 4".to_owned()),
            (b"", Some(4), "the blob has only 0 bytes instead of 4".to_owned()),
        ] {
            assert_eq!(read(bytes, digest, size).unwrap_err(), sentence, "for {bytes:?}");
        }
    }
}
