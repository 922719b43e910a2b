//! Device nodes, and the links that every container has in `/dev`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_spec::DeviceType;
use bulkhead_sys::mount::{self, Reach};
use bulkhead_sys::path;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::error::{Doing, Error, Result};
use crate::plan::mounts::Device;
use crate::plan::namespaces::{self, IdMaps};
use crate::target;

/// How nodes come to be.
#[derive(Debug)]
pub(crate) enum Method {
    /// By mknod(2).
    Make,
    /// By bind mounts, since mknod(2) is refused in a user namespace: of nodes that the host's root has made
    /// ([`prepare`]), else of the host's own.
    Bind(Option<OwnedFd>),
}

/// Makes, with the host's rights, the nodes that a user namespace with the maps `maps` cannot make: those that the host
/// has not, or not with this owner and mode. They lie in a file system of their own, each under its index.
///
/// The default nodes are the host's. `None` where all are, or where the runtime itself may not make nodes.
///
/// # Errors
/// As fsmount(2), chown(2) and chmod(2).
pub(crate) fn prepare(devices: &[Device], maps: &IdMaps) -> Result<Option<OwnedFd>> {
    let mut directory = None;
    for (index, device) in devices.iter().enumerate() {
        let owner =
            (namespaces::host_id(&maps.uids, device.uid), namespaces::host_id(&maps.gids, device.gid));
        let (Some(uid), Some(gid)) = owner else { continue };
        if device.kind == DeviceType::Pipe || device.is_default() {
            continue;
        }
        let directory = match &mut directory {
            Some(directory) => directory,
            none => none.insert(node_directory()?),
        };
        let doing = || format!("make the device {}", device.path.display());
        let name = index.to_string();
        match rustix::fs::mknodat(&*directory, &name, file_type(device.kind), Mode::empty(), number(device)) {
            Err(Errno::PERM) => return Ok(None),
            other => other.doing(doing)?,
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&*directory, &name, Some(uid), Some(gid), AtFlags::empty()).doing(doing)?;
        let mode = Mode::from_raw_mode(device.mode);
        rustix::fs::chmodat(&*directory, &name, mode, AtFlags::empty()).doing(doing)?;
    }
    Ok(directory)
}

/// Mounts, nowhere yet, what holds prepared nodes.
fn node_directory() -> Result<OwnedFd> {
    let doing = || "make the devices of a user namespace";
    let filesystem = mount::Filesystem::open("tmpfs").doing(doing)?;
    filesystem.set("mode", "0755").doing(doing)?;
    filesystem.mount(mount::attribute::NOSUID | mount::attribute::NOEXEC).doing(doing)
}

/// Returns a mount of each prepared node, by index.
///
/// What is not mounted in this namespace cannot be cloned before Linux 6.15: for that moment `nodes` lie on `root`.
fn clones(root: BorrowedFd<'_>, nodes: &OwnedFd, count: usize) -> Result<Vec<Option<OwnedFd>>> {
    let doing = || "bind the devices of a user namespace";
    mount::attach(nodes, root).doing(doing)?;
    let clone = |index: usize| match mount::clone_tree(nodes, Path::new(&index.to_string()), Reach::Mount) {
        Err(error) if error.errno() == Errno::NOENT => Ok(None),
        other => other.doing(doing).map(Some),
    };
    let cloned = (0..count).map(clone).collect();
    rustix::process::fchdir(nodes).doing(doing)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(doing)?;
    rustix::process::chdir("/").doing(doing)?;
    cloned
}

/// Makes the nodes below `root`, with the umask at 0.
///
/// # Errors
/// A path of the image that is something else, EPERM without CAP_MKNOD.
pub(crate) fn make(root: BorrowedFd<'_>, devices: &[Device], method: &Method) -> Result<()> {
    let mut prepared = match method {
        Method::Bind(Some(nodes)) => clones(root, nodes, devices.len())?,
        Method::Bind(None) | Method::Make => Vec::new(),
    };
    // Nearly all are in /dev: its descriptor is kept.
    let mut last: Option<(&Path, OwnedFd)> = None;
    for (index, device) in devices.iter().enumerate() {
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
            Method::Bind(_) => match prepared.get_mut(index).and_then(Option::take) {
                Some(tree) => bind_tree(directory.as_fd(), name, device, &tree)?,
                None => bind(directory.as_fd(), name, device)?,
            },
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
    let tree = mount::clone_tree(&source, Path::new(""), Reach::Mount).doing(doing)?;
    bind_tree(directory, name, device, &tree)
}

fn bind_tree(directory: BorrowedFd<'_>, name: &OsStr, device: &Device, tree: &OwnedFd) -> Result<()> {
    let doing = || format!("bind the device {}", device.path.display());
    let target = target::file_at(directory, name).doing(doing)?;
    mount::attach(tree, &target).doing(doing)
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
