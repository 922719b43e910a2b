//! The devices by which packets of containers go elsewhere, and their answers come.
//!
//! The kernel asks the device by which a packet comes in whether it may be forwarded. For what containers send, that is a
//! bridge, which is ours; for what is answered, and for what comes to a published port, it is a device of the host's: of its cables
//! and tunnels any may be that one. So forwarding is switched on for those that have an address which others may send to, or by
//! which a gateway is reached; what is changed is told before it is done, so that it can be recorded and taken back. IPv6 has one
//! switch for all devices (before Linux 6.17), and a device that forwards believes no router any more unless it is told to: both
//! are done.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::device::{self, Device, Devices, IpFamily, Setting};
use crate::error::Result;

/// A kernel parameter that is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The device.
    pub device: String,
    /// The parameter.
    pub setting: Setting,
    /// What it was before.
    pub was: String,
}

/// Which families containers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv4 and IPv6.
    Both,
}

/// Has the host forward what comes in by its devices, but for bridges whose names begin with `own`, and returns what was changed
/// for that, in order.
///
/// # Errors
/// As [`plan`] and [`apply`].
pub fn forward(host: &Devices, families: Families, own: &str) -> Result<Vec<Changed>> {
    let planned = plan(host, families, own)?;
    apply(&planned)?;
    Ok(planned)
}

/// Tells what is to be changed so that the host forwards what comes in by its devices, in order, with what it is now. Whoever
/// wants to take it back notes that before [`apply`] does it.
///
/// # Errors
/// A list of devices, addresses or routes that cannot be read.
pub fn plan(host: &Devices, families: Families, own: &str) -> Result<Vec<Changed>> {
    let mut planned = Vec::new();
    for device in cables(host, IpFamily::V4, own)? {
        add(&mut planned, &device.name, device.setting(Setting::Forwarding), Setting::Forwarding);
    }
    if families == Families::Both {
        for device in cables(host, IpFamily::V6, own)? {
            let believes = device.setting(Setting::RouterAdvertisements);
            // 1 is to believe routers unless packets are forwarded, 2 is to believe them anyway.
            if believes.as_deref() == Some("1") {
                add(&mut planned, &device.name, believes, Setting::RouterAdvertisements);
            }
        }
        let all = device::get("all", Setting::ForwardingV6);
        add(&mut planned, "all", all, Setting::ForwardingV6);
    }
    Ok(planned)
}

/// Does what was planned, but for devices that are gone meanwhile.
///
/// # Errors
/// As [`device::set`]; what stands before the one that failed is done.
pub fn apply(planned: &[Changed]) -> Result<()> {
    for Changed { device, setting, was: _ } in planned {
        match device::set(device, *setting, wanted(*setting)) {
            Err(_) if device::get(device, *setting).is_none() => {}
            set => set?,
        }
    }
    Ok(())
}

/// Lists the devices by which something may come in from other hosts, what is IPv4; or those by which a router of IPv6 may be heard,
/// some of which may have no address before, so that all are listed. Of IPv4 it is asked for those alone that have an address or a route: each
/// container that runs has a device, too.
fn cables(host: &Devices, family: IpFamily, own: &str) -> Result<Vec<Device>> {
    let (routes, addresses) = (host.routes_in(Some(family))?, host.addresses_in(Some(family))?);
    let leading = routes.iter().filter(|route| route.gateway.is_some() || route.to.prefix_len() == 0);
    let leading = BTreeSet::from_iter(leading.filter_map(|route| route.device));
    let addressed = addresses.iter().filter(|(_, net)| is_global(net.addr()));
    let addressed = BTreeSet::from_iter(addressed.map(|(device, _)| *device));
    let is_wanted = |index: u32, name: &str| {
        let is_other = name != "lo" && !name.starts_with(own);
        is_other && (leading.contains(&index) || addressed.contains(&index) && !is_of_docker(name))
    };
    if family == IpFamily::V6 {
        let may_hear = |device: &Device| {
            let is_own = device.name == "lo" || device.name.starts_with(own) || is_of_docker(&device.name);
            device.kind.is_none() && device.master.is_none() && !is_own
        };
        let all = host.list()?.into_iter();
        return Ok(all.filter(|one| is_wanted(one.index, &one.name) || may_hear(one)).collect());
    }
    let mut found = Vec::new();
    for index in leading.union(&addressed) {
        if let Some(name) = host.name(*index).filter(|name| is_wanted(*index, name)) {
            found.extend(host.find(&name)?);
        }
    }
    Ok(found)
}

/// Whether a device leads to containers of docker's, which no others come from. Its networks' bridges have twelve digits of an id.
fn is_of_docker(name: &str) -> bool {
    let id = name.strip_prefix("br-");
    let is_id = id.is_some_and(|id| id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
    is_id || name == "docker0" || name.starts_with("veth")
}

/// Whether others than neighbours may send to an address.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// Lists the devices by which the host sends to everywhere: what is IPv4, and what is IPv6.
pub(crate) fn devices(host: &Devices) -> Result<[Vec<String>; 2]> {
    let (devices, routes) = (host.list()?, host.routes()?);
    Ok([false, true].map(|is_v6| {
        let routes =
            routes.iter().filter(|route| route.to.prefix_len() == 0 && route.to.addr().is_ipv6() == is_v6);
        let numbers = BTreeSet::from_iter(routes.filter_map(|route| route.device));
        let named = devices.iter().filter(|device| numbers.contains(&device.index));
        named.map(|device| device.name.clone()).collect()
    }))
}

/// Takes back what was changed, the last first. What somebody has changed again meanwhile stays, and so does what belongs to a
/// device that is gone.
///
/// Somebody may have switched forwarding on for the whole host since, as docker and libvirt do: then its packets go by what was
/// changed, too, and nothing is taken back. Of IPv6 the one switch is ours and theirs; who has switched IPv4 on has it, too.
///
/// # Errors
/// As [`device::set`].
pub fn take_back(changed: &[Changed]) -> Result<()> {
    let was_closed = changed.iter().any(|changed| changed.setting == Setting::Forwarding);
    if was_closed && device::get("all", Setting::Forwarding).as_deref() == Some("1") {
        return Ok(());
    }
    for Changed { device, setting, was } in changed.iter().rev() {
        if device::get(device, *setting).as_deref() == Some(wanted(*setting)) {
            device::set(device, *setting, was)?;
        }
    }
    Ok(())
}

/// What a parameter is set to.
fn wanted(setting: Setting) -> &'static str {
    if setting == Setting::RouterAdvertisements { "2" } else { "1" }
}

fn add(planned: &mut Vec<Changed>, device: &str, is: Option<String>, setting: Setting) {
    // It is so, or the kernel has no such protocol.
    let is = is.filter(|is| is != wanted(setting));
    planned.extend(is.map(|was| Changed { device: device.to_owned(), setting, was }));
}
