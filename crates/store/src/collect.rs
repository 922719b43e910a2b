//! What nobody needs goes.
//!
//! ```text
//! leases of the dead ── rows that no image and no lease wants ── files without rows ── what is half made
//! ```
//! Rows go in one transaction. A file goes from its place while this process may write to the database and sees that no
//! row names it; nobody can bring it meanwhile. So whatever moment a crash picks, what has a row is there, and the next
//! collection goes on.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction};

use crate::error::{Doing as _, Result};
use crate::{Digest, Durability, Places, Store, lease, trash};

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers, by their diff ids.
    pub layers: Vec<Digest>,
    /// How many bytes they and the blobs had.
    pub freed: u64,
    /// Blobs.
    pub blobs: usize,
    /// Leases whose owners have ended.
    pub leases: usize,
    /// Files and directories that no row named, and what was half made.
    pub strays: usize,
}

impl Store {
    /// Removes blobs and layers that no image and no lease wants, and what a crash left. Images stay, also those without
    /// names.
    ///
    /// # Errors
    /// As the database, and as removing files; what was removed before is gone, and the rest is left to the next time.
    pub fn collect(&self) -> Result<Collected> {
        let mut collected =
            self.database.write_removal(Durability::PowerLoss, |db| forget(&self.places, db))?;
        let (forgotten, layers) = (collected.blobs, collected.layers.len());
        let blobs = self.places.blobs();
        let removed = self.sweep_directory(&blobs, BLOB_ROW, "")?;
        let trees = self.sweep_directory(&self.places.layers(), LAYER_ROW, "sha256-")?;
        let half_made = lease::sweep(self)?;
        // Those whose rows went in this collection are no strays, and what lies in the trash has been counted.
        let strays = removed.saturating_sub(forgotten) + trees.saturating_sub(layers);
        collected.strays = strays + half_made;
        self.database.refill();
        Ok(collected)
    }

    /// Counts what a collection would remove, and removes nothing.
    pub(crate) fn collectable(&self) -> Result<Collected> {
        // While nobody else writes: a file gets its name before its row is to be seen.
        self.database.write(Durability::Process, |db| {
            let without = |directory: &Path, sql: &str, prefix: &str| -> Result<usize> {
                let mut count = 0;
                for name in names(directory)? {
                    let key = name.to_str().and_then(|name| name.strip_prefix(prefix));
                    count += usize::from(!has_row(db, sql, key)?);
                }
                Ok(count)
            };
            let blobs = without(&self.places.blobs(), BLOB_ROW, "")?;
            let trees = without(&self.places.layers(), LAYER_ROW, "sha256-")?;
            let mut half_made = 0;
            for name in names(&self.places.ingest())?.iter().filter(|name| !lease::is_lock(name)) {
                half_made += usize::from(!lease::is_held(db, name)?);
            }
            Ok(Collected {
                strays: blobs + trees + half_made,
                ..loose(db, lease::count_void(&self.places, db)?)?
            })
        })
    }

    /// Removes the entries of a directory that have no row; returns how many.
    fn sweep_directory(&self, directory: &Path, sql: &str, prefix: &str) -> Result<usize> {
        let has_row = |db: &Connection, name: &OsString| {
            has_row(db, sql, name.to_str().and_then(|name| name.strip_prefix(prefix)))
        };
        let mut without = Vec::new();
        for name in names(directory)? {
            if !self.database.read(|db| has_row(db, &name))? {
                without.push(name);
            }
        }
        if without.is_empty() {
            return Ok(0);
        }
        // In the one transaction the rows are looked for again: between, somebody may have brought what was gone.
        let moved: Vec<PathBuf> = self.database.write_removal(Durability::Process, |db| {
            let mut moved = Vec::new();
            for name in &without {
                if !has_row(db, name)? {
                    let (path, trash) = (directory.join(name), self.trash());
                    match fs::rename(&path, &trash) {
                        // Another collection was here.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                        renamed => renamed.doing(|| format!("move {} away", path.display()))?,
                    }
                    moved.push(trash);
                }
            }
            Ok(moved)
        })?;
        for trash in &moved {
            trash::empty(trash)?;
        }
        Ok(moved.len())
    }
}

/// Deletes the rows that nothing wants.
fn forget(places: &Places, db: &Transaction<'_>) -> Result<Collected> {
    let doing = || "look for what nobody needs";
    let collected = loose(db, lease::void_leases(places, db)?)?;
    db.execute(&format!("DELETE FROM blobs WHERE {LOOSE_BLOB}"), []).doing(doing)?;
    db.execute(&format!("DELETE FROM layers WHERE {LOOSE_LAYER}"), []).doing(doing)?;
    Ok(collected)
}

/// Counts the rows that nothing wants.
fn loose(db: &Connection, leases: usize) -> Result<Collected> {
    let doing = || "look for what nobody needs";
    let blobs: (usize, u64) = db
        .query_row(
            &format!("SELECT count(*), coalesce(sum(size), 0) FROM blobs WHERE {LOOSE_BLOB}"),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .doing(doing)?;
    let layers: Vec<(String, u64)> = db
        .prepare(&format!("SELECT diff_id, size FROM layers WHERE {LOOSE_LAYER} ORDER BY diff_id"))
        .and_then(|mut statement| statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .doing(doing)?;
    let freed = blobs.1 + layers.iter().map(|(_, size)| size).sum::<u64>();
    let layers = layers.iter().map(|(diff_id, _)| Ok(Digest::parse(diff_id)?)).collect::<Result<Vec<_>>>()?;
    Ok(Collected { layers, freed, blobs: blobs.0, leases, strays: 0 })
}

/// Tells whether a file whose name ends with these digits has a row.
fn has_row(db: &Connection, sql: &str, digits: Option<&str>) -> Result<bool> {
    let Some(digits) = digits else { return Ok(false) };
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.exists([format!("sha256:{digits}")]))
        .doing(|| "look for what has no record")
}

/// Lists the names in a directory.
fn names(directory: &Path) -> Result<Vec<OsString>> {
    let doing = || format!("list {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).doing(doing)? {
        names.push(entry.doing(doing)?.file_name());
    }
    Ok(names)
}

const BLOB_ROW: &str = "SELECT 1 FROM blobs WHERE digest = ?";
const LAYER_ROW: &str = "SELECT 1 FROM layers WHERE diff_id = ?";

const LOOSE_BLOB: &str = "NOT EXISTS (SELECT 1 FROM images WHERE id = digest)
    AND NOT EXISTS (SELECT 1 FROM images WHERE manifest = digest)
    AND NOT EXISTS (SELECT 1 FROM image_layers WHERE blob = digest)
    AND NOT EXISTS (SELECT 1 FROM claims WHERE kind = 'blob' AND claims.digest = blobs.digest)";

const LOOSE_LAYER: &str =
    "NOT EXISTS (SELECT 1 FROM image_layers WHERE image_layers.diff_id = layers.diff_id)
    AND NOT EXISTS (SELECT 1 FROM claims WHERE kind = 'layer' AND digest = diff_id)";
