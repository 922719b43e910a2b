//! The records of containers.
//!
//! The engine's own document says what a container is; the store knows what has to be unique or to refer to something.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params};

use crate::error::{Doing as _, Error, Noun, Result};
use crate::event::{self, Event};
use crate::network::Connected;
use crate::pod;
use crate::store::now;
use crate::volume::{self, VolumeRecord};
use crate::{Digest, Durability, Store};

/// What the store knows of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name, which no other has.
    pub name: String,
    /// The image that it is made of; one with a root of its own has none. The image stays as long as the record does.
    pub image: Option<Digest>,
    /// When it was made, in nanoseconds since 1970 (UTC).
    pub created: i64,
    /// The pod that it is in.
    pub pod: Option<String>,
    /// The volumes that it uses, which stay as long as the record does.
    pub volumes: Vec<String>,
    /// Whether it is on its way out.
    pub stage: Stage,
    /// What the engine keeps, as JSON.
    pub document: String,
}

/// Whether a record stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It does.
    Kept,
    /// Its parts are being removed, or were when somebody was killed: whoever finds it finishes that.
    Removing,
}

/// The removal of a container has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What is removed.
    pub record: ContainerRecord,
    /// [`Stage::Removing`] when somebody else had begun before.
    pub before: Stage,
}

/// What is recorded while nobody else changes it.
#[derive(Debug)]
pub struct Among<'db>(&'db Connection);

impl<'db> Among<'db> {
    /// Lists all containers.
    ///
    /// # Errors
    /// As the database.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>> {
        all(self.0, "", [])
    }

    /// Returns the networks and endpoints.
    #[must_use]
    pub fn connected(&self) -> Connected<'db> {
        Connected(self.0)
    }
}

impl ContainerRecord {
    /// Makes a record of now, with an empty document.
    pub fn new(id: &str, name: &str, image: Option<Digest>) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            image,
            created: now(),
            pod: None,
            volumes: Vec::new(),
            stage: Stage::Kept,
            document: "{}".to_owned(),
        }
    }
}

impl Store {
    /// Records a container and, with it, those of `volumes` that are not there yet, and the event that tells of it; returns
    /// the names of these volumes.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::NotFound`] for an image or volume that is not there, or no longer.
    pub fn insert_container(
        &self,
        record: &ContainerRecord,
        volumes: &[VolumeRecord],
        durability: Durability,
        told: Option<&Event>,
    ) -> Result<Vec<String>> {
        self.insert(&mut record.clone(), volumes, durability, |_, _| Ok(told.cloned()))
    }

    /// As [`insert_container`](Self::insert_container), but the record's document is decided last, from all that is recorded of
    /// others, while nobody changes it; so are its endpoints and the event that tells of it.
    ///
    /// # Errors
    /// Those of `decide`, too; then nothing is recorded.
    pub fn insert_container_among(
        &self,
        record: &mut ContainerRecord,
        volumes: &[VolumeRecord],
        durability: Durability,
        decide: impl FnOnce(&Among<'_>, &mut ContainerRecord) -> Result<Option<Event>>,
    ) -> Result<Vec<String>> {
        self.insert(record, volumes, durability, |db, record| decide(&Among(db), record))
    }

    /// Has what was recorded with [`Durability::Process`] outlive the machine's power going away, too.
    ///
    /// # Errors
    /// As fdatasync(2) of the database's log.
    pub fn sync(&self) -> Result<()> {
        self.database.sync()
    }

    fn insert(
        &self,
        record: &mut ContainerRecord,
        volumes: &[VolumeRecord],
        durability: Durability,
        decide: impl FnOnce(&Connection, &mut ContainerRecord) -> Result<Option<Event>>,
    ) -> Result<Vec<String>> {
        let mut leaving = Vec::new();
        for name in &record.volumes {
            leaving.extend(self.database.read(|db| volume::is_leaving(db, name))?.then_some(name));
        }
        for name in leaving {
            self.finish_volume_removal(name)?;
        }
        let made = self.database.write(durability, |db| {
            let mut made = Vec::new();
            for volume in volumes {
                if volume::insert(db, volume)? {
                    made.push(volume.name.clone());
                }
            }
            let told = decide(db, record)?;
            insert(db, record)?;
            told.map_or(Ok(()), |event| event::record(db, &event))?;
            Ok(made)
        })?;
        for name in &made {
            self.make_volume_directory(name)?;
        }
        Ok(made)
    }

    /// Finds a container by its id, its name, or an unambiguous prefix of its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn container(&self, wanted: &str) -> Result<ContainerRecord> {
        self.database.snapshot(|db| {
            let id = find(db, wanted)?;
            one(db, &id)
        })
    }

    /// Lists all containers, the newest first.
    ///
    /// # Errors
    /// As the database.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>> {
        select(self, "ORDER BY created DESC, id", [])
    }

    /// Lists the containers whose removal has begun.
    ///
    /// # Errors
    /// As the database.
    pub fn leaving_containers(&self) -> Result<Vec<ContainerRecord>> {
        select(self, "WHERE stage = 'removing'", [])
    }

    /// Lists the containers of a pod, the oldest first.
    ///
    /// # Errors
    /// As the database.
    pub fn containers_of_pod(&self, pod: &str) -> Result<Vec<ContainerRecord>> {
        select(self, "WHERE pod = ? ORDER BY created, id", [pod])
    }

    /// Lists the containers that are made of an image, the newest first.
    ///
    /// # Errors
    /// As the database.
    pub fn containers_of_image(&self, image: &Digest) -> Result<Vec<ContainerRecord>> {
        select(self, "WHERE image = ? ORDER BY created DESC, id", [image.to_string()])
    }

    /// Changes a container's document and its pod, while nobody else changes it, and records the events that `change`
    /// returns. What `change` does to other fields is lost: a name has [`rename_container`](Self::rename_container).
    ///
    /// # Errors
    /// [`Error::NotFound`] when the id is no container's any more; what `change` returns, and then nothing is changed.
    pub fn update_container<T: IntoIterator<Item = Event>>(
        &self,
        id: &str,
        durability: Durability,
        change: impl FnOnce(&mut ContainerRecord) -> Result<T>,
    ) -> Result<()> {
        self.database.write(durability, |db| {
            let mut record = one(db, id)?;
            let told = change(&mut record)?;
            update(db, &record)?;
            told.into_iter().try_for_each(|event| event::record(db, &event))
        })
    }

    /// Gives a container another name, and records the event that tells of it.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::NotFound`] when the id is no container's any more.
    pub fn rename_container(&self, id: &str, name: &str, told: Option<&Event>) -> Result<()> {
        self.database.write(Durability::PowerLoss, |db| {
            let record = one(db, id)?;
            if record.name != name {
                refuse_taken(db, name)?;
            }
            db.execute("UPDATE containers SET name = ? WHERE id = ?", [name, id])
                .doing(|| format!("rename container {id}"))?;
            told.map_or(Ok(()), |event| event::record(db, event))
        })
    }

    /// Says that a container goes, before anything of it does. Name, image and volumes stay taken until
    /// [`delete_container`](Self::delete_container). `change` changes its document for the last time, and returns the events
    /// that are left to be told of its life. With [`Durability::PowerLoss`] no file goes before that is on the disk.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the id is no container's any more; what `change` returns, and then nothing is changed.
    pub fn begin_removal<T: IntoIterator<Item = Event>>(
        &self,
        id: &str,
        durability: Durability,
        mut change: impl FnMut(&mut ContainerRecord) -> Result<T>,
    ) -> Result<Removal> {
        self.database.write_removal(durability, |db| {
            let mut record = one(db, id)?;
            let known = record.document.clone();
            let told = change(&mut record)?;
            if record.document != known {
                update(db, &record)?;
            }
            told.into_iter().try_for_each(|event| event::record(db, &event))?;
            let before = record.stage;
            if before == Stage::Kept {
                db.prepare_cached("UPDATE containers SET stage = 'removing' WHERE id = ?")
                    .and_then(|mut statement| statement.execute([id]))
                    .doing(|| format!("begin to remove container {id}"))?;
            }
            record.stage = Stage::Removing;
            Ok(Removal { record, before })
        })
    }

    /// Forgets a container, whose directories are gone, and records the event that tells of it. One that is forgotten
    /// already is no error, and no event: two may remove it.
    ///
    /// # Errors
    /// As the database.
    pub fn delete_container(&self, id: &str, told: Option<&Event>) -> Result<()> {
        self.database.write_removal(Durability::Process, |db| {
            let deleted = db
                .prepare_cached("DELETE FROM containers WHERE id = ?")
                .and_then(|mut statement| statement.execute([id]))
                .doing(|| format!("delete the record of container {id}"))?;
            told.filter(|_| deleted > 0).map_or(Ok(()), |event| event::record(db, event))
        })?;
        // What was the container's has made room.
        self.database.refill();
        Ok(())
    }
}

const COLUMNS: &str = "SELECT id, name, image, created, pod, stage, document,
    (SELECT group_concat(volume, '/') FROM container_volumes WHERE container = id) FROM containers ";

fn insert(db: &Transaction<'_>, record: &ContainerRecord) -> Result<()> {
    let ContainerRecord { id, name, image, created, pod: of_pod, volumes, stage, document } = record;
    refuse_taken(db, name)?;
    let image = image.map(|image| image.to_string());
    if let Some(image) = &image {
        let found = db
            .prepare_cached("SELECT 1 FROM images WHERE id = ?")
            .and_then(|mut statement| statement.exists([image]))
            .doing(|| format!("look for image {image}"))?;
        if !found {
            return Err(Error::NotFound { noun: Noun::Image, wanted: image.clone() });
        }
    }
    if let Some(id) = of_pod {
        pod::expect_kept(db, id)?;
    }
    let doing = || format!("record container {id}");
    let values = named_params! {
        ":id": id, ":name": name, ":image": image, ":created": created, ":pod": of_pod, ":stage": stage.text(),
        ":document": document,
    };
    db.prepare_cached(
        "INSERT INTO containers VALUES (:id, :name, :image, :created, :pod, :stage, :document)",
    )
    .and_then(|mut statement| statement.execute(values))
    .doing(doing)?;
    for volume in volumes {
        if volume::one(db, volume)?.is_none() {
            return Err(Error::NotFound { noun: Noun::Volume, wanted: volume.clone() });
        }
        db.prepare_cached("INSERT OR IGNORE INTO container_volumes VALUES (?, ?)")
            .and_then(|mut statement| statement.execute([id, volume]))
            .doing(doing)?;
    }
    Ok(())
}

fn update(db: &Connection, record: &ContainerRecord) -> Result<()> {
    let ContainerRecord { id, pod, document, .. } = record;
    db.prepare_cached("UPDATE containers SET document = ?, pod = ? WHERE id = ?")
        .and_then(|mut statement| statement.execute((document, pod, id)))
        .doing(|| format!("change the record of container {id}"))?;
    Ok(())
}

fn refuse_taken(db: &Connection, name: &str) -> Result<()> {
    let by: Option<String> = db
        .prepare_cached("SELECT id FROM containers WHERE name = ?")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .doing(|| format!("look for container {name}"))?;
    match by {
        Some(by) => Err(Error::NameTaken { noun: Noun::Container, name: name.to_owned(), by }),
        None => Ok(()),
    }
}

/// Returns the id of what `wanted` means.
fn find(db: &Connection, wanted: &str) -> Result<String> {
    let doing = || format!("look for container {wanted}");
    // Docker's own `inspect` tells names with a slash.
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    // An id before a name, as docker has it.
    let sql = "SELECT id FROM containers WHERE id = ?1 OR name = ?1 ORDER BY id <> ?1 LIMIT 1";
    let exact = db
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([wanted], |row| row.get(0)).optional())
        .doing(doing)?;
    if let Some(id) = exact {
        return Ok(id);
    }
    let not_found = || Error::NotFound { noun: Noun::Container, wanted: wanted.to_owned() };
    if wanted.is_empty() || !wanted.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(not_found());
    }
    // `g` comes after every digit.
    let matches = db
        .prepare_cached(
            "SELECT id, name FROM containers WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 5",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map([wanted], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
        })
        .doing(doing)?;
    match &matches[..] {
        [] => Err(not_found()),
        [(id, _)] => Ok(id.clone()),
        _ => {
            let named = |(id, name): &(String, String)| format!("{} ({name})", id.get(..12).unwrap_or(id));
            let matches = matches.iter().map(named).collect();
            Err(Error::Ambiguous { noun: Noun::Container, wanted: wanted.to_owned(), matches })
        }
    }
}

fn one(db: &Connection, id: &str) -> Result<ContainerRecord> {
    db.prepare_cached(&format!("{COLUMNS} WHERE id = ?"))
        .and_then(|mut statement| statement.query_row([id], read).optional())
        .doing(|| format!("read the record of container {id}"))?
        .ok_or_else(|| Error::NotFound { noun: Noun::Container, wanted: id.to_owned() })
}

fn select(store: &Store, rest: &str, parameters: impl rusqlite::Params) -> Result<Vec<ContainerRecord>> {
    store.database.read(|db| all(db, rest, parameters))
}

pub(crate) fn all(
    db: &Connection,
    rest: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<ContainerRecord>> {
    db.prepare_cached(&format!("{COLUMNS} {rest}"))
        .and_then(|mut statement| statement.query_map(parameters, read)?.collect())
        .doing(|| "list the containers")
}

fn read(row: &Row<'_>) -> rusqlite::Result<ContainerRecord> {
    let image: Option<String> = row.get(2)?;
    let volumes: Option<String> = row.get(7)?;
    Ok(ContainerRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        image: image.map(|image| column(2, Digest::parse(&image).map_err(Into::into))).transpose()?,
        created: row.get(3)?,
        pod: row.get(4)?,
        volumes: volumes.iter().flat_map(|volumes| volumes.split('/')).map(str::to_owned).collect(),
        stage: column(5, Stage::parse(&row.get::<_, String>(5)?))?,
        document: row.get(6)?,
    })
}

/// Makes what cannot be read of a column SQLite's own kind of error.
pub(crate) fn column<T>(index: usize, value: Result<T>) -> rusqlite::Result<T> {
    let kind = Value::Text(String::new()).data_type();
    value.map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error)))
}

impl Stage {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Removing => "removing",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "kept" => Ok(Self::Kept),
            "removing" => Ok(Self::Removing),
            other => {
                let reason = format!("it has a stage {other:?}");
                Err(Error::Damaged { subject: "a record".to_owned(), reason })
            }
        }
    }
}
