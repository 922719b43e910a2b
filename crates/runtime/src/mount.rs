//! Mounts of the container: from the plan to the kernel, by descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_cgroup::View;
use bulkhead_sys::mount::{self as sys_mount, Attributes, Filesystem, Reach, attribute};
use bulkhead_sys::path;
use rustix::fs::{FileType, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::cgroup_mount;
use crate::error::{Doing, Result};
use crate::plan::mount_options::Change;
use crate::plan::mounts::{Mount, Source};
use crate::{copy_up, target};

/// Longest value that fsconfig(2) takes.
const LONGEST_VALUE: usize = 255;
/// File systems whose superblock is shared: `ro` may change the mount only.
const SHARED_SUPERBLOCK: [&str; 7] = ["proc", "sysfs", "mqueue", "devpts", "tmpfs", "cgroup", "cgroup2"];

/// What mounts need beside the plan.
pub(crate) struct Context<'a> {
    /// The container's root.
    pub root: BorrowedFd<'a>,
    /// The container's view of its control groups.
    pub cgroups: &'a [View],
    /// Detached trees that the parent opened with the host's rights, by index of the mount.
    pub prepared: &'a [Option<OwnedFd>],
    /// The SELinux context of mounts.
    pub label: Option<&'a str>,
}

/// Performs mount number `index` of the plan.
///
/// # Errors
/// The mount's destination and the call that failed.
pub(crate) fn perform(context: &Context<'_>, index: usize, mount: &Mount) -> Result<()> {
    match &mount.source {
        Source::Bind { path, reach, .. } => {
            let prepared = context.prepared.get(index).and_then(Option::as_ref);
            bind(context, mount, path, *reach, prepared.map(AsFd::as_fd))
        }
        Source::Filesystem { kind, source, options, flags, copy_up } => {
            filesystem(context, mount, &New { kind, source, options, flags }, *copy_up)
        }
        Source::Cgroup => cgroup_mount::perform(context, mount),
        Source::Existing => {
            let existing = target::directory(context.root, &mount.destination)?;
            change(existing.as_fd(), mount)
        }
    }
}

/// Opens the source of a bind mount as a detached tree.
///
/// # Errors
/// ENOENT when the source is not there.
pub(crate) fn open_source(source: &Path, reach: Reach) -> Result<OwnedFd> {
    let doing = || format!("bind {}", source.display());
    let opened = path::open_host(source, OFlags::PATH).doing(doing)?;
    sys_mount::clone_tree(&opened, Path::new(""), reach).doing(doing)
}

fn bind(
    context: &Context<'_>,
    mount: &Mount,
    source: &Path,
    reach: Reach,
    prepared: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let opened;
    let tree = match prepared {
        Some(tree) => tree,
        None => {
            opened = open_source(source, reach)?;
            opened.as_fd()
        }
    };
    let doing = || format!("bind {} at {}", source.display(), mount.destination.display());
    let found = rustix::fs::fstat(tree).doing(doing)?;
    let target = if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        target::directory(context.root, &mount.destination)?
    } else {
        target::file(context.root, &mount.destination)?
    };
    change(tree, mount)?;
    sys_mount::attach(tree, &target).doing(doing)
}

/// Changes attributes and propagation of a mount that may be attached or not.
pub(crate) fn change(tree: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
    let doing = || format!("set the options of {}", mount.destination.display());
    let steps = [(mount.recursive, Reach::Tree), (mount.attributes, Reach::Mount)];
    for (Change { set, clear }, reach) in steps {
        let attributes = Attributes::new(set, clear);
        if !attributes.is_empty() {
            sys_mount::set_attributes(tree, attributes, reach).doing(doing)?;
        }
    }
    for &(kind, reach) in &mount.propagation {
        sys_mount::set_attributes(tree, Attributes::default().with_propagation(kind), reach).doing(doing)?;
    }
    Ok(())
}

/// A file system to create.
struct New<'a> {
    kind: &'a str,
    source: &'a str,
    options: &'a [(String, Option<String>)],
    flags: &'a [&'static str],
}

fn filesystem(context: &Context<'_>, mount: &Mount, new: &New<'_>, copy_up: bool) -> Result<()> {
    let doing = || format!("mount {} at {}", new.kind, mount.destination.display());
    let target = target::directory(context.root, &mount.destination)?;
    if new.options.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > LONGEST_VALUE)) {
        return legacy(context, mount, new, target.as_fd());
    }
    let filesystem = configure(context, mount, new).doing(doing)?;
    let set = if copy_up { mount.attributes.set & !attribute::RDONLY } else { mount.attributes.set };
    let tree = filesystem.mount(set).doing(doing)?;
    if copy_up {
        copy_up::copy(target.as_fd(), tree.as_fd(), &mount.destination)?;
    }
    let rest = Mount {
        destination: mount.destination.clone(),
        source: Source::Existing,
        // A fresh mount has these already; only a read-only one that was filled first needs the rest.
        attributes: if copy_up { mount.attributes } else { Change::default() },
        recursive: mount.recursive,
        propagation: mount.propagation.clone(),
    };
    change(tree.as_fd(), &rest)?;
    sys_mount::attach(&tree, &target).doing(doing)
}

fn configure(context: &Context<'_>, mount: &Mount, new: &New<'_>) -> bulkhead_sys::Result<Filesystem> {
    let filesystem = Filesystem::open(new.kind)?;
    if !new.source.is_empty() {
        filesystem.set("source", new.source)?;
    }
    for (key, value) in new.options {
        match (key.as_str(), value) {
            // devpts has had one instance per mount since Linux 4.7 and ignores the word.
            ("newinstance", None) if new.kind == "devpts" => {}
            (key, Some(value)) => filesystem.set(key, value)?,
            (key, None) => filesystem.set_flag(key)?,
        }
    }
    for flag in new.flags {
        filesystem.set_flag(flag)?;
    }
    if mount.attributes.set & attribute::RDONLY != 0 && !SHARED_SUPERBLOCK.contains(&new.kind) {
        filesystem.set_flag("ro")?;
    }
    if let Some(label) = context.label.filter(|_| takes_context(new.kind)) {
        filesystem.set("context", label)?;
    }
    Ok(filesystem)
}

/// File systems without labels of their own take the container's.
fn takes_context(kind: &str) -> bool {
    matches!(kind, "tmpfs" | "ramfs" | "mqueue" | "devpts" | "overlay")
}

/// Mounts by mount(2), whose data may have a page, where a value is too long for fsconfig(2).
fn legacy(context: &Context<'_>, mount: &Mount, new: &New<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let doing = || format!("mount {} at {}", new.kind, mount.destination.display());
    mount_here(new.source, new.kind, target, new.options, mount.attributes.set).doing(doing)?;
    let mounted = target::directory(context.root, &mount.destination)?;
    change(mounted.as_fd(), mount)
}

/// Mounts on the directory behind a descriptor: it becomes the working directory, which no link can exchange.
fn mount_here(
    source: &str,
    kind: &str,
    target: BorrowedFd<'_>,
    options: &[(String, Option<String>)],
    attributes: u64,
) -> bulkhead_sys::Result<()> {
    use bulkhead_sys::Call;
    let words = options.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    let data = words.collect::<Vec<_>>().join(",");
    let mut flags = MountFlags::empty();
    for (bit, flag) in [
        (attribute::RDONLY, MountFlags::RDONLY),
        (attribute::NOSUID, MountFlags::NOSUID),
        (attribute::NODEV, MountFlags::NODEV),
        (attribute::NOEXEC, MountFlags::NOEXEC),
    ] {
        flags.set(flag, attributes & bit != 0);
    }
    let data = std::ffi::CString::new(data)
        .map_err(|_| rustix::io::Errno::INVAL)
        .call(|| "mount(data with a NUL byte)")?;
    rustix::process::fchdir(target).call(|| "fchdir(mount point)")?;
    rustix::mount::mount(source, ".", kind, flags, Some(data.as_c_str()))
        .call(|| format!("mount({source:?}, \".\", {kind:?}, {flags:?}, {data:?})"))
}

/// Mounts an overlay at a directory of the host and returns its root.
///
/// # Errors
/// ENOENT for a layer that is not there, EINVAL for layers that cannot be joined.
pub(crate) fn overlay(overlay: &crate::plan::Overlay, at: &Path) -> Result<OwnedFd> {
    let doing = || format!("mount an overlay at {}", at.display());
    let escape =
        |path: &PathBuf| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let lower = overlay.lower.iter().map(escape).collect::<Vec<_>>().join(":");
    let mut options = vec![("lowerdir".to_owned(), Some(lower))];
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        options.extend(path.as_ref().map(|path| (key.to_owned(), Some(escape(path)))));
    }
    let target = path::open_host(at, OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
    mount_here("overlay", "overlay", target.as_fd(), &options, 0).doing(doing)?;
    path::open_host(at, OFlags::PATH | OFlags::DIRECTORY).doing(doing)
}

/// Sets the propagation of the calling thread's whole mount namespace.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub(crate) fn set_namespace_propagation(kind: sys_mount::Propagation, reach: Reach) -> Result<()> {
    let mut flags = match kind {
        sys_mount::Propagation::Private => MountPropagationFlags::PRIVATE,
        sys_mount::Propagation::Shared => MountPropagationFlags::SHARED,
        sys_mount::Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        sys_mount::Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    flags.set(MountPropagationFlags::REC, reach == Reach::Tree);
    rustix::mount::mount_change("/", flags).doing(|| "set the propagation of the container's mounts")
}
