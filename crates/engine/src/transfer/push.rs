//! Pushing.

use std::io::{Read, Seek as _, SeekFrom};

use bulkhead_registry::{Client, Descriptor, Document, Pushed, in_parallel};
use bulkhead_store::{Image, Name, Store};

use super::error::{Error, Result};
use super::{AT_ONCE, Move, Stage, Watch};

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// The name, in full.
    pub name: Name,
    /// The digest that it stands for at the registry now.
    pub digest: String,
    /// The size of the manifest in bytes.
    pub size: u64,
}

/// Pushes an image to the registry that its name says: layers that are not there, the configuration, the manifest.
///
/// # Errors
/// [`Error::Registry`], [`Error::Store`], and [`Error::Invalid`] for what is called by no name.
pub fn push(store: &Store, client: &Client, wanted: &str, watch: &Watch<'_>) -> Result<PushedImage> {
    let invalid = |reason: String| Error::Invalid { what: wanted.to_owned(), reason };
    let image = store.image(wanted)?;
    let name = Name::parse(wanted).map_err(|error| invalid(error.to_string()))?;
    if !image.names.contains(&name) {
        let reason = format!("is no name; give the image one first: bulkhead tag {wanted} HOST/PATH:TAG");
        return Err(invalid(reason));
    }
    let bytes = store.small_blob(&image.manifest)?;
    let Document::Manifest(manifest) = Document::parse(bytes, None)? else {
        return Err(invalid("has an index for a manifest".to_owned()));
    };
    let push = client.push(&name)?;
    let sources = sources(store, &image, &name)?;
    let mut parts: Vec<&Descriptor> = Vec::new();
    for layer in &manifest.layers {
        if !parts.iter().any(|known| known.digest == layer.digest) {
            parts.push(layer);
            tell(watch, layer, Stage::Waiting);
        }
    }
    let send = |part: &Descriptor| {
        let open = |offset| {
            let mut file = store.open_blob(&part.digest).map_err(std::io::Error::other)?;
            file.seek(SeekFrom::Start(offset))?;
            let counted = Counted { inner: file, part: part.clone(), watch, count: offset };
            Ok(Box::new(counted) as Box<dyn Read + Send + '_>)
        };
        let pushed = push.blob(part, &sources, &open)?;
        tell(watch, part, if pushed == Pushed::Sent { Stage::Complete } else { Stage::Present });
        Ok::<_, Error>(())
    };
    in_parallel(&parts, AT_ONCE, |part| send(part))?;
    send(&manifest.configuration)?;
    let digest = push.manifest(&manifest.bytes, &manifest.media_type)?;
    // It is there, whether that can be recorded or not.
    drop(store.record_push(&image.id, &name, &digest));
    Ok(PushedImage { name, digest: digest.to_string(), size: manifest.bytes.len() as u64 })
}

/// Other repositories of the same registry that have a layer of the image.
fn sources(store: &Store, image: &Image, name: &Name) -> Result<Vec<Name>> {
    let mut found: Vec<Name> = Vec::new();
    for other in store.images()? {
        let shares = other.layers.iter().any(|layer| image.layers.iter().any(|own| own.blob == layer.blob));
        for known in other.names.iter().filter(|_| shares) {
            let is_elsewhere = known.domain() == name.domain() && known.path() != name.path();
            if is_elsewhere && !found.iter().any(|found| found.path() == known.path()) {
                found.push(known.clone());
            }
        }
    }
    Ok(found)
}

fn tell(watch: &Watch<'_>, part: &Descriptor, stage: Stage) {
    watch(Move { blob: &part.digest.to_string(), size: part.size, stage });
}

/// Tells whoever watches how much has gone.
struct Counted<'a, R> {
    inner: R,
    part: Descriptor,
    watch: &'a Watch<'a>,
    count: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        tell(self.watch, &self.part, Stage::Moving(self.count));
        Ok(count)
    }
}
