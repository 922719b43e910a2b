//! Moving network devices of the host into the container's network namespace (config-linux.md, "Network Devices").
//!
//! A device arrives with its attributes, its permanent addresses of global scope and a name, and is set up. From then on
//! it belongs to the namespace: the kernel destroys it with that, or takes a physical one back. If no container comes of
//! it, devices return, but only from a new namespace: in one that others are in, what has a device's number may be theirs
//! by then, and would come to the host under the name of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::netlink::{self, Address, Connection, Link};
use bulkhead_sys::path;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::plan::net_devices::NetDevice;

/// Two network namespaces, and what has gone from one to the other.
pub(crate) struct Move {
    outside: Side,
    inside: Side,
    arrived: Vec<Arrived>,
}

/// A device that has left the host.
struct Arrived {
    /// Its number in its new namespace.
    index: u32,
    /// What it was on the host.
    link: Link,
    addresses: Vec<Address>,
}

impl Move {
    /// Connects the runtime's network namespace with the one at a path of the host.
    ///
    /// # Errors
    /// As open(2) and setns(2).
    pub(crate) fn to(path: &Path) -> Result<Self> {
        let outside = Side::of(open("/proc/self/ns/net".as_ref())?, None)?;
        let inside = Side::of(open(path)?, Some(&outside.namespace))?;
        Ok(Self { outside, inside, arrived: Vec::new() })
    }

    /// Moves devices.
    ///
    /// # Errors
    /// A device that is not there or cannot be moved, a name that is taken.
    pub(crate) fn all(&mut self, devices: &[NetDevice]) -> Result<()> {
        let present = self.inside.connection.links().doing(|| "list the container's network devices")?;
        let hosts = self.outside.connection.links().doing(|| "list the host's network devices")?;
        let found =
            devices.iter().map(|device| find(device, &hosts, &present)).collect::<Result<Vec<_>>>()?;
        let mut pairs = devices.iter().zip(found);
        pairs.try_for_each(|(device, link)| {
            self.one(link, &device.inside).map_err(|error| error.at(&device.pointer()))
        })
    }

    /// Moves a device with its addresses, and sets it up there.
    fn one(&mut self, link: &Link, name: &str) -> Result<()> {
        let doing = || format!("move the network device {}", link.name);
        let addresses = self.outside.connection.addresses(link.index).doing(doing)?;
        let index =
            netlink::send_link(link.index, name, self.inside.namespace.as_fd()).map_err(|source| {
                let why = match source.errno() {
                    Errno::INVAL | Errno::OPNOTSUPP => ": one of its kind stays in its namespace",
                    Errno::PERM => ": the runtime lacks CAP_NET_ADMIN",
                    _ => "",
                };
                Error::System { doing: format!("{}{why}", doing()), source }
            })?;
        let arrived = Arrived { index, link: link.clone(), addresses };
        let settled = self.inside.settle(index, &arrived).and_then(|()| self.inside.bring_up(index, link));
        self.arrived.push(arrived);
        settled
    }

    /// Gives back what has arrived, as it was.
    ///
    /// # Errors
    /// The first that cannot be; the others are given back nevertheless.
    pub(crate) fn give_back(self) -> Result<()> {
        let back = |arrived: &Arrived| {
            let Arrived { index, link, .. } = arrived;
            let doing = || format!("give the network device {} back", link.name);
            self.inside
                .connection
                .move_link(*index, &link.name, self.outside.namespace.as_fd())
                .doing(doing)?;
            let links = self.outside.connection.links().doing(doing)?;
            let Some(found) = links.iter().find(|found| found.name == link.name) else {
                return Err(Errno::NODEV).doing(doing);
            };
            self.outside.settle(found.index, arrived)?;
            if link.is_up { self.outside.bring_up(found.index, link) } else { Ok(()) }
        };
        let results = Vec::from_iter(self.arrived.iter().rev().map(back));
        results.into_iter().collect()
    }

    /// Names what has arrived, as it was called on the host.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.arrived.iter().map(|arrived| arrived.link.name.as_str()).collect()
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    path::open_host(path, OFlags::RDONLY).doing(|| format!("open the network namespace {}", path.display()))
}

/// Looks for a device before anything is moved.
fn find<'a>(device: &NetDevice, hosts: &'a [Link], present: &[Link]) -> Result<&'a Link> {
    let NetDevice { host, inside } = device;
    let Some(link) = hosts.iter().find(|link| link.name == *host) else {
        let reason = format!("there is no network device {host:?} in the runtime's network namespace");
        return Err(Error::invalid(device.pointer(), reason));
    };
    if present.iter().any(|link| link.name == *inside) {
        let reason =
            format!("the container has a network device {inside:?} already; {inside}%d would get a number");
        return Err(Error::invalid(device.pointer(), reason));
    }
    Ok(link)
}

/// A network namespace, and the way to ask the kernel about it.
struct Side {
    namespace: OwnedFd,
    connection: Connection,
}

impl Side {
    /// Connects to a namespace, which is not `own`, the one to return to, if that is given.
    fn of(namespace: OwnedFd, own: Option<&OwnedFd>) -> Result<Self> {
        let connect = || Connection::open().doing(|| "connect to the kernel's network devices");
        let Some(own) = own else { return connect().map(|connection| Self { namespace, connection }) };
        let join = |namespace: &OwnedFd, doing: &'static str| {
            namespace::join(namespace.as_fd(), Kind::Network).doing(|| doing)
        };
        join(&namespace, "enter the container's network namespace")?;
        let connection = connect();
        join(own, "return to the runtime's network namespace")?;
        connection.map(|connection| Self { namespace, connection })
    }

    /// Gives a device the addresses that it had on the other side.
    fn settle(&self, index: u32, Arrived { link, addresses, .. }: &Arrived) -> Result<()> {
        let mut lasting = addresses.iter().filter(|address| address.is_lasting());
        lasting.try_for_each(|address| {
            self.connection
                .add_address(index, address)
                .doing(|| format!("give the network device {} its addresses", link.name))
        })
    }

    fn bring_up(&self, index: u32, link: &Link) -> Result<()> {
        self.connection.bring_up(index).doing(|| format!("set the network device {} up", link.name))
    }
}
