//! Moving network devices of the host into the container's network namespace (config-linux.md, "Network Devices").
//!
//! A device arrives with its attributes, its permanent addresses of global scope and a name, and is set up. From then on
//! it belongs to the namespace: the kernel destroys it with that, or takes a physical one back. Only what was moved
//! before another could not be is given back, since no container has come of it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::netlink::{Address, Connection, Link};
use bulkhead_sys::path;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::plan::net_devices::NetDevice;

/// Moves devices of the runtime's network namespace into the one at a path of the host.
///
/// # Errors
/// A device that is not there or cannot be moved, a name that is taken; all are where they were then.
pub(crate) fn move_all(devices: &[NetDevice], path: &Path) -> Result<()> {
    let outside = Side::of(open("/proc/self/ns/net".as_ref())?, None)?;
    let inside = Side::of(open(path)?, Some(&outside.namespace))?;
    let present = inside.connection.links().doing(|| "list the container's network devices")?;
    let hosts = outside.connection.links().doing(|| "list the host's network devices")?;
    let found = devices.iter().map(|device| find(device, &hosts, &present)).collect::<Result<Vec<_>>>()?;
    let mut moved = Vec::new();
    for (device, link) in devices.iter().zip(found) {
        match outside.hand_over(link, &device.inside, &inside) {
            Ok(arrived) => moved.push((arrived, link)),
            Err(error) => {
                for (arrived, link) in moved.iter().rev() {
                    // What led here is the error to tell.
                    let _ = inside.hand_over(arrived, &link.name, &outside);
                }
                return Err(error.at(&device.pointer()));
            }
        }
    }
    moved.iter().try_for_each(|(arrived, _)| {
        inside
            .connection
            .bring_up(arrived.index)
            .doing(|| format!("set the network device {} up", arrived.name))
    })
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

    /// Moves a device to the other side with its addresses, and finds it there.
    fn hand_over(&self, link: &Link, name: &str, other: &Side) -> Result<Link> {
        let doing = || format!("move the network device {}", link.name);
        let addresses = self.connection.addresses(link.index).doing(doing)?;
        let before = other.connection.links().doing(doing)?;
        self.connection.move_link(link.index, name, other.namespace.as_fd()).map_err(|source| {
            let why = match source.errno() {
                Errno::INVAL | Errno::OPNOTSUPP => ": one of its kind stays in its namespace",
                Errno::PERM => ": the runtime lacks CAP_NET_ADMIN",
                _ => "",
            };
            Error::System { doing: format!("{}{why}", doing()), source }
        })?;
        let after = other.connection.links().doing(doing)?;
        let is_new = |found: &&Link| before.iter().all(|known| known.index != found.index);
        // It keeps its number if that is free there.
        let arrived = after.iter().filter(is_new).max_by_key(|found| found.index == link.index);
        let Some(arrived) = arrived else { return Err(Errno::NODEV).doing(doing) };
        if let Err(error) = other.settle(arrived, link, &addresses) {
            let returned = other.connection.move_link(arrived.index, &link.name, self.namespace.as_fd());
            let links = returned.and_then(|()| self.connection.links()).unwrap_or_default();
            if let Some(back) = links.iter().find(|found| found.name == link.name) {
                let _ = self.settle(back, link, &addresses);
            }
            return Err(error);
        }
        Ok(Link { is_up: link.is_up, ..arrived.clone() })
    }

    /// Gives a device that has arrived its addresses, and sets it up if it was.
    fn settle(&self, arrived: &Link, link: &Link, addresses: &[Address]) -> Result<()> {
        let doing = || format!("give the network device {} the addresses of {}", arrived.name, link.name);
        let mut lasting = addresses.iter().filter(|address| address.is_lasting());
        lasting.try_for_each(|address| self.connection.add_address(arrived.index, address).doing(doing))?;
        if link.is_up {
            self.connection.bring_up(arrived.index).doing(doing)?;
        }
        Ok(())
    }
}
