//! What a container has of others that run, and what of that is made anew for each of its starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_shim::order::{JoinedNamespace, NamespaceKind, Other, Part, Whole};
use bulkhead_spec::Config;
use bulkhead_store::Kind;

use super::{BUNDLE, Moment, PARTS};
use crate::configure::{Caller, Peer};
use crate::create::FILES;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::known::Known;
use crate::request::{self, Ipc, Namespaces, Network, Pid, Request, UserNamespace, Uts, Volume};
use crate::{host, id, volume};

/// What is shared with another container, among the parts.
const SHM: &str = "shm";

impl Engine {
    /// Has a request name by their ids the containers whose namespaces it shares, as docker does: one that is made later under
    /// the same name is another one. An ordinary user's namespaces belong to the container's users, which are shared with them.
    ///
    /// # Errors
    /// When one is not there; for an ordinary user, what only root can share.
    pub(crate) fn identify_others(&self, request: &mut Request) -> Result<()> {
        let is_root = host::caller() == Caller::Root;
        let refuse = |what: String, reason: &str| Err(Error::Invalid { what, reason: reason.into() });
        let mut owner: Option<String> = None;
        for (kind, wanted) in of_containers(&mut request.namespaces) {
            let peer = self.find(wanted)?;
            let what = format!("{} container:{}", flag(kind), peer.record.name);
            if !is_root && kind == NamespaceKind::Ipc && shares_memory(&peer) {
                return refuse(what, "only root can share the /dev/shm of another container; leave it out");
            }
            if !is_root && owner.as_ref().is_some_and(|owner| *owner != peer.record.id) {
                let reason = "an ordinary user's container can share namespaces of one other alone";
                return refuse(what, reason);
            }
            if !is_root && request.pod.is_some() {
                let reason =
                    "an ordinary user's container shares namespaces with the containers of its pod alone";
                return refuse(format!("{what} with --pod"), reason);
            }
            wanted.clone_from(&peer.record.id);
            owner = Some(peer.record.id);
        }
        let (false, Some(owner)) = (is_root, owner) else { return Ok(()) };
        match &request.namespaces.user {
            None => request.namespaces.user = Some(UserNamespace::Container(owner)),
            Some(UserNamespace::Container(_)) => {}
            Some(_) => {
                let reason = "an ordinary user's namespaces belong to the users of the container that has them, \
                              which are shared with them; leave it out";
                return refuse("--userns with a namespace of another container".into(), reason);
            }
        }
        Ok(())
    }

    /// Finds a container whose namespace of this kind is shared.
    pub(crate) fn peer(&self, kind: NamespaceKind, wanted: &str) -> Result<Known> {
        match self.find(wanted) {
            Err(error) if error.kind() == Kind::NotFound => Err(Error::Invalid {
                what: format!("{} container:{}", flag(kind), id::short(wanted)),
                reason: "that container is gone, and no other takes its place: make this one anew".into(),
            }),
            found => found,
        }
    }

    /// Finds the containers whose namespaces a request shares: those that run. One that is to be created only may be made
    /// before the others run, and is configured as if they did.
    pub(super) fn peers(&self, known: &Known, moment: Moment) -> Result<BTreeMap<String, Peer>> {
        let mut shared = known.document.request.namespaces.clone();
        let of_memory = match &shared.ipc {
            Ipc::Container(name) => Some(name.clone()),
            _ => None,
        };
        let of_network = match &shared.network {
            Network::Container(name) => Some(name.clone()),
            _ => None,
        };
        let place = self.places().container_run(&known.record.id).join(PARTS).join(SHM);
        let mut peers = BTreeMap::new();
        for (kind, wanted) in of_containers(&mut shared) {
            let peer = self.peer(kind, wanted)?;
            let name = peer.record.name.clone();
            if peer.life.process.is_none() && moment == Moment::Start {
                let what = format!("{} container:{name}", flag(kind));
                let reason = "that container does not run; start it first".into();
                return Err(Error::Invalid { what, reason });
            }
            let is_its_memory = of_memory.as_ref() == Some(wanted);
            let shm = (is_its_memory && shares_memory(&peer)).then(|| place.clone());
            let is_its_network = of_network.as_ref() == Some(wanted);
            let files = if is_its_network {
                self.owner_of_network(&peer)?.files
            } else {
                self.places().container(&peer.record.id).join(FILES)
            };
            let label = self.process_label(&peer);
            let hostname = hostname(&peer, &files);
            let users = peer.document.users;
            peers.insert(wanted.clone(), Peer { name, hostname, files, shm, users, label });
        }
        Ok(peers)
    }

    /// Returns the SELinux context of a container's processes, as it was started.
    fn process_label(&self, peer: &Known) -> Option<String> {
        let file = self.places().container_run(&peer.record.id).join(BUNDLE).join("config.json");
        let text = host::has_selinux().then(|| fs::read_to_string(file).ok()).flatten()?;
        Config::from_json(&text).ok()?.process?.selinux_label
    }

    /// Lists the namespaces of others that the monitor is to open for each start.
    pub(super) fn joined(&self, known: &Known) -> Result<Vec<JoinedNamespace>> {
        let mut joined = Vec::new();
        let mut shared = known.document.request.namespaces.clone();
        for (kind, wanted) in of_containers(&mut shared) {
            let peer = self.peer(kind, wanted)?;
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
                let data = self.places().volume(name).join("data");
                // The monitor would find it missing, too, and cannot say what to do.
                volume::expect_part(name, &data, Path::new(subpath))?;
                let of = Whole::Directory(data);
                parts.push(Part { of, path: PathBuf::from(subpath), at: places.join(index.to_string()) });
            }
        }
        if let Ipc::Container(name) = &document.request.namespaces.ipc {
            let peer = self.peer(NamespaceKind::Ipc, name)?;
            if shares_memory(&peer) {
                let of = Whole::Container(self.other(&peer));
                parts.push(Part { of, path: Path::new("/dev/shm").to_owned(), at: places.join(SHM) });
            }
        }
        Ok(parts)
    }

    fn other(&self, peer: &Known) -> Other {
        let status = self.status_of(&peer.record.id, &peer.document);
        Other { name: peer.record.name.clone(), status }
    }
}

/// Lists the containers whose namespaces are to be shared.
fn of_containers(shared: &mut Namespaces) -> Vec<(NamespaceKind, &mut String)> {
    let Namespaces { network, ipc, pid, uts, cgroup: _, user } = shared;
    let mut all = Vec::new();
    if let Network::Container(name) = network {
        all.push((NamespaceKind::Network, name));
    }
    if let Ipc::Container(name) = ipc {
        all.push((NamespaceKind::Ipc, name));
    }
    if let Pid::Container(name) = pid {
        all.push((NamespaceKind::Pid, name));
    }
    if let Uts::Container(name) = uts {
        all.push((NamespaceKind::Uts, name));
    }
    if let Some(UserNamespace::Container(name)) = user {
        all.push((NamespaceKind::User, name));
    }
    all
}

/// Returns the host name with which a container was started last, or will be.
fn hostname(peer: &Known, files: &Path) -> String {
    let written = fs::read_to_string(files.join("hostname")).ok();
    let written = written.map(|text| text.trim_end().to_owned()).filter(|name| !name.is_empty());
    let asked = || peer.document.request.hostname.clone();
    written.or_else(asked).unwrap_or_else(|| id::short(&peer.record.id).to_owned())
}

/// The flag by which a namespace is shared.
fn flag(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "--network",
        NamespaceKind::Ipc | NamespaceKind::Memory => "--ipc",
        NamespaceKind::Pid => "--pid",
        NamespaceKind::Uts => "--uts",
        NamespaceKind::User => "--userns",
    }
}

fn shares_memory(peer: &Known) -> bool {
    peer.document.request.namespaces.ipc == Ipc::Shareable
}
