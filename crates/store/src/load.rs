//! Archives and directories of images, as `docker save`, `podman save`, skopeo, umoci and buildx write them.
//!
//! ```text
//! stream     ── every entry once: documents into memory, layers into the store ──┐
//! directory  ── what the documents name, when they name it ─────────────────────┴─► images ─► commit, all or none
//! ```
//! Two sets of documents tell what there is: docker's `manifest.json`, and OCI's `oci-layout` with `index.json`; newer
//! archives have both. They are a stranger's: a path that leaves the archive, a digest that is another, or parts that
//! contradict each other refuse the whole, and nothing of it stays.

mod directory;
mod stream;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::{Doing as _, Error, Result};
use crate::layer::Decoder;
use crate::manifest::{Document, IMAGE_NAME, Index, Manifest, Packed, REFERENCE, parse_configuration};
use crate::{Committed, Digest, Expected, Layer, Lease, Name, NewImage, Origin, Platform, Store};

use directory::Directory;
use stream::Stream;

/// How deep indexes may be nested: buildx makes two levels.
const NESTING: usize = 4;

/// How far a part of an archive has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The entry, such as `blobs/sha256/…`.
    pub part: &'a str,
    /// How many bytes of it were read.
    pub done: u64,
    /// How many there are.
    pub size: u64,
}

/// Whoever wants to know of [`Progress`].
pub type Watcher<'w> = &'w mut dyn FnMut(Progress<'_>);

/// Where the parts of images come from.
trait Source {
    /// Reads a document, if there is one of that path.
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>>;
    /// Takes a layer in, or tells that it was, if there is one of that path.
    fn layer(&mut self, path: &str, expected: &Expected) -> Result<Option<Layer>>;
}

impl Store {
    /// Loads images from an archive, which may be compressed, and names them as it says.
    ///
    /// # Errors
    /// [`Error::Archive`] for what is refused, with the entry's name; as [`Lease::layer`]. Then nothing is loaded.
    pub fn load(&self, archive: &mut (dyn Read + Send), watcher: Watcher<'_>) -> Result<Vec<Committed>> {
        self.load_by(|lease| {
            let decoder = Decoder::new(BufReader::with_capacity(128 * 1024, archive));
            let decoder =
                decoder.map_err(|source| Error::Layer { doing: "read the archive".to_owned(), source })?;
            let mut stream = Stream::read(lease, BufReader::with_capacity(128 * 1024, decoder), watcher)?;
            let images = images(lease, &mut stream)?;
            Ok((images, stream.spare()))
        })
    }

    /// Loads images from a file, as [`load`](Self::load), or from a directory with an OCI layout or an extracted archive.
    ///
    /// # Errors
    /// As [`load`](Self::load), and as open(2).
    pub fn load_path(&self, path: &Path, watcher: Watcher<'_>) -> Result<Vec<Committed>> {
        let mut file = File::open(path).doing(|| format!("open {}", path.display()))?;
        let metadata = file.metadata().doing(|| format!("look at {}", path.display()))?;
        if !metadata.is_dir() {
            return self.load(&mut file, watcher);
        }
        self.load_by(|lease| {
            let images = images(lease, &mut Directory::new(lease, file, watcher))?;
            Ok((images, 0))
        })
    }

    fn load_by(
        &self,
        load: impl FnOnce(&Lease<'_>) -> Result<(Vec<NewImage>, usize)>,
    ) -> Result<Vec<Committed>> {
        let lease = self.lease("load")?;
        let loaded =
            load(&lease).and_then(|(images, spare)| Ok((lease.commit(&images, Origin::Archive)?, spare)));
        drop(lease);
        if !matches!(loaded, Ok((_, 0))) {
            // Of an archive that was refused nothing stays, nor what no image wanted. That it was refused is what
            // counts; should this fail, the next collection does it.
            let _ = self.collect();
        }
        loaded.map(|(committed, _)| committed)
    }
}

/// Finds the images that the documents tell of, and takes in what they want.
fn images(lease: &Lease<'_>, source: &mut dyn Source) -> Result<Vec<NewImage>> {
    let packed = source.document("manifest.json")?;
    let packed = packed.map(|bytes| Packed::parse(&bytes)).transpose()?;
    let index = source.document("index.json")?;
    let index = index.map(|bytes| Document::parse("index.json", &bytes)).transpose()?;
    let mut listed = match index {
        Some(Document::Index(index)) => listed(source, &index)?,
        Some(Document::Manifest(_)) => return Err(refused("index.json", "is no index")),
        None if packed.is_none() => {
            let reason =
                "has neither manifest.json nor index.json: a root file system is imported, not loaded";
            return Err(Error::Invalid { subject: "the archive".to_owned(), reason: reason.to_owned() });
        }
        None => Vec::new(),
    };
    let mut images = Vec::new();
    for packed in packed.into_iter().flatten() {
        let twin = packed_twin(source, &packed, &mut listed)?;
        images.push(packed_image(lease, source, &packed, twin.as_ref())?);
    }
    for listed in listed {
        images.push(listed_image(lease, source, &listed)?);
    }
    if images.is_empty() {
        let reason = format!("has no image for {}", Platform::host());
        return Err(Error::Invalid { subject: "the archive".to_owned(), reason });
    }
    Ok(images)
}

/// An image that an OCI index lists.
struct Listed {
    bytes: Vec<u8>,
    manifest: Manifest,
    names: Vec<Name>,
}

/// Reads the manifests of an archive's index that are for this machine. One that is listed once for each name is one.
fn listed(source: &mut dyn Source, index: &Index) -> Result<Vec<Listed>> {
    let platform = Platform::host();
    let mut all: Vec<(Digest, Listed)> = Vec::new();
    for descriptor in &index.manifests {
        if descriptor.platform.as_ref().is_some_and(|of| !platform.runs(of)) {
            continue;
        }
        let names = names(descriptor.annotations.iter().flatten())?;
        let mut digest = descriptor.digest;
        let mut nesting = 0;
        let (bytes, manifest) = loop {
            let path = blob_path(&digest);
            let bytes =
                source.document(&path)?.ok_or_else(|| refused(&path, "is named, and is not there"))?;
            match Document::parse(&path, &bytes)? {
                Document::Manifest(manifest) => break (bytes, manifest),
                Document::Index(_) if nesting == NESTING => return Err(refused(&path, "is nested too deep")),
                Document::Index(index) => {
                    let chosen = index
                        .choose(&platform)
                        .ok_or_else(|| refused(&path, &format!("has no image for {platform}")))?;
                    digest = chosen.digest;
                    nesting += 1;
                }
            }
        };
        match all.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, listed)) => listed.names.extend(names),
            None => all.push((digest, Listed { bytes, manifest, names })),
        }
    }
    Ok(all.into_iter().map(|(_, listed)| listed).collect())
}

/// Takes out of the list what is the same image as one of `manifest.json`.
fn packed_twin(source: &mut dyn Source, packed: &Packed, listed: &mut Vec<Listed>) -> Result<Option<Listed>> {
    if listed.is_empty() {
        return Ok(None);
    }
    let configuration = configuration(source, &packed.config)?;
    let id = Digest::of(&configuration);
    let place = listed.iter().position(|listed| listed.manifest.config.digest == id);
    Ok(place.map(|place| listed.swap_remove(place)))
}

fn packed_image(
    lease: &Lease<'_>,
    source: &mut dyn Source,
    packed: &Packed,
    twin: Option<&Listed>,
) -> Result<NewImage> {
    let bytes = configuration(source, &packed.config)?;
    let parsed = parse_configuration(&packed.config, &bytes)?;
    let paths = packed.layers.as_deref().unwrap_or_default();
    let diff_ids = &parsed.rootfs.diff_ids;
    if paths.len() != diff_ids.len() {
        let reason = format!("tells of {} layers, and manifest.json of {}", diff_ids.len(), paths.len());
        return Err(refused(&packed.config, &reason));
    }
    let mut layers = Vec::new();
    for (path, diff_id) in paths.iter().zip(diff_ids) {
        let expected = Expected { diff_id: Some(*diff_id), ..Expected::of(path) };
        layers.push(layer(source, path, &expected)?);
    }
    let mut names = packed.repo_tags.iter().flatten().map(|name| tagged(name)).collect::<Result<Vec<_>>>()?;
    if let Some(twin) = twin {
        names.extend(twin.names.iter().cloned());
    }
    lease.image(&bytes, twin.map(|twin| &twin.bytes[..]), &layers, distinct(names))
}

fn listed_image(lease: &Lease<'_>, source: &mut dyn Source, listed: &Listed) -> Result<NewImage> {
    let Listed { bytes, manifest, names } = listed;
    let path = blob_path(&manifest.config.digest);
    let configuration = configuration(source, &path)?;
    let parsed = parse_configuration(&path, &configuration)?;
    if parsed.rootfs.diff_ids.len() != manifest.layers.len() {
        let (diff_ids, layers) = (parsed.rootfs.diff_ids.len(), manifest.layers.len());
        return Err(refused(&path, &format!("tells of {diff_ids} layers, and its manifest of {layers}")));
    }
    let mut layers = Vec::new();
    for (descriptor, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
        let path = blob_path(&descriptor.digest);
        let expected = Expected {
            blob: Some(descriptor.digest),
            size: Some(descriptor.size),
            diff_id: Some(*diff_id),
            ..Expected::of(&path)
        };
        layers.push(layer(source, &path, &expected)?);
    }
    lease.image(&configuration, Some(bytes), &layers, distinct(names.clone()))
}

/// Reads a configuration; where its path tells its digest, it has that.
fn configuration(source: &mut dyn Source, path: &str) -> Result<Vec<u8>> {
    let bytes = source.document(path)?.ok_or_else(|| refused(path, "is named, and is not there"))?;
    let file = path.rsplit('/').next().unwrap_or(path);
    let told = Digest::from_hex(file.strip_suffix(".json").unwrap_or(file));
    match told {
        Some(expected) if expected != Digest::of(&bytes) => {
            Err(Error::WrongDigest { subject: path.to_owned(), expected, found: Digest::of(&bytes) })
        }
        _ => Ok(bytes),
    }
}

fn layer(source: &mut dyn Source, path: &str, expected: &Expected) -> Result<Layer> {
    let layer = source.layer(path, expected)?;
    let layer = layer.ok_or_else(|| refused(path, "is named, and is not there as a layer"))?;
    match expected.diff_id {
        Some(diff_id) if diff_id != layer.diff_id => {
            let subject = format!("uncompressed, {}", expected.subject);
            Err(Error::WrongDigest { subject, expected: diff_id, found: layer.diff_id })
        }
        _ => Ok(layer),
    }
}

impl Expected {
    fn of(path: &str) -> Self {
        Self { subject: format!("layer {path}"), ..Self::default() }
    }
}

fn names<'a>(annotations: impl Iterator<Item = (&'a String, &'a String)>) -> Result<Vec<Name>> {
    let (mut whole, mut reference) = (None, None);
    for (key, value) in annotations {
        match key.as_str() {
            IMAGE_NAME => whole = Some(value),
            REFERENCE => reference = Some(value),
            _ => {}
        }
    }
    match (whole, reference) {
        (Some(whole), _) => Ok(vec![tagged(whole)?]),
        (None, Some(reference)) if reference.contains(['/', ':', '@']) => Ok(vec![tagged(reference)?]),
        // A word is all that many tools give an image in a layout. It is nobody's name in a registry, so it becomes one
        // of this machine, as with podman.
        (None, Some(word)) => Ok(vec![tagged(&format!("localhost/{}", word.to_lowercase()))?]),
        (None, None) => Ok(Vec::new()),
    }
}

fn tagged(name: &str) -> Result<Name> {
    let parsed = Name::parse(name)?;
    match parsed.digest() {
        Some(_) => Err(Error::Invalid {
            subject: format!("name {name:?}"),
            reason: "has a digest, which only a registry can give an image".to_owned(),
        }),
        None => Ok(parsed),
    }
}

fn distinct(names: Vec<Name>) -> Vec<Name> {
    BTreeSet::from_iter(names).into_iter().collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest that a path tells, if it is that of a blob.
fn told_digest(path: &str) -> Option<Digest> {
    Digest::from_hex(path.strip_prefix("blobs/sha256/")?)
}

fn refused(entry: &str, reason: &str) -> Error {
    Error::Archive { entry: entry.to_owned(), reason: reason.to_owned() }
}

/// What the first bytes of a file and its path let expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guess {
    Document,
    Layer,
    Nothing,
}

/// Guesses what a file is. Documents name it later, but a stream passes once.
fn guess(path: &str, start: &[u8], size: u64) -> Guess {
    let is_compressed = start.starts_with(&[0x1f, 0x8b]) || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let has_magic = start.get(257..262) == Some(b"ustar");
    // The format of version 7 has no magic, and an archive without entries is all zeros.
    let is_archive =
        size >= 512 && size.is_multiple_of(512) && (path.ends_with(".tar") || told_digest(path).is_some());
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    if is_compressed || has_magic {
        Guess::Layer
    } else if matches!(first, Some(b'{' | b'[')) && size <= crate::blob::DOCUMENT {
        Guess::Document
    } else if is_archive {
        Guess::Layer
    } else {
        Guess::Nothing
    }
}

/// Makes an entry's path one that can be looked up; none for the archive itself.
fn plain_path(path: &str) -> Result<Option<String>> {
    if path.starts_with('/') {
        return Err(refused(path, "has an absolute path"));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(refused(path, "leads out of the archive")),
            part if part.contains('\0') => return Err(refused(path, "has a path with a zero in it")),
            part => parts.push(part),
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_archive() {
        for (path, expected) in [("a/b", Some("a/b")), ("./a//b/", Some("a/b")), ("./", None), ("", None)] {
            assert_eq!(plain_path(path).unwrap().as_deref(), expected, "{path}");
        }
        for path in ["/a", "a/../b", "..", "a\0b"] {
            assert!(plain_path(path).is_err(), "{path} is refused");
        }
    }

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let blob = format!("blobs/sha256/{hex}");
        for (path, start, size, expected) in [
            ("index.json", &b" {\"a\""[..], 5, Guess::Document),
            ("manifest.json", b"[", 5, Guess::Document),
            ("manifest.json", b"[", 1 << 30, Guess::Nothing),
            ("VERSION", b"1.0", 3, Guess::Nothing),
            ("any", &tar, 1024, Guess::Layer),
            ("any", b"\x1f\x8b\x08", 3, Guess::Layer),
            ("any", b"\x28\xb5\x2f\xfd", 4, Guess::Layer),
            ("x/layer.tar", &[0; 512], 1024, Guess::Layer),
            (&blob, &[0; 512], 1024, Guess::Layer),
            ("any", &[0; 512], 1024, Guess::Nothing),
            ("x/layer.tar", b"", 0, Guess::Nothing),
        ] {
            assert_eq!(guess(path, start, size), expected, "{path} with {start:?}");
        }
    }

    #[test]
    fn names_come_from_annotations() {
        for (annotations, expected) in [
            (&[(IMAGE_NAME, "quay.io/a:1"), (REFERENCE, "1")][..], Some("quay.io/a:1")),
            (&[(REFERENCE, "alpine:3.22")], Some("docker.io/library/alpine:3.22")),
            (&[(REFERENCE, "python-basic")], Some("localhost/python-basic:latest")),
            (&[(REFERENCE, "V1.0")], Some("localhost/v1.0:latest")),
            (&[("other", "x")], None),
        ] {
            let owned = Vec::from_iter(
                annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
            );
            let found = names(owned.iter().map(|(key, value)| (key, value))).unwrap();
            assert_eq!(found.first().map(Name::to_string).as_deref(), expected, "{annotations:?}");
        }
        for name in
            ["a b", "Alpine:1", "a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
        {
            assert!(tagged(name).is_err(), "{name} is refused");
        }
    }
}
