//! What the engine keeps of a container in the store's record, as JSON.

use std::collections::BTreeMap;

use bulkhead_shim::status::{Process, Verdict};
use bulkhead_store::ContainerRecord;
use serde::{Deserialize, Serialize};

use crate::configure::Users;
use crate::error::{Error, Result};
use crate::request::{Mount, MountKind, Request, Root, Volume};

/// The version of this document. One that is newer is refused, since what is not understood of it could be lost.
const VERSION: u32 = 1;

/// A container's part of the record: what was asked for, and what was decided when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    /// [`VERSION`] of the writer.
    pub(crate) version: u32,
    /// What was asked for; resources and restart policy as they were changed last.
    pub(crate) request: Request,
    /// The labels of the image and of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// The program and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// What is mounted in it, each volume with its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<Mount>,
    /// The names of the volumes that were made for this container, which has none for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) anonymous: Vec<String>,
    /// The users that it has of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<Users>,
    /// The first process that was frozen, see [`Recorded`](crate::life::Recorded).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<Process>,
    /// The last end that was recorded as an event, by its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told: Option<u64>,
    /// The code of that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<u8>,
    /// The last start that was recorded as an event, by its time; 0 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told_start: Option<u64>,
    /// How it was by the last check that was recorded as an event since that start, and when that check ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told_health: Option<(u64, Verdict)>,
    /// The start, by its time, after which somebody stopped the container while it had no monitor that could have noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<u64>,
    /// Its removal, which was begun, takes the volumes along that were made for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) takes_volumes: bool,
    /// Who makes the container, until it was started: when that process is gone, nobody will start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) maker: Option<Maker>,
    /// It is made to run once and to be removed then, so nothing of it outlives the machine: after a power loss it is removed
    /// in any case. What its monitor saw lies below `run`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) goes_with_machine: bool,
}

/// The process that makes a container and means to start it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Maker {
    /// The boot of the machine in which it runs.
    pub(crate) boot: String,
    /// The process.
    pub(crate) process: Process,
}

impl Document {
    /// Makes the document of a new container.
    pub(crate) fn new(request: Request) -> Self {
        Self {
            version: VERSION,
            request,
            labels: BTreeMap::new(),
            command: Vec::new(),
            mounts: Vec::new(),
            anonymous: Vec::new(),
            users: None,
            paused: None,
            told: None,
            code: None,
            told_start: Some(0),
            told_health: None,
            given_up: None,
            takes_volumes: false,
            maker: None,
            goes_with_machine: false,
        }
    }

    /// Tells whether the machine has gone with which the container does.
    pub(crate) fn has_gone_with_machine(&self, boot: &str) -> bool {
        self.goes_with_machine && self.maker.as_ref().is_some_and(|maker| maker.boot != boot)
    }

    /// Reads the document of a record.
    ///
    /// # Errors
    /// [`Error::Damaged`] for one that is none, or is newer.
    pub(crate) fn read(record: &ContainerRecord) -> Result<Self> {
        read(&record.document).map_err(|reason| Error::Damaged { what: subject(record), reason })
    }

    /// As [`Document::read`], within a change of the store.
    pub(crate) fn read_stored(record: &ContainerRecord) -> bulkhead_store::Result<Self> {
        let damaged = |reason| bulkhead_store::Error::Damaged { subject: subject(record), reason };
        read(&record.document).map_err(damaged)
    }

    /// Writes the document.
    pub(crate) fn write(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::Damaged { what: "a new record".to_owned(), reason: error.to_string() })
    }

    /// As [`Document::write`], within a change of the store.
    pub(crate) fn write_stored(&self, record: &ContainerRecord) -> bulkhead_store::Result<String> {
        let damaged = |error: serde_json::Error| bulkhead_store::Error::Damaged {
            subject: subject(record),
            reason: error.to_string(),
        };
        serde_json::to_string(self).map_err(damaged)
    }

    /// Returns the image as it was asked for; for a root of its own the directory.
    pub(crate) fn image(&self) -> String {
        match &self.request.root {
            Root::Image(name) => name.clone(),
            Root::Directory(directory) => directory.path.display().to_string(),
        }
    }

    /// Returns the volumes among the mounts: name, place in the container, and the rest.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = (&str, &str, &Volume)> {
        self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Volume(volume) => Some((volume.name.as_deref()?, mount.destination.as_str(), volume)),
            MountKind::Bind(_) | MountKind::Tmpfs(_) => None,
        })
    }
}

fn subject(record: &ContainerRecord) -> String {
    format!("the record of container {}", record.name)
}

fn read(text: &str) -> std::result::Result<Document, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if version > VERSION {
        return Err(format!("it has version {version}, and this program knows none after {VERSION}"));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer ones spill over to pages of their own, which each change of the record writes, too.
    #[test]
    fn a_usual_document_fits_the_page_of_its_row() {
        let mut request = Request { name: Some("web".to_owned()), remove: true, ..Request::default() };
        request.process.command = ["sh", "-c", "exec sleep 1000"].map(str::to_owned).into();
        request.root = Root::Image("docker.io/library/busybox:1.37".to_owned());
        let mut document = Document::new(request);
        document.command = document.request.process.command.clone();
        document.told = Some(u64::MAX);
        document.told_start = Some(u64::MAX);
        document.maker =
            Some(Maker { boot: "0".repeat(36), process: Process { pid: i32::MAX, start: u64::MAX } });
        // Of a page of 4096 bytes a row of a table without row numbers has 1002, of which id, name and image take 170.
        assert!(document.write().unwrap().len() < 800, "{}", document.write().unwrap());
    }

    #[test]
    fn a_document_is_read_as_it_was_written_and_a_newer_one_is_refused() {
        let mut document = Document::new(Request::default());
        document.mounts.push(Mount::from_volume("data:/data").unwrap());
        let mut record = ContainerRecord::new("0123", "web", None);
        record.document = document.write().unwrap();
        assert_eq!(Document::read(&record).unwrap(), document);
        let volumes: Vec<(&str, &str)> = document.volumes().map(|(name, at, _)| (name, at)).collect();
        assert_eq!(volumes, [("data", "/data")]);
        record.document = record.document.replace("\"version\":1", "\"version\":2");
        let error = Document::read(&record).unwrap_err().to_string();
        assert_eq!(
            error,
            "the record of container web: it has version 2, and this program knows none after 1"
        );
    }
}
