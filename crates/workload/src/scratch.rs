//! Files that have no name, so that nothing of them is left, however the program ends.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

const RIGHTS: Mode = Mode::RUSR.union(Mode::WUSR);

/// Makes an empty file in `directory`.
pub(crate) fn file(directory: &Path) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let made = match rustix::fs::open(directory, flags, RIGHTS) {
        // open(2): what a file system, or a kernel, without nameless files says.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => made_and_removed(directory),
        other => other,
    };
    made.map(File::from)
        .map_err(|errno| Error::Scratch { directory: directory.display().to_string(), source: errno.into() })
}

/// Makes a file with a name and takes that off at once.
fn made_and_removed(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let name = format!(".bulkload-{}", rustix::process::getpid().as_raw_nonzero());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, &name, flags, RIGHTS)?;
    rustix::fs::unlinkat(&directory, &name, AtFlags::empty())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_has_no_name() {
        let directory = std::env::temp_dir().join(format!("bulkload-scratch-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let nameless = file(&directory).unwrap().metadata().unwrap();
        let removed = File::from(made_and_removed(&directory).unwrap()).metadata().unwrap();
        assert_eq!((nameless.nlink(), removed.nlink()), (0, 0));
        // Which fails when anything is in it.
        std::fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn an_impossible_place_is_named() {
        let error = file(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("make a file in /nowhere: No such file"), "{error}");
    }
}
