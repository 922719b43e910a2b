//! What the containers of a pod share: namespaces that each of their monitors holds, so that they live as long as any of
//! these does, whichever that is, and a `/dev/shm` that is mounted in the monitors' own mount namespaces alone. No process
//! exists for it, and the host's mounts do not change.
//!
//! A pod with users of its own, as that of an ordinary user, has one more: the user namespace that the others belong to
//! ([`owned`](super::owned)). Its `/dev/shm` is a mount namespace that has nothing else, since a monitor has no right to mount.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::mount::{Filesystem, attribute};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{net, path};
use rustix::fs::OFlags;

use super::error::{Doing, Error, Result};
use super::mounts::{self, Detached};
use super::others::leave_link;
use super::owned;
use crate::order::{NamespaceKind, Shared, SharedMemory, SharedNamespace};
use crate::place;
use crate::users::{Owner, Users, opened};

/// All kinds that a pod has.
const KINDS: [NamespaceKind; 6] = [
    NamespaceKind::User,
    NamespaceKind::Network,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Pid,
    NamespaceKind::Memory,
];

/// Namespaces that live at least as long as this does.
#[derive(Debug)]
pub(super) struct Held {
    _namespaces: Vec<OwnedFd>,
}

/// Opens or makes the namespaces, and leaves links to them in the run directory.
pub(super) fn hold(shared: &Shared, run_directory: &Path) -> Result<Held> {
    let mut held = Vec::new();
    let mut missing = Vec::new();
    for namespace in &shared.namespaces {
        match &namespace.from {
            Some(from) => held.push((namespace.kind, taken_over(namespace, from)?)),
            None => missing.push(namespace.kind),
        }
    }
    match &shared.users {
        None => {
            for kind in missing {
                held.push((kind, make(kind, shared)?));
            }
        }
        Some(users) => {
            make_owned(users, missing, shared, &mut held)?;
            check_owner(&held)?;
        }
    }
    for (kind, namespace) in &held {
        leave_link(&place::namespace(run_directory, *kind), namespace)?;
    }
    Ok(Held { _namespaces: held.into_iter().map(|(_, namespace)| namespace).collect() })
}

/// Opens a namespace that another process holds.
fn taken_over(namespace: &SharedNamespace, from: &Path) -> Result<OwnedFd> {
    let opened = path::open_host(from, OFlags::RDONLY);
    // It had its number before that was opened, so what was opened is its own.
    if namespace.holder.is_some_and(|holder| !holder.runs()) {
        let sentence = format!("who held the pod's namespace {} has ended", from.display());
        return Err(Error::Usage(sentence));
    }
    opened.doing(|| format!("open the pod's namespace {}", from.display()))
}

/// Makes what is missing of a pod with users of its own.
fn make_owned(
    users: &Users,
    mut missing: Vec<NamespaceKind>,
    shared: &Shared,
    held: &mut Vec<(NamespaceKind, OwnedFd)>,
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    missing.retain(|&kind| kind != NamespaceKind::User);
    // From there nothing of the host is found, which the others need.
    missing.sort_by_key(|&kind| kind == NamespaceKind::Memory);
    let found = held.iter().find(|(kind, _)| *kind == NamespaceKind::User);
    let (first, owner) = match found {
        Some((_, namespace)) => (None, Owner::Found(namespace.as_fd())),
        None => (Some(NamespaceKind::User), Owner::New(users)),
    };
    let made = owned::make(owner, &missing, shared)?;
    held.extend(first.into_iter().chain(missing).zip(made));
    Ok(())
}

/// Makes sure that all belong to one user namespace: over one of another pod, or the host's, its users have no rights.
fn check_owner(held: &[(NamespaceKind, OwnedFd)]) -> Result<()> {
    let doing = || "look whose the pod's namespaces are";
    let Some((_, user)) = held.iter().find(|(kind, _)| *kind == NamespaceKind::User) else {
        return Err(Error::Usage("the pod's user namespace is not there".into()));
    };
    let identity = |namespace: &OwnedFd| {
        rustix::fs::fstat(namespace).map(|found| (found.st_dev, found.st_ino)).doing(doing)
    };
    let user = identity(user)?;
    for (kind, namespace) in held.iter().filter(|(kind, _)| *kind != NamespaceKind::User) {
        let owner = namespace::owner(namespace.as_fd()).doing(doing)?;
        if owner.as_ref().map(identity).transpose()? != Some(user) {
            let kind = of_kernel(*kind).link();
            let sentence = format!(
                "the {kind} namespace does not belong to the pod's users: stop the pod, and start it again"
            );
            return Err(Error::Usage(sentence));
        }
    }
    Ok(())
}

/// Takes the links away: what they lead to ends with this process.
pub(super) fn forget(run_directory: &Path) {
    for kind in KINDS {
        drop(std::fs::remove_file(place::namespace(run_directory, kind)));
    }
}

/// Makes a namespace, and comes back from it.
fn make(kind: NamespaceKind, shared: &Shared) -> Result<OwnedFd> {
    let doing = || format!("make the pod's {} namespace", of_kernel(kind).link());
    if !matches!(kind, NamespaceKind::Network | NamespaceKind::Ipc | NamespaceKind::Uts) {
        return Err(Error::Usage(format!(
            "a namespace of type {} is not made by a monitor",
            of_kernel(kind).link()
        )));
    }
    let own = opened(of_kernel(kind)).doing(doing)?;
    namespace::unshare(of_kernel(kind)).doing(doing)?;
    settle(kind, shared)?;
    let made = opened(of_kernel(kind)).doing(doing)?;
    namespace::join(own.as_fd(), of_kernel(kind)).doing(|| "come back from the pod's namespace")?;
    Ok(made)
}

/// Makes a new namespace, in which this process is, what the pod's containers expect of it.
pub(super) fn settle(kind: NamespaceKind, shared: &Shared) -> Result<()> {
    if kind == NamespaceKind::Network {
        net::bring_loopback_up().doing(|| "bring the pod's loopback interface up")?;
    }
    if let (NamespaceKind::Uts, Some(name)) = (kind, &shared.hostname) {
        rustix::system::sethostname(name.as_bytes()).doing(|| format!("name the pod's host {name}"))?;
    }
    for (name, value) in shared.sysctls.iter().filter(|(name, _)| owner(name) == kind) {
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        std::fs::write(file, value).doing(|| format!("set the pod's kernel parameter {name} to {value}"))?;
    }
    Ok(())
}

/// Tells to which namespace a kernel parameter belongs; the engine has refused those that belong to none.
fn owner(sysctl: &str) -> NamespaceKind {
    if sysctl.starts_with("net.") {
        NamespaceKind::Network
    } else if matches!(sysctl, "kernel.domainname" | "kernel.hostname") {
        NamespaceKind::Uts
    } else {
        NamespaceKind::Ipc
    }
}

/// What the kernel calls it.
pub(super) fn of_kernel(kind: NamespaceKind) -> Kind {
    match kind {
        NamespaceKind::User => Kind::User,
        NamespaceKind::Network => Kind::Network,
        NamespaceKind::Ipc => Kind::Ipc,
        NamespaceKind::Uts => Kind::Uts,
        NamespaceKind::Pid => Kind::Pid,
        NamespaceKind::Memory => Kind::Mount,
    }
}

/// Gets the pod's file system in memory, as a tree that is attached nowhere, for a place in the run directory; nothing where
/// a namespace has it.
pub(super) fn memory(shared: &Shared, run_directory: &Path) -> Result<Option<Detached>> {
    let Some(memory) = shared.memory.as_ref().filter(|_| shared.users.is_none()) else {
        return Ok(None);
    };
    let at = run_directory.join(place::SHARED_MEMORY);
    let tree = match &memory.from {
        Some((process, other)) => mounts::copy_from(process, &other.join(place::SHARED_MEMORY))?,
        None => new_memory(memory)?,
    };
    Ok(Some(Detached { tree, at }))
}

/// Makes the pod's file system in memory, as a tree that is attached nowhere.
pub(super) fn new_memory(memory: &SharedMemory) -> Result<OwnedFd> {
    let SharedMemory { size, from: _, label } = memory;
    let doing = || "make the pod's /dev/shm";
    let filesystem = Filesystem::open("tmpfs").doing(doing)?;
    for (key, value) in [("source", "shm"), ("mode", "1777"), ("size", &size.to_string())] {
        filesystem.set(key, value).doing(doing)?;
    }
    if let Some(label) = label {
        filesystem.set("context", label).doing(|| format!("label the pod's /dev/shm as {label}"))?;
    }
    let attributes = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
    filesystem.mount(attributes).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_belongs_to_a_namespace() {
        for (name, kind) in [
            ("net.ipv4.ip_forward", NamespaceKind::Network),
            ("kernel.domainname", NamespaceKind::Uts),
            ("kernel.shmmax", NamespaceKind::Ipc),
            ("fs.mqueue.msg_max", NamespaceKind::Ipc),
        ] {
            assert_eq!(owner(name), kind, "{name}");
        }
    }
}
