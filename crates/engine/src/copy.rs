//! Files of containers, in and out, whether they run or not.
//!
//! ```text
//! files(NAME) ─► Files ─┬─ find(PATH) ─► Spot ─┬─ archive, copy_out       out: packed ─► archive ─► unpacked
//!                       │                      └─ (what is there)
//!                       └─ extract, copy_in(DIRECTORY)                    in:  packed ─► archive ─► unpacked
//! ```
//! A container that runs is seen as its own processes see it, volumes and all, through the root of its first process. One that
//! does not is put together for that, and is nobody else's meanwhile. Either way a path of a container is looked up inside its
//! root, and what it leads to is used as a descriptor: it may be exchanged for a link at any moment (CVE-2018-15664). Nothing of
//! a container runs or is loaded (CVE-2019-14271). What shows the kernel, such as procfs, is no file of a container: it would be
//! read and written with the rights of the host.

mod numbers;
mod spot;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_store::Kind;
use bulkhead_store::layer::archive::Whole;
use bulkhead_store::layer::{self, Existing, Kernels, LeftOut, Owner, Pack, Packed, Unpack};

use crate::configure::Users;
use crate::container::State;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::hold::Reading;
use crate::known::Known;
use crate::request::{Access, MountKind, Ownership, UserNamespace};
use crate::root::{self, Assembled, Attached, Shown};
use crate::users::enter_users_even_alone;
use crate::volume::expect_part;
use numbers::Numbers;

pub use spot::{Links, Spot, normal as normal_path};

/// The files of a container. One that does not run is not started, changed or removed while this is there.
#[derive(Debug)]
pub struct Files<'engine> {
    engine: &'engine Engine,
    known: Known,
    view: View,
    numbers: Numbers,
    /// The numbers where a root that is put together shows files as they are on the host, if those are others.
    on_host: Option<Numbers>,
    reading: Reading,
}

#[derive(Debug)]
enum View {
    /// Through the root of its first process.
    Running(OwnedFd),
    Assembled(Assembled),
}

/// Whose the files become that are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOwners {
    /// On the host the caller's, in a container root's.
    Target,
    /// Those that they had, by number.
    Source,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The length of the archive that went from one side to the other, in bytes.
    pub bytes: u64,
    /// What could not be copied, such as sockets.
    pub left_out: Vec<(PathBuf, String)>,
}

/// How often a container that is about to be something else is looked at again.
const ATTEMPTS: usize = 8;

impl Engine {
    /// Opens the files of a container. An ordinary user's process enters the user namespace of containers with that
    /// ([`enter_users`](crate::enter_users)): it must have one thread, and has no rights over processes of containers afterwards.
    ///
    /// # Errors
    /// [`Error::State`] for one that is between two states; as mounting its layers for one that does not run.
    pub fn files(&self, wanted: &str) -> Result<Files<'_>> {
        let (mut known, mut reading) = self.hold_layers(wanted)?;
        for _ in 0..ATTEMPTS {
            let found = match (known.life.state, known.life.process) {
                (State::Running | State::Paused, Some(process)) => match root::of_process(process)? {
                    // It was opened outside, and is looked into by who is root there.
                    Some((root, users)) => {
                        let numbers = match enter_users_even_alone()? {
                            Some(own) => Numbers::of_user(Some(&users), own),
                            None => Numbers::of_root(Some(users)),
                        };
                        Some((View::Running(root), numbers, None))
                    }
                    None => None,
                },
                (State::Created | State::Exited, _) => {
                    let users = self.users_inside(&known)?;
                    let (numbers, on_host) = match enter_users_even_alone()? {
                        Some(own) => (Numbers::of_user(users.as_ref(), own), None),
                        None => (Numbers::of_root(None), users.map(|users| Numbers::of_root(Some(users)))),
                    };
                    Some((View::Assembled(self.assemble(&known)?), numbers, on_host))
                }
                _ => break,
            };
            if let Some((view, numbers, on_host)) = found {
                return Ok(Files { engine: self, known, view, numbers, on_host, reading });
            }
            (known, reading) = self.hold_layers(&known.record.id)?;
        }
        Err(known.refuses("copy files of"))
    }

    /// Returns the users of a container, its own or those of another, if they are not the host's.
    pub(crate) fn users_inside(&self, known: &Known) -> Result<Option<Users>> {
        match &known.document.request.namespaces.user {
            Some(UserNamespace::Container(other)) => match self.store.container(other) {
                Ok(record) => Ok(Document::read(&record)?.users),
                // It cannot be started without it either.
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
            _ => Ok(known.document.users.clone()),
        }
    }

    /// Puts the root of a container together that does not run.
    fn assemble(&self, known: &Known) -> Result<Assembled> {
        let Known { record, document, .. } = known;
        let image = record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let rootfs = self.root_of(record, document, image.as_ref());
        if document.request.remove {
            self.renew(known, &rootfs)?;
        }
        let mut attached: Vec<Attached> = Vec::new();
        for mount in &document.mounts {
            let (source, subpath, shown) = match &mount.kind {
                MountKind::Bind(bind) => {
                    (bind.source.clone(), None, shown(bind.ownership.as_ref(), Shown::AsOnHost))
                }
                MountKind::Volume(volume) => {
                    let Some(name) = &volume.name else { continue };
                    let source = self.places().volume(name).join("data");
                    let subpath = volume.subpath.as_ref().map(PathBuf::from);
                    subpath.iter().try_for_each(|part| expect_part(name, &source, part))?;
                    (source, subpath, shown(volume.ownership.as_ref(), Shown::ByMaps))
                }
                // A file system in memory is there while the container runs.
                MountKind::Tmpfs(_) => continue,
            };
            let destination = PathBuf::from(&mount.destination);
            attached.push(Attached { source, subpath, destination, access: mount.access, shown });
        }
        attached.sort_by_key(|part| part.destination.components().count());
        let access = if document.request.read_only { Access::ReadOnlyAlone } else { Access::ReadWrite };
        root::assemble(&rootfs, access, &attached)
    }
}

impl Files<'_> {
    /// Returns the container's name.
    pub fn container(&self) -> &str {
        &self.known.record.name
    }

    /// Finds a path in the container, or where it would be.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is the kernel's; as openat2(2).
    pub fn find(&self, path: &Path, links: Links) -> Result<Spot> {
        spot::find(self.root(), path, links, &self.known.record.name)
    }

    /// Finds the directory in which something is, or would be.
    ///
    /// # Errors
    /// As [`Files::find`].
    pub fn above(&self, spot: &Spot) -> Result<Spot> {
        spot::above(self.root(), spot)
    }

    /// Writes what is at a spot as an archive, under another name.
    ///
    /// # Errors
    /// When nothing is there; as for reading it and of the writer.
    pub fn archive(&self, spot: &Spot, stored: &OsStr, into: &mut dyn Write) -> Result<Copied> {
        let (parent, name) = spot.there()?;
        let (numbers, _) = self.numbers_at(parent, name)?;
        let inside = |owner: Owner| Some(numbers.inside(owner));
        let owners = numbers.chosen(CopyOwners::Source, &inside);
        let how = Pack { owners, kernels: Kernels::Empty, ..Pack::plain() };
        let packed = layer::pack_one(parent, name, stored, into, &how)?;
        self.engine.expect_kept(&self.known, &self.reading)?;
        self.engine.tell(&self.known, "archive-path");
        Ok(Copied { bytes: packed.length, left_out: packed.left_out.examples })
    }

    /// Unpacks an archive into a directory of the container. A directory that is there stays one, and nothing else becomes one.
    ///
    /// # Errors
    /// [`Error::Invalid`] where files are shown as another's while the container runs, and it does not; as for reading the archive
    /// and writing the files.
    pub fn extract(&self, directory: &Spot, archive: impl Read + Send, owners: CopyOwners) -> Result<Copied> {
        let within = directory.directory()?;
        let (parent, name) = directory.there()?;
        let (numbers, shown) = self.numbers_at(parent, name)?;
        if shown == Shown::Exchanged {
            let name = self.container();
            return Err(Error::Invalid {
                what: format!("copy to {name}:/{}", within.display()),
                reason: format!(
                    "its mount shows files as another user's while the container runs: `bulkhead start {name}` first"
                ),
            });
        }
        let here = |owner: Owner| numbers.here(owner);
        let how = Unpack { within: &within, owners: numbers.chosen(owners, &here), ..copying() };
        let unpacked = numbers.making(|| Ok(layer::unpack(archive, self.root(), &how)?))?;
        self.engine.tell(&self.known, "extract-to-dir");
        Ok(Copied { bytes: unpacked.length, left_out: unpacked.left_out.examples })
    }

    /// Copies what is at a spot into a directory of the host, under a name.
    ///
    /// # Errors
    /// As [`Files::archive`], and for writing the files.
    pub fn copy_out(
        &self,
        spot: &Spot,
        stored: &OsStr,
        into: BorrowedFd<'_>,
        owners: CopyOwners,
    ) -> Result<Copied> {
        let outside = |owner: Owner| self.numbers.outside(owner);
        let how = Unpack { owners: self.numbers.chosen(owners, &outside), ..copying() };
        let write = |writer: io::PipeWriter| self.archive(spot, stored, &mut io::BufWriter::new(writer));
        let (copied, unpacked) = through_pipe(write, |reader| Ok(layer::unpack(reader, into, &how)?))?;
        Ok(Copied { bytes: unpacked.length, left_out: join(copied.left_out, unpacked.left_out) })
    }

    /// Copies a file of the host, or a directory with what is in it, into a directory of the container, under a name.
    ///
    /// # Errors
    /// As [`Files::extract`], and for reading the files.
    pub fn copy_in(
        &self,
        (parent, name): (BorrowedFd<'_>, &OsStr),
        directory: &Spot,
        stored: &OsStr,
        owners: CopyOwners,
    ) -> Result<Copied> {
        let write = |writer: io::PipeWriter| -> Result<Packed> {
            Ok(layer::pack_one(parent, name, stored, io::BufWriter::new(writer), &Pack::plain())?)
        };
        let (packed, copied) = through_pipe(write, |reader| self.extract(directory, reader, owners))?;
        let left_out = join(copied.left_out, packed.left_out);
        Ok(Copied { bytes: packed.length, left_out })
    }

    /// Says by which numbers owners go where something lies, and how its mount shows them.
    fn numbers_at(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(&Numbers, Shown)> {
        let shown = match &self.view {
            View::Running(_) => return Ok((&self.numbers, Shown::ByMaps)),
            View::Assembled(assembled) => assembled.shown(directory, name)?,
        };
        let on_host = self.on_host.as_ref().filter(|_| shown == Shown::AsOnHost);
        Ok((on_host.unwrap_or(&self.numbers), shown))
    }

    fn root(&self) -> BorrowedFd<'_> {
        match &self.view {
            View::Running(root) | View::Assembled(Assembled { root, .. }) => root.as_fd(),
        }
    }
}

/// Tells how a mount shows whose files are: as was asked for, or as one for which nothing was.
fn shown(asked: Option<&Ownership>, usual: Shown) -> Shown {
    match asked {
        None => usual,
        Some(Ownership::Container) => Shown::ByMaps,
        Some(_) => Shown::Exchanged,
    }
}

/// Runs what writes an archive and what reads it at once.
///
/// # Errors
/// The writer's, since the reader finds but half an archive then; unless the reader is what failed.
pub(crate) fn through_pipe<W: Send, R>(
    write: impl FnOnce(io::PipeWriter) -> Result<W> + Send,
    read: impl FnOnce(io::PipeReader) -> Result<R>,
) -> Result<(W, R)> {
    let (reader, writer) = io::pipe().doing(|| "pipe()")?;
    std::thread::scope(|scope| {
        let writing = std::thread::Builder::new().name("pack".to_owned());
        let writing = writing.spawn_scoped(scope, move || write(writer)).doing(|| "start a thread")?;
        let read = read(reader);
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (written, read) {
            (Ok(written), Ok(read)) => Ok((written, read)),
            (Err(Error::Layer(layer::Error::Write(_))) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
        }
    })
}

/// How archives of copies are unpacked.
fn copying() -> Unpack<'static> {
    Unpack { existing: Existing::LikeForLike, whole: Whole::Marked, ..Unpack::plain() }
}

fn join(one: Vec<(PathBuf, String)>, other: LeftOut) -> Vec<(PathBuf, String)> {
    one.into_iter().chain(other.examples).collect()
}
