//! What a container has of others that run, and what of that is made anew for each of its starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_shim::order::{JoinedNamespace, NamespaceKind, Other, Part, Whole};

use super::{Moment, PARTS};
use crate::configure::Peer;
use crate::create::FILES;
use crate::engine::Engine;
use crate::error::Result;
use crate::known::{Known, STATUS};
use crate::request::{self, Ipc, Namespaces, Network, Pid, UserNamespace, Uts, Volume};

/// What is shared with another container, among the parts.
const SHM: &str = "shm";

impl Engine {
    /// Finds the containers whose namespaces a request shares: those that run. One that is to be created only may be made
    /// before the others run, and is configured as if they did.
    pub(super) fn peers(&self, known: &Known, moment: Moment) -> Result<BTreeMap<String, Peer>> {
        let shared = &known.document.request.namespaces;
        let place = self.places().container_run(&known.record.id).join(PARTS).join(SHM);
        let mut peers = BTreeMap::new();
        for (_, name) in of_containers(shared) {
            let peer = self.find(name)?;
            if peer.life.process.is_some() || moment == Moment::Creation {
                let is_its_memory = matches!(&shared.ipc, Ipc::Container(other) if other == name);
                let shm = (is_its_memory && shares_memory(&peer)).then(|| place.clone());
                let files = self.places().container(&peer.record.id).join(FILES);
                peers.insert(name.to_owned(), Peer { files, shm, users: peer.document.users });
            }
        }
        Ok(peers)
    }

    /// Lists the namespaces of others that the monitor is to open for each start.
    pub(super) fn joined(&self, known: &Known) -> Result<Vec<JoinedNamespace>> {
        let mut joined = Vec::new();
        for (kind, name) in of_containers(&known.document.request.namespaces) {
            let peer = self.find(name)?;
            // With the host's users it has no namespace of its own for them.
            if kind != NamespaceKind::User || peer.document.users.is_some() {
                joined.push(JoinedNamespace { kind, of: self.other(&peer) });
            }
        }
        Ok(joined)
    }

    /// Returns the directories of a container's volumes on the host, by their places in it.
    pub(super) fn sources(&self, known: &Known) -> BTreeMap<String, PathBuf> {
        let run = self.places().container_run(&known.record.id);
        let source = |(index, mount): (usize, &request::Mount)| {
            let request::MountKind::Volume(volume) = &mount.kind else { return None };
            let path = match &volume.subpath {
                Some(_) => run.join(PARTS).join(index.to_string()),
                None => self.places().volume(volume.name.as_deref()?).join("data"),
            };
            Some((mount.destination.clone(), path))
        };
        known.document.mounts.iter().enumerate().filter_map(source).collect()
    }

    /// Lists what the monitor looks up where containers can change what a path leads to.
    pub(super) fn parts(&self, known: &Known) -> Result<Vec<Part>> {
        let Known { record, document, .. } = known;
        let places = self.places().container_run(&record.id).join(PARTS);
        let mut parts = Vec::new();
        for (index, mount) in document.mounts.iter().enumerate() {
            if let request::MountKind::Volume(Volume { name: Some(name), subpath: Some(subpath), .. }) =
                &mount.kind
            {
                let of = Whole::Directory(self.places().volume(name).join("data"));
                parts.push(Part { of, path: PathBuf::from(subpath), at: places.join(index.to_string()) });
            }
        }
        if let Ipc::Container(name) = &document.request.namespaces.ipc {
            let peer = self.find(name)?;
            if shares_memory(&peer) {
                let of = Whole::Container(self.other(&peer));
                parts.push(Part { of, path: Path::new("/dev/shm").to_owned(), at: places.join(SHM) });
            }
        }
        Ok(parts)
    }

    fn other(&self, peer: &Known) -> Other {
        let status = self.places().container(&peer.record.id).join(STATUS);
        Other { name: peer.record.name.clone(), status }
    }
}

/// Lists the containers whose namespaces are to be shared.
fn of_containers(shared: &Namespaces) -> Vec<(NamespaceKind, &str)> {
    let Namespaces { network, ipc, pid, uts, cgroup: _, user } = shared;
    let mut all = Vec::new();
    if let Network::Container(name) = network {
        all.push((NamespaceKind::Network, name.as_str()));
    }
    if let Ipc::Container(name) = ipc {
        all.push((NamespaceKind::Ipc, name.as_str()));
    }
    if let Pid::Container(name) = pid {
        all.push((NamespaceKind::Pid, name.as_str()));
    }
    if let Uts::Container(name) = uts {
        all.push((NamespaceKind::Uts, name.as_str()));
    }
    if let Some(UserNamespace::Container(name)) = user {
        all.push((NamespaceKind::User, name.as_str()));
    }
    all
}

fn shares_memory(peer: &Known) -> bool {
    peer.document.request.namespaces.ipc == Ipc::Shareable
}
