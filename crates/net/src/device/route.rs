//! Routes.

use std::net::IpAddr;

use bulkhead_sys::netlink::message::{DUMP, EXCLUSIVE, Message, attribute, number};
use ipnet::IpNet;

use super::link::read;
use super::{Change, Devices, family, octets};
use crate::error::Result;

const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// Attributes of a route, RTA_*.
const DESTINATION: u16 = 1;
const DEVICE: u16 = 4;
const GATEWAY: u16 = 5;
/// RT_TABLE_MAIN, and RT_TABLE_LOCAL with the host's own addresses.
const MAIN: u8 = 254;
const LOCAL: u8 = 255;
/// RTPROT_BOOT: set up by what configures a machine.
const BOOT: u8 = 3;
/// RTN_UNICAST.
const UNICAST: u8 = 1;
/// RTM_F_CLONED: a cache's entry.
const CLONED: u32 = 0x200;
/// The length of struct rtmsg.
const BODY: usize = 12;

/// A way to a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; a prefix of 0 is everywhere.
    pub to: IpNet,
    /// The number of the device by which it leads there.
    pub device: Option<u32>,
    /// The next host on the way, if it is not a neighbour itself.
    pub gateway: Option<IpAddr>,
}

impl Devices {
    /// Lists the routes to hosts elsewhere, of all tables, not those to addresses of this one.
    ///
    /// # Errors
    /// As [`Devices::list`].
    pub fn routes(&self) -> Result<Vec<Route>> {
        let bodies = self.ask(Message::new(GET_ROUTE, DUMP, &[0; BODY]), "list the routes")?;
        Ok(bodies.iter().filter_map(|body| route(body)).collect())
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
        gateway: attribute(rest, GATEWAY).and_then(read),
    })
}
