//! Images as an archive or a directory for others to load.
//!
//! The blobs are written as they are. An archive of docker is an OCI layout with docker's `manifest.json` beside it, as
//! docker writes it since version 25: docker, podman, containerd and skopeo read either.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::{Doing as _, Error, Result};
use crate::layer::archive::{Head, Kind, Timestamp, Writer};
use crate::manifest::{Descriptor, Document, IMAGE_NAME, INDEX, Index, Packed, REFERENCE};
use crate::{Digest, Image, Name, Store};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tar archive for `docker load`, and everybody else.
    DockerArchive,
    /// A tar archive with an OCI layout only.
    OciArchive,
}

impl Store {
    /// Writes images into an archive. What is asked for by a name goes with that name; by a repository without a tag, with
    /// all its tags; by an id, without any.
    ///
    /// # Errors
    /// As [`Store::image`] for each; [`Error::Damaged`] when a blob is not what it was, and then what was written is no
    /// archive; what `into` says.
    pub fn save(&self, wanted: &[&str], format: Format, into: &mut dyn Write) -> Result<()> {
        let layout = self.layout(wanted)?;
        let doing = || "write the archive";
        let mut archive = Archive { writer: Writer::new(into) };
        archive.directory("blobs").doing(doing)?;
        archive.directory("blobs/sha256").doing(doing)?;
        for digest in &layout.blobs {
            let mut blob = self.open_blob(digest)?;
            let size = blob.metadata().doing(|| format!("look at blob {digest}"))?.len();
            archive.head(&blob_path(digest), size).doing(doing)?;
            copy(&mut blob, digest, &mut |piece| archive.writer.data(piece).doing(doing))?;
        }
        archive.file("index.json", &layout.index).doing(doing)?;
        if format == Format::DockerArchive {
            archive.file("manifest.json", &layout.packed).doing(doing)?;
        }
        archive.file("oci-layout", LAYOUT).doing(doing)?;
        archive.writer.finish().doing(doing)?;
        self.record_save(&layout.images);
        Ok(())
    }

    /// Writes images into a directory as an OCI layout. It is made if it is not there; one with something in it is
    /// refused.
    ///
    /// # Errors
    /// As [`save`](Self::save); what was written before stays.
    pub fn save_directory(&self, wanted: &[&str], directory: &Path) -> Result<()> {
        let layout = self.layout(wanted)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory.join("blobs"))
            .doing(|| format!("make {}", directory.display()))?;
        let mut entries = fs::read_dir(directory).doing(|| format!("list {}", directory.display()))?;
        if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != "blobs"))
            || directory.join("blobs/sha256").exists()
        {
            let reason = "is not empty: name a directory that is, or none yet".to_owned();
            return Err(Error::Invalid { subject: directory.display().to_string(), reason });
        }
        fs::create_dir(directory.join("blobs/sha256")).doing(|| format!("make {}", directory.display()))?;
        for digest in &layout.blobs {
            let path = directory.join(blob_path(digest));
            let mut file = create(&path)?;
            let mut blob = self.open_blob(digest)?;
            copy(&mut blob, digest, &mut |piece| {
                file.write_all(piece).doing(|| format!("write {}", path.display()))
            })?;
        }
        // The last is what makes it a layout.
        for (name, bytes) in [("index.json", &layout.index[..]), ("oci-layout", LAYOUT)] {
            let path = directory.join(name);
            create(&path)?.write_all(bytes).doing(|| format!("write {}", path.display()))?;
        }
        self.record_save(&layout.images);
        Ok(())
    }

    fn layout(&self, wanted: &[&str]) -> Result<Layout> {
        let mut images: BTreeMap<Digest, (Image, BTreeSet<Name>)> = BTreeMap::new();
        let mut order = Vec::new();
        for wanted in wanted {
            for (image, name) in self.wanted(wanted)? {
                let id = image.id;
                if !order.contains(&id) {
                    order.push(id);
                }
                images.entry(id).or_insert((image, BTreeSet::new())).1.extend(name);
            }
        }
        let blobs = BTreeSet::new();
        let mut layout = Layout { images: order.clone(), blobs, index: Vec::new(), packed: Vec::new() };
        let (mut manifests, mut packed) = (Vec::new(), Vec::new());
        for (image, names) in order.iter().filter_map(|id| images.get(id)) {
            let bytes = self.small_blob(&image.manifest)?;
            let what = format!("manifest {}", image.manifest);
            let Document::Manifest(manifest) = Document::parse(&what, &bytes)? else {
                return Err(Error::Damaged { subject: what, reason: "it is an index".to_owned() });
            };
            layout.blobs.extend([image.id, image.manifest]);
            layout.blobs.extend(image.layers.iter().map(|layer| layer.blob));
            let descriptor = Descriptor {
                media_type: manifest.kind().to_owned(),
                digest: image.manifest,
                size: bytes.len() as u64,
                annotations: None,
                platform: None,
            };
            manifests.extend(listings(&descriptor, names));
            packed.push(Packed {
                config: blob_path(&image.id),
                repo_tags: (!names.is_empty()).then(|| names.iter().map(Name::familiar).collect()),
                layers: Some(image.layers.iter().map(|layer| blob_path(&layer.blob)).collect()),
            });
        }
        let index = Index { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests };
        let unwritten = |error: serde_json::Error| Error::Invalid {
            subject: "the archive's index".to_owned(),
            reason: format!("cannot be written: {error}"),
        };
        layout.index = serde_json::to_vec(&index).map_err(unwritten)?;
        layout.packed = serde_json::to_vec(&packed).map_err(unwritten)?;
        Ok(layout)
    }

    /// Finds what is meant, with the name under which it is saved.
    fn wanted(&self, wanted: &str) -> Result<Vec<(Image, Option<Name>)>> {
        let parsed = Name::parse(wanted).ok();
        let has_tag = wanted.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        if let Some(parsed) = parsed.as_ref().filter(|_| !has_tag) {
            let repository = parsed.repository();
            let mut tags = Vec::new();
            for image in self.images()? {
                let of = image
                    .names
                    .iter()
                    .filter(|name| name.digest().is_none() && name.repository() == repository);
                tags.extend(of.map(|name| (name.clone(), image.clone())));
            }
            if !tags.is_empty() {
                tags.sort_by(|a, b| a.0.cmp(&b.0));
                return Ok(tags.into_iter().map(|(name, image)| (image, Some(name))).collect());
            }
        }
        let image = self.image(wanted)?;
        let local = parsed.as_ref().and_then(|parsed| crate::image::local(parsed, wanted));
        let name = image
            .names
            .iter()
            .find(|name| {
                name.digest().is_none() && (Some(*name) == parsed.as_ref() || Some(*name) == local.as_ref())
            })
            .cloned();
        Ok(vec![(image, name)])
    }
}

const LAYOUT: &[u8] = br#"{"imageLayoutVersion": "1.0.0"}"#;

/// What an OCI layout and docker's document have.
struct Layout {
    images: Vec<Digest>,
    blobs: BTreeSet<Digest>,
    index: Vec<u8>,
    packed: Vec<u8>,
}

/// A manifest is listed once for each name.
fn listings(descriptor: &Descriptor, names: &BTreeSet<Name>) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![descriptor.clone()];
    }
    let listing = |name: &Name| {
        let tag = name.tag().unwrap_or_default().to_owned();
        let annotations = [(IMAGE_NAME.to_owned(), name.to_string()), (REFERENCE.to_owned(), tag)];
        Descriptor { annotations: Some(BTreeMap::from(annotations)), ..descriptor.clone() }
    };
    names.iter().map(listing).collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Hands out a blob, and sees to it that it is what it should be.
fn copy(blob: &mut File, digest: &Digest, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let length = blob.read(&mut piece).doing(|| format!("read blob {digest}"))?;
        if length == 0 {
            break;
        }
        hash.update(&piece[..length]);
        each(&piece[..length])?;
    }
    match Digest::from(hash) {
        found if found == *digest => Ok(()),
        found => {
            let reason = format!("its bytes have the digest {found}; pull or load the image again");
            Err(Error::Damaged { subject: format!("blob {digest}"), reason })
        }
    }
}

fn create(path: &Path) -> Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    made.doing(|| format!("make {}", path.display()))
}

/// An archive whose files have no time and belong to root: the same images make the same bytes.
struct Archive<W> {
    writer: Writer<W>,
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, path: &str) -> std::io::Result<()> {
        self.writer.head(&Head { kind: Kind::Directory, mode: 0o755, ..plain(path, 0) })
    }

    fn head(&mut self, path: &str, size: u64) -> std::io::Result<()> {
        self.writer.head(&plain(path, size))
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.head(path, bytes.len() as u64)?;
        self.writer.data(bytes)
    }
}

fn plain(path: &str, size: u64) -> Head<'_> {
    Head {
        path: path.as_bytes(),
        kind: Kind::Regular,
        link: b"",
        mode: 0o644,
        user: 0,
        group: 0,
        size,
        time: Timestamp::default(),
        device: (0, 0),
        xattrs: &[],
    }
}
