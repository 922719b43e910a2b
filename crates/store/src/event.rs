//! What happened, for those who watch.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use crate::container::column;
use crate::error::{Doing as _, Error, Result};
use crate::image::name_image;
use crate::store::now;
use crate::{Digest, Durability, Name, Store};

/// How many events are kept at least; docker keeps 256.
const KEPT: i64 = 4096;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order of all, from 1; set by the store.
    pub sequence: i64,
    /// When, in nanoseconds since 1970 (UTC).
    pub time: i64,
    /// What it happened to.
    pub subject: Subject,
    /// What happened, in docker's words: `create`, `start`, `die`, `pull`, `untag` …
    pub action: String,
    /// The id, or a volume's name.
    pub id: String,
    /// What else docker tells, such as `image`, `name`, `exitCode`.
    pub attributes: BTreeMap<String, String>,
}

/// What an event happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A pod.
    Pod,
    /// A volume.
    Volume,
}

impl Event {
    /// Makes an event of now.
    pub fn new(subject: Subject, action: &str, id: &str) -> Self {
        let (action, id) = (action.to_owned(), id.to_owned());
        Self { sequence: 0, time: now(), subject, action, id, attributes: BTreeMap::new() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }
}

impl Store {
    /// Records an event, and forgets old ones now and then.
    ///
    /// # Errors
    /// As the database.
    pub fn record_event(&self, event: &Event) -> Result<()> {
        self.database.write(Durability::Process, |db| record(db, event))
    }

    /// As [`Store::record_event`], and gives up after a fifth of a second in which others write: for an event that must not keep
    /// people waiting.
    ///
    /// # Errors
    /// As the database.
    pub fn record_event_soon(&self, event: &Event) -> Result<()> {
        self.database.write_soon(|db| record(db, event))
    }

    /// Records several events at once.
    ///
    /// # Errors
    /// As the database.
    pub fn record_events(&self, events: &[Event]) -> Result<()> {
        self.database.write(Durability::Process, |db| events.iter().try_for_each(|event| record(db, event)))
    }

    /// Records that an image was pushed by one of its names, and gives it the name by which exactly this is found again: with the
    /// digest of the manifest that the registry has.
    ///
    /// # Errors
    /// As the database.
    pub fn record_push(&self, image: &Digest, name: &Name, manifest: &Digest) -> Result<()> {
        let labels = self.labels([*image]);
        self.database.write(Durability::PowerLoss, |db| {
            name_image(db, image, &name.at(*manifest))?;
            labels.record(db, "push", image, Told::Repository(name))
        })
    }

    /// Records that images were saved. They are, whether that can be recorded or not.
    pub(crate) fn record_save(&self, images: &[Digest]) {
        let labels = self.labels(images.iter().copied());
        let _ = self.database.write(Durability::Process, |db| {
            images.iter().try_for_each(|image| labels.record(db, "save", image, Told::Itself))
        });
    }

    /// Lists the events from `since` to `until`, in nanoseconds since 1970, the oldest first.
    ///
    /// # Errors
    /// As the database.
    pub fn events(&self, since: Option<i64>, until: Option<i64>) -> Result<Vec<Event>> {
        let (since, until) = (since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
        self.select_events("WHERE time >= ? AND time <= ? ORDER BY sequence", [since, until])
    }

    /// Lists the events that came after the one with this sequence, the oldest first: how a watcher goes on.
    ///
    /// # Errors
    /// As the database.
    pub fn events_after(&self, sequence: i64) -> Result<Vec<Event>> {
        self.select_events("WHERE sequence > ? ORDER BY sequence", [sequence])
    }

    /// Returns the sequence of the newest event, 0 when there was none.
    ///
    /// # Errors
    /// As the database.
    pub fn newest_event(&self) -> Result<i64> {
        self.database.read(|db| {
            db.query_row("SELECT coalesce(max(sequence), 0) FROM events", [], |row| row.get(0))
                .doing(|| "look for the newest event")
        })
    }

    /// Reads what events tell of images besides, which must not be done in a transaction: it reads files, and others wait for the
    /// transaction.
    pub(crate) fn labels(&self, images: impl IntoIterator<Item = Digest>) -> Labels {
        let of = |image| Some((image, self.configuration(&image).ok()?.config.labels));
        images.into_iter().filter_map(of).collect()
    }

    fn select_events(&self, rest: &str, parameters: impl rusqlite::Params) -> Result<Vec<Event>> {
        self.database.read(|db| {
            db.prepare_cached(&format!(
                "SELECT sequence, time, subject, action, id, attributes FROM events {rest}"
            ))
            .and_then(|mut statement| statement.query_map(parameters, read)?.collect())
            .doing(|| "list the events")
        })
    }
}

/// The labels of some images, but for those that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels(BTreeMap<Digest, BTreeMap<String, String>>);

impl Labels {
    /// Records that something happened to one of the images, in the transaction in which it does. Its labels are attributes, as
    /// docker has it.
    pub(crate) fn record(&self, db: &Connection, action: &str, image: &Digest, told: Told<'_>) -> Result<()> {
        let (id, name) = match told {
            Told::Itself | Told::Gone => (image.to_string(), image.to_string()),
            Told::Named(name) => (image.to_string(), name.familiar()),
            Told::Repository(name) => (name.familiar(), name.familiar_repository()),
        };
        let labels = match told {
            Told::Gone => None,
            _ => self.0.get(image),
        };
        let event = Event::new(Subject::Image, action, &id);
        let labelled = labels.into_iter().flatten().fold(event, |event, (key, value)| event.with(key, value));
        record(db, &labelled.with("name", &name))
    }
}

impl FromIterator<(Digest, BTreeMap<String, String>)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Digest, BTreeMap<String, String>)>>(of: I) -> Self {
        Self(of.into_iter().collect())
    }
}

/// By what an event tells of an image: docker has another way for each action.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told<'a> {
    /// By its id, which is its name, too.
    Itself,
    /// As that, without its labels.
    Gone,
    /// By its id, and this name.
    Named(&'a Name),
    /// By this name, and what that is without a tag or a digest.
    Repository(&'a Name),
}

/// Records an event in the transaction of what it tells of: both are there, or neither.
pub(crate) fn record(db: &Connection, event: &Event) -> Result<()> {
    let Event { sequence: _, time, subject, action, id, attributes } = event;
    let attributes = serde_json::Value::from_iter(attributes.clone()).to_string();
    let doing = || format!("record that {subject} {id} had {action}");
    let sql = "INSERT INTO events (time, subject, action, id, attributes) VALUES (?, ?, ?, ?, ?)";
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params![time, subject.text(), action, id, attributes]))
        .doing(doing)?;
    let sequence = db.last_insert_rowid();
    if sequence % 256 == 0 {
        db.execute("DELETE FROM events WHERE sequence <= ?", [sequence - KEPT]).doing(doing)?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Event> {
    let attributes: String = row.get(5)?;
    let damaged = |error: serde_json::Error| Error::Damaged {
        subject: "an event".to_owned(),
        reason: format!("its attributes: {error}"),
    };
    Ok(Event {
        sequence: row.get(0)?,
        time: row.get(1)?,
        subject: column(2, Subject::parse(&row.get::<_, String>(2)?))?,
        action: row.get(3)?,
        id: row.get(4)?,
        attributes: column(5, serde_json::from_str(&attributes).map_err(damaged))?,
    })
}

impl Subject {
    /// Returns docker's word for it: the `Type` of an event.
    pub fn text(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Pod => "pod",
            Self::Volume => "volume",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let all = [Self::Container, Self::Image, Self::Network, Self::Pod, Self::Volume];
        let damaged = || Error::Damaged {
            subject: "an event".to_owned(),
            reason: format!("it has a subject {text:?}"),
        };
        all.into_iter().find(|subject| subject.text() == text).ok_or_else(damaged)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}
