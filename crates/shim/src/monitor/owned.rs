//! Namespaces that belong to a user namespace, for a pod whose users are not the host's.
//!
//! A process that enters a user namespace cannot come back from it. So a child does that, makes the others there, and hands
//! all over by descriptors:
//!
//! ```text
//! monitor                              child
//!    │ ◄──────────── "" ─────────────── unshare(CLONE_NEWUSER)        or, where the user namespace is there:
//!    │ newuidmap, newgidmap                                           hides from ptrace(2), setns(2)
//!    │ ───────────── "" ──────────────► becomes its root
//!    │ ◄── descriptors, or an error ─── unshare(2) of each other kind
//! ```
//! In a new user namespace nobody else is who could trace the child; in one that is there containers are.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::mount::{self, OldMounts};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{credentials, message, offspring};
use rustix::fs::OFlags;

use super::error::{Doing, Error, Result, chain};
use super::shared::{new_memory, opened, settle};
use crate::order::{NamespaceKind, Shared};
use crate::users::{self, Users};

/// What the child says when all went well.
const DONE: &[u8] = b".";

/// The most bytes of an error.
const LONGEST: usize = 4096;

/// The user namespace that others are made in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner<'a> {
    /// It is there.
    Found(BorrowedFd<'a>),
    /// It is made, with these ids.
    New(&'a Users),
}

/// Makes namespaces of these kinds that belong to a user namespace, and returns them in the same order, after the user
/// namespace if that is new.
///
/// # Errors
/// Ids that cannot be mapped, a limit of namespaces, a kernel parameter that cannot be set.
pub(super) fn make(owner: Owner<'_>, kinds: &[NamespaceKind], shared: &Shared) -> Result<Vec<OwnedFd>> {
    let doing = || "make the pod's namespaces";
    let (ours, theirs) = message::pair().doing(doing)?;
    let child = offspring::fork(|| {
        let made = enter(owner, &theirs).and_then(|()| make_here(owner, kinds, shared));
        let told = match &made {
            Ok(made) => message::send(&theirs, DONE, &made.iter().map(AsFd::as_fd).collect::<Vec<_>>()),
            Err(error) => {
                let text = chain(error);
                message::send(&theirs, &text.as_bytes()[..text.len().min(LONGEST)], &[])
            }
        };
        u8::from(made.is_err() || told.is_err())
    })
    .doing(doing)?;
    drop(theirs);
    if let Owner::New(ids) = owner {
        hear(&ours)?;
        users::map(child.pid(), ids).map_err(|error| Error::Usage(chain(&error)))?;
        message::send(&ours, DONE, &[]).doing(doing)?;
    }
    let made = hear(&ours)?;
    child.wait().doing(doing)?;
    let expected = kinds.len() + usize::from(matches!(owner, Owner::New(_)));
    match made.len() == expected {
        true => Ok(made),
        false => Err(Error::Usage("the pod's namespaces did not arrive".into())),
    }
}

/// Hears what the child says: descriptors, or why there are none.
fn hear(socket: &OwnedFd) -> Result<Vec<OwnedFd>> {
    let said = message::receive(socket, LONGEST).doing(|| "make the pod's namespaces")?;
    match &*said.bytes {
        DONE => Ok(said.descriptors),
        [] => Err(Error::Usage("the process that makes the pod's namespaces was killed".into())),
        text => Err(Error::Usage(String::from_utf8_lossy(text).into_owned())),
    }
}

/// Enters the user namespace, as its root if that has one.
fn enter(owner: Owner<'_>, maker: &OwnedFd) -> Result<()> {
    match owner {
        Owner::Found(namespace) => {
            credentials::set_dumpable(false).doing(|| "hide from ptrace")?;
            namespace::join(namespace, Kind::User).doing(|| "enter the pod's user namespace")?;
        }
        Owner::New(_) => {
            namespace::unshare(Kind::User).doing(|| {
                "make the pod's user namespace: see the kernel parameters user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns"
            })?;
            message::send(maker, DONE, &[]).doing(|| "make the pod's user namespace")?;
            hear(maker)?;
        }
    }
    // Files and kernel parameters belong to root there. A map without root has none, and then to whoever this is.
    let _ = credentials::set_gid(0);
    let _ = credentials::set_uid(0);
    Ok(())
}

fn make_here(owner: Owner<'_>, kinds: &[NamespaceKind], shared: &Shared) -> Result<Vec<OwnedFd>> {
    let mut made = Vec::new();
    if matches!(owner, Owner::New(_)) {
        made.push(opened(NamespaceKind::User).doing(|| "open the pod's user namespace")?);
    }
    for &kind in kinds {
        let doing = || format!("make the pod's {} namespace", super::shared::of_kernel(kind).link());
        match kind {
            NamespaceKind::Memory => made.push(memory(shared)?),
            NamespaceKind::Network | NamespaceKind::Ipc | NamespaceKind::Uts => {
                namespace::unshare(super::shared::of_kernel(kind)).doing(doing)?;
                settle(kind, shared)?;
                made.push(opened(kind).doing(doing)?);
            }
            NamespaceKind::Pid | NamespaceKind::User => {
                return Err(Error::Usage("a namespace of processes is not made by a monitor".into()));
            }
        }
    }
    Ok(made)
}

/// Makes a mount namespace that has a file system in memory and nothing of the host. It is the last that is made: nothing of
/// the host is found afterwards.
fn memory(shared: &Shared) -> Result<OwnedFd> {
    let doing = || "make the pod's /dev/shm";
    namespace::unshare(Kind::Mount).doing(doing)?;
    let made = opened(NamespaceKind::Memory).doing(doing)?;
    let Some(memory) = &shared.memory else {
        return Err(Error::Usage("the order does not say how large the pod's /dev/shm is".into()));
    };
    let tree = new_memory(memory)?;
    let root =
        bulkhead_sys::path::open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
    mount::attach(&tree, &root).doing(doing)?;
    // Whoever joins comes to what is mounted last on the root. What lies below is the host's, and goes, since nobody should be
    // kept from unmounting it there; from a root in a ramfs nothing can go, and nothing there can be unmounted.
    match mount::pivot_root(&tree, OldMounts::Receiving) {
        Err(error) if error.errno() == rustix::io::Errno::INVAL => {}
        left => left.doing(doing)?,
    }
    Ok(made)
}
