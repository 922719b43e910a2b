//! Leases: what is being made stays, as long as whoever makes it lives.
//!
//! ```text
//! store.lease ──┬─ has_blob, has_layer       what is there already is claimed
//!               ├─ document, blob, layer     what comes is checked, synced, named, recorded and claimed
//!               └─ image                     the image's row, from when on it needs no lease
//! drop: the claims go. Whoever was killed has none: its lease is void with it.
//! ```
//! `blobs` and `layers` change only while the one who changes them may write to the database. So what has no row is
//! nobody's and can go, and what has one is there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::error::{Doing as _, Result};
use crate::owner::Owner;
use crate::store::now;
use crate::{Digest, Durability, Store, trash};

/// A lease of this process. It may be shared between threads.
#[derive(Debug)]
pub struct Lease<'s> {
    pub(crate) store: &'s Store,
    id: String,
    next: AtomicU32,
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
        let Owner { pid, start, boot } = Owner::this()?;
        self.database.write(Durability::Process, |db| {
            db.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?)",
                params![id, purpose, now(), pid, start, boot],
            )
            .doing(|| format!("take a lease for {purpose}"))
        })?;
        Ok(Lease { store: self, id, next: AtomicU32::new(0) })
    }
}

impl Lease<'_> {
    /// Claims a blob, if it is there; returns its size and, if it is a layer's, its diff id.
    ///
    /// # Errors
    /// As the database.
    pub fn has_blob(&self, digest: &Digest) -> Result<Option<(u64, Option<Digest>)>> {
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
        // Should this fail, the lease is void as soon as this process has ended.
        let _ = self.store.database.write_removal(Durability::Process, |db| {
            db.execute("DELETE FROM leases WHERE id = ?", [&self.id]).doing(|| "give a lease back")
        });
    }
}

/// Gives something that was made its name, from where it lies in `ingest`. A tree that has the name has no row, or is
/// damaged; it is moved to where this tells, to be deleted when the lock is free.
pub(crate) fn publish(
    store: &Store,
    _lock: &Transaction<'_>,
    made: &Path,
    name: &Path,
) -> Result<Option<PathBuf>> {
    let doing = || format!("rename {} to {}", made.display(), name.display());
    let before = match fs::rename(made, name) {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            let trash = store.trash();
            fs::rename(name, &trash).doing(doing)?;
            fs::rename(made, name).doing(doing)?;
            Some(trash)
        }
        renamed => renamed.doing(doing).map(|()| None)?,
    };
    // The name reaches the disk before the row does.
    let directory = name.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .doing(|| format!("sync {}", directory.display()))?;
    Ok(before)
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

/// Deletes the leases whose owners have ended; returns how many.
pub(crate) fn void_leases(db: &Transaction<'_>) -> Result<usize> {
    let void = void(db)?;
    for id in &void {
        db.execute("DELETE FROM leases WHERE id = ?", [id]).doing(|| "delete void leases")?;
    }
    Ok(void.len())
}

/// Counts the leases whose owners have ended.
pub(crate) fn count_void(db: &Connection) -> Result<usize> {
    Ok(void(db)?.len())
}

/// Lists the leases whose owners have ended.
fn void(db: &Connection) -> Result<Vec<String>> {
    let doing = || "look for void leases";
    let leases: Vec<(String, Owner)> = db
        .prepare_cached("SELECT id, pid, start, boot FROM leases")
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, Owner { pid: row.get(1)?, start: row.get(2)?, boot: row.get(3)? }))
            };
            statement.query_map([], read)?.collect()
        })
        .doing(doing)?;
    let mut void = Vec::new();
    for (id, owner) in leases {
        if !owner.lives()? {
            void.push(id);
        }
    }
    Ok(void)
}

/// Tells whether an entry of `ingest` belongs to a lease.
pub(crate) fn is_held(db: &Connection, name: &OsStr) -> Result<bool> {
    let lease = name.to_str().and_then(|name| name.split_once('-')).map_or("", |(lease, _)| lease);
    db.prepare_cached("SELECT 1 FROM leases WHERE id = ?")
        .and_then(|mut statement| statement.exists([lease]))
        .doing(|| "look for a lease")
}

/// Removes from `ingest` what belongs to no lease; returns how many entries.
pub(crate) fn sweep(store: &Store) -> Result<usize> {
    let ingest = store.places.ingest();
    let doing = || format!("list {}", ingest.display());
    let mut swept = 0;
    for entry in fs::read_dir(&ingest).doing(doing)? {
        let name = entry.doing(doing)?.file_name();
        let is_held = store.database.read(|db| is_held(db, &name))?;
        if !is_held {
            trash::empty(&ingest.join(&name))?;
            swept += 1;
        }
    }
    Ok(swept)
}

fn random() -> Result<String> {
    let mut bytes = [0; 12];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing(|| "get random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
