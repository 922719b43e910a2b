//! Pushing: blobs that the registry has not got, then the manifest that names them.
//!
//! ```text
//! HEAD blob ── 200 ─► it is there
//!     │ 404
//! POST uploads/?mount=DIGEST&from=REPOSITORY ── 201 ─► mounted: another repository of the registry had it
//!     │ 202, Location
//!     ├─ small: PUT Location?digest=DIGEST with all bytes ── 201
//!     └─ large: PATCH Location with a part ── 202, Location, Range; … PUT Location?digest=DIGEST ── 201
//! ```
//! A part that did not arrive is sent again, from where the registry says that it has got.

use std::fmt;
use std::io::{self, Read};

use bulkhead_image::{Digest, Name};
use ureq::http::{HeaderName, Method, Uri, header};

use crate::client::{Call, Client, Target, failed, scopes};
use crate::error::{Error, Result};
use crate::http::{self, Payload, Response};
use crate::keys::Scopes;
use crate::manifest::Descriptor;
use crate::registries::Endpoint;

/// Blobs up to this size are sent in one request, and greater ones in parts of it, in bytes. Services in front of
/// registries take requests of up to 100 MB.
const PART: u64 = 64 << 20;

/// Opens what is pushed, from an offset on.
pub type Opener<'a> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send + 'a>> + Sync + 'a;

/// A repository that is pushed to.
pub struct Push {
    client: Client,
    place: Endpoint,
    reference: Name,
    scopes: Scopes,
}

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The repository had it.
    Present,
    /// Another repository of the registry had it.
    Mounted,
    /// It was sent.
    Sent,
}

impl Client {
    /// Begins to push to the repository of a name: to its registry, not to mirrors.
    ///
    /// # Errors
    /// [`Error::Blocked`].
    pub fn push(&self, reference: &Name) -> Result<Push> {
        let place = self.registries().destination(reference)?;
        let scopes = scopes(&place.repository, "pull,push");
        Ok(Push { client: self.clone(), place, reference: reference.clone(), scopes })
    }
}

impl Push {
    /// Sees to it that the repository has a blob. `sources` are names under which the registry may have it.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Source`] and those of the network.
    pub fn blob(&self, descriptor: &Descriptor, sources: &[Name], open: &Opener<'_>) -> Result<Pushed> {
        if self.has(&descriptor.digest)? {
            return Ok(Pushed::Present);
        }
        let same_host = |source: &&Name| source.domain() == self.reference.domain();
        for source in sources.iter().filter(same_host) {
            if self.mount(&descriptor.digest, source.path())? {
                return Ok(Pushed::Mounted);
            }
        }
        self.client.patiently(|| self.send(descriptor, open))?;
        Ok(Pushed::Sent)
    }

    /// Puts a manifest or an index, under the tag of the name or, if it has none, under its digest.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Status`] when something that it names is missing, and those of the network.
    pub fn manifest(&self, bytes: &[u8], media_type: &str) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let name = self.reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
        self.put_manifest(bytes, media_type, &name, digest)
    }

    /// Puts the manifest of one image of an index, which has no tag of its own.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub fn part_of_index(&self, bytes: &[u8], media_type: &str) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.put_manifest(bytes, media_type, &digest.to_string(), digest)
    }

    fn put_manifest(&self, bytes: &[u8], media_type: &str, name: &str, digest: Digest) -> Result<Digest> {
        let path = format!("{}/manifests/{name}", self.place.repository);
        let headers = [(header::CONTENT_TYPE, media_type.to_owned())];
        let answer = self.client.patiently(|| {
            let response =
                self.call(Method::PUT, Target::Path(&path), &headers, &mut || Payload::Bytes(bytes))?;
            expect(response, &[200, 201], &self.reference.to_string())
        })?;
        let kept = answer.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        match kept.and_then(|text| text.parse::<Digest>().ok()) {
            Some(kept) if !kept.is_of(bytes) => {
                let what = format!("manifest {digest}, as it is kept,");
                Err(Error::Content { what, host: answer.host, expected: digest, actual: kept })
            }
            _ => Ok(digest),
        }
    }

    fn has(&self, digest: &Digest) -> Result<bool> {
        let path = format!("{}/blobs/{digest}", self.place.repository);
        self.client.patiently(|| {
            let response = self.call(Method::HEAD, Target::Path(&path), &[], &mut || Payload::None)?;
            match response.status {
                200 => Ok(true),
                404 => Ok(false),
                _ => Err(failed(response, &self.reference.to_string())),
            }
        })
    }

    /// Asks the registry to take a blob from another of its repositories.
    fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        let path =
            format!("{}/blobs/uploads/?mount={digest}&from={}", self.place.repository, http::encoded(from));
        // The registry wants to see that we may read there.
        let mut own = self.scopes.clone();
        own.extend(scopes(from, "pull"));
        let call = Call {
            place: &self.place,
            scopes: &own,
            method: Method::POST,
            target: Target::Path(&path),
            headers: &[],
        };
        let response = match self.client.call(&call, &mut || Payload::Bytes(&[])) {
            Ok(response) => response,
            // Who may not read there has to send it.
            Err(Error::Denied { .. } | Error::Password { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if response.status == 202
            && let Ok(place) = location(&response)
        {
            // It was taken for the beginning of an upload, which nobody goes on with.
            let _ = self.call(Method::DELETE, Target::Address(&place), &[], &mut || Payload::None);
        }
        Ok(response.status == 201)
    }

    fn send(&self, descriptor: &Descriptor, open: &Opener<'_>) -> Result<()> {
        let Descriptor { digest, size, .. } = descriptor;
        let what = self.reference.to_string();
        let path = format!("{}/blobs/uploads/", self.place.repository);
        let begun = self.call(Method::POST, Target::Path(&path), &[], &mut || Payload::Bytes(&[]))?;
        let mut place = location(&expect(begun, &[202], &what)?)?;
        let mut sent = 0;
        if *size > PART {
            (place, sent) = self.send_parts(place, descriptor, open)?;
        }
        let joint = if place.query().is_some() { '&' } else { '?' };
        let last = http::uri(&format!("{place}{joint}digest={digest}"))?;
        let response = self.stream(Method::PUT, &last, sent, size - sent, descriptor, open)?;
        expect(response, &[201, 204], &what).map(drop)
    }

    /// Sends all of a blob in parts; gives where it ends, and how much was sent.
    fn send_parts(&self, mut place: Uri, descriptor: &Descriptor, open: &Opener<'_>) -> Result<(Uri, u64)> {
        let size = descriptor.size;
        let (mut sent, mut failures) = (0, 0);
        while sent < size {
            let length = PART.min(size - sent);
            let part = self.stream(Method::PATCH, &place, sent, length, descriptor, open);
            let part = part.and_then(|response| expect(response, &[202, 204], &self.reference.to_string()));
            match part {
                Ok(response) => {
                    place = location(&response).unwrap_or(place);
                    (sent, failures) = (sent + length, 0);
                }
                // A registry that knows no parts gets it whole.
                Err(Error::Status { status: 404 | 405 | 501, .. } | Error::Unknown { .. }) if sent == 0 => {
                    break;
                }
                Err(error) => {
                    failures = self.client.pause(error, failures)?;
                    (place, sent) = self.progress(place, sent, sent + length)?;
                }
            }
        }
        Ok((place, sent))
    }

    /// Asks how much of an upload has arrived: between what did before and what was sent since.
    fn progress(&self, place: Uri, before: u64, most: u64) -> Result<(Uri, u64)> {
        let response = self
            .client
            .patiently(|| self.call(Method::GET, Target::Address(&place), &[], &mut || Payload::None))?;
        let response = expect(response, &[204, 200], &self.reference.to_string())?;
        let range = response.header(header::RANGE).unwrap_or_default();
        let last =
            range.trim_start_matches("bytes=").split_once('-').and_then(|(_, last)| last.parse::<u64>().ok());
        // `0-0` says both that nothing arrived and that one byte did.
        let arrived = last.filter(|last| *last > 0).map_or(0, |last| last + 1);
        if !(before..=most).contains(&arrived) {
            let reason = format!("of {most} bytes sent, {arrived} arrived, after {before} had");
            return Err(Error::Protocol { host: response.host, reason });
        }
        Ok((location(&response).unwrap_or(place), arrived))
    }

    /// Sends `length` bytes of a blob, from `offset` on.
    fn stream(
        &self,
        method: Method,
        place: &Uri,
        offset: u64,
        length: u64,
        descriptor: &Descriptor,
        open: &Opener<'_>,
    ) -> Result<Response> {
        let mut headers = vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        if method == Method::PATCH {
            headers.push((header::CONTENT_RANGE, format!("{offset}-{}", offset + length - 1)));
        }
        if length == 0 {
            return self.call(method, Target::Address(place), &headers, &mut || Payload::Bytes(&[]));
        }
        let source = |source| Error::Source { what: format!("blob {}", descriptor.digest), source };
        // A challenge in between takes a second reader; the first reading is what nearly always happens.
        let mut readers = Vec::new();
        for _ in 0..2 {
            let (reader, what) = (open(offset).map_err(source)?, descriptor.digest.to_string());
            readers.push(Exactly { reader, left: length, what });
        }
        let mut left = readers.iter_mut();
        self.call(method, Target::Address(place), &headers, &mut || match left.next() {
            Some(reader) => Payload::Stream { reader, length },
            None => Payload::None,
        })
    }

    fn call<'p>(
        &self,
        method: Method,
        target: Target<'_>,
        headers: &[(HeaderName, String)],
        payload: &mut dyn FnMut() -> Payload<'p>,
    ) -> Result<Response> {
        let call = Call { place: &self.place, scopes: &self.scopes, method, target, headers };
        self.client.call(&call, payload)
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Push").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Reads as many bytes as were promised to the registry, which would wait for them; fewer are an error.
struct Exactly<'a> {
    reader: Box<dyn Read + Send + 'a>,
    left: u64,
    what: String,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match self.reader.read(&mut buffer[..most]) {
            Ok(0) if most > 0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ends {} bytes too early", self.left),
            )),
            read => read,
        };
        let what = || format!("blob {}", self.what);
        let count = read.map_err(|source| match source.kind() {
            io::ErrorKind::Interrupted => source,
            _ => Error::Source { what: what(), source }.into(),
        })?;
        self.left -= count as u64;
        Ok(count)
    }
}

fn expect(response: Response, wanted: &[u16], what: &str) -> Result<Response> {
    if wanted.contains(&response.status) { Ok(response) } else { Err(failed(response, what)) }
}

fn location(response: &Response) -> Result<Uri> {
    let found = response.header(header::LOCATION).ok_or_else(|| Error::Protocol {
        host: response.host.clone(),
        reason: "it begins an upload and does not say where".to_owned(),
    })?;
    http::join(&response.url, found)
}
