//! Kernel parameters of a container.

use std::collections::BTreeMap;

use bulkhead_shim::users::IdMapping;
use bulkhead_spec::{Namespace, NamespaceType};

use super::namespaces::Decided;
use super::{Scene, invalid};
use crate::error::Result;
use crate::request::Network;

/// Parameters of the IPC namespace, ipc_namespaces(7).
const IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg_next_id",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Decides the parameters: those that were asked for, and docker's two that let everybody ping and take low ports, in a network
/// of the container's own.
///
/// # Errors
/// One that would change the host, or a container whose namespaces are shared.
pub(super) fn decide(scene: &Scene<'_>, namespaces: &Decided) -> Result<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    let is_own =
        !matches!(scene.request.namespaces.network, Network::Host | Network::Container(_) | Network::Pod);
    if is_own {
        parameters.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        // A user namespace has so many groups as its map begins with.
        let last = scene.users.map_or(Some(i32::MAX.cast_unsigned()), |users| last_of(&users.gids));
        if let Some(last) = last {
            parameters.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
        }
    }
    for (key, value) in &scene.request.sysctls {
        check(key, namespaces)?;
        parameters.insert(key.clone(), value.clone());
    }
    if let Some(domain) = &scene.request.domainname {
        let key = "kernel.domainname";
        if parameters.get(key).is_some_and(|other| other != domain) {
            return Err(invalid(
                format!("--sysctl {key}"),
                "--domainname says another; leave one of them out",
            ));
        }
        if !namespaces.own_uts {
            return Err(invalid(
                format!("--domainname {domain}"),
                "the container shares its name with another: leave --uts out",
            ));
        }
    }
    Ok(parameters)
}

/// Checks the parameters of a pod whose containers share these namespaces, made for them.
///
/// # Errors
/// One that would change the host.
pub(crate) fn check_of_pod<'a>(
    keys: impl Iterator<Item = &'a String>,
    shared: &[NamespaceType],
) -> Result<()> {
    let own = |kind: &NamespaceType| Namespace { kind: *kind, path: None };
    let namespaces = Decided { list: shared.iter().map(own).collect(), own_uts: false };
    let outside = |key: &String| {
        let reason =
            "the pod's containers share no namespace that it belongs to: --share says which they share";
        invalid(format!("--sysctl {key}"), reason)
    };
    keys.into_iter().try_for_each(|key| check(key, &namespaces).map_err(|_| outside(key)))
}

fn check(key: &str, namespaces: &Decided) -> Result<()> {
    let what = || format!("--sysctl {key}");
    let dotted = key.replace('/', ".");
    if dotted.split('.').any(str::is_empty) {
        return Err(invalid(what(), "expected the name of a kernel parameter, such as net.core.somaxconn"));
    }
    let (kind, flag) = match dotted.as_str() {
        "kernel.hostname" => return Err(invalid(what(), "use --hostname instead")),
        "kernel.domainname" => (NamespaceType::Uts, "--uts host"),
        name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => (NamespaceType::Ipc, "--ipc host"),
        name if name.starts_with("net.") => (NamespaceType::Network, "--network host"),
        name if name.starts_with("user.") => (NamespaceType::User, "--userns host"),
        _ => {
            let reason =
                "no container has it for itself: it would change the host; set it there, with sysctl(8)";
            return Err(invalid(what(), reason));
        }
    };
    if !namespaces.has(kind) {
        return Err(invalid(what(), format!("with {flag} it would change the host; leave one of them out")));
    }
    Ok(())
}

/// Returns the last of the ids that a map has from 0 on without a gap, as far as they are positive numbers of 32 bits.
fn last_of(map: &[IdMapping]) -> Option<u32> {
    let mut next = 0_u32;
    while let Some(range) = map.iter().find(|range| range.container_id == next && range.size > 0) {
        next = next.checked_add(range.size).filter(|next| *next <= i32::MAX.cast_unsigned())?;
    }
    next.checked_sub(1)
}
