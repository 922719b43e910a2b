//! What takes how much room.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Doing as _, Result};
use crate::tree::{self, Measure};
use crate::{Digest, Image, Store};

/// The room that a store takes. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Each image.
    pub images: Vec<ImageUsage>,
    /// The files of all layers, each once.
    pub layers: u64,
    /// The blobs of all images and leases, each once.
    pub blobs: u64,
    /// What would go with the images that no container uses, unpacked.
    pub reclaimable: u64,
    /// Each volume.
    pub volumes: Vec<VolumeUsage>,
}

/// The room that an image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// The layers that no other image has.
    pub unique: u64,
    /// The layers that others have, too.
    pub shared: u64,
    /// How many containers are made of it.
    pub containers: usize,
}

/// The room that a volume takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// What its files take on the disk.
    pub size: u64,
    /// How many containers use it.
    pub containers: usize,
}

impl Store {
    /// Finds out what takes how much room. Volumes are walked through; images are known.
    ///
    /// # Errors
    /// As the database, and as looking at files.
    pub fn usage(&self) -> Result<Usage> {
        let images = self.images()?;
        let mut of_image: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut of_volume: BTreeMap<String, usize> = BTreeMap::new();
        for container in self.containers()? {
            if let Some(image) = container.image {
                *of_image.entry(image).or_default() += 1;
            }
            for volume in container.volumes {
                *of_volume.entry(volume).or_default() += 1;
            }
        }
        let mut holders: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
        for image in &images {
            for layer in &image.layers {
                holders.entry(layer.diff_id).or_default().insert(image.id);
                sizes.insert(layer.diff_id, layer.size);
            }
        }
        let is_idle = |image: &Digest| !of_image.contains_key(image);
        let idle = holders.iter().filter(|(_, holders)| holders.iter().all(is_idle));
        let reclaimable = idle.filter_map(|(diff_id, _)| sizes.get(diff_id)).sum();
        let (layers, blobs) = self.database.read(|db| {
            let sql = "SELECT (SELECT coalesce(sum(size), 0) FROM layers), (SELECT coalesce(sum(size), 0) FROM blobs)";
            db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).doing(|| "add up sizes")
        })?;
        let usage = |image: Image| {
            let distinct: BTreeSet<(Digest, u64)> =
                image.layers.iter().map(|layer| (layer.diff_id, layer.size)).collect();
            let is_shared = |diff_id: &Digest| holders.get(diff_id).is_some_and(|holders| holders.len() > 1);
            let sum = |wanted: bool| {
                distinct
                    .iter()
                    .filter(|(diff_id, _)| is_shared(diff_id) == wanted)
                    .map(|(_, size)| size)
                    .sum()
            };
            let containers = of_image.get(&image.id).copied().unwrap_or_default();
            ImageUsage { unique: sum(false), shared: sum(true), containers, image }
        };
        let images = images.into_iter().map(usage).collect();
        let volume = |name: String| -> Result<VolumeUsage> {
            let size = tree::room(&self.places.volume(&name), Measure::Blocks)?;
            let containers = of_volume.get(&name).copied().unwrap_or_default();
            Ok(VolumeUsage { name, size, containers })
        };
        let volumes = self.volumes()?.into_iter().map(|record| volume(record.name)).collect::<Result<_>>()?;
        Ok(Usage { images, layers, blobs, reclaimable, volumes })
    }

    /// Finds out what the files below a container's writable layer take on the disk.
    ///
    /// # Errors
    /// As looking at files.
    pub fn container_size(&self, id: &str) -> Result<u64> {
        tree::room(&self.places.container(id).join("upper"), Measure::Blocks)
    }
}
