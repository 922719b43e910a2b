//! Device nodes, and the links that every container has in `/dev`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_spec::DeviceType;
use bulkhead_sys::mount::{self, Reach};
use bulkhead_sys::path;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::plan::mounts::Device;
use crate::target;

/// How nodes come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// By mknod(2).
    Make,
    /// By a bind mount of the host's node: in a user namespace mknod(2) is refused.
    Bind,
}

/// Makes the nodes below `root`, with the umask at 0.
///
/// # Errors
/// A path of the image that is something else, EPERM without CAP_MKNOD.
pub(crate) fn make(root: BorrowedFd<'_>, devices: &[Device], method: Method) -> Result<()> {
    // Nearly all are in /dev: its descriptor is kept.
    let mut last: Option<(&Path, OwnedFd)> = None;
    for device in devices {
        let (parent, name) = split(&device.path)?;
        let directory = match last.take() {
            Some((path, directory)) if path == parent => directory,
            _ => target::directory(root, parent)?,
        };
        match method {
            Method::Make => match node(directory.as_fd(), name, device) {
                // A runtime that is itself in a container without CAP_MKNOD has the node there, if at all.
                Err(Error::System { source, .. }) if source.errno() == Errno::PERM => {
                    bind(directory.as_fd(), name, device)?;
                }
                other => other?,
            },
            Method::Bind => bind(directory.as_fd(), name, device)?,
        }
        last = Some((parent, directory));
    }
    Ok(())
}

fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    path.parent()
        .zip(path.file_name())
        .ok_or_else(|| Error::Usage(format!("{} cannot be a device", path.display())))
}

fn file_type(kind: DeviceType) -> FileType {
    match kind {
        DeviceType::Char | DeviceType::Unbuffered => FileType::CharacterDevice,
        DeviceType::Block => FileType::BlockDevice,
        DeviceType::Pipe => FileType::Fifo,
    }
}

fn node(directory: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    let doing = || format!("make the device {}", device.path.display());
    let number = number(device);
    match rustix::fs::mknodat(
        directory,
        name,
        file_type(device.kind),
        Mode::from_raw_mode(device.mode),
        number,
    ) {
        Ok(()) => {}
        Err(Errno::EXIST) => return check(directory, name, device),
        Err(errno) => return Err(errno).doing(doing),
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).doing(doing)?;
    }
    Ok(())
}

fn number(device: &Device) -> u64 {
    if device.kind == DeviceType::Pipe { 0 } else { rustix::fs::makedev(device.major, device.minor) }
}

/// Accepts what the image has only if it is this very device.
fn check(directory: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .doing(|| format!("look at {}", device.path.display()))?;
    if FileType::from_raw_mode(found.st_mode) == file_type(device.kind) && found.st_rdev == number(device) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "the image has a {} that is not the device {} {}:{}",
        device.path.display(),
        device.kind,
        device.major,
        device.minor
    )))
}

fn bind(directory: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    let doing = || format!("bind the host's {}", device.path.display());
    if device.kind == DeviceType::Pipe {
        return node(directory, name, device);
    }
    let source = path::open_host(&device.path, OFlags::PATH | OFlags::NOFOLLOW).doing(doing)?;
    let found = rustix::fs::fstat(&source).doing(doing)?;
    if FileType::from_raw_mode(found.st_mode) != file_type(device.kind) || found.st_rdev != number(device) {
        return Err(Error::Usage(format!(
            "the host's {} is not the device {}:{}, and a user namespace cannot make it",
            device.path.display(),
            device.major,
            device.minor
        )));
    }
    let target = target::file_at(directory, name).doing(doing)?;
    let tree = mount::clone_tree(&source, Path::new(""), Reach::Mount).doing(doing)?;
    mount::attach(&tree, &target).doing(doing)
}

/// Makes the links of `/dev`; one that exists is the image's own affair, but for `ptmx`, which must be this instance's.
///
/// # Errors
/// EROFS where `/dev` is read-only.
pub(crate) fn link(dev: BorrowedFd<'_>) -> Result<()> {
    const LINKS: [(&str, &str); 5] = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
    ];
    for (to, name) in LINKS {
        match rustix::fs::symlinkat(to, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).doing(|| format!("link /dev/{name}")),
        }
    }
    let doing = || "link /dev/ptmx";
    match rustix::fs::symlinkat("pts/ptmx", dev, "ptmx") {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(dev, "ptmx", AtFlags::empty()).doing(doing)?;
            rustix::fs::symlinkat("pts/ptmx", dev, "ptmx").doing(doing)
        }
        other => other.doing(doing),
    }
}
