//! What a container takes from its pod when it starts: namespaces and memory that a monitor of another one holds, or that its
//! own monitor is to make.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bulkhead_shim::order::{NamespaceKind, Shared, SharedMemory, SharedNamespace};
use bulkhead_shim::status::Process;
use bulkhead_shim::{client, place};
use bulkhead_store::PodRecord;

use super::create::FILES;
use super::document::PodDocument;
use super::request::PodRequest;
use crate::configure::{self, FileLabels};
use crate::create::make_directory;
use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::hold::Held;
use crate::known::Known;
use crate::network::{Plugged, Wish, carrier_of, is_elsewhere, is_given, wiring_of};
use crate::request::{Carrier, Connection, Ipc, Network, Pid, Request, UserNamespace, Uts};

/// The size of `/dev/shm` unless somebody says otherwise, as for a container.
const SHM_SIZE: u64 = 64 << 20;

/// A pod into which a container is started, and which nobody else starts one in meanwhile.
#[derive(Debug)]
pub(crate) struct Starting {
    record: PodRecord,
    document: PodDocument,
    _held: Option<Held>,
}

impl Starting {
    /// Lets others start containers in it.
    pub(crate) fn end(self) -> PodRecord {
        self.record
    }
}

/// A monitor that holds what a pod's containers share.
struct Holder {
    monitor: Process,
    run: PathBuf,
}

impl Holder {
    /// Returns the file by which a namespace is opened, if it holds one of that kind.
    fn namespace(&self, kind: NamespaceKind) -> Option<PathBuf> {
        let link = place::namespace(&self.run, kind);
        // The link itself: what it leads to is no file.
        fs::symlink_metadata(&link).is_ok().then_some(link)
    }
}

impl Engine {
    /// Holds the pod of a container that is to start; nothing for one without.
    pub(crate) fn starting_in_pod(&self, known: &Known) -> Result<Option<Starting>> {
        let Some(id) = &known.record.pod else { return Ok(None) };
        let name = || self.store.pod(id).map_or_else(|_| id.clone(), |record| record.name);
        let held = self.hold_directory(&self.places().pod(id), || format!("pod {}", name()))?;
        let record = self.store.pod(id)?;
        let document = PodDocument::read(&record)?;
        self.limit_pod(&record.name, &document)?;
        Ok(Some(Starting { record, document, _held: held }))
    }

    /// Says what the monitor of a container is to hold for its pod. What is in memory that it makes has the labels of the
    /// container's own files.
    ///
    /// A network that nobody has yet, and that is to be connected with others, is made here and handed over by the caller.
    pub(crate) fn shared<'engine>(
        &'engine self,
        known: &Known,
        starting: &Starting,
        labels: Option<&FileLabels>,
        plugged: &mut Option<Plugged<'engine>>,
    ) -> Result<Option<Shared>> {
        let request = &known.document.request;
        let kinds = kinds(request);
        if kinds.is_empty() {
            return Ok(None);
        }
        let Starting { record, document, .. } = starting;
        let holders = self.holders(&record.id, &known.record.id)?;
        let find = |kind: NamespaceKind| {
            holders.iter().find_map(|holder| Some((holder.namespace(kind)?, holder.monitor)))
        };
        let mut namespaces = Vec::new();
        let first = match kinds.contains(&NamespaceKind::Pid) {
            true => {
                let users = find(NamespaceKind::User).map(|(link, _)| link);
                Some(self.first_of_pod(record, document, users)?)
            }
            false => self.first_process(&record.id)?,
        };
        let of_first = |kind: &str| {
            first.map(|process| (PathBuf::from(format!("/proc/{}/ns/{kind}", process.pid)), process))
        };
        for kind in kinds {
            let found = match kind {
                NamespaceKind::Pid => of_first("pid"),
                // With nobody else there, the pod's users are those of its first process.
                NamespaceKind::User => find(kind).or_else(|| of_first("user")),
                kind => find(kind),
            };
            if kind == NamespaceKind::Network && found.is_none() {
                let moved = self.make_way(document.request.network.connections())?;
                self.write_names(record, document)?;
                if !document.request.network.connections().is_empty() {
                    if plugged.is_none() {
                        let new = plugged.insert(self.plug_pod(record, document)?);
                        new.warnings.extend(moved);
                        let connections = document.request.network.connections();
                        if connections.iter().any(|of| is_elsewhere(&of.network)) {
                            // Only now it is known which addresses plugins have given.
                            self.write_names(record, document)?;
                        }
                    }
                    continue;
                }
            }
            let (from, holder) = found.unzip();
            namespaces.push(SharedNamespace { kind, from, holder });
        }
        let size = document.request.shm_size.map_or(SHM_SIZE, |size| size.0);
        let label = labels.map(|labels| labels.private.clone());
        let memory = match (request.namespaces.ipc == Ipc::Pod, &document.users) {
            (false, _) => None,
            (true, Some(_)) => Some(SharedMemory { size, from: None, label }),
            (true, None) => {
                let at = self.places().container_run(&known.record.id).join(place::SHARED_MEMORY);
                make_directory(&at)?;
                let holder = holders.iter().find(|holder| holder.namespace(NamespaceKind::Ipc).is_some());
                let from = holder.map(|holder| (holder.monitor, holder.run.clone()));
                Some(SharedMemory { size, from, label })
            }
        };
        Ok(Some(Shared {
            namespaces,
            users: document.users.clone(),
            hostname: Some(document.hostname(record).to_owned()),
            sysctls: sysctls(document),
            memory,
        }))
    }

    /// Finds the monitors of a pod's other containers that live.
    fn holders(&self, pod: &str, own: &str) -> Result<Vec<Holder>> {
        let mut holders = Vec::new();
        for record in self.store.containers_of_pod(pod)? {
            let run = self.places().container_run(&record.id);
            if record.id == own || !client::alive(&run)? {
                continue;
            }
            // What nobody can read of it is told by `system check`, and holds no other one up.
            holders.extend(self.monitor_of(&record.id).map(|monitor| Holder { monitor, run }));
        }
        Ok(holders)
    }

    /// Makes the network namespace of a pod, and connects it.
    fn plug_pod(&self, record: &PodRecord, document: &PodDocument) -> Result<Plugged<'_>> {
        let joints = self.joints(&record.id, document.request.network.connections())?;
        let PodRequest { publishing, hosts, .. } = &document.request;
        // Others find it by its name, and by those of its containers, as far as they are there.
        let members = self.store.containers_of_pod(&record.id)?.into_iter().map(|member| member.name);
        let own = [record.name.clone(), document.hostname(record).to_owned()];
        let called = Vec::from_iter(own.into_iter().chain(members));
        let wish = Wish {
            owner: &record.id,
            joints: &joints,
            publishing,
            exposed: &publishing.exposed,
            called: &called,
            resolvers: &hosts.servers,
        };
        self.plug(&wish, &sysctls(document))
    }

    /// Tells whether the host knows of the pod of a container: ports of the host lead to it, others find it by its names, or a program
    /// carries its packets.
    pub(crate) fn is_pod_known(&self, known: &Known) -> Result<bool> {
        let Some(pod) = &known.record.pod else { return Ok(false) };
        let request = PodDocument::read(&self.store.pod(pod)?)?.request;
        let has_names = request.network.connections().iter().any(|of| !is_given(&of.network));
        let is_carried = request.network.is_carried();
        Ok(is_carried || has_names || request.publishing.is_any())
    }

    /// Returns what a pod was asked to be.
    pub(crate) fn request_of_pod(&self, pod: &str) -> Result<PodRequest> {
        Ok(PodDocument::read(&self.store.pod(pod)?)?.request)
    }

    /// Returns by which networks the containers of a pod find names, and whom they ask for others.
    pub(crate) fn names_of_pod(&self, pod: &str) -> Result<(String, Vec<Connection>, Vec<IpAddr>)> {
        let record = self.store.pod(pod)?;
        let request = PodDocument::read(&record)?.request;
        Ok((record.id, request.network.connections().to_vec(), request.hosts.servers))
    }

    /// Writes the files by which the pod's containers find names.
    fn write_names(&self, record: &PodRecord, document: &PodDocument) -> Result<()> {
        let mut request = Request { hosts: document.request.hosts.clone(), ..Request::default() };
        let carrier = carrier_of(&document.request.network);
        if let Some(carrier) = carrier {
            request.namespaces.network = Network::Carried(carrier);
        }
        let facts = self.facts(&request, &[], &BTreeMap::new())?;
        let directory = self.places().pod(&record.id).join(FILES);
        let connections = document.request.network.connections();
        let wiring = match connections {
            [] => carrier.map(|carrier| carrier.wiring(&request.hosts)).unwrap_or_default(),
            _ => wiring_of(&self.joints(&record.id, connections)?),
        };
        for (name, text) in configure::names_of_pod(&request, document.hostname(record), &facts, &wiring)? {
            let path = directory.join(name);
            let doing = || format!("write {}", path.display());
            fs::write(&path, text).doing(doing)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).doing(doing)?;
        }
        Ok(())
    }

    /// Returns what a container's configuration needs to know of its pod: the directory of the pod's files, its host name, and what
    /// carries its packets.
    pub(crate) fn of_pod(&self, pod: &str) -> Result<(PathBuf, String, Option<Carrier>)> {
        let record = self.store.pod(pod)?;
        let document = PodDocument::read(&record)?;
        let carrier = carrier_of(&document.request.network);
        Ok((self.places().pod(pod).join(FILES), document.hostname(&record).to_owned(), carrier))
    }
}

/// The kinds of namespaces that a container has of its pod.
fn kinds(request: &Request) -> Vec<NamespaceKind> {
    let namespaces = &request.namespaces;
    let of_users = namespaces.user == Some(UserNamespace::Pod);
    let shared = [
        (NamespaceKind::User, of_users),
        (NamespaceKind::Network, namespaces.network == Network::Pod),
        (NamespaceKind::Ipc, namespaces.ipc == Ipc::Pod),
        (NamespaceKind::Uts, namespaces.uts == Uts::Pod),
        (NamespaceKind::Pid, namespaces.pid == Pid::Pod),
        (NamespaceKind::Memory, of_users && namespaces.ipc == Ipc::Pod),
    ];
    shared.into_iter().filter(|(_, is_shared)| *is_shared).map(|(kind, _)| kind).collect()
}

/// The parameters of new namespaces: docker's two of a container's network, and those that were asked for.
fn sysctls(document: &PodDocument) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut usual = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    if document.request.share.has(NamespaceKind::Network) {
        usual("net.ipv4.ip_unprivileged_port_start", "0");
        if document.users.is_none() {
            // The range is one of the host's ids, which a user namespace may not have.
            usual("net.ipv4.ping_group_range", "0 2147483647");
        }
    }
    all.extend(document.request.sysctls.iter().map(|(name, value)| (name.replace('/', "."), value.clone())));
    all
}
