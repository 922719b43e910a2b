//! What the engine keeps of a network in the store's record, as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use bulkhead_net::bridge::Bridge;
use bulkhead_net::device::MacvlanMode;
use bulkhead_net::pool::Range;
use bulkhead_net::rules;
use bulkhead_store::NetworkRecord;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::elsewhere::Elsewhere;
use crate::error::{Error, Result};
use crate::request::Malformed;

/// The version of this document. One that is newer is refused, since what is not understood of it could be lost.
const VERSION: u32 = 1;

/// How the bridges of all networks begin, by which administrators know them.
pub(crate) const PREFIX: &str = "bh-";

/// What carries the packets of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// A bridge of the host's, with a way out.
    #[default]
    Bridge,
    /// A device of the host's, on whose cable each container has a hardware address of its own.
    Macvlan,
    /// The host's own network: `--network host` by another name.
    Host,
    /// Nothing: `--network none` by another name.
    None,
    /// Programs of others (CNI).
    Cni,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Host => "host",
            Self::None => "null",
            Self::Cni => "cni",
        })
    }
}

impl FromStr for Driver {
    type Err = Malformed;

    fn from_str(text: &str) -> std::result::Result<Self, Malformed> {
        match text {
            "bridge" => Ok(Self::Bridge),
            "macvlan" => Ok(Self::Macvlan),
            "host" | "null" | "none" => Err(Malformed::new(
                "driver",
                text,
                "there is one network of it, which is there: `--network host`, `--network none`",
            )),
            "cni" => Err(Malformed::new(
                "driver",
                text,
                "networks of CNI are described in files, by convention below /etc/cni/net.d, and are there without being made",
            )),
            _ => Err(Malformed::new("driver", text, "the drivers are bridge and macvlan")),
        }
    }
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// All of its addresses.
    pub subnet: IpNet,
    /// Those from which containers get some that ask for none; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNet>,
    /// The host's address, by which packets go elsewhere.
    pub gateway: IpAddr,
    /// Addresses that nobody gets, with names for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, IpAddr>,
    /// Nobody has asked for it, nor for a part of it: another one would do as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_free_choice: bool,
}

impl Subnet {
    /// Returns what addresses are chosen from.
    pub(crate) fn choices(&self) -> Result<Range> {
        Ok(Range::new(self.subnet, self.range, Some(self.gateway))?)
    }

    /// Returns an address with the length of the subnet.
    pub(crate) fn of(&self, address: IpAddr) -> IpNet {
        IpNet::new(address, self.subnet.prefix_len()).unwrap_or(self.subnet)
    }
}

/// A network's part of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkDocument {
    pub(crate) version: u32,
    pub(crate) driver: Driver,
    /// It has no way out.
    pub(crate) internal: bool,
    /// It has addresses of IPv4.
    pub(crate) ipv4: bool,
    /// It has addresses of IPv6.
    pub(crate) ipv6: bool,
    /// At most one of each family; none before they are chosen.
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Docker's options, as they were asked for.
    pub(crate) options: BTreeMap<String, String>,
    /// Bytes in a packet at most.
    pub(crate) mtu: Option<u32>,
    /// The device on whose cable containers are.
    pub(crate) parent: Option<String>,
    /// Which packets of a macvlan go where.
    pub(crate) mode: Mode,
    /// Packets keep their addresses when they leave the host.
    pub(crate) routed: bool,
    /// Its containers do not reach each other but by published ports.
    pub(crate) isolated: bool,
    /// The address of the host for ports that are published without one.
    pub(crate) published_at: Option<IpAddr>,
    /// Nothing is put into the rules of the host's firewall for it.
    pub(crate) firewall_untouched: bool,
    /// Where it is described, if plugins make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// Which packets of a macvlan go where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    #[default]
    Bridge,
    Private,
    Vepa,
    Passthru,
}

impl From<Mode> for MacvlanMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Bridge => Self::Bridge,
            Mode::Private => Self::Private,
            Mode::Vepa => Self::Vepa,
            Mode::Passthru => Self::Passthru,
        }
    }
}

impl Default for NetworkDocument {
    fn default() -> Self {
        Self {
            version: VERSION,
            driver: Driver::Bridge,
            internal: false,
            ipv4: true,
            ipv6: false,
            subnets: Vec::new(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            mtu: None,
            parent: None,
            mode: Mode::Bridge,
            routed: false,
            isolated: false,
            published_at: None,
            firewall_untouched: false,
            elsewhere: None,
        }
    }
}

impl NetworkDocument {
    /// Tells whether an address is in one of its subnets.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.subnet.contains(&address))
    }

    /// Reads the document of a record.
    ///
    /// # Errors
    /// [`Error::Damaged`] for one that is none, or is newer.
    pub(crate) fn read(record: &NetworkRecord) -> Result<Self> {
        let damaged =
            |reason| Error::Damaged { what: format!("the record of network {}", record.name), reason };
        let document: Self =
            serde_json::from_str(&record.document).map_err(|error| damaged(error.to_string()))?;
        if document.version > VERSION {
            return Err(damaged(format!(
                "it has version {}, and this program knows none after {VERSION}",
                document.version
            )));
        }
        Ok(document)
    }

    pub(crate) fn write(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::Damaged { what: "a new network".to_owned(), reason: error.to_string() })
    }

    /// Returns the bridge of the network of this id.
    pub(crate) fn bridge(&self, id: &str) -> Bridge {
        Bridge {
            name: bridge_name(id),
            owner: id.to_owned(),
            addresses: self.subnets.iter().map(|subnet| subnet.of(subnet.gateway)).collect(),
            mtu: self.mtu,
            is_internal: self.internal,
            is_isolated: self.isolated,
        }
    }

    /// Returns the network of this id as the packet filter knows it.
    pub(crate) fn rules(&self, id: &str) -> rules::Network {
        let is_changed = !self.routed && !self.internal;
        rules::Network {
            bridge: bridge_name(id),
            subnets: self.subnets.iter().map(|subnet| subnet.subnet).collect(),
            masqueraded: self.subnets.iter().filter(|_| is_changed).map(|subnet| subnet.subnet).collect(),
            is_internal: self.internal,
            is_isolated: self.isolated,
        }
    }
}

fn bridge_name(id: &str) -> String {
    format!("{PREFIX}{}", crate::id::short(id))
}
