//! The directory of tables, which is read again when something in it has changed.
//!
//! It is looked at before each answer, which costs 0.3 µs: who has connected a container finds it by its name at once. To ask inotify(7)
//! each time costs as much, and every user has few of those (128).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use bulkhead_sys::{Call as _, path};
use rustix::fs::{Dir, Mode, OFlags};

use super::book::Book;
use super::network::Network;
use super::stamp::{self, Stamp};
use super::table::ENDING;

/// The directory and what was read of it.
#[derive(Debug)]
pub(super) struct Shelf {
    directory: OwnedFd,
    stamp: Option<Stamp>,
    files: BTreeMap<String, Stamp>,
    book: Book,
}

impl Shelf {
    /// Opens a directory.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn open(directory: &Path) -> bulkhead_sys::Result<Self> {
        let directory = path::open_host(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        stamp::find_clock();
        Ok(Self { directory, stamp: None, files: BTreeMap::new(), book: Book::default() })
    }

    /// Returns the directory.
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Returns what is in the files now. What cannot be read stays as it was: to forget all names because of one bad file would
    /// help nobody.
    pub(super) fn book(&mut self) -> &mut Book {
        if let Ok(now) = Stamp::of_open(&self.directory)
            && !self.stamp.is_some_and(|read| read.still_holds(&now))
            && self.read().is_ok()
        {
            self.stamp = Some(now);
        }
        &mut self.book
    }

    fn read(&mut self) -> bulkhead_sys::Result<()> {
        let names = self.names().call(|| "getdents64()")?;
        for name in &names {
            let Ok(now) = Stamp::of(&self.directory, Path::new(name)) else { continue };
            if self.files.get(name).is_some_and(|read| read.still_holds(&now)) {
                continue;
            }
            if let Some(network) = self.network(name) {
                self.book.put_network(name.clone(), network);
                self.files.insert(name.clone(), now);
            }
        }
        self.files.retain(|name, _| names.contains(name));
        self.book.keep(|id| names.iter().any(|name| name == id));
        Ok(())
    }

    /// Lists the files of tables.
    fn names(&self) -> rustix::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str().ok().filter(|name| name.ends_with(ENDING)) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn network(&self, name: &str) -> Option<Network> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty()).ok()?;
        let mut text = Vec::new();
        std::fs::File::from(file).read_to_end(&mut text).ok()?;
        Network::parse(&text).ok()
    }
}
