//! Leases: what is being made stays, as long as whoever makes it lives.
//!
//! ```text
//! store.lease ──┬─ has_blob, has_layer       what is there already is claimed
//!               ├─ document, blob, layer     what comes is checked, and waits (`arrived.rs`)
//!               ├─ settle                    what waits is synced, named, recorded and claimed
//!               └─ image, commit             the same, and the image's row, from when on it needs no lease
//! drop: what waits goes, and the claims do. Whoever was killed has none: its lease is void with it.
//! ```
//! A lease is held by a lock on a file in `ingest`, which the kernel takes from who dies, and which is one and the same in
//! all pid namespaces that share a store.
//!
//! `blobs` and `layers` change only while the one who changes them may write to the database. So what has no row is
//! nobody's and can go, and what has one is there.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::arrived::Arrived;
use crate::error::{Doing as _, Result};
use crate::store::now;
use crate::{Digest, Durability, Places, Store, trash};

/// How the name of a lease's lock ends.
const LOCK: &str = "-lock";

/// A lease of this process. It may be shared between threads.
#[derive(Debug)]
pub struct Lease<'s> {
    pub(crate) store: &'s Store,
    pub(crate) arrived: Mutex<Vec<Arrived>>,
    id: String,
    next: AtomicU32,
    /// Locked as long as the lease is.
    _lock: File,
}

/// What can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Blob,
    Layer,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
        }
    }
}

impl Store {
    /// Takes a lease for something that is to be made, such as `pull alpine`.
    ///
    /// # Errors
    /// As the database, and as reading `/proc`.
    pub fn lease(&self, purpose: &str) -> Result<Lease<'_>> {
        let id = random()?;
        let path = lock(&self.places, &id);
        // While nobody else writes, so that nobody sees the file without its row or without its lock.
        let held = self.database.write(Durability::Process, |db| {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = file.doing(|| format!("make {}", path.display()))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)
                .doing(|| format!("lock {}", path.display()))?;
            db.execute("INSERT INTO leases VALUES (?, ?, ?)", params![id, purpose, now()])
                .doing(|| format!("take a lease for {purpose}"))?;
            Ok(file)
        })?;
        Ok(Lease { store: self, arrived: Mutex::default(), id, next: AtomicU32::new(0), _lock: held })
    }
}

impl Lease<'_> {
    /// Claims a blob, if it is there; returns its size and, if it is a layer's, its diff id.
    ///
    /// # Errors
    /// As the database.
    pub fn has_blob(&self, digest: &Digest) -> Result<Option<(u64, Option<Digest>)>> {
        if let Some((size, diff_id, _)) = self.arrived_blob(digest) {
            return Ok(Some((size, diff_id)));
        }
        self.store.database.write(Durability::Process, |db| {
            let found = blob_row(db, digest)?.filter(|_| self.store.places.blob(digest).exists());
            if found.is_some() {
                self.claim(db, Kind::Blob, digest)?;
            }
            Ok(found)
        })
    }

    /// Claims an unpacked layer, if it is there; returns its size.
    ///
    /// # Errors
    /// As the database.
    pub fn has_layer(&self, diff_id: &Digest) -> Result<Option<u64>> {
        if let Some(size) = self.arrived_tree(diff_id) {
            return Ok(Some(size));
        }
        self.store.database.write(Durability::Process, |db| {
            let found = layer_row(db, diff_id)?.filter(|_| self.store.places.layer(diff_id).exists());
            if found.is_some() {
                self.claim(db, Kind::Layer, diff_id)?;
            }
            Ok(found)
        })
    }

    /// Says that something is to stay as long as this lease.
    pub(crate) fn claim(&self, db: &Connection, kind: Kind, digest: &Digest) -> Result<()> {
        db.prepare_cached("INSERT OR IGNORE INTO claims VALUES (?, ?, ?)")
            .and_then(|mut statement| statement.execute(params![self.id, kind.text(), digest.to_string()]))
            .doing(|| format!("claim {} {digest}", kind.text()))?;
        Ok(())
    }

    /// Returns a path in `ingest` for something to be made, whose name tells this lease.
    pub(crate) fn place(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.store.places.ingest().join(format!("{}-{number}", self.id))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.arrived.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        // Should this fail, the lease is void as soon as nobody holds its lock, and a collection does the rest.
        let _ = self.store.database.write_removal(Durability::Process, |db| {
            db.execute("DELETE FROM leases WHERE id = ?", [&self.id]).doing(|| "give a lease back")
        });
        let _ = fs::remove_file(lock(&self.store.places, &self.id));
    }
}

/// Gives something that was made its name, as [`rename`], and syncs that.
pub(crate) fn publish(
    store: &Store,
    lock: &Transaction<'_>,
    made: &Path,
    name: &Path,
) -> Result<Option<PathBuf>> {
    let before = rename(store, lock, made, name)?;
    // The name reaches the disk before the row does.
    sync_directory(name.parent().unwrap_or(Path::new("/")))?;
    Ok(before)
}

/// Gives something that was made its name, from where it lies in `ingest`. A tree that has the name has no row, or is
/// damaged; it is moved to where this tells, to be deleted when the lock is free.
pub(crate) fn rename(
    store: &Store,
    _lock: &Transaction<'_>,
    made: &Path,
    name: &Path,
) -> Result<Option<PathBuf>> {
    let doing = || format!("rename {} to {}", made.display(), name.display());
    match fs::rename(made, name) {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            let trash = store.trash();
            fs::rename(name, &trash).doing(doing)?;
            fs::rename(made, name).doing(doing)?;
            Ok(Some(trash))
        }
        renamed => renamed.doing(doing).map(|()| None),
    }
}

/// Brings the names in a directory to the disk.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .doing(|| format!("sync {}", directory.display()))
}

/// Reads the row of a blob that is whole: its size, and its diff id.
pub(crate) fn blob_row(db: &Connection, digest: &Digest) -> Result<Option<(u64, Option<Digest>)>> {
    let row: Option<(u64, Option<String>)> = db
        .prepare_cached("SELECT size, diff_id FROM blobs WHERE digest = ? AND NOT damaged")
        .and_then(|mut statement| {
            statement.query_row([digest.to_string()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .doing(|| format!("look for blob {digest}"))?;
    row.map(|(size, diff_id)| Ok((size, diff_id.map(|diff_id| Digest::parse(&diff_id)).transpose()?)))
        .transpose()
}

/// Reads the row of a layer that is whole: its size.
pub(crate) fn layer_row(db: &Connection, diff_id: &Digest) -> Result<Option<u64>> {
    db.prepare_cached("SELECT size FROM layers WHERE diff_id = ? AND NOT damaged")
        .and_then(|mut statement| statement.query_row([diff_id.to_string()], |row| row.get(0)).optional())
        .doing(|| format!("look for layer {diff_id}"))
}

/// Deletes the leases that nobody holds any more; returns how many.
pub(crate) fn void_leases(places: &Places, db: &Transaction<'_>) -> Result<usize> {
    let void = void(places, db)?;
    for id in &void {
        db.execute("DELETE FROM leases WHERE id = ?", [id]).doing(|| "delete void leases")?;
    }
    Ok(void.len())
}

/// Counts the leases that nobody holds any more.
pub(crate) fn count_void(places: &Places, db: &Transaction<'_>) -> Result<usize> {
    Ok(void(places, db)?.len())
}

/// Lists the leases that nobody holds any more. Whoever takes one writes to the database, so that none is half taken.
fn void(places: &Places, db: &Transaction<'_>) -> Result<Vec<String>> {
    let leases: Vec<String> = db
        .prepare_cached("SELECT id FROM leases")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .doing(|| "look for void leases")?;
    let mut void = Vec::new();
    for id in leases {
        if !is_locked(&lock(places, &id))? {
            void.push(id);
        }
    }
    Ok(void)
}

/// Tells whether a process holds a lease by its lock.
fn is_locked(lock: &Path) -> Result<bool> {
    let file = match File::open(lock) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened.doing(|| format!("open {}", lock.display()))?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(true),
        locked => locked.doing(|| format!("lock {}", lock.display())).map(|()| false),
    }
}

/// The file by whose lock a lease is held.
fn lock(places: &Places, id: &str) -> PathBuf {
    places.ingest().join(format!("{id}{LOCK}"))
}

/// Tells whether an entry of `ingest` is such a file.
pub(crate) fn is_lock(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(LOCK.as_bytes())
}

/// Tells whether an entry of `ingest` belongs to a lease.
pub(crate) fn is_held(db: &Connection, name: &OsStr) -> Result<bool> {
    let lease = name.to_str().and_then(|name| name.split_once('-')).map_or("", |(lease, _)| lease);
    db.prepare_cached("SELECT 1 FROM leases WHERE id = ?")
        .and_then(|mut statement| statement.exists([lease]))
        .doing(|| "look for a lease")
}

/// Removes from `ingest` what belongs to no lease; returns how many entries, without the locks.
pub(crate) fn sweep(store: &Store) -> Result<usize> {
    let ingest = store.places.ingest();
    let doing = || format!("list {}", ingest.display());
    // While nobody takes a lease: the lock is there before the row is to be seen.
    let left = store.database.write_removal(Durability::Process, |db| {
        let mut left = Vec::new();
        for entry in fs::read_dir(&ingest).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            if !is_held(db, &name)? {
                left.push(name);
            }
        }
        Ok(left)
    })?;
    for name in &left {
        trash::empty(&ingest.join(name))?;
    }
    Ok(left.iter().filter(|name| !is_lock(name)).count())
}

fn random() -> Result<String> {
    let mut bytes = [0; 12];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing(|| "get random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
