//! A network.

use bulkhead_engine::network::{Member, Network};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::moment;

/// What `network inspect` prints of it.
pub(crate) fn network(network: &Network) -> Value {
    let subnet = |subnet: &bulkhead_engine::network::Subnet| {
        let mut document = json!({ "Subnet": subnet.subnet, "Gateway": subnet.gateway });
        if let Some(range) = subnet.range {
            document["IPRange"] = json!(range);
        }
        if !subnet.reserved.is_empty() {
            document["AuxiliaryAddresses"] = json!(subnet.reserved);
        }
        document
    };
    // Docker lists those that run.
    let members = network.members.iter().filter(|member| member.runs);
    let members: Map<String, Value> = members.map(|of| (of.id.clone(), member(of))).collect();
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": moment(Some(network.created)),
        "Scope": "local",
        "Driver": network.driver.to_string(),
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": Vec::from_iter(network.subnets.iter().map(subnet)),
        },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": members,
        "Options": network.options,
        "Labels": network.labels,
    })
}

fn member(member: &Member) -> Value {
    let of = |is_v4: bool| {
        let found = member.addresses.iter().find(|address| address.addr().is_ipv4() == is_v4);
        found.map(IpNet::to_string).unwrap_or_default()
    };
    json!({
        "Name": member.name,
        "EndpointID": "",
        "MacAddress": member.mac.to_string(),
        "IPv4Address": of(true),
        "IPv6Address": of(false),
    })
}
