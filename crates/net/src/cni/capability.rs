//! What is asked for one attachment: ports, addresses and the like, for the plugins that say that they take it.
//!
//! The names and the forms are those of the specification's conventions, <https://www.cni.dev/docs/conventions/>.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::device::Mac;
use crate::rules::Protocol;

/// What is asked for one attachment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capabilities(pub(super) BTreeMap<String, Value>);

/// A port of the host that is to lead to one of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The address of the host; all without it.
    pub address: Option<IpAddr>,
    /// The host's.
    pub port: u16,
    /// The container's.
    pub inside: u16,
    /// The protocol above IP.
    pub protocol: Protocol,
}

/// How much may pass; what is not given is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Into the container, in bits per second, and in bits at once.
    pub into: Option<(u64, u64)>,
    /// Out of it.
    pub out: Option<(u64, u64)>,
}

/// Where addresses are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The subnet.
    pub subnet: IpNet,
    /// The first address.
    pub first: Option<IpAddr>,
    /// The last address.
    pub last: Option<IpAddr>,
    /// The router's.
    pub gateway: Option<IpAddr>,
}

impl Mapping {
    /// A port of all addresses of the host.
    #[must_use]
    pub fn new(port: u16, inside: u16, protocol: Protocol) -> Self {
        Self { address: None, port, inside, protocol }
    }
}

impl Capabilities {
    /// Published ports.
    pub const PORTS: &str = "portMappings";
    /// Addresses.
    pub const ADDRESSES: &str = "ips";
    /// The hardware address.
    pub const MAC: &str = "mac";
    /// How much may pass.
    pub const BANDWIDTH: &str = "bandwidth";
    /// More names.
    pub const ALIASES: &str = "aliases";
    /// Where addresses are taken from.
    pub const RANGES: &str = "ipRanges";

    /// Asks for published ports.
    pub fn ports(&mut self, ports: &[Mapping]) -> &mut Self {
        let ports = ports.iter().map(|Mapping { address, port, inside, protocol }| {
            let mut mapping = Map::from_iter([
                ("hostPort".to_owned(), json!(port)),
                ("containerPort".to_owned(), json!(inside)),
                ("protocol".to_owned(), json!(protocol.to_string())),
            ]);
            if let Some(address) = address {
                mapping.insert("hostIP".to_owned(), json!(address.to_string()));
            }
            Value::Object(mapping)
        });
        let ports = ports.collect();
        self.other(Self::PORTS, ports)
    }

    /// Asks for addresses, with the lengths of their subnets.
    pub fn addresses(&mut self, addresses: &[IpNet]) -> &mut Self {
        self.other(Self::ADDRESSES, addresses.iter().map(ToString::to_string).collect())
    }

    /// Asks for a hardware address.
    pub fn mac(&mut self, mac: Mac) -> &mut Self {
        self.other(Self::MAC, json!(mac.to_string()))
    }

    /// Bounds how much may pass.
    pub fn bandwidth(&mut self, bandwidth: Bandwidth) -> &mut Self {
        let Bandwidth { into, out } = bandwidth;
        let mut bounds = Map::new();
        for (bound, [rate, burst]) in
            [(into, ["ingressRate", "ingressBurst"]), (out, ["egressRate", "egressBurst"])]
        {
            if let Some((bits, at_once)) = bound {
                bounds.extend([(rate.to_owned(), json!(bits)), (burst.to_owned(), json!(at_once))]);
            }
        }
        self.other(Self::BANDWIDTH, Value::Object(bounds))
    }

    /// Asks for more names.
    pub fn aliases(&mut self, names: &[String]) -> &mut Self {
        self.other(Self::ALIASES, json!(names))
    }

    /// Says where addresses are taken from: one of each set.
    pub fn ranges(&mut self, sets: &[Vec<Range>]) -> &mut Self {
        let set = |ranges: &Vec<Range>| -> Value { ranges.iter().map(Range::document).collect() };
        self.other(Self::RANGES, sets.iter().map(set).collect())
    }

    /// Asks for something by its name in the conventions.
    pub fn other(&mut self, capability: &str, value: Value) -> &mut Self {
        self.0.insert(capability.to_owned(), value);
        self
    }
}

impl Range {
    fn document(&self) -> Value {
        let Self { subnet, first, last, gateway } = self;
        let mut range = Map::from_iter([("subnet".to_owned(), json!(subnet.to_string()))]);
        for (name, address) in [("rangeStart", first), ("rangeEnd", last), ("gateway", gateway)] {
            if let Some(address) = address {
                range.insert(name.to_owned(), json!(address.to_string()));
            }
        }
        Value::Object(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_has_the_conventions_forms() {
        let mut asked = Capabilities::default();
        let mut loopback = Mapping::new(53, 5353, Protocol::Udp);
        loopback.address = Some(IpAddr::from([127, 0, 0, 1]));
        asked.ports(&[Mapping::new(8080, 80, Protocol::Tcp), loopback]);
        asked.addresses(&["10.1.0.5/24".parse().unwrap()]).mac(Mac([2, 0, 0, 0, 0, 0x1f]));
        asked.bandwidth(Bandwidth { into: Some((1000, 10)), out: None }).aliases(&["db".to_owned()]);
        let range = Range {
            subnet: "10.1.0.0/24".parse().unwrap(),
            first: Some(IpAddr::from([10, 1, 0, 5])),
            last: None,
            gateway: None,
        };
        asked.ranges(&[vec![range]]);
        let expected = json!({
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "127.0.0.1"},
            ],
            "ips": ["10.1.0.5/24"],
            "mac": "02:00:00:00:00:1f",
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 10},
            "aliases": ["db"],
            "ipRanges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.5"}]],
        });
        assert_eq!(Value::Object(asked.0.into_iter().collect()), expected);
    }
}
