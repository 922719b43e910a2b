//! What is not as it should be is found, named, and mended where that is possible.
//!
//! | found | mended by |
//! |---|---|
//! | leases of processes that have ended; files without rows; what is half made | removing them |
//! | a layer that is missing, or looks otherwise than when it was unpacked | unpacking it again from its blob |
//! | a blob that is missing, or whose bytes have another digest | whoever pulls or loads its image again |
//! | a volume's removal that was begun | finishing it |
//! | a volume whose directory has no row | recording it, since data is never thrown away |
//! | a volume whose row has no directory | making one, which is empty |

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsFd as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Doing as _, Error, Result};
use crate::intake::unpack_as;
use crate::layer::{self, Unpack};
use crate::{ContainerRecord, Digest, Durability, Lease, Stage, Store, VolumeRecord};
use crate::{container, lease, trash, tree, volume};

/// How closely is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// At the metadata of every file: seconds for many images.
    Metadata,
    /// At every byte: blobs are read, and layers unpacked once more beside those that are there.
    Contents,
}

/// What is done with what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mend {
    /// It is told.
    No,
    /// It is mended where that is possible.
    Yes,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What, such as `layer sha256:…`.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is as it should be, in these words.
    Mended(String),
    /// It is not; this helps.
    Left(String),
}

/// A container whose layers nobody uses; else who uses them, such as `it runs` or `process 7 (bulkhead) holds it`.
type Held<H> = std::result::Result<H, String>;

/// Collects findings.
struct Check<'s, H> {
    store: &'s Store,
    depth: Depth,
    mend: Mend,
    /// Holds a container, while its layers are exchanged.
    hold: &'s dyn Fn(&ContainerRecord) -> Held<H>,
    findings: Vec<Finding>,
}

impl Store {
    /// Checks the whole store. `hold` sees to it that nobody uses the layers of a container as long as what it returns is
    /// there.
    ///
    /// # Errors
    /// What keeps it from looking: the database, or the disk. What is found is no error.
    pub fn check<H>(
        &self,
        depth: Depth,
        mend: Mend,
        hold: &dyn Fn(&ContainerRecord) -> Held<H>,
    ) -> Result<Vec<Finding>> {
        let mut check = Check { store: self, depth, mend, hold, findings: Vec::new() };
        check.database()?;
        check.volumes()?;
        check.blobs()?;
        check.layers()?;
        check.strays()?;
        Ok(check.findings)
    }
}

impl<H> Check<'_, H> {
    fn found(&mut self, subject: impl Into<String>, problem: impl Into<String>, outcome: Outcome) {
        self.findings.push(Finding { subject: subject.into(), problem: problem.into(), outcome });
    }

    fn database(&mut self) -> Result<()> {
        let sql = match self.depth {
            Depth::Metadata => "PRAGMA quick_check(10)",
            Depth::Contents => "PRAGMA integrity_check(10)",
        };
        let mut faults: Vec<String> = self.store.database.read(|db| {
            db.prepare(sql)
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                .doing(|| "check the database")
        })?;
        faults.retain(|fault| fault != "ok");
        let dangling: Vec<String> = self.store.database.read(|db| {
            db.prepare("SELECT DISTINCT \"table\" || ' without ' || parent FROM pragma_foreign_key_check")
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                .doing(|| "check the database")
        })?;
        let path = self.store.places.database();
        for fault in faults.into_iter().chain(dangling) {
            let way =
                "copy the directory, then move the database away: images are to be pulled again".to_owned();
            self.found(path.display().to_string(), fault, Outcome::Left(way));
        }
        Ok(())
    }

    fn volumes(&mut self) -> Result<()> {
        for record in self.store.volumes()? {
            let subject = format!("volume {}", record.name);
            if record.stage == Stage::Removing {
                let outcome = self.outcome("removed", "it goes with the next check that mends");
                if self.mend == Mend::Yes {
                    self.store.finish_volume_removal(&record.name)?;
                }
                self.found(subject, "its removal was begun and not finished", outcome);
            } else if self.lacks_directory(&record.name)? {
                let outcome =
                    self.outcome("made anew, empty", "it is made anew, empty, by a check that mends");
                self.found(subject, "its directory is not there", outcome);
            }
        }
        let directory = self.store.places.root.join("volumes");
        for name in names(&directory)? {
            let Some(mended) = self.lacks_record(&name)? else { continue };
            let outcome = if mended {
                Outcome::Mended("recorded again".to_owned())
            } else {
                Outcome::Left(format!(
                    "it is recorded by a check that mends, or move {} away",
                    directory.join(&name).display()
                ))
            };
            self.found(format!("volume {name}"), "its directory has no record", outcome);
        }
        Ok(())
    }

    /// Tells whether a volume is recorded and has no directory, which is made if it is to be. Nobody removes it meanwhile.
    fn lacks_directory(&self, name: &str) -> Result<bool> {
        let store = self.store;
        let data = store.places.volume(name).join("data");
        if data.is_dir() {
            return Ok(false);
        }
        store.database.write(Durability::PowerLoss, |db| {
            let is_kept = volume::one(db, name)?.is_some_and(|record| record.stage == Stage::Kept);
            let is_lacking = is_kept && !data.is_dir();
            if is_lacking && self.mend == Mend::Yes {
                store.make_volume_directory(name)?;
            }
            Ok(is_lacking)
        })
    }

    /// Tells whether a volume has a directory and no record, and whether it could be recorded. Nobody removes it meanwhile.
    fn lacks_record(&self, name: &str) -> Result<Option<bool>> {
        let store = self.store;
        let directory = store.places.volume(name);
        let is_known = |db: &rusqlite::Connection| Ok::<_, Error>(volume::one(db, name)?.is_some());
        if store.database.read(is_known)? {
            return Ok(None);
        }
        let mended = store.database.write(Durability::PowerLoss, |db| {
            if is_known(db)? || !directory.exists() {
                return Ok(None);
            }
            match self.mend {
                Mend::No => Ok(Some(false)),
                Mend::Yes => match volume::insert(db, &VolumeRecord::new(name)) {
                    Err(Error::Invalid { .. }) => Ok(Some(false)),
                    inserted => inserted.map(Some),
                },
            }
        })?;
        if mended == Some(true) {
            store.make_volume_directory(name)?;
        }
        Ok(mended)
    }

    fn blobs(&mut self) -> Result<()> {
        let rows: Vec<(String, u64, bool)> = self.store.database.read(|db| {
            db.prepare("SELECT digest, size, damaged FROM blobs ORDER BY digest")
                .and_then(|mut statement| {
                    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
                })
                .doing(|| "list the blobs")
        })?;
        for (digest, size, known) in rows {
            let digest = Digest::parse(&digest)?;
            let found = self.blob_problem(&digest, size)?;
            let is_whole = found.is_none();
            if is_whole && (!known || self.depth == Depth::Metadata) {
                continue;
            }
            let problem = found.unwrap_or_else(|| "it was found damaged, and is not any more".to_owned());
            if self.mend == Mend::Yes {
                // Not removed: images refer to it. Whoever pulls one of them brings it again.
                self.mark("UPDATE blobs SET damaged = ? WHERE digest = ?", &digest, !is_whole)?;
            }
            let users = self.images_with(
                "SELECT id FROM images WHERE ?1 IN (id, manifest) UNION
                SELECT image FROM image_layers WHERE blob = ?1",
                &digest,
            )?;
            let outcome = match (is_whole, users.is_empty()) {
                (true, _) => self.outcome("used again", "a check that mends uses it again"),
                (false, true) => {
                    Outcome::Left("nothing needs it: it goes with the next collection".to_owned())
                }
                (false, false) => Outcome::Left(format!("pull or load {} again", users.join(", "))),
            };
            self.found(format!("blob {digest}"), problem, outcome);
        }
        Ok(())
    }

    fn blob_problem(&self, digest: &Digest, size: u64) -> Result<Option<String>> {
        let path = self.store.places.blob(digest);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some("its file is not there".to_owned()));
            }
            opened => opened.doing(|| format!("open {}", path.display()))?,
        };
        let length = file.metadata().doing(|| format!("look at {}", path.display()))?.len();
        if length != size {
            return Ok(Some(format!("its file has {length} bytes instead of {size}")));
        }
        if self.depth == Depth::Metadata {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let mut piece = vec![0; 256 * 1024];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => hash.update(&piece[..length]),
                // Of a bad disk: that is what is looked for.
                Err(error) => return Ok(Some(format!("its file cannot be read: {error}"))),
            }
        }
        let found = Digest::from(hash);
        Ok((found != *digest).then(|| format!("its bytes have the digest {found}")))
    }

    fn layers(&mut self) -> Result<()> {
        let rows: Vec<(String, String, bool)> = self.store.database.read(|db| {
            db.prepare("SELECT diff_id, summary, damaged FROM layers ORDER BY diff_id")
                .and_then(|mut statement| {
                    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
                })
                .doing(|| "list the layers")
        })?;
        for (diff_id, summary, known) in rows {
            let (diff_id, summary) = (Digest::parse(&diff_id)?, Digest::parse(&summary)?);
            let problem = self.layer_problem(&diff_id, &summary)?;
            let Some(problem) = problem.or_else(|| known.then(|| "it was found damaged before".to_owned()))
            else {
                continue;
            };
            let outcome = self.mend_layer(&diff_id)?;
            self.found(format!("layer {diff_id}"), problem, outcome);
        }
        Ok(())
    }

    fn layer_problem(&self, diff_id: &Digest, summary: &Digest) -> Result<Option<String>> {
        let path = self.store.places.layer(diff_id);
        let directory = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some("its directory is not there".to_owned()));
            }
            opened => opened.doing(|| format!("open {}", path.display()))?,
        };
        match tree::summary(directory.as_fd()) {
            // Of a bad disk, or of a tree that changes.
            Err(error) => return Ok(Some(format!("it cannot be read: {}", error.with_sources()))),
            Ok(found) if found != *summary => {
                return Ok(Some("files were added, lost or changed since it was unpacked".to_owned()));
            }
            Ok(_) => {}
        }
        if self.depth == Depth::Metadata {
            return Ok(None);
        }
        // Where there is no way to unpack it again, there is nothing to compare with, and the blob is told of.
        let lease = self.store.lease("check")?;
        let Ok(Some(fresh)) = self.unpack_again(&lease, diff_id) else { return Ok(None) };
        Ok(tree::difference(directory.as_fd(), fresh.open()?.as_fd())?
            .map(|path| format!("its file {} has other contents than when it was unpacked", path.display())))
    }

    /// Unpacks a layer once more, if there is a blob that has it.
    fn unpack_again(
        &self,
        lease: &Lease<'_>,
        diff_id: &Digest,
    ) -> Result<Option<crate::intake::TreeBeingMade>> {
        let blobs: Vec<String> = self.store.database.read(|db| {
            db.prepare("SELECT digest FROM blobs WHERE diff_id = ? AND NOT damaged")
                .and_then(|mut statement| {
                    statement.query_map([diff_id.to_string()], |row| row.get(0))?.collect()
                })
                .doing(|| format!("look for a blob of layer {diff_id}"))
        })?;
        for blob in blobs {
            let Ok(archive) = self.store.open_blob(&Digest::parse(&blob)?) else { continue };
            let fresh = crate::intake::TreeBeingMade::new(lease)?;
            let how = Unpack { diff_id: Some(*diff_id), ..unpack_as()? };
            match layer::unpack(archive, fresh.open()?.as_fd(), &how) {
                Ok(_) => return Ok(Some(fresh)),
                // That blob is damaged; `blobs` tells of it when it looks at bytes.
                Err(error) if error.kind() != layer::Kind::Failed => {}
                Err(source) => return Err(Error::Layer { doing: format!("unpack layer {diff_id}"), source }),
            }
        }
        Ok(None)
    }

    fn mend_layer(&mut self, diff_id: &Digest) -> Result<Outcome> {
        if self.mend == Mend::No {
            return Ok(Outcome::Left(
                "it is unpacked again by a check that mends, if its blob is whole".to_owned(),
            ));
        }
        let in_use = |names: &[String]| {
            let names = names.join(", ");
            Outcome::Left(format!(
                "containers use it: {names}; check again when these do not run and nobody reads, changes or starts them"
            ))
        };
        // To unpack it takes long, and may be for nothing.
        if let Err(busy) = self.hold_all(&self.store.database.read(|db| containers_on(db, diff_id))?) {
            return Ok(in_use(&busy));
        }
        let lease = self.store.lease("check")?;
        let Some(fresh) = self.unpack_again(&lease, diff_id)? else {
            self.mark("UPDATE layers SET damaged = ? WHERE diff_id = ?", diff_id, true)?;
            let users = self
                .images_with("SELECT DISTINCT image AS id FROM image_layers WHERE diff_id = ?1", diff_id)?;
            return Ok(Outcome::Left(format!(
                "its blob is damaged, too: pull or load {} again",
                users.join(", ")
            )));
        };
        let summary = tree::summary(fresh.open()?.as_fd())?;
        rustix::fs::syncfs(fresh.open()?).doing(|| "sync a layer")?;
        let users = self.store.database.read(|db| containers_on(db, diff_id))?;
        // Whoever mounts it finds either tree whole: before they are held the old one, and afterwards the new one.
        let held = match self.hold_all(&users) {
            Ok(held) => held,
            Err(busy) => return Ok(in_use(&busy)),
        };
        let exchanged = self.store.database.write(Durability::PowerLoss, |db| {
            let is_held = |user: &ContainerRecord| users.iter().any(|held| held.id == user.id);
            let new = Vec::from_iter(containers_on(db, diff_id)?.into_iter().filter(|user| !is_held(user)));
            if !new.is_empty() {
                return Ok(Err(Vec::from_iter(
                    new.into_iter().map(|user| format!("{} (it is new)", user.name)),
                )));
            }
            let before = lease::publish(self.store, db, &fresh.path, &self.store.places.layer(diff_id))?;
            db.execute(
                "UPDATE layers SET summary = ?, damaged = 0 WHERE diff_id = ?",
                [summary.to_string(), diff_id.to_string()],
            )
            .doing(|| format!("record layer {diff_id}"))?;
            Ok(Ok(before))
        })?;
        drop(held);
        match exchanged {
            Ok(before) => before.map_or(Ok(()), |before| trash::empty(&before))?,
            Err(busy) => return Ok(in_use(&busy)),
        }
        Ok(Outcome::Mended("unpacked again from its blob".to_owned()))
    }

    /// Holds all of some containers; else names those whose layers somebody uses, with who does.
    fn hold_all(&self, users: &[ContainerRecord]) -> std::result::Result<Vec<H>, Vec<String>> {
        let mut held = Vec::new();
        let mut busy = Vec::new();
        for user in users {
            match (self.hold)(user) {
                Ok(hold) => held.push(hold),
                Err(by) => busy.push(format!("{} ({by})", user.name)),
            }
        }
        if busy.is_empty() { Ok(held) } else { Err(busy) }
    }

    /// Names images as people do.
    fn images_with(&self, sql: &str, digest: &Digest) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT coalesce((SELECT name FROM names WHERE image = users.id ORDER BY name LIMIT 1), users.id)
            FROM ({sql}) AS users"
        );
        let names: Vec<String> = self.store.database.read(|db| {
            db.prepare(&sql)
                .and_then(|mut statement| {
                    statement.query_map([digest.to_string()], |row| row.get(0))?.collect()
                })
                .doing(|| format!("look which images have {digest}"))
        })?;
        Ok(names
            .into_iter()
            .map(|name| crate::Name::parse(&name).map_or(name, |name| name.familiar()))
            .collect())
    }

    fn mark(&self, sql: &str, digest: &Digest, damaged: bool) -> Result<()> {
        self.store.database.write(Durability::PowerLoss, |db| {
            db.execute(sql, rusqlite::params![damaged, digest.to_string()])
                .doing(|| format!("mark {digest}"))?;
            Ok(())
        })
    }

    /// Counts, and removes, what nobody needs.
    fn strays(&mut self) -> Result<()> {
        let collected = match self.mend {
            Mend::Yes => self.store.collect()?,
            Mend::No => self.store.collectable()?,
        };
        let counted = [
            (collected.leases, "leases", "their owners have ended"),
            (collected.blobs + collected.layers.len(), "blobs and layers", "no image has them"),
            (collected.strays, "files", "they are half made, or have no record"),
        ];
        for (count, subject, problem) in counted.into_iter().filter(|(count, ..)| *count > 0) {
            let outcome = self.outcome("removed", "they go with the next collection, or a check that mends");
            self.found(format!("{count} {subject}"), problem, outcome);
        }
        Ok(())
    }

    fn outcome(&self, mended: &str, left: &str) -> Outcome {
        match self.mend {
            Mend::Yes => Outcome::Mended(mended.to_owned()),
            Mend::No => Outcome::Left(left.to_owned()),
        }
    }
}

/// Lists the containers whose roots have a layer.
fn containers_on(db: &rusqlite::Connection, diff_id: &Digest) -> Result<Vec<ContainerRecord>> {
    let sql = "WHERE image IN (SELECT image FROM image_layers WHERE diff_id = ?) ORDER BY name";
    container::all(db, sql, [diff_id.to_string()])
}

fn names(directory: &std::path::Path) -> Result<Vec<String>> {
    let doing = || format!("list {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).doing(doing)? {
        names.push(entry.doing(doing)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
