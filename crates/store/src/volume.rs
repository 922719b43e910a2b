//! Volumes: directories with names that outlive containers.
//!
//! A volume's row comes before its directory and goes after it. It is marked before its directory goes, and the directory
//! leaves its place by one rename, while nobody else writes to the database: so no removal meets a volume that somebody
//! makes anew under the same name.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use crate::container::column;
use crate::error::{Doing as _, Error, Noun, Result};
use crate::store::now;
use crate::{Durability, Stage, Store, trash};

/// What the store knows of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its name, docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    pub name: String,
    /// When it was made, in nanoseconds since 1970 (UTC).
    pub created: i64,
    /// Whether it is on its way out.
    pub stage: Stage,
    /// What the engine keeps, as JSON.
    pub document: String,
}

impl VolumeRecord {
    /// Makes a record of now, with an empty document.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), created: now(), stage: Stage::Kept, document: "{}".to_owned() }
    }
}

impl Store {
    /// Makes a volume with an empty directory `data`, which belongs to root with mode 0755.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when there is one; [`Error::Invalid`] for a name that is no file's.
    pub fn insert_volume(&self, record: &VolumeRecord) -> Result<()> {
        if self.database.read(|db| is_leaving(db, &record.name))? {
            self.finish_volume_removal(&record.name)?;
        }
        let made = self.database.write(Durability::PowerLoss, |db| insert(db, record))?;
        if !made {
            let name = record.name.clone();
            return Err(Error::NameTaken { noun: Noun::Volume, by: format!("volume {name}"), name });
        }
        self.make_volume_directory(&record.name)
    }

    /// Finds a volume by its name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn volume(&self, name: &str) -> Result<VolumeRecord> {
        let found = self.database.read(|db| one(db, name))?;
        found.ok_or_else(|| Error::NotFound { noun: Noun::Volume, wanted: name.to_owned() })
    }

    /// Lists all volumes by name.
    ///
    /// # Errors
    /// As the database.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>> {
        self.database.read(|db| {
            db.prepare_cached("SELECT name, created, stage, document FROM volumes ORDER BY name")
                .and_then(|mut statement| statement.query_map([], read)?.collect())
                .doing(|| "list the volumes")
        })
    }

    /// Returns the names of the containers that use a volume.
    ///
    /// # Errors
    /// As the database.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>> {
        self.database.read(|db| users(db, name))
    }

    /// Changes a volume's document, while nobody else changes it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what `change` returns, and then nothing is changed.
    pub fn update_volume<T>(&self, name: &str, change: impl FnOnce(&mut String) -> Result<T>) -> Result<T> {
        self.database.write(Durability::PowerLoss, |db| {
            let Some(mut record) = one(db, name)? else {
                return Err(Error::NotFound { noun: Noun::Volume, wanted: name.to_owned() });
            };
            let value = change(&mut record.document)?;
            db.execute("UPDATE volumes SET document = ? WHERE name = ?", [&record.document, name])
                .doing(|| format!("change the record of volume {name}"))?;
            Ok(value)
        })
    }

    /// Deletes a volume and its data.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InUse`] while a container's record uses it.
    pub fn delete_volume(&self, name: &str) -> Result<()> {
        self.database.write_removal(Durability::PowerLoss, |db| {
            if one(db, name)?.is_none() {
                return Err(Error::NotFound { noun: Noun::Volume, wanted: name.to_owned() });
            }
            let by = users(db, name)?;
            if !by.is_empty() {
                return Err(Error::InUse { noun: Noun::Volume, name: name.to_owned(), by });
            }
            db.execute("UPDATE volumes SET stage = 'removing' WHERE name = ?", [name])
                .doing(|| format!("begin to remove volume {name}"))?;
            Ok(())
        })?;
        self.finish_volume_removal(name)
    }

    /// Finishes a removal that was begun, by whoever.
    pub(crate) fn finish_volume_removal(&self, name: &str) -> Result<()> {
        let directory = self.places.volume(name);
        let trash = self.trash();
        self.database.write_removal(Durability::PowerLoss, |db| {
            if !is_leaving(db, name)? {
                return Ok(());
            }
            match fs::rename(&directory, &trash) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => renamed.doing(|| format!("move {} away", directory.display()))?,
            }
            db.execute("DELETE FROM volumes WHERE name = ? AND stage = 'removing'", [name])
                .doing(|| format!("delete the record of volume {name}"))?;
            Ok(())
        })?;
        trash::empty(&trash)?;
        self.database.refill();
        Ok(())
    }

    /// Makes the directory of a volume whose row is there.
    pub(crate) fn make_volume_directory(&self, name: &str) -> Result<()> {
        let directory = self.places.volume(name);
        for (path, mode) in [(directory.clone(), 0o700), (directory.join("data"), 0o755)] {
            let doing = || format!("make {}", path.display());
            match DirBuilder::new().mode(mode).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.doing(doing)?;
                    // Whatever the umask is, a volume is open to a container's users.
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).doing(doing)?;
                }
            }
        }
        Ok(())
    }
}

/// Records a volume unless there is one of that name; tells whether it did.
pub(crate) fn insert(db: &Transaction<'_>, record: &VolumeRecord) -> Result<bool> {
    let VolumeRecord { name, created, stage, document } = record;
    let first = |letter: char| letter.is_ascii_alphanumeric();
    let inside = |letter: char| first(letter) || matches!(letter, '_' | '.' | '-');
    if !name.starts_with(first) || !name.chars().all(inside) || name.len() > 255 {
        let reason =
            "wants letters a-z, A-Z, 0-9, `_`, `.` and `-`, the first a letter or digit, at most 255";
        return Err(Error::Invalid { subject: format!("volume name {name:?}"), reason: reason.to_owned() });
    }
    let changed = db
        .prepare_cached("INSERT INTO volumes VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .and_then(|mut statement| statement.execute((name, created, stage.text(), document)))
        .doing(|| format!("record volume {name}"))?;
    Ok(changed == 1)
}

pub(crate) fn is_leaving(db: &Connection, name: &str) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM volumes WHERE name = ? AND stage = 'removing'")
        .and_then(|mut statement| statement.exists([name]))
        .doing(|| format!("look for volume {name}"))
}

pub(crate) fn one(db: &Connection, name: &str) -> Result<Option<VolumeRecord>> {
    db.prepare_cached("SELECT name, created, stage, document FROM volumes WHERE name = ?")
        .and_then(|mut statement| statement.query_row([name], read).optional())
        .doing(|| format!("read the record of volume {name}"))
}

fn users(db: &Connection, name: &str) -> Result<Vec<String>> {
    let sql =
        "SELECT name FROM containers, container_volumes WHERE container = id AND volume = ? ORDER BY name";
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.query_map([name], |row| row.get(0))?.collect())
        .doing(|| format!("look who uses volume {name}"))
}

fn read(row: &Row<'_>) -> rusqlite::Result<VolumeRecord> {
    Ok(VolumeRecord {
        name: row.get(0)?,
        created: row.get(1)?,
        stage: column(2, Stage::parse(&row.get::<_, String>(2)?))?,
        document: row.get(3)?,
    })
}
