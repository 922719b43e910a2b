//! How much of the disk a directory takes.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::path;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use crate::error::{Doing, Result};

/// What is counted of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Bytes on disk.
    Blocks,
    /// The sizes of files alone, as docker counts what a container wrote: a directory or a deletion is nothing.
    Sizes,
}

/// Adds all below a directory up, each file once; 0 when it is not there.
///
/// No link is followed and no other file system is entered. What goes away meanwhile does not count.
///
/// # Errors
/// As openat(2), fstatat(2) and getdents(2).
pub(crate) fn usage(directory: &Path, measure: Measure) -> Result<u64> {
    let doing = || format!("measure {}", directory.display());
    let root = match path::open_host(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(0),
        opened => opened.doing(doing)?,
    };
    let device = fstat(&root).doing(doing)?.st_dev;
    let mut counted = Counted { device, measure, files: BTreeSet::new(), bytes: 0 };
    counted.add(root.as_fd()).doing(doing)?;
    Ok(counted.bytes)
}

struct Counted {
    device: u64,
    measure: Measure,
    files: BTreeSet<u64>,
    bytes: u64,
}

impl Counted {
    /// Counts what is in a directory and below.
    fn add(&mut self, directory: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
        // The depth of a tree is anybody's choice: what is left to do is not on the stack.
        let mut left: Vec<OwnedFd> = vec![rustix::io::fcntl_dupfd_cloexec(directory, 0)?];
        while let Some(directory) = left.pop() {
            for entry in Dir::read_from(&directory)? {
                let name = entry?;
                let name = name.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                left.extend(self.count(&directory, name)?);
            }
        }
        Ok(())
    }

    /// Counts one entry, and opens it if it is a directory.
    fn count(&mut self, directory: &OwnedFd, name: &CStr) -> std::result::Result<Option<OwnedFd>, Errno> {
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        if stat.st_dev != self.device {
            return Ok(None);
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink == 1 || self.files.insert(stat.st_ino) {
            self.bytes += match self.measure {
                Measure::Blocks => stat.st_blocks.unsigned_abs() * 512,
                Measure::Sizes if is_directory => 0,
                Measure::Sizes => stat.st_size.unsigned_abs(),
            };
        }
        if !is_directory {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            opened => opened.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let scratch = Scratch::new();
        let tree = scratch.path().join("tree");
        fs::create_dir_all(tree.join("deep/er")).unwrap();
        let blocks = |path: &Path| usage(path, Measure::Blocks);
        let empty = blocks(&tree).unwrap();
        fs::write(tree.join("deep/er/file"), vec![1; 100_000]).unwrap();
        let one = blocks(&tree).unwrap();
        assert!((100_000..200_000).contains(&(one - empty)), "{empty} and {one}");
        fs::hard_link(tree.join("deep/er/file"), tree.join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", tree.join("link")).unwrap();
        assert!(blocks(&tree).unwrap() - one < 10_000, "a link is no file of its own");
        assert_eq!(blocks(Path::new("/no/such")).unwrap(), 0);
        let sizes = usage(&tree, Measure::Sizes).unwrap();
        assert_eq!(
            sizes,
            100_000 + "/usr".len() as u64,
            "a link's size is its target's length, as for docker"
        );
    }
}
