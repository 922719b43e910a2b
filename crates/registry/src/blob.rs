//! A blob as it comes: checked while it streams, and continued where a connection ended.
//!
//! ```text
//! GET blob ──► 200, bytes 0…n ──✂ connection ends
//!              pause ── GET Range: bytes=n- ──► 206, bytes n…  (or 200, whose first n bytes are skipped)
//!              next place, where this one has it no more
//!                                             ──► end: size and digest are those that were promised, or an error
//! ```
//! Whoever reads must not use what he read before he saw the end.

use std::fmt;
use std::io::{self, Read};

use bulkhead_image::Digest;
use sha2::{Digest as _, Sha256};
use ureq::http::{Method, header};

use crate::client::{Call, Client, Target, failed, scopes};
use crate::error::{Error, Result};
use crate::http::{self, Payload};
use crate::manifest::Descriptor;
use crate::registries::Endpoint;
use crate::resolve::Resolved;

/// A blob as it comes from a registry. The last `read` fails if the bytes are not those that were promised.
pub struct Blob {
    client: Client,
    places: Vec<Endpoint>,
    descriptor: Descriptor,
    /// Nothing where the reader checks.
    hasher: Option<Sha256>,
    offset: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Failures since bytes came last.
    failures: u32,
    ended: bool,
}

impl Client {
    /// Opens a blob of an image, at the place where the image was found, else where it may be, too.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Denied`] and those of the network; errors of reading are [`Error`]s in
    /// [`io::Error`]s ([`Error::of`]).
    pub fn blob(&self, image: &Resolved, descriptor: &Descriptor) -> Result<Blob> {
        let mut blob = self.blob_unchecked(image, descriptor)?;
        blob.hasher = Some(Sha256::new());
        Ok(blob)
    }

    /// The same for a reader that compares the digest itself; the size is checked here.
    ///
    /// # Errors
    /// As [`Self::blob`].
    pub fn blob_unchecked(&self, image: &Resolved, descriptor: &Descriptor) -> Result<Blob> {
        let mut blob = Blob {
            client: self.clone(),
            places: image.places.clone(),
            descriptor: descriptor.clone(),
            hasher: None,
            offset: 0,
            body: None,
            failures: 0,
            ended: false,
        };
        blob.open()?;
        Ok(blob)
    }
}

impl Blob {
    /// Opens what is left, where it is to be had.
    fn open(&mut self) -> Result<()> {
        while let Some(place) = self.places.first() {
            let error = match self.request(place) {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.fail(error)?;
        }
        Err(self.missing(""))
    }

    /// Waits before another try, or goes on at the next place, if there is one, where this one has failed too often.
    fn fail(&mut self, error: Error) -> Result<()> {
        match self.client.pause(error, self.failures) {
            Ok(failures) => self.failures = failures,
            Err(_) if self.places.len() > 1 => {
                self.places.remove(0);
                self.failures = 0;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn request(&self, place: &Endpoint) -> Result<Box<dyn Read + Send>> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        let path = format!("{}/blobs/{digest}", place.repository);
        let range = (self.offset > 0).then(|| (header::RANGE, format!("bytes={}-", self.offset)));
        let headers = Vec::from_iter(range);
        let scopes = scopes(&place.repository, "pull");
        let target = Target::Path(&path);
        let call = Call { place, scopes: &scopes, method: Method::GET, target, headers: &headers };
        let response = self.client.call(&call, &mut || Payload::None)?;
        let host = response.host.clone();
        let start = match response.status {
            200 => 0,
            206 if self.offset > 0 => {
                let range = response.header(header::CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", self.offset)) {
                    let reason = format!("asked for bytes from {}, it sends {range:?}", self.offset);
                    return Err(Error::Protocol { host, reason });
                }
                self.offset
            }
            404 => return Err(self.missing(&place.host)),
            _ => return Err(failed(response, &format!("{}/{}", place.host, place.repository))),
        };
        if let Some(length) = response.length().filter(|length| start.saturating_add(*length) != *size) {
            let actual = start.saturating_add(length);
            return Err(Error::Size { what: format!("blob {digest}"), host, expected: *size, actual });
        }
        let mut body: Box<dyn Read + Send> = Box::new(response.into_reader());
        if start < self.offset {
            let skipped = io::copy(&mut body.by_ref().take(self.offset), &mut io::sink());
            let skipped = skipped.map_err(|error| http::of_io(&host, error))?;
            if skipped < self.offset {
                return Err(self.broken_off(&host));
            }
        }
        Ok(body)
    }

    /// Reads from the connection, another one if this one ends too early.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let body = match &mut self.body {
                Some(body) => body,
                None => {
                    self.open()?;
                    continue;
                }
            };
            let host = self.places.first().map_or("", |place| place.host.as_str());
            let error = match body.read(buffer) {
                Ok(0) => self.broken_off(host),
                Ok(count) => {
                    self.failures = 0;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => http::of_io(host, error),
            };
            self.body = None;
            // Whatever ended a body that had begun well is worth another try.
            let error = match error {
                Error::Protocol { host, reason } => Error::Network { host, source: io::Error::other(reason) },
                other => other,
            };
            self.fail(error)?;
        }
    }

    /// Compares what came with what was promised.
    fn end(&mut self) -> Result<()> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        let what = format!("blob {digest}");
        let host = self.places.first().map_or("", |place| place.host.as_str()).to_owned();
        // Reading to the end gives the connection back.
        let more = self.body.take().map(|mut body| body.read(&mut [0]));
        if let Some(Ok(1..)) = more {
            return Err(Error::Size { what, host, expected: *size, actual: size + 1 });
        }
        match self.hasher.take().map(Digest::from) {
            Some(actual) if actual != *digest => {
                Err(Error::Content { what, host, expected: *digest, actual })
            }
            _ => Ok(()),
        }
    }

    fn missing(&self, host: &str) -> Error {
        let place = self.places.first();
        let repository = place.map_or_else(String::new, |place| place.repository.clone());
        Error::NoBlob { host: host.to_owned(), repository, digest: self.descriptor.digest }
    }

    fn broken_off(&self, host: &str) -> Error {
        let Descriptor { digest, size, .. } = &self.descriptor;
        let reason = format!("blob {digest} ends after {} of {size} bytes", self.offset);
        Error::Network { host: host.to_owned(), source: io::Error::new(io::ErrorKind::UnexpectedEof, reason) }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ended {
            return Ok(0);
        }
        let left = self.descriptor.size - self.offset;
        if left == 0 {
            self.end()?;
            self.ended = true;
            return Ok(0);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.next(&mut buffer[..most])?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        self.offset += count as u64;
        Ok(count)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Blob");
        shown.field("descriptor", &self.descriptor).field("offset", &self.offset).finish_non_exhaustive()
    }
}
