//! A cgroup's directory, held by descriptor: every file of it is opened by its fixed name, relative to that.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

use crate::error::{Error, Result};

/// How often a lookup that raced a rename is repeated.
const ATTEMPTS: usize = 128;

/// Enough for almost every file of a cgroup in one read.
const FIRST_READ: usize = 4096;

/// The directory of one cgroup in one hierarchy.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: String,
}

impl Dir {
    /// Opens a directory by its absolute path, in which no component may be a symbolic link.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let rules = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = resolve(CWD, path, rules).map_err(|errno| Error::system(path, "openat2(O_PATH)", errno))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a file of a directory that need not be open itself; no component may be a symbolic link.
    pub(crate) fn open_file_by_path(path: &str, file: &str, flags: OFlags) -> Result<OwnedFd> {
        let rules = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let whole = format!("{path}/{file}");
        lookup(CWD, whole.as_str(), flags | OFlags::CLOEXEC, rules)
            .map_err(|errno| Error::system(path, format!("openat2({file})"), errno))
    }

    /// Opens a directory below this one; `relative` may not leave it, nor the mount, nor meet a link.
    pub(crate) fn open_below(&self, relative: &CStr) -> Result<Self> {
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let path = format!("{}/{}", self.path, relative.to_string_lossy());
        let fd = resolve(self.fd.as_fd(), relative, rules)
            .map_err(|errno| Error::system(&path, "openat2(O_PATH)", errno))?;
        Ok(Self { fd, path })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens one of the cgroup's files for writing.
    pub(crate) fn open_to_write(&self, file: &str) -> Result<OwnedFd> {
        self.open_file(file, OFlags::WRONLY)
    }

    /// Opens one of the cgroup's files for reading.
    pub(crate) fn open_to_read(&self, file: &str) -> Result<OwnedFd> {
        self.open_file(file, OFlags::RDONLY)
    }

    fn open_file(&self, file: &str, flags: OFlags) -> Result<OwnedFd> {
        debug_assert!(!file.contains('/'), "a file of a cgroup is named without a path");
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        retry_on_intr(|| rustix::fs::openat(&self.fd, file, flags, Mode::empty()))
            .map_err(|errno| self.error(format!("openat({file})"), errno))
    }

    /// Writes one of the cgroup's files, in one call as the kernel demands.
    pub(crate) fn write(&self, file: &str, value: &str) -> Result<()> {
        self.write_to(&self.open_to_write(file)?, file, value)
    }

    /// Writes to a file that [`Dir::open_to_write`] opened.
    pub(crate) fn write_to(&self, fd: &OwnedFd, file: &str, value: &str) -> Result<()> {
        retry_on_intr(|| rustix::io::write(fd, value.as_bytes()))
            .and_then(|written| if written == value.len() { Ok(()) } else { Err(Errno::IO) })
            .map_err(|errno| self.error(format!("write({file}, {value:?})"), errno))
    }

    /// Reads one of the cgroup's files.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let fd = self.open_to_read(file)?;
        read_all(&fd).map_err(|errno| self.error(format!("read({file})"), errno))
    }

    /// Reads a file that older kernels, other layouts or disabled controllers do not have.
    pub(crate) fn read_if_there(&self, file: &str) -> Result<Option<String>> {
        match self.read(file) {
            // EOPNOTSUPP is what pressure files say when they are switched off.
            Err(error) if error.is_gone() || error.errno() == Some(Errno::OPNOTSUPP) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Lists the sub-cgroups, by whatever bytes the container may have named them.
    pub(crate) fn children(&self) -> Result<Vec<CString>> {
        let names = self.entries(FileType::Directory)?;
        Ok(names.into_iter().filter(|name| !is_dots(name)).collect())
    }

    /// Lists the names of the cgroup's files, which the kernel gave.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let names = self.entries(FileType::RegularFile)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn entries(&self, wanted: FileType) -> Result<Vec<CString>> {
        let failed = |errno| self.error("getdents64()".to_owned(), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::openat(&self.fd, ".", flags, Mode::empty())).map_err(failed)?;
        let mut buffer = [MaybeUninit::uninit(); FIRST_READ];
        let mut entries = RawDir::new(&fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            if entry.file_type() == wanted {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(names)
    }

    /// Removes a sub-cgroup, which must be empty.
    pub(crate) fn remove_child(&self, name: &CStr) -> std::result::Result<(), Errno> {
        retry_on_intr(|| rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR))
    }

    pub(crate) fn error(&self, call: String, errno: Errno) -> Error {
        Error::system(&self.path, call, errno)
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn resolve(
    dir: BorrowedFd<'_>,
    path: impl Arg + Copy,
    rules: ResolveFlags,
) -> std::result::Result<OwnedFd, Errno> {
    lookup(dir, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rules)
}

fn lookup(
    dir: BorrowedFd<'_>,
    path: impl Arg + Copy,
    flags: OFlags,
    rules: ResolveFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = rustix::fs::openat2(dir, path, flags, Mode::empty(), rules);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

/// Reads a small file to its end.
fn read_all(fd: &OwnedFd) -> std::result::Result<String, Errno> {
    let mut content = Vec::with_capacity(FIRST_READ);
    loop {
        let before = content.len();
        content.reserve(FIRST_READ / 4);
        let count = retry_on_intr(|| rustix::io::read(fd, rustix::buffer::spare_capacity(&mut content)))?;
        // A kernfs file hands out at most a page at a time. What is shorter than the spare room and ends a line is
        // complete, which saves the last, empty read of almost every file.
        if count == 0 || (before == 0 && count < FIRST_READ / 2 && content.ends_with(b"\n")) {
            return String::from_utf8(content).map_err(|_| Errno::ILSEQ);
        }
    }
}

/// Reads a file of procfs by its fixed path.
pub(crate) fn read_proc(path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))
        .map_err(|errno| Error::system(path, format!("openat({path})"), errno))?;
    let mut content = Vec::with_capacity(FIRST_READ);
    loop {
        content.reserve(FIRST_READ);
        let count = retry_on_intr(|| rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut content)))
            .map_err(|errno| Error::system(path, format!("read({path})"), errno))?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&content).into_owned());
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use bulkhead_testkit::Scratch;

    use super::Dir;

    /// An ordinary directory with the files of a cgroup, for what this machine's kernel does not offer.
    pub(crate) struct Fake {
        pub(crate) dir: Dir,
        _place: Scratch,
    }

    impl Fake {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let place = Scratch::new();
            let path = place.path().canonicalize().unwrap().join("fake");
            std::fs::create_dir(&path).unwrap();
            let fake = Self { dir: Dir::open(path.to_str().unwrap()).unwrap(), _place: place };
            files.iter().for_each(|(name, content)| fake.put(name, content));
            fake
        }

        /// Sets a file, making the directories on the way.
        pub(crate) fn put(&self, name: &str, content: &str) {
            let path = std::path::Path::new(self.dir.path()).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }

        pub(crate) fn get(&self, name: &str) -> String {
            std::fs::read_to_string(std::path::Path::new(self.dir.path()).join(name)).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Fake;
    use super::*;

    #[test]
    fn a_file_of_any_length_is_read_whole() {
        for length in [0, 1, 2047, 2048, 4095, 4096, 4097, 20_000] {
            let text = format!("{}\n", "x".repeat(length));
            assert_eq!(Fake::new(&[("f", &text)]).dir.read("f").unwrap(), text);
            assert_eq!(Fake::new(&[("f", text.trim())]).dir.read("f").unwrap(), text.trim());
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_or_directory_is_refused() {
        let fake = Fake::new(&[("real", "1"), ("sub/x", "")]);
        std::os::unix::fs::symlink("real", format!("{}/file", fake.dir.path())).unwrap();
        std::os::unix::fs::symlink("sub", format!("{}/link", fake.dir.path())).unwrap();
        assert_eq!(fake.dir.write("file", "2").unwrap_err().errno(), Some(Errno::LOOP));
        assert_eq!(fake.dir.open_below(c"link").unwrap_err().errno(), Some(Errno::LOOP));
        assert_eq!(fake.dir.open_below(c"sub/../..").unwrap_err().errno(), Some(Errno::XDEV));
        assert_eq!(Dir::open(&format!("{}/link", fake.dir.path())).unwrap_err().errno(), Some(Errno::LOOP));
        assert_eq!(fake.dir.children().unwrap(), [c"sub".to_owned()], "links are no sub-cgroups");
        assert_eq!(fake.dir.files().unwrap(), ["real"]);
    }

    #[test]
    fn a_missing_file_is_missing() {
        let fake = Fake::new(&[]);
        assert!(fake.dir.read("x").unwrap_err().is_gone());
        assert_eq!(fake.dir.read_if_there("x").unwrap(), None);
    }
}
