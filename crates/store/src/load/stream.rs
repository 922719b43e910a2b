//! An archive that passes once.
//!
//! Its documents may come last, so every file is taken for what it looks like: a document is kept in memory, a layer goes
//! into the store at once. What no document wants is collected afterwards.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read};

use super::{Guess, Progress, Source, Watcher, guess, plain_path, refused, told_digest};
use crate::error::{Error, Result};
use crate::layer::archive::{Archive, Entry, Kind, Whole};
use crate::{Digest, Expected, Layer, Lease};

/// The most bytes of all documents and paths that are kept in memory.
const MEMORY: usize = 32 * 1024 * 1024;
/// How many links may lead to each other.
const LINKS: usize = 8;
/// How much of a file tells what it is: a header of a tar archive.
const START: usize = 512;

/// What an archive had.
pub(super) struct Stream {
    documents: BTreeMap<String, Vec<u8>>,
    layers: BTreeMap<String, Layer>,
    links: BTreeMap<String, String>,
    /// Files that were neither.
    others: BTreeSet<String>,
    memory: usize,
    /// The layers that a document wanted.
    wanted: BTreeSet<Digest>,
}

impl Stream {
    /// Reads the whole archive, and takes its layers in.
    pub(super) fn read<R: BufRead>(lease: &Lease<'_>, archive: R, watcher: Watcher<'_>) -> Result<Self> {
        let mut stream = Self {
            documents: BTreeMap::new(),
            layers: BTreeMap::new(),
            links: BTreeMap::new(),
            others: BTreeSet::new(),
            memory: 0,
            wanted: BTreeSet::new(),
        };
        let failed = |source| Error::Layer { doing: "read the archive".to_owned(), source };
        let mut archive = Archive::new(archive);
        while let Some(entry) = archive.next_entry().map_err(failed)? {
            stream.entry(lease, &entry, &mut archive, watcher)?;
        }
        archive.finish(Whole::Marked).map_err(failed)?;
        Ok(stream)
    }

    /// Counts the layers that no document wanted.
    pub(super) fn spare(&self) -> usize {
        self.layers.values().filter(|layer| !self.wanted.contains(&layer.diff_id)).count()
    }

    fn entry<R: BufRead>(
        &mut self,
        lease: &Lease<'_>,
        entry: &Entry,
        archive: &mut Archive<R>,
        watcher: Watcher<'_>,
    ) -> Result<()> {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(refused(&String::from_utf8_lossy(bytes), "has a path that is no text")),
        };
        let Some(path) = plain_path(&text(&entry.path)?)? else { return Ok(()) };
        self.remember(&path, path.len() + 64)?;
        match entry.kind {
            Kind::Directory => return Ok(()),
            Kind::Regular if entry.segments.is_none() => {}
            Kind::Regular => return Err(refused(&path, "is a sparse file, which no part of an image is")),
            Kind::SymbolicLink | Kind::HardLink => {
                self.refuse_twice(&path)?;
                let target = link_target(&path, &text(&entry.link)?, entry.kind)?;
                self.links.insert(path, target);
                return Ok(());
            }
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                return Err(refused(&path, "is neither a file, a directory nor a link"));
            }
        }
        self.refuse_twice(&path)?;
        self.file(lease, path, entry.size, archive, watcher)
    }

    fn file<R: BufRead>(
        &mut self,
        lease: &Lease<'_>,
        path: String,
        size: u64,
        archive: &mut Archive<R>,
        watcher: Watcher<'_>,
    ) -> Result<()> {
        let mut data = Data { archive, part: &path, size, done: 0, watcher: RefCell::new(watcher) };
        let mut start = Vec::new();
        read_at_most(&mut data, START, &mut start, &path)?;
        match guess(&path, &start, size) {
            Guess::Nothing => {
                self.others.insert(path);
            }
            Guess::Document => {
                self.remember(&path, usize::try_from(size).unwrap_or(usize::MAX))?;
                read_at_most(&mut data, usize::MAX, &mut start, &path)?;
                if let Some(expected) = told_digest(&path).filter(|told| *told != Digest::of(&start)) {
                    return Err(Error::WrongDigest { subject: path, expected, found: Digest::of(&start) });
                }
                self.documents.insert(path, start);
            }
            Guess::Layer => {
                let known = known(lease, &path, &start)?;
                let layer = match known {
                    Some(layer) => layer,
                    None => {
                        let blob = told_digest(&path);
                        let expected = Expected { blob, size: Some(size), ..Expected::of(&path) };
                        lease.layer(&expected, &mut (&start[..]).chain(data))?
                    }
                };
                self.layers.insert(path, layer);
            }
        }
        Ok(())
    }

    /// An archive in which a path is there twice is one thing to one reader and another to the next.
    fn refuse_twice(&self, path: &str) -> Result<()> {
        let is_known = self.documents.contains_key(path)
            || self.layers.contains_key(path)
            || self.links.contains_key(path)
            || self.others.contains(path);
        if is_known { Err(refused(path, "is there twice")) } else { Ok(()) }
    }

    fn remember(&mut self, path: &str, bytes: usize) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MEMORY {
            return Err(refused(path, "is one document too many: all of them have more than 32 MiB"));
        }
        Ok(())
    }

    fn resolve(&self, path: &str) -> Result<Option<String>> {
        let Some(mut path) = plain_path(path)? else { return Ok(None) };
        for _ in 0..LINKS {
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => return Ok(Some(path)),
            }
        }
        Err(refused(&path, "is a link that leads in a circle"))
    }
}

impl Source for Stream {
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let path = self.resolve(path)?;
        Ok(path.and_then(|path| self.documents.get(&path).cloned()))
    }

    fn layer(&mut self, path: &str, _expected: &Expected) -> Result<Option<Layer>> {
        let path = self.resolve(path)?;
        let layer = path.and_then(|path| self.layers.get(&path).cloned());
        self.wanted.extend(layer.as_ref().map(|layer| layer.diff_id));
        Ok(layer)
    }
}

/// Finds a layer that is there already, by the digest that its path tells.
fn known(lease: &Lease<'_>, path: &str, start: &[u8]) -> Result<Option<Layer>> {
    let Some(told) = told_digest(path) else { return Ok(None) };
    if start.get(257..262) == Some(b"ustar") {
        return lease.has(&told);
    }
    match lease.has_blob(&told)? {
        Some((blob_size, Some(diff_id))) => {
            let size = lease.has_layer(&diff_id)?;
            Ok(size.map(|size| Layer { diff_id, blob: told, blob_size, size }))
        }
        _ => Ok(None),
    }
}

/// Finds where a link leads, in the archive.
fn link_target(path: &str, target: &str, kind: Kind) -> Result<String> {
    let parent = match (kind, path.rsplit_once('/')) {
        (Kind::SymbolicLink, Some((parent, _))) => parent,
        _ => "",
    };
    if target.starts_with('/') {
        return Err(refused(path, "is a link out of the archive"));
    }
    let mut parts: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return Err(refused(path, "is a link out of the archive")),
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn read_at_most(data: &mut impl Read, limit: usize, into: &mut Vec<u8>, path: &str) -> Result<()> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let read = data.take(limit).read_to_end(into);
    read.map(drop).map_err(|source| Error::Io { doing: format!("read {path}"), source })
}

/// The bytes of an entry.
struct Data<'a, 'w, R> {
    archive: &'a mut Archive<R>,
    part: &'a str,
    size: u64,
    done: u64,
    watcher: RefCell<Watcher<'w>>,
}

impl<R: BufRead> Read for Data<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.archive.data()?;
        let length = piece.read(buffer)?;
        self.archive.consume(length);
        self.done += length as u64;
        (self.watcher.borrow_mut())(Progress { part: self.part, done: self.done, size: self.size });
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_archive() {
        for (path, target, kind, expected) in [
            ("a/layer.tar", "../b/layer.tar", Kind::SymbolicLink, Some("b/layer.tar")),
            ("a/layer.tar", "layer2.tar", Kind::SymbolicLink, Some("a/layer2.tar")),
            ("a/layer.tar", "b/layer.tar", Kind::HardLink, Some("b/layer.tar")),
            ("a/layer.tar", "../../etc/passwd", Kind::SymbolicLink, None),
            ("a/layer.tar", "../etc/passwd", Kind::HardLink, None),
            ("a/layer.tar", "/etc/passwd", Kind::SymbolicLink, None),
        ] {
            assert_eq!(link_target(path, target, kind).ok().as_deref(), expected, "{path} to {target}");
        }
    }
}
