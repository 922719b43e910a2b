//! How a container is connected with others: `NetworkSettings`, and the ports in `Config` and `HostConfig`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_engine::Container;
use bulkhead_engine::network::{Connected, Driver, PublishedPort};
use bulkhead_engine::request::{Network, Request};
use bulkhead_engine::store::Defaults;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::container::network;
use crate::container::port;

/// What a container has in its networks, and by which ports of the host it is reached.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) connected: Vec<Connected>,
    pub(crate) published: Vec<PublishedPort>,
}

pub(super) fn network_settings(container: &Container, connections: &Connections) -> Value {
    let Connections { connected, published } = connections;
    let runs = container.state.is_active();
    // Docker's old members are those of the network `bridge`.
    let first = connected.iter().find(|of| of.network == "bridge" && runs);
    let address =
        |is_v4: bool| first.and_then(|of| of.addresses.iter().find(|own| own.addr().is_ipv4() == is_v4));
    let gateway = |is_v4: bool| first.and_then(|of| of.gateways.iter().find(|of| of.is_ipv4() == is_v4));
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": container.pid.map_or_else(String::new, |pid| format!("/proc/{pid}/ns/net")),
        "Ports": ports(container, published),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": text(gateway(true)),
        "IPAddress": bare(address(true)),
        "IPPrefixLen": length(address(true)),
        "IPv6Gateway": text(gateway(false)),
        "GlobalIPv6Address": bare(address(false)),
        "GlobalIPv6PrefixLen": length(address(false)),
        "MacAddress": first.map_or_else(String::new, |of| of.mac.to_string()),
        "Networks": networks(container, connected),
    })
}

/// Docker's networks of a container; there is none of one that shares another's.
fn networks(container: &Container, connected: &[Connected]) -> Value {
    let of = &container.request.namespaces.network;
    match of {
        Network::Container(_) | Network::Pod => json!({}),
        Network::Networks(_) => {
            let runs = container.state.is_active();
            let all = connected.iter().map(|of| (of.network.clone(), endpoint(container, of, runs)));
            Value::Object(all.collect())
        }
        _ => json!({ network(of): nothing("") }),
    }
}

fn endpoint(container: &Container, of: &Connected, runs: bool) -> Value {
    let address =
        |is_v4: bool| of.addresses.iter().find(|own| own.addr().is_ipv4() == is_v4).filter(|_| runs);
    let gateway = |is_v4: bool| of.gateways.iter().find(|of| of.is_ipv4() == is_v4).filter(|_| runs);
    let mut document = nothing(&of.id);
    let asked = |is_v4: bool| of.asked.iter().find(|asked| asked.is_ipv4() == is_v4);
    let config = [("IPv4Address", asked(true)), ("IPv6Address", asked(false))];
    let config = config.into_iter().filter_map(|(name, asked)| Some((name.to_owned(), json!(asked?))));
    let config: Map<String, Value> = config.collect();
    document["IPAMConfig"] = if config.is_empty() { Value::Null } else { Value::Object(config) };
    document["Aliases"] = if of.aliases.is_empty() { Value::Null } else { json!(of.aliases) };
    document["MacAddress"] = json!(if runs { of.mac.to_string() } else { String::new() });
    document["GwPriority"] = json!(of.gateway_priority);
    document["Gateway"] = json!(text(gateway(true)));
    document["IPAddress"] = json!(bare(address(true)));
    document["IPPrefixLen"] = json!(length(address(true)));
    document["IPv6Gateway"] = json!(text(gateway(false)));
    document["GlobalIPv6Address"] = json!(bare(address(false)));
    document["GlobalIPv6PrefixLen"] = json!(length(address(false)));
    if of.network != "bridge" && of.driver != Driver::Cni {
        document["DNSNames"] = json!(names(container, of));
    }
    document
}

/// The names by which others find it there, each once.
fn names<'a>(container: &'a Container, of: &'a Connected) -> Vec<&'a str> {
    let own = [container.name.as_str(), container.short_id()].into_iter();
    let all = own.chain(of.aliases.iter().map(String::as_str)).chain(container.request.hostname.as_deref());
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn nothing(id: &str) -> Value {
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "MacAddress": "",
        "DriverOpts": null,
        "GwPriority": 0,
        "NetworkID": id,
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    })
}

fn ports(container: &Container, published: &[PublishedPort]) -> Value {
    let mut all = Map::new();
    if !container.state.is_active() {
        return Value::Object(all);
    }
    for (name, ports) in port::by_container(published) {
        let each = ports.into_iter();
        let each = each.map(|port| json!({ "HostIp": port.address, "HostPort": port.host.to_string() }));
        all.insert(name, Value::Array(each.collect()));
    }
    for port in exposed(&container.request, None) {
        all.entry(port).or_insert(Value::Null);
    }
    Value::Object(all)
}

/// The ports that a container's programs listen at: those that are asked for, and those that the image names.
pub(super) fn exposed(request: &Request, image: Option<&Defaults>) -> BTreeSet<String> {
    let named = image.into_iter().flat_map(|image| image.exposed_ports.keys().cloned());
    let asked = request.publishing.expected().map(|(port, protocol)| format!("{port}/{protocol}"));
    named.chain(asked).collect()
}

/// What was asked to be published, as `HostConfig` has it.
pub(super) fn bindings(request: &Request) -> Value {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for ports in &request.publishing.ports {
        for number in 0..ports.count {
            let host = ports.host.map_or_else(String::new, |host| match ports.choices == ports.count {
                true => (host + number).to_string(),
                false => format!("{host}-{}", host + (ports.choices - 1)),
            });
            let address = ports.address.map_or_else(String::new, |address| address.to_string());
            let name = format!("{}/{}", ports.container + number, ports.protocol);
            all.entry(name).or_default().push(json!({ "HostIp": address, "HostPort": host }));
        }
    }
    json!(all)
}

fn bare(address: Option<&IpNet>) -> String {
    address.map_or_else(String::new, |address| address.addr().to_string())
}

fn length(address: Option<&IpNet>) -> u8 {
    address.map_or(0, IpNet::prefix_len)
}

fn text(address: Option<&IpAddr>) -> String {
    address.map_or_else(String::new, ToString::to_string)
}
