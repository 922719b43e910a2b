//! What is asked for when a pod is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bulkhead_shim::order::NamespaceKind;
use serde::{Deserialize, Serialize};

use crate::request::{Hosts, Malformed, Network, Publishing, Resources, Size, UserNamespace};

/// All that can be asked of a new pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodRequest {
    /// `--name`; without it one is made up.
    pub name: Option<String>,
    /// `--label`, and lines of `--label-file`.
    pub labels: BTreeMap<String, String>,
    /// `--share`.
    pub share: Share,
    /// `--network`: networks by their names, none, which is a loopback interface, or the host's; without it `bridge`, or for
    /// an ordinary user what carries its packets, if that is installed.
    pub network: Network,
    /// `--publish`, and `--expose`.
    pub publishing: Publishing,
    /// `--hostname`; without it the pod's name.
    pub hostname: Option<String>,
    /// What is written to `/etc/hosts` and `/etc/resolv.conf` of its containers.
    pub hosts: Hosts,
    /// `--sysctl`: parameters of the namespaces that are shared.
    pub sysctls: BTreeMap<String, String>,
    /// `--shm-size`; without it 64 MiB.
    pub shm_size: Option<Size>,
    /// `--userns`: the users of its containers, as far as these share anything; without it the host's, or for an ordinary
    /// user the usual ones.
    pub user: Option<UserNamespace>,
    /// `--cgroup-parent`: the cgroup below which the pod's is.
    pub cgroup_parent: Option<String>,
    /// The limits of the pod's cgroup, for all of its containers together: those that a container's `update` can change.
    pub limits: Resources,
}

/// What the containers of a pod share: `--share net,ipc,uts,pid`, or `none`. A `+` before it adds to what is shared without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(BTreeSet<NamespaceKind>);

impl Default for Share {
    /// As podman: network, IPC and host name.
    fn default() -> Self {
        Self(BTreeSet::from([NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts]))
    }
}

impl Share {
    /// Tells whether a kind of namespace is shared.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.0.contains(&kind)
    }

    /// Returns the kinds by podman's names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(|(_, kind)| self.has(*kind)).map(|(name, _)| name)
    }
}

const NAMES: [(&str, NamespaceKind); 4] = [
    ("ipc", NamespaceKind::Ipc),
    ("net", NamespaceKind::Network),
    ("pid", NamespaceKind::Pid),
    ("uts", NamespaceKind::Uts),
];

impl FromStr for Share {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (mut share, list) = match text.strip_prefix('+') {
            Some(list) => (Self::default(), list),
            None => (Self(BTreeSet::new()), text),
        };
        if matches!(list, "" | "none") {
            return Ok(share);
        }
        for name in list.split(',') {
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let (_, kind) = known.ok_or_else(|| {
                Malformed::new("share", text, "expected none, or a list of net, ipc, uts and pid")
            })?;
            share.0.insert(*kind);
        }
        Ok(share)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Vec::from_iter(self.names()) {
            names if names.is_empty() => f.write_str("none"),
            names => f.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_a_list() {
        for (text, expected) in [
            ("none", "none"),
            ("", "none"),
            ("net", "net"),
            ("uts,pid", "pid,uts"),
            ("+pid", "ipc,net,pid,uts"),
        ] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), expected, "{text}");
        }
        for wrong in ["user", "net,", "net pid"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        assert_eq!(Share::default().to_string(), "ipc,net,uts");
    }
}
