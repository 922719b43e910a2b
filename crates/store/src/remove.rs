//! Names that go, and images that go with their last name: docker's rules.
//!
//! | asked for | the image has other names | it was the last name |
//! |---|---|---|
//! | a name | the name goes | the image goes; while a container uses it, that is refused, and by force only the name goes |
//! | an id | refused, but by force all go | as for the last name |
//!
//! Names with digests of a repository go with its last tag. An image that a container uses stays, without a name if need
//! be, until the container is gone and the image is removed again.

use rusqlite::{Connection, Transaction};

use crate::error::{Doing as _, Error, Noun, Result};
use crate::event::{Labels, Told};
use crate::image::find;
use crate::{Collected, Digest, Durability, Name, Store};

/// How far a removal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It stops where something is in use.
    No,
    /// Whatever can go goes.
    Yes,
}

/// What a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The image.
    pub id: Digest,
    /// The names that it has lost.
    pub untagged: Vec<Name>,
    /// Whether it is gone.
    pub is_deleted: bool,
    /// What went with it.
    pub collected: Collected,
}

impl Store {
    /// Removes an image, by a name, its id or a prefix of that; see the table of this module.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`]; [`Error::InUse`] and [`Error::SeveralNames`], which force overcomes.
    pub fn remove_image(&self, wanted: &str, force: Force) -> Result<Removed> {
        let (id, untagged, is_deleted) = self
            .change_found(|db| find(db, wanted), |db, id, labels| remove(db, (id, labels), wanted, force))?;
        let collected = if is_deleted { self.collect()? } else { Collected::default() };
        Ok(Removed { id, untagged, is_deleted, collected })
    }

    /// Takes a name away, and nothing else; tells which image had it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn untag(&self, name: &Name) -> Result<Digest> {
        let doing = || format!("take the name {name} away");
        let key = name.to_string();
        let holder = |db: &Connection| -> Result<Digest> {
            let image: Option<String> = db
                .prepare_cached("SELECT image FROM names WHERE name = ?")
                .and_then(|mut statement| statement.query_map([&key], |row| row.get(0))?.next().transpose())
                .doing(doing)?;
            let missing = || Error::NotFound { noun: Noun::Image, wanted: key.clone() };
            Ok(Digest::parse(&image.ok_or_else(missing)?)?)
        };
        self.change_found(holder, |db, image, labels| {
            db.execute("DELETE FROM names WHERE name = ?", [&key]).doing(doing)?;
            labels.record(db, "untag", &image, Told::Itself)?;
            Ok(image)
        })
    }

    /// Changes what is recorded of an image that is to be found, and whose labels are read before the transaction: should
    /// another one be found in that, once more.
    fn change_found<T>(
        &self,
        find: impl Fn(&Connection) -> Result<Digest>,
        change: impl Fn(&Transaction<'_>, Digest, &Labels) -> Result<T>,
    ) -> Result<T> {
        loop {
            let expected = self.database.read(&find)?;
            let labels = self.labels([expected]);
            let changed = self.database.write_removal(Durability::PowerLoss, |db| {
                let found = find(db)?;
                (found == expected).then(|| change(db, found, &labels)).transpose()
            })?;
            if let Some(changed) = changed {
                return Ok(changed);
            }
        }
    }
}

fn remove(
    db: &Transaction<'_>,
    (id, labels): (Digest, &Labels),
    wanted: &str,
    force: Force,
) -> Result<(Digest, Vec<Name>, bool)> {
    let names = names(db, &id)?;
    let users = users(db, &id)?;
    let by_name = named(wanted, &names);
    let is_used = |by: &[String]| match force {
        Force::No if !by.is_empty() => {
            Err(Error::InUse { noun: Noun::Image, name: wanted.to_owned(), by: by.to_vec() })
        }
        _ => Ok(()),
    };
    let leaving = match by_name {
        Some(name) => {
            if is_single(&names) {
                is_used(&users)?;
            }
            with_digests(name, &names)
        }
        None => {
            if force == Force::No && !names.is_empty() && !is_single(&names) {
                let names = names.iter().map(Name::familiar).collect();
                return Err(Error::SeveralNames { id, names });
            }
            is_used(&users)?;
            names.clone()
        }
    };
    for name in &leaving {
        db.execute("DELETE FROM names WHERE name = ?", [name.to_string()])
            .doing(|| format!("take the name {name} away"))?;
        // Those with digests that go with a tag are told by nobody.
        if by_name.is_none_or(|by_name| by_name == name) {
            labels.record(db, "untag", &id, Told::Itself)?;
        }
    }
    let is_deleted = leaving.len() == names.len() && users.is_empty();
    if is_deleted {
        db.execute("DELETE FROM images WHERE id = ?", [id.to_string()])
            .doing(|| format!("delete image {id}"))?;
        labels.record(db, "delete", &id, Told::Gone)?;
    }
    Ok((id, leaving, is_deleted))
}

/// Finds which of an image's names was asked for, if it was a name and not an id.
fn named<'n>(wanted: &str, names: &'n [Name]) -> Option<&'n Name> {
    let parsed = Name::parse(wanted).ok()?;
    let parsed = parsed.digest().map_or_else(|| parsed.clone(), |digest| parsed.at(digest));
    let local = crate::image::local(&parsed, wanted);
    names
        .iter()
        .find(|name| **name == parsed)
        .or_else(|| names.iter().find(|name| Some(*name) == local.as_ref()))
}

/// Tells whether all names are of one repository, with one tag at most.
fn is_single(names: &[Name]) -> bool {
    let Some(first) = names.first() else { return false };
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    tags <= 1 && names.iter().all(|name| name.repository() == first.repository())
}

/// A name, and those with digests of its repository if it was the last tag there.
fn with_digests(name: &Name, names: &[Name]) -> Vec<Name> {
    let of_repository = |other: &&Name| other.repository() == name.repository() && *other != name;
    let (tags, digests): (Vec<&Name>, Vec<&Name>) =
        names.iter().filter(of_repository).partition(|other| other.digest().is_none());
    let mut leaving = vec![name.clone()];
    if tags.is_empty() && name.digest().is_none() {
        leaving.extend(digests.into_iter().cloned());
    }
    leaving
}

fn names(db: &Connection, id: &Digest) -> Result<Vec<Name>> {
    let names: Vec<String> = db
        .prepare_cached("SELECT name FROM names WHERE image = ? ORDER BY name")
        .and_then(|mut statement| statement.query_map([id.to_string()], |row| row.get(0))?.collect())
        .doing(|| format!("read the names of image {id}"))?;
    names.iter().map(|name| Ok(Name::parse(name)?)).collect()
}

fn users(db: &Connection, id: &Digest) -> Result<Vec<String>> {
    db.prepare_cached("SELECT name FROM containers WHERE image = ? ORDER BY name")
        .and_then(|mut statement| statement.query_map([id.to_string()], |row| row.get(0))?.collect())
        .doing(|| format!("look who uses image {id}"))
}
