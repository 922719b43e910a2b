//! Ports of the host that lead to a container.

mod again;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use bulkhead_net::rules;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::address::Joint;
use super::document::Driver;
use super::host::{Host, Warnings};
use super::live::Live;
use super::proxy::{self, Kept};
use super::start::{Wish, forget_before};
use super::ways::WaysIn;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::id;
use crate::request::{Carrier, ExposedPorts, Protocol, PublishMode, PublishedPorts, Publishing};

/// Ports that are chosen: those of RFC 6335, section 6, that nobody is assigned.
const FREE: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// How many files this process may have open besides ports.
const OWN_FILES: usize = 256;

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's port.
    pub container: u16,
    /// The protocol above IP.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` and `::` are all of its family.
    pub address: IpAddr,
    /// The host's port.
    pub host: u16,
    /// Where it leads.
    pub to: SocketAddr,
}

impl PublishedPort {
    /// Returns it as the packet filter has it.
    pub(super) fn rule(&self, owner: &str) -> rules::Port {
        rules::Port {
            owner: owner.to_owned(),
            protocol: self.protocol,
            address: Some(self.address).filter(|address| !address.is_unspecified()),
            port: self.host,
            to: self.to,
        }
    }

    /// Returns it as it leads to addresses of which nothing was known when it was chosen: one for each family that has one, if it is to
    /// be at all addresses of the host.
    pub(super) fn leading_to(&self, addresses: &[IpAddr]) -> Vec<Self> {
        let is_at_all = self.address.is_unspecified();
        let first = |is_v4: bool| addresses.iter().find(|address| address.is_ipv4() == is_v4);
        let families =
            [true, false].into_iter().filter(|is_v4| is_at_all || *is_v4 == self.address.is_ipv4());
        let led = families.filter_map(|is_v4| {
            let address = if is_at_all { unspecified(is_v4) } else { self.address };
            Some(Self { address, to: SocketAddr::new(*first(is_v4)?, self.container), ..self.clone() })
        });
        led.collect()
    }

    /// Tells whether it leads there from the host's loopback of IPv4.
    pub(super) fn is_at_loopback(&self) -> bool {
        self.address.is_ipv4() && (self.address.is_unspecified() || self.address.is_loopback())
    }

    pub(super) fn told(&self) -> String {
        format!("{}/{}", SocketAddr::new(self.address, self.host), self.protocol)
    }
}

/// One port of a container that is to be published, at one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wanted {
    container: u16,
    protocol: Protocol,
    address: IpAddr,
    /// The host's ports that may be it: one after the other.
    first: Option<u16>,
    choices: u16,
    to: SocketAddr,
}

/// Lists what is asked for, with those that are meant where all are published.
fn asked(publishing: &Publishing, exposed: &[ExposedPorts]) -> Vec<PublishedPorts> {
    let all = publishing.all.then(|| exposed.iter().flat_map(|ports| ports.each())).into_iter().flatten();
    let all = all.map(|(port, protocol)| PublishedPorts {
        address: None,
        host: None,
        choices: 1,
        container: port,
        count: 1,
        protocol,
    });
    let is_named = |port: &PublishedPorts| {
        publishing.ports.iter().any(|named| {
            named.protocol == port.protocol
                && (named.container..named.container.saturating_add(named.count)).contains(&port.container)
        })
    };
    let all = all.filter(|port| !is_named(port));
    publishing.ports.iter().cloned().chain(all).collect()
}

/// Takes ports apart that are published at an address, and lead to one of a container.
fn each(ports: &PublishedPorts, address: IpAddr, to: IpAddr) -> impl Iterator<Item = Wanted> {
    let PublishedPorts { host, choices, container, count, protocol, .. } = *ports;
    let is_range = choices == count;
    (0..count).map(move |number| Wanted {
        container: container + number,
        protocol,
        address,
        first: host.map(|host| if is_range { host + number } else { host }),
        choices: if is_range { 1 } else { choices },
        to: SocketAddr::new(to, container + number),
    })
}

/// Lists what is asked for, as ports of addresses.
fn wanted(publishing: &Publishing, exposed: &[ExposedPorts], joints: &[Joint]) -> Result<Vec<Wanted>> {
    let ways = WaysIn::of(joints);
    let mut list = Vec::new();
    for ports in &asked(publishing, exposed) {
        let Some(joint) = ways.first() else {
            let reason = match joints {
                [] => "it is in no network any more",
                _ => "its networks are internal, and have no way in",
            };
            return Err(Error::Invalid { what: said(ports), reason: reason.to_owned() });
        };
        if !matches!(joint.document.driver, Driver::Bridge | Driver::Cni) {
            let reason = format!(
                "{} is a network of its driver: its containers are hosts of that cable, and have all their ports there",
                joint.record.name
            );
            return Err(Error::Invalid { what: said(ports), reason });
        }
        if publishing.mode == PublishMode::Proxy && joint.is_elsewhere() {
            let reason = format!(
                "the plugins of network {} (CNI) lead ports to its containers: leave it out",
                super::bare(&joint.record.name)
            );
            return Err(Error::Invalid { what: "--publish-mode proxy".into(), reason });
        }
        if publishing.mode == PublishMode::Proxy && ports.protocol == Protocol::Sctp {
            return Err(proxy::refuse_sctp(ports.container));
        }
        for address in addresses(ports, ways, publishing.mode)? {
            let is_v4 = address.is_ipv4();
            let of_family = ways.of_family(is_v4).and_then(|joint| joint.address_of(is_v4));
            // A helper reaches the container by any of its addresses.
            let any = joint.endpoint.addresses().next().filter(|_| publishing.mode == PublishMode::Proxy);
            let at_plugin_s = joint.is_elsewhere().then(|| unspecified(is_v4));
            let Some(own) = of_family.or(any).or(at_plugin_s) else {
                let family = if is_v4 { "IPv4" } else { "IPv6" };
                let network = &joint.record.name;
                let way_out = if is_v4 { "" } else { ", or make the network with `--ipv6`" };
                let reason = format!(
                    "the container has no address of {family} in network {network}: publish with `--publish-mode proxy`{way_out}"
                );
                return Err(Error::Invalid { what: said(ports), reason });
            };
            list.extend(each(ports, address, own));
        }
    }
    Ok(once(list))
}

/// Writes ports as they are asked for.
fn said(ports: &PublishedPorts) -> String {
    let PublishedPorts { address, host, choices, container, count, protocol } = *ports;
    let address = match address {
        Some(IpAddr::V6(address)) => format!("[{address}]:"),
        Some(address) => format!("{address}:"),
        None => String::new(),
    };
    let range = |first: u16, count: u16| match count {
        0 | 1 => first.to_string(),
        more => format!("{first}-{}", first.saturating_add(more - 1)),
    };
    let host = host.map(|host| format!("{}:", range(host, choices))).unwrap_or_default();
    format!("--publish {address}{host}{}/{protocol}", range(container, count))
}

/// What is said twice is meant once, but for ports of which each is another one.
fn once(mut list: Vec<Wanted>) -> Vec<Wanted> {
    let mut said = HashSet::new();
    list.retain(|wanted| wanted.first.is_none() || wanted.choices > 1 || said.insert(wanted.clone()));
    list
}

/// Makes sure that ports can be published by a program that carries packets.
pub(super) fn check_carried(publishing: &Publishing, carrier: Carrier) -> Result<()> {
    if publishing.mode == PublishMode::Proxy {
        let reason =
            "the program that carries an ordinary user's packets listens for its ports, too: leave it out";
        return Err(Error::Invalid { what: "--publish-mode proxy".into(), reason: reason.into() });
    }
    for ports in &publishing.ports {
        refuse_sctp_carried(ports)?;
        if carrier == Carrier::Slirp4netns && ports.address.is_some_and(|address| address.is_ipv6()) {
            let reason =
                "slirp4netns publishes at addresses of IPv4 alone; pasta does at all, from the package passt";
            let what = format!("--publish {}/{}", ports.container, ports.protocol);
            return Err(Error::Invalid { what, reason: reason.to_owned() });
        }
        if let Some(first) = ports.host {
            check_privileged(first)?;
        }
    }
    Ok(())
}

fn refuse_sctp_carried(ports: &PublishedPorts) -> Result<()> {
    if ports.protocol != Protocol::Sctp {
        return Ok(());
    }
    let what = format!("--publish {}/{}", ports.container, ports.protocol);
    let reason = "programs that carry an ordinary user's packets know tcp and udp alone";
    Err(Error::Invalid { what, reason: reason.to_owned() })
}

/// Makes sure that an ordinary user may listen at a port.
fn check_privileged(port: u16) -> Result<()> {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    if port >= first {
        return Ok(());
    }
    let reason = format!(
        "the kernel lets ordinary users listen at {first} and above: choose such a port, or have root set \
         net.ipv4.ip_unprivileged_port_start to {port}"
    );
    Err(Error::Invalid { what: format!("port {port} of the host"), reason })
}

/// Chooses the host's ports that a program is to lead to a container, which is none of the others.
pub(super) fn carried(
    engine: &Engine,
    publishing: &Publishing,
    exposed: &[ExposedPorts],
    carrier: Carrier,
) -> Result<Vec<PublishedPort>> {
    check_carried(publishing, carrier)?;
    let mut list = Vec::new();
    for ports in asked(publishing, exposed) {
        refuse_sctp_carried(&ports)?;
        let address = ports.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        list.extend(each(&ports, address, carrier.behind(address)));
    }
    // No rule leads to a container of a user's.
    let choice = Choice::among(engine, Taken::new(), "", PublishMode::Dnat);
    choice.make(&once(list)).map(|(ports, _)| ports)
}

/// Tells whether the host has addresses of a family.
fn is_had(any: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(any, 0)).is_ok()
}

/// The addresses of the host at which ports are published.
fn addresses(ports: &PublishedPorts, ways: WaysIn<'_>, mode: PublishMode) -> Result<Vec<IpAddr>> {
    match ports.address {
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) if mode == PublishMode::Dnat => {
            let reason =
                "the kernel routes nothing from ::1 to another device; publish at 127.0.0.1, or with \
                --publish-mode proxy"
                    .to_owned();
            Err(Error::Invalid { what: "--publish [::1]".to_owned(), reason })
        }
        Some(address) => Ok(vec![address]),
        // Its plugins lead there from those of IPv6, too, if it has such an address.
        None if ways.elsewhere().is_some() => Ok(vec![unspecified(true)]),
        None => {
            let chosen = ways.of_family(true).and_then(|joint| joint.document.published_at);
            let is_own = |is_v4: bool| ways.of_family(is_v4).is_some();
            // An administrator who has chosen one has chosen no other.
            let is_carried =
                |is_v4: bool| mode == PublishMode::Proxy && chosen.is_none() && is_had(unspecified(is_v4));
            let families = [true, false].into_iter().filter(|is_v4| is_own(*is_v4) || is_carried(*is_v4));
            let at = |is_v4: bool| chosen.filter(|_| is_v4).unwrap_or_else(|| unspecified(is_v4));
            Ok(families.map(at).collect())
        }
    }
}

/// All addresses of a family.
fn unspecified(is_v4: bool) -> IpAddr {
    if is_v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
}

/// The ports of the host that an owner is to have.
#[derive(Debug)]
pub(super) struct Chosen {
    ports: Vec<PublishedPort>,
    /// What holds them.
    sockets: HashMap<PublishedPort, OwnedFd>,
    _roomy: MoreFiles,
}

impl Host<'_> {
    /// Chooses the ports of an owner, none of which somebody else has.
    pub(super) fn choose(&self, wish: &Wish<'_>) -> Result<Option<Chosen>> {
        let Wish { owner, publishing, exposed, joints, .. } = *wish;
        let wanted = wanted(publishing, exposed, joints)?;
        if wanted.is_empty() {
            return Ok(None);
        }
        let roomy = MoreFiles::for_all(wanted.len());
        let (ports, sockets) = Choice::new(self, owner, publishing.mode)?.make(&wanted)?;
        Ok(Some(Chosen { ports, sockets, _roomy: roomy }))
    }

    /// Publishes the ports of an owner, which are recorded before. Those that a plugin is to publish are recorded only. Returns what keeps
    /// the helper for them.
    pub(super) fn publish(
        &self,
        wish: &Wish<'_>,
        chosen: Chosen,
        kept: Kept,
        warnings: &mut Warnings,
    ) -> Result<Option<OwnedFd>> {
        let Wish { owner, publishing, joints, .. } = *wish;
        let Chosen { ports, sockets, _roomy } = chosen;
        let known = Live::read_to_add(self.engine(), owner)?;
        if WaysIn::of(joints).elsewhere().is_some() {
            Live { elsewhere: ports, ..known }.write(self.engine())?;
            return Ok(None);
        }
        let is_held = |port: &&PublishedPort| !sockets.contains_key(port) && port.protocol != Protocol::Sctp;
        let unheld = ports.iter().filter(is_held).count();
        if unheld > 0 {
            warnings.push(format!(
                "{unheld} of {} ports are not held, since this process may not have so many files open (`ulimit -n`): a program of \
                    the host that listens at one of them hears nobody",
                ports.len()
            ));
        }
        let live = Live { ports, refused: Vec::new(), homeless: Vec::new(), ..known };
        let keeper = self.have_helper(&live, (publishing.mode, sockets), kept)?;
        if publishing.mode == PublishMode::Proxy {
            return Ok(Some(keeper));
        }
        match self.rules.publish(&Vec::from_iter(live.rules())) {
            Err(bulkhead_net::Error::PortTaken { port, owner }) => Err(self.engine().taken(&port, &owner)),
            published => {
                published?;
                reach_by_loopback(joints, &live.ports)?;
                // Who asked before would go on where he went.
                forget_before(&live.ports)?;
                Ok(Some(keeper))
            }
        }
    }

    /// Lists what leads somewhere.
    fn leading(&self) -> Result<Taken> {
        let mut taken = Taken::new();
        for found in self.rules.taken()? {
            let key = (found.protocol, found.is_v6, found.port);
            taken.entry(key).or_default().push((found.address, found.owner));
        }
        for (owner, port) in self.engine().ports_elsewhere()? {
            let key = (port.protocol, port.address.is_ipv6(), port.host);
            let address = Some(port.address).filter(|address| !address.is_unspecified());
            taken.entry(key).or_default().push((address, owner));
        }
        Ok(taken)
    }
}

impl Engine {
    fn refuse(&self, port: &PublishedPort, refused: Refused) -> Error {
        let reason = match refused {
            Refused::Taken(owner) => return self.taken(&port.rule("").to_string(), &owner),
            Refused::NoAddress => {
                let reason = format!("the host has no address {}", port.address);
                return Error::Invalid { what: format!("--publish {}", port.told()), reason };
            }
            Refused::Chosen => "it is published for another port, too; choose another for one of them",
            Refused::InUse => "a program of the host listens there; choose another, or end that",
        };
        Error::Invalid { what: format!("port {} of the host", port.told()), reason: reason.to_owned() }
    }

    fn taken(&self, port: &str, owner: &str) -> Error {
        let name = self.store.container(owner).map(|record| record.name);
        let name = name.or_else(|_| self.store.pod(owner).map(|record| record.name));
        let name = name.unwrap_or_else(|_| id::short(owner).to_owned());
        let reason = format!("it leads to container {name} already; choose another, or stop that");
        Error::Invalid { what: format!("port {port} of the host"), reason }
    }
}

/// The choice of the host's ports for those of a container, from what is free at this moment. Nobody else publishes meanwhile.
struct Choice<'a> {
    engine: &'a Engine,
    /// Whose rules are changed; none of an ordinary user's.
    host: Option<&'a Host<'a>>,
    taken: Taken,
    /// Whether those are still there that have some.
    live: HashMap<String, bool>,
    /// What is chosen.
    chosen: HashMap<Key, Vec<Option<IpAddr>>>,
    /// They are bound when they are chosen, to be carried or to be held, which are so many at most.
    mode: PublishMode,
    most: usize,
    sockets: HashMap<PublishedPort, OwnedFd>,
    /// Where the search for any port goes on, and how many are left of it.
    searches: HashMap<(Protocol, IpAddr), (u16, u32)>,
}

/// A port of one family.
type Key = (Protocol, bool, u16);

/// What leads somewhere: the addresses and owners, by what all addresses of a family have in common.
type Taken = HashMap<Key, Vec<(Option<IpAddr>, String)>>;

/// Why a port cannot be had.
enum Refused {
    /// It leads to somebody already.
    Taken(String),
    /// It was chosen for another port of the same container.
    Chosen,
    /// A program of the host listens there.
    InUse,
    /// The host has no such address.
    NoAddress,
}

impl<'a> Choice<'a> {
    fn new(host: &'a Host<'a>, owner: &str, mode: PublishMode) -> Result<Self> {
        Ok(Self { host: Some(host), ..Self::among(host.engine(), host.leading()?, owner, mode) })
    }

    fn among(engine: &'a Engine, taken: Taken, owner: &str, mode: PublishMode) -> Self {
        // What its own earlier start has left, which was killed, is nobody's.
        let live = HashMap::from([(owner.to_owned(), false)]);
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(OWN_FILES);
        let (chosen, sockets, searches) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { engine, host: None, taken, live, chosen, mode, most, sockets, searches }
    }

    /// Chooses, for those with the fewest choices first; returns the ports in the order in which they are wanted, and those that are bound.
    fn make(mut self, wanted: &[Wanted]) -> Result<(Vec<PublishedPort>, HashMap<PublishedPort, OwnedFd>)> {
        let mut order = Vec::from_iter(0..wanted.len());
        order.sort_by_key(|index| {
            let Wanted { first, choices, .. } = wanted[*index];
            (first.is_none(), choices > 1, u32::from(first.unwrap_or_default()) + u32::from(choices))
        });
        let mut ports: Vec<(usize, PublishedPort)> = Vec::new();
        for index in order {
            let wanted = &wanted[index];
            let port = match self.as_other_family(wanted, &ports)? {
                Some(port) => port,
                None => self.one(wanted)?,
            };
            ports.push((index, port));
        }
        ports.sort_by_key(|(index, _)| *index);
        // A rule that leads nowhere is as good as none, but for those to whom it was to lead.
        let gone = HashSet::<&str>::from_iter(
            self.live.iter().filter(|(_, is_live)| !**is_live).map(|(owner, _)| owner.as_str()),
        );
        if let Some(host) = self.host
            && self.taken.values().flatten().any(|(_, owner)| gone.contains(owner.as_str()))
        {
            host.rules.unpublish(|of| gone.contains(of))?;
        }
        Ok((ports.into_iter().map(|(_, port)| port).collect(), self.sockets))
    }

    /// Takes for any port of one family that which was chosen for the same one of the other, if it is free: who is told of one number
    /// would look for no other.
    fn as_other_family(
        &mut self,
        wanted: &Wanted,
        chosen: &[(usize, PublishedPort)],
    ) -> Result<Option<PublishedPort>> {
        if wanted.first.is_some() && wanted.choices == 1 {
            return Ok(None);
        }
        let is_same = |port: &PublishedPort| {
            (port.container, port.protocol) == (wanted.container, wanted.protocol)
                && port.address.is_ipv4() != wanted.address.is_ipv4()
                && wanted.first.is_none_or(|first| (first..first + wanted.choices).contains(&port.host))
        };
        for (_, other) in chosen.iter().filter(|(_, port)| is_same(port)) {
            let port = wanted.at(other.host);
            if self.take(&port)?.is_none() {
                return Ok(Some(port));
            }
        }
        Ok(None)
    }

    fn one(&mut self, wanted: &Wanted) -> Result<PublishedPort> {
        let Some(first) = wanted.first else { return self.any(wanted) };
        for place in 0..wanted.choices {
            let port = wanted.at(first + place);
            match self.take(&port)? {
                None => return Ok(port),
                Some(refused) if wanted.choices == 1 => return Err(self.engine.refuse(&port, refused)),
                Some(refused @ Refused::NoAddress) => return Err(self.engine.refuse(&port, refused)),
                Some(_) => {}
            }
        }
        let last = first + (wanted.choices - 1);
        Err(Error::Invalid {
            what: format!("port {} of the container", wanted.container),
            reason: format!(
                "none of the host's ports {first}-{last}/{} is free for it; publish it at others",
                wanted.protocol
            ),
        })
    }

    /// Chooses any port that is free. The search goes on where it ended for another port, so that it is one for all.
    fn any(&mut self, wanted: &Wanted) -> Result<PublishedPort> {
        let span = u32::from(FREE.end() - FREE.start()) + 1;
        let search = (wanted.protocol, wanted.address);
        let (mut place, mut left) = match self.searches.get(&search) {
            Some(found) => *found,
            None => {
                let number = u32::from_le_bytes(id::random()?) % span;
                (u16::try_from(number).unwrap_or_default(), span)
            }
        };
        while left > 0 {
            let port = wanted.at(FREE.start() + place);
            left -= 1;
            place = if u32::from(place) + 1 == span { 0 } else { place + 1 };
            match self.take(&port)? {
                None => {
                    self.searches.insert(search, (place, left));
                    return Ok(port);
                }
                Some(refused @ Refused::NoAddress) => return Err(self.engine.refuse(&port, refused)),
                Some(_) => {}
            }
        }
        let (first, last) = (FREE.start(), FREE.end());
        Err(Error::Invalid {
            what: format!("port {}/{} of the container", wanted.container, wanted.protocol),
            reason: format!(
                "no port of the host from {first} to {last} is free for it; publish fewer, or say at which ports"
            ),
        })
    }

    /// Takes a port, or tells why it cannot be had.
    fn take(&mut self, port: &PublishedPort) -> Result<Option<Refused>> {
        let key = (port.protocol, port.address.is_ipv6(), port.host);
        let own = Some(port.address).filter(|address| !address.is_unspecified());
        let is_same = |other: Option<IpAddr>| other.is_none() || own.is_none() || other == own;
        if self.chosen.get(&key).is_some_and(|chosen| chosen.iter().any(|other| is_same(*other))) {
            return Ok(Some(Refused::Chosen));
        }
        for (address, owner) in self.taken.get(&key).into_iter().flatten() {
            if !is_same(*address) {
                continue;
            }
            let is_live = match self.live.get(owner) {
                Some(is_live) => *is_live,
                None => self.engine.is_live(owner)?,
            };
            self.live.insert(owner.clone(), is_live);
            if is_live {
                return Ok(Some(Refused::Taken(owner.clone())));
            }
        }
        let refused = match self.bind(port)? {
            Some(Refused::InUse) => self.whose(port)?,
            refused => refused,
        };
        if refused.is_none() {
            self.chosen.entry(key).or_default().push(own);
        }
        Ok(refused)
    }

    /// Binds a port for the helper, as far as there can be so many.
    fn bind(&mut self, port: &PublishedPort) -> Result<Option<Refused>> {
        match proxy::bind(port, self.mode) {
            Ok(socket) => {
                let socket =
                    socket.filter(|_| self.mode == PublishMode::Proxy || self.sockets.len() < self.most);
                self.sockets.extend(socket.map(|socket| (port.clone(), socket)));
                Ok(None)
            }
            Err(error) => match error.errno() {
                Errno::ADDRINUSE => Ok(Some(Refused::InUse)),
                Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => Ok(Some(Refused::NoAddress)),
                _ => Err(error).doing(|| format!("have port {} of the host", port.told())),
            },
        }
    }

    /// Finds who has a port that is in use: a container with a helper for its ports, or a program of the host. The helper of
    /// what has ended gives it up.
    fn whose(&mut self, port: &PublishedPort) -> Result<Option<Refused>> {
        let has = |other: &PublishedPort| {
            (other.protocol, other.host) == (port.protocol, port.host)
                && other.address.is_ipv4() == port.address.is_ipv4()
                && (other.address == port.address
                    || other.address.is_unspecified()
                    || port.address.is_unspecified())
        };
        let engine = self.engine;
        let helped = Live::recorded(engine)?.into_iter().filter(Live::has_helper);
        let Some(live) = helped.into_iter().find(|live| live.ports.iter().any(has)) else {
            return Ok(Some(Refused::InUse));
        };
        if engine.is_live(&live.owner)? {
            return Ok(Some(Refused::Taken(live.owner)));
        }
        match self.host {
            Some(host) => host.withdraw(&live.owner)?,
            None => engine.end_carrier(&live.owner)?,
        }
        self.bind(port)
    }
}

impl Wanted {
    fn at(&self, host: u16) -> PublishedPort {
        let Self { container, protocol, address, to, .. } = *self;
        PublishedPort { container, protocol, address, host, to }
    }
}

/// Has the loopback's addresses lead to containers, where a port is published there.
fn reach_by_loopback(joints: &[Joint], ports: &[PublishedPort]) -> Result<()> {
    if !ports.iter().any(PublishedPort::is_at_loopback) {
        return Ok(());
    }
    for joint in joints.iter().filter(|joint| !joint.document.internal) {
        if joint.document.driver == Driver::Bridge {
            joint.document.bridge(&joint.record.id).route_loopback(true)?;
        }
    }
    Ok(())
}

/// As many files as this process may have, as long as it holds the ports of a container: others are started with the usual number.
#[derive(Debug)]
pub(super) struct MoreFiles(Option<Rlimit>);

impl MoreFiles {
    pub(super) fn for_all(ports: usize) -> Self {
        let usual = getrlimit(Resource::Nofile);
        let is_enough = usual.current.is_none_or(|most| most > (ports + OWN_FILES) as u64);
        let more = Rlimit { current: usual.maximum, ..usual };
        // What is too many then is told by the call that meets it.
        let is_raised = !is_enough && setrlimit(Resource::Nofile, more).is_ok();
        Self(is_raised.then_some(usual))
    }
}

impl Drop for MoreFiles {
    fn drop(&mut self) {
        if let Some(usual) = self.0.take() {
            // It is no more than is allowed.
            let _ = setrlimit(Resource::Nofile, usual);
        }
    }
}

impl Engine {
    /// Returns the ports of the host that lead to a container or pod; nothing where the host knows nothing of it.
    pub(crate) fn published(&self, owner: &str) -> Result<Option<Vec<PublishedPort>>> {
        Ok(Live::read_to_end(self, owner)?.map(Live::leading))
    }
}
