//! What the containers of a pod share: namespaces that each of their monitors holds, so that they live as long as any of
//! these does, whichever that is, and a `/dev/shm` that is mounted in the monitors' own mount namespaces alone. No process
//! exists for it, and the host's mounts do not change.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::mount::{Filesystem, attribute};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{net, path};
use rustix::fs::OFlags;

use super::error::{Doing, Error, Result};
use super::mounts::{self, Detached};
use super::others::leave_link;
use crate::order::{NamespaceKind, Shared, SharedMemory};
use crate::place;

/// All kinds that a pod has.
const KINDS: [NamespaceKind; 4] =
    [NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts, NamespaceKind::Pid];

/// Namespaces that live at least as long as this does.
#[derive(Debug)]
pub(super) struct Held {
    _namespaces: Vec<OwnedFd>,
}

/// Opens or makes the namespaces, and leaves links to them in the run directory.
pub(super) fn hold(shared: &Shared, run_directory: &Path) -> Result<Held> {
    let mut held = Vec::new();
    for namespace in &shared.namespaces {
        let descriptor = match &namespace.from {
            Some(from) => {
                let opened = path::open_host(from, OFlags::RDONLY);
                // It had its number before that was opened, so what was opened is its own.
                if namespace.holder.is_some_and(|holder| !holder.runs()) {
                    let sentence = format!("who held the pod's namespace {} has ended", from.display());
                    return Err(Error::Usage(sentence));
                }
                opened.doing(|| format!("open the pod's namespace {}", from.display()))?
            }
            None => make(namespace.kind, shared)?,
        };
        leave_link(&place::namespace(run_directory, namespace.kind), &descriptor)?;
        held.push(descriptor);
    }
    Ok(Held { _namespaces: held })
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
    if matches!(kind, NamespaceKind::Pid | NamespaceKind::User) {
        return Err(Error::Usage("a namespace of processes or users is not made by a monitor".into()));
    }
    let own = opened(kind).doing(doing)?;
    namespace::unshare(of_kernel(kind)).doing(doing)?;
    match kind {
        NamespaceKind::Network => {
            net::bring_loopback_up().doing(|| "bring the pod's loopback interface up")?;
        }
        NamespaceKind::Uts => {
            if let Some(name) = &shared.hostname {
                rustix::system::sethostname(name.as_bytes())
                    .doing(|| format!("name the pod's host {name}"))?;
            }
        }
        NamespaceKind::Ipc | NamespaceKind::Pid | NamespaceKind::User => {}
    }
    for (name, value) in shared.sysctls.iter().filter(|(name, _)| owner(name) == kind) {
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        std::fs::write(file, value).doing(|| format!("set the pod's kernel parameter {name} to {value}"))?;
    }
    let made = opened(kind).doing(doing)?;
    namespace::join(own.as_fd(), of_kernel(kind)).doing(|| "come back from the pod's namespace")?;
    Ok(made)
}

/// Opens the namespace that this process is in.
fn opened(kind: NamespaceKind) -> bulkhead_sys::Result<OwnedFd> {
    let path = Path::new("/proc/self/ns").join(of_kernel(kind).link());
    path::open_host(&path, OFlags::RDONLY)
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

pub(super) fn of_kernel(kind: NamespaceKind) -> Kind {
    match kind {
        NamespaceKind::User => Kind::User,
        NamespaceKind::Network => Kind::Network,
        NamespaceKind::Ipc => Kind::Ipc,
        NamespaceKind::Uts => Kind::Uts,
        NamespaceKind::Pid => Kind::Pid,
    }
}

/// Gets the pod's file system in memory, as a tree that is attached nowhere, for a place in the run directory.
pub(super) fn memory(shared: &SharedMemory, run_directory: &Path) -> Result<Detached> {
    let at = run_directory.join(place::SHARED_MEMORY);
    let tree = match &shared.from {
        Some((process, other)) => mounts::copy_from(process, &other.join(place::SHARED_MEMORY))?,
        None => {
            let doing = || "make the pod's /dev/shm";
            let filesystem = Filesystem::open("tmpfs").doing(doing)?;
            for (key, value) in [("source", "shm"), ("mode", "1777"), ("size", &shared.size.to_string())] {
                filesystem.set(key, value).doing(doing)?;
            }
            let attributes = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
            filesystem.mount(attributes).doing(doing)?
        }
    };
    Ok(Detached { tree, at })
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
