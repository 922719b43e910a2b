//! Where a container asks: two sockets in its network namespace, and the rules that lead there.
//!
//! Containers ask 127.0.0.11, port 53 ([`ADDRESS`]). A container may want port 53 of all its addresses for itself, so the sockets
//! have ports that the kernel chooses, and a table of ours in the container's namespace puts those in the place of 53 and back:
//!
//! ```text
//! chain output      { output -300      ip daddr 127.0.0.11 udp dport 53 udp dport set PORT … }
//! chain postrouting { postrouting 300  ip saddr 127.0.0.11 udp sport PORT udp sport set 53 … }
//! ```
//!
//! The ports are written into each packet, and no connection is remembered: address translation would have the kernel remember
//! each question for half a minute, out of what all containers have together, and every other packet of the container, too.
//!
//! Linux 7 lets nobody write into the packets of a namespace that belongs to another user namespace than the first. There, addresses
//! are translated after all:
//!
//! ```text
//! chain output      { output -100      ip daddr 127.0.0.11 udp dport 53 dnat ip to 127.0.0.11:PORT … }
//! ```

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use bulkhead_sys::Call as _;
use rustix::io::Errno;

use crate::device::inside;
use crate::error::{Doing as _, Result};
use crate::flow::{self, Forgotten};
use crate::nft::{Chain, ChainKind, Expression, Filter, Hook, Register, Transaction};
use crate::rules::Protocol;

/// Where containers ask, as docker's do.
pub const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);
/// The table in the container's network namespace.
const TABLE: &str = "bulkhead-names";
/// Behind the first of these the kernel remembers connections, and before the second it has; so it sees one port both ways.
const FIRST: i32 = -300;
const LAST: i32 = 300;
/// NF_IP_PRI_NAT_DST.
const TRANSLATION: i32 = -100;
/// NFPROTO_IPV4.
const V4: &[u8] = &[2];
const LOOPBACK: &[u8] = &ADDRESS.ip().octets();
/// Where IPv4's header has the source and the destination, and UDP's and TCP's the ports.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
const WORD: Register = Register(0);
/// The protocols, and where the header has its checksum.
const UDP: (&[u8], u32) = (&[17], 6);
const TCP: (&[u8], u32) = (&[6], 16);

/// The sockets at which a container's questions arrive.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: OwnedFd,
    /// One that listens.
    pub tcp: OwnedFd,
}

/// Makes the sockets of a container in its network namespace, sets the loopback up there, and has what asks [`ADDRESS`] come to
/// them. It can be called again: the new sockets take the place of the old ones. The calling thread is there for a moment.
///
/// # Errors
/// As setns(2), bind(2), and what the kernel refuses, above all without CAP_NET_ADMIN there.
pub fn open(namespace: BorrowedFd<'_>) -> Result<Sockets> {
    inside(namespace, open_here)?
}

fn open_here() -> Result<Sockets> {
    bulkhead_sys::net::bring_loopback_up().doing(|| "set the loopback of a container up")?;
    let any = SocketAddrV4::new(*ADDRESS.ip(), 0);
    let call = || format!("bind({any})");
    let doing = || "make the sockets at which a container asks for names";
    let udp = UdpSocket::bind(any).call(call).doing(doing)?;
    let tcp = TcpListener::bind(any).call(call).doing(doing)?;
    for set in [udp.set_nonblocking(true), tcp.set_nonblocking(true)] {
        set.call(|| "fcntl(F_SETFL, O_NONBLOCK)").doing(doing)?;
    }
    let ports = [udp.local_addr(), tcp.local_addr()];
    let [udp_port, tcp_port] = ports.map(|address| address.map(|address| address.port()));
    let udp_port = udp_port.call(|| "getsockname()").doing(doing)?;
    let tcp_port = tcp_port.call(|| "getsockname()").doing(doing)?;
    lead(udp_port, tcp_port)?;
    Ok(Sockets { udp: udp.into(), tcp: tcp.into() })
}

/// Has what asks come to these ports.
fn lead(udp: u16, tcp: u16) -> Result<()> {
    let filter = Filter::open()?;
    match filter.commit(written(udp, tcp)) {
        Err(error) if error.is(Errno::PERM) => filter.commit(translated(udp, tcp))?,
        done => return done,
    }
    // Where earlier sockets were, the kernel remembers them.
    flow::forget(&[Forgotten::To(Protocol::Udp, ADDRESS.into())]).map(drop)
}

/// Puts the table there anew, with ports that are written into packets.
fn written(udp: u16, tcp: u16) -> Transaction {
    let (kind, own) = (ChainKind::Filter, ADDRESS.port());
    let mut transaction = anew();
    transaction.make_chain(TABLE, Chain { name: "output", kind, hook: Hook::Output, priority: FIRST });
    transaction
        .make_chain(TABLE, Chain { name: "postrouting", kind, hook: Hook::Postrouting, priority: LAST });
    for ((protocol, checksum_at), port) in [(UDP, udp), (TCP, tcp)] {
        let write = |to, at| vec![put(WORD, to), Expression::StoreTransport(WORD, at, 2, checksum_at)];
        let to = [passing(DESTINATION, DESTINATION_PORT, protocol, own), write(port, DESTINATION_PORT)];
        let from = [passing(SOURCE, SOURCE_PORT, protocol, port), write(own, SOURCE_PORT)];
        transaction.add_rule(TABLE, "output", &to.concat());
        transaction.add_rule(TABLE, "postrouting", &from.concat());
    }
    transaction
}

/// Puts the table there anew, with addresses that are translated.
fn translated(udp: u16, tcp: u16) -> Transaction {
    const PORT: Register = Register(1);
    let mut transaction = anew();
    let (kind, hook) = (ChainKind::Nat, Hook::Output);
    transaction.make_chain(TABLE, Chain { name: "output", kind, hook, priority: TRANSLATION });
    for ((protocol, _), port) in [(UDP, udp), (TCP, tcp)] {
        let mut rule = passing(DESTINATION, DESTINATION_PORT, protocol, ADDRESS.port());
        let address = Expression::Put(WORD, ADDRESS.ip().octets());
        rule.extend([address, put(PORT, port), Expression::ChangeDestination(V4[0], WORD, PORT)]);
        transaction.add_rule(TABLE, "output", &rule);
    }
    transaction
}

fn anew() -> Transaction {
    let mut transaction = Transaction::new();
    // What is deleted must be there.
    transaction.make_table(TABLE).delete_table(TABLE).make_table(TABLE);
    transaction
}

/// Goes on for packets of a protocol with our address and a port in these places.
fn passing(address_at: u32, port_at: u32, protocol: &'static [u8], port: u16) -> Vec<Expression> {
    use Expression::{Is, IsPort, LoadFamily, LoadNetwork, LoadProtocol, LoadTransport};
    vec![
        LoadFamily(WORD),
        Is(WORD, V4),
        LoadNetwork(WORD, address_at, 4),
        Is(WORD, LOOPBACK),
        LoadProtocol(WORD),
        Is(WORD, protocol),
        LoadTransport(WORD, port_at, 2),
        IsPort(WORD, port),
    ]
}

fn put(to: Register, port: u16) -> Expression {
    let [first, second] = port.to_be_bytes();
    Expression::Put(to, [first, second, 0, 0])
}
