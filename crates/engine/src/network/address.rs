//! Which addresses a container or pod has in its networks: chosen once, and its own for as long as it exists.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_net::cni::Attached;
use bulkhead_net::device::Mac;
use bulkhead_net::pool;
use bulkhead_store::{Endpoint, NetworkRecord};
use serde::{Deserialize, Serialize};

use super::Connected;
use super::document::{Driver, NetworkDocument, Subnet};
use super::elsewhere;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::request::{Connection, MacAddress, Network, Publishing};

/// What the engine keeps of an endpoint in the store's record: what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct EndpointDocument {
    pub(super) connection: Connection,
}

impl EndpointDocument {
    pub(super) fn read(endpoint: &Endpoint) -> Result<Self> {
        serde_json::from_str(&endpoint.document).map_err(|error| damaged(&endpoint.owner, &error))
    }

    fn write(&self, owner: &str) -> Result<String> {
        serde_json::to_string(self).map_err(|error| damaged(owner, &error))
    }
}

fn damaged(owner: &str, error: &serde_json::Error) -> Error {
    Error::Damaged { what: format!("what {owner} has in a network"), reason: error.to_string() }
}

/// A network with which something is connected.
#[derive(Debug, Clone)]
pub(crate) struct Joint {
    pub(crate) record: NetworkRecord,
    pub(super) document: NetworkDocument,
    pub(crate) endpoint: Endpoint,
    pub(super) connection: Connection,
    /// What plugins have made of it, if it is of a network from elsewhere and attached.
    pub(super) attached: Option<Attached>,
}

/// How the device of an endpoint is called in the container unless something else is asked for.
fn device_at(position: u32) -> String {
    format!("eth{position}")
}

/// Refuses connections of which two would have one device.
pub(crate) fn look_at_devices(joints: &[(Joint, bool)]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match joints.iter().map(|(joint, _)| joint).find(|joint| !seen.insert(joint.device())) {
        Some(joint) => Err(Error::Invalid {
            what: format!("network {}", joint.record.name),
            reason: format!(
                "its device in the container would be {}, as that of another network; give it another name by \
                `--driver-opt com.docker.network.endpoint.ifname=NAME`",
                joint.device()
            ),
        }),
        None => Ok(()),
    }
}

impl Joint {
    /// Returns the subnet in which an address is.
    pub(super) fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.document.subnets.iter().find(|subnet| subnet.subnet.contains(&address))
    }

    pub(super) fn addresses(&self) -> Vec<ipnet::IpNet> {
        if let Some(attached) = &self.attached {
            return elsewhere::addresses_of(attached, &self.device());
        }
        let of = |address| Some(self.subnet_of(address)?.of(address));
        self.endpoint.addresses().filter_map(of).collect()
    }

    /// Returns its addresses without the lengths of their subnets.
    pub(super) fn own_addresses(&self) -> Vec<IpAddr> {
        self.addresses().iter().map(ipnet::IpNet::addr).collect()
    }

    pub(super) fn mac(&self) -> Mac {
        if let Some(attached) = &self.attached {
            return elsewhere::mac_of(attached, &self.device());
        }
        let made = || Mac(pool::hardware_address(self.endpoint.addresses().next().unwrap_or([0; 4].into())));
        self.connection.mac.map_or_else(made, |mac| mac.0)
    }

    pub(super) fn device(&self) -> String {
        self.connection.device.clone().unwrap_or_else(|| device_at(self.endpoint.position))
    }

    /// Tells whether its containers find each other by their names: docker's default network has none.
    pub(crate) fn has_names(&self) -> bool {
        super::has_names(&self.record.name)
    }

    /// Tells whether packets may leave by it. Of a network from elsewhere that is known when plugins have told it.
    pub(super) fn is_open(&self) -> bool {
        !self.document.internal
            && self.attached.as_ref().is_none_or(|of| !elsewhere::gateways_of(of).is_empty())
    }

    /// Returns the host's addresses by which packets go elsewhere; none where they go nowhere.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        if self.is_elsewhere() {
            return self.attached.as_ref().map(elsewhere::gateways_of).unwrap_or_default();
        }
        let is_open = !self.document.internal;
        self.document.subnets.iter().filter(|_| is_open).map(|subnet| subnet.gateway).collect()
    }

    /// Tells whether ports are published at an address that the host has by this network.
    pub(super) fn is_published_at(&self, publishing: &Publishing) -> bool {
        let asked = publishing.ports.iter().filter_map(|port| port.address);
        asked.chain(self.document.published_at).any(|address| self.document.has_address(address))
    }

    /// Describes it for who looks.
    pub(crate) fn connected(&self) -> Connected {
        let asked = [self.connection.ipv4.map(IpAddr::V4), self.connection.ipv6.map(IpAddr::V6)];
        Connected {
            id: self.record.id.clone(),
            network: self.record.name.clone(),
            driver: self.document.driver,
            device: self.device(),
            mac: MacAddress(self.mac()),
            addresses: self.addresses(),
            gateways: self.gateways(),
            aliases: self.connection.aliases.clone(),
            asked: asked.into_iter().flatten().collect(),
            gateway_priority: self.connection.gateway_priority,
        }
    }
}

impl Connection {
    /// Refuses further names in a network in which nobody has names.
    pub(super) fn refuse_aliases_in(&self, record: &NetworkRecord) -> Result<()> {
        match self.aliases.first().filter(|_| super::is_given(&record.name)) {
            Some(alias) => Err(Error::Invalid {
                what: format!("--network-alias {alias}"),
                reason: format!(
                    "network {} has no names, as docker's; `bulkhead network create` makes one that has",
                    record.name
                ),
            }),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Finds the networks that are asked for, and settles the subnets of those that have none yet.
    pub(crate) fn networks_of(
        &self,
        connections: &[Connection],
    ) -> Result<Vec<(NetworkRecord, NetworkDocument)>> {
        let find = |connection: &Connection| {
            let record = match &connection.id {
                Some(id) => self.store.network(id).map_err(|error| gone(connection, error))?,
                None => self.network_to_join(&connection.network)?,
            };
            let document = self.settle_subnets(&record)?;
            match document.driver {
                Driver::Bridge | Driver::Macvlan | Driver::Cni => Ok((record, document)),
                Driver::Host | Driver::None => {
                    let reason = "it stands alone: a container has it, or networks with names".to_owned();
                    Err(Error::Invalid { what: format!("--network {}", record.name), reason })
                }
            }
        };
        connections.iter().map(find).collect()
    }

    /// Has connections know their networks for good, whatever is called so later.
    pub(crate) fn identify_networks(&self, network: &mut Network) -> Result<()> {
        let Network::Networks(connections) = network else { return Ok(()) };
        let mut seen = BTreeSet::new();
        let found = self.networks_of(connections)?;
        elsewhere::check_asked(&found, connections)?;
        for (connection, (record, _)) in connections.iter_mut().zip(found) {
            if !seen.insert(record.id.clone()) {
                let reason = "the container is connected with it already".to_owned();
                return Err(Error::Invalid { what: format!("--network {}", connection.network), reason });
            }
            connection.refuse_aliases_in(&record)?;
            connection.network = record.name;
            connection.id = Some(record.id);
        }
        Ok(())
    }

    /// Returns what a container or pod has in its networks, and records what it has not yet.
    pub(crate) fn joints(&self, owner: &str, connections: &[Connection]) -> Result<Vec<Joint>> {
        self.joints_with(owner, connections, |_| false)
    }

    /// As [`Engine::joints`], and what is recorded of a network that is new is of somebody who was killed while he connected it: it is
    /// settled as it is asked for now.
    pub(super) fn joints_with(
        &self,
        owner: &str,
        connections: &[Connection],
        is_new: impl Fn(&Endpoint) -> bool,
    ) -> Result<Vec<Joint>> {
        let networks = self.networks_of(connections)?;
        let mut known = self.store.connected(|connected| connected.endpoints_of(owner))?;
        known.retain(|endpoint| !is_new(endpoint));
        let mut joints = joined(owner, networks, connections, &known);
        joints.iter_mut().for_each(|(joint, _)| self.fill_attached(joint));
        look_at_devices(&joints)?;
        if joints.iter().all(|(_, is_known)| *is_known) {
            return Ok(joints.into_iter().map(|(joint, _)| joint).collect());
        }
        let mut refused = None;
        let kept = self.store.connect(bulkhead_store::Durability::PowerLoss, |connected| {
            for (joint, _) in joints.iter_mut().filter(|(_, is_known)| !is_known) {
                settle(connected, joint)
                    .map_err(|error| super::create::stored(&mut refused, owner, error))?;
            }
            Ok(())
        });
        match refused {
            Some(error) => Err(error),
            None => {
                kept?;
                Ok(joints.into_iter().map(|(joint, _)| joint).collect())
            }
        }
    }
}

/// Puts networks and what an owner has in them together, and tells of each whether it is recorded; what is not has no address
/// yet.
pub(crate) fn joined(
    owner: &str,
    networks: Vec<(NetworkRecord, NetworkDocument)>,
    connections: &[Connection],
    known: &[Endpoint],
) -> Vec<(Joint, bool)> {
    // Behind those of all others, which are preferred to it.
    let mut free = known.iter().map(|other| other.position.saturating_add(1)).max().unwrap_or(0)..;
    let is_free = |place: u32| {
        let device = device_at(place);
        let is_asked = |connection: &Connection| connection.device.as_ref() == Some(&device);
        !connections.iter().any(is_asked)
    };
    let each = networks.into_iter().zip(connections).map(|((record, document), connection)| {
        let found = known.iter().find(|endpoint| endpoint.network == record.id);
        let endpoint = found.cloned().unwrap_or_else(|| Endpoint {
            owner: owner.to_owned(),
            network: record.id.clone(),
            position: free.find(|place| is_free(*place)).unwrap_or_default(),
            ipv4: None,
            ipv6: None,
            document: String::new(),
        });
        let connection = connection.clone();
        (Joint { record, document, endpoint, connection, attached: None }, found.is_some())
    });
    each.collect()
}

/// Says of a network that was found once that it is not there any more.
fn gone(connection: &Connection, error: bulkhead_store::Error) -> Error {
    match error {
        bulkhead_store::Error::NotFound { .. } => Error::Invalid {
            what: format!("network {}", connection.network),
            reason: "it was removed; `bulkhead network disconnect` takes the container away from it, `network connect` gives it another".into(),
        },
        other => other.into(),
    }
}

/// Chooses the addresses of an endpoint, and records it. Plugins choose those of a network from elsewhere, each time anew.
pub(crate) fn settle(connected: &bulkhead_store::Connected<'_>, joint: &mut Joint) -> Result<()> {
    if !joint.is_elsewhere() {
        // It may have got another subnet since it was looked at.
        joint.document = NetworkDocument::read(&connected.network(&joint.record.id)?)?;
        choose(connected, joint)?;
    }
    joint.endpoint.document =
        EndpointDocument { connection: joint.connection.clone() }.write(&joint.endpoint.owner)?;
    connected.keep(&joint.endpoint)?;
    Ok(())
}

fn choose(connected: &bulkhead_store::Connected<'_>, joint: &mut Joint) -> Result<()> {
    let used = connected.endpoints_in(&joint.record.id)?;
    let Joint { document, connection, .. } = &*joint;
    let (mut ipv4, mut ipv6) = (None, None);
    let lacks = |address: &str, family: &str| Error::Invalid {
        what: format!("--ip{} {address}", if family == "IPv6" { "6" } else { "" }),
        reason: format!("network {} has no subnet of {family}", joint.record.name),
    };
    if let Some(address) = connection.ipv4.filter(|_| !document.subnets.iter().any(|of| of.gateway.is_ipv4()))
    {
        return Err(lacks(&address.to_string(), "IPv4"));
    }
    if let Some(address) = connection.ipv6.filter(|_| !document.subnets.iter().any(|of| of.gateway.is_ipv6()))
    {
        return Err(lacks(&address.to_string(), "IPv6"));
    }
    for subnet in &document.subnets {
        let taken: BTreeSet<IpAddr> = used
            .iter()
            .filter(|other| other.owner != joint.endpoint.owner)
            .flat_map(Endpoint::addresses)
            .chain(subnet.reserved.values().copied())
            .collect();
        let choices = subnet.choices()?;
        let is_v4 = subnet.gateway.is_ipv4();
        let asked = if is_v4 { connection.ipv4.map(IpAddr::V4) } else { connection.ipv6.map(IpAddr::V6) };
        let address = match asked {
            Some(address) => {
                choices.check(address, &taken)?;
                address
            }
            None => {
                // What its last owner was sent by datagrams comes for a while.
                let address = choices.next(&taken, connected.last_handed_out(&joint.record.id, is_v4)?)?;
                connected.hand_out(&joint.record.id, address)?;
                address
            }
        };
        match address {
            IpAddr::V4(address) => ipv4 = Some(address),
            IpAddr::V6(address) => ipv6 = Some(address),
        }
    }
    joint.endpoint.ipv4 = ipv4;
    joint.endpoint.ipv6 = ipv6;
    Ok(())
}

/// Has what is connected with a network have addresses in a subnet in place of what it had of that family, in the order of those.
pub(super) fn readdress(
    connected: &bulkhead_store::Connected<'_>,
    network: &str,
    subnet: &Subnet,
    endpoints: &mut [Endpoint],
) -> Result<()> {
    let choices = subnet.choices()?;
    let mut taken: BTreeSet<IpAddr> = subnet.reserved.values().copied().collect();
    endpoints.sort_by_key(|endpoint| (endpoint.ipv4, endpoint.ipv6));
    let (is_v4, mut last) = (subnet.gateway.is_ipv4(), None);
    for endpoint in endpoints {
        let has_one = if is_v4 { endpoint.ipv4.is_some() } else { endpoint.ipv6.is_some() };
        if !has_one {
            continue;
        }
        let address = choices.next(&taken, last)?;
        taken.insert(address);
        last = Some(address);
        match address {
            IpAddr::V4(address) => endpoint.ipv4 = Some(address),
            IpAddr::V6(address) => endpoint.ipv6 = Some(address),
        }
    }
    Ok(last.map_or(Ok(()), |last| connected.hand_out(network, last))?)
}
