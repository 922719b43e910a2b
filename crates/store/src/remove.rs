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
use crate::event::Told;
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
        let (id, untagged, is_deleted) =
            self.database.write_removal(Durability::PowerLoss, |db| remove(self, db, wanted, force))?;
        let collected = if is_deleted { self.collect()? } else { Collected::default() };
        Ok(Removed { id, untagged, is_deleted, collected })
    }

    /// Takes a name away, and nothing else; tells which image had it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn untag(&self, name: &Name) -> Result<Digest> {
        self.database.write_removal(Durability::PowerLoss, |db| {
            let key = name.to_string();
            let image: Option<String> = db
                .prepare_cached("DELETE FROM names WHERE name = ? RETURNING image")
                .and_then(|mut statement| statement.query_map([&key], |row| row.get(0))?.next().transpose())
                .doing(|| format!("take the name {name} away"))?;
            match image {
                Some(image) => {
                    let image = Digest::parse(&image)?;
                    self.record_of_image(db, "untag", &image, Told::Itself)?;
                    Ok(image)
                }
                None => Err(Error::NotFound { noun: Noun::Image, wanted: key }),
            }
        })
    }
}

fn remove(
    store: &Store,
    db: &Transaction<'_>,
    wanted: &str,
    force: Force,
) -> Result<(Digest, Vec<Name>, bool)> {
    let id = find(db, wanted)?;
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
            store.record_of_image(db, "untag", &id, Told::Itself)?;
        }
    }
    let is_deleted = leaving.len() == names.len() && users.is_empty();
    if is_deleted {
        db.execute("DELETE FROM images WHERE id = ?", [id.to_string()])
            .doing(|| format!("delete image {id}"))?;
        store.record_of_image(db, "delete", &id, Told::Gone)?;
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
