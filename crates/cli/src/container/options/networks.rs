//! With which networks the container is connected, and which of its ports are the host's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_engine::request::{
    ExposedPorts, MacAddress, Network, PublishMode, PublishedPorts, Publishing, Request,
};
use clap::Args;

use crate::failure::{Failure, NOT_STARTED};
use crate::network::alias;

#[derive(Args, Debug)]
pub(super) struct Networks {
    /// Network: a name, none, host, container:NAME
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<Network>,
    /// Give it one more name in its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME", value_parser = alias)]
    network_alias: Vec<String>,
    /// Its address of IPv4
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Its address of IPv6
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Its hardware address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<MacAddress>,
    /// Lead a port of the host to it: [ADDRESS:][HOST:]PORT
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<PublishedPorts>,
    /// Have ports of the host lead to all that are exposed
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// How ports of the host lead to it: dnat, or proxy
    #[arg(long, value_name = "MODE", default_value = "dnat")]
    publish_mode: PublishMode,
    /// Tell of a port that it listens at
    #[arg(long, value_name = "PORT")]
    expose: Vec<ExposedPorts>,
    /// Ask this server for names
    #[arg(long, value_name = "ADDRESS")]
    pub(super) dns: Vec<IpAddr>,
}

impl Networks {
    pub(super) fn apply(self, request: &mut Request) -> Result<(), Failure> {
        let Networks {
            network,
            network_alias,
            ip,
            ip6,
            mac_address,
            publish,
            publish_all,
            publish_mode,
            expose,
            dns,
        } = self;
        request.hosts.servers = dns;
        let refuse = |text: String| Failure::new(text).code(NOT_STARTED);
        // What is not said is the pod's, as far as that has it.
        let nothing = if request.pod.is_some() { Network::Pod } else { Network::Default };
        let is_said = !network.is_empty();
        let mut chosen = Network::Default;
        for more in network {
            chosen.add(more).map_err(|error| refuse(error.to_string()))?;
        }
        request.namespaces.network = if is_said { chosen } else { nothing };
        let asks = !network_alias.is_empty() || ip.is_some() || ip6.is_some() || mac_address.is_some();
        if asks {
            if request.namespaces.network == Network::Default {
                request.namespaces.network = "bridge".parse().unwrap_or_default();
            }
            let word = request.namespaces.network.to_string();
            let Network::Networks(connections) = &mut request.namespaces.network else {
                let text = format!(
                    "--ip, --ip6, --mac-address and --network-alias say nothing with --network {word}"
                );
                return Err(
                    refuse(text).hint("they are about a network of the engine's: `bulkhead network ls`")
                );
            };
            let Some(first) = connections.first_mut() else { return Ok(()) };
            // As docker: the first of several.
            first.aliases.extend(network_alias);
            first.ipv4 = ip.or(first.ipv4);
            first.ipv6 = ip6.or(first.ipv6);
            first.mac = mac_address.or(first.mac);
        }
        request.publishing =
            Publishing { ports: publish, all: publish_all, exposed: expose, mode: publish_mode };
        Ok(())
    }
}
