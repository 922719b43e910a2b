//! What an unpacked layer looks like: enough of it to see later whether it still does.
//!
//! A layer is never changed in place. So a digest over the metadata of every entry, which takes a few microseconds each
//! to find, tells of whatever was added, lost, cut or exchanged; bytes that went bad under unchanged metadata are found
//! by unpacking the layer again beside it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bulkhead_sys::path::{open_beneath, open_host};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::layer;

/// Computes the digest over the metadata of all entries of a tree.
pub(crate) fn summary(root: BorrowedFd<'_>) -> Result<Digest> {
    let mut hash = Sha256::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let directory = open(root, &path)?;
        add(&mut hash, path.as_os_str().as_bytes(), &look(&directory, Path::new(""))?, b"");
        for name in names(&directory, &path)? {
            let entry = Entry::of(&directory, &path, &name)?;
            if entry.kind() == FileType::Directory {
                left.push(entry.path);
            } else {
                add(&mut hash, entry.path.as_os_str().as_bytes(), &entry.stat, &entry.link);
            }
        }
    }
    Ok(Digest::from(hash))
}

/// Compares two trees in all that the kernel keeps of them but their inodes; tells the first path where they differ.
pub(crate) fn difference(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> Result<Option<PathBuf>> {
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let (in_a, in_b) = (open(a, &path)?, open(b, &path)?);
        let described = |directory: &OwnedFd| -> Result<_> {
            let stat = look(directory, Path::new(""))?;
            Ok((fields(&stat), attributes(directory)?, names(directory, &path)?))
        };
        let (described_a, described_b) = (described(&in_a)?, described(&in_b)?);
        if described_a.2 != described_b.2 {
            let is_other = |(a, b): &(&Vec<u8>, &Vec<u8>)| a != b;
            let (a, b) = (&described_a.2, &described_b.2);
            let found = a.iter().zip(b).find(is_other).map(|(a, b)| a.min(b));
            let longer = if a.len() > b.len() { a } else { b };
            let name = found.or_else(|| longer.get(a.len().min(b.len()))).cloned().unwrap_or_default();
            return Ok(Some(path.join(OsStr::from_bytes(&name))));
        }
        if described_a != described_b {
            return Ok(Some(path));
        }
        for name in described_a.2 {
            let entry = Entry::of(&in_a, &path, &name)?;
            let other = Entry::of(&in_b, &path, &name)?;
            if (kept(&entry.stat), &entry.link) != (kept(&other.stat), &other.link) {
                return Ok(Some(entry.path));
            }
            match entry.kind() {
                FileType::Directory => left.push(entry.path),
                FileType::RegularFile if !is_same(&in_a, &in_b, &entry.path)? => return Ok(Some(entry.path)),
                _ => {}
            }
        }
    }
    Ok(None)
}

/// What is counted of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Bytes on the disk.
    Blocks,
    /// The sizes of files alone, as docker counts what a container wrote: a directory or a deletion is nothing.
    Sizes,
}

/// Adds up what is in a directory and below; 0 when it is not there. A file with several names counts once, no link is
/// followed and no other file system is entered. What goes meanwhile is left out, as somebody may be at work in it.
///
/// # Errors
/// As open(2), getdents(2) and fstatat(2).
pub fn room(directory: &Path, measure: Measure) -> Result<u64> {
    let root = match open_host(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(0),
        opened => opened.map_err(|error| Error::Io {
            doing: format!("open {}", directory.display()),
            source: error.into(),
        })?,
    };
    let device = fstat(&root).doing(|| format!("look at {}", directory.display()))?.st_dev;
    let mut linked = std::collections::BTreeSet::new();
    let mut sum: u64 = 0;
    walk(root.as_fd(), directory, |_, _, stat| {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_dev != device {
            return Ok::<Below, Error>(Below::Left);
        }
        if is_directory || stat.st_nlink == 1 || linked.insert(stat.st_ino) {
            sum = sum.saturating_add(match measure {
                // The unit of st_blocks, whatever the file system's is (stat(2)).
                Measure::Blocks => u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512),
                Measure::Sizes if is_directory => 0,
                Measure::Sizes => u64::try_from(stat.st_size).unwrap_or_default(),
            });
        }
        Ok(Below::Entered)
    })?;
    Ok(sum)
}

/// What becomes of a directory that a walk has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// What is in it comes later.
    Entered,
    /// What is in it is left out.
    Left,
}

/// Goes through a tree, which may be a container's: it takes time as it has entries, however wide or deep it is, no link is
/// followed, and few directories are open at a time. `visit` gets one of them, the name of an entry in it, and what that is.
/// What goes meanwhile, or cannot be opened, is left out. `top` is what errors call the root.
///
/// # Errors
/// As getdents(2); what `visit` returns.
pub fn walk<E: From<Error>>(
    root: BorrowedFd<'_>,
    top: &Path,
    mut visit: impl FnMut(BorrowedFd<'_>, &OsStr, &Stat) -> std::result::Result<Below, E>,
) -> std::result::Result<(), E> {
    let mut way = Way { root, levels: Vec::new() };
    // Directories that are to come, each with the number of those above it.
    let mut left = vec![(0, OsString::from("."))];
    while let Some((above, name)) = left.pop() {
        let Some(directory) = way.enter(above, name) else { continue };
        let failed = |way: &Way<'_>| format!("look at {}", top.join(way.path()).display());
        for name in listed(&directory).doing(|| failed(&way))? {
            let name = OsStr::from_bytes(&name);
            let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let below = visit(directory.as_fd(), name, &stat)?;
            if below == Below::Entered && FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                left.push((way.levels.len(), name.to_owned()));
            }
        }
    }
    Ok(())
}

/// How many directories of a way are open at once. Those above are found again by `..`, and compared with what they were.
const OPEN: usize = 64;

/// The way from a root to the directory that was entered last.
struct Way<'a> {
    root: BorrowedFd<'a>,
    /// The root is the first of them.
    levels: Vec<Level>,
}

struct Level {
    name: OsString,
    identity: (u64, u64),
    /// Closed when there are many below.
    fd: Option<Rc<OwnedFd>>,
}

impl Way<'_> {
    /// Goes back to where so many directories are above, and enters one there.
    fn enter(&mut self, above: usize, name: OsString) -> Option<Rc<OwnedFd>> {
        self.back_to(above);
        let parent = match self.levels.last() {
            Some(level) => level.fd.as_ref()?.as_fd(),
            None => self.root,
        };
        let fd = Rc::new(open(parent, Path::new(&name)).ok()?);
        let identity = identity(&fd)?;
        if let Some(far) = self.levels.len().checked_sub(OPEN) {
            self.levels[far].fd = None;
        }
        self.levels.push(Level { name, identity, fd: Some(Rc::clone(&fd)) });
        Some(fd)
    }

    fn back_to(&mut self, above: usize) {
        while self.levels.len() > above {
            let below = self.levels.pop().and_then(|level| level.fd);
            if let (Some(level), Some(below)) = (self.levels.last_mut(), below)
                && level.fd.is_none()
            {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                level.hold(openat(&below, "..", flags, Mode::empty()).ok());
            }
        }
        // Something on the way was moved meanwhile, or closed to us: what is above it may still be where it was.
        let found = match self.levels.last() {
            Some(level) if level.fd.is_none() => open(self.root, &self.path()).ok(),
            _ => return,
        };
        if let Some(level) = self.levels.last_mut() {
            level.hold(found);
        }
    }

    fn path(&self) -> PathBuf {
        self.levels.iter().map(|level| &level.name).collect()
    }
}

impl Level {
    /// Takes a directory that was opened again, if it is the one that it was.
    fn hold(&mut self, found: Option<OwnedFd>) {
        self.fd = found.filter(|found| identity(found) == Some(self.identity)).map(Rc::new);
    }
}

fn identity(directory: &OwnedFd) -> Option<(u64, u64)> {
    fstat(directory).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

struct Entry {
    path: PathBuf,
    stat: Stat,
    link: Vec<u8>,
}

impl Entry {
    fn of(directory: &OwnedFd, parent: &Path, name: &[u8]) -> Result<Self> {
        let name = Path::new(OsStr::from_bytes(name)).to_owned();
        let stat = look(directory, &name)?;
        let link = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            rustix::fs::readlinkat(directory, &name, Vec::new()).doing(|| failed(&name))?.into_bytes()
        } else {
            Vec::new()
        };
        Ok(Self { path: parent.join(name), stat, link })
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Opens a directory of the tree. A tree may be deeper than any path that the kernel takes: it is entered in pieces.
fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    /// As many names of any length are less than PATH_MAX.
    const PIECE: usize = 15;
    let failed = |error: bulkhead_sys::Error| Error::Io { doing: failed(path), source: error.into() };
    let within = |at: BorrowedFd<'_>, piece: &Path| {
        open_beneath(at, piece, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map_err(failed)
    };
    let mut names = path.components();
    let mut at = within(root, Path::new("."))?;
    loop {
        let piece = PathBuf::from_iter(names.by_ref().take(PIECE));
        if piece.as_os_str().is_empty() {
            return Ok(at);
        }
        at = within(at.as_fd(), &piece)?;
    }
}

fn look(directory: &OwnedFd, name: &Path) -> Result<Stat> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH).doing(|| failed(name))
}

/// Lists a directory, in order.
fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<Vec<u8>>> {
    listed(directory).doing(|| failed(path))
}

fn listed(directory: &OwnedFd) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What of an inode is the archive's doing.
fn fields(stat: &Stat) -> [i128; 8] {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    // How large a directory is, and how many links it has, is the file system's business.
    let (size, links) =
        if is_directory { (0, 0) } else { (i128::from(stat.st_size), i128::from(stat.st_nlink)) };
    [
        i128::from(stat.st_mode),
        i128::from(stat.st_uid),
        i128::from(stat.st_gid),
        i128::from(stat.st_rdev),
        size,
        links,
        i128::from(stat.st_mtime),
        i128::from(stat.st_mtime_nsec),
    ]
}

/// What of an inode is the same whenever its archive is unpacked: a whiteout has no time of its own, and is made anew.
fn kept(stat: &Stat) -> [i128; 8] {
    if !layer::is_whiteout(stat) {
        return fields(stat);
    }
    let [mode, uid, gid, device, size, links, ..] = fields(stat);
    [mode, uid, gid, device, size, links, 0, 0]
}

fn add(hash: &mut Sha256, path: &[u8], stat: &Stat, link: &[u8]) {
    for text in [path, link] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    for field in fields(stat) {
        hash.update(field.to_le_bytes());
    }
}

/// Reads the extended attributes of an open file, in order.
fn attributes(file: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    /// The most that the kernel gives out (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
    const LARGEST: usize = 64 * 1024;
    let doing = || "read extended attributes";
    let mut list = vec![0; LARGEST];
    let length = rustix::fs::flistxattr(&file, &mut list[..]).doing(doing)?;
    let mut attributes = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; LARGEST];
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..]).doing(doing)?;
        value.truncate(length);
        attributes.push((name.to_vec(), value));
    }
    attributes.sort_unstable();
    Ok(attributes)
}

/// Compares two regular files of the same size, and their attributes.
fn is_same(a: &OwnedFd, b: &OwnedFd, path: &Path) -> Result<bool> {
    let name = Path::new(path.file_name().unwrap_or_default());
    let open = |directory: &OwnedFd| {
        let opened = open_beneath(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        opened.map(File::from).map_err(|error| Error::Io { doing: failed(path), source: error.into() })
    };
    let (mut a, mut b) = (open(a)?, open(b)?);
    if attributes(&a)? != attributes(&b)? {
        return Ok(false);
    }
    let (mut piece_a, mut piece_b) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    loop {
        let length = a.read(&mut piece_a).doing(|| failed(path))?;
        if length == 0 {
            return Ok(true);
        }
        match b.read_exact(&mut piece_b[..length]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read.doing(|| failed(path))?,
        }
        if piece_a[..length] != piece_b[..length] {
            return Ok(false);
        }
    }
}

fn failed(path: &Path) -> String {
    format!("look at {} of a layer", path.display())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use bulkhead_testkit::Scratch;

    use super::*;

    type Change = fn(&Path);

    fn make(path: &Path) -> File {
        fs::create_dir_all(path.join("etc/deep")).unwrap();
        fs::write(path.join("etc/hostname"), "host").unwrap();
        symlink("hostname", path.join("etc/link")).unwrap();
        for file in ["etc/deep", "etc/hostname", "etc", ""] {
            let time = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
            File::open(path.join(file)).unwrap().set_times(time).unwrap();
        }
        let link = path.join("etc/link");
        let zero = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: zero, last_modification: zero };
        rustix::fs::utimensat(rustix::fs::CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let time = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        File::open(path.join("etc")).unwrap().set_times(time).unwrap();
        File::open(path).unwrap()
    }

    #[test]
    fn trees_that_are_the_same_look_the_same_and_every_change_shows() {
        let scratch = Scratch::new();
        let original = make(&scratch.path().join("original"));
        let expected = summary(original.as_fd()).unwrap();
        let changes: [(&str, Change); 6] = [
            ("etc/deep/new", |path| fs::write(path, "").unwrap()),
            ("etc/hostname", |path| fs::write(path, "another").unwrap()),
            ("etc/hostname", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap()),
            ("etc/hostname", |path| fs::remove_file(path).unwrap()),
            ("etc/deep", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap()),
            ("etc/link", |path| {
                fs::remove_file(path).unwrap();
                symlink("elsewhere", path).unwrap();
            }),
        ];
        for (number, (path, change)) in changes.into_iter().enumerate() {
            let directory = scratch.path().join(number.to_string());
            let copy = make(&directory);
            assert_eq!(summary(copy.as_fd()).unwrap(), expected, "a copy looks the same");
            assert_eq!(difference(original.as_fd(), copy.as_fd()).unwrap(), None);
            change(&directory.join(path));
            assert_ne!(summary(copy.as_fd()).unwrap(), expected, "change {number} of {path} shows");
            let found = difference(original.as_fd(), copy.as_fd()).unwrap().unwrap();
            assert!(Path::new(path).starts_with(&found), "{path} differs, not {found:?}");
        }
    }

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let scratch = Scratch::new();
        let tree = scratch.path().join("tree");
        fs::create_dir_all(tree.join("deep/er")).unwrap();
        let blocks = |path: &Path| room(path, Measure::Blocks);
        let empty = blocks(&tree).unwrap();
        fs::write(tree.join("deep/er/file"), vec![1; 100_000]).unwrap();
        let one = blocks(&tree).unwrap();
        assert!((100_000..200_000).contains(&(one - empty)), "{empty} and {one}");
        fs::hard_link(tree.join("deep/er/file"), tree.join("again")).unwrap();
        symlink("/usr", tree.join("link")).unwrap();
        assert!(blocks(&tree).unwrap() - one < 10_000, "a link is no file of its own");
        assert_eq!(blocks(Path::new("/no/such")).unwrap(), 0);
        let sizes = room(&tree, Measure::Sizes).unwrap();
        assert_eq!(
            sizes,
            100_000 + "/usr".len() as u64,
            "a link's size is its target's length, as for docker"
        );
    }

    #[test]
    fn a_tree_may_be_wider_than_descriptors_and_deeper_than_paths() {
        let scratch = Scratch::new();
        let wide = scratch.path().join("wide");
        for number in 0..1500 {
            fs::create_dir_all(wide.join(number.to_string())).unwrap();
            fs::write(wide.join(number.to_string()).join("file"), "x").unwrap();
        }
        assert_eq!(room(&wide, Measure::Sizes).unwrap(), 1500);
        let deep = scratch.path().join("deep");
        fs::create_dir(&deep).unwrap();
        let name = "d".repeat(200);
        let mut at = OwnedFd::from(File::open(&deep).unwrap());
        for _ in 0..50 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = open(at.as_fd(), Path::new(&name)).unwrap();
        }
        let file = openat(&at, "file", OFlags::WRONLY | OFlags::CREATE, Mode::RWXU).unwrap();
        rustix::io::write(&file, b"deep").unwrap();
        assert_eq!(room(&deep, Measure::Sizes).unwrap(), 4);
        // The scratch directory's own removal knows paths only.
        layer::remove(File::open(scratch.path()).unwrap().as_fd(), "deep".as_ref()).unwrap();
    }

    /// Makes a chain of directories with a file in each: its names, and what is there then.
    fn make_deep(top: &Path, levels: usize) {
        fs::create_dir(top).unwrap();
        let mut at = OwnedFd::from(File::open(top).unwrap());
        for _ in 0..levels {
            for name in ["beside", "z"] {
                rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            }
            let file = openat(&at, "beside/file", OFlags::WRONLY | OFlags::CREATE, Mode::RWXU).unwrap();
            rustix::io::write(&file, b"x").unwrap();
            at = open(at.as_fd(), Path::new("z")).unwrap();
        }
    }

    #[test]
    fn a_tree_takes_time_as_it_has_entries_however_deep_it_is() {
        const LEVELS: usize = 20_000;
        // In memory: on a disk it takes a minute to make.
        let shm = File::open("/dev/shm").unwrap();
        let name = format!("bulkhead-deep-{}", std::process::id());
        let deep = Path::new("/dev/shm").join(&name);
        make_deep(&deep, LEVELS);
        let before = std::time::Instant::now();
        // What is beside each directory comes after what is in it: the way goes back through all of them.
        let size = room(&deep, Measure::Sizes);
        let taken = before.elapsed();
        layer::remove(shm.as_fd(), name.as_ref()).unwrap();
        assert_eq!(size.unwrap(), LEVELS as u64);
        assert!(taken < std::time::Duration::from_secs(20), "{taken:?}: it is no square of the depth");
    }

    #[test]
    fn a_walk_finds_what_is_above_a_directory_that_is_moved_meanwhile() {
        let scratch = Scratch::new();
        let deep = scratch.path().join("deep");
        make_deep(&deep, 300);
        let moved = deep.join(PathBuf::from_iter(["z"; 100]));
        let (mut directories, mut files) = (0, 0);
        walk(File::open(&deep).unwrap().as_fd(), &deep, |_, name, _| {
            match name.to_str() {
                Some("z") => directories += 1,
                Some("file") => files += 1,
                _ => {}
            }
            if directories == 300 && moved.exists() {
                fs::rename(&moved, scratch.path().join("elsewhere")).unwrap();
            }
            Ok::<Below, Error>(Below::Entered)
        })
        .unwrap();
        assert_eq!((directories, files), (300, 300), "nothing is left out");
    }

    #[test]
    fn bytes_that_went_bad_are_a_difference() {
        let scratch = Scratch::new();
        let (a, b) = (make(&scratch.path().join("a")), make(&scratch.path().join("b")));
        let bad = scratch.path().join("b/etc/hostname");
        fs::write(&bad, "hast").unwrap();
        let time = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        File::open(&bad).unwrap().set_times(time).unwrap();
        assert_eq!(summary(a.as_fd()).unwrap(), summary(b.as_fd()).unwrap(), "the metadata is the same");
        assert_eq!(difference(a.as_fd(), b.as_fd()).unwrap(), Some("etc/hostname".into()));
    }
}
