//! Directories to unpack into, and what is in them.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bulkhead_store::layer::{Error, Marks, Owners, Unpack, Unpacked, unpack};
use bulkhead_testkit::{Scratch, is_root};

/// A directory for one layer, with neighbours that nothing may touch.
pub(crate) struct Nest {
    scratch: Scratch,
    outside: String,
}

impl Nest {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("layer")).unwrap();
        fs::create_dir(scratch.path().join("beside")).unwrap();
        fs::write(scratch.path().join("beside/victim"), "untouched").unwrap();
        let outside = outside(scratch.path());
        Self { scratch, outside }
    }

    /// Returns the layer's directory.
    pub(crate) fn layer(&self) -> PathBuf {
        self.scratch.path().join("layer")
    }

    /// Returns a path in the layer.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.layer().join(path)
    }

    /// Returns the directory that holds the layer and others.
    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Unpacked, Error> {
        self.unpack_as(archive, &how())
    }

    pub(crate) fn unpack_as(&self, archive: &[u8], how: &Unpack<'_>) -> Result<Unpacked, Error> {
        let directory = File::open(self.layer()).unwrap();
        let result = unpack(archive, directory.as_fd(), how);
        assert_eq!(outside(self.scratch.path()), self.outside, "nothing beside the layer is touched");
        result
    }

    /// Unpacks what must be refused, and returns the sentence. Nothing of it may stay.
    #[track_caller]
    pub(crate) fn refused(&self, archive: &[u8]) -> String {
        self.refused_as(archive, &how())
    }

    #[track_caller]
    pub(crate) fn refused_as(&self, archive: &[u8], how: &Unpack<'_>) -> String {
        let error = self.unpack_as(archive, how).expect_err("a hostile archive is refused");
        let left: Vec<_> = fs::read_dir(self.layer()).unwrap().collect();
        assert!(left.is_empty(), "nothing is left of a refused archive, but {left:?}");
        chain(&error)
    }
}

/// Returns an error with what it says about its cause.
pub(crate) fn chain(error: &Error) -> String {
    let mut sentence = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        sentence = format!("{sentence}: {source}");
        next = source.source();
    }
    sentence
}

/// How this user can unpack a layer.
pub(crate) fn how() -> Unpack<'static> {
    match is_root() {
        true => Unpack::layer(Marks::Trusted),
        false => Unpack { owners: Owners::Caller, ..Unpack::layer(Marks::User) },
    }
}

fn outside(scratch: &Path) -> String {
    let victim = scratch.join("beside/victim");
    let metadata = fs::symlink_metadata(&victim).unwrap();
    let mut names: Vec<_> = fs::read_dir(scratch).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let beside = fs::read_dir(scratch.join("beside")).unwrap().count();
    format!(
        "{names:?} {beside} {} {:o} {}:{} {}.{} {} {:?}",
        fs::read_to_string(&victim).unwrap(),
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.nlink(),
        xattrs(&victim),
    )
}

/// Returns the extended attributes of a file, in order.
pub(crate) fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, list.as_mut_slice()).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 64 * 1024];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    found.sort();
    found
}

/// Describes a tree, a line for each file: all that two trees can differ in.
pub(crate) fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inodes = std::collections::BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let file = root.join(&path);
        let metadata = fs::symlink_metadata(&file).unwrap();
        let kind = metadata.file_type();
        let content = if kind.is_file() {
            use std::hash::{DefaultHasher, Hash as _, Hasher as _};
            let mut hash = DefaultHasher::new();
            fs::read(&file).unwrap().hash(&mut hash);
            format!("{:x}", hash.finish())
        } else if kind.is_symlink() {
            format!("{:?}", fs::read_link(&file).unwrap())
        } else {
            String::new()
        };
        let is_whiteout = kind.is_char_device() && metadata.rdev() == 0;
        let time = if is_whiteout { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) };
        let device = if kind.is_char_device() || kind.is_block_device() { metadata.rdev() } else { 0 };
        let size = if kind.is_dir() { 0 } else { metadata.size() };
        if kind.is_dir() {
            pending.extend(fs::read_dir(&file).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        let links = if kind.is_dir() { 0 } else { metadata.nlink() };
        let first = inodes.entry(metadata.ino()).or_insert_with(|| path.clone()).clone();
        let same = if links > 1 { format!("{first:?}") } else { String::new() };
        lines.push(format!(
            "{path:?} {:o} {}:{} {size} {}.{:09} {device:x} {links} {content} {:?} {}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            time.0,
            time.1,
            xattrs(&file),
            if same.is_empty() { "" } else { "linked" },
        ));
    }
    lines.sort();
    lines
}
