//! One file in a root.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

use bulkhead_sys::path;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

/// Reads a regular file of a root; `None` when there is none.
///
/// # Errors
/// [`Error::Invalid`] for one of more than `limit` bytes or that is no regular file, else as open(2) and read(2).
pub(crate) fn read(root: impl AsFd, name: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let doing = || format!("read {} of the container", name.display());
    let refused = |reason: &str| {
        Err(Error::Invalid { what: format!("{} of the container", name.display()), reason: reason.into() })
    };
    // It is looked at before it is opened: a fifo would wait for who never comes, and to open a device may do something.
    let found = match path::open_in_root(root, name, OFlags::PATH) {
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => opened.doing(doing)?,
    };
    if FileType::from_raw_mode(fstat(&found).doing(doing)?.st_mode) != FileType::RegularFile {
        return refused("it is no regular file");
    }
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = path::open_host(Path::new(&link), OFlags::RDONLY | OFlags::NONBLOCK).doing(doing)?;
    let mut content = Vec::new();
    File::from(file).take(limit + 1).read_to_end(&mut content).doing(doing)?;
    if content.len() as u64 > limit {
        return refused(&format!("it has more than {limit} bytes"));
    }
    Ok(Some(content))
}
