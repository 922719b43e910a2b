//! Bridges, and what connects containers with them.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use rustix::io::Errno;

use crate::device::{self, Change, Device, Devices, Mac, Setting, Veth};
use crate::error::{Error, Result};
use crate::pool;

/// How the names of the host's ends of connections begin.
pub const PORTS: &str = "bv-";
/// What devices of networks are described as, before the network's id.
const ALIAS: &str = "bulkhead network ";
/// What follows the network in the description of a connection's end, and is followed by whose it is.
const OWNER: &str = " of ";

/// The bridge of a network on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The device's name, at most 15 bytes.
    pub name: String,
    /// The network's id, by which the device is known as ours; `name` is made of it.
    pub owner: String,
    /// The host's addresses on it, with the lengths of its subnets; the first is what its hardware address is made of.
    pub addresses: Vec<IpNet>,
    /// Bytes in a packet at most.
    pub mtu: Option<u32>,
    /// Whether packets may go elsewhere.
    pub is_internal: bool,
    /// Whether its ports reach the host alone, and not each other.
    pub is_isolated: bool,
}

/// A container's connection with a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// Whose connection it is, at most 64 bytes.
    pub owner: String,
    /// The host's device, at most 15 bytes. It goes with the container's namespace.
    pub outside: String,
    /// The container's device, as `eth0`.
    pub inside: String,
    /// The container's hardware address.
    pub mac: Mac,
    /// The container's addresses with the lengths of their subnets.
    pub addresses: Vec<IpNet>,
    /// Where packets go that go nowhere else, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Bytes in a packet at most.
    pub mtu: Option<u32>,
    /// Whether ports of the host are changed to its own by the packet filter.
    pub is_published: bool,
}

/// Tells whether bridges of the calling thread's network namespace have the packet filter look at their frames (`br_netfilter`, which docker
/// and Kubernetes load).
///
/// A port of the host is changed to a container's before the bridge decides then: where that is the container that has asked, the frame
/// would have to leave by the port by which it came. Otherwise it is the host that sends it on, and no bridge looks where it came from.
#[must_use]
pub fn shows_frames() -> bool {
    ["iptables", "ip6tables"].iter().any(|family| {
        let file = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        std::fs::read_to_string(file).is_ok_and(|value| value.trim_end() != "0")
    })
}

impl Bridge {
    /// Makes the bridge unless [`Devices::find`] has found it, gives it what it lacks, and returns its number. Several may do so
    /// at once.
    ///
    /// # Errors
    /// [`Error::Taken`] when a device of its name is not ours; what the kernel refuses.
    pub fn ensure(&self, host: &Devices, found: Option<Device>) -> Result<u32> {
        if let Some(found) = found {
            return self.complete(host, &found);
        }
        let bridge = device::Bridge { name: &self.name, mac: self.mac(), mtu: self.mtu };
        match host.change(vec![Change::make_bridge(&bridge)]) {
            // Somebody else has made it meanwhile.
            Err(error) if error.is(Errno::EXIST) => {}
            made => made?,
        }
        let found = host.find(&self.name)?.ok_or_else(|| self.gone())?;
        let index = self.complete(host, &found)?;
        self.take_in(host, index)?;
        Ok(index)
    }

    /// Makes the devices its ports that were those of an earlier bridge, which somebody has deleted under its containers. Nothing comes
    /// back by them yet ([`Change::let_return`]).
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn take_in(&self, host: &Devices, index: u32) -> Result<()> {
        for device in host.list()?.iter().filter(|device| unplugged_from(device) == Some(&self.owner)) {
            let mut changes = vec![Change::attach(&device.name, index)];
            if self.is_isolated {
                changes.push(Change::isolate(&device.name));
            }
            let changed = host.change(changes);
            match changed.and_then(|()| host.has_carrier(&device.name)) {
                // Its container has ended meanwhile.
                Err(error) if error.is(Errno::NODEV) => {}
                done => drop(done?),
            }
        }
        // As when it is connected: who sends at once is heard.
        host.has_carrier(&self.name).map(drop)
    }

    /// Deletes the bridge if it is there and ours.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(&self, host: &Devices) -> Result<()> {
        let ours = host.find(&self.name)?.is_some_and(|found| self.is(&found));
        if !ours {
            return Ok(());
        }
        match host.change(vec![Change::delete(&self.name)]) {
            Err(error) if error.is(Errno::NODEV) => Ok(()),
            removed => removed,
        }
    }

    fn complete(&self, host: &Devices, found: &Device) -> Result<u32> {
        if !self.is(found) {
            return Err(Error::Taken { name: self.name.clone() });
        }
        // To give one that is there costs less than to list those of all devices.
        for address in &self.addresses {
            match host.change(vec![Change::give_address(found.index, *address)]) {
                Err(error) if error.is(Errno::EXIST) => {}
                given => given?,
            }
        }
        if found.alias.is_none() {
            host.change(vec![Change::describe(&self.name, &self.alias())])?;
        }
        self.set(found)?;
        if !found.is_up {
            host.change(vec![Change::bring_up(found.index)])?;
        }
        Ok(found.index)
    }

    /// Has the host believe nobody there, and packets go where they may. Their answers come in by other devices
    /// ([`uplink`](crate::uplink)).
    fn set(&self, found: &Device) -> Result<()> {
        let has_v6 = self.addresses.iter().any(|address| address.addr().is_ipv6());
        let [forward, no_v6] = [!self.is_internal, !has_v6].map(|is_so| if is_so { "1" } else { "0" });
        let mut wanted = vec![
            // A container must not become the host's router by saying that it is one.
            (Setting::RouterAdvertisements, "0"),
            (Setting::NoIpv6, no_v6),
            (Setting::Forwarding, forward),
        ];
        if has_v6 {
            wanted.push((Setting::ForwardingV6, forward));
        }
        let name = &self.name;
        let missing =
            |(setting, value): &(Setting, &str)| found.setting(*setting).is_some_and(|now| now != *value);
        wanted.retain(missing);
        wanted.into_iter().try_for_each(|(setting, value)| device::set(name, setting, value))
    }

    /// Has packets with addresses of the loopback go by the bridge, which a port of the host takes that is asked for at
    /// 127.0.0.1. Only while the table is there ([`rules`](crate::rules)): without it containers would reach the host's loopback.
    ///
    /// # Errors
    /// As [`device::set`].
    pub fn route_loopback(&self, is_published: bool) -> Result<()> {
        let wanted = if is_published { "1" } else { "0" };
        if device::get(&self.name, Setting::RouteLoopback).as_deref() == Some(wanted) {
            return Ok(());
        }
        device::set(&self.name, Setting::RouteLoopback, wanted)
    }

    fn mac(&self) -> Mac {
        let first = self.addresses.first().map_or(IpAddr::from([0; 4]), IpNet::addr);
        Mac(pool::hardware_address(first))
    }

    fn alias(&self) -> String {
        format!("{ALIAS}{}", self.owner)
    }

    fn is(&self, found: &Device) -> bool {
        let is_ours = match &found.alias {
            Some(alias) => *alias == self.alias(),
            // It is made at this moment, or its maker was killed.
            None => !found.is_up && found.mac == Some(self.mac()),
        };
        found.kind.as_deref() == Some("bridge") && is_ours
    }

    fn gone(&self) -> Error {
        let source = bulkhead_sys::Error::new("sendmsg(AF_NETLINK, NETLINK_ROUTE)", Errno::NODEV);
        Error::System { doing: format!("find the bridge {} that was just made", self.name), source }
    }
}

/// Returns the id of the network whose bridge a device is.
#[must_use]
pub fn bridge_of(device: &Device) -> Option<&str> {
    told_of(device, "bridge")
}

/// Returns the id of the network with which a device of the host connects somebody, whether it is its bridge's or not, and who that is.
/// Earlier versions did not say so.
#[must_use]
pub fn end_of(device: &Device) -> Option<(&str, Option<&str>)> {
    let told = told_of(device, "veth")?;
    Some(told.split_once(OWNER).map_or((told, None), |(network, owner)| (network, Some(owner))))
}

/// Returns the id of the network from whose bridge a container's device was taken.
#[must_use]
pub fn unplugged_from(device: &Device) -> Option<&str> {
    end_of(device).filter(|_| device.master.is_none()).map(|(network, _)| network)
}

fn told_of<'a>(device: &'a Device, kind: &str) -> Option<&'a str> {
    let is_of_kind = device.kind.as_deref() == Some(kind);
    device.alias.as_deref().filter(|_| is_of_kind)?.strip_prefix(ALIAS)
}

impl Plug {
    /// Connects a container's namespace with a bridge. With a number the container's device gets that, which must be free
    /// there; its name must be free, too.
    ///
    /// # Errors
    /// What the kernel refuses; then the devices are gone again, or go with the namespace.
    pub fn connect(
        &self,
        host: &Devices,
        (bridge, index): (&Bridge, u32),
        namespace: BorrowedFd<'_>,
        inside: &Devices,
        number: Option<u32>,
    ) -> Result<()> {
        let pair = Change::make_veth(&Veth {
            name: &self.outside,
            bridge: index,
            inside: &self.inside,
            mac: self.mac,
            index: number,
            namespace,
            mtu: self.mtu,
        });
        host.change(vec![pair])?;
        // In a call of its own: behind a failure it would be another one's device.
        let alias = format!("{}{OWNER}{}", bridge.alias(), self.owner);
        let mut settling = vec![Change::describe(&self.outside, &alias)];
        if bridge.is_isolated {
            // Its other end is down still.
            settling.push(Change::isolate(&self.outside));
        }
        if self.is_published && shows_frames() {
            settling.push(Change::let_return(&self.outside));
        }
        let settled = host.change(settling);
        let settled = settled.and_then(|()| self.settle(inside, number)).and_then(|()| {
            // The port, then the bridge, which has a carrier when a port has, then the other end: who sends at once is heard.
            let asked = host.has_carrier(&self.outside).and_then(|_| host.has_carrier(&bridge.name));
            asked.and_then(|_| inside.has_carrier(&self.inside)).map(drop)
        });
        if settled.is_err() {
            // What is wrong is told; the pair would stay as long as the container.
            drop(host.change(vec![Change::delete(&self.outside)]));
        }
        settled
    }

    fn settle(&self, inside: &Devices, number: Option<u32>) -> Result<()> {
        let index = match number {
            Some(index) => index,
            None => inside.find(&self.inside)?.map(|found| found.index).ok_or_else(|| {
                let source = bulkhead_sys::Error::new("sendmsg(AF_NETLINK, NETLINK_ROUTE)", Errno::NODEV);
                Error::System { doing: format!("find {} in the container", self.inside), source }
            })?,
        };
        let addresses = self.addresses.iter().map(|address| Change::give_address(index, *address));
        let routes = self.gateways.iter().map(|gateway| Change::default_route(index, *gateway));
        // A route takes a device that is up.
        inside.change(addresses.chain([Change::bring_up(index)]).chain(routes).collect())
    }

    /// Takes the connection away.
    ///
    /// # Errors
    /// What the kernel refuses, but not that it is not there.
    pub fn disconnect(&self, host: &Devices) -> Result<()> {
        match host.change(vec![Change::delete(&self.outside)]) {
            Err(error) if error.is(Errno::NODEV) => Ok(()),
            removed => removed,
        }
    }
}
