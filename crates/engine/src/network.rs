//! Networks: what containers are connected with, and by which ports they are reached.
//!
//! A network is a record with subnets. Its bridge and its place in the packet filter are made when a container that is
//! connected with it starts, and anew after a reboot or when somebody took them away; they go with the network. A container
//! keeps its addresses as long as it exists ([`bulkhead_store::Endpoint`]). Its network namespace is made by whoever starts
//! it, and handed to its monitor ([`start`]).

mod address;
mod carrier;
mod change;
mod companions;
mod create;
mod document;
mod door;
mod elsewhere;
mod hook;
mod host;
mod leftover;
mod list;
mod live;
mod names;
mod overlap;
mod ports;
mod proxy;
mod remove;
mod sharers;
mod start;
mod ways;

use std::collections::BTreeMap;
use std::net::IpAddr;

use bulkhead_store::{Event, NetworkRecord, Subject};
use ipnet::IpNet;

pub(crate) use address::{Joint, joined, look_at_devices, settle};
pub(crate) use carrier::carrier_of;
pub(crate) use create::stored;
pub use document::{Driver, Subnet};
pub(crate) use elsewhere::{bare, is_elsewhere};
pub use hook::FOR_MONITOR;
pub(crate) use leftover::Refused;
pub use list::FILTERS;
pub(crate) use overlap::Overlapped;
pub use ports::PublishedPort;
pub(crate) use proxy::check as check_publishing;
pub(crate) use start::{Plugged, Wish, exposed, wiring, wiring_of};

use crate::configure::Caller;
use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host as machine;
use crate::known::Known;
use crate::pod::PodRequest;
use crate::request::{self, Connection, MacAddress, Request};
use crate::runtime::Family;

/// A new network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// What carries its packets.
    pub driver: Driver,
    /// It has no way out, and none in.
    pub internal: bool,
    /// It has addresses of IPv4.
    pub ipv4: bool,
    /// It has addresses of IPv6, which a subnet of IPv6 asks for, too.
    pub ipv6: bool,
    /// Its subnets, at most one of each family; without one some that nobody uses.
    pub subnets: Vec<IpNet>,
    /// The parts of them from which containers get addresses.
    pub ranges: Vec<IpNet>,
    /// The host's addresses in them; without one the first.
    pub gateways: Vec<IpAddr>,
    /// Addresses in them that no container gets, with names for them.
    pub reserved: BTreeMap<String, IpAddr>,
    /// Options of the driver: docker's.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Default for NetworkRequest {
    fn default() -> Self {
        Self {
            name: String::new(),
            driver: Driver::Bridge,
            internal: false,
            ipv4: true,
            ipv6: false,
            subnets: Vec::new(),
            ranges: Vec::new(),
            gateways: Vec::new(),
            reserved: BTreeMap::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in nanoseconds since 1970 (UTC).
    pub created: u64,
    /// What carries its packets.
    pub driver: Driver,
    /// It has no way out, and none in.
    pub internal: bool,
    /// It has addresses of IPv4.
    pub ipv4: bool,
    /// It has addresses of IPv6.
    pub ipv6: bool,
    /// Its subnets; of the network `bridge` none before that is used.
    pub subnets: Vec<Subnet>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is connected with it, whether it runs or not.
    pub members: Vec<Member>,
}

impl Network {
    /// Returns the digits of the id that people are shown.
    #[must_use]
    pub fn short_id(&self) -> &str {
        crate::id::short(&self.id)
    }

    /// Tells whether it is one of those that are there from the beginning.
    #[must_use]
    pub fn is_given(&self) -> bool {
        is_given(&self.name)
    }
}

/// A container or pod in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub runs: bool,
    /// Its hardware address there.
    pub mac: MacAddress,
    /// Its addresses there, with the lengths of their subnets.
    pub addresses: Vec<IpNet>,
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The network's id.
    pub id: String,
    /// The network's name.
    pub network: String,
    /// What carries its packets.
    pub driver: Driver,
    /// Its device, as `eth0`.
    pub device: String,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its addresses, with the lengths of their subnets.
    pub addresses: Vec<IpNet>,
    /// The host's addresses there.
    pub gateways: Vec<IpAddr>,
    /// Further names that it has there.
    pub aliases: Vec<String>,
    /// The addresses that it asked for.
    pub asked: Vec<IpAddr>,
    /// By that of the highest one packets go that go nowhere else.
    pub gateway_priority: i32,
}

/// Tells whether containers find each other by their names in a network: docker's default one has none, nor have those from elsewhere
/// any that we know.
pub(crate) fn has_names(name: &str) -> bool {
    !is_given(name) && !is_elsewhere(name)
}

/// Tells whether a network of this name is there from the beginning.
pub(crate) fn is_given(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

impl Engine {
    /// Returns what a container has in its networks, whether it runs or not.
    ///
    /// # Errors
    /// As the store.
    pub fn connections_of(&self, container: &Container) -> Result<Vec<Connected>> {
        self.connected(&container.id, &container.request)
    }

    /// Returns the ports of the host that lead to a container that runs.
    ///
    /// # Errors
    /// A file of ours that cannot be read.
    pub fn ports_of(&self, container: &Container) -> Result<Vec<PublishedPort>> {
        let publishing = &container.request.publishing;
        if !container.state.is_active() || !publishing.is_any() {
            return Ok(Vec::new());
        }
        Ok(self.published(&container.id)?.unwrap_or_default())
    }

    /// Lists the networks of which the starts and ends of a container tell. What happened has happened, whether they can be read or not.
    pub(crate) fn networks_to_tell(&self, known: &Known) -> Vec<NetworkRecord> {
        let connections = known.document.request.namespaces.network.connections();
        if connections.is_empty() {
            return Vec::new();
        }
        let ids = connections.iter().map(|connection| connection.id.as_ref().unwrap_or(&connection.network));
        let each = |connected: &bulkhead_store::Connected<'_>| {
            Ok(ids.filter_map(|id| connected.network(id).ok()).collect())
        };
        self.store.connected(each).unwrap_or_default()
    }

    /// Records that something happened to a network. What happened has happened, whether that can be recorded or not.
    fn tell_network(&self, record: &NetworkRecord, action: &str, more: &[(&str, &str)]) {
        let event = Event::new(Subject::Network, action, &record.id).with("name", &record.name);
        let event = more.iter().fold(event, |event, (key, value)| event.with(key, value));
        let _ = self.store.record_event(&event);
    }
}

/// Says that a container is connected with a network, or is not any more (`connect`, `disconnect`).
pub(crate) fn connection_event(network: &NetworkRecord, action: &str, container: &str) -> Event {
    let event = Event::new(Subject::Network, action, &network.id);
    let event = event.with("name", bare(&network.name)).with("container", container);
    match document::NetworkDocument::read(network) {
        Ok(document) => event.with("type", &document.driver.to_string()),
        Err(_) => event,
    }
}

impl Engine {
    /// Chooses the network of a container for which nothing is said; returns what the user should be told.
    ///
    /// # Errors
    /// As [`Engine::create_network`], so that one that is not there is told of before anything is made.
    pub(crate) fn choose_network(&self, request: &mut Request) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        if request.namespaces.network == request::Network::Default && machine::caller() != Caller::Root {
            let found = match (self.not_carried(request)?, request::Carrier::installed()) {
                (Some(reason), _) => Err(reason),
                (None, carrier) => carrier.ok_or_else(carrier::none_installed),
            };
            request.namespaces.network = match found {
                Ok(carrier) => request::Network::Carried(carrier),
                Err(reason) if request.publishing.is_any() => {
                    return Err(Error::Invalid { what: "--publish".into(), reason });
                }
                Err(reason) => {
                    warnings.push(format!("the container has no network: {reason}"));
                    request::Network::None
                }
            };
        }
        choose(&mut request.namespaces.network)?;
        check_publishing(&request.publishing)?;
        warnings.extend(self.check_carried(request)?);
        let is_shared = matches!(request.namespaces.network, request::Network::Container(_));
        if is_shared && request.publishing != request::Publishing::default() {
            let reason = "the ports are those of the container whose network is shared: publish them there";
            return Err(Error::Invalid { what: "--publish".into(), reason: reason.into() });
        }
        Ok(warnings)
    }

    /// Makes sure that a program can carry the packets of a container for which one is to; returns what the user should be told.
    fn check_carried(&self, request: &Request) -> Result<Vec<String>> {
        let Some(carrier) = carrier_of(&request.namespaces.network) else { return Ok(Vec::new()) };
        if let Some(reason) = self.not_carried(request)? {
            return Err(Error::Invalid { what: format!("--network {}", carrier.name()), reason });
        }
        let warnings = carrier.check()?;
        ports::check_carried(&request.publishing, carrier)?;
        Ok(warnings)
    }

    /// Says why no program can carry a container's packets, if none can.
    fn not_carried(&self, request: &Request) -> Result<Option<String>> {
        let user = &request.namespaces.user;
        if matches!(user, Some(request::UserNamespace::Container(_) | request::UserNamespace::Pod)) {
            let reason = "the container shares the users of others: it can share their network, too, by \
                `--network container:NAME`";
            return Ok(Some(reason.to_owned()));
        }
        let runtime = self.runtime(request.runtime.as_deref())?;
        Ok((runtime.family() == Family::Gvisor).then(|| {
            format!(
                "{} has a network of its own, into which no program of its user comes: choose `--network none` or `host`",
                request.runtime.as_deref().unwrap_or("the runtime")
            )
        }))
    }
}

/// Chooses the network that a pod's containers share, if nothing is said; returns what the user should be told.
///
/// # Errors
/// A carrier that is not installed, or cannot publish the ports.
pub(crate) fn choose_for_pod(request: &mut PodRequest) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let PodRequest { network, publishing, .. } = request;
    if *network == request::Network::Default && machine::caller() != Caller::Root {
        *network = match request::Carrier::installed() {
            Some(carrier) => request::Network::Carried(carrier),
            None if *publishing != request::Publishing::default() => {
                let reason = carrier::none_installed();
                return Err(Error::Invalid { what: "--publish of a pod".into(), reason });
            }
            None => {
                warnings.push(format!("the pod's network leads nowhere: {}", carrier::none_installed()));
                request::Network::None
            }
        };
    }
    choose(network)?;
    if let Some(carrier) = carrier_of(network) {
        warnings.extend(carrier.check()?);
        ports::check_carried(publishing, carrier)?;
    }
    Ok(warnings)
}

/// As [`Engine::choose_network`], for whoever has a network.
pub(crate) fn choose(network: &mut request::Network) -> Result<()> {
    let is_root = machine::caller() == Caller::Root;
    if *network == request::Network::Default {
        *network = if is_root {
            request::Network::Networks(vec![Connection { network: "bridge".into(), ..Connection::default() }])
        } else {
            request::Network::None
        };
    }
    if let (request::Network::Carried(carrier), true) = (&*network, is_root) {
        let reason = "it is for containers of ordinary users: root's have networks of the host, as `bridge`";
        return Err(Error::Invalid { what: format!("--network {}", carrier.name()), reason: reason.into() });
    }
    if let ([first, ..], false) = (network.connections(), is_root) {
        return Err(create::not_for_users(&first.network));
    }
    Ok(())
}
