//! A tree of files becomes an archive.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bulkhead_sys::Call;
use bulkhead_sys::path::open_beneath;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::archive::{Head, Kind, Timestamp, Writer};
use super::owner::{Owner, Owners};
use super::place::Place;
use super::unpack::Form;
use super::{Error, LeftOut, Marks, Result, listing, overlay};
use crate::Digest;

/// How a tree is packed.
#[derive(Debug, Clone, Copy)]
pub struct Pack<'a> {
    /// What the tree is: the writable layer of an overlay, whose deletions become `.wh.` files, or files as they are.
    pub form: Form,
    /// Whose the files are in the archive.
    pub owners: Owners<'a>,
    /// Paths, relative to the tree, that are left out with all below them.
    pub skip: &'a [PathBuf],
    /// What becomes of the kernel's file systems that are mounted in the tree.
    pub kernels: Kernels,
}

/// What becomes of a file system that shows the kernel and no files of anybody's, such as procfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// It is packed as any other.
    Packed,
    /// Its root is an empty directory. So it must be for the tree of a container that runs: what the kernel shows to a
    /// process of the host there is not the container's.
    Empty,
}

impl Pack<'_> {
    /// The writable layer of an overlay, with the owners that the files have.
    pub fn layer(marks: Marks) -> Self {
        Self { form: Form::Layer(marks), ..Self::plain() }
    }

    /// Plain files with the owners that they have.
    pub fn plain() -> Self {
        Self { form: Form::Plain, owners: Owners::Kept, skip: &[], kernels: Kernels::Packed }
    }
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The digest of the archive.
    pub diff_id: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// The sum of the files' sizes in bytes.
    pub size: u64,
    /// The number of entries.
    pub entries: u64,
    /// What no archive can hold, such as sockets, and files that became shorter while they were read and so end with
    /// zeros.
    pub left_out: LeftOut,
}

/// Packs what is in a directory, names in order, the same files into the same bytes. The directory itself is no entry.
///
/// # Errors
/// [`Error::Unpackable`] for what a layer cannot say, [`Error::Machine`], and [`Error::Write`].
pub fn pack(tree: BorrowedFd<'_>, into: impl Write, how: &Pack<'_>) -> Result<Packed> {
    let mut packer = Packer::new(tree, into, how);
    packer.below(b"", b"")?;
    packer.finish()
}

/// Packs one file, or a directory with what is in it, under a name of the caller's choice.
///
/// # Errors
/// As [`pack`].
pub fn pack_one(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    stored: &OsStr,
    into: impl Write,
    how: &Pack<'_>,
) -> Result<Packed> {
    let mut packer = Packer::new(parent, into, how);
    let directory = packer.open(b"")?;
    let (path, stored_path) = (name.as_bytes(), stored.as_bytes());
    // In a tree a file may go away meanwhile; the one that was asked for must be there.
    overlay::look(&directory, path).map_err(Error::machine("look at", path))?;
    let found = Found { directory: &directory, name: path, path, stored: stored_path };
    if packer.entry(&found)? == Next::Below {
        packer.below(name.as_bytes(), stored.as_bytes())?;
    }
    packer.finish()
}

/// File systems of the kernel's, by their numbers in statfs(2): procfs, sysfs, cgroup 1 and 2, debugfs, tracefs, securityfs,
/// bpf, pstore, configfs, efivarfs, selinuxfs, fusectl, binfmt_misc, mqueue, devpts, nsfs.
const KERNELS: [u64; 17] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0x6265_6570,
    0xde5e_81e4,
    0xf97c_ff8c,
    0x6573_5543,
    0x4249_4e4d,
    0x1980_0202,
    0x1cd1,
    0x6e73_6673,
];

/// Tells whether a file lies on a file system that shows the kernel, and no files of anybody's.
///
/// # Errors
/// As fstatfs(2).
pub fn is_kernels(file: impl AsFd) -> bulkhead_sys::Result<bool> {
    let found = rustix::fs::fstatfs(file).call(|| "fstatfs")?;
    // The type of the field differs from one architecture to another, and so does its sign.
    Ok(KERNELS.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

/// How much of a file is read at once.
const BUFFER: usize = 256 * 1024;

struct Packer<'a, W: Write> {
    tree: BorrowedFd<'a>,
    how: &'a Pack<'a>,
    skip: HashSet<&'a [u8]>,
    writer: Writer<Hashing<W>>,
    /// Under which name a file with several was stored first.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    size: u64,
    entries: u64,
    left_out: LeftOut,
}

/// A directory on the way to the one that is being packed.
struct Level {
    path: Vec<u8>,
    stored: Vec<u8>,
    /// The last name comes first.
    names: Vec<Vec<u8>>,
}

/// A file, where it is and how it is stored.
struct Found<'f> {
    directory: &'f OwnedFd,
    name: &'f [u8],
    path: &'f [u8],
    stored: &'f [u8],
}

/// What comes after an entry.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// What is in it.
    Below,
    /// Its neighbour.
    Beside,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(tree: BorrowedFd<'a>, into: W, how: &'a Pack<'a>) -> Self {
        Self {
            tree,
            how,
            skip: how.skip.iter().map(|path| path.as_os_str().as_bytes()).collect(),
            writer: Writer::new(Hashing { into, hash: Sha256::new(), length: 0 }),
            linked: HashMap::new(),
            buffer: vec![0; BUFFER],
            size: 0,
            entries: 0,
            left_out: LeftOut::default(),
        }
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd> {
        listing::open(self.tree, path).map_err(Error::machine("open the directory", path))
    }

    /// Packs what is in a directory. Only one is open at a time, however deep the tree is.
    fn below(&mut self, path: &[u8], stored: &[u8]) -> Result<()> {
        let mut directory = self.open(path)?;
        let mut levels = vec![self.level(&directory, path, stored)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                if let Some(above) = levels.last() {
                    directory = self.open(&above.path)?;
                }
                continue;
            };
            let path = Place::within(&level.path, &name).bytes().to_vec();
            let stored = Place::within(&level.stored, &name).bytes().to_vec();
            if self.skip.contains(path.as_slice()) {
                continue;
            }
            let found = Found { directory: &directory, name: &name, path: &path, stored: &stored };
            if self.entry(&found)? == Next::Below {
                directory = match self.open(&path) {
                    Err(Error::Machine { source, .. }) if source.errno() == Errno::NOENT => continue,
                    opened => opened?,
                };
                levels.push(self.level(&directory, &path, &stored)?);
            }
        }
        Ok(())
    }

    fn level(&mut self, directory: &OwnedFd, path: &[u8], stored: &[u8]) -> Result<Level> {
        let failed = Error::machine("read the directory", path);
        if let Form::Layer(marks) = self.how.form
            && !path.is_empty()
        {
            if overlay::is_elsewhere(directory, marks).map_err(failed)? {
                let reason = "is a directory that was renamed, and lies in a lower layer under its old name";
                return Err(Error::Unpackable { path: path.to_vec(), reason });
            }
            if overlay::is_opaque(directory, marks).map_err(failed)? {
                self.mark(&Place::within(stored, overlay::OPAQUE))?;
            }
        }
        if self.how.kernels == Kernels::Empty && is_kernels(directory).map_err(failed)? {
            return Ok(Level { path: path.to_vec(), stored: stored.to_vec(), names: Vec::new() });
        }
        let mut names = listing::names(directory).map_err(failed)?;
        names.reverse();
        Ok(Level { path: path.to_vec(), stored: stored.to_vec(), names })
    }

    fn entry(&mut self, found: &Found<'_>) -> Result<Next> {
        let Found { directory, name, path, stored } = *found;
        let stat = match overlay::look(directory, name) {
            // A tree that is in use changes under way.
            Err(error) if error.errno() == Errno::NOENT => return Ok(Next::Beside),
            stat => stat.map_err(Error::machine("look at", path))?,
        };
        if let Form::Layer(_) = self.how.form {
            if overlay::is_whiteout(&stat) {
                let parent = super::place::split(stored).map_or(&b""[..], |(parent, _)| parent);
                self.mark(&Place::within(parent, &[overlay::WHITEOUT, name].concat()))?;
                return Ok(Next::Beside);
            }
            if name.starts_with(overlay::WHITEOUT) {
                let reason = "has a name that means a deletion in layers";
                return Err(Error::Unpackable { path: path.to_vec(), reason });
            }
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.head(found, Kind::Directory, b"", &stat)?;
                return Ok(Next::Below);
            }
            _ if self.hard_link(path, stored, &stat)? => {}
            FileType::RegularFile => self.regular(found)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new()).call(|| "readlinkat");
                let target = target.map_err(Error::machine("read the link", path))?;
                self.head(found, Kind::SymbolicLink, target.to_bytes(), &stat)?;
            }
            FileType::CharacterDevice => {
                self.head(found, Kind::CharacterDevice, b"", &stat)?;
            }
            FileType::BlockDevice => self.head(found, Kind::BlockDevice, b"", &stat)?,
            FileType::Fifo => self.head(found, Kind::Fifo, b"", &stat)?,
            _ => self.left_out.note(path, "a socket"),
        }
        if stat.st_nlink > 1 {
            self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| stored.to_vec());
        }
        Ok(Next::Beside)
    }

    /// Stores another name of a file that is stored already.
    fn hard_link(&mut self, path: &[u8], stored: &[u8], stat: &Stat) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) else { return Ok(false) };
        let owner = Owner { user: stat.st_uid, group: stat.st_gid };
        let Owner { user, group } = self.how.owners.of_file(owner, path)?;
        let head = Head {
            path: stored,
            kind: Kind::HardLink,
            link: first,
            mode: stat.st_mode & 0o7777,
            user,
            group,
            size: 0,
            time: time(stat),
            device: (0, 0),
            xattrs: &[],
        };
        self.entries += 1;
        self.writer.head(&head).map_err(Error::Write)?;
        Ok(true)
    }

    fn regular(&mut self, found: &Found<'_>) -> Result<()> {
        let Found { directory, name, path, .. } = *found;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME;
        let relative = Path::new(OsStr::from_bytes(name));
        let file = match open_beneath(directory, relative, flags, Mode::empty()) {
            Err(error) if error.errno() == Errno::NOENT => return Ok(()),
            // Only its owner may read a file without being noticed.
            Err(error) if error.errno() == Errno::PERM => {
                open_beneath(directory, relative, flags - OFlags::NOATIME, Mode::empty())
            }
            opened => opened,
        };
        let failed = Error::machine("read", path);
        let file = file.map_err(failed)?;
        let stat = rustix::fs::fstat(&file).call(|| "fstat").map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Unpackable {
                path: path.to_vec(),
                reason: "became something else while it was read",
            });
        }
        if let Form::Layer(marks) = self.how.form
            && overlay::is_elsewhere(&file, marks).map_err(failed)?
        {
            let reason = "is a file whose contents lie in a lower layer (metacopy)";
            return Err(Error::Unpackable { path: path.to_vec(), reason });
        }
        if self.how.kernels == Kernels::Empty && is_kernels(&file).map_err(failed)? {
            self.left_out.note(path, "a file of the kernel's");
            return Ok(());
        }
        self.head(found, Kind::Regular, b"", &stat)?;
        self.contents(&file, path, u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Stores as many bytes as the header says, whatever happens to the file meanwhile.
    fn contents(&mut self, file: &OwnedFd, path: &[u8], size: u64) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let part = BUFFER.min(usize::try_from(left).unwrap_or(BUFFER));
            let read = match rustix::io::read(file, &mut self.buffer[..part]) {
                Err(Errno::INTR) => continue,
                read => read.call(|| "read").map_err(Error::machine("read", path))?,
            };
            let read = if read == 0 {
                self.left_out.note(path, format!("{left} bytes that were cut off while it was read"));
                self.buffer.fill(0);
                part
            } else {
                read
            };
            self.writer.data(&self.buffer[..read]).map_err(Error::Write)?;
            left -= read as u64;
        }
        self.size += size;
        Ok(())
    }

    fn head(&mut self, found: &Found<'_>, kind: Kind, link: &[u8], stat: &Stat) -> Result<()> {
        let owner = Owner { user: stat.st_uid, group: stat.st_gid };
        let Owner { user, group } = self.how.owners.of_file(owner, found.path)?;
        let xattrs = self.xattrs(found)?;
        let head = Head {
            path: found.stored,
            kind,
            link,
            mode: stat.st_mode & 0o7777,
            user,
            group,
            size: if kind == Kind::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            time: time(stat),
            device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            xattrs: &xattrs,
        };
        self.entries += 1;
        self.writer.head(&head).map_err(Error::Write)
    }

    fn xattrs(&self, found: &Found<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Found { directory, name, path, .. } = *found;
        let failed = Error::machine("read the attributes of", path);
        let mut carried = Vec::new();
        for attribute in listing::xattrs(directory, name).map_err(failed)? {
            if !is_carried(&attribute) {
                continue;
            }
            // It may have gone meanwhile.
            let Some(value) = listing::xattr(directory, name, &attribute).map_err(failed)? else { continue };
            let value = if attribute == CAPABILITY { self.capability(value) } else { value };
            carried.push((attribute, value));
        }
        Ok(carried)
    }

    /// Takes from capabilities of a user namespace's root that they are only its: in the container it is root.
    /// See capabilities(7), "Namespaced file capabilities".
    fn capability(&self, value: Vec<u8>) -> Vec<u8> {
        // The third version is the second one, and the number of that root behind it.
        let [0 | 1, 0, 0, 3, ..] = value.as_slice() else { return value };
        let Some((plain, root)) = value.split_last_chunk().filter(|(plain, _)| plain.len() == 20) else {
            return value;
        };
        let root = Owner { user: u32::from_le_bytes(*root), group: 0 };
        match self.how.owners {
            owners @ (Owners::Mapped(_) | Owners::Placed(_))
                if owners.named(b"", root).is_none_or(|owner| owner.user != 0) =>
            {
                return value;
            }
            Owners::Kept => return value,
            Owners::Mapped(_) | Owners::Placed(_) | Owners::Caller => {}
        }
        let mut value = plain.to_vec();
        value[3] = 2;
        value
    }

    /// Stores an empty file that means a deletion.
    fn mark(&mut self, place: &Place) -> Result<()> {
        let head = Head {
            path: place.bytes(),
            kind: Kind::Regular,
            link: b"",
            mode: 0o600,
            user: 0,
            group: 0,
            size: 0,
            time: Timestamp::default(),
            device: (0, 0),
            xattrs: &[],
        };
        self.entries += 1;
        self.writer.head(&head).map_err(Error::Write)
    }

    fn finish(self) -> Result<Packed> {
        let Hashing { into: _, hash, length } = self.writer.finish().map_err(Error::Write)?;
        Ok(Packed {
            diff_id: Digest::from(hash),
            length,
            size: self.size,
            entries: self.entries,
            left_out: self.left_out,
        })
    }
}

const CAPABILITY: &[u8] = b"security.capability";

/// Says whether an attribute is the file's own, and not its host's or the overlay's.
fn is_carried(name: &[u8]) -> bool {
    let is_own = overlay::OWN.iter().any(|own| name.starts_with(own));
    !is_own && (name == CAPABILITY || name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_"))
}

fn time(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// A writer that digests what passes.
struct Hashing<W> {
    into: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.into.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.length += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
