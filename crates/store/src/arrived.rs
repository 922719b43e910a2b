//! What has arrived whole and has no name yet.
//!
//! ```text
//! layer, document ──► arrived ──┬─ so much of it that a kill would lose too much ──┬─► settle
//! layer, document ──► arrived ──┤                                                  │
//!                               └─ commit ─────────────────────────────────────────┘
//! settle: syncfs ─ (lock: renames ─ sync of two directories ─ rows, claims)
//! ```
//! A sync waits for all that anybody has written to the file system, so there is one for many layers and not one for each.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use rusqlite::{Transaction, params};

use crate::error::{Doing as _, Result};
use crate::intake::TreeBeingMade;
use crate::lease::{self, Kind};
use crate::{Digest, Durability, Lease, trash};

/// How many bytes of blobs wait for their names at most: so much comes again when the process is killed.
const AT_MOST: u64 = 64 * 1024 * 1024;

/// A file in `ingest`, which goes unless it gets a name.
#[derive(Debug)]
pub(crate) struct Part(pub(crate) PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // It has been renamed, or it is to go; what cannot be removed is left to the next collection.
        let _ = fs::remove_file(&self.0);
    }
}

/// Something that is whole, but for its name.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// A blob; a layer's archive has a diff id.
    Blob { part: Part, digest: Digest, size: u64, diff_id: Option<Digest> },
    /// An unpacked layer.
    Tree { tree: TreeBeingMade, diff_id: Digest, size: u64, entries: u64, summary: Digest },
}

impl Lease<'_> {
    /// Names, records and claims what has arrived, so that it is there for others, and after a loss of power. Committing an
    /// image does it, too.
    ///
    /// # Errors
    /// As syncfs(2), rename(2) and the database.
    pub fn settle(&self) -> Result<()> {
        if self.arrived().is_empty() { Ok(()) } else { self.settle_with(|_| Ok(())) }
    }

    /// Settles, and does what is to be done in the same transaction.
    pub(crate) fn settle_with<T>(&self, then: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let arrived = std::mem::take(&mut *self.arrived());
        let places = &self.store.places;
        if !arrived.is_empty() {
            // One call for all blobs and for all files of the trees.
            let ingest = places.ingest();
            File::open(&ingest)
                .and_then(|ingest| Ok(rustix::fs::syncfs(ingest)?))
                .doing(|| format!("sync {}", ingest.display()))?;
        }
        let mut replaced = Vec::new();
        let settled = self.store.database.write(Durability::PowerLoss, |db| {
            for one in &arrived {
                replaced.extend(self.publish(db, one)?);
            }
            if !arrived.is_empty() {
                // The names reach the disk before the rows do.
                lease::sync_directory(&places.blobs())?;
                lease::sync_directory(&places.layers())?;
            }
            then(db)
        });
        for tree in replaced {
            trash::empty(&tree)?;
        }
        settled
    }

    /// Keeps what is whole until it is settled, at once if much waits.
    pub(crate) fn arrive(&self, new: impl IntoIterator<Item = Arrived>) -> Result<()> {
        let waiting = {
            let mut arrived = self.arrived();
            arrived.extend(new);
            let size = |one: &Arrived| if let Arrived::Blob { size, .. } = one { *size } else { 0 };
            arrived.iter().map(size).sum::<u64>()
        };
        if waiting < AT_MOST { Ok(()) } else { self.settle() }
    }

    /// The size and diff id of a blob that waits for its name, and where it is.
    pub(crate) fn arrived_blob(&self, digest: &Digest) -> Option<(u64, Option<Digest>, PathBuf)> {
        self.arrived().iter().find_map(|one| match one {
            Arrived::Blob { part, digest: found, size, diff_id } if found == digest => {
                Some((*size, *diff_id, part.0.clone()))
            }
            _ => None,
        })
    }

    /// The size of a layer that waits for its name.
    pub(crate) fn arrived_tree(&self, diff_id: &Digest) -> Option<u64> {
        self.arrived().iter().find_map(|one| match one {
            Arrived::Tree { diff_id: found, size, .. } if found == diff_id => Some(*size),
            _ => None,
        })
    }

    /// A blob of a layer that waits for its name.
    pub(crate) fn arrived_archive(&self, diff_id: &Digest) -> Option<(Digest, u64)> {
        self.arrived().iter().find_map(|one| match one {
            Arrived::Blob { digest, size, diff_id: Some(of), .. } if of == diff_id => Some((*digest, *size)),
            _ => None,
        })
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<Arrived>> {
        // Whoever panicked has added one, or none.
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names, records and claims one; returns what had its name, to be deleted when the lock is free.
    fn publish(&self, db: &Transaction<'_>, one: &Arrived) -> Result<Option<PathBuf>> {
        let store = self.store;
        match one {
            Arrived::Blob { part, digest, size, diff_id } => {
                let name = store.places.blob(digest);
                let known = lease::blob_row(db, digest)?.filter(|_| name.exists());
                let before = match known {
                    Some(_) => None,
                    None => lease::rename(store, db, &part.0, &name)?,
                };
                let diff_id = diff_id.or(known.and_then(|(_, diff_id)| diff_id));
                let values = params![digest.to_string(), size, diff_id.as_ref().map(Digest::to_string)];
                let sql = "INSERT INTO blobs VALUES (?1, ?2, ?3, 0)
                    ON CONFLICT DO UPDATE SET size = ?2, diff_id = ?3, damaged = 0";
                db.prepare_cached(sql)
                    .and_then(|mut statement| statement.execute(values))
                    .doing(|| format!("record blob {digest}"))?;
                self.claim(db, Kind::Blob, digest)?;
                Ok(before)
            }
            Arrived::Tree { tree, diff_id, size, entries, summary } => {
                let name = store.places.layer(diff_id);
                let known = lease::layer_row(db, diff_id)?.filter(|_| name.exists());
                let before = match known {
                    Some(_) => None,
                    None => {
                        let before = lease::rename(store, db, &tree.path, &name)?;
                        let values = params![diff_id.to_string(), size, entries, summary.to_string()];
                        let sql = "INSERT INTO layers VALUES (?1, ?2, ?3, ?4, 0)
                            ON CONFLICT DO UPDATE SET size = ?2, entries = ?3, summary = ?4, damaged = 0";
                        db.execute(sql, values).doing(|| format!("record layer {diff_id}"))?;
                        before
                    }
                };
                self.claim(db, Kind::Layer, diff_id)?;
                Ok(before)
            }
        }
    }
}
