//! What is in a directory, and what a file carries, by descriptors.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bulkhead_sys::Call;
use bulkhead_sys::path::open_beneath;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;

/// Opens a directory below another one for reading, without following a link.
pub(super) fn open(root: impl AsFd, path: &[u8]) -> bulkhead_sys::Result<OwnedFd> {
    let path = Path::new(OsStr::from_bytes(if path.is_empty() { b"." } else { path }));
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// Returns the names in a directory that is open for reading, in order.
pub(super) fn names(directory: impl AsFd) -> bulkhead_sys::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut buffer = [const { MaybeUninit::uninit() }; 32 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let name = entry.call(|| "getdents64")?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Where a file is for the calls that take no descriptor of a directory. The last name is not followed by those that
/// begin with `l`.
pub(super) fn in_proc(directory: impl AsFd, name: &[u8]) -> PathBuf {
    let directory = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    directory.join(OsStr::from_bytes(name))
}

/// Returns one attribute of a file, if it has it.
pub(super) fn xattr(
    directory: impl AsFd,
    name: &[u8],
    attribute: &[u8],
) -> bulkhead_sys::Result<Option<Vec<u8>>> {
    let path = in_proc(directory, name);
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::lgetxattr(&path, attribute, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            // No value is longer than 64 KiB (xattr(7)).
            Err(Errno::RANGE) if value.len() < 64 * 1024 => value.resize(64 * 1024, 0),
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(errno) => {
                let name = String::from_utf8_lossy(attribute);
                return Err(errno).call(|| format!("lgetxattr({path:?}, {name:?})"));
            }
        }
    }
}

/// Returns the names of a file's attributes, in order.
pub(super) fn xattrs(directory: impl AsFd, name: &[u8]) -> bulkhead_sys::Result<Vec<Vec<u8>>> {
    let path = in_proc(directory, name);
    let mut list = vec![0; 1024];
    loop {
        match rustix::fs::llistxattr(&path, list.as_mut_slice()) {
            Ok(length) => {
                let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
                let mut names: Vec<_> = names.map(<[u8]>::to_vec).collect();
                names.sort();
                return Ok(names);
            }
            Err(Errno::RANGE) if list.len() < 64 * 1024 => list.resize(64 * 1024, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno).call(|| format!("llistxattr({path:?})")),
        }
    }
}
