//! A root made of layers for a runtime that cannot mount one: an overlay that only this process and its children see.
//!
//! The monitor leaves the host's mount namespace for a copy. There the mount on which the root's directory lies stops
//! telling its peers what is mounted on it, the overlay is mounted, and the mount becomes the peer that it was (since
//! Linux 5.15; before, it stays private). All other mounts are peers of the host's throughout, so that what a
//! container mounts in a volume that it shares with the host is seen there. The overlay ends with the namespace.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sys::mount::{self, Attributes, Propagation, Reach};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{mountinfo, path};
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, MoveMountFlags};

use super::error::{Doing, Error, Result};
use crate::order::Overlay;

/// Mounts the overlay in a mount namespace of this process's own.
pub(super) fn mount(overlay: &Overlay) -> Result<()> {
    let doing = || format!("mount the overlay at {}", overlay.at.display());
    let below = mount_below(&overlay.at)?;
    // Of the host's namespace, to which this process will never come back.
    let peer = open(&below)?;
    namespace::unshare(Kind::Mount).doing(doing)?;
    let own = open(&below)?;
    let silent = Attributes::default().with_propagation(Propagation::Private);
    mount::set_attached(own.as_fd(), silent, Reach::Mount).doing(doing)?;
    let mut held = Vec::new();
    let data = options(overlay, &mut held)?;
    let data =
        std::ffi::CString::new(data).map_err(|_| Error::Usage("a layer's name has a NUL byte".into()))?;
    let target = open(&overlay.at)?;
    rustix::mount::mount("overlay", link(&target), "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .doing(doing)?;
    // A kernel that cannot do this leaves it private, and one that was private has no group to join.
    let _ = rustix::mount::move_mount(
        &peer,
        "",
        &own,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_SET_GROUP,
    );
    Ok(())
}

/// Finds the root of the mount that a directory lies on.
fn mount_below(directory: &Path) -> Result<PathBuf> {
    let doing = || format!("find the mount of {}", directory.display());
    let place = mountinfo::place(open(directory)?.as_fd()).doing(doing)?;
    let mounts = mountinfo::read().doing(doing)?;
    let mount = mounts.into_iter().find(|mount| mount.id == place.mount);
    mount.map(|mount| mount.point).ok_or(rustix::io::Errno::NOENT).doing(doing)
}

/// The options of overlayfs. Descriptors stand for directories: a page has to do for all, and no name needs an escape.
fn options(overlay: &Overlay, held: &mut Vec<OwnedFd>) -> Result<String> {
    let Overlay { lower, upper, work, at: _ } = overlay;
    let mut named = |directory: &PathBuf| -> Result<String> {
        let opened = open(directory)?;
        let name = link(&opened);
        held.push(opened);
        Ok(name)
    };
    let lower = lower.iter().map(&mut named).collect::<Result<Vec<_>>>()?.join(":");
    Ok(format!("lowerdir={lower},upperdir={},workdir={}", named(upper)?, named(work)?))
}

fn open(directory: &Path) -> Result<OwnedFd> {
    path::open_host(directory, OFlags::PATH | OFlags::DIRECTORY)
        .doing(|| format!("open {}", directory.display()))
}

fn link(opened: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", opened.as_raw_fd())
}
