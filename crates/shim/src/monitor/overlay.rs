//! A root made of layers for a runtime that cannot mount one.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::MountFlags;

use super::error::{Doing, Error, Result};
use super::mounts::open;
use crate::order::Overlay;

/// Mounts the overlay in the present mount namespace.
pub(super) fn mount(overlay: &Overlay) -> Result<()> {
    let doing = || format!("mount the overlay at {}", overlay.at.display());
    let mut held = Vec::new();
    let data = options(overlay, &mut held)?;
    let data =
        std::ffi::CString::new(data).map_err(|_| Error::Usage("a layer's name has a NUL byte".into()))?;
    let target = open(&overlay.at)?;
    rustix::mount::mount("overlay", link(&target), "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .doing(doing)
}

/// The options of overlayfs. Descriptors stand for directories: a page has to do for all, and no name needs an escape.
fn options(overlay: &Overlay, held: &mut Vec<OwnedFd>) -> Result<String> {
    let Overlay { lower, upper, work, at: _, volatile } = overlay;
    let mut named = |directory: &PathBuf| -> Result<String> {
        let opened = open(directory)?;
        let name = link(&opened);
        held.push(opened);
        Ok(name)
    };
    let lower = lower.iter().map(&mut named).collect::<Result<Vec<_>>>()?.join(":");
    let flag = if *volatile { ",volatile" } else { "" };
    Ok(format!("lowerdir={lower},upperdir={},workdir={}{flag}", named(upper)?, named(work)?))
}

fn link(opened: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", opened.as_raw_fd())
}
