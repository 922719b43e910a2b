//! The records of pods: what is shared by containers, whose own records name it.
//!
//! A pod's row is there as long as a container's names it: a container is recorded only in a pod that stays, and a pod is
//! forgotten only without containers.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use crate::container::column;
use crate::error::{Doing as _, Error, Noun, Result};
use crate::store::now;
use crate::{Durability, Stage, Store};

/// What the store knows of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRecord {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name, which no other pod has.
    pub name: String,
    /// When it was made, in nanoseconds since 1970 (UTC).
    pub created: i64,
    /// Whether it is on its way out: then no container comes into it.
    pub stage: Stage,
    /// What the engine keeps, as JSON.
    pub document: String,
}

impl PodRecord {
    /// Makes a record of now, with an empty document.
    pub fn new(id: &str, name: &str) -> Self {
        let (id, name) = (id.to_owned(), name.to_owned());
        Self { id, name, created: now(), stage: Stage::Kept, document: "{}".to_owned() }
    }
}

impl Store {
    /// Records a pod.
    ///
    /// # Errors
    /// [`Error::NameTaken`].
    pub fn insert_pod(&self, record: &PodRecord) -> Result<()> {
        let PodRecord { id, name, created, stage, document } = record;
        self.database.write(Durability::PowerLoss, |db| {
            let by: Option<String> = db
                .query_row("SELECT id FROM pods WHERE name = ?", [name], |row| row.get(0))
                .optional()
                .doing(|| format!("look for pod {name}"))?;
            if let Some(by) = by {
                return Err(Error::NameTaken { noun: Noun::Pod, name: name.clone(), by });
            }
            db.execute(
                "INSERT INTO pods VALUES (?, ?, ?, ?, ?)",
                (id, name, created, stage.text(), document),
            )
            .doing(|| format!("record pod {name}"))?;
            Ok(())
        })
    }

    /// Finds a pod by its id, its name, or an unambiguous prefix of its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn pod(&self, wanted: &str) -> Result<PodRecord> {
        self.database.snapshot(|db| find(db, wanted))
    }

    /// Lists all pods, the newest first.
    ///
    /// # Errors
    /// As the database.
    pub fn pods(&self) -> Result<Vec<PodRecord>> {
        self.database.read(|db| {
            db.prepare_cached(&format!("{COLUMNS} ORDER BY created DESC, id"))
                .and_then(|mut statement| statement.query_map([], read)?.collect())
                .doing(|| "list the pods")
        })
    }

    /// Marks a pod as one that goes: from then on no container comes into it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn begin_pod_removal(&self, id: &str) -> Result<()> {
        self.database.write_removal(Durability::PowerLoss, |db| {
            one(db, id)?;
            db.execute("UPDATE pods SET stage = 'removing' WHERE id = ?", [id])
                .doing(|| format!("begin to remove pod {id}"))?;
            Ok(())
        })
    }

    /// Forgets a pod. One that is forgotten already is no error: two may remove it.
    ///
    /// # Errors
    /// [`Error::InUse`] while containers are in it.
    pub fn delete_pod(&self, id: &str) -> Result<()> {
        self.database.write_removal(Durability::Process, |db| {
            let by: Vec<String> = db
                .prepare_cached("SELECT name FROM containers WHERE pod = ? ORDER BY name")
                .and_then(|mut statement| statement.query_map([id], |row| row.get(0))?.collect())
                .doing(|| format!("look who is in pod {id}"))?;
            if !by.is_empty() {
                return Err(Error::InUse { noun: Noun::Pod, name: id.to_owned(), by });
            }
            db.execute("DELETE FROM pods WHERE id = ?", [id])
                .doing(|| format!("delete the record of pod {id}"))?;
            Ok(())
        })
    }
}

const COLUMNS: &str = "SELECT id, name, created, stage, document FROM pods ";

/// Refuses a pod into which no container may come.
pub(crate) fn expect_kept(db: &Transaction<'_>, id: &str) -> Result<()> {
    match one(db, id)?.stage {
        Stage::Kept => Ok(()),
        Stage::Removing => Err(Error::NotFound { noun: Noun::Pod, wanted: id.to_owned() }),
    }
}

fn one(db: &Connection, id: &str) -> Result<PodRecord> {
    db.prepare_cached(&format!("{COLUMNS} WHERE id = ?"))
        .and_then(|mut statement| statement.query_row([id], read).optional())
        .doing(|| format!("read the record of pod {id}"))?
        .ok_or_else(|| Error::NotFound { noun: Noun::Pod, wanted: id.to_owned() })
}

fn find(db: &Connection, wanted: &str) -> Result<PodRecord> {
    let doing = || format!("look for pod {wanted}");
    // An id before a name, as with containers.
    let exact = db
        .prepare_cached(&format!("{COLUMNS} WHERE id = ?1 OR name = ?1 ORDER BY id <> ?1 LIMIT 1"))
        .and_then(|mut statement| statement.query_row([wanted], read).optional())
        .doing(doing)?;
    if let Some(record) = exact {
        return Ok(record);
    }
    let not_found = || Error::NotFound { noun: Noun::Pod, wanted: wanted.to_owned() };
    if wanted.is_empty() || !wanted.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(not_found());
    }
    // `g` comes after every digit.
    let mut matches: Vec<PodRecord> = db
        .prepare_cached(&format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 5"))
        .and_then(|mut statement| statement.query_map([wanted], read)?.collect())
        .doing(doing)?;
    match (matches.pop(), matches.as_slice()) {
        (None, _) => Err(not_found()),
        (Some(record), []) => Ok(record),
        (Some(last), others) => {
            let named = |record: &PodRecord| {
                format!("{} ({})", record.id.get(..12).unwrap_or(&record.id), record.name)
            };
            let matches = others.iter().chain([&last]).map(named).collect();
            Err(Error::Ambiguous { noun: Noun::Pod, wanted: wanted.to_owned(), matches })
        }
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<PodRecord> {
    Ok(PodRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        created: row.get(2)?,
        stage: column(3, Stage::parse(&row.get::<_, String>(3)?))?,
        document: row.get(4)?,
    })
}
