//! What the host has of a network's addresses, too: it may get them after the network was made, from another engine or by a VPN.

use std::fmt;

use ipnet::IpNet;

use crate::device::Devices;
use crate::error::Result;
use crate::pool::{Fate, Holder, Used};

/// Something with addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The network's subnet.
    pub subnet: IpNet,
    /// What has them, too.
    pub other: Used,
    /// The name of its device; none for a route that has several.
    pub device: Option<String>,
}

impl Overlap {
    /// Makes it of what somebody has of a subnet.
    #[must_use]
    pub fn new(host: &Devices, subnet: IpNet, other: &Used) -> Self {
        let device = match other.by {
            Holder::Address(device) => Some(device),
            Holder::Route { device, .. } => device,
            Holder::Network(_) => None,
        };
        Self { subnet, other: other.clone(), device: device.and_then(|index| host.name(index)) }
    }

    /// Tells whether packets for containers may go there. Otherwise those of others, who have a wider subnet, come to the network.
    #[must_use]
    pub fn diverts(&self) -> bool {
        self.other.net.prefix_len() >= self.subnet.prefix_len()
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subnet: _, other: Used { net, by }, device } = self;
        let by_device =
            |word: &str| device.as_ref().map(|name| format!(" {word} {name}")).unwrap_or_default();
        match by {
            Holder::Address(_) => write!(f, "the host has {net}{}", by_device("at")),
            Holder::Route { gateway, .. } => {
                let gateway = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                write!(f, "the host has a route to {net}{gateway}{}", by_device("by"))
            }
            Holder::Network(name) => write!(f, "network {name} has {net}"),
        }
    }
}

/// Lists what the host has: its addresses, and where there are routes to. An address has a route to its neighbours besides, which stands behind it.
///
/// # Errors
/// As recv(2).
pub fn used(host: &Devices) -> Result<Vec<Used>> {
    let addresses =
        host.addresses()?.into_iter().map(|(device, net)| Used { net, by: Holder::Address(device) });
    let routes = host.routes()?.into_iter().map(|route| Used {
        net: route.to,
        by: Holder::Route { device: route.device, gateway: route.gateway },
    });
    Ok(addresses.chain(routes).collect())
}

/// Finds for each of these subnets what the host has of it, the narrowest alone; what it has by the device of this number is the
/// network's own.
///
/// # Errors
/// As recv(2).
pub fn find(host: &Devices, subnets: &[IpNet], own: Option<u32>) -> Result<Vec<Overlap>> {
    let mut all = used(host)?;
    all.retain(|used| match used.by {
        Holder::Address(device) => own != Some(device),
        Holder::Route { device, .. } => own.is_none() || own != device,
        Holder::Network(_) => true,
    });
    let found = subnets.iter().filter_map(|subnet| {
        let others = all.iter().filter(|used| used.fate(subnet) != Fate::Apart);
        let length = |used: &Used| used.net.prefix_len();
        let narrowest = others.reduce(|one, next| if length(next) > length(one) { next } else { one });
        narrowest.map(|other| Overlap::new(host, *subnet, other))
    });
    Ok(found.collect())
}
