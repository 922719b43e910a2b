//! Devices: what there are, and bridges, veth pairs and macvlans that are made.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use bulkhead_sys::netlink::message::{DUMP, EXCLUSIVE, Message, attribute, number, text};
use ipnet::IpNet;
use rustix::io::Errno;

use super::{Change, Devices, IpFamily, Setting, family, octets};
use crate::error::{Error, Result};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;

/// Attributes of a link, IFLA_*.
const HARDWARE: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const PARENT: u16 = 5;
const MASTER: u16 = 10;
const INFO: u16 = 18;
const ALIAS: u16 = 20;
const FAMILIES: u16 = 26;
const NAMESPACE: u16 = 28;
const WANTED: u16 = 29;
/// RTEXT_FILTER_SKIP_STATS: counters take the kernel longer than all the rest.
const NO_COUNTERS: [u8; 4] = 8_u32.to_ne_bytes();
/// Within [`INFO`]: IFLA_INFO_KIND, IFLA_INFO_DATA.
const KIND: u16 = 1;
const DATA: u16 = 2;
/// There, too: IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA.
const PORT_KIND: u16 = 4;
const PORT_DATA: u16 = 5;
/// IFLA_BRPORT_MODE, within [`PORT_DATA`].
const HAIRPIN: u16 = 4;
/// IFLA_BRPORT_ISOLATED, there, too.
const ISOLATED: u16 = 33;
/// VETH_INFO_PEER and IFLA_MACVLAN_MODE, within [`DATA`].
const PEER: u16 = 1;
const MODE: u16 = 1;
/// IFF_UP.
const UP: u32 = 1;
/// Attributes of an address, IFA_*.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const FLAGS: u16 = 8;
/// IFA_F_NODAD: nobody else has it, and nobody waits for a second to see.
const NO_DETECTION: u32 = 2;
/// The length of struct ifinfomsg.
const BODY: usize = 16;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A device that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// What it is, as `bridge`, `veth`; nothing for a piece of hardware.
    pub kind: Option<String>,
    /// What it is for, as [`Change::describe`] says.
    pub alias: Option<String>,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// The device below it, as a macvlan's, or the other end of a pair: its number in its own namespace.
    pub parent: Option<u32>,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Bytes in a packet at most.
    pub mtu: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether the bridge that it is a port of sends packets back by it ([`Change::let_return`]).
    pub returns: bool,
    /// What its kernel parameters are, in the order of [`SETTINGS`].
    settings: [Option<i32>; SETTINGS.len()],
}

/// The parameters that the kernel tells of a device, where it has them: the family of addresses, and the place in its list
/// (`IPV4_DEVCONF_*` of `linux/ip.h` less one, and `DEVCONF_*` of `linux/ipv6.h`).
const SETTINGS: [(Setting, u16, usize); 5] = [
    (Setting::Forwarding, 2, 0),
    (Setting::RouteLoopback, 2, 25),
    (Setting::ForwardingV6, 10, 0),
    (Setting::RouterAdvertisements, 10, 3),
    (Setting::NoIpv6, 10, 26),
];

/// A bridge to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Its hardware address, which else would change with its ports.
    pub mac: Mac,
    /// Bytes in a packet at most; without it the kernel's 1500, or the least of its ports.
    pub mtu: Option<u32>,
}

/// A pair of devices to be made, of which one is a container's.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// The name of the host's, which is up at once.
    pub name: &'a str,
    /// The bridge that this is a port of.
    pub bridge: u32,
    /// The name of the container's.
    pub inside: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// Its number in its namespace, if that is to be known.
    pub index: Option<u32>,
    /// The container's namespace.
    pub namespace: BorrowedFd<'a>,
    /// Bytes in a packet at most, of both.
    pub mtu: Option<u32>,
}

/// A device to be made on another one's cable.
#[derive(Debug, Clone, Copy)]
pub struct Macvlan<'a> {
    /// The number of that one on the host.
    pub parent: u32,
    /// Which packets go where.
    pub mode: MacvlanMode,
    /// Its name in the container.
    pub inside: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// The container's namespace.
    pub namespace: BorrowedFd<'a>,
    /// Bytes in a packet at most.
    pub mtu: Option<u32>,
}

/// Which packets of a macvlan go where, see `ip-link`(8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MacvlanMode {
    /// None to another one of the same parent.
    Private,
    /// All to the switch outside.
    Vepa,
    /// To others of the same parent directly.
    #[default]
    Bridge,
    /// The parent has this one alone.
    Passthru,
}

impl Device {
    /// Returns one of its kernel parameters as [`get`](super::get) does, as it was when the device was found.
    #[must_use]
    pub fn setting(&self, setting: Setting) -> Option<String> {
        let place = SETTINGS.iter().position(|(known, ..)| *known == setting)?;
        self.settings[place].map(|value| value.to_string())
    }
}

impl Devices {
    /// Lists the devices.
    ///
    /// # Errors
    /// As recv(2), and EAGAIN for a list that never holds still.
    pub fn list(&self) -> Result<Vec<Device>> {
        let mut message = Message::new(GET_LINK, DUMP, &[0; BODY]);
        message.attribute(WANTED, &NO_COUNTERS);
        let bodies = self.ask(message, "list the network devices")?;
        Ok(bodies.iter().filter_map(|body| device(body)).collect())
    }

    /// Finds a device by its name.
    ///
    /// # Errors
    /// As [`Devices::list`].
    pub fn find(&self, name: &str) -> Result<Option<Device>> {
        let mut message = Message::new(GET_LINK, 0, &[0; BODY]);
        message.text(NAME, name).attribute(WANTED, &NO_COUNTERS);
        // A success is an answer without a verdict behind it: the list ends by asking for that, too.
        let list = message.acknowledged();
        match self.ask(list, "look for a network device") {
            Err(Error::System { source, .. }) if source.errno() == Errno::NODEV => Ok(None),
            answers => Ok(answers?.iter().find_map(|body| device(body))),
        }
    }

    /// Lists the addresses of a device with the lengths of their subnets.
    ///
    /// # Errors
    /// As [`Devices::list`].
    pub fn addresses_of(&self, index: u32) -> Result<Vec<IpNet>> {
        let all = self.addresses()?;
        Ok(all.into_iter().filter(|(of, _)| *of == index).map(|(_, address)| address).collect())
    }

    /// Lists the addresses of all devices with the numbers of those.
    ///
    /// # Errors
    /// As [`Devices::list`].
    pub fn addresses(&self) -> Result<Vec<(u32, IpNet)>> {
        self.addresses_in(None)
    }

    /// As [`Devices::addresses`], of one family.
    pub(crate) fn addresses_in(&self, family: Option<IpFamily>) -> Result<Vec<(u32, IpNet)>> {
        let body = [family.map_or(0, IpFamily::number), 0, 0, 0, 0, 0, 0, 0];
        let bodies = self.ask(Message::new(GET_ADDRESS, DUMP, &body), "list the network addresses")?;
        Ok(bodies.iter().filter_map(|body| address(body)).collect())
    }
}

impl Change {
    /// Makes a bridge, which is down.
    #[must_use]
    pub fn make_bridge(bridge: &Bridge<'_>) -> Self {
        let mut message = Message::new(NEW_LINK, EXCLUSIVE, &body(0, 0));
        message.text(NAME, bridge.name).attribute(HARDWARE, &bridge.mac.0);
        with_mtu(&mut message, bridge.mtu);
        message.nest(INFO, |message| {
            message.text(KIND, "bridge");
        });
        Self { message, doing: format!("make the bridge {}", bridge.name) }
    }

    /// Makes a veth pair, one end a port of a bridge and up at once, the other in a container and down.
    #[must_use]
    pub fn make_veth(veth: &Veth<'_>) -> Self {
        let mut message = Message::new(NEW_LINK, EXCLUSIVE, &body(0, UP));
        message.text(NAME, veth.name).attribute(MASTER, &veth.bridge.to_ne_bytes());
        with_mtu(&mut message, veth.mtu);
        message.nest(INFO, |message| {
            message.text(KIND, "veth").nest(DATA, |message| {
                message.nest(PEER, |message| {
                    // It cannot be up before it is one of a pair.
                    message.raw(&body(veth.index.unwrap_or_default(), 0));
                    message.text(NAME, veth.inside).attribute(HARDWARE, &veth.mac.0);
                    message.attribute(NAMESPACE, &veth.namespace.as_raw_fd().to_ne_bytes());
                    with_mtu(message, veth.mtu);
                });
            });
        });
        Self { message, doing: format!("make the veth pair {} with {}", veth.name, veth.inside) }
    }

    /// Lets a bridge send packets back by the port by which they came. Where it has the packet filter look at its frames
    /// ([`shows_frames`](crate::bridge::shows_frames)), a container does not reach itself by a port of the host otherwise. What it sends to
    /// all comes back to it, too.
    #[must_use]
    pub fn let_return(name: &str) -> Self {
        Self { message: port(name, HAIRPIN), doing: format!("set the hairpin mode of {name}") }
    }

    /// Has a bridge send nothing from one of its ports to others of which this was said, too.
    #[must_use]
    pub fn isolate(name: &str) -> Self {
        Self {
            message: port(name, ISOLATED),
            doing: format!("isolate {name} from other ports of its bridge"),
        }
    }

    /// Makes a device a port of a bridge.
    #[must_use]
    pub fn attach(name: &str, bridge: u32) -> Self {
        let mut message = Message::new(NEW_LINK, 0, &body(0, 0));
        message.text(NAME, name).attribute(MASTER, &bridge.to_ne_bytes());
        Self { message, doing: format!("make {name} a port of its bridge") }
    }

    /// Makes a macvlan in a container, which is up at once.
    #[must_use]
    pub fn make_macvlan(macvlan: &Macvlan<'_>) -> Self {
        let mut message = Message::new(NEW_LINK, EXCLUSIVE, &body(0, UP));
        message.text(NAME, macvlan.inside).attribute(HARDWARE, &macvlan.mac.0);
        message.attribute(PARENT, &macvlan.parent.to_ne_bytes());
        message.attribute(NAMESPACE, &macvlan.namespace.as_raw_fd().to_ne_bytes());
        with_mtu(&mut message, macvlan.mtu);
        let mode: u32 = match macvlan.mode {
            MacvlanMode::Private => 1,
            MacvlanMode::Vepa => 2,
            MacvlanMode::Bridge => 4,
            MacvlanMode::Passthru => 8,
        };
        message.nest(INFO, |message| {
            message.text(KIND, "macvlan").nest(DATA, |message| {
                message.attribute(MODE, &mode.to_ne_bytes());
            });
        });
        Self { message, doing: format!("make the macvlan {}", macvlan.inside) }
    }

    /// Says what a device is for, in at most 255 bytes.
    #[must_use]
    pub fn describe(name: &str, alias: &str) -> Self {
        let mut message = Message::new(NEW_LINK, 0, &body(0, 0));
        message.text(NAME, name).attribute(ALIAS, alias.as_bytes());
        Self { message, doing: format!("say what the network device {name} is for") }
    }

    /// Sets a device up.
    #[must_use]
    pub fn bring_up(index: u32) -> Self {
        let message = Message::new(NEW_LINK, 0, &body(index, UP));
        Self { message, doing: format!("set the network device {index} up") }
    }

    /// Deletes a device by its name. The kernel takes 16 to 24 ms for one that is a port of a bridge.
    #[must_use]
    pub fn delete(name: &str) -> Self {
        let mut message = Message::new(DELETE_LINK, 0, &body(0, 0));
        message.text(NAME, name);
        Self { message, doing: format!("delete the network device {name}") }
    }

    /// Gives a device an address, with a route to all in its subnet.
    #[must_use]
    pub fn give_address(index: u32, address: IpNet) -> Self {
        let mut body = [family(&address), address.prefix_len(), 0, 0, 0, 0, 0, 0];
        body[4..].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(NEW_ADDRESS, EXCLUSIVE, &body);
        let bytes = octets(address.addr());
        message.attribute(LOCAL, &bytes).attribute(ADDRESS, &bytes);
        match address {
            IpNet::V4(net) => message.attribute(BROADCAST, &net.broadcast().octets()),
            IpNet::V6(_) => message.attribute(FLAGS, &NO_DETECTION.to_ne_bytes()),
        };
        Self { message, doing: format!("give the network device {index} the address {address}") }
    }
}

/// Asks for something of a bridge's port that is or is not so.
fn port(name: &str, attribute: u16) -> Message {
    let mut message = Message::new(NEW_LINK, 0, &body(0, 0));
    message.text(NAME, name).nest(INFO, |message| {
        message.text(PORT_KIND, "bridge").nest(PORT_DATA, |message| {
            message.attribute(attribute, &[1]);
        });
    });
    message
}

fn with_mtu(message: &mut Message, mtu: Option<u32>) {
    if let Some(mtu) = mtu {
        message.attribute(MTU, &mtu.to_ne_bytes());
    }
}

/// Writes a struct ifinfomsg.
fn body(index: u32, set: u32) -> [u8; BODY] {
    let mut body = [0; BODY];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&set.to_ne_bytes());
    // The flags that are to change.
    body[12..].copy_from_slice(&set.to_ne_bytes());
    body
}

fn device(body: &[u8]) -> Option<Device> {
    let (index, flags, rest) = (number(body, 4)?, number(body, 8)?, body.get(BODY..)?);
    let kind = attribute(rest, INFO).and_then(|info| attribute(info, KIND)).map(text);
    Some(Device {
        index,
        name: text(attribute(rest, NAME)?),
        kind,
        alias: attribute(rest, ALIAS).map(text),
        mac: attribute(rest, HARDWARE).and_then(|value| value.try_into().ok()).map(Mac),
        parent: attribute(rest, PARENT).and_then(|value| number(value, 0)),
        master: attribute(rest, MASTER).and_then(|value| number(value, 0)),
        mtu: attribute(rest, MTU).and_then(|value| number(value, 0)).unwrap_or_default(),
        is_up: flags & UP != 0,
        returns: returns(rest) == Some(true),
        settings: SETTINGS.map(|(_, family, place)| {
            let list =
                attribute(attribute(attribute(rest, FAMILIES)?, family)?, if family == 2 { 1 } else { 2 })?;
            number(list, 4 * place).map(u32::cast_signed)
        }),
    })
}

/// Reads the hairpin mode of a bridge's port.
fn returns(rest: &[u8]) -> Option<bool> {
    let info = attribute(rest, INFO)?;
    // What the master of another kind tells of its ports has other numbers.
    let is_bridge_s = attribute(info, PORT_KIND).map(text)? == "bridge";
    Some(is_bridge_s && attribute(attribute(info, PORT_DATA)?, HAIRPIN)? == [1])
}

fn address(body: &[u8]) -> Option<(u32, IpNet)> {
    let (&[_, prefix, ..], index, rest) = (body, number(body, 4)?, body.get(8..)?) else { return None };
    // Of a pair of ends, the other one is the plain attribute.
    let bytes = attribute(rest, LOCAL).or_else(|| attribute(rest, ADDRESS))?;
    Some((index, IpNet::new(read(bytes)?, prefix).ok()?))
}

/// Reads an address.
pub(super) fn read(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
