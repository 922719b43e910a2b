//! Layers joined by the kernel into a mount that is attached nowhere, so that no table of mounts shows it and it goes with
//! the last descriptor.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use bulkhead_shim::order::Overlay;
use bulkhead_sys::mount::{Filesystem, attribute};
use bulkhead_sys::path;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::error::{Doing, Error, Result};
use crate::host;

/// The version of Linux since which layers are taken one by one.
const ONE_BY_ONE: (u32, u32) = (6, 8);

/// What lies above the layers of the image.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Upper<'a> {
    /// Nothing: the image as it is.
    None,
    /// A writable layer that is only read, also while its container is being started.
    Read(&'a Path),
    /// A writable layer that is written to, with its work directory: nobody else may have it mounted.
    Write(&'a Path, &'a Path),
}

/// Joins layers, the topmost first, and what lies above them, and returns the root of that: a mount in which nothing can be
/// executed and no device opened. A single layer of an image with nothing above it is its own root.
///
/// # Errors
/// ENOENT for a layer that is not there, ELOOP for too many; [`Error::Invalid`] for more than a kernel before Linux 6.8 can
/// be told.
pub(crate) fn mount(lower: &[impl AsRef<Path>], upper: Upper<'_>) -> Result<OwnedFd> {
    let doing = || "mount the layers of the container";
    let mut lower: Vec<&Path> = lower.iter().map(AsRef::as_ref).collect();
    match upper {
        Upper::Read(upper) => lower.insert(0, upper),
        // An overlay without an upper directory wants two others; and one layer alone hides nothing.
        Upper::None if lower.len() == 1 => {
            return path::open_host(lower[0], OFlags::PATH | OFlags::DIRECTORY)
                .map_err(|error| super::unopened(lower[0], error.into()));
        }
        Upper::None | Upper::Write(..) => {}
    }
    let mut held = Vec::new();
    let filesystem = open().doing(doing)?;
    let mut refused = None;
    if let OneByOne::Taken = add_each(&filesystem, &lower, &mut held)? {
        match finished(&filesystem, upper, &mut held)? {
            // Before Linux 6.5 options are looked at only here. But it may have another reason.
            Err(error) if error.errno() == Errno::INVAL => refused = Some(error),
            mounted => return mounted.doing(doing),
        }
    }
    match (joined(&lower, &mut held), refused) {
        (Err(Error::Invalid { .. }), Some(error)) if host::kernel() >= ONE_BY_ONE => Err(error).doing(doing),
        (joined, _) => finished(&joined?, upper, &mut held)?.doing(doing),
    }
}

/// Says what lies above the layers, and mounts all of it.
fn finished(
    filesystem: &Filesystem,
    upper: Upper<'_>,
    held: &mut Vec<OwnedFd>,
) -> Result<bulkhead_sys::Result<OwnedFd>> {
    let doing = || "mount the layers of the container";
    if let Upper::Write(upper, work) = upper {
        filesystem.set("upperdir", &descriptor(upper, held)?).doing(doing)?;
        filesystem.set("workdir", &descriptor(work, held)?).doing(doing)?;
    }
    if !host::is_real_root()? {
        filesystem.set_flag("userxattr").doing(doing)?;
    }
    Ok(filesystem.mount(attribute::NOSUID | attribute::NODEV | attribute::NOEXEC))
}

/// Mounts layers as the root of an ordinary user's container, for a runtime of others that is in the present mount namespace with the rights of
/// the container's root. Descriptors stand for directories: a page has to do for all.
///
/// # Errors
/// A layer that is not there, and as mount(2).
pub(crate) fn mount_for_runtime(overlay: &Overlay) -> Result<()> {
    let Overlay { lower, upper, work, at, volatile } = overlay;
    let doing = || format!("mount the layers of the container at {}", at.display());
    let mut held = Vec::new();
    let lower = lower.iter().map(|path| descriptor(path, &mut held)).collect::<Result<Vec<_>>>()?;
    let [upper, work, at] = [upper, work, at].map(|path| descriptor(path, &mut held));
    let flags = if *volatile { ",userxattr,volatile" } else { ",userxattr" };
    let options = format!("lowerdir={},upperdir={},workdir={}{flags}", lower.join(":"), upper?, work?);
    let options = CString::new(options).map_err(std::io::Error::from).doing(doing)?;
    rustix::mount::mount("overlay", at?, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .doing(doing)
}

fn open() -> bulkhead_sys::Result<Filesystem> {
    let filesystem = Filesystem::open("overlay")?;
    filesystem.set("source", "overlay")?;
    Ok(filesystem)
}

/// Whether the kernel takes layers one by one, as since Linux 6.8.
enum OneByOne {
    Taken,
    Unknown,
}

fn add_each(filesystem: &Filesystem, lower: &[&Path], held: &mut Vec<OwnedFd>) -> Result<OneByOne> {
    for path in lower {
        match filesystem.set("lowerdir+", &descriptor(path, held)?) {
            // The directory was just opened, so it is the option that is not known.
            Err(error) if error.errno() == Errno::INVAL => return Ok(OneByOne::Unknown),
            other => other.doing(|| format!("join the layer {}", path.display()))?,
        }
    }
    Ok(OneByOne::Taken)
}

/// Joins the layers in one option, whose value has at most 255 bytes.
fn joined(lower: &[&Path], held: &mut Vec<OwnedFd>) -> Result<Filesystem> {
    let names = lower.iter().map(|path| descriptor(path, held)).collect::<Result<Vec<_>>>()?;
    let value = names.join(":");
    if value.len() > 255 {
        let reason = "this kernel joins fewer, unless the container runs; Linux 6.8 joins any number";
        return Err(Error::Invalid { what: format!("{} layers", lower.len()), reason: reason.to_owned() });
    }
    let filesystem = open().doing(|| "open an overlay")?;
    filesystem.set("lowerdir", &value).doing(|| "join the layers of the container")?;
    Ok(filesystem)
}

/// Names a directory by a descriptor: no length and no letter of its path matters then.
fn descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String> {
    let opened = path::open_host(path, OFlags::PATH | OFlags::DIRECTORY)
        .map_err(|error| super::unopened(path, error.into()))?;
    let name = format!("/proc/self/fd/{}", opened.as_raw_fd());
    held.push(opened);
    Ok(name)
}
