//! A place in a container's root, found by descriptors.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use bulkhead_store::layer;
use bulkhead_sys::path::open_in_root;
use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

/// What a link at the end of a path means. Those on the way are always followed, inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The link itself.
    Kept,
    /// What it leads to.
    Followed,
}

/// A place in a container: something that is there, or where it would be.
#[derive(Debug)]
pub struct Spot {
    container: String,
    typed: PathBuf,
    /// The directory that it lies in, as a path in the root.
    parent: PathBuf,
    /// Its name there; `.` for a directory that was asked for as such.
    name: OsString,
    /// That directory, if it is there.
    opened: Option<OwnedFd>,
    stat: Option<Stat>,
}

/// How many links a path may end in one after the other, as in the kernel.
const LINKS: usize = 40;

pub(super) fn find(root: BorrowedFd<'_>, typed: &Path, links: Links, container: &str) -> Result<Spot> {
    let subject = || format!("{container}:{}", typed.display());
    let doing = || format!("look for {}", subject());
    let mut spot = Spot {
        container: container.to_owned(),
        typed: typed.to_owned(),
        parent: PathBuf::from("/"),
        name: OsString::from("."),
        opened: None,
        stat: None,
    };
    let normal = normal(typed);
    let mut end = if names_directory(typed) { End::Directory(normal) } else { End::of(normal) };
    for _ in 0..LINKS {
        let (parent, name) = match &end {
            End::Directory(path) => (path.clone(), None),
            End::Name(parent, name) => (parent.clone(), Some(name.clone())),
        };
        let opened = enter(root, &parent, &subject)?;
        let Some(name) = name else {
            spot.stat = opened.as_ref().map(fstat).transpose().doing(doing)?;
            (spot.parent, spot.opened) = (parent, opened);
            return Ok(spot);
        };
        let stat = match opened.as_ref().map(|opened| statat(opened, &name, AtFlags::SYMLINK_NOFOLLOW)) {
            None | Some(Err(Errno::NOENT)) => None,
            Some(stat) => Some(stat.doing(doing)?),
        };
        if let (Some(opened), Some(stat), Links::Followed) = (&opened, &stat, links)
            && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
        {
            let target = readlinkat(opened, &name, Vec::new()).doing(doing)?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            // An absolute one begins at the root, which joining does by itself. The kernel goes up by `..`.
            let target = parent.join(target);
            end = if names_directory(&target) { End::Directory(target) } else { End::of(target) };
            continue;
        }
        (spot.parent, spot.name, spot.opened, spot.stat) = (parent, name, opened, stat);
        return Ok(spot);
    }
    Err(refused(subject(), &bulkhead_sys::Error::new("readlink", Errno::LOOP)))
}

/// Finds the directory in which a spot lies or would lie.
pub(super) fn above(root: BorrowedFd<'_>, spot: &Spot) -> Result<Spot> {
    let parent = if spot.name == "." { spot.parent.parent().unwrap_or(Path::new("/")) } else { &spot.parent };
    let subject = || spot.subject();
    let opened = enter(root, parent, &subject)?;
    let stat = opened.as_ref().map(fstat).transpose().doing(|| format!("look for {}", subject()))?;
    Ok(Spot {
        container: spot.container.clone(),
        typed: spot.typed.clone(),
        parent: parent.to_owned(),
        name: OsString::from("."),
        opened,
        stat,
    })
}

/// Opens a directory of the root, if it is there.
fn enter(root: BorrowedFd<'_>, path: &Path, subject: &dyn Fn() -> String) -> Result<Option<OwnedFd>> {
    let doing = || format!("look for {}", subject());
    let opened = match open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(None),
        Err(error) => return Err(refused(subject(), &error)),
        Ok(opened) => opened,
    };
    if layer::is_kernels(&opened).doing(doing)? {
        let reason = "the kernel is seen there, and no file of the container; use `bulkhead exec`";
        return Err(Error::Invalid { what: subject(), reason: reason.to_owned() });
    }
    Ok(Some(opened))
}

/// Says why a path cannot be walked, and what to do about it.
fn refused(what: String, error: &bulkhead_sys::Error) -> Error {
    let reason = match error.errno() {
        Errno::NOTDIR => "a part of the path is no directory: leave the rest out, or the slash at its end",
        Errno::LOOP => {
            "a link in the path leads to itself, or out of the container: name the file without it"
        }
        Errno::NAMETOOLONG => "a name in the path is longer than the 255 bytes that one may have",
        Errno::ACCESS | Errno::PERM => {
            "you may not look into a directory on the way: use `bulkhead exec` with tar, as a user who may"
        }
        _ => return Error::System { doing: format!("look for {what}"), source: error.clone().into() },
    };
    Error::Invalid { what, reason: reason.to_owned() }
}

/// What a path ends with.
enum End {
    /// A directory, whatever its name.
    Directory(PathBuf),
    /// A name in a directory.
    Name(PathBuf, OsString),
}

impl End {
    fn of(path: PathBuf) -> Self {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Self::Name(parent.to_owned(), name.to_owned()),
            _ => Self::Directory(path),
        }
    }
}

/// A path from the root, without `.` and `..`: these are taken out before any link is followed, as docker does it.
pub fn normal(typed: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in typed.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

/// Tells whether a path says by its end that it is a directory: `/`, `/.`, `/..`.
fn names_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    matches!(last, b"" | b"." | b"..")
}

impl Spot {
    /// Tells whether something is there.
    pub fn exists(&self) -> bool {
        self.stat.is_some()
    }

    /// Tells whether a directory is there.
    pub fn is_directory(&self) -> bool {
        self.kind() == Some(FileType::Directory)
    }

    /// Tells whether what is there is a device, a pipe or a socket.
    pub fn is_special(&self) -> bool {
        let is_usual = |kind| matches!(kind, FileType::Directory | FileType::RegularFile | FileType::Symlink);
        self.kind().is_some_and(|kind| !is_usual(kind))
    }

    fn kind(&self) -> Option<FileType> {
        self.stat.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode))
    }

    /// Returns its name where it lies, behind all links; nothing for the root.
    pub fn name(&self) -> Option<&OsStr> {
        if self.name == "." { self.parent.file_name() } else { Some(&self.name) }
    }

    /// Returns the last name of the path that was asked for, by which a copy is called; nothing for the root.
    pub fn asked_name(&self) -> Option<OsString> {
        normal(&self.typed).file_name().map(OsStr::to_owned)
    }

    /// Returns what is there: the directory that it lies in, and its name.
    pub(super) fn there(&self) -> Result<(BorrowedFd<'_>, &OsStr)> {
        match (&self.opened, &self.stat) {
            (Some(opened), Some(_)) => Ok((opened.as_fd(), &self.name)),
            _ => Err(self.missing()),
        }
    }

    /// Returns the path in the root of the directory that is there.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        if !self.is_directory() {
            return Err(self.missing());
        }
        let path = if self.name == "." { self.parent.clone() } else { self.parent.join(&self.name) };
        Ok(path.strip_prefix("/").unwrap_or(&path).to_owned())
    }

    /// Says that it is not there.
    pub fn missing(&self) -> Error {
        let reason = match self.stat {
            Some(_) => "is no directory",
            None => "there is no such file or directory",
        };
        Error::Invalid { what: self.subject(), reason: reason.to_owned() }
    }

    /// Names it as its user did.
    pub fn subject(&self) -> String {
        format!("{}:{}", self.container, self.typed.display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use bulkhead_testkit::Scratch;

    use super::*;

    fn found(root: &Path, path: &str, links: Links) -> String {
        let root = bulkhead_sys::path::open_host(root, OFlags::PATH | OFlags::DIRECTORY).unwrap();
        match find(root.as_fd(), Path::new(path), links, "web") {
            Ok(spot) => {
                let kind = match spot.kind() {
                    None if spot.opened.is_none() => "nowhere",
                    None => "missing",
                    Some(FileType::Directory) => "directory",
                    Some(FileType::Symlink) => "link",
                    Some(_) => "file",
                };
                format!("{} {} {kind}", spot.parent.display(), spot.name.display())
            }
            Err(error) => format!("{error}"),
        }
    }

    #[test]
    fn a_path_is_found_inside_the_root() {
        let scratch = Scratch::new();
        let root = scratch.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        symlink("/a", root.join("to-a")).unwrap();
        symlink("../../../../a/file", root.join("a/b/up")).unwrap();
        symlink("nothing", root.join("a/dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        use Links::{Followed, Kept};
        for (path, links, expected) in [
            ("/", Kept, "/ . directory"),
            ("", Kept, "/ . directory"),
            ("a", Kept, "/ a directory"),
            ("/a/", Kept, "/a . directory"),
            ("/a/.", Kept, "/a . directory"),
            ("/a/../a/file", Kept, "/a file file"),
            ("/../../a/file", Kept, "/a file file"),
            ("to-a", Kept, "/ to-a link"),
            ("to-a", Followed, "/ a directory"),
            ("to-a/", Kept, "/to-a . directory"),
            ("to-a/file", Kept, "/to-a file file"),
            ("a/b/up", Kept, "/a/b up link"),
            ("a/b/up", Followed, "/a/b/../../../../a file file"),
            ("a/dangling", Followed, "/a nothing missing"),
            ("a/new", Followed, "/a new missing"),
            ("no/new", Followed, "/no new nowhere"),
            ("no/", Followed, "/no . nowhere"),
            (
                "a/file/",
                Kept,
                "web:a/file/: a part of the path is no directory: leave the rest out, or the slash at its end",
            ),
            (
                "loop",
                Followed,
                "web:loop: a link in the path leads to itself, or out of the container: name the file without it",
            ),
        ] {
            assert_eq!(found(root, path, links), expected, "{path} {links:?}");
        }
    }

    #[test]
    fn what_shows_the_kernel_is_no_file_of_a_container() {
        for path in ["/proc/self/status", "/proc", "/proc/", "/sys/kernel/"] {
            let told = found(Path::new("/"), path, Links::Kept);
            let is_refused = told.contains("the kernel is seen there");
            assert_eq!(is_refused, path != "/proc", "{path}: {told}");
        }
    }
}
