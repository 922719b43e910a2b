//! Routes.

use std::net::IpAddr;

use bulkhead_sys::netlink::message::{DUMP, EXCLUSIVE, Message, attribute, number, short};
use ipnet::IpNet;
use rustix::io::Errno;

use super::link::read;
use super::{Change, Devices, family, octets};
use crate::error::{Error, Result};

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
/// Attributes of a route, RTA_*.
const DESTINATION: u16 = 1;
const DEVICE: u16 = 4;
const GATEWAY: u16 = 5;
const SEVERAL: u16 = 9;
const GATEWAY_OF_FAMILY: u16 = 18;
/// RT_TABLE_MAIN, and RT_TABLE_LOCAL with the host's own addresses.
const MAIN: u8 = 254;
const LOCAL: u8 = 255;
/// RTPROT_BOOT: set up by what configures a machine.
const BOOT: u8 = 3;
/// RT_SCOPE_NOWHERE: of a route of any scope.
const NOWHERE: u8 = 255;
/// RTN_UNICAST.
const UNICAST: u8 = 1;
/// RTM_F_CLONED: a cache's entry.
const CLONED: u32 = 0x200;
/// The length of struct rtmsg.
const BODY: usize = 12;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Returns that of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// AF_INET and AF_INET6.
    pub(super) fn number(self) -> u8 {
        if self == Self::V4 { 2 } else { 10 }
    }
}

/// A way to a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; a prefix of 0 is everywhere.
    pub to: IpNet,
    /// The number of the device by which it leads there; none if there are several.
    pub device: Option<u32>,
    /// The next host on the way, if it is not a neighbour itself; the first of several.
    pub gateway: Option<IpAddr>,
}

impl Devices {
    /// Lists the routes to hosts elsewhere, of all tables, not those to addresses of this one.
    ///
    /// # Errors
    /// As [`Devices::list`].
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.routes_in(None)
    }

    /// As [`Devices::routes`], of one family.
    pub(crate) fn routes_in(&self, family: Option<IpFamily>) -> Result<Vec<Route>> {
        let mut body = [0; BODY];
        body[0] = family.map_or(0, IpFamily::number);
        let bodies = self.ask(Message::new(GET_ROUTE, DUMP, &body), "list the routes")?;
        Ok(bodies.iter().filter_map(|body| route(body)).collect())
    }

    /// Has nothing that goes nowhere else go by a device any more, in one family of addresses. Where none does, that is no error.
    ///
    /// # Errors
    /// As [`Devices::change`].
    pub fn end_default_routes(&self, device: u32, family: IpFamily) -> Result<()> {
        // Each call deletes one, of which there may be several with other metrics.
        for _ in 0..64 {
            let body = [family.number(), 0, 0, 0, MAIN, 0, NOWHERE, 0, 0, 0, 0, 0];
            let mut message = Message::new(DELETE_ROUTE, 0, &body);
            message.attribute(DEVICE, &device.to_ne_bytes());
            match self.change(vec![Change { message, doing: "delete a default route".to_owned() }]) {
                Err(Error::System { source, .. }) if source.errno() == Errno::SRCH => break,
                deleted => deleted?,
            }
        }
        Ok(())
    }
}

impl Change {
    /// Sends what goes nowhere else to a gateway, by a device.
    #[must_use]
    pub fn default_route(device: u32, gateway: IpAddr) -> Self {
        let net = IpNet::from(gateway);
        let body = [family(&net), 0, 0, 0, MAIN, BOOT, 0, UNICAST, 0, 0, 0, 0];
        let mut message = Message::new(NEW_ROUTE, EXCLUSIVE, &body);
        message.attribute(GATEWAY, &octets(gateway)).attribute(DEVICE, &device.to_ne_bytes());
        Self { message, doing: format!("make {gateway} the default gateway") }
    }
}

fn route(body: &[u8]) -> Option<Route> {
    let &[family, prefix, _, _, table, _, _, kind, ..] = body else { return None };
    if table == LOCAL || kind != UNICAST || number(body, 8)? & CLONED != 0 {
        return None;
    }
    let rest = body.get(BODY..)?;
    let none: IpAddr = match family {
        2 => [0; 4].into(),
        10 => [0; 16].into(),
        _ => return None,
    };
    let to = attribute(rest, DESTINATION).map_or(Some(none), read)?;
    Some(Route {
        to: IpNet::new(to, prefix).ok()?,
        device: attribute(rest, DEVICE).and_then(|value| number(value, 0)),
        gateway: gateway(rest).or_else(|| gateway_of_several(attribute(rest, SEVERAL)?)),
    })
}

/// Reads the next host of a route, or of one way among several. It may have an address of another family (struct rtvia).
fn gateway(attributes: &[u8]) -> Option<IpAddr> {
    let of_family = || read(attribute(attributes, GATEWAY_OF_FAMILY)?.get(2..)?);
    attribute(attributes, GATEWAY).and_then(read).or_else(of_family)
}

/// Reads the first of several ways, each struct rtnexthop with its attributes; nothing if a neighbour is reached by one of them.
fn gateway_of_several(mut ways: &[u8]) -> Option<IpAddr> {
    let mut first = None;
    while !ways.is_empty() {
        let length = usize::from(short(ways, 0)?);
        let gateway = gateway(ways.get(8..length)?)?;
        first = first.or(Some(gateway));
        ways = ways.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    first
}
