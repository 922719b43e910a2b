//! Images: configurations, layers and names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Doing as _, Error, Noun, Result};
use crate::event::Told;
use crate::{Configuration, Digest, Durability, Name, Store};

/// An image, whole: its blobs and its unpacked layers are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest, a blob.
    pub manifest: Digest,
    /// Its configuration.
    pub configuration: Configuration,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Its names, with tags and with digests, in order; one without any is dangling.
    pub names: Vec<Name>,
    /// The size of its unpacked layers in bytes.
    pub size: u64,
    /// When it came here, in nanoseconds since 1970 (UTC).
    pub added: i64,
    /// What is wrong with it, where that is known; only [`Store::images`] has such. It can be listed and removed, and
    /// pulled or loaded again.
    pub damage: Option<String>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its uncompressed archive, by which its directory is called.
    pub diff_id: Digest,
    /// The blob with its archive, compressed.
    pub blob: Digest,
    /// The blob's size in bytes.
    pub blob_size: u64,
    /// The sizes of its unpacked files in bytes.
    pub size: u64,
}

impl Image {
    /// Returns the names that have tags, as people write them: `alpine:3.22`.
    pub fn tags(&self) -> Vec<String> {
        self.names.iter().filter(|name| name.digest().is_none()).map(Name::familiar).collect()
    }

    /// Returns the names that have digests, as people write them: `alpine@sha256:…`.
    pub fn digests(&self) -> Vec<String> {
        self.names.iter().filter(|name| name.digest().is_some()).map(Name::familiar).collect()
    }
}

impl Store {
    /// Finds an image by its name, its id, or an unambiguous prefix of its id, `sha256:` before it or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Damaged`].
    pub fn image(&self, wanted: &str) -> Result<Image> {
        self.database.snapshot(|db| {
            let id = find(db, wanted)?;
            let mut image = self.read_image(db, &id)?;
            match image.damage.take() {
                Some(reason) => Err(Error::Damaged { subject: format!("image {wanted}"), reason }),
                None => Ok(image),
            }
        })
    }

    /// Finds which image is meant, as [`image`](Self::image) does, and reads nothing else of it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn image_id(&self, wanted: &str) -> Result<Digest> {
        self.database.snapshot(|db| find(db, wanted))
    }

    /// Lists the images that are made of another: their lowest layers are all of its layers, and there are more layers, or, where
    /// these are the same, more steps by which they were made. Nothing is made of an image without layers.
    ///
    /// # Errors
    /// As the database.
    pub fn descendants(&self, image: &Digest) -> Result<Vec<Digest>> {
        let doing = || format!("look for images that are made of {image}");
        let rows: Vec<(String, String)> = self.database.snapshot(|db| {
            db.prepare_cached("SELECT image, diff_id FROM image_layers ORDER BY image, position")
                .and_then(|mut statement| {
                    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                })
                .doing(doing)
        })?;
        let mut chains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (id, layer) in &rows {
            chains.entry(id).or_default().push(layer);
        }
        let own = image.to_string();
        let Some(below) = chains.get(own.as_str()) else { return Ok(Vec::new()) };
        let mut made = Vec::new();
        for (id, chain) in chains.iter().filter(|(id, chain)| **id != own && chain.starts_with(below)) {
            let id = Digest::parse(id)?;
            if chain.len() > below.len() || self.adds_steps(&id, image) {
                made.push(id);
            }
        }
        Ok(made)
    }

    /// Tells whether an image was made by the steps of another and more of them. One that cannot be read was not.
    fn adds_steps(&self, image: &Digest, other: &Digest) -> bool {
        let history = |id: &Digest| self.configuration(id).map(|configuration| configuration.history);
        match (history(image), history(other)) {
            (Ok(steps), Ok(first)) => steps.len() > first.len() && steps.starts_with(&first),
            _ => false,
        }
    }

    /// Lists all images, the newest configuration first.
    ///
    /// # Errors
    /// As the database. One that is damaged is listed with its [`damage`](Image::damage).
    pub fn images(&self) -> Result<Vec<Image>> {
        let mut images = self.database.snapshot(|db| {
            let ids: Vec<String> = db
                .prepare_cached("SELECT id FROM images")
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                .doing(|| "list the images")?;
            ids.iter().map(|id| self.read_image(db, &Digest::parse(id)?)).collect::<Result<Vec<_>>>()
        })?;
        images.sort_by(|a, b| (&b.configuration.created, b.added).cmp(&(&a.configuration.created, a.added)));
        Ok(images)
    }

    /// Gives an image a name, and takes that from the image that had it; returns which that was.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the image is not there.
    pub fn tag(&self, image: &Digest, name: &Name) -> Result<Option<Digest>> {
        let labels = self.labels([*image]);
        self.database.write(Durability::PowerLoss, |db| {
            let found = db
                .prepare_cached("SELECT 1 FROM images WHERE id = ?")
                .and_then(|mut statement| statement.exists([image.to_string()]))
                .doing(|| format!("look for image {image}"))?;
            if !found {
                return Err(Error::NotFound { noun: Noun::Image, wanted: image.to_string() });
            }
            let before = name_image(db, image, name)?;
            labels.record(db, "tag", image, Told::Named(name))?;
            Ok(before)
        })
    }

    /// Returns overlayfs's lower directories for a container of an image, the topmost first.
    ///
    /// A layer that an image has twice is there once, at its upper place: what lies between cannot show anything of the
    /// lower one that the upper one does not cover, and the kernel refuses a directory that is named twice.
    pub fn lower(&self, image: &Image) -> Vec<PathBuf> {
        let mut lower = Vec::new();
        for layer in image.layers.iter().rev() {
            let directory = self.places.layer(&layer.diff_id);
            if !lower.contains(&directory) {
                lower.push(directory);
            }
        }
        lower
    }

    pub(crate) fn configuration(&self, id: &Digest) -> Result<Configuration> {
        let damaged = |error: serde_json::Error| Error::Damaged {
            subject: format!("configuration {id}"),
            reason: error.to_string(),
        };
        serde_json::from_slice(&self.small_blob(id)?).map_err(damaged)
    }

    pub(crate) fn read_image(&self, db: &Connection, id: &Digest) -> Result<Image> {
        let key = id.to_string();
        let doing = || format!("read the record of image {id}");
        let row: Option<(String, i64)> = db
            .prepare_cached("SELECT manifest, added FROM images WHERE id = ?")
            .and_then(|mut statement| {
                statement.query_row([&key], |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .doing(doing)?;
        let Some((manifest, added)) = row else {
            return Err(Error::NotFound { noun: Noun::Image, wanted: key });
        };
        let sql =
            "SELECT image_layers.diff_id, blob, blobs.size, layers.size, layers.damaged FROM image_layers, blobs, layers
            WHERE image = ? AND digest = blob AND layers.diff_id = image_layers.diff_id ORDER BY position";
        let rows: Vec<(String, String, u64, u64, bool)> = db
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let read = |row: &rusqlite::Row<'_>| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                };
                statement.query_map([&key], read)?.collect()
            })
            .doing(doing)?;
        let damaged = rows.iter().find(|row| row.4).map(|row| row.0.clone());
        let layers = rows.into_iter().map(|(diff_id, blob, blob_size, size, _)| {
            Ok(Layer { diff_id: Digest::parse(&diff_id)?, blob: Digest::parse(&blob)?, blob_size, size })
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = db
            .prepare_cached("SELECT name FROM names WHERE image = ? ORDER BY name")
            .and_then(|mut statement| statement.query_map([&key], |row| row.get(0))?.collect())
            .doing(doing)?;
        let names = names.iter().map(|name| Ok(Name::parse(name)?)).collect::<Result<Vec<_>>>()?;
        let (configuration, mut damage) = match self.configuration(id) {
            Ok(configuration) => (configuration, None),
            Err(error) => (Configuration::default(), Some(error.with_sources())),
        };
        if let Some(diff_id) = damaged {
            damage.get_or_insert(format!(
                "its layer {diff_id} is damaged; check the store, or pull the image again"
            ));
        }
        let size = layers.iter().map(|layer| layer.size).sum();
        let manifest = Digest::parse(&manifest)?;
        Ok(Image { id: *id, manifest, configuration, layers, names, size, added, damage })
    }
}

/// The name under which an image without a registry's name is kept: a word that people type may mean that.
pub(crate) fn local(name: &Name, typed: &str) -> Option<Name> {
    let is_bare = !typed.contains('/') && name.digest().is_none();
    is_bare.then(|| Name::parse(&format!("localhost/{typed}")).ok()).flatten()
}

/// Gives an image a name; returns the image that had it, if it is another.
pub(crate) fn name_image(db: &Connection, image: &Digest, name: &Name) -> Result<Option<Digest>> {
    let key = name.to_string();
    let doing = || format!("name image {image} {name}");
    let before: Option<String> = db
        .prepare_cached("SELECT image FROM names WHERE name = ?")
        .and_then(|mut statement| statement.query_row([&key], |row| row.get(0)).optional())
        .doing(doing)?;
    db.prepare_cached("INSERT OR REPLACE INTO names VALUES (?, ?)")
        .and_then(|mut statement| statement.execute([&key, &image.to_string()]))
        .doing(doing)?;
    let before = before.map(|before| Digest::parse(&before)).transpose()?;
    Ok(before.filter(|before| before != image))
}

/// Returns the id of what `wanted` means: a whole id, a name, a prefix of an id, in this order, as docker has it.
pub(crate) fn find(db: &Connection, wanted: &str) -> Result<Digest> {
    let doing = || format!("look for image {wanted}");
    let not_found = || Error::NotFound { noun: Noun::Image, wanted: wanted.to_owned() };
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let by_id = |digest: &Digest| {
        db.prepare_cached("SELECT 1 FROM images WHERE id = ?")
            .and_then(|mut statement| statement.exists([digest.to_string()]))
            .doing(doing)
    };
    if let Some(digest) = Digest::from_hex(hex) {
        return if by_id(&digest)? { Ok(digest) } else { Err(not_found()) };
    }
    if let Ok(name) = Name::parse(wanted) {
        // With a digest, the tag says nothing.
        let name = name.digest().map_or_else(|| name.clone(), |digest| name.at(digest));
        for name in [Some(name.clone()), local(&name, wanted)].into_iter().flatten() {
            let id: Option<String> = db
                .prepare_cached("SELECT image FROM names WHERE name = ?")
                .and_then(|mut statement| {
                    statement.query_row([name.to_string()], |row| row.get(0)).optional()
                })
                .doing(doing)?;
            if let Some(id) = id {
                return Ok(Digest::parse(&id)?);
            }
        }
    }
    if hex.is_empty()
        || hex.len() > 64
        || !hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(not_found());
    }
    // `g` comes after every digit.
    let matches: Vec<String> = db
        .prepare_cached("SELECT id FROM images WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 5")
        .and_then(|mut statement| statement.query_map([format!("sha256:{hex}")], |row| row.get(0))?.collect())
        .doing(doing)?;
    match &matches[..] {
        [] => Err(not_found()),
        [id] => Ok(Digest::parse(id)?),
        _ => {
            let matches = matches.iter().map(|id| id[7..].chars().take(12).collect()).collect();
            Err(Error::Ambiguous { noun: Noun::Image, wanted: wanted.to_owned(), matches })
        }
    }
}
