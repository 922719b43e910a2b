//! Networks from elsewhere (CNI): files of an administrator's describe them, and programs of others make them.
//!
//! Such a network gets a record when something is connected with it first. It is called `cni:NAME`, so that no network of the
//! engine's has its name, and its id is made of that. What plugins have made of it is written down by their client, in
//! `root/cni`, before each of them is started, and outlives crashes and boots ([`bulkhead_net::cni`]):
//! ```text
//! start   ports are chosen and noted in network.json ─► ADD, one network after the other ─► noted where the ports lead
//! end     DEL of all that is written down of the container, whether it was wholly attached or not
//! ```
//! The host's lock is not held meanwhile: a plugin may wait for a lease for minutes.

mod attachment;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bulkhead_net::cni::{self, Attached, Key, List, Networks, config};
use bulkhead_net::device::Mac;
use bulkhead_net::pool::{Holder, Used};
use bulkhead_store::{Digest, Durability, Kind, NetworkRecord, Noun};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub(super) use attachment::{believe_as_usual, check_asked};

use super::address::Joint;
use super::document::{Driver, NetworkDocument, Subnet};
use crate::configure::{Caller, Resolvers};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host;
use crate::request::MacAddress;

/// How their records' names begin, which means them behind `--network`, too.
const PREFIX: &str = "cni:";

/// Where a network is described, and its plugins are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Elsewhere {
    /// Its name there.
    pub(super) name: String,
    /// The directory of its file.
    pub(super) directory: PathBuf,
    /// The directories of its plugins.
    pub(super) programs: Vec<PathBuf>,
}

/// Tells whether a name is that of a network from elsewhere, as records have it.
pub(crate) fn is_elsewhere(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Returns its name without the word that tells that it is from elsewhere.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// All networks that are described now.
pub(super) struct Described {
    networks: Networks,
    directory: PathBuf,
    programs: Vec<PathBuf>,
}

impl Described {
    /// Reads it; nothing for an ordinary user, whose containers no plugin connects.
    fn of_caller() -> Result<Option<Self>> {
        match host::caller() {
            Caller::Root => Self::read(|name| std::env::var_os(name)).map(Some),
            _ => Ok(None),
        }
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let directory = set("NETCONFPATH").map_or_else(|| config::DIRECTORY.into(), PathBuf::from);
        if directory.is_relative() {
            let reason = "it says where networks of CNI are described, by a path that begins with `/`";
            let what = format!("NETCONFPATH={}", directory.display());
            return Err(Error::Invalid { what, reason: reason.into() });
        }
        let programs = match set("CNI_PATH") {
            Some(path) => std::env::split_paths(&path).filter(|part| !part.as_os_str().is_empty()).collect(),
            None => config::PLUGINS.map(PathBuf::from).to_vec(),
        };
        Ok(Self { networks: Networks::read(&directory)?, directory, programs })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.networks.lists.iter().map(|list| list.name.as_str())
    }

    /// Finds the file of a network, by its name.
    fn file(&self, name: &str) -> Option<&Path> {
        self.networks.lists.iter().find(|list| list.name == name).map(|list| list.file.as_path())
    }

    /// Returns records of those that fit, as they would be kept.
    fn records(&self, fits: impl Fn(&NetworkRecord) -> bool) -> Result<Vec<NetworkRecord>> {
        let mut records = Vec::new();
        for list in &self.networks.lists {
            let name = format!("{PREFIX}{}", list.name);
            let mut record = NetworkRecord::new(&Digest::of(name.as_bytes()).hex(), &name);
            if fits(&record) {
                record.document = self.document(list).write()?;
                let changed = std::fs::metadata(&list.file).map(|file| file.mtime()).unwrap_or_default();
                record.created = changed.saturating_mul(1_000_000_000);
                records.push(record);
            }
        }
        Ok(records)
    }

    fn document(&self, list: &List) -> NetworkDocument {
        let subnets = Vec::from_iter(list.subnets().into_iter().map(|(subnet, gateway)| Subnet {
            subnet,
            range: None,
            // As `host-local` has it.
            gateway: gateway.unwrap_or_else(|| match subnet.network() {
                IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).saturating_add(1)).into(),
                IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).saturating_add(1)).into(),
            }),
            reserved: BTreeMap::new(),
            is_free_choice: false,
        }));
        let has = |is_v4: bool| subnets.iter().any(|of| of.gateway.is_ipv4() == is_v4);
        let plugins = Vec::from_iter(list.plugins.iter().map(|plugin| plugin.kind.as_str()));
        let options = [("file", list.file.display().to_string()), ("plugins", plugins.join(","))];
        NetworkDocument {
            driver: Driver::Cni,
            ipv4: has(true) || !has(false),
            ipv6: has(false),
            options: options.map(|(name, value)| (name.to_owned(), value)).into(),
            elsewhere: Some(Elsewhere {
                name: list.name.clone(),
                directory: self.directory.clone(),
                programs: self.programs.clone(),
            }),
            subnets,
            ..NetworkDocument::default()
        }
    }
}

impl Joint {
    /// Tells whether plugins connect it.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.document.driver == Driver::Cni
    }

    /// Returns where its network is described.
    fn elsewhere(&self) -> Result<&Elsewhere> {
        self.document.elsewhere.as_ref().ok_or_else(|| Error::Damaged {
            what: format!("the record of network {}", self.record.name),
            reason: "it does not say where it is described".to_owned(),
        })
    }

    /// Returns whom a container asks for names, if its plugins tell that.
    pub(super) fn told(&self) -> Option<Resolvers> {
        let cni::result::Dns { nameservers, search, options, .. } = self.attached.as_ref()?.dns.clone();
        let is_address = |server: &String| server.parse::<IpAddr>().is_ok();
        let servers = Vec::from_iter(nameservers.into_iter().filter(is_address));
        (!servers.is_empty()).then_some(Resolvers { servers, search, options })
    }

    /// Returns what its attachment is called by.
    fn key(&self) -> Result<Key> {
        Ok(Key::new(&self.elsewhere()?.name, &self.endpoint.owner, &self.device())?)
    }
}

/// Finds the addresses that a device has.
pub(super) fn addresses_of(attached: &Attached, device: &str) -> Vec<IpNet> {
    let is_its = |index: usize| attached.interfaces.get(index).is_some_and(|of| of.name == device);
    let its = attached.addresses.iter().filter(|address| address.interface.is_none_or(is_its));
    its.map(|address| address.net).collect()
}

/// Finds its hardware address; that of nobody where no plugin tells it.
pub(super) fn mac_of(attached: &Attached, device: &str) -> Mac {
    let told = attached.inside().find(|interface| interface.name == device);
    let told = told.and_then(|interface| interface.mac.parse::<MacAddress>().ok());
    told.map_or(Mac([0; 6]), |mac| mac.0)
}

/// Finds the routers by which packets go that go nowhere else; none where the network has no such way.
pub(super) fn gateways_of(attached: &Attached) -> Vec<IpAddr> {
    let everywhere = attached.routes.iter().filter(|route| route.to.prefix_len() == 0);
    let found = everywhere.filter_map(|route| {
        let is_same = |address: &&IpAddr| address.is_ipv4() == route.to.addr().is_ipv4();
        let mut of_address = attached.addresses.iter().filter_map(|address| address.gateway.as_ref());
        route.gateway.or_else(|| of_address.find(is_same).copied())
    });
    found.collect()
}

impl Engine {
    /// Finds a network with which something is to be connected: the engine's own before one from elsewhere, which gets a record.
    pub(super) fn network_to_join(&self, wanted: &str) -> Result<NetworkRecord> {
        let error = match self.store.network(wanted) {
            Err(error) if error.kind() == Kind::NotFound => Some(error),
            _ if is_elsewhere(wanted) => None,
            found => return Ok(found?),
        };
        let Some(described) = Described::of_caller()? else {
            return Err(self.mistyped_network(wanted, None));
        };
        let is_it = |record: &NetworkRecord| bare(&record.name) == bare(wanted);
        if let Some(record) = described.records(is_it)?.into_iter().next() {
            return self.keep_described(record);
        }
        match error {
            Some(_) if !is_elsewhere(wanted) && described.networks.refused.is_empty() => {
                Err(self.mistyped_network(wanted, Some(&described)))
            }
            _ => match described.networks.find(bare(wanted)) {
                Err(error) => Err(error.into()),
                Ok(_) => Err(self.mistyped_network(wanted, Some(&described))),
            },
        }
    }

    /// Finds a network that is to be looked at, or from which something is to be taken away: one from elsewhere, too, of
    /// which there is a record and nothing else, or a file and nothing else.
    pub(super) fn network_of_any(&self, wanted: &str) -> Result<NetworkRecord> {
        let error = match self.store.network(wanted) {
            Err(error) if error.kind() == Kind::NotFound => error,
            found => return Ok(found?),
        };
        let kept = self.store.network(&format!("{PREFIX}{}", bare(wanted)));
        if !kept.as_ref().is_err_and(|error| error.kind() == Kind::NotFound) {
            return Ok(kept?);
        }
        let Some(described) = Described::of_caller()? else { return Err(error.into()) };
        let is_it = |record: &NetworkRecord| {
            bare(&record.name) == bare(wanted) || !wanted.is_empty() && record.id.starts_with(wanted)
        };
        match described.records(is_it)?.into_iter().next() {
            Some(record) => Ok(record),
            None => Err(error.into()),
        }
    }

    /// Keeps the record of a network as it is described now.
    fn keep_described(&self, record: NetworkRecord) -> Result<NetworkRecord> {
        match self.store.network(&record.id) {
            Ok(known) if known.document == record.document => return Ok(known),
            Ok(_) => {
                self.store.connect(Durability::Process, |connected| connected.change(&record))?;
                return Ok(record);
            }
            Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
            Err(_) => {}
        }
        match self.store.insert_network(|_| Ok(record.clone())) {
            // Somebody else was faster.
            Err(bulkhead_store::Error::NameTaken { .. }) => Ok(record),
            inserted => Ok(inserted?),
        }
    }

    /// Lists the records of all networks, by name: those from elsewhere as they are described now, and while something is connected
    /// with them, but for those that nobody describes any more and nothing is connected with.
    pub(super) fn networks_of_all(&self) -> Result<Vec<NetworkRecord>> {
        let (kept, mut records): (Vec<_>, Vec<_>) =
            self.store.networks()?.into_iter().partition(|record| is_elsewhere(&record.name));
        let described = match Described::of_caller()? {
            Some(described) => described.records(|_| true)?,
            None => Vec::new(),
        };
        for record in kept.into_iter().filter(|of| !described.iter().any(|other| other.id == of.id)) {
            if !self.store.connected(|connected| connected.endpoints_in(&record.id))?.is_empty() {
                records.push(record);
            }
        }
        records.extend(described);
        records.sort_by(|one, other| bare(&one.name).cmp(bare(&other.name)));
        Ok(records)
    }

    /// Returns by which name people are shown a network: one that means it, behind `--network`, too.
    pub(super) fn shown(&self, record: &NetworkRecord) -> String {
        let name = bare(&record.name);
        match is_elsewhere(&record.name) && self.store.network(name).is_ok() {
            true => record.name.clone(),
            false => name.to_owned(),
        }
    }

    /// Forgets networks from elsewhere that nobody describes any more and nothing is connected with.
    pub(super) fn forget_undescribed(&self) -> Result<()> {
        let all = self.networks_of_all()?;
        let is_there = |record: &NetworkRecord| all.iter().any(|other| other.id == record.id);
        let mut gone = self.store.networks()?;
        gone.retain(|record| is_elsewhere(&record.name) && !is_there(record));
        gone.iter().try_for_each(|record| Ok(self.store.delete_network(&record.id)?))
    }

    /// Says that no network is called so, and which one was meant.
    fn mistyped_network(&self, wanted: &str, described: Option<&Described>) -> Error {
        let records = self.store.networks().unwrap_or_default();
        let names = records.iter().map(|record| bare(&record.name));
        match crate::name::similar(wanted, names.chain(described.into_iter().flat_map(Described::names))) {
            Some(similar) => {
                Error::MistypedNetwork { wanted: wanted.to_owned(), similar: similar.to_owned() }
            }
            None => {
                let wanted = wanted.to_owned();
                bulkhead_store::Error::NotFound { noun: Noun::Network, wanted }.into()
            }
        }
    }
}

/// Returns the subnets that networks from elsewhere use, as far as their files say so.
pub(super) fn subnets() -> Result<Vec<Used>> {
    let described = Described::of_caller()?;
    let lists = described.iter().flat_map(|described| &described.networks.lists);
    let each = |list: &List| {
        let by = Holder::Network(list.name.clone());
        list.subnets().into_iter().map(move |(net, _)| Used { net, by: by.clone() })
    };
    Ok(lists.flat_map(each).collect())
}

/// Refuses a name for a new network that one from elsewhere has.
pub(super) fn check_free(name: &str) -> Result<()> {
    let described = Described::of_caller()?;
    match described.as_ref().and_then(|described| described.file(name)) {
        Some(file) => Err(Error::Invalid {
            what: format!("network name {name:?}"),
            reason: format!("{} describes a network of that name (CNI); choose another", file.display()),
        }),
        None => Ok(()),
    }
}

/// Refuses to remove a network that somebody describes.
pub(super) fn check_undescribed(record: &NetworkRecord) -> Result<()> {
    let described = if is_elsewhere(&record.name) { Described::of_caller()? } else { None };
    match described.as_ref().and_then(|described| described.file(bare(&record.name))) {
        Some(file) => Err(Error::Invalid {
            what: format!("network {}", bare(&record.name)),
            reason: format!("it is not the engine's: {} describes it; remove that file", file.display()),
        }),
        None => Ok(()),
    }
}
