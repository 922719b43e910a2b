//! Connections that the kernel remembers, see conntrack(8) and `linux/netfilter/nfnetlink_conntrack.h`.
//!
//! What a packet's addresses are changed to is decided by the first packet of a connection. UDP has no end, so that the kernel
//! remembers for minutes, and for days a connection of TCP whose container was killed: whoever gets a container's address next would get
//! what is sent to it, at a port that nobody has published of that one. And who asked before a port was published would never come to
//! the container.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
/// CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_FILTER.
const FORTH: u16 = 1;
const BACK: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
/// What of a tuple is compared, CTA_FILTER_F_*: the source's address, the protocol, the source's port, the destination's. To compare
/// addresses of IPv6 the kernel does the wrong way round: those that are equal it leaves out.
const OF_ADDRESS: u32 = 1;
const OF_PROTOCOL: u32 = 1 << 3;
const OF_OWN_PORT: u32 = 1 << 4;
const OF_PORT: u32 = 1 << 5;
/// To look through its table once more takes the kernel as long as to tell of so many connections: 10 ms, of 262 144 places.
const WALK: usize = 5000;
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
    // To look for them takes milliseconds, since the kernel has one table for all network namespaces.
    let counted = socket.ask(begin(GET_STATS, 0).acknowledged()).unwrap_or_default();
    let entries = counted.iter().find_map(|body| attribute(body.get(BODY..)?, ENTRIES));
    let entries = entries.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize));
    if entries == Some(0) {
        return Ok(0);
    }
    let questions = questions(forgotten, entries.unwrap_or_default());
    let Some(listed) =
        list(&socket, family, &questions).or_else(call).doing(|| "list the kernel's connections")?
    else {
        return Ok(0);
    };
    let mut count = 0;
    for body in listed {
        // The kernel may have chosen them, or not all that is wanted of them, or not at all: before Linux 5.8 it does not know how.
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

/// Lists connections by some questions, some of them perhaps twice, or all without one; nothing from a kernel that knows none.
fn list(socket: &Socket, family: u8, questions: &[Question]) -> rustix::io::Result<Option<Vec<Vec<u8>>>> {
    let all = || Message::new(GET, DUMP, &[family, 0, 0, 0]);
    let mut listed = Vec::new();
    for question in questions {
        let mut message = all();
        question.write(&mut message);
        match unless_unknown(socket.ask(message))? {
            Some(some) => listed.extend(some),
            None => return unless_unknown(socket.ask(all())),
        }
    }
    if questions.is_empty() { unless_unknown(socket.ask(all())) } else { Ok(Some(listed)) }
}

/// Takes the answer of a kernel that does not know what it is asked for as none.
fn unless_unknown<T>(answer: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match answer {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        answer => answer.map(Some),
    }
}

/// What connections the kernel is to list: what is compared of one of their two tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question {
    /// [`FORTH`] or [`BACK`].
    tuple: u16,
    source: Option<Ipv4Addr>,
    /// The protocol, and which of its ports: [`OWN_PORT`] or [`PORT`].
    port: Option<(Protocol, u16, u16)>,
}

/// Returns by which questions all of these are listed, without too many others; none where a list of all that there are is there sooner.
fn questions(forgotten: &[Forgotten], entries: usize) -> Vec<Question> {
    let mut questions: Vec<Question> = Vec::new();
    for forgotten in forgotten {
        let new = match *forgotten {
            Forgotten::Of(IpAddr::V4(address)) => {
                Vec::from([FORTH, BACK].map(|tuple| Question { tuple, source: Some(address), port: None }))
            }
            Forgotten::Of(IpAddr::V6(_)) => return Vec::new(),
            Forgotten::To(protocol, at) => {
                vec![Question { tuple: FORTH, source: None, port: Some((protocol, PORT, at.port())) }]
            }
            // One for all ports of a container.
            Forgotten::By(_, SocketAddr::V4(by)) => {
                vec![Question { tuple: BACK, source: Some(*by.ip()), port: None }]
            }
            Forgotten::By(protocol, by) => {
                vec![Question { tuple: BACK, source: None, port: Some((protocol, OWN_PORT, by.port())) }]
            }
        };
        questions.extend(new.into_iter().filter(|new| !questions.contains(new)).collect::<Vec<_>>());
        if questions.len().saturating_sub(1).saturating_mul(WALK) > entries {
            return Vec::new();
        }
    }
    questions
}

impl Question {
    fn write(&self, message: &mut Message) {
        let Self { tuple, source, port } = *self;
        let mut compared = 0;
        message.nest(tuple, |message| {
            if let Some(source) = source {
                compared |= OF_ADDRESS;
                message.nest(ADDRESSES, |message| {
                    message.attribute(SOURCES[0], &source.octets());
                });
            }
            if let Some((protocol, kind, port)) = port {
                compared |= OF_PROTOCOL | if kind == PORT { OF_PORT } else { OF_OWN_PORT };
                message.nest(PROTOCOL, |message| {
                    message.attribute(NUMBER, &[protocol.number()]).attribute(kind, &port.to_be_bytes());
                });
            }
        });
        message.nest(FILTER, |message| {
            // CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS have the numbers of the tuples.
            message.attribute(tuple, &compared.to_ne_bytes());
        });
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernel_is_asked_for_few_connections_or_for_all() {
        let [of, of_v6] = ["10.0.0.2", "fd00::2"].map(|text| Forgotten::Of(text.parse().unwrap()));
        let by = |text: &str| Forgotten::By(Protocol::Tcp, at(text));
        let to = |port: u16| Forgotten::To(Protocol::Udp, SocketAddr::new([0; 4].into(), port));
        let count = |forgotten: &[Forgotten], entries| questions(forgotten, entries).len();
        assert_eq!(count(&[of], 100), 0, "as one who asks, and as one who answers: all are listed sooner");
        assert_eq!(count(&[of], 10_000), 2);
        assert_eq!(count(&[of, by("10.0.0.2:80"), of], 10_000), 2);
        let many = Vec::from_iter((1..1000).map(|port| by(&format!("10.0.0.2:{port}"))));
        assert_eq!(count(&many, 100), 1, "all ports of one container");
        assert_eq!(count(&[to(53), to(54), by("[fd00::2]:80"), by("[fd00::2]:80")], 10_000), 3);
        assert_eq!(count(&[to(1), to(2), to(3), to(4)], 10_000), 0, "too many");
        assert_eq!(count(&[of, of_v6], 10_000), 0, "the kernel does not find addresses of IPv6");
    }
}
