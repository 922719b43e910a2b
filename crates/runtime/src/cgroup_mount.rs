//! The container's `/sys/fs/cgroup`: its own part of every hierarchy and nothing else.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_cgroup::{Version, View};
use bulkhead_sys::mount::{self as sys_mount, Attributes, Filesystem, Propagation, Reach, attribute};
use rustix::fs::Mode;

use crate::error::{Doing, Result};
use crate::mount::{self, Context, Set};
use crate::plan::mounts::Mount;
use crate::target;

/// Mounts the container's view of its control groups.
///
/// The parts are clones of the host's mounts at the container's own cgroup. In a cgroup namespace that is its root, so
/// nothing above it is visible; without one the path is, as under runc, but nothing else.
///
/// # Errors
/// The destination and the call that failed.
pub(crate) fn perform(context: &Context<'_>, mount: &Mount) -> Result<()> {
    let doing = || format!("mount the control groups at {}", mount.destination.display());
    let target = target::directory(context.root, &mount.destination)?;
    // A clone would follow the host's mount, as it is the slave of a shared one. It has nothing to hear from there, and CRIU
    // writes no image of a mount whose master it cannot see.
    let attributes = Attributes::new(mount.attributes.set, mount.attributes.clear);
    let attributes = attributes.with_propagation(Propagation::Private);
    match context.cgroups {
        [only] if only.version == Version::V2 => {
            let tree = part(only).doing(doing)?;
            let change = |set: Set| {
                alter(&tree, attributes, set).doing(doing)?;
                mount::settle(tree.as_fd(), mount, set)?;
                close_foreign(context, &tree, set).doing(doing)
            };
            mount::place(&change, &|| sys_mount::attach(&tree, &target), &doing)?;
            context.spent.take(tree);
        }
        // Beside v1, the v2 hierarchy has no controller that a program would look for: left out, as in runc.
        views => {
            let views = views.iter().filter(|view| view.version == Version::V1).collect::<Vec<_>>();
            let tmpfs = Filesystem::open("tmpfs").doing(doing)?;
            tmpfs.set("mode", "755").doing(doing)?;
            let base = tmpfs.mount(mount.attributes.set & !attribute::RDONLY).doing(doing)?;
            furnish(&base, &views).doing(doing)?;
            sys_mount::attach(&base, &target).doing(doing)?;
            for view in views {
                let tree = part(view).doing(doing)?;
                let attach = || sys_mount::attach_at(&tree, base.as_fd(), Path::new(&view.name));
                mount::place(&|set| alter(&tree, attributes, set).doing(doing), &attach, &doing)?;
                context.spent.take(tree);
            }
            if mount.attributes.set & attribute::RDONLY != 0 {
                let readonly = Attributes::new(attribute::RDONLY, 0);
                sys_mount::set_attached(base.as_fd(), readonly, Reach::Mount).doing(doing)?;
            }
            // Only now, so that what is recursive reaches the parts.
            mount::settle(base.as_fd(), mount, sys_mount::set_attached)?;
            close_foreign(context, &base, sys_mount::set_attached).doing(doing)?;
            context.spent.take(tmpfs);
            context.spent.take(base);
        }
    }
    context.spent.take(target);
    Ok(())
}

/// Closes a view of somebody else's cgroups, whatever the configuration says (CVE-2023-25809).
fn close_foreign(context: &Context<'_>, tree: &OwnedFd, set: Set) -> bulkhead_sys::Result<()> {
    if !context.cgroups.iter().any(|view| view.is_foreign) {
        return Ok(());
    }
    set(tree.as_fd(), Attributes::new(attribute::RDONLY, 0), Reach::Tree)
}

/// Makes the directories and links that the parts need, in a tmpfs that nobody else has seen yet.
fn furnish(base: &OwnedFd, views: &[&View]) -> rustix::io::Result<()> {
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    for view in views {
        rustix::fs::mkdirat(base, view.name.as_str(), mode)?;
        for link in &view.links {
            rustix::fs::symlinkat(view.name.as_str(), base, link.as_str())?;
        }
    }
    Ok(())
}

/// Clones the mount at a cgroup of the container; its path is the runtime's own making, so it is walked as a string.
fn part(view: &View) -> bulkhead_sys::Result<OwnedFd> {
    sys_mount::clone_tree(rustix::fs::CWD, Path::new(&view.source), Reach::Mount)
}

fn alter(part: &OwnedFd, attributes: Attributes, set: Set) -> bulkhead_sys::Result<()> {
    set(part.as_fd(), attributes, Reach::Mount)
}
