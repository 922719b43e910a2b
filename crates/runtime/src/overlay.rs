//! A root made of layers: an overlay of host directories that only the container's mount namespace holds.
//!
//! Since Linux 6.8 each layer is an option of its own, so that neither their number nor a character in their names
//! matters. Before, all options share one page and are escaped; if they do not fit, descriptors stand for the paths.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bulkhead_sys::mount::{Filesystem, Propagation, Reach, attach, clone_tree};
use bulkhead_sys::namespace::Kind;
use bulkhead_sys::{credentials, path};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::{Doing, Error, Result};
use crate::handshake::{self, Said};
use crate::mount::{self, LONGEST_VALUE, mount_here, open_source, set_namespace_propagation};
use crate::plan::Overlay;
use crate::plan::mounts::MappedBy;
use crate::{clone, idmap};

/// What mount(2) takes as data: a page with a NUL byte at its end.
const LONGEST_DATA: usize = 4095;

/// Where an overlay records what a layer hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// In `trusted.overlay.*`, which takes the host's rights.
    Trusted,
    /// In `user.overlay.*`, for a user namespace.
    User,
}

impl Attributes {
    fn option(self) -> Option<&'static str> {
        match self {
            Self::Trusted => None,
            Self::User => Some("userxattr"),
        }
    }
}

/// Makes a detached overlay; `None` on a kernel that cannot take its layers one by one.
///
/// # Errors
/// ENOENT for a layer that is not there, EINVAL for layers that cannot be joined.
pub(crate) fn mount(overlay: &Overlay, attributes: Attributes) -> Result<Option<OwnedFd>> {
    let doing = || "mount the overlay of /annotations/org.bulkhead.rootfs.overlay";
    let mut held = Vec::new();
    let filesystem = Filesystem::open("overlay").doing(doing)?;
    filesystem.set("source", "overlay").doing(doing)?;
    for lower in &overlay.lower {
        match filesystem.set("lowerdir+", &value(lower, &mut held)?) {
            // An option that it does not know, unlike a directory that is not there.
            Err(error) if error.errno() == Errno::INVAL && exists(lower) => return Ok(None),
            other => other.doing(doing)?,
        }
    }
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        if let Some(path) = path {
            filesystem.set(key, &value(path, &mut held)?.replace('\\', "\\\\")).doing(doing)?;
        }
    }
    for flag in flags(overlay, attributes) {
        filesystem.set_flag(flag).doing(doing)?;
    }
    if let Some(label) = &overlay.label {
        filesystem.set(label.option, &label.context).doing(doing)?;
    }
    match filesystem.mount(0) {
        Err(error) if error.errno() == Errno::INVAL && takes_any_option() => Ok(None),
        other => other.map(Some).doing(doing),
    }
}

/// Makes a detached overlay of layers that are joined in one option, as before Linux 6.8; `None` where they are too many
/// for it.
///
/// # Errors
/// As [`mount`].
pub(crate) fn mount_joined(overlay: &Overlay, attributes: Attributes) -> Result<Option<OwnedFd>> {
    let doing = || "mount the overlay of /annotations/org.bulkhead.rootfs.overlay";
    let mut held = Vec::new();
    let options = options(overlay, |path| descriptor(path, &mut held))?;
    if options.iter().any(|(_, value)| value.len() > LONGEST_VALUE) {
        return Ok(None);
    }
    let filesystem = Filesystem::open("overlay").doing(doing)?;
    for (key, value) in &options {
        filesystem.set(key, value).doing(doing)?;
    }
    for flag in flags(overlay, attributes) {
        filesystem.set_flag(flag).doing(doing)?;
    }
    filesystem.mount(0).map(Some).doing(doing)
}

/// Makes a detached overlay whose layers show their ids as a user namespace maps them, since Linux 5.19. What is written
/// has on the disk the ids that it has in the namespace, so that a later container with another one finds it as it was.
///
/// The kernel joins only layers that are mounted where the caller is (any, since 6.15). So a process in between mounts
/// each over its own directory, in a mount namespace that ends with it. Where the kernel does not take layers one by one,
/// the overlay is mounted at `at` there.
///
/// # Errors
/// As [`mount`], and EINVAL for a layer whose file system cannot be mapped.
pub(crate) fn mount_mapped(overlay: &Overlay, by: &MappedBy, at: &Path) -> Result<OwnedFd> {
    let namespace = idmap::namespace_of(by)?;
    let mapped = |path: &Path| {
        let tree = open_source(path, Reach::Mount)?;
        idmap::map_tree(&tree, namespace.as_fd(), Reach::Mount, path)?;
        Ok(tree)
    };
    let layers = overlay.lower.iter().map(|path| mapped(path)).collect::<Result<Vec<_>>>()?;
    let writable = match &overlay.upper {
        Some(upper) => Some(Writable::open(overlay, upper, by, mapped)?),
        None => None,
    };
    let (parent, socket) = handshake::pair()?;
    let request = clone::Request { namespaces: Kind::Mount.flag(), ..clone::Request::default() };
    let between = clone::spawn(&request, || {
        let made =
            mount_over(overlay, &layers, writable.as_ref(), at).and_then(|tree| socket.made(tree.as_fd()));
        made.map_or_else(
            |error| {
                socket.failed(&crate::error::chain(&error));
                1
            },
            |()| 0,
        )
    })
    .doing(|| "make the process that joins layers")?;
    drop(socket);
    let said = parent.hear(None);
    // It has nothing left to do. One that cannot be waited for is reaped when the runtime ends.
    let _ = retry_on_intr(|| waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED));
    match said? {
        Said::Made(tree) => Ok(tree),
        Said::Failed(chain) => Err(Error::Init { chain }),
        _ => Err(Error::InitDied { how: "it could not join the layers of the root".into(), hint: "" }),
    }
}

/// The directory of the writable layer and its work directory, mapped: the kernel wants both in one mount.
struct Writable<'a> {
    directory: &'a Path,
    tree: OwnedFd,
    /// The container's root on the host. Only who is in the map can make files there, as the kernel does for itself.
    owner: (u32, u32),
}

impl<'a> Writable<'a> {
    fn open(
        overlay: &Overlay,
        upper: &'a Path,
        by: &MappedBy,
        mapped: impl FnOnce(&Path) -> Result<OwnedFd>,
    ) -> Result<Self> {
        let directory = upper.parent().unwrap_or(upper);
        let tree = mapped(directory)?;
        for path in overlay.upper.iter().chain(&overlay.work) {
            // What is a link leads out of the mount, where nothing is mapped.
            let name = path.file_name().map(Path::new).unwrap_or(path);
            path::open_beneath(
                &tree,
                name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                Mode::empty(),
            )
            .doing(|| format!("open {} in its own directory", path.display()))?;
        }
        Ok(Self { directory, tree, owner: idmap::root_on_host(by)? })
    }

    /// Mounts it over its directory.
    fn enter(&self) -> Result<()> {
        let doing = || format!("mount the writable layer's directory {}", self.directory.display());
        let directory = path::open_host(self.directory, OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
        attach(&self.tree, &directory).doing(doing)
    }
}

/// In a mount namespace of its own: mounts each layer over its directory, and joins them.
fn mount_over(
    overlay: &Overlay,
    layers: &[OwnedFd],
    writable: Option<&Writable<'_>>,
    at: &Path,
) -> Result<OwnedFd> {
    set_namespace_propagation(Propagation::Private, Reach::Tree)?;
    // First, since a layer may lie below.
    writable.map_or(Ok(()), Writable::enter)?;
    for (tree, path) in layers.iter().zip(&overlay.lower) {
        let doing = || format!("mount the layer {}", path.display());
        let directory = path::open_host(path, OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
        attach(tree, &directory).doing(doing)?;
    }
    if let Some((uid, gid)) = writable.map(|writable| writable.owner) {
        credentials::act_as(uid, gid).doing(|| "become the container's root to join its layers")?;
    }
    if let Some(tree) = mount(overlay, Attributes::Trusted)? {
        return Ok(tree);
    }
    let mounted = mount_at(overlay, Attributes::Trusted, at)?;
    clone_tree(&mounted, Path::new(""), Reach::Mount)
        .doing(|| format!("take the overlay from {}", at.display()))
}

/// Before 6.5 the kernel collects options without looking at them, and refuses what it does not know in the end.
fn takes_any_option() -> bool {
    Filesystem::open("overlay").is_ok_and(|filesystem| filesystem.set("no-such-option", "").is_ok())
}

fn exists(path: &Path) -> bool {
    path::open_host(path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
}

/// Writes a path as fsconfig(2) takes it: one that is too long becomes that of a descriptor.
fn value(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String> {
    match path.to_str() {
        Some(text) if 2 * text.len() <= LONGEST_VALUE => Ok(text.to_owned()),
        _ => descriptor(path, held),
    }
}

fn descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String> {
    let opened = path::open_host(path, OFlags::PATH | OFlags::DIRECTORY)
        .doing(|| format!("open the layer {}", path.display()))?;
    let name = format!("/proc/self/fd/{}", opened.as_raw_fd());
    held.push(opened);
    Ok(name)
}

/// Mounts an overlay at a directory of the host by mount(2), in the caller's own mount namespace, and returns its root.
///
/// # Errors
/// As [`mount`].
pub(crate) fn mount_at(overlay: &Overlay, attributes: Attributes, at: &Path) -> Result<OwnedFd> {
    let doing = || format!("mount an overlay at {}", at.display());
    let mut held = Vec::new();
    let mut options = options(overlay, |path| Ok(escape(path)))?;
    let of_options: usize = options.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let of_flags: usize = flags(overlay, attributes).map(|flag| flag.len() + 1).sum();
    let of_label =
        overlay.label.as_ref().map_or(0, |label| ",=\"\"".len() + label.option.len() + label.context.len());
    if of_options + of_flags + of_label > LONGEST_DATA {
        options = self::options(overlay, |path| descriptor(path, &mut held))?;
    }
    let mut options: Vec<_> = options.into_iter().map(|(key, value)| (key.to_owned(), Some(value))).collect();
    options.extend(flags(overlay, attributes).map(|flag| (flag.to_owned(), None)));
    options.extend(overlay.label.as_ref().map(|label| mount::context(label.option, &label.context)));
    let target = path::open_host(at, OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
    mount_here("overlay", "overlay", &target, &options, rustix::mount::MountFlags::empty()).doing(doing)?;
    path::open_host(at, OFlags::PATH | OFlags::DIRECTORY).doing(doing)
}

/// The options that have no value.
fn flags(overlay: &Overlay, attributes: Attributes) -> impl Iterator<Item = &'static str> {
    attributes.option().into_iter().chain(overlay.volatile.then_some("volatile"))
}

fn options(
    overlay: &Overlay,
    mut name: impl FnMut(&Path) -> Result<String>,
) -> Result<Vec<(&'static str, String)>> {
    let lower = overlay.lower.iter().map(|path| name(path)).collect::<Result<Vec<_>>>()?;
    let mut options = vec![("lowerdir", lower.join(":"))];
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        if let Some(path) = path {
            options.push((key, name(path)?));
        }
    }
    Ok(options)
}

/// Escapes what separates layers and options.
fn escape(path: &Path) -> String {
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes());
    text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_names_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }

    #[test]
    fn a_long_path_becomes_a_descriptor() {
        let mut held = Vec::new();
        let long = format!("/{}", "./".repeat(200));
        let text = value(Path::new(&long), &mut held).unwrap();
        assert_eq!(text, format!("/proc/self/fd/{}", held[0].as_raw_fd()));
        assert_eq!(value(Path::new("/a"), &mut held).unwrap(), "/a");
    }
}
