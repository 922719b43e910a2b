//! What the host has of a network's addresses, too: it may get them after the network was made, from another engine or by a VPN.

use std::fmt;

use ipnet::IpNet;

use crate::device::Devices;
use crate::error::Result;
use crate::pool;

/// Something of the host's with addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The network's subnet.
    pub subnet: IpNet,
    /// The host's address with the length of its subnet, or where its route leads.
    pub other: IpNet,
    /// Which of both it is.
    pub of: Holding,
    /// The device; none for a route that has several.
    pub device: Option<String>,
}

/// By what the host has addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// One of them is its own, and the others are its neighbours'.
    Address,
    /// It knows where to send what is for them.
    Route,
}

impl Overlap {
    /// Tells whether packets for containers may go there. Otherwise those of others, who have a wider subnet, come to the network.
    #[must_use]
    pub fn diverts(&self) -> bool {
        self.other.prefix_len() >= self.subnet.prefix_len()
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subnet: _, other, of, device } = self;
        match of {
            Holding::Address => write!(f, "the host has {other}")?,
            Holding::Route => write!(f, "the host has a route to {other}")?,
        }
        let by = if *of == Holding::Address { "at" } else { "by" };
        device.as_ref().map_or(Ok(()), |device| write!(f, " {by} {device}"))
    }
}

/// Finds for each of these subnets what the host has of it, the narrowest alone; what it has by the device of this number is the
/// network's own.
///
/// # Errors
/// As recv(2).
pub fn find(host: &Devices, subnets: &[IpNet], own: Option<u32>) -> Result<Vec<Overlap>> {
    let addresses = host.addresses()?.into_iter().map(|(device, net)| (net, Holding::Address, Some(device)));
    let routes = host.routes()?.into_iter().map(|route| (route.to, Holding::Route, route.device));
    // An address has a route to its neighbours besides: the first of both counts.
    let mut all = Vec::from_iter(addresses.chain(routes));
    all.retain(|(_, _, device)| own.is_none() || *device != own);
    let found = subnets.iter().filter_map(|subnet| {
        let others = all.iter().filter(|(net, ..)| pool::is_in_the_way(&net.trunc(), subnet));
        let narrowest =
            others.reduce(|one, next| if next.0.prefix_len() > one.0.prefix_len() { next } else { one });
        narrowest.map(|(other, of, device)| Overlap {
            subnet: *subnet,
            other: *other,
            of: *of,
            device: device.and_then(|index| host.name(index)),
        })
    });
    Ok(found.collect())
}
