//! Which namespaces are made, joined and shared.

use bulkhead_shim::order::NamespaceKind;
use bulkhead_shim::place;
use bulkhead_spec::{Namespace, NamespaceType};

use super::mounts::text;
use super::{CgroupVersion, Scene, Users, invalid};
use crate::error::Result;
use crate::request::{CgroupNamespace, Ipc, Network, Pid, UserNamespace, Uts};

/// What was decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// The configuration's list.
    pub(super) list: Vec<Namespace>,
    /// The host name is the container's own.
    pub(super) own_uts: bool,
}

impl Decided {
    /// Tells whether a namespace of this kind is not the host's.
    pub(super) fn has(&self, kind: NamespaceType) -> bool {
        self.list.iter().any(|namespace| namespace.kind == kind)
    }
}

/// Decides the namespaces.
///
/// # Errors
/// A container whose namespaces are to be shared and that does not run.
pub(super) fn decide(scene: &Scene<'_>) -> Result<Decided> {
    let asked = &scene.request.namespaces;
    let mut list = vec![own(NamespaceType::Mount)];
    let join = |flag: &str, name: &str, kind: NamespaceType, shared: NamespaceKind| {
        if !scene.peers.contains_key(name) {
            let reason = "that container does not run; start it first";
            return Err(invalid(format!("{flag} container:{name}"), reason));
        }
        Ok(Namespace { kind, path: Some(text(&place::joined(scene.links, shared))?) })
    };
    let of_pod = |kind: NamespaceType, shared: NamespaceKind| {
        scene.pod.ok_or_else(|| invalid("namespaces", "the container is in no pod"))?;
        Result::Ok(Namespace { kind, path: Some(text(&place::namespace(scene.links, shared))?) })
    };
    match &asked.network {
        // Whose users are its own has a namespace of theirs, which is connected once it is there.
        Network::Networks(some) if !some.is_empty() && scene.users.is_none() => {
            let path = text(&place::namespace(scene.links, NamespaceKind::Network))?;
            list.push(Namespace { kind: NamespaceType::Network, path: Some(path) });
        }
        // That in which the runtime is called.
        Network::Carried(_) if scene.is_within() => {
            let path = Some("/proc/self/ns/net".to_owned());
            list.push(Namespace { kind: NamespaceType::Network, path });
        }
        Network::Default | Network::None | Network::Networks(_) | Network::Carried(_) => {
            list.push(own(NamespaceType::Network));
        }
        Network::Host => {}
        Network::Container(name) => {
            list.push(join("--network", name, NamespaceType::Network, NamespaceKind::Network)?);
        }
        Network::Pod => list.push(of_pod(NamespaceType::Network, NamespaceKind::Network)?),
    }
    match &asked.uts {
        Uts::Private => list.push(own(NamespaceType::Uts)),
        Uts::Host => {}
        Uts::Container(name) => list.push(join("--uts", name, NamespaceType::Uts, NamespaceKind::Uts)?),
        Uts::Pod => list.push(of_pod(NamespaceType::Uts, NamespaceKind::Uts)?),
    }
    match &asked.pid {
        Pid::Private => list.push(own(NamespaceType::Pid)),
        Pid::Host if scene.is_within() => {
            let reason = "a runtime of others runs as the container's users, and would be seen among the host's processes: leave one of \
                          both out";
            return Err(invalid("--pid host with --runtime", reason));
        }
        Pid::Host => {}
        Pid::Container(name) => list.push(join("--pid", name, NamespaceType::Pid, NamespaceKind::Pid)?),
        Pid::Pod => list.push(of_pod(NamespaceType::Pid, NamespaceKind::Pid)?),
    }
    match &asked.ipc {
        Ipc::None | Ipc::Private | Ipc::Shareable => list.push(own(NamespaceType::Ipc)),
        Ipc::Host => {}
        Ipc::Container(name) => list.push(join("--ipc", name, NamespaceType::Ipc, NamespaceKind::Ipc)?),
        Ipc::Pod => list.push(of_pod(NamespaceType::Ipc, NamespaceKind::Ipc)?),
    }
    let of_host = scene.request.security.privileged && scene.facts.cgroups.version == CgroupVersion::V1;
    match asked.cgroup {
        Some(CgroupNamespace::Private) => list.push(own(NamespaceType::Cgroup)),
        Some(CgroupNamespace::Host) => {}
        None if of_host => {}
        None => list.push(own(NamespaceType::Cgroup)),
    }
    match (&asked.user, scene.users) {
        (Some(UserNamespace::Container(name)), users) => {
            let joined = join("--userns", name, NamespaceType::User, NamespaceKind::User)?;
            // One that has the host's users shares these: nobody can join what he is in.
            list.extend(users.map(|_| joined));
        }
        (Some(UserNamespace::Pod), Some(_)) => {
            list.push(of_pod(NamespaceType::User, NamespaceKind::User)?);
        }
        (asked, Some(users)) if scene.is_within() => check_root(asked.as_ref(), users)?,
        (_, Some(_)) => list.push(own(NamespaceType::User)),
        // Never root of the host who asked not to be.
        (Some(asked), None) if *asked != UserNamespace::Host => {
            let reason = "the container's record knows no users of its own: make it anew";
            return Err(invalid("--userns", reason));
        }
        (_, None) => {}
    }
    Ok(Decided { list, own_uts: asked.uts == Uts::Private })
}

/// Refuses users without a root, as whom a runtime of others runs.
fn check_root(asked: Option<&UserNamespace>, users: &Users) -> Result<()> {
    if users.on_host(0, 0).is_some() {
        return Ok(());
    }
    let (flag, way_out) = match asked {
        Some(UserNamespace::Map { .. }) => ("--uidmap", "map id 0 of users and of groups, too"),
        _ => ("--userns keep-id", "have further ids in /etc/subuid and /etc/subgid"),
    };
    let reason = format!(
        "a runtime of others runs as root of the container's users, and these have none: {way_out}, or leave --runtime out"
    );
    Err(invalid(format!("{flag} with --runtime"), reason))
}

fn own(kind: NamespaceType) -> Namespace {
    Namespace { kind, path: None }
}
