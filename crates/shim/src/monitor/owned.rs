//! Namespaces of a pod whose users are not the host's: they belong to its user namespace, and a child makes them
//! ([`users::make`]).

use std::os::fd::OwnedFd;
use std::path::Path;

use bulkhead_sys::mount::{self, OldMounts};
use bulkhead_sys::namespace::{self, Kind};
use rustix::fs::OFlags;

use super::error::{Doing, Error, Result};
use super::shared::{new_memory, of_kernel, settle};
use crate::causes::chain;
use crate::order::{NamespaceKind, Shared};
use crate::users::{self, Owner, opened};

/// Makes namespaces of these kinds that belong to a user namespace, and returns them in the same order, after the user
/// namespace if that is new.
///
/// # Errors
/// Ids that cannot be mapped, a limit of namespaces, a kernel parameter that cannot be set.
pub(super) fn make(owner: Owner<'_>, kinds: &[NamespaceKind], shared: &Shared) -> Result<Vec<OwnedFd>> {
    let made =
        users::make(owner, || make_here(kinds, shared)).map_err(|error| Error::Usage(chain(&error)))?;
    let expected = kinds.len() + usize::from(matches!(owner, Owner::New(_)));
    match made.len() == expected {
        true => Ok(made),
        false => Err(Error::Usage("the pod's namespaces did not arrive".into())),
    }
}

/// The child's work.
fn make_here(kinds: &[NamespaceKind], shared: &Shared) -> Result<Vec<OwnedFd>> {
    let mut made = Vec::new();
    for &kind in kinds {
        let doing = || format!("make the pod's {} namespace", of_kernel(kind).link());
        match kind {
            NamespaceKind::Memory => made.push(memory(shared)?),
            NamespaceKind::Network | NamespaceKind::Ipc | NamespaceKind::Uts => {
                namespace::unshare(of_kernel(kind)).doing(doing)?;
                settle(kind, shared)?;
                made.push(opened(of_kernel(kind)).doing(doing)?);
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
    let made = opened(Kind::Mount).doing(doing)?;
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
