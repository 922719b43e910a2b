//! Making a pod: its record first, then its directories.

use bulkhead_shim::order::NamespaceKind;
use bulkhead_spec::NamespaceType;
use bulkhead_store::{PodRecord, Subject};
use std::collections::BTreeMap;

use super::Pod;
use super::document::PodDocument;
use super::request::PodRequest;
use crate::configure::{self, Caller, Facts, ImageFiles, NO_CGROUPS, Users, sysctl};
use crate::create::make_directory;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::remove::Force;
use crate::request::{Namespaces, Network, Publishing, Request, UserNamespace};
use crate::{host, id, name, network};

/// How often a name is made that is taken.
const ATTEMPTS: u32 = 16;

/// The files by which a pod's containers find names, in its directory.
pub(super) const FILES: &str = "files";

impl Engine {
    /// Makes a pod without containers, and returns it with what the user should be told. Without a name it gets one.
    ///
    /// # Errors
    /// When the name is taken, or what was asked for cannot be.
    pub fn create_pod(&self, request: &PodRequest) -> Result<(Pod, Vec<String>)> {
        let (record, warnings) = self.record_pod(request)?;
        let parts = [self.places().pod(&record.id), self.places().pod(&record.id).join(FILES)];
        parts.iter().try_for_each(|part| make_directory(part))?;
        if let Err(error) = self.limit_pod(&record.name, &PodDocument::read(&record)?) {
            // The first error is the one to tell; a pod that stays has a name by which it can be removed.
            drop(self.remove_pod(&record.id, Force::No));
            return Err(error);
        }
        self.tell_pod(&record, "create");
        Ok((self.pod(&record.id)?, warnings))
    }

    fn record_pod(&self, request: &PodRequest) -> Result<(PodRecord, Vec<String>)> {
        if let Some(name) = &request.name {
            name::check(name)?;
        }
        let mut request = request.clone();
        if request.network == Network::Default && !request.share.has(NamespaceKind::Network) {
            request.network = Network::None;
        }
        let warnings = network::choose_for_pod(&mut request)?;
        check(&request)?;
        self.identify_networks(&mut request.network)?;
        let request = &request;
        self.limits_of_pod(&request.limits)?;
        let id = id::generate()?;
        let cgroup = self.cgroup_of_pod(&id, request)?;
        let users = users(request)?;
        for attempt in 0.. {
            let name = match &request.name {
                Some(name) => name.clone(),
                None => name::generate(attempt)?,
            };
            let mut record = PodRecord::new(&id, &name);
            record.document = PodDocument::new(request.clone(), cgroup.clone(), users.clone()).write()?;
            match self.store.insert_pod(&record) {
                Err(bulkhead_store::Error::NameTaken { .. })
                    if request.name.is_none() && attempt < ATTEMPTS => {}
                inserted => return inserted.map(|()| (record, warnings)).map_err(Error::from),
            }
        }
        Err(Error::Invalid { what: "name of the pod".into(), reason: "none could be made".into() })
    }

    /// Decides the cgroup below which those of the pod's containers are.
    fn cgroup_of_pod(&self, id: &str, request: &PodRequest) -> Result<Option<String>> {
        let Facts { cgroups, caller, .. } = self.facts(&Request::default(), &[], &BTreeMap::new())?;
        let parent = request.cgroup_parent.as_deref();
        let wrong = |reason: &str| Error::Invalid {
            what: format!("--cgroup-parent {}", parent.unwrap_or_default()),
            reason: reason.into(),
        };
        if !cgroups.writable {
            return match parent {
                Some(_) => Err(wrong(NO_CGROUPS)),
                None => Ok(None),
            };
        }
        if cgroups.systemd {
            // systemd makes a slice when a scope is put into it, and its name says what it lies in.
            let default = if caller == Caller::Root { "system.slice" } else { "user.slice" };
            let parent = parent.unwrap_or(default);
            let parent = parent.strip_suffix(".slice").filter(|name| !name.contains(['/', ':']));
            let parent = parent.ok_or_else(|| {
                wrong("systemd makes the cgroups here; expected the name of a slice, such as my.slice")
            })?;
            return Ok(Some(format!("{parent}-bulkhead_pod_{}.slice", id::short(id))));
        }
        let parent = parent.unwrap_or("/bulkhead").trim_end_matches('/');
        if parent.split('/').any(|part| part == "..") || parent.contains(char::is_control) {
            return Err(wrong("expected the path of a cgroup, without .."));
        }
        let slash = if parent.starts_with('/') { "" } else { "/" };
        Ok(Some(format!("{slash}{parent}/pod-{id}")))
    }

    /// Records that something happened to a pod. What happened has happened, whether that can be recorded or not.
    pub(super) fn tell_pod(&self, record: &PodRecord, action: &str) {
        let event = bulkhead_store::Event::new(Subject::Pod, action, &record.id).with("name", &record.name);
        let _ = self.store.record_event(&event);
    }
}

/// Decides the users of the pod's containers; nothing where they are the host's.
fn users(request: &PodRequest) -> Result<Option<Users>> {
    let caller = host::caller();
    let asked = request.user.as_ref();
    match asked {
        None | Some(UserNamespace::Host) => {}
        Some(UserNamespace::KeepId { .. } | UserNamespace::Map { .. }) if caller != Caller::Root => {}
        Some(UserNamespace::NoMap | UserNamespace::Auto { .. }) if caller != Caller::Root => {}
        Some(UserNamespace::Container(_) | UserNamespace::Pod) => {
            let reason = "its containers share the pod's: it is host, or for ordinary users keep-id";
            return Err(Error::Invalid { what: "--userns of a pod".into(), reason: reason.into() });
        }
        Some(_) => {
            let reason = "the namespaces of root's pods belong to the host's users: leave it out";
            return Err(Error::Invalid { what: "--userns of a pod".into(), reason: reason.into() });
        }
    }
    let namespaces = Namespaces { user: request.user.clone(), ..Namespaces::default() };
    let asked = Request { namespaces, ..Request::default() };
    let own = host::subordinate(caller)?;
    configure::users(&asked, (caller, &own), ImageFiles::default(), &[])
}

/// Refuses what cannot be had.
fn check(request: &PodRequest) -> Result<()> {
    let PodRequest { share, network, publishing, hostname, hosts: _, sysctls, shm_size, .. } = request;
    let invalid = |what: String, reason: &str| Err(Error::Invalid { what, reason: reason.into() });
    match network {
        Network::Default | Network::None | Network::Host | Network::Networks(_) | Network::Carried(_) => {}
        Network::Container(_) | Network::Pod => {
            return invalid(
                format!("--network {network} of a pod"),
                "it is none, host, networks of the engine by their names, or an ordinary user's pasta or slirp4netns",
            );
        }
    }
    let leads_on = !network.connections().is_empty() || network.is_carried();
    if leads_on && !share.has(NamespaceKind::Network) {
        return invalid(
            format!("--network {network}"),
            "--share does not have net: give it to the containers instead",
        );
    }
    if *publishing != Publishing::default() && !leads_on {
        return invalid(
            "--publish of a pod".into(),
            "its containers share no network that ports could lead to",
        );
    }
    network::check_publishing(publishing)?;
    if *network == Network::Host && !share.has(NamespaceKind::Network) {
        return invalid(
            "--network host".into(),
            "--share does not have net: give it to the containers instead",
        );
    }
    if let Some(name) = hostname {
        if !share.has(NamespaceKind::Uts) {
            return invalid(
                format!("--hostname {name}"),
                "--share does not have uts: give it to the containers instead",
            );
        }
        if name.is_empty() || name.len() > 64 || name.contains(|c: char| c.is_control() || c.is_whitespace())
        {
            return invalid(format!("--hostname {name:?}"), "a name has 1 to 64 bytes and no blanks");
        }
    }
    if let Some(size) = shm_size
        && !share.has(NamespaceKind::Ipc)
    {
        return invalid(
            format!("--shm-size {size}"),
            "--share does not have ipc: give it to the containers instead",
        );
    }
    let own_network = *network != Network::Host;
    let shared = [
        (NamespaceKind::Network, NamespaceType::Network),
        (NamespaceKind::Ipc, NamespaceType::Ipc),
        (NamespaceKind::Uts, NamespaceType::Uts),
    ];
    let shared = shared.into_iter().filter(|(kind, _)| share.has(*kind)).map(|(_, kind)| kind);
    let shared = Vec::from_iter(shared.filter(|kind| own_network || *kind != NamespaceType::Network));
    sysctl::check_of_pod(sysctls.keys(), &shared)
}
