//! Pulling.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;

use bulkhead_registry::{Client, Descriptor, Platform, Resolved, in_parallel};
use bulkhead_store::{Digest, Expected, Layer, Lease, Name, Origin, Store};
use serde::Deserialize;

use super::error::{Error, Result};
use super::{AT_ONCE, Move, Stage, Watch};

/// The longest configuration of an image that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// After how many bytes whoever watches is told again.
const STEP: u64 = 256 << 10;

/// What is pulled, and how.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The image as it was typed.
    pub wanted: String,
    /// What it is to run on.
    pub platform: Platform,
    /// How many layers come at once.
    pub at_once: NonZeroUsize,
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its id.
    pub id: Digest,
    /// Its name, in full.
    pub name: Name,
    /// What the name stands for at the registry: the digest of an index or of a manifest.
    pub digest: String,
    /// Whether it was there, under this name or none.
    pub existed: bool,
    /// The host that had it.
    pub host: String,
    /// What it runs on, when that is not what was wanted.
    pub other_platform: Option<Platform>,
}

/// What a pull has to know of an image's configuration.
#[derive(Deserialize)]
struct Configuration {
    rootfs: Roots,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Roots {
    diff_ids: Vec<Digest>,
}

impl Pull {
    /// Pulls an image for this machine.
    #[must_use]
    pub fn of(wanted: &str) -> Self {
        Self { wanted: wanted.to_owned(), platform: Platform::host(), at_once: AT_ONCE }
    }

    /// Pulls the image into the store, and names it.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Store`], and [`Error::Invalid`] for what is no image.
    pub fn run(&self, store: &Store, client: &Client, watch: &Watch<'_>) -> Result<Pulled> {
        let found = client.find(&self.wanted, &self.platform)?;
        let invalid = |reason: String| Error::Invalid { what: found.reference.to_string(), reason };
        if !found.manifest.is_image() {
            let kind: String = found.manifest.configuration.media_type.chars().take(80).collect();
            return Err(invalid(format!("is no image: its configuration is {kind:?}")));
        }
        let bytes = anywhere(&found, |found| configuration(client, found))?;
        let parsed: Configuration = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!("has a configuration that is none: {error}")))?;
        let layers = &found.manifest.layers;
        if parsed.rootfs.diff_ids.len() != layers.len() {
            let count = parsed.rootfs.diff_ids.len();
            return Err(invalid(format!(
                "has {} layers, and its configuration tells of {count}",
                layers.len()
            )));
        }
        let (name, names) = names(&found);
        let lease = store.lease(&format!("pull {}", found.reference))?;
        let kept = self.layers(&lease, client, &found, &parsed.rootfs.diff_ids, watch).inspect_err(|_| {
            // What arrived whole is there for the next attempt; should this fail, too, it comes once more.
            let _ = lease.settle();
        })?;
        let image = lease.image(&bytes, Some(&found.manifest.bytes), &kept, names)?;
        let committed = lease.commit(&[image], Origin::Registry)?.pop();
        let committed = committed.ok_or_else(|| invalid("was not recorded".to_owned()))?;
        Ok(Pulled {
            id: committed.id,
            name,
            digest: found.digest().to_string(),
            existed: committed.existed && committed.taken.is_empty(),
            host: found.host().to_owned(),
            other_platform: parsed.other_than(&self.platform),
        })
    }

    /// Takes in what is not there, a few layers at a time, and each only once.
    fn layers(
        &self,
        lease: &Lease<'_>,
        client: &Client,
        found: &Resolved,
        diff_ids: &[Digest],
        watch: &Watch<'_>,
    ) -> Result<Vec<Layer>> {
        let mut distinct: Vec<(&Digest, &Descriptor)> = Vec::new();
        for (diff_id, descriptor) in diff_ids.iter().zip(&found.manifest.layers) {
            if !distinct.iter().any(|(known, _)| *known == diff_id) {
                distinct.push((diff_id, descriptor));
                tell(watch, descriptor, Stage::Waiting);
            }
        }
        let kept = in_parallel(&distinct, self.at_once, |(diff_id, descriptor)| {
            if let Some(layer) = lease.has(diff_id)? {
                tell(watch, descriptor, Stage::Present);
                return Ok(layer);
            }
            let expected = Expected {
                subject: format!("layer {}", descriptor.digest),
                blob: Some(descriptor.digest),
                size: Some(descriptor.size),
                diff_id: Some(**diff_id),
            };
            let layer = anywhere(found, |found| {
                // The store compares the digest.
                let blob = client.blob_unchecked(found, descriptor)?;
                let mut counted = Counted { inner: blob, descriptor, watch, count: 0, told: 0 };
                Ok(lease.layer(&expected, &mut counted)?)
            })?;
            tell(watch, descriptor, Stage::Complete);
            Ok::<_, Error>(layer)
        })?;
        let by_id = BTreeMap::from_iter(kept.into_iter().map(|layer| (layer.diff_id, layer)));
        Ok(diff_ids.iter().filter_map(|diff_id| by_id.get(diff_id).cloned()).collect())
    }
}

impl Configuration {
    /// What it runs on, unless that is wanted.
    fn other_than(self, wanted: &Platform) -> Option<Platform> {
        let Self { rootfs: _, os, architecture, variant } = self;
        let own = Platform { os, architecture, variant };
        let is_wanted = own.os == wanted.os && own.architecture == wanted.architecture;
        (!is_wanted && !own.architecture.is_empty()).then_some(own)
    }
}

/// Takes something of an image where it was found, and where else it may be when that is damaged.
fn anywhere<T>(found: &Resolved, take: impl Fn(&Resolved) -> Result<T>) -> Result<T> {
    let mut place = None;
    loop {
        let taken = take(place.as_ref().unwrap_or(found));
        let is_damaged = match &taken {
            Err(Error::Store(error)) => !error.is_full(),
            Err(Error::Registry(error)) => matches!(
                error,
                bulkhead_registry::Error::Content { .. } | bulkhead_registry::Error::Size { .. }
            ),
            _ => false,
        };
        match place.as_ref().unwrap_or(found).elsewhere().filter(|_| is_damaged) {
            Some(next) => place = Some(next),
            None => return taken,
        }
    }
}

fn configuration(client: &Client, found: &Resolved) -> Result<Vec<u8>> {
    let descriptor = &found.manifest.configuration;
    if descriptor.size > LONGEST {
        let reason = format!("has a configuration of {} bytes, more than {LONGEST}", descriptor.size);
        return Err(Error::Invalid { what: found.reference.to_string(), reason });
    }
    let mut bytes = Vec::new();
    let read = client.blob(found, descriptor)?.read_to_end(&mut bytes);
    read.map_err(|error| match error.downcast::<bulkhead_registry::Error>() {
        Ok(error) => Error::Registry(error),
        Err(source) => {
            Error::Stream { doing: format!("read the configuration of {}", found.reference), source }
        }
    })?;
    Ok(bytes)
}

/// The name that was asked for, and those that the image gets: its tag, unless a digest was asked for, too, and the name
/// by which exactly this is found again.
fn names(found: &Resolved) -> (Name, Vec<Name>) {
    let name = found.reference.clone();
    let exactly = name.at(*found.digest());
    let names = if name.digest().is_some() { vec![exactly] } else { vec![name.clone(), exactly] };
    (name, names)
}

fn tell(watch: &Watch<'_>, descriptor: &Descriptor, stage: Stage) {
    watch(Move { blob: &descriptor.digest.to_string(), size: descriptor.size, stage });
}

/// Tells whoever watches how much has come.
struct Counted<'a, R> {
    inner: R,
    descriptor: &'a Descriptor,
    watch: &'a Watch<'a>,
    count: u64,
    told: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        if self.count - self.told >= STEP || count == 0 {
            self.told = self.count;
            tell(self.watch, self.descriptor, Stage::Moving(self.count));
        }
        Ok(count)
    }
}
