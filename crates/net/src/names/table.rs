//! Who is in a network, and by which names: files that the engine writes and the helpers read.
//!
//! ```text
//! DIRECTORY/ID.json   {"version":1,"name":"shop","internal":false,"members":[
//!                       {"container":"4f…","order":0,"addresses":["10.0.0.2","fd00::2"],"names":["db","4f0c2d1a9b3e"]}]}
//! ```
//!
//! A file is replaced as a whole. Nobody but root and the helpers reads it: these are in a group that nobody else is in ([`GROUP`]).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The group as which helpers of root's read: one of the numbers that nobody hands out (systemd's `UIDS-GIDS`).
pub const GROUP: u32 = 1_900_000_000;
/// The version of the files.
const VERSION: u32 = 1;
/// How the names of the files end.
pub(super) const ENDING: &str = ".json";

/// The members of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The network's name, which stands behind the point in `NAME.NETWORK`.
    pub name: String,
    /// Whether it has no way out. Who is only in such networks has no questions asked elsewhere.
    pub is_internal: bool,
    /// Its members.
    pub members: Vec<Member>,
}

/// A container in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The container's id.
    pub container: String,
    /// The place of this network among the container's own, the least first: the first that knows a name answers.
    #[serde(default)]
    pub order: u32,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// By what others there know it; case does not matter. The first is what its addresses are called. Without any it is found by
    /// nobody, and the network counts as its way out alone, as docker's default network does, which has no names.
    pub names: Vec<String>,
    /// By what it alone knows others there (`--link`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// A name that one container has for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The name.
    pub name: String,
    /// The other's id.
    pub container: String,
}

/// The file, with its members as they are wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document<Members> {
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) internal: bool,
    pub(super) members: Members,
}

impl<'a, Members: Deserialize<'a>> Document<Members> {
    /// Reads a file.
    ///
    /// # Errors
    /// What is not such a document, or one of a later version.
    pub(super) fn parse(text: &'a [u8]) -> io::Result<Self> {
        let document: Self = serde_json::from_slice(text)?;
        if document.version != VERSION {
            let reason = format!("it has version {}, and this program knows {VERSION}", document.version);
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        }
        Ok(document)
    }
}

impl Table {
    /// Writes the file of the network with this id into a directory, which is made if it is not there (not its parent). Nobody
    /// else may write that network's at the same time: the caller has a lock.
    ///
    /// # Errors
    /// As open(2), write(2) and rename(2); then the file is as before.
    pub fn write(&self, directory: &Path, id: &str) -> Result<()> {
        let Self { name, is_internal, members } = self;
        let document = Document {
            version: VERSION,
            name: name.clone(),
            internal: *is_internal,
            members: members.clone(),
        };
        let path = file(directory, id);
        let failed = |source| Error::File { doing: "write", path: path.clone(), source };
        let text = serde_json::to_vec(&document).map_err(|error| failed(error.into()))?;
        let new = directory.join(format!("{id}.new"));
        let written = make(directory).and_then(|()| create(&new)).and_then(|mut file| file.write_all(&text));
        written.and_then(|()| std::fs::rename(&new, &path)).map_err(|error| {
            drop(std::fs::remove_file(&new));
            failed(error)
        })
    }

    /// Reads the file of a network; nothing where it has none.
    ///
    /// # Errors
    /// As open(2) and read(2), and a file that is none of ours.
    pub fn read(directory: &Path, id: &str) -> Result<Option<Self>> {
        let path = file(directory, id);
        let failed = |source| Error::File { doing: "read", path: path.clone(), source };
        match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => Self::parse(&read.map_err(failed)?).map(Some).map_err(failed),
        }
    }

    /// Removes the file of a network, if it is there.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove(directory: &Path, id: &str) -> Result<()> {
        let path = file(directory, id);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(Error::File { doing: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Reads what is in a file.
    ///
    /// # Errors
    /// What is not such a document, or one of a later version.
    pub fn parse(text: &[u8]) -> io::Result<Self> {
        let Document { version: _, name, internal: is_internal, members } = Document::parse(text)?;
        Ok(Self { name, is_internal, members })
    }
}

/// Where the file of a network is.
fn file(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}{ENDING}"))
}

fn make(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o750).create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| share(File::open(directory)?, Mode::from_raw_mode(0o750))),
    }
}

fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    share(&file, Mode::from_raw_mode(0o640))?;
    Ok(file)
}

/// Gives a file to the helpers' group. Where there is no such group, they are the same user.
fn share(file: impl AsFd, mode: Mode) -> io::Result<()> {
    if rustix::fs::fchown(&file, None, Some(Gid::from_raw(GROUP))).is_ok() {
        rustix::fs::fchmod(&file, mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    fn table() -> Table {
        Table {
            name: "shop".to_owned(),
            is_internal: false,
            members: vec![Member {
                container: "4f".to_owned(),
                order: 2,
                addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                names: vec!["db".to_owned()],
                links: vec![Link { name: "w".to_owned(), container: "5a".to_owned() }],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let scratch = Scratch::new();
        let directory = scratch.path().join("names");
        let mut table = table();
        table.write(&directory, "n1").unwrap();
        table.members[0].links.clear();
        table.write(&directory, "n1").unwrap();
        assert_eq!(Table::read(&directory, "n1").unwrap(), Some(table));
        assert_eq!(directory.read_dir().unwrap().count(), 1, "nothing lies beside it");
        for _ in 0..2 {
            Table::remove(&directory, "n1").unwrap();
            assert_eq!(Table::read(&directory, "n1").unwrap(), None);
        }
    }

    #[test]
    fn a_file_is_no_stranger_s() {
        use std::os::unix::fs::MetadataExt as _;
        let scratch = Scratch::new();
        let directory = scratch.path().join("names");
        table().write(&directory, "n1").unwrap();
        for path in [directory.clone(), file(&directory, "n1")] {
            let found = path.metadata().unwrap();
            assert_eq!(found.mode() & 0o027, 0, "{}: {:o}", path.display(), found.mode());
            assert!(found.mode() & 0o040 == 0 || found.gid() == GROUP, "{}", path.display());
        }
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_path() {
        let scratch = Scratch::new();
        for text in ["", "{}", r#"{"version":2,"name":"a","internal":false,"members":[]}"#, "[1]"] {
            std::fs::write(file(scratch.path(), "n"), text).unwrap();
            let error = Table::read(scratch.path(), "n").unwrap_err().to_string();
            assert!(error.contains("n.json"), "{error}");
        }
    }
}
