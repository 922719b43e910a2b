//! The container's root: what it is made of, what of it is hidden, and how it becomes the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sys::mount::{
    self as sys_mount, Attributes, Filesystem, OldMounts, Propagation, Reach, attribute,
};
use bulkhead_sys::namespace::Kind;
use bulkhead_sys::{mountinfo, path};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::mount::Set;
use crate::plan::Root;
use crate::spent::Spent;
use crate::{birth, mount, overlay, target};

/// Makes the root file system a mount of its own, private to the container, and returns its root directory.
///
/// # Errors
/// ENOENT when the directory is not there, and what the kernel says of the mounts.
pub(crate) fn prepare(
    root: &Root,
    prepared: Option<OwnedFd>,
    cut: Option<Propagation>,
    attributes: overlay::Attributes,
) -> Result<OwnedFd> {
    let (propagation, reach) = root.propagation;
    // From an unbindable mount nothing could be bound: the root becomes that once all is done, see `enter`.
    let now = if propagation == Propagation::Unbindable { Propagation::Private } else { propagation };
    mount::set_namespace_propagation(now, reach)?;
    let doing = || format!("mount the root file system {}", root.path.display());
    let open = |path| path::open_host(path, OFlags::PATH | OFlags::DIRECTORY);
    let (place, directory) = match open(&root.path) {
        // The way there is closed to the container's root user: `/` serves as well, since lookups of the host's paths
        // begin below what is mounted over it.
        Err(error) if error.errno() == Errno::ACCESS && prepared.is_some() => {
            (Path::new("/"), open(Path::new("/")).doing(doing)?)
        }
        other => (root.path.as_path(), other.doing(doing)?),
    };
    if root.keeps_peers() {
        isolate_parent(place)?;
    }
    let is_uncut = prepared.is_some() && sys_mount::is_by_remount();
    let found = match (prepared, &root.overlay) {
        (Some(tree), _) => Some(tree),
        (None, Some(overlay)) => overlay::mount(overlay, attributes)?,
        (None, None) => Some(sys_mount::clone_tree(&directory, Path::new(""), Reach::Tree).doing(doing)?),
    };
    let tree = match (found, &root.overlay) {
        (Some(tree), _) => {
            sys_mount::attach(&tree, &directory).doing(doing)?;
            tree
        }
        (None, Some(overlay)) => overlay::mount_at(overlay, attributes, &root.path)?,
        (None, None) => return Err(Error::Usage("there is no root file system".into())),
    };
    if is_uncut {
        mount::cut_off(tree.as_fd(), cut, sys_mount::set_attached)?;
    }
    if root.keeps_peers() {
        // pivot_root(2) refuses a shared root.
        let private = Attributes::default().with_propagation(Propagation::Private);
        sys_mount::set_attached(tree.as_fd(), private, Reach::Mount).doing(doing)?;
    }
    Ok(tree)
}

/// Makes the mount private on which the root file system is mounted, so that the host does not see that happen.
fn isolate_parent(path: &Path) -> Result<()> {
    let doing = || format!("make the mount above {} private", path.display());
    let path = std::fs::canonicalize(path).doing(doing)?;
    let parent = mountinfo::read()
        .doing(doing)?
        .into_iter()
        .map(|entry| entry.point)
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.as_os_str().len())
        .unwrap_or_else(|| PathBuf::from("/"));
    let parent = path::open_host(&parent, OFlags::PATH).doing(doing)?;
    let private = Attributes::default().with_propagation(Propagation::Private);
    sys_mount::set_attached(parent.as_fd(), private, Reach::Mount).doing(doing)
}

/// Hides `paths` behind an empty directory or the host's null device; what is not there needs no hiding.
///
/// # Errors
/// What the kernel says of the mounts.
pub(crate) fn mask(
    root: BorrowedFd<'_>,
    paths: &[PathBuf],
    null: BorrowedFd<'_>,
    spent: &Spent,
) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let doing = || format!("mask {}", path.display());
        let Some(hidden) = find(root, path)? else { continue };
        let found = rustix::fs::fstat(&hidden).doing(doing)?;
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let cover = match (is_directory, &empty) {
            (false, _) => sys_mount::clone_tree(null, Path::new(""), Reach::Mount).doing(doing)?,
            // A mount can be attached once: the others are clones of the first, made when that is attached, since
            // before 6.15 the kernel clones no mount that is not.
            (true, Some(first)) => sys_mount::clone_tree(first, Path::new(""), Reach::Mount).doing(doing)?,
            (true, None) => {
                let tmpfs = Filesystem::open("tmpfs").doing(doing)?;
                let first = tmpfs.mount(attribute::RDONLY).doing(doing)?;
                spent.take(tmpfs);
                first
            }
        };
        sys_mount::attach(&cover, &hidden).doing(doing)?;
        spent.take(hidden);
        if is_directory && empty.is_none() {
            empty = Some(cover);
        } else {
            spent.take(cover);
        }
    }
    empty.into_iter().for_each(|first| spent.take(first));
    Ok(())
}

/// Makes `paths` and all below them read-only, keeping their other attributes.
///
/// # Errors
/// What the kernel says of the mounts.
pub(crate) fn make_readonly(root: BorrowedFd<'_>, paths: &[PathBuf], spent: &Spent) -> Result<()> {
    for path in paths {
        let doing = || format!("make {} read-only", path.display());
        let Some(found) = find(root, path)? else { continue };
        let tree = sys_mount::clone_tree(&found, Path::new(""), Reach::Tree).doing(doing)?;
        let readonly = Attributes::new(attribute::RDONLY, 0);
        let change = |set: Set| set(tree.as_fd(), readonly, Reach::Tree).doing(doing);
        mount::place(&change, &|| sys_mount::attach(&tree, &found), &doing)?;
        spent.take(tree);
        spent.take(found);
    }
    Ok(())
}

/// Finds a path that may be missing, or lie below something that is no directory.
fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    match target::open(root, path, OFlags::PATH) {
        Err(Error::System { source, .. }) if matches!(source.errno(), Errno::NOTDIR | Errno::ACCESS) => {
            Ok(None)
        }
        other => other,
    }
}

/// Opens the host's null device for [`mask`], in the mount namespace in which it will be used.
///
/// # Errors
/// The host's `/dev/null` is something else.
pub fn host_null() -> Result<OwnedFd> {
    let null = path::open_host(Path::new("/dev/null"), OFlags::PATH | OFlags::NOFOLLOW)
        .doing(|| "open the host's /dev/null")?;
    let found = rustix::fs::fstat(&null).doing(|| "look at the host's /dev/null")?;
    let is_null = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(Error::Usage("the host's /dev/null is not the null device".into())) }
}

/// How the container's root becomes the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// By pivot_root(2): the host's mounts are gone.
    Pivot,
    /// By moving the mount over `/` and chroot(2), for a root in a ramfs (`--no-pivot`).
    Move,
}

/// Makes `root` the root directory and working directory.
///
/// # Errors
/// EINVAL from pivot_root(2) in an initramfs: `--no-pivot` is for that.
pub fn enter(root: BorrowedFd<'_>, plan: &Root, entry: Entry) -> Result<()> {
    let (propagation, reach) = plan.propagation;
    match entry {
        Entry::Pivot => {
            let old = if plan.keeps_peers() { OldMounts::Shared } else { OldMounts::Receiving };
            sys_mount::pivot_root(root, old).doing(|| "enter the container's root")?;
        }
        Entry::Move => move_root(root, &plan.path)?,
    }
    if plan.readonly {
        make_root_readonly(root)?;
    }
    if propagation == Propagation::Slave {
        return Ok(());
    }
    sys_mount::set_attached(root, Attributes::default().with_propagation(propagation), reach)
        .doing(|| "set /linux/rootfsPropagation")
}

/// Takes `root` and all that is mounted in it out of the mount namespace that they were made in, which ends with that, and
/// makes it the root directory and working directory in the mount namespace `home`. It is attached nowhere there.
///
/// What no mount namespace holds is kept together by the processes whose root it is, and ends with the last of them. Above
/// it there is nothing: whoever leaves a chroot(2) inside comes to its own top (walls, `shared_mounts`).
///
/// # Errors
/// A mount that would not stay where it is, EPERM for a runtime without CAP_SYS_ADMIN in its own mount namespace.
pub(crate) fn carry_home(root: BorrowedFd<'_>, plan: &Root, home: &OwnedFd) -> Result<OwnedFd> {
    if plan.readonly {
        make_root_readonly(root)?;
    }
    refuse_loose_mounts(root)?;
    // What a hook has made unbindable would not come along.
    let private = Attributes::default().with_propagation(Propagation::Private);
    sys_mount::set_attached(root, private, Reach::Tree).doing(|| "cut the container's mounts off")?;
    let tree = sys_mount::clone_tree(root, Path::new(""), Reach::Tree)
        .doing(|| "take the container's root out of the mount namespace that it was made in")?;
    birth::join(home, Kind::Mount)?;
    change_to(&tree)?;
    Ok(tree)
}

/// Refuses a read-only mount on a file system that the container may write to, be it the host's. The kernel protects a mount
/// point from rename(2), unlink(2) and rmdir(2) in the mount namespace that it belongs to, and this one will belong to none:
/// who may write there could put something else in its place. The root is the container's own affair.
fn refuse_loose_mounts(root: BorrowedFd<'_>) -> Result<()> {
    const KERNELS: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];
    let doing = || "look at the container's mounts";
    let top = mountinfo::place(root).doing(doing)?.mount;
    let table = mountinfo::read().doing(doing)?;
    let below = |entry: &mountinfo::Entry| table.iter().find(|other| other.id == entry.parent);
    let is_inside = |entry: &mountinfo::Entry| {
        std::iter::successors(Some(entry), |&entry| below(entry)).any(|entry| entry.id == top)
    };
    let is_loose = |entry: &&mountinfo::Entry| {
        let is_movable = |on: &mountinfo::Entry| {
            on.id != top && !on.is_readonly && !KERNELS.contains(&on.kind.as_str()) && is_inside(on)
        };
        entry.is_readonly && below(entry).is_some_and(is_movable)
    };
    table.iter().find(is_loose).map_or(Ok(()), |entry| {
        let place = entry.point.display();
        Err(Error::Usage(format!(
            "what is read-only at {place} lies on a mount that the container may write to, and could be moved away without \
             a namespace of type \"mount\": add one to /linux/namespaces"
        )))
    })
}

/// Makes a directory the root directory and working directory.
///
/// # Errors
/// EPERM without CAP_SYS_CHROOT.
pub(crate) fn change_to(root: &OwnedFd) -> Result<()> {
    let doing = || "change to the container's root";
    rustix::process::fchdir(root).doing(doing)?;
    rustix::process::chroot(".").doing(doing)
}

fn make_root_readonly(root: BorrowedFd<'_>) -> Result<()> {
    sys_mount::set_attached(root, Attributes::new(attribute::RDONLY, 0), Reach::Mount)
        .doing(|| "make the root read-only")
}

fn move_root(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let doing = || "enter the container's root without pivot_root";
    hide_kernel(path).doing(|| "hide the host's /proc and /sys")?;
    rustix::process::fchdir(root).doing(doing)?;
    let slash = path::open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
    sys_mount::attach(root, slash.as_fd()).doing(doing)?;
    rustix::process::chroot(".").doing(doing)?;
    rustix::process::chdir("/").doing(doing)
}

/// Takes the host's procfs and sysfs away, which stay mounted below a root that is only moved.
///
/// The kernel lets a user namespace mount new ones where it sees whole ones: with these in place the container could,
/// and would have the files that are masked in its own.
fn hide_kernel(root: &Path) -> rustix::io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
    let mounts = mountinfo::read().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    // Where the way to the root is closed it is mounted over `/`, which leaves no telling whose mounts are whose.
    let root = std::fs::canonicalize(root).map_err(|_| Errno::ACCESS)?;
    let hidden = |entry: &&mountinfo::Entry| {
        matches!(entry.kind.as_str(), "proc" | "sysfs") && !entry.point.starts_with(&root)
    };
    // The youngest first, since it may lie on an older one.
    for point in mounts.iter().rev().filter(hidden).map(|entry| &entry.point) {
        mount_change(point, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // A user namespace cannot take off what it did not put there.
            Err(Errno::INVAL | Errno::PERM) => {
                mount("tmpfs", point, "tmpfs", MountFlags::RDONLY, None)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
