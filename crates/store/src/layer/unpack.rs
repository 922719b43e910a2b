//! A layer archive becomes a tree of files.

use std::io::{BufRead, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread;

use bulkhead_sys::Call;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::archive::{Archive, Entry, Kind, Timestamp, Whole};
use super::attributes::{Attributes, Directories, LeftOut};
use super::error::Quoted;
use super::overlay::{Mark, Marks, is_whiteout, mark};
use super::owner::{Creator, Owners};
use super::place::{Place, Subject};
use super::tree::{Tree, make_directory, remove_file};
use super::{Compression, Error, Limits, Result, is_kernels, overlay, remove, stream, write};
use crate::Digest;

/// What an archive is unpacked as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A layer, as overlayfs reads it. The directory must be empty, and is so again after a failure.
    Layer(Marks),
    /// Files as they are: `.wh.` in names means nothing, what is there stays or is replaced, also after a failure.
    Plain,
}

/// What becomes of a file that is where an entry is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It makes way, whatever it is, with all below it; but a directory for a directory.
    Replaced,
    /// It makes way for its like: a directory stays one, and nothing else becomes one. What the archive says about its
    /// own root is passed over, for that is somebody's directory. So docker copies.
    LikeForLike,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct Unpack<'a> {
    /// What it is unpacked as.
    pub form: Form,
    /// The directory in the tree below which its entries belong; empty for the tree's own. Links on the way to it, and to
    /// what lies in it, are followed inside the tree.
    pub within: &'a Path,
    /// What becomes of what is there.
    pub existing: Existing,
    /// Whose the files become.
    pub owners: Owners<'a>,
    /// How much it may take.
    pub limits: Limits,
    /// The digest that the uncompressed archive must have, if it is known.
    pub diff_id: Option<Digest>,
    /// How it is known that the archive is whole, if not by its diff id.
    pub whole: Whole,
}

impl Unpack<'_> {
    /// A layer with the owners that the archive tells.
    pub fn layer(marks: Marks) -> Self {
        let form = Form::Layer(marks);
        Self { form, ..Self::plain() }
    }

    /// Plain files with the owners that the archive tells.
    pub fn plain() -> Self {
        Self {
            form: Form::Plain,
            within: Path::new(""),
            existing: Existing::Replaced,
            owners: Owners::Kept,
            limits: Limits::default(),
            diff_id: None,
            whole: Whole::Marked,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the uncompressed archive, from its first byte to the end of the stream.
    pub diff_id: Digest,
    /// The length of the uncompressed archive in bytes.
    pub length: u64,
    /// The sum of the files' sizes in bytes, as docker counts a layer's.
    pub size: u64,
    /// The space that the files take, in bytes, as whole blocks of 4 KiB.
    pub disk: u64,
    /// The number of entries.
    pub entries: u64,
    /// How the archive was compressed.
    pub compression: Compression,
    /// What the machine would not take.
    pub left_out: LeftOut,
}

/// Unpacks an archive, which may be compressed, into a directory. The stream is read to its end.
///
/// Nothing is synchronised with the disk: that is done once, by whoever gives the directory its name.
///
/// # Errors
/// Any of [`Error`]; what was made for a [`Form::Layer`] is removed then.
pub fn unpack(archive: impl Read + Send, into: BorrowedFd<'_>, how: &Unpack<'_>) -> Result<Unpacked> {
    let result = unpack_stream(archive, into, how);
    if result.is_err() && how.form != Form::Plain {
        // The first error is the one that tells something; what cannot be removed is left to the garbage collector.
        let _ = remove::empty(into);
    }
    result
}

fn unpack_stream(archive: impl Read + Send, into: BorrowedFd<'_>, how: &Unpack<'_>) -> Result<Unpacked> {
    thread::scope(|scope| {
        let (feeder, stream) = stream::start(scope, archive, how.limits)?;
        // The stream goes away with this call, also when it fails: the feeder ends then.
        let unpacked = unpack_entries(stream, into, how);
        let (passed, unpacked) = match (feeder.join(), unpacked) {
            (Ok(passed), unpacked) => (passed, unpacked?),
            // Where the feeder stopped, the archive seems to end.
            (Err(error), Ok(_) | Err(Error::Truncated { .. })) => return Err(error),
            (Err(_), Err(error)) => return Err(error),
        };
        if let Some(expected) = how.diff_id.filter(|expected| *expected != passed.digest) {
            return Err(Error::WrongDigest { subject: "layer", expected, found: passed.digest });
        }
        let Totals { size, disk, entries } = unpacked.totals;
        Ok(Unpacked {
            diff_id: passed.digest,
            length: passed.length,
            size,
            disk,
            entries,
            compression: passed.compression,
            left_out: unpacked.left_out,
        })
    })
}

/// Unpacks an uncompressed archive by the calling thread alone, and forgets what it was. For fuzzing.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_plainly(archive: impl BufRead, into: BorrowedFd<'_>, how: &Unpack<'_>) -> Result<u64> {
    unpack_entries(archive, into, how).map(|unpacked| unpacked.totals.entries)
}

fn unpack_entries(archive: impl BufRead, into: BorrowedFd<'_>, how: &Unpack<'_>) -> Result<Finished> {
    let mut unpacker = Unpacker::new(into, *how);
    let mut archive = Archive::new(archive);
    if let Form::Layer(_) = how.form {
        unpacker.defer_root()?;
    }
    while let Some(entry) = archive.next_entry()? {
        unpacker.place(&entry, &mut archive)?;
    }
    archive.finish(if how.diff_id.is_some() { Whole::Known } else { how.whole })?;
    unpacker.finish()
}

#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    size: u64,
    disk: u64,
    entries: u64,
}

struct Finished {
    totals: Totals,
    left_out: LeftOut,
}

struct Unpacker<'a> {
    tree: Tree<'a>,
    how: Unpack<'a>,
    creator: Creator,
    directories: Directories,
    totals: Totals,
    left_out: LeftOut,
}

/// The mode of a directory that is only implied by what lies in it, as docker makes it.
const IMPLIED: u32 = 0o755;

/// The unit in which space is counted.
const DISK_BLOCK: u64 = 4096;

impl<'a> Unpacker<'a> {
    fn new(into: BorrowedFd<'a>, how: Unpack<'a>) -> Self {
        let marks = match how.form {
            Form::Layer(marks) => Some(marks),
            Form::Plain => None,
        };
        Self {
            tree: Tree::new(into, marks),
            how,
            creator: Creator::new(into),
            directories: Directories::default(),
            totals: Totals::default(),
            left_out: LeftOut::default(),
        }
    }

    fn place<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        let limits = self.how.limits;
        self.totals.entries += 1;
        limits.check_entries(self.totals.entries, &entry.path)?;
        let place = Place::of(&entry.path, &entry.path, Subject::Entry, &limits)?;
        if self.how.existing == Existing::LikeForLike && place.bytes().is_empty() {
            return Ok(());
        }
        let place = self.below(place);
        let Some((parent, name)) = place.split() else {
            return self.place_root(entry);
        };
        if let Form::Layer(marks) = self.how.form {
            match (mark_above(parent, entry)?, mark(name)) {
                (Mark::Reserved, _) | (_, Mark::Reserved) => return Ok(()),
                (_, Mark::Whiteout(gone)) => return self.delete(parent, gone, marks, entry),
                (_, Mark::Opaque) => return self.delete_all(parent, marks, entry),
                (_, Mark::File) => {}
            }
        }
        let attributes = self.attributes(entry)?;
        match entry.kind {
            Kind::Regular => self.regular(parent, name, entry, &attributes, archive),
            Kind::Directory => self.directory(parent, name, entry, attributes),
            Kind::HardLink => self.hard_link(parent, name, entry),
            Kind::SymbolicLink => self.symbolic_link(parent, name, entry, &attributes),
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                self.special(parent, name, entry, &attributes)
            }
        }
    }

    /// Moves a place of the archive to where its entries belong.
    fn below(&self, place: Place) -> Place {
        let within = self.how.within.as_os_str().as_bytes();
        match (within, place.bytes()) {
            (b"", _) => place,
            (within, b"") => Place::within(b"", within),
            (within, inside) => Place::within(within, inside),
        }
    }

    fn attributes(&self, entry: &Entry) -> Result<Attributes> {
        let attributes = Attributes {
            owner: self.how.owners.of_entry(entry.user, entry.group, &entry.path)?,
            mode: self.how.owners.mode(entry.mode, entry.user, entry.group),
            time: entry.time,
            xattrs: entry.xattrs.clone(),
        };
        attributes.check(self.how.form, &entry.path)
    }

    /// The root is there; an entry tells its attributes.
    fn place_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::entry(&entry.path, "would stand in the place of the layer's root"));
        }
        let attributes = self.attributes(entry)?;
        self.directories.defer(Vec::new(), None, attributes, &self.how.limits)
    }

    /// A layer that says nothing about its root has one that everybody may enter, as docker makes it.
    fn defer_root(&mut self) -> Result<()> {
        let attributes = self.implied(b"")?;
        self.directories.defer(Vec::new(), None, attributes, &self.how.limits)
    }

    fn implied(&self, path: &[u8]) -> Result<Attributes> {
        let owner = self.how.owners.of_entry(0, 0, path)?;
        // Such a directory has no time; the beginning of time makes layers the same whenever they are unpacked.
        Ok(Attributes { owner, mode: IMPLIED, time: Timestamp::default(), xattrs: Vec::new() })
    }

    /// Notes the directories that were made on the way.
    fn note_implied(&mut self) -> Result<()> {
        for path in self.tree.take_implied() {
            self.totals.entries += 1;
            self.how.limits.check_entries(self.totals.entries, &path)?;
            self.totals.disk += DISK_BLOCK;
            let attributes = self.implied(&path)?;
            self.directories.defer(path, Some(0o700), attributes, &self.how.limits)?;
        }
        Ok(())
    }

    /// Makes something under a name, and makes room for it if the name is taken: the later entry is the one that counts.
    fn make<T>(
        &mut self,
        (parent, name): (&[u8], &[u8]),
        entry: &Entry,
        doing: &'static str,
        make: impl Fn(&super::tree::Directory) -> bulkhead_sys::Result<T>,
    ) -> Result<T> {
        let failed = Error::machine(doing, &entry.path);
        let directory = self.tree.parent(parent, &entry.path)?;
        let made = match make(directory) {
            Err(error) if error.errno() == Errno::EXIST => {
                let place = Place::within(directory.path(), name);
                self.make_room(parent, name, place.bytes(), entry)?;
                make(self.tree.parent(parent, &entry.path)?)
            }
            made => made,
        };
        self.note_implied()?;
        made.map_err(failed)
    }

    fn make_room(&mut self, parent: &[u8], name: &[u8], path: &[u8], entry: &Entry) -> Result<()> {
        let failed = Error::machine("replace", &entry.path);
        let directory = self.tree.parent(parent, &entry.path)?;
        let stat = overlay::look(directory, name).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return remove_file(directory, name).map_err(failed);
        }
        if self.how.existing == Existing::LikeForLike {
            return Err(Error::entry(
                &entry.path,
                "is no directory, and cannot replace the one that is there",
            ));
        }
        remove::remove_bytes(directory, name)?;
        self.tree.forget();
        self.directories.replaced(path, &self.how.limits)
    }

    fn regular<R: BufRead>(
        &mut self,
        parent: &[u8],
        name: &[u8],
        entry: &Entry,
        attributes: &Attributes,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        self.totals.size = self.totals.size.saturating_add(entry.size);
        self.how.limits.check_bytes(self.totals.size, Some(&entry.path))?;
        let made = attributes.mode & 0o777;
        let file = self.make((parent, name), entry, "make the file", |directory| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(made))
                .call(|| format!("openat({:?}, {flags:?}, {made:#o})", String::from_utf8_lossy(name)))
        })?;
        self.totals.disk += write::contents(&file, entry, archive)?.next_multiple_of(DISK_BLOCK);
        attributes.set(&file, &entry.path, Some(made), &self.creator, &mut self.left_out)
    }

    fn directory(&mut self, parent: &[u8], name: &[u8], entry: &Entry, attributes: Attributes) -> Result<()> {
        let failed = Error::machine("make the directory", &entry.path);
        // It must be open to us until all that lies in it is there.
        let made = attributes.mode & 0o777 | 0o700;
        let directory = self.tree.parent(parent, &entry.path)?;
        let path = Place::within(directory.path(), name).bytes().to_vec();
        let mode = Mode::from_raw_mode(made);
        let first = make_directory(directory, name, mode);
        self.note_implied()?;
        let made = match first {
            Ok(()) => Some(made),
            Err(error) if error.errno() == Errno::EXIST => {
                let directory = self.tree.parent(parent, &entry.path)?;
                let stat = overlay::look(directory, name).map_err(failed)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    if self.how.form == Form::Plain && is_mount_of_kernel(directory, name).map_err(failed)? {
                        return Ok(());
                    }
                    None
                } else if self.how.existing == Existing::LikeForLike {
                    let fault = "is a directory, and cannot replace what is there, which is none";
                    return Err(Error::entry(&entry.path, fault));
                } else {
                    remove_file(directory, name).map_err(failed)?;
                    make_directory(directory, name, mode).map_err(failed)?;
                    self.keep_gone(&stat, parent, name, entry)?;
                    Some(made)
                }
            }
            Err(source) => return Err(failed(source)),
        };
        self.totals.disk += if made.is_some() { DISK_BLOCK } else { 0 };
        self.directories.defer(path, made, attributes, &self.how.limits)
    }

    /// Where a whiteout was and a directory is now, what lower layers had there stays gone.
    fn keep_gone(
        &mut self,
        before: &rustix::fs::Stat,
        parent: &[u8],
        name: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        match self.how.form {
            Form::Layer(marks) if is_whiteout(before) => self.make_opaque(parent, name, marks, entry),
            Form::Layer(_) | Form::Plain => Ok(()),
        }
    }

    fn make_opaque(&mut self, parent: &[u8], name: &[u8], marks: Marks, entry: &Entry) -> Result<()> {
        let path = Place::within(parent, name).bytes().to_vec();
        let directory = self.tree.parent(&path, &entry.path)?;
        let opaque = overlay::make_opaque(directory, marks);
        opaque.map_err(Error::machine("make opaque", &path))
    }

    fn hard_link(&mut self, parent: &[u8], name: &[u8], entry: &Entry) -> Result<()> {
        let target = Place::of(&entry.link, &entry.path, Subject::Target, &self.how.limits)?;
        let target = self.below(target);
        let missing = || {
            let fault = format!("is a hard link to {}, which the layer does not have", Quoted(&entry.link));
            Error::entry(&entry.path, fault)
        };
        let Some((target_parent, target_name)) = target.split() else {
            return Err(Error::entry(&entry.path, "is a hard link to the layer's root"));
        };
        self.tree.parent(parent, &entry.path)?;
        self.note_implied()?;
        let mut again = false;
        loop {
            let Some((from, to)) = self.tree.parents(target_parent, &entry.path)? else {
                return Err(missing());
            };
            let linked = rustix::fs::linkat(from, target_name, to, name, rustix::fs::AtFlags::empty());
            match linked {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => return Err(missing()),
                Err(Errno::EXIST) if !again => {
                    again = true;
                    let failed = Error::machine("replace", &entry.path);
                    let here = overlay::look(to, name).map_err(failed)?;
                    let there = overlay::look(from, target_name).map_err(|_| missing())?;
                    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) {
                        return Ok(());
                    }
                    let place = Place::within(to.path(), name);
                    self.make_room(parent, name, place.bytes(), entry)?;
                    self.tree.parent(parent, &entry.path)?;
                }
                Err(errno) => {
                    let source = Err(errno).call(|| {
                        let name = String::from_utf8_lossy(name);
                        format!("linkat({:?}, {name:?})", String::from_utf8_lossy(target_name))
                    });
                    let doing = "make the hard link";
                    return source.map_err(Error::machine(doing, &entry.path));
                }
            }
        }
    }

    fn symbolic_link(
        &mut self,
        parent: &[u8],
        name: &[u8],
        entry: &Entry,
        attributes: &Attributes,
    ) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > self.how.limits.name {
            return Err(Error::entry(
                &entry.path,
                "is a link that leads to nothing, or to a path that is too long",
            ));
        }
        self.make((parent, name), entry, "make the link", |directory| {
            rustix::fs::symlinkat(entry.link.as_slice(), directory, name)
                .call(|| format!("symlinkat({:?})", String::from_utf8_lossy(&entry.link)))
        })?;
        // Up to here ext4 keeps the target in the inode.
        const INLINE: usize = 60;
        self.totals.disk += if entry.link.len() < INLINE { 0 } else { DISK_BLOCK };
        self.set_named(parent, name, entry, None, attributes)
    }

    fn special(&mut self, parent: &[u8], name: &[u8], entry: &Entry, attributes: &Attributes) -> Result<()> {
        let kind = match entry.kind {
            Kind::CharacterDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let number = |number: i64| u32::try_from(number).ok();
        let (Some(major), Some(minor)) = (number(entry.device.0), number(entry.device.1)) else {
            return Err(Error::entry(&entry.path, "is a device with a number that no device has"));
        };
        if self.how.form != Form::Plain && kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
            let fault =
                "is the device 0:0, by which the overlay knows deletions; a layer has `.wh.` files for them";
            return Err(Error::entry(&entry.path, fault));
        }
        let made = attributes.mode & 0o777;
        let node = self.make((parent, name), entry, "make the device or pipe", |directory| {
            let device = rustix::fs::makedev(major, minor);
            let made = rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(made), device);
            match made {
                // Users may not make devices, and a container of theirs could not use them.
                Err(Errno::PERM) if kind != FileType::Fifo => Ok(None),
                made => made
                    .map(Some)
                    .call(|| format!("mknodat({:?}, {major}:{minor})", String::from_utf8_lossy(name))),
            }
        })?;
        if node.is_none() {
            self.left_out.note(&entry.path, format!("the device {major}:{minor}"));
            return Ok(());
        }
        self.set_named(parent, name, entry, Some(made), attributes)
    }

    fn set_named(
        &mut self,
        parent: &[u8],
        name: &[u8],
        entry: &Entry,
        made: Option<u32>,
        attributes: &Attributes,
    ) -> Result<()> {
        let directory = self.tree.parent(parent, &entry.path)?;
        attributes.set_named(directory, name, &entry.path, made, &self.creator, &mut self.left_out)
    }

    /// What has this name in lower layers is gone. What has it in this layer stays, wherever it stands in the archive: a
    /// whiteout is about lower layers only (OCI image specification, layer.md, "Whiteouts").
    fn delete(&mut self, parent: &[u8], gone: &[u8], marks: Marks, entry: &Entry) -> Result<()> {
        if matches!(gone, b"" | b"." | b"..") {
            return Err(Error::entry(
                &entry.path,
                "would delete the directory that it lies in, or the one above",
            ));
        }
        let failed = Error::machine("make the whiteout", &entry.path);
        let directory = self.tree.parent(parent, &entry.path)?;
        let made = overlay::make_whiteout(directory, gone);
        self.note_implied()?;
        match made {
            Err(error) if error.errno() == Errno::EXIST => {
                let stat = overlay::look(self.tree.parent(parent, &entry.path)?, gone).map_err(failed)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    self.make_opaque(parent, gone, marks, entry)?;
                }
                Ok(())
            }
            made => made.map_err(failed),
        }
    }

    fn delete_all(&mut self, parent: &[u8], marks: Marks, entry: &Entry) -> Result<()> {
        if parent.is_empty() {
            let fault =
                "would delete all lower layers, which no layer can: an overlay's root is never opaque";
            return Err(Error::entry(&entry.path, fault));
        }
        let directory = self.tree.parent(parent, &entry.path)?;
        if directory.path().is_empty() {
            return Err(Error::entry(&entry.path, "would delete all lower layers, by way of a link"));
        }
        let opaque = overlay::make_opaque(directory, marks);
        self.note_implied()?;
        opaque.map_err(Error::machine("make opaque", parent))
    }

    fn finish(mut self) -> Result<Finished> {
        self.directories.finish(&mut self.tree, &self.creator, &mut self.left_out)?;
        Ok(Finished { totals: self.totals, left_out: self.left_out })
    }
}

/// Tells whether what shows the kernel is mounted on a directory: its attributes are nobody's to change.
fn is_mount_of_kernel(parent: &super::tree::Directory, name: &[u8]) -> bulkhead_sys::Result<bool> {
    is_kernels(super::tree::open_directory(parent, name)?)
}

/// Judges the names of the directories above an entry.
fn mark_above<'p>(parent: &'p [u8], entry: &Entry) -> Result<Mark<'p>> {
    for name in parent.split(|byte| *byte == b'/') {
        match mark(name) {
            Mark::File => {}
            Mark::Reserved => return Ok(Mark::Reserved),
            Mark::Whiteout(_) | Mark::Opaque => {
                let fault = format!("lies below {}, which is a deletion and no directory", Quoted(name));
                return Err(Error::entry(&entry.path, fault));
            }
        }
    }
    Ok(Mark::File)
}
