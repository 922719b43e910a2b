//! Verbs of networks.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use bulkhead_engine::network::{Driver, FILTERS, Network, NetworkRequest};
use bulkhead_engine::request::{Connection, KeyValue, MacAddress, name_of_host};
use bulkhead_engine::{Filters, Force};
use clap::Args;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::confirm::{Pruning, UNTIL, tell_removed};
use crate::container::life::each;
use crate::failure::{Failure, warn};
use crate::home::Home;
use crate::output::listing::{Column, Listing, Row, joined, listed};
use crate::output::quantity::local;
use crate::verbs::Operation;

/// Create a network
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead network create [OPTIONS] NETWORK")]
pub(crate) struct Create {
    /// What carries its packets: bridge or macvlan
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: Driver,
    /// A subnet, as 10.1.0.0/24; without it one that nobody uses
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<IpNet>,
    /// The part of the subnet from which containers get addresses
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<IpNet>,
    /// The host's address in the subnet; without it the first
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// An address in the subnet that no container gets
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<KeyValue>,
    /// Let no packet out, and none in
    #[arg(long)]
    internal: bool,
    /// Give addresses of IPv6, too
    #[arg(long)]
    ipv6: bool,
    /// Give addresses of IPv4
    #[arg(long, default_value = "true")]
    ipv4: bool,
    /// Set an option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<KeyValue>,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<KeyValue>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
}

impl Operation for Create {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Create { driver, subnet, ip_range, gateway, aux_address, internal, ipv6, ipv4, opt, label, name } =
            self;
        let pairs =
            |list: Vec<KeyValue>| list.into_iter().map(|KeyValue { key, value }| (key, value)).collect();
        let address = |KeyValue { key, value }: KeyValue| match value.parse::<IpAddr>() {
            Ok(address) => Ok((key, address)),
            Err(_) => Err(Failure::new(format!("--aux-address {key}={value}: expected NAME=ADDRESS"))),
        };
        let reserved = aux_address.into_iter().map(address).collect::<Result<BTreeMap<_, _>, _>>()?;
        let request = NetworkRequest {
            name,
            driver,
            internal,
            ipv4,
            ipv6,
            subnets: subnet,
            ranges: ip_range,
            gateways: gateway,
            reserved,
            options: pairs(opt),
            labels: pairs(label),
        };
        let (network, warnings) = home.engine()?.create_network(&request)?;
        warnings.iter().for_each(|text| warn(text));
        writeln!(io::stdout(), "{}", network.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// List networks
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those that fit, such as driver=bridge
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
}

const TITLES: &[Column] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

impl Operation for List {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let List { filter, format, no_trunc, quiet } = self;
        let networks = home.engine()?.networks(&Filters::parse(&filter, &FILTERS)?)?;
        let id =
            |network: &Network| if no_trunc { network.id.clone() } else { network.short_id().to_owned() };
        if quiet {
            return listed(networks.iter().map(id));
        }
        let row = |network: &Network| Row::new(fields(network, &id(network)), &network.labels);
        let usual = &["ID", "Name", "Driver", "Scope"];
        Listing { titles: TITLES, usual }.show(format.as_deref(), networks.iter().map(row))
    }
}

fn fields(network: &Network, id: &str) -> Map<String, Value> {
    let fields = json!({
        "ID": id,
        "Name": network.name,
        "Driver": network.driver.to_string(),
        "Scope": "local",
        "IPv4": network.ipv4.to_string(),
        "IPv6": network.ipv6.to_string(),
        "Internal": network.internal.to_string(),
        "Labels": joined(&network.labels),
        "CreatedAt": local(network.created),
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}

/// Remove networks
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Take one that is not there for removed
    #[arg(short, long)]
    force: bool,
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl Operation for Remove {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Remove { force, networks } = self;
        let force = if force { Force::Yes } else { Force::No };
        let engine = home.engine()?;
        each(&networks, |name| {
            engine.remove_network(name, force)?;
            Ok(name.to_owned())
        })
    }
}

/// Remove networks with which nothing is connected
#[derive(Args, Debug)]
pub(crate) struct Prune {
    #[command(flatten)]
    pruning: Pruning,
}

/// What `network prune` is filtered by.
const PRUNED: &[&str] = &["label", "label!", UNTIL];

impl Operation for Prune {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let warning = "This removes all networks with which no container is connected.";
        let Some((filters, until)) = self.pruning.agreed_until(warning, PRUNED)? else {
            return Ok(ExitCode::SUCCESS);
        };
        tell_removed("Networks", &home.engine()?.prune_networks(&filters, until)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Connect a container with a network
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead network connect [OPTIONS] NETWORK CONTAINER")]
pub(crate) struct Connect {
    /// Give it one more name there
    #[arg(long, value_name = "NAME", value_parser = alias)]
    alias: Vec<String>,
    /// Its address of IPv4 there
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Its address of IPv6 there
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Its hardware address there
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<MacAddress>,
    /// By the highest one go packets that go nowhere else
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "0",
        allow_negative_numbers = true,
        hide_default_value = true
    )]
    gw_priority: i32,
    /// Set an option of the connection
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Operation for Connect {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Connect { alias, ip, ip6, mac_address, gw_priority, driver_opt, network, container } = self;
        let mut connection = Connection {
            network,
            id: None,
            aliases: alias,
            ipv4: ip,
            ipv6: ip6,
            mac: mac_address,
            device: None,
            gateway_priority: gw_priority,
        };
        for option in driver_opt {
            let read: Connection = format!("name=x,driver-opt={option}")
                .parse()
                .map_err(|error: bulkhead_engine::request::Malformed| Failure::new(error.to_string()))?;
            connection.device = read.device;
        }
        let warnings = home.engine()?.connect_network(&container, &connection)?;
        warnings.iter().for_each(|text| warn(text));
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a further name of a container.
pub(crate) fn alias(text: &str) -> Result<String, String> {
    name_of_host(text).ok_or_else(|| "a name has letters, digits, dots, `-` and `_`".to_owned())
}

/// Take a container away from a network
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead network disconnect [OPTIONS] NETWORK CONTAINER")]
pub(crate) struct Disconnect {
    /// Take one that is not there for disconnected
    #[arg(short, long)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Operation for Disconnect {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Disconnect { force, network, container } = self;
        let force = if force { Force::Yes } else { Force::No };
        let warnings = home.engine()?.disconnect_network(&container, &network, force)?;
        warnings.iter().for_each(|text| warn(text));
        Ok(ExitCode::SUCCESS)
    }
}
