//! An image comes into being: by a manifest that came with it, or by one that is made for it.

use std::io::Read as _;

use rusqlite::{Transaction, params};

use crate::error::{Doing as _, Error, Result};
use crate::event::{Labels, Told};
use crate::image::name_image;
use crate::layer::Compression;
use crate::manifest::{self, Document, Manifest};
use crate::store::now;
use crate::{Digest, Layer, Lease, Name};

/// An image whose parts have all arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    pub(crate) id: Digest,
    pub(crate) manifest: Digest,
    pub(crate) layers: Vec<Layer>,
    labels: Labels,
    /// The names that it is to have.
    pub names: Vec<Name>,
}

/// What became of a [`NewImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The image.
    pub id: Digest,
    /// The names that it has got.
    pub names: Vec<Name>,
    /// Names that it took from other images.
    pub taken: Vec<(Name, Digest)>,
    /// Whether it was there before.
    pub existed: bool,
}

/// Where an image comes from: what is told of it, in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A registry: `pull`.
    Registry,
    /// An archive or a directory of images: `load`.
    Archive,
    /// The files of a root: `import`.
    Files,
    /// A container: `create`, and its own event tells of it, too.
    Container,
}

impl Lease<'_> {
    /// Puts an image together out of its configuration and layers that have arrived. The manifest that came with it is
    /// kept, byte for byte, if its blobs are those of the layers; else, and where there is none, one of our own is.
    ///
    /// # Errors
    /// [`Error::Archive`] when these contradict each other.
    pub fn image(
        &self,
        configuration: &[u8],
        manifest: Option<&[u8]>,
        layers: &[Layer],
        names: Vec<Name>,
    ) -> Result<NewImage> {
        let id = Digest::of(configuration);
        let what = format!("configuration {id}");
        let parsed = manifest::parse_configuration(&what, configuration)?;
        if !parsed.rootfs.diff_ids.iter().eq(layers.iter().map(|layer| &layer.diff_id)) {
            let reason = "tells of other layers than there are".to_owned();
            return Err(Error::Archive { entry: what, reason });
        }
        self.document(configuration)?;
        let manifest = match manifest
            .map(|bytes| keeps(&id, bytes, layers).map(|kept| kept.then_some(bytes)))
            .transpose()?
        {
            Some(Some(bytes)) => self.document(bytes)?,
            None | Some(None) => self.document(&self.manifest(&id, configuration.len() as u64, layers)?)?,
        };
        let labels = Labels::from_iter([(id, parsed.config.labels)]);
        Ok(NewImage { id, manifest, layers: layers.to_vec(), labels, names })
    }

    /// Settles what has arrived and makes images known: all of them and their names, or none. From then on they need no
    /// lease.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn commit(&self, images: &[NewImage], origin: Origin) -> Result<Vec<Committed>> {
        self.settle_with(|db| images.iter().map(|image| commit(db, image, origin)).collect())
    }

    /// Writes a manifest of our own.
    fn manifest(&self, id: &Digest, size: u64, layers: &[Layer]) -> Result<Vec<u8>> {
        let packed = layers.iter().map(|layer| Ok((layer.clone(), self.compression(&layer.blob)?)));
        let manifest = Manifest::of(id, size, &packed.collect::<Result<Vec<_>>>()?);
        serde_json::to_vec(&manifest).map_err(|error| Error::Invalid {
            subject: format!("configuration {id}"),
            reason: format!("has no manifest: {error}"),
        })
    }

    fn compression(&self, blob: &Digest) -> Result<Compression> {
        let mut start = [0; 6];
        let mut file = self.open_blob(blob)?;
        let length = file.read(&mut start).doing(|| format!("read blob {blob}"))?;
        Compression::of(&start[..length])
            .map_err(|source| Error::Layer { doing: format!("look at blob {blob}"), source })
    }
}

/// Tells whether a manifest, which must be of this configuration, names the blobs of these layers.
fn keeps(id: &Digest, manifest: &[u8], layers: &[Layer]) -> Result<bool> {
    let what = format!("manifest {}", Digest::of(manifest));
    let Document::Manifest(parsed) = Document::parse(&what, manifest)? else {
        return Err(Error::Archive {
            entry: what,
            reason: "is an index, and an image has a manifest".to_owned(),
        });
    };
    if parsed.config.digest != *id {
        let reason = format!("is of the configuration {}, and not of {id}", parsed.config.digest);
        return Err(Error::Archive { entry: what, reason });
    }
    if parsed.layers.len() != layers.len() {
        let reason =
            format!("tells of {} layers, and the configuration of {}", parsed.layers.len(), layers.len());
        return Err(Error::Archive { entry: what, reason });
    }
    Ok(parsed.layers.iter().zip(layers).all(|(descriptor, layer)| descriptor.digest == layer.blob))
}

fn commit(db: &Transaction<'_>, image: &NewImage, origin: Origin) -> Result<Committed> {
    let NewImage { id, manifest, layers, labels: _, names } = image;
    let doing = || format!("record image {id}");
    let key = id.to_string();
    let existed = db
        .prepare_cached("SELECT 1 FROM images WHERE id = ?")
        .and_then(|mut statement| statement.exists([&key]))
        .doing(doing)?;
    // One that is there keeps its manifest, unless a part of it went bad.
    let is_whole = existed && is_whole(db, &key).doing(doing)?;
    if !is_whole {
        let sql = "INSERT INTO images VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET manifest = ?2";
        db.execute(sql, params![key, manifest.to_string(), now()]).doing(doing)?;
        db.execute("DELETE FROM image_layers WHERE image = ?", [&key]).doing(doing)?;
        for (position, layer) in layers.iter().enumerate() {
            let values = params![key, position, layer.diff_id.to_string(), layer.blob.to_string()];
            db.execute("INSERT INTO image_layers VALUES (?, ?, ?, ?)", values).doing(doing)?;
        }
    }
    let mut taken = Vec::new();
    for name in names {
        if let Some(before) = name_image(db, id, name)? {
            taken.push((name.clone(), before));
        }
    }
    tell(db, image, origin)?;
    Ok(Committed { id: *id, names: names.clone(), taken, existed })
}

/// Records what docker tells of an image that comes into being, and of its names: to pull or to load one has names in it
/// already.
fn tell(db: &Transaction<'_>, NewImage { id, labels, names, .. }: &NewImage, origin: Origin) -> Result<()> {
    let itself = |action| labels.record(db, action, id, Told::Itself);
    let tags = names.iter().filter(|name| name.digest().is_none());
    let tag = |name| labels.record(db, "tag", id, Told::Named(name));
    match origin {
        Origin::Registry => {
            // Docker knows what was pulled by its name alone.
            let told = names.first().map_or(Told::Itself, Told::Repository);
            labels.record(db, "pull", id, told)
        }
        Origin::Archive => itself("load"),
        Origin::Files => {
            tags.into_iter().try_for_each(tag)?;
            itself("import")
        }
        Origin::Container => {
            itself("create")?;
            tags.into_iter().try_for_each(tag)
        }
    }
}

fn is_whole(db: &Transaction<'_>, image: &str) -> rusqlite::Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM images, blobs WHERE id = ?1 AND digest IN (id, manifest) AND damaged)
        OR EXISTS (SELECT 1 FROM image_layers, blobs WHERE image = ?1 AND digest = blob AND damaged)";
    db.query_row(sql, [image], |row| Ok(!row.get::<_, bool>(0)?))
}
