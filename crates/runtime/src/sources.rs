//! Trees of mounts of the host that become a container's: sources of bind mounts, and the root.
//!
//! Outside a user namespace the container's process opens them itself. In one it may not walk to all of them, so its
//! parent lends it what only the host can open. The parent opens that in the *container's* mount namespace, as it was
//! born and before anything in it has changed: there all is locked that the host has set, so that a root user of the
//! container cannot make writable what is read-only on the host, nor take a submount off to see what it hides
//! (mount_namespaces(7), "Restrictions on mount namespaces"). A tree from the parent's own namespace has no such locks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sys::mount::{Reach, clone_tree, is_by_remount, set_attributes};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::path;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::birth::own_namespace;
use crate::clone::Child;
use crate::error::{Doing, Error, Result};
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::mounts::{IdMap, Link, Mount, Source};
use crate::{handshake, host, idmap, mount, overlay};

/// Trees by the place that they are for.
pub(crate) type Trees = Vec<(Place, OwnedFd)>;

/// What a tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The container's root.
    Root,
    /// The mount with this number.
    Mount(u32),
}

/// Who opens the sources of a container's mounts, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The container's process, but for what only the parent can map; that, before it is born.
    ByChild,
    /// The parent, before the child is born, for a mount namespace that somebody else has made.
    ByParent,
    /// The parent, in the child's new mount namespace.
    InNewNamespace,
}

impl Opened {
    /// Decides it for a parent that has the host's rights, or has not.
    pub(crate) fn of(plan: &Plan, has_rights: bool) -> Self {
        match (plan.namespaces.has(Kind::User) && has_rights, plan.namespaces.is_new(Kind::Mount)) {
            (false, _) => Self::ByChild,
            (true, false) => Self::ByParent,
            (true, true) => Self::InNewNamespace,
        }
    }
}

/// Opens, before the child is born, what has to be opened then; by number of the mount.
///
/// # Errors
/// A source that is not there, ids that cannot be mapped.
pub(crate) fn prepare(plan: &Plan, opened: Opened) -> Result<Vec<Option<OwnedFd>>> {
    let prepare = |mount: &Mount| match &mount.source {
        Source::Bind { idmap, .. } if opened == Opened::ByParent || idmap.is_some() => match opened {
            Opened::InNewNamespace => Ok(None),
            Opened::ByChild | Opened::ByParent => open(plan, mount),
        },
        // The container's process opens it, and here is only what maps its ids; in a user namespace that has to ask.
        Source::Inside { idmap: Some(idmap), .. } if !plan.namespaces.has(Kind::User) => {
            idmap::namespace_of(&idmap.by).map(Some)
        }
        // Only here it is certain that the path can be walked; the container's process goes there.
        Source::Namespace { path } => path::open_host(path, OFlags::RDONLY)
            .map(Some)
            .doing(|| format!("open the mount namespace {}", path.display())),
        _ => Ok(None),
    };
    let mounts = plan.mounts.iter().enumerate();
    mounts.map(|(index, mount)| prepare(mount).map_err(|error| located(error, index))).collect()
}

/// Opens the root, before the child is born, if it has to be opened then.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn prepare_root(plan: &Plan, opened: Opened) -> Result<Option<OwnedFd>> {
    let Some(overlay) = plan.root.overlay.as_ref().filter(|_| opened != Opened::ByChild) else {
        return if opened == Opened::ByParent { open_root(plan) } else { Ok(None) };
    };
    if let Some(by) = &plan.root.layers {
        return overlay::mount_mapped(overlay, by, &plan.root.path).map(Some);
    }
    // A user namespace may mount one itself only since Linux 5.11.
    match overlay::mount(overlay, overlay::Attributes::Trusted)? {
        None => overlay::mount_joined(overlay, overlay::Attributes::Trusted),
        tree => Ok(tree),
    }
}

/// Lends the child what it cannot open itself.
///
/// # Errors
/// As [`prepare`], and a mount namespace that cannot be left again.
pub(crate) fn lend(plan: &Plan, child: &Child, socket: &handshake::Parent, log: &Log) -> Result<()> {
    let trees = match Visit::pay(child) {
        Ok(visit) => {
            let trees = visit.take_root().and_then(|()| open_all(plan));
            visit.end()?;
            trees?
        }
        Err(error) => {
            let trees = open_all(plan)?;
            if !trees.is_empty() {
                let why = crate::error::chain(&error).join(": ");
                log.warn(format!(
                    "root of the container could undo what the host has set for mounts that it gets: {why}"
                ));
            }
            trees
        }
    };
    socket.lend(&trees)
}

fn open_all(plan: &Plan) -> Result<Trees> {
    let mut trees = Vec::new();
    if plan.root.overlay.is_none() {
        trees.extend(open_root(plan)?.map(|tree| (Place::Root, tree)));
    }
    for (index, mount) in plan.mounts.iter().enumerate() {
        let tree = open(plan, mount).map_err(|error| located(error, index))?;
        trees.extend(tree.map(|tree| (Place::Mount(index as u32), tree)));
    }
    Ok(trees)
}

fn located(error: Error, index: usize) -> Error {
    error.at(&format!("/mounts/{index}"))
}

/// Opens the source of a mount, if it is one of the host's, and maps its ids where they are to be mapped.
fn open(plan: &Plan, mount: &Mount) -> Result<Option<OwnedFd>> {
    let Source::Bind { path, reach, idmap, link } = &mount.source else { return Ok(None) };
    if link.content(path).is_some() {
        return Ok(None);
    }
    let tree = match idmap {
        None => open_early(path, *reach)?,
        // Only here can its ids be mapped.
        Some(_) => Some(mount::open_source(path, *reach)?),
    };
    if let Some(tree) = &tree {
        cut_off(plan, tree)?;
        idmap.iter().try_for_each(|idmap| map(tree, idmap, path))?;
    }
    Ok(tree)
}

impl Link {
    /// What a link says that is to be copied; `None` for what is to be mounted.
    pub(crate) fn content(self, source: &Path) -> Option<PathBuf> {
        if self == Self::Copied { std::fs::read_link(source).ok() } else { None }
    }
}

fn open_root(plan: &Plan) -> Result<Option<OwnedFd>> {
    let tree = open_early(&plan.root.path, Reach::Tree)?;
    tree.iter().try_for_each(|tree| cut_off(plan, tree))?;
    Ok(tree)
}

/// Opens a source in the present mount namespace. That may belong to somebody else, as where the runtime is root only in
/// a user namespace; then the container's process opens the source in its own.
fn open_early(path: &Path, reach: Reach) -> Result<Option<OwnedFd>> {
    match mount::open_source(path, reach) {
        Err(Error::System { source, .. }) if source.errno() == Errno::PERM => Ok(None),
        Err(Error::System { doing, source }) if source.errno() == Errno::INVAL && reach == Reach::Mount => {
            let why = "a user namespace may not see what its submounts hide, so use rbind";
            Err(Error::System { doing: format!("{doing} ({why})"), source })
        }
        other => other.map(Some),
    }
}

/// Makes a tree of the runtime's mount namespace what a copy of it would be in the container's. Where the kernel changes
/// attached mounts only, the container's process does that once it has attached it.
fn cut_off(plan: &Plan, tree: &OwnedFd) -> Result<()> {
    match mount::cut_off(tree.as_fd(), mount::cut_of(plan), set_attributes) {
        Err(_) if is_by_remount() => Ok(()),
        other => other,
    }
}

/// Opens a source in the present mount namespace, with its ids mapped.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn open_mapped(path: &Path, reach: Reach, idmap: &IdMap) -> Result<OwnedFd> {
    let tree = mount::open_source(path, reach)?;
    map(&tree, idmap, path)?;
    Ok(tree)
}

fn map(tree: &OwnedFd, IdMap { by, reach }: &IdMap, path: &Path) -> Result<()> {
    idmap::map_tree(tree, idmap::namespace_of(by)?.as_fd(), *reach, path)
}

/// Maps the ids of a tree that the child has opened in the container, for the mount with this number.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn map_for_child(plan: &Plan, tree: &OwnedFd, number: u32) -> Result<()> {
    let index = number as usize;
    match plan.mounts.get(index).map(|mount| &mount.source) {
        Some(Source::Inside { path, idmap: Some(idmap), .. }) => {
            map(tree, idmap, path).map_err(|error| located(error, index))
        }
        _ => Err(Error::Usage(format!("no ids are to be mapped in mount {number}"))),
    }
}

/// Opens the root of another mount namespace as a tree that is attached nowhere.
///
/// # Errors
/// EPERM without rights over that namespace, or over the caller's own. The caller may be there then, and has to end.
pub(crate) fn open_root_of(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let home = Home::of_caller()?;
    // Who has no way back does not go.
    home.enter()?;
    namespace::join(namespace, Kind::Mount).doing(|| "enter another mount namespace")?;
    let tree = clone_tree(&open_directory("/")?, Path::new(""), Reach::Mount);
    home.enter()?;
    tree.doing(|| "bind the root of another mount namespace")
}

fn open_directory(path: &str) -> Result<OwnedFd> {
    path::open_host(Path::new(path), OFlags::PATH | OFlags::DIRECTORY).doing(|| format!("open {path}"))
}

/// The way back from another mount namespace.
struct Home {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Home {
    fn of_caller() -> Result<Self> {
        Ok(Self {
            namespace: own_namespace(Kind::Mount)?,
            root: open_directory("/")?,
            directory: open_directory(".")?,
        })
    }

    fn enter(&self) -> Result<()> {
        namespace::join(self.namespace.as_fd(), Kind::Mount)
            .doing(|| "return to the runtime's mount namespace")?;
        enter(&self.root, &self.directory)
    }
}

/// A stay in the mount namespace of another process.
struct Visit {
    /// The root there.
    there: OwnedFd,
    home: Home,
}

impl Visit {
    /// Begins it. After an error the runtime is where it was.
    fn pay(child: &Child) -> Result<Self> {
        let there = open_directory(&format!("/proc/{}/root", child.pid))?;
        let visit = Self { there, home: Home::of_caller()? };
        if !host::is_real_root()? {
            // Whoever is root of a user namespace only may have no way back.
            visit.home.enter()?;
        }
        namespace::join_process(&child.pidfd, &[Kind::Mount])
            .doing(|| "enter the container's mount namespace")?;
        Ok(visit)
    }

    /// Makes the child's root that of the runtime, too, as it may not be that of the whole mount namespace.
    fn take_root(&self) -> Result<()> {
        enter(&self.there, &self.there)
    }

    fn end(self) -> Result<()> {
        self.home.enter()
    }
}

/// Makes `root` the root, and `directory` the working directory.
fn enter(root: &OwnedFd, directory: &OwnedFd) -> Result<()> {
    let doing = || "come to a root";
    rustix::process::fchdir(root).doing(doing)?;
    rustix::process::chroot(".").doing(doing)?;
    rustix::process::fchdir(directory).doing(doing)
}
