//! Connections that the kernel remembers, see conntrack(8) and `linux/netfilter/nfnetlink_conntrack.h`.
//!
//! What a packet's addresses are changed to is decided by the first packet of a connection. UDP has no end, so that the kernel
//! remembers for minutes, and for days a connection of TCP whose container was killed: whoever gets a container's address next would get
//! what is sent to it, at a port that nobody has published of that one. And who asked before a port was published would never come to
//! the container.

use std::net::{IpAddr, SocketAddr};

use bulkhead_sys::netlink::message::{DUMP, Message, attribute};
use bulkhead_sys::netlink::{Family, Socket};
use rustix::io::Errno;

use crate::error::{Doing as _, Result};
use crate::nft::call;
use crate::rules::Protocol;

/// NFNL_SUBSYS_CTNETLINK in the upper byte of a type, with IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
/// IPCTNL_MSG_CT_GET_STATS, and CTA_STATS_GLOBAL_ENTRIES: how many there are.
const GET_STATS: u16 = 0x0105;
const ENTRIES: u16 = 1;
/// The length of struct nfgenmsg.
const BODY: usize = 4;
/// CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID.
const FORTH: u16 = 1;
const BACK: u16 = 2;
const ID: u16 = 12;
/// Within a tuple: CTA_TUPLE_IP, CTA_TUPLE_PROTO.
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
/// Within those: CTA_IP_V4_SRC and the three behind it, CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT.
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
const NUMBER: u16 = 1;
const OWN_PORT: u16 = 2;
const PORT: u16 = 3;

/// What connections are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// All that a container has with others, by its address.
    Of(IpAddr),
    /// Those that came to a port of this host.
    To(Protocol, SocketAddr),
    /// Those that a port of a container has answered, whatever port of this host was asked.
    By(Protocol, SocketAddr),
}

impl Forgotten {
    fn address(self) -> IpAddr {
        match self {
            Self::Of(address) => address,
            Self::To(_, at) | Self::By(_, at) => at.ip(),
        }
    }
}

/// Has the kernel forget connections of the calling thread's network namespace, and returns how many.
///
/// # Errors
/// As recv(2), and what the kernel refuses; not that there are none, or that it knows no connections.
pub fn forget(forgotten: &[Forgotten]) -> Result<usize> {
    let (v6, v4): (Vec<_>, Vec<_>) = forgotten.iter().partition(|of| of.address().is_ipv6());
    Ok(forget_of_family(2, &v4)? + forget_of_family(10, &v6)?)
}

fn forget_of_family(family: u8, forgotten: &[Forgotten]) -> Result<usize> {
    if forgotten.is_empty() {
        return Ok(0);
    }
    let socket = Socket::open(Family::Netfilter).doing(|| "connect to the kernel's connections")?;
    let begin = |kind, flags| Message::new(kind, flags, &[family, 0, 0, 0]);
    // To list them takes milliseconds, since the kernel has one table for all network namespaces.
    let counted = socket.ask(begin(GET_STATS, 0).acknowledged()).unwrap_or_default();
    let none: &[u8] = &[0; 4];
    if counted.iter().any(|body| body.get(BODY..).and_then(|rest| attribute(rest, ENTRIES)) == Some(none)) {
        return Ok(0);
    }
    let listed = match socket.ask(begin(GET, DUMP)) {
        // The kernel has no such thing.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(0),
        listed => listed.or_else(call).doing(|| "list the kernel's connections")?,
    };
    let mut count = 0;
    for body in listed {
        let is_meant = |flow: &Flow<'_>| forgotten.iter().any(|forgotten| flow.is(*forgotten));
        let Some(flow) = body.get(BODY..).and_then(Flow::read).filter(is_meant) else { continue };
        let mut message = begin(DELETE, 0);
        message.nested(FORTH, flow.forth).attribute(ID, flow.id);
        match socket.ask(message.acknowledged()) {
            Ok(_) => count += 1,
            // It has ended meanwhile.
            Err(Errno::NOENT) => {}
            Err(errno) => call(errno).doing(|| "have the kernel forget a connection")?,
        }
    }
    Ok(count)
}

/// A connection as the kernel lists it.
struct Flow<'a> {
    id: &'a [u8],
    forth: &'a [u8],
    back: &'a [u8],
}

impl<'a> Flow<'a> {
    fn read(rest: &'a [u8]) -> Option<Self> {
        Some(Self { id: attribute(rest, ID)?, forth: attribute(rest, FORTH)?, back: attribute(rest, BACK)? })
    }

    fn is(&self, forgotten: Forgotten) -> bool {
        match forgotten {
            // As one who asks, or as one who answers, whatever was asked for.
            Forgotten::Of(address) => {
                address_in(self.forth, SOURCES) == Some(address)
                    || address_in(self.back, SOURCES) == Some(address)
            }
            Forgotten::To(protocol, to) => {
                let is_any = to.ip().is_unspecified();
                has_port(self.forth, protocol, (PORT, to.port()))
                    && (is_any || address_in(self.forth, DESTINATIONS) == Some(to.ip()))
            }
            Forgotten::By(protocol, by) => {
                has_port(self.back, protocol, (OWN_PORT, by.port()))
                    && address_in(self.back, SOURCES) == Some(by.ip())
            }
        }
    }
}

fn has_port(tuple: &[u8], protocol: Protocol, (kind, port): (u16, u16)) -> bool {
    let of = |kind| attribute(attribute(tuple, PROTOCOL)?, kind);
    of(NUMBER) == Some(&[protocol.number()]) && of(kind) == Some(&port.to_be_bytes())
}

fn address_in(tuple: &[u8], kinds: [u16; 2]) -> Option<IpAddr> {
    let addresses = attribute(tuple, ADDRESSES)?;
    let [v4, v6] = kinds.map(|kind| attribute(addresses, kind));
    let v4 = v4.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
    v4.or_else(|| v6.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from))
}
