//! The devices by which packets of containers go elsewhere, and their answers come.
//!
//! The kernel asks the device by which a packet comes in whether it may be forwarded. For what containers send, that is a
//! bridge, which is ours; for what is answered, and for what comes to a published port, it is a device of the host's. There
//! forwarding is switched on for those devices alone by which the host sends to everywhere, and what was changed is told, so
//! that it can be taken back. IPv6 has one switch for all devices (before Linux 6.17), and a device that forwards believes no
//! router any more unless it is told to: both are done.

use std::collections::BTreeSet;

use crate::device::{self, Devices, Setting};
use crate::error::Result;

/// A kernel parameter that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The device.
    pub device: String,
    /// The parameter.
    pub setting: Setting,
    /// What it was.
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

/// Has the host forward what comes in by its devices to everywhere, and returns what was changed for that, in order.
///
/// # Errors
/// A list of routes that cannot be read, and as [`device::set`].
pub fn forward(host: &Devices, families: Families) -> Result<Vec<Changed>> {
    let mut changed = Vec::new();
    let [devices, devices_v6] = devices(host)?;
    for device in devices {
        change(&mut changed, &device, Setting::Forwarding, "1")?;
    }
    if families == Families::Both {
        for device in devices_v6 {
            // 1 is to believe routers unless packets are forwarded, 2 is to believe them anyway.
            if device::get(&device, Setting::RouterAdvertisements).as_deref() == Some("1") {
                change(&mut changed, &device, Setting::RouterAdvertisements, "2")?;
            }
        }
        change(&mut changed, "all", Setting::ForwardingV6, "1")?;
    }
    Ok(changed)
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
/// # Errors
/// As [`device::set`].
pub fn take_back(changed: &[Changed]) -> Result<()> {
    for Changed { device, setting, was } in changed.iter().rev() {
        let ours = if *setting == Setting::RouterAdvertisements { "2" } else { "1" };
        if device::get(device, *setting).as_deref() == Some(ours) {
            device::set(device, *setting, was)?;
        }
    }
    Ok(())
}

fn change(changed: &mut Vec<Changed>, device: &str, setting: Setting, value: &str) -> Result<()> {
    match device::get(device, setting) {
        Some(was) if was != value => {
            device::set(device, setting, value)?;
            changed.push(Changed { device: device.to_owned(), setting, was });
            Ok(())
        }
        // It is so, or the kernel has no such protocol.
        _ => Ok(()),
    }
}
