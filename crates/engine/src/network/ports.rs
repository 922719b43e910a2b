//! Ports of the host that lead to a container.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use bulkhead_net::rules;
use serde::{Deserialize, Serialize};

use super::address::Joint;
use super::host::Host;
use super::live::Live;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::id;
use crate::request::{ExposedPorts, Protocol, PublishedPorts, Publishing};

/// How often a port of the host is chosen anew that somebody else has.
const ATTEMPTS: u32 = 64;
/// Ports that are chosen: those of RFC 6335, section 6, that nobody is assigned.
const FREE: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

    fn told(&self) -> String {
        format!("{}/{}", SocketAddr::new(self.address, self.host), self.protocol)
    }
}

/// One port of a container that is to be published, at one address.
#[derive(Debug, Clone)]
struct Wanted {
    container: u16,
    protocol: Protocol,
    address: IpAddr,
    /// The host's ports that may be it: one after the other.
    first: Option<u16>,
    choices: u16,
    to: SocketAddr,
}

/// Lists what is asked for, as ports of addresses.
fn wanted(publishing: &Publishing, exposed: &[ExposedPorts], joints: &[Joint]) -> Result<Vec<Wanted>> {
    let joint = joints.iter().find(|joint| !joint.document.internal);
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
    let all = Vec::from_iter(all.filter(|port| !is_named(port)));
    let mut list = Vec::new();
    for ports in publishing.ports.iter().chain(&all) {
        let Some(joint) = joint else {
            let reason = "its networks have no way in: an internal one publishes nothing".to_owned();
            return Err(Error::Invalid { what: format!("--publish {}", ports.container), reason });
        };
        if joint.document.driver != super::Driver::Bridge {
            let reason = format!(
                "{} is a network of its driver: its containers are hosts of that cable, and have all their ports there",
                joint.record.name
            );
            return Err(Error::Invalid { what: format!("--publish {}", ports.container), reason });
        }
        for address in addresses(ports, joint)? {
            let of_family = joint.endpoint.addresses().find(|own| own.is_ipv4() == address.is_ipv4());
            let Some(own) = of_family else {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                let reason =
                    format!("the container has no address of {family} in network {}", joint.record.name);
                return Err(Error::Invalid { what: format!("--publish {address}"), reason });
            };
            for number in 0..ports.count {
                let container = ports.container + number;
                let is_range = ports.choices == ports.count;
                list.push(Wanted {
                    container,
                    protocol: ports.protocol,
                    address,
                    first: ports.host.map(|host| if is_range { host + number } else { host }),
                    choices: if is_range { 1 } else { ports.choices },
                    to: SocketAddr::new(own, container),
                });
            }
        }
    }
    Ok(list)
}

/// The addresses of the host at which ports are published.
fn addresses(ports: &PublishedPorts, joint: &Joint) -> Result<Vec<IpAddr>> {
    let none = |is_v4: bool| {
        if is_v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
    };
    match ports.address {
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) => {
            let reason =
                "the kernel routes nothing from ::1 to another device; publish at 127.0.0.1".to_owned();
            Err(Error::Invalid { what: "--publish [::1]".to_owned(), reason })
        }
        Some(address) => Ok(vec![address]),
        None => {
            let own = Vec::from_iter(joint.endpoint.addresses().map(|own| none(own.is_ipv4())));
            Ok(match joint.document.published_at {
                Some(chosen) => own.into_iter().map(|of| if of.is_ipv4() { chosen } else { of }).collect(),
                None => own,
            })
        }
    }
}

impl Host<'_> {
    /// Publishes the ports of an owner, which are recorded before; `exposed` are those that `--publish-all` means.
    pub(super) fn publish(
        &self,
        owner: &str,
        publishing: &Publishing,
        exposed: &[ExposedPorts],
        joints: &[Joint],
    ) -> Result<Vec<PublishedPort>> {
        let wanted = wanted(publishing, exposed, joints)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            let ports = wanted
                .iter()
                .map(|wanted| choose(wanted, attempt))
                .collect::<Result<Vec<PublishedPort>>>()?;
            let known = Live::read(self.engine(), owner)?.unwrap_or_else(|| Live::of(owner));
            Live { ports: ports.clone(), ..known }.write(self.engine())?;
            match self.rules.publish(&Vec::from_iter(ports.iter().map(|port| port.rule(owner)))) {
                Ok(()) => {
                    reach_by_loopback(joints, &ports)?;
                    return Ok(ports);
                }
                Err(bulkhead_net::Error::PortTaken { port, owner: other }) => {
                    if other == owner || !self.engine().is_live(&other)? {
                        // It has ended, and whoever was to say so was killed.
                        self.rules.unpublish(|of| of == other)?;
                    } else if wanted.iter().all(|wanted| wanted.first.is_some() && wanted.choices == 1) {
                        return Err(self.taken(&port, &other));
                    }
                    last = Some((port, other));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (port, other) = last.unwrap_or_default();
        Err(self.taken(&port, &other))
    }

    fn taken(&self, port: &str, owner: &str) -> Error {
        let name = self.engine().store.container(owner).map(|record| record.name);
        let name = name.or_else(|_| self.engine().store.pod(owner).map(|record| record.name));
        let name = name.unwrap_or_else(|_| id::short(owner).to_owned());
        let reason = format!("it leads to container {name} already; choose another, or stop that");
        Error::Invalid { what: format!("port {port} of the host"), reason }
    }
}

/// Chooses the host's port for one of a container.
fn choose(wanted: &Wanted, attempt: u32) -> Result<PublishedPort> {
    let port = |host| PublishedPort {
        container: wanted.container,
        protocol: wanted.protocol,
        address: wanted.address,
        host,
        to: wanted.to,
    };
    if let Some(first) = wanted.first {
        let mut refused = None;
        for place in 0..wanted.choices {
            // Those that were tried before come last.
            let skipped = u32::from(place) + attempt;
            let place = u16::try_from(skipped % u32::from(wanted.choices)).unwrap_or(place);
            let chosen = port(first + place);
            match free(&chosen) {
                Ok(()) => return Ok(chosen),
                Err(error) => refused = Some(error),
            }
        }
        return Err(refused.unwrap_or_else(|| in_use(&port(first))));
    }
    let span = u32::from(FREE.end() - FREE.start()) + 1;
    for _ in 0..ATTEMPTS {
        let number = u32::from_le_bytes(id::random()?) % span;
        let chosen = port(FREE.start() + u16::try_from(number).unwrap_or_default());
        if free(&chosen).is_ok() {
            return Ok(chosen);
        }
    }
    free(&port(*FREE.end())).map(|()| port(*FREE.end()))
}

/// Has the loopback's addresses lead to containers, where a port is published there.
fn reach_by_loopback(joints: &[Joint], ports: &[PublishedPort]) -> Result<()> {
    let has_loopback = |port: &PublishedPort| {
        port.address.is_ipv4() && (port.address.is_unspecified() || port.address.is_loopback())
    };
    if !ports.iter().any(has_loopback) {
        return Ok(());
    }
    for joint in joints.iter().filter(|joint| !joint.document.internal) {
        if joint.document.driver == super::Driver::Bridge {
            joint.document.bridge(&joint.record.id).route_loopback(true)?;
        }
    }
    Ok(())
}

/// Makes sure that no program of the host has a port.
fn free(port: &PublishedPort) -> Result<()> {
    let at = SocketAddr::new(port.address, port.host);
    let bound = match port.protocol {
        Protocol::Tcp => TcpListener::bind(at).map(drop),
        Protocol::Udp => UdpSocket::bind(at).map(drop),
        // Nobody has it without the kernel's module, which asking for it would load.
        Protocol::Sctp => Ok(()),
    };
    match bound {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(in_use(port)),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Err(Error::Invalid {
            what: format!("--publish {}", port.told()),
            reason: format!("the host has no address {}", port.address),
        }),
        // Whatever else keeps this process from it is no other program.
        _ => Ok(()),
    }
}

fn in_use(port: &PublishedPort) -> Error {
    let reason = "a program of the host listens there; choose another, or end that".to_owned();
    Error::Invalid { what: format!("port {} of the host", port.told()), reason }
}

impl Engine {
    /// Returns the ports of the host that lead to a container or pod; nothing where the host knows nothing of it.
    pub(crate) fn published(&self, owner: &str) -> Result<Option<Vec<PublishedPort>>> {
        Ok(Live::read(self, owner)?.map(|live| live.ports))
    }
}
