//! Volumes: directories with names that outlive containers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_store::{Event, Kind, Subject, VolumeRecord};
use bulkhead_sys::path;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter::{Filters, truth};
use crate::id;
use crate::remove::Force;

/// The only driver: directories of the engine's.
pub const DRIVER: &str = "local";

/// The keys by which volumes are filtered (docker's).
pub const FILTERS: [&str; 5] = ["name", "label", "label!", "dangling", "driver"];

/// Refuses a part of a volume that is not there. What this user may not look into is left to who may.
pub(crate) fn expect_part(name: &str, data: &Path, part: &Path) -> Result<()> {
    let Ok(root) = path::open_host(data, OFlags::PATH | OFlags::DIRECTORY) else { return Ok(()) };
    let part_told = part.display();
    let reason = match path::open_in_root(&root, part, OFlags::PATH).map_err(|error| error.errno()) {
        Err(Errno::NOENT) => format!(
            "the volume has no {part_told}: make it first, as `bulkhead run --rm -v {name}:/v IMAGE mkdir -p /v/{part_told}` does"
        ),
        Err(Errno::NOTDIR) => format!("a part of the path {part_told} is no directory in the volume"),
        Err(Errno::LOOP) => {
            format!("a link in the path {part_told} leads to itself: name the directory without it")
        }
        Ok(_) | Err(_) => return Ok(()),
    };
    Err(Error::Invalid { what: format!("volume-subpath={part_told} of volume {name}"), reason })
}

/// A new volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeRequest {
    /// Its name; without one it gets 64 digits.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver. The driver `local` has none here.
    pub options: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made, in nanoseconds since 1970 (UTC).
    pub created: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it was made for a container that has no name for it.
    pub anonymous: bool,
    /// Where its data is on the host.
    pub mountpoint: PathBuf,
    /// The names of the containers that use it.
    pub used_by: Vec<String>,
}

/// What the engine keeps of a volume in the store's record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeDocument {
    pub(crate) labels: BTreeMap<String, String>,
    /// It was made for a container that has no name for it.
    pub(crate) anonymous: bool,
    /// The container with which it goes, whatever happens.
    pub(crate) goes_with: Option<String>,
}

impl VolumeDocument {
    pub(crate) fn read(record: &VolumeRecord) -> Result<Self> {
        serde_json::from_str(&record.document).map_err(|error| Error::Damaged {
            what: format!("the record of volume {}", record.name),
            reason: error.to_string(),
        })
    }

    pub(crate) fn write(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::Damaged { what: "a new volume".to_owned(), reason: error.to_string() })
    }
}

impl Engine {
    /// Makes a volume, and returns it; one of that name that is there is returned as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be, or an option.
    pub fn create_volume(&self, request: &VolumeRequest) -> Result<Volume> {
        let VolumeRequest { name, labels, options } = request;
        if let Some(option) = options.keys().next() {
            let reason =
                format!("the driver {DRIVER} has none here; mount it by `--mount type=bind` instead");
            return Err(Error::Invalid { what: format!("volume option {option:?}"), reason });
        }
        let name = match name {
            Some(name) => name.clone(),
            None => id::generate()?,
        };
        let document =
            VolumeDocument { labels: labels.clone(), anonymous: request.name.is_none(), goes_with: None };
        let mut record = VolumeRecord::new(&name);
        record.document = document.write()?;
        match self.store.insert_volume(&record) {
            Err(error) if error.kind() == Kind::Conflict => {}
            inserted => {
                inserted?;
                let _ = self.store.record_event(&Event::new(Subject::Volume, "create", &name));
            }
        }
        self.volume(&name)
    }

    /// Lists the volumes that fit, by name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that cannot be.
    pub fn volumes(&self, filters: &Filters) -> Result<Vec<Volume>> {
        let names = filters.patterns("name")?;
        let dangling: Vec<bool> =
            filters.values("dangling").map(|value| truth("dangling", value)).collect::<Result<_>>()?;
        let mut volumes = Vec::new();
        for record in self.store.volumes()? {
            let volume = self.describe(record)?;
            let is_dangling = volume.used_by.is_empty();
            if names.fit(&volume.name)
                && filters.fits_labels(&volume.labels)
                && filters.any("driver", |driver| driver == DRIVER)
                && (dangling.is_empty() || dangling.contains(&is_dangling))
            {
                volumes.push(volume);
            }
        }
        Ok(volumes)
    }

    /// Returns a volume by its name.
    ///
    /// # Errors
    /// When it is not there.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        self.describe(self.store.volume(name)?)
    }

    /// Removes a volume and its data.
    ///
    /// # Errors
    /// While a container uses it; when it is not there, unless that is forced.
    pub fn remove_volume(&self, name: &str, force: Force) -> Result<()> {
        match self.store.delete_volume(name) {
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => Ok(()),
            deleted => {
                deleted?;
                let _ = self.store.record_event(&Event::new(Subject::Volume, "destroy", name));
                Ok(())
            }
        }
    }

    fn describe(&self, record: VolumeRecord) -> Result<Volume> {
        let VolumeDocument { labels, anonymous, goes_with: _ } = VolumeDocument::read(&record)?;
        Ok(Volume {
            created: u64::try_from(record.created).unwrap_or(0),
            mountpoint: self.places().volume(&record.name).join("data"),
            used_by: self.store.volume_users(&record.name)?,
            name: record.name,
            labels,
            anonymous,
        })
    }
}
