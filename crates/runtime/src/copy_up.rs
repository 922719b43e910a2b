//! `tmpcopyup`: what a tmpfs would hide is copied into it first.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::path;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, XattrFlags};

use crate::error::{Doing, Result};

/// Copies the tree below `from` to the root of a fresh file system, with owners, modes, times and extended attributes.
///
/// # Errors
/// ENOSPC when the tmpfs is too small, and whatever reading the image says.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, destination: &Path) -> Result<()> {
    let doing = || format!("copy what the image has at {} into its tmpfs", destination.display());
    let source = path::open_beneath(from, Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    let source = source.doing(doing)?;
    tree(&source, to).doing(doing)
}

fn tree(from: &OwnedFd, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        one(from, to, &name.to_owned(), &found)?;
    }
    Ok(())
}

fn one(from: &OwnedFd, to: BorrowedFd<'_>, name: &CString, found: &Stat) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(found.st_mode);
    let kind = FileType::from_raw_mode(found.st_mode);
    let nofollow = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let source =
                rustix::fs::openat(from, name, OFlags::RDONLY | OFlags::DIRECTORY | nofollow, Mode::empty())?;
            let copy =
                rustix::fs::openat(to, name, OFlags::RDONLY | OFlags::DIRECTORY | nofollow, Mode::empty())?;
            tree(&source, copy.as_fd())?;
            attributes(&source, &copy)?;
        }
        FileType::RegularFile => {
            let source = rustix::fs::openat(from, name, OFlags::RDONLY | nofollow, Mode::empty())?;
            let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | nofollow;
            let copy = rustix::fs::openat(to, name, create, Mode::RUSR | Mode::WUSR)?;
            let (mut reader, mut writer) = (File::from(source), File::from(copy));
            std::io::copy(&mut reader, &mut writer)
                .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
            attributes(&OwnedFd::from(reader), &OwnedFd::from(writer))?;
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(link, to, name)?;
        }
        _ => rustix::fs::mknodat(to, name, kind, mode, found.st_rdev)?,
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(found.st_uid), rustix::fs::Gid::from_raw(found.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        // After the change of owner, which clears the set-user-ID bit.
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    times(to, name, found)
}

fn times(to: BorrowedFd<'_>, name: &CString, found: &Stat) -> rustix::io::Result<()> {
    let spec = |seconds: i64, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    let times = rustix::fs::Timestamps {
        last_access: spec(found.st_atime, found.st_atime_nsec),
        last_modification: spec(found.st_mtime, found.st_mtime_nsec),
    };
    rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Copies extended attributes; one that the tmpfs cannot hold is left behind, as `cp --preserve` does.
fn attributes(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = vec![0_u8; 64 * 1024];
    let Ok(length) = rustix::fs::flistxattr(from, &mut names) else { return Ok(()) };
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 64 * 1024];
        let length = rustix::fs::fgetxattr(from, name, &mut value)?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
