//! What takes how much room.

use bulkhead_store::{ImageUsage, VolumeUsage};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::Result;
use crate::filter::Filters;

/// The room that images, containers and volumes take. All sizes are bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Each image.
    pub images: Vec<ImageUsage>,
    /// The files of all layers, each once.
    pub layers: u64,
    /// What would go with the images that no container uses.
    pub reclaimable: u64,
    /// Each container, with what it wrote as it lies on the disk.
    pub containers: Vec<(Container, u64)>,
    /// Each volume.
    pub volumes: Vec<VolumeUsage>,
}

impl Engine {
    /// Finds out what takes how much room. Volumes and containers are walked through; images are known.
    ///
    /// # Errors
    /// As the database, and as looking at files.
    pub fn usage(&self) -> Result<Usage> {
        let bulkhead_store::Usage { images, layers, blobs: _, reclaimable, volumes } = self.store.usage()?;
        let mut containers = Vec::new();
        for container in self.containers(&Filters::default())? {
            let size = self.store.container_size(&container.id)?;
            containers.push((container, size));
        }
        Ok(Usage { images, layers, reclaimable, containers, volumes })
    }
}
