//! Making a network: a record with subnets that nobody has. Its bridge is made when something is connected with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_net::device::Devices;
use bulkhead_net::overlap::{self, Overlap};
use bulkhead_net::pool::{self, Fate, Holder, POOLS, Range, Used};
use bulkhead_store::{Connected, NetworkRecord};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::document::{Driver, Mode, NetworkDocument, Subnet};
use super::host::Warnings;
use super::start::lacks_parent;
use super::{Network, NetworkRequest, elsewhere};
use crate::configure::Caller;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::{host, id, name};

/// Names that mean something else behind `--network`.
const RESERVED: [&str; 7] = ["bridge", "container", "default", "host", "none", "pasta", "slirp4netns"];

/// Addresses that no host can have on a network, and what they are instead (RFC 6890, section 2.2; RFC 5771; RFC 4291, section 2.4).
const OF_NO_HOST: [(IpNet, &str); 6] = [
    (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)), "those of no host"),
    (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)), "each host's own"),
    (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)), "those of groups (multicast)"),
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128)), "those of no host"),
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)), "each host's own"),
    (
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
        "those of groups (multicast)",
    ),
];

impl Engine {
    /// Makes a network; returns with it what the user should be told.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be; a name or a subnet that is taken.
    pub fn create_network(&self, request: &NetworkRequest) -> Result<(Network, Vec<String>)> {
        if host::caller() != Caller::Root {
            return Err(not_for_users(&request.name));
        }
        check_name(&request.name)?;
        let mut document = document(request)?;
        elsewhere::check_free(&request.name)?;
        let id = id::generate()?;
        let devices = Devices::open()?;
        check_parent(&devices, &document)?;
        let host = used_by_host(&devices)?;
        let (mut refused, mut warnings) = (None, Warnings::new());
        let inserted = self.store.insert_network(|connected| {
            let decided = others_than(connected, None).and_then(|others| {
                let taken = Taken { devices: &devices, others, host: &host };
                document.subnets = decide_subnets(request, &document, &taken)?;
                warnings = taken.hidden_by(&request.name, &document);
                let mut record = NetworkRecord::new(&id, &request.name);
                record.document = document.write()?;
                Ok(record)
            });
            decided.map_err(|error| stored(&mut refused, &request.name, error))
        });
        match refused {
            Some(error) => Err(error),
            None => {
                let record = inserted?;
                self.tell_network(&record, "create", &[("type", &document.driver.to_string())]);
                Ok((self.network(&record.id)?, warnings))
            }
        }
    }

    /// Chooses the subnet of a network that is there from the beginning, when it is used first.
    pub(super) fn settle_subnets(&self, record: &NetworkRecord) -> Result<NetworkDocument> {
        let document = NetworkDocument::read(record)?;
        if !document.subnets.is_empty() || document.driver != Driver::Bridge {
            return Ok(document);
        }
        let devices = Devices::open()?;
        let host = used_by_host(&devices)?;
        let mut refused = None;
        let settled = self.store.connect(bulkhead_store::Durability::PowerLoss, |connected| {
            let mut record = connected.network(&record.id)?;
            let decided = || {
                let mut document = NetworkDocument::read(&record)?;
                if document.subnets.is_empty() {
                    let others = others_than(connected, None)?;
                    let taken = Taken { devices: &devices, others, host: &host };
                    // What it hides is told when its bridge is made.
                    document.subnets = decide_subnets(&NetworkRequest::default(), &document, &taken)?;
                }
                Ok((document.write()?, document))
            };
            let (text, document) = decided().map_err(|error| stored(&mut refused, &record.name, error))?;
            record.document = text;
            connected.change(&record)?;
            Ok(document)
        });
        match refused {
            Some(error) => Err(error),
            None => Ok(settled?),
        }
    }
}

/// Keeps an error of the engine's while the store takes back what it was about to do.
pub(crate) fn stored(refused: &mut Option<Error>, subject: &str, error: Error) -> bulkhead_store::Error {
    let reason = error.to_string();
    *refused = Some(error);
    bulkhead_store::Error::Invalid { subject: subject.to_owned(), reason }
}

pub(super) fn not_for_users(name: &str) -> Error {
    let whose = match elsewhere::is_elsewhere(name) {
        true => "plugins of CNI change the host, which takes root",
        false => "networks of the host take root",
    };
    let reason = format!(
        "{whose}; an ordinary user's containers have `--network pasta`, `slirp4netns`, `none`, `host` or `container:NAME`, or share one \
         in a pod"
    );
    Error::Invalid { what: format!("network {}", elsewhere::bare(name)), reason }
}

fn check_name(name: &str) -> Result<()> {
    name::check_network(name).map_err(|error| match error {
        Error::Invalid { reason, .. } => Error::Invalid { what: format!("network name {name:?}"), reason },
        other => other,
    })?;
    if RESERVED.contains(&name) {
        let reason = "it means something else behind `--network`; choose another".into();
        return Err(Error::Invalid { what: format!("network name {name:?}"), reason });
    }
    Ok(())
}

/// Refuses a macvlan whose device is not there.
fn check_parent(devices: &Devices, document: &NetworkDocument) -> Result<()> {
    let Some(parent) = document.parent.as_deref() else { return Ok(()) };
    match devices.find(parent)? {
        Some(_) => Ok(()),
        None => Err(Error::Invalid { what: format!("--opt parent={parent}"), reason: lacks_parent(parent) }),
    }
}

/// What was asked for, without its subnets.
fn document(request: &NetworkRequest) -> Result<NetworkDocument> {
    let invalid = |what: String, reason: &str| Err(Error::Invalid { what, reason: reason.into() });
    let mut document = NetworkDocument {
        driver: request.driver,
        internal: request.internal,
        ipv4: request.ipv4,
        ipv6: request.ipv6 || request.subnets.iter().any(|subnet| matches!(subnet, IpNet::V6(_))),
        labels: request.labels.clone(),
        options: request.options.clone(),
        ..NetworkDocument::default()
    };
    if !document.ipv4 && !document.ipv6 {
        return invalid("--ipv4=false".into(), "without --ipv6 a network has no addresses at all");
    }
    for (key, value) in &request.options {
        let what = || format!("--opt {key}={value}");
        let truth = || match value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(Error::Invalid { what: what(), reason: "expected true or false".into() }),
        };
        match (key.as_str(), request.driver) {
            ("com.docker.network.driver.mtu" | "mtu", _) => match value.parse() {
                // RFC 791; with IPv6 RFC 8200 wants 1280.
                Ok(mtu @ 68..=65_535) => document.mtu = Some(mtu),
                _ => return invalid(what(), "expected bytes, 68 to 65535, with IPv6 at least 1280"),
            },
            ("com.docker.network.bridge.enable_ip_masquerade", Driver::Bridge) => {
                document.routed = !truth()?;
            }
            ("com.docker.network.bridge.enable_icc", Driver::Bridge) => document.isolated = !truth()?,
            ("com.docker.network.bridge.host_binding_ipv4", Driver::Bridge) => match value.parse() {
                Ok(address @ IpAddr::V4(_)) => document.published_at = Some(address),
                _ => return invalid(what(), "expected an address of IPv4"),
            },
            ("org.bulkhead.firewall", Driver::Bridge) => document.firewall_untouched = !truth()?,
            ("parent", Driver::Macvlan) => document.parent = Some(value.clone()),
            ("macvlan_mode", Driver::Macvlan) => {
                document.mode = match value.as_str() {
                    "bridge" => Mode::Bridge,
                    "private" => Mode::Private,
                    "vepa" => Mode::Vepa,
                    "passthru" => Mode::Passthru,
                    _ => return invalid(what(), "the modes are bridge, private, vepa and passthru"),
                }
            }
            ("com.docker.network.bridge.name", _) => {
                return invalid(what(), "a bridge is named bh- and the first 12 digits of its network's id");
            }
            _ => {
                return invalid(
                    what(),
                    "that driver has no such option; docs/networking.md lists those that are there",
                );
            }
        }
    }
    if document.ipv6 && document.mtu.is_some_and(|mtu| mtu < 1280) {
        return invalid("--opt mtu".into(), "IPv6 wants packets of at least 1280 bytes (RFC 8200)");
    }
    if document.driver == Driver::Macvlan && document.internal {
        return invalid(
            "driver macvlan".into(),
            "`--internal` is for `--driver bridge`: containers of a macvlan are hosts on the cable of a device",
        );
    }
    if document.driver == Driver::Macvlan && document.parent.is_none() {
        return invalid(
            "driver macvlan".into(),
            "on whose cable are its containers? `--opt parent=DEVICE` names a device of the host's",
        );
    }
    Ok(document)
}

/// Who has addresses.
struct Taken<'a> {
    devices: &'a Devices,
    /// Other networks.
    others: Vec<Used>,
    /// The host, and networks from elsewhere.
    host: &'a [Used],
}

impl Taken<'_> {
    /// Lists what a network of such a driver must leave alone; what a macvlan has is the cable's own. Other networks come before the addresses that the
    /// host has by them.
    fn of(&self, driver: Driver) -> impl Iterator<Item = &Used> {
        let host = if driver == Driver::Macvlan { &[][..] } else { self.host };
        self.others.iter().chain(host)
    }

    /// Tells of hosts that a new network hides.
    fn hidden_by(&self, name: &str, document: &NetworkDocument) -> Warnings {
        let hidden = |subnet: &Subnet| {
            let by_it = self.of(document.driver).filter(|used| used.fate(&subnet.subnet) == Fate::Hidden);
            let narrowest = by_it.max_by_key(|used| used.net.prefix_len())?;
            Some(hides(name, &Overlap::new(self.devices, subnet.subnet, narrowest)))
        };
        document.subnets.iter().filter_map(hidden).collect()
    }
}

/// Says that the host does not reach others while a network's bridge is there.
pub(super) fn hides(network: &str, overlap: &Overlap) -> String {
    format!("network {network} hides hosts in {}: {overlap}", overlap.subnet)
}

/// Decides the subnets: those that were asked for, else some that nobody uses.
fn decide_subnets(
    request: &NetworkRequest,
    document: &NetworkDocument,
    taken: &Taken<'_>,
) -> Result<Vec<Subnet>> {
    let invalid = |what: String, reason: String| Error::Invalid { what, reason };
    let mut subnets = Vec::new();
    for asked in &request.subnets {
        let asked = asked.trunc();
        if let Some((_, whose)) = OF_NO_HOST.iter().find(|(of, _)| pool::overlap(&asked, of)) {
            let reason =
                format!("its addresses are {whose}; choose another, as one of 10.0.0.0/8 or fd00::/8");
            return Err(invalid(format!("--subnet {asked}"), reason));
        }
        if let Some(other) = taken.of(document.driver).find(|other| other.fate(&asked) == Fate::InTheWay) {
            let reason = format!("{}; choose another", Overlap::new(taken.devices, asked, other));
            return Err(invalid(format!("--subnet {asked}"), reason));
        }
        if subnets.iter().any(|known: &Subnet| known.subnet.addr().is_ipv4() == asked.addr().is_ipv4()) {
            let reason = "a network has one subnet of IPv4 and one of IPv6 at most".to_owned();
            return Err(invalid(format!("--subnet {asked}"), reason));
        }
        subnets.push(Subnet {
            subnet: asked,
            range: None,
            gateway: asked.addr(),
            reserved: BTreeMap::new(),
            is_free_choice: false,
        });
    }
    let all = Vec::from_iter(taken.of(document.driver).cloned());
    let has = |subnets: &[Subnet], is_v4: bool| {
        subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv4() == is_v4)
    };
    if document.ipv4 && !has(&subnets, true) {
        if document.driver == Driver::Macvlan {
            let reason =
                "its containers are on a cable of the host's, so that cable's subnet has to be given"
                    .to_owned();
            return Err(invalid("driver macvlan without --subnet".into(), reason));
        }
        subnets.insert(0, another(true, &all)?);
    }
    if document.ipv6 && !has(&subnets, false) {
        subnets.push(another(false, &all)?);
    }
    for subnet in &mut subnets {
        subnet.range = request.ranges.iter().copied().find(|range| subnet.subnet.contains(range));
        let gateway = request.gateways.iter().copied().find(|gateway| subnet.subnet.contains(gateway));
        subnet.gateway = Range::new(subnet.subnet, subnet.range, gateway)?.gateway;
        let reserved = request.reserved.iter().filter(|(_, address)| subnet.subnet.contains(*address));
        subnet.reserved = reserved.map(|(name, address)| (name.clone(), *address)).collect();
        // What was said of parts of it happens to be right.
        subnet.is_free_choice &=
            request.ranges.is_empty() && request.gateways.is_empty() && request.reserved.is_empty();
    }
    check_parts(request, &subnets)?;
    Ok(subnets)
}

/// Chooses a subnet for which nobody has asked.
pub(super) fn another(is_v4: bool, used: &[Used]) -> Result<Subnet> {
    let subnet = if is_v4 { pool::choose(&POOLS, used)? } else { pool::unique_local(id::random()?, 0) };
    let gateway = Range::new(subnet, None, None)?.gateway;
    Ok(Subnet { subnet, range: None, gateway, reserved: BTreeMap::new(), is_free_choice: true })
}

/// Makes sure that all that was said of subnets is of one of them, and said once.
fn check_parts(request: &NetworkRequest, subnets: &[Subnet]) -> Result<()> {
    let invalid = |what: String, reason: String| Error::Invalid { what, reason };
    let outside = |flag: &str, text: String| {
        invalid(format!("{flag} {text}"), "it is in no subnet of the network; give that by --subnet".into())
    };
    let is_in = |address: &IpAddr| subnets.iter().any(|subnet| subnet.subnet.contains(address));
    if let Some(range) =
        request.ranges.iter().find(|range| !subnets.iter().any(|of| of.subnet.contains(*range)))
    {
        return Err(outside("--ip-range", range.to_string()));
    }
    if let Some(gateway) = request.gateways.iter().find(|gateway| !is_in(gateway)) {
        return Err(outside("--gateway", gateway.to_string()));
    }
    if let Some((name, address)) = request.reserved.iter().find(|(_, address)| !is_in(address)) {
        return Err(outside("--aux-address", format!("{name}={address}")));
    }
    for Subnet { subnet, range, gateway, reserved, is_free_choice: _ } in subnets {
        let in_it = |range: &&IpNet| subnet.contains(*range);
        let twice =
            |what: &str| format!("{subnet} has one {what}, which is given already; leave one of them out");
        if let Some(second) = request.ranges.iter().filter(in_it).find(|of| Some(**of) != *range) {
            return Err(invalid(format!("--ip-range {second}"), twice("range")));
        }
        let mut gateways = request.gateways.iter().filter(|of| subnet.contains(*of));
        if let Some(second) = gateways.find(|of| *of != gateway) {
            return Err(invalid(format!("--gateway {second}"), twice("gateway")));
        }
        if let Some((name, address)) = reserved.iter().find(|(_, address)| *address == gateway) {
            let reason =
                "it is the gateway's, which no container gets; leave it out, or choose another gateway";
            return Err(invalid(format!("--aux-address {name}={address}"), reason.to_owned()));
        }
    }
    Ok(())
}

/// Lists what the host has, or networks from elsewhere are to have: addresses, and where there are routes to.
pub(super) fn used_by_host(devices: &Devices) -> Result<Vec<Used>> {
    let mut used = elsewhere::subnets()?;
    used.extend(overlap::used(devices)?);
    Ok(used)
}

/// Lists the subnets of all networks but for one.
pub(super) fn others_than(connected: &Connected<'_>, own: Option<&str>) -> Result<Vec<Used>> {
    let mut all = Vec::new();
    for record in connected.networks()?.into_iter().filter(|record| Some(record.id.as_str()) != own) {
        let subnets = NetworkDocument::read(&record)?.subnets.into_iter();
        let by = Holder::Network(elsewhere::bare(&record.name).to_owned());
        all.extend(subnets.map(|subnet| Used { net: subnet.subnet, by: by.clone() }));
    }
    Ok(all)
}
