//! What is written down of attachments, so that they can be taken away after a crash.
//!
//! Each has a file `NETWORK@CONTAINER@INTERFACE.json`, which is written before its first plugin is started, replaced as a whole after
//! each, and removed when the last has taken back what it did. It outlives a loss of power, as what plugins keep does. Beside it
//! lies a file `.lock` ([`super::lock`]).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::List;
use super::error::{Doing as _, Error, Result};
use super::key::Key;
use super::result::Attached;

/// Of the files.
const VERSION: u32 = 1;
const RECORD: &str = ".json";
const LOCK: &str = ".lock";
const NEW: &str = ".new";

/// The records of attachments.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
}

/// An attachment of which something is written down.
#[derive(Debug)]
pub struct Known {
    /// What it is called by.
    pub key: Key,
    /// What it is made of; nothing where its making was interrupted, or could not be taken back.
    pub attached: Option<Attached>,
}

/// All attachments of which something is written down.
#[derive(Debug, Default)]
pub struct Listing {
    /// In the order of their files' names.
    pub known: Vec<Known>,
    /// What is wrong with other files.
    pub unreadable: Vec<Error>,
}

/// A record, as it is on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    network: String,
    container: String,
    interface: String,
    /// Whether all plugins have done their part.
    pub(super) is_whole: bool,
    /// The path of the namespace that plugins were given.
    pub(super) namespace: String,
    /// The network, as it was described then, with the version that was chosen.
    list: Value,
    pub(super) arguments: String,
    pub(super) capabilities: Map<String, Value>,
    /// The directories for plugins.
    pub(super) path: Vec<PathBuf>,
    /// What the last plugin has answered that has done its part.
    pub(super) result: Option<Map<String, Value>>,
}

impl Records {
    /// Keeps them in a directory, which is made, for its owner alone, unless it is there.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn open(directory: &Path) -> Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.doing(|| format!("make {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Finds them where they are kept, if they are: nothing is made.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Lists the attachments of which there is anything, by the names of the files alone: also what was begun and interrupted before
    /// anything was written. Without the directory there are none.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let doing = || format!("list {}", self.directory.display());
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(doing)?,
        };
        let mut keys = BTreeSet::new();
        for entry in entries {
            let name = entry.doing(doing)?.file_name();
            keys.extend(name.to_str().and_then(key_of));
        }
        Ok(keys.into_iter().collect())
    }

    /// Looks what is written down of one attachment.
    ///
    /// # Errors
    /// [`Error::Record`] for what cannot be read.
    pub fn look(&self, key: &Key) -> Result<Option<Known>> {
        let file = self.file_of(key);
        Record::read(&file)?.map(|record| record.known(&file)).transpose()
    }

    /// Lists all.
    ///
    /// # Errors
    /// When the directory cannot be listed. A file that cannot be read is among [`Listing::unreadable`].
    pub fn list(&self) -> Result<Listing> {
        let doing = || format!("list {}", self.directory.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory).doing(doing)? {
            let path = entry.doing(doing)?.path();
            if path.extension().is_some_and(|end| end == "json") {
                files.push(path);
            }
        }
        files.sort_unstable();
        let mut listing = Listing::default();
        for file in files {
            match Record::read(&file).and_then(|record| record.map(|record| record.known(&file)).transpose())
            {
                Ok(known) => listing.known.extend(known),
                Err(error) => listing.unreadable.push(error),
            }
        }
        Ok(listing)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn lock_of(&self, key: &Key) -> PathBuf {
        self.directory.join(key.stem() + LOCK)
    }

    pub(super) fn find(&self, key: &Key) -> Result<Option<Record>> {
        Record::read(&self.file_of(key))
    }

    /// Puts a record in the place of what was there.
    pub(super) fn write(&self, key: &Key, record: &Record) -> Result<()> {
        let file = self.file_of(key);
        let new = self.new_of(key);
        let write = || {
            let mut text = serde_json::to_vec(record)?;
            text.push(b'\n');
            let mut open = OpenOptions::new();
            let mut written = open.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            written.write_all(&text)?;
            written.sync_all()?;
            fs::rename(&new, &file)?;
            self.sync()
        };
        write().doing(|| format!("write {}", file.display())).inspect_err(|_| {
            // On a full disk an empty file is no help.
            drop(fs::remove_file(&new));
        })
    }

    pub(super) fn remove(&self, key: &Key) -> Result<()> {
        let file = self.file_of(key);
        // A crash has left it.
        drop(fs::remove_file(self.new_of(key)));
        match fs::remove_file(&file).and_then(|()| self.sync()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.doing(|| format!("remove {}", file.display())),
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn new_of(&self, key: &Key) -> PathBuf {
        self.directory.join(key.stem() + NEW)
    }

    /// Returns the file in which an attachment is written down.
    #[must_use]
    pub fn file_of(&self, key: &Key) -> PathBuf {
        self.directory.join(key.stem() + RECORD)
    }
}

/// Tells of which attachment a file of this name is.
fn key_of(name: &str) -> Option<Key> {
    let stem = [RECORD, LOCK, NEW].into_iter().find_map(|end| name.strip_suffix(end))?;
    let mut parts = stem.splitn(3, '@');
    Key::new(parts.next()?, parts.next()?, parts.next()?).ok()
}

impl Record {
    /// Begins one, of an attachment of which nothing is made yet.
    pub(super) fn new(key: &Key, list: &List, namespace: &str) -> Self {
        Self {
            version: VERSION,
            network: key.network().to_owned(),
            container: key.container().to_owned(),
            interface: key.interface().to_owned(),
            is_whole: false,
            namespace: namespace.to_owned(),
            list: list.document(),
            arguments: String::new(),
            capabilities: Map::new(),
            path: Vec::new(),
            result: None,
        }
    }

    /// Reads a file, if it is there.
    fn read(file: &Path) -> Result<Option<Self>> {
        match fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => {
                let text = text.doing(|| format!("read {}", file.display()))?;
                Self::parse(&text).map(Some).map_err(|reason| Error::Record { file: file.to_owned(), reason })
            }
        }
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Beginning {
            version: u32,
        }
        let wrong = |error: serde_json::Error| format!("is no record of an attachment: {error}");
        let Beginning { version } = serde_json::from_slice(text).map_err(wrong)?;
        if version != VERSION {
            return Err(format!(
                "was written by another version of Bulkhead ({version}, and known is {VERSION})"
            ));
        }
        serde_json::from_slice(text).map_err(wrong)
    }

    /// The network, as it was described when the attachment was made.
    pub(super) fn list(&self, file: &Path) -> Result<List> {
        List::read(self.list.to_string().as_bytes(), file)
    }

    fn known(self, file: &Path) -> Result<Known> {
        let wrong = |reason: String| Error::Record { file: file.to_owned(), reason };
        let key = Key::new(&self.network, &self.container, &self.interface)
            .map_err(|error| wrong(error.to_string()))?;
        if file.file_name().is_none_or(|name| *name != *(key.stem() + RECORD)) {
            return Err(wrong(format!("is the record of {key}, whose file has another name")));
        }
        let attached = match &self.result {
            Some(result) if self.is_whole => Some(Attached::read(result)),
            _ => None,
        };
        Ok(Known { key, attached: attached.transpose().map_err(wrong)? })
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn attachments_are_found_by_the_names_of_whatever_files_they_have() {
        let scratch = Scratch::new();
        assert!(Records::at(&scratch.path().join("nowhere")).keys().unwrap().is_empty());
        for name in [
            "a@1@eth0.json",
            "a@1@eth0.lock",
            "b@2@x@y.new",
            "c@3@eth1.lock",
            "notes.json",
            "d@4",
            "-@5@eth0.json",
        ] {
            fs::write(scratch.path().join(name), "").unwrap();
        }
        let keys =
            Vec::from_iter(Records::at(scratch.path()).keys().unwrap().iter().map(ToString::to_string));
        assert_eq!(keys, ["eth0 of 1 in a", "x@y of 2 in b", "eth1 of 3 in c"]);
    }
}
