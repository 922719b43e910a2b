//! The root of a container that does not run, put together as it would see it: its layers, and what it has mounted.
//!
//! The mounts are made by a thread that leaves the mount namespace of all others for a copy of it, and ends. The copy goes on
//! as long as there is a descriptor of it, and nobody's table shows what is mounted there. So a crash leaves nothing, and the
//! kernel alone walks from the root into volumes.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sys::mount::{self, Attributes, Propagation, Reach, attribute};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::path;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, fstat, mkdirat, openat, statx};
use rustix::io::Errno;
use rustix::process::umask;

use super::{Upper, overlay};
use crate::error::{Doing, Error, Result};
use crate::request::Access;
use crate::rootfs::{RootFs, UPPER, WORK};

/// A root that stays together as long as this is there.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) root: OwnedFd,
    /// How the mounts show whose files are, by their numbers (statx(2)).
    mounts: Vec<(u64, Shown)>,
    _namespace: File,
}

/// How a mount shows to a container with users of its own whose files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// By the container's maps: on the disk they have the container's numbers.
    ByMaps,
    /// As they are on the host.
    AsOnHost,
    /// Those of the owner of all of it as another's, and the other way round (`owner`).
    Exchanged,
}

/// Something that is mounted in a root.
#[derive(Debug)]
pub(crate) struct Attached {
    /// A file or directory of the host.
    pub(crate) source: PathBuf,
    /// The directory in it that is mounted, if that is not all: resolved inside it.
    pub(crate) subpath: Option<PathBuf>,
    /// Where it is in the container.
    pub(crate) destination: PathBuf,
    pub(crate) access: Access,
    pub(crate) shown: Shown,
}

impl Assembled {
    /// Tells how the mount in which a file lies shows whose it is. What is mounted below a mount is as it is on the host.
    ///
    /// # Errors
    /// As statx(2).
    pub(crate) fn shown(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<Shown> {
        let number = number(directory, name)?;
        let found = self.mounts.iter().find(|(mount, _)| *mount == number);
        Ok(found.map_or(Shown::AsOnHost, |(_, shown)| *shown))
    }
}

/// Puts a root together. What is to be mounted on, and is not there, is made, as a start of the container would make it.
///
/// # Errors
/// EPERM for whoever may not mount; a source or a layer that is not there.
pub(crate) fn assemble(rootfs: &RootFs, access: Access, attached: &[Attached]) -> Result<Assembled> {
    std::thread::scope(|scope| {
        let assembling = std::thread::Builder::new().name("assemble".to_owned());
        let assembling =
            assembling.spawn_scoped(scope, || apart(rootfs, access, attached)).doing(|| "start a thread")?;
        assembling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Does it in a mount namespace of this thread's own.
fn apart(rootfs: &RootFs, access: Access, attached: &[Attached]) -> Result<Assembled> {
    let doing = || "leave the mount namespace for one of our own";
    namespace::unshare(Kind::Mount).doing(doing)?;
    // No other thread's any more, since unshare(2) parts what CLONE_FS shares, too. So what is made has its rights at once:
    // in a volume, another container may exchange it for a link to anywhere before they could be changed.
    umask(Mode::empty());
    let namespace = File::open("/proc/thread-self/ns/mnt").doing(doing)?;
    let silent = Attributes::default().with_propagation(Propagation::Private);
    mount::set_attached(host(Path::new("/"))?.as_fd(), silent, Reach::Tree).doing(doing)?;
    // Before the root lies anywhere: a tree that is taken then may have it in it.
    let trees = attached.iter().map(tree).collect::<Result<Vec<_>>>()?;
    let root = lay(rootfs)?;
    let of_root = if rootfs.above.is_some() { Shown::ByMaps } else { Shown::AsOnHost };
    let mut mounts = vec![(number(root.as_fd(), OsStr::new(""))?, of_root)];
    for (attached, tree) in attached.iter().zip(trees) {
        if let Some(tree) = tree {
            attach(root.as_fd(), attached, &tree)?;
            mounts.push((number(tree.as_fd(), OsStr::new(""))?, attached.shown));
        }
    }
    if access != Access::ReadWrite {
        close(root.as_fd(), Reach::Mount).doing(|| "make the root of the container read-only")?;
    }
    Ok(Assembled { root, mounts, _namespace: namespace })
}

/// Returns the number of the mount in which a file lies, or of the root of which there is a descriptor.
fn number(directory: BorrowedFd<'_>, name: &OsStr) -> Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found =
        statx(directory, name, flags, StatxFlags::MNT_ID).doing(|| format!("look at {}", name.display()));
    Ok(found?.stx_mnt_id)
}

/// Mounts the layers where nobody looks, or the directory that is the root over itself.
fn lay(rootfs: &RootFs) -> Result<OwnedFd> {
    let doing = || "mount the root of the container";
    let (tree, at) = match (&rootfs.above, rootfs.lower.first()) {
        (Some(above), _) => {
            let (upper, work) = (above.join(UPPER), above.join(WORK));
            (overlay::mount(&rootfs.layers(), Upper::Write(&upper, &work))?, above)
        }
        (None, Some(directory)) => {
            (mount::clone_tree(host(directory)?, Path::new(""), Reach::Tree).doing(doing)?, directory)
        }
        (None, None) => {
            let reason = "there is neither an image nor a directory".to_owned();
            return Err(Error::Invalid { what: "root of the container".to_owned(), reason });
        }
    };
    mount::attach(&tree, host(at)?).doing(doing)?;
    Ok(tree)
}

/// A copy of what is to be mounted. A source that is gone has no files.
fn tree(attached: &Attached) -> Result<Option<OwnedFd>> {
    let Attached { source, subpath, .. } = attached;
    let doing = || format!("open {}", source.display());
    let source = match path::open_host(source, OFlags::PATH) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(None),
        opened => opened.doing(doing)?,
    };
    let source = match subpath {
        Some(subpath) => path::open_in_root(&source, subpath, OFlags::PATH).doing(doing)?,
        None => source,
    };
    mount::clone_tree(&source, Path::new(""), Reach::Tree).map(Some).doing(doing)
}

fn attach(root: BorrowedFd<'_>, attached: &Attached, tree: &OwnedFd) -> Result<()> {
    let Attached { source, destination, access, .. } = attached;
    let doing = || format!("mount {} at {}", source.display(), destination.display());
    let kind = FileType::from_raw_mode(fstat(tree).doing(doing)?.st_mode);
    let target = target(root, destination, kind).doing(doing)?;
    mount::attach(tree, &target).doing(doing)?;
    if *access != Access::ReadWrite {
        close(tree.as_fd(), Reach::Tree).doing(doing)?;
    }
    Ok(())
}

/// Finds what is mounted on, and makes it if it is not there.
fn target(root: BorrowedFd<'_>, path: &Path, kind: FileType) -> bulkhead_sys::Result<OwnedFd> {
    match path::open_in_root(root, path, OFlags::PATH) {
        Err(error) if error.errno() == Errno::NOENT => {}
        found => return found,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return path::open_in_root(root, path, OFlags::PATH);
    };
    let parent = target(root, parent, FileType::Directory)?;
    let made = if kind == FileType::Directory {
        mkdirat(&parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        // A link that leads nowhere is told by what follows.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(bulkhead_sys::Error::new(format!("make {name:?}"), errno)),
    }
    path::open_in_root(root, path, OFlags::PATH)
}

fn close(mount: BorrowedFd<'_>, reach: Reach) -> bulkhead_sys::Result<()> {
    mount::set_attached(mount, Attributes::new(attribute::RDONLY, 0), reach)
}

fn host(path: &Path) -> Result<OwnedFd> {
    path::open_host(path, OFlags::PATH).doing(|| format!("open {}", path.display()))
}
