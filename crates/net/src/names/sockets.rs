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

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use bulkhead_sys::Call as _;

use crate::device::inside;
use crate::error::{Doing as _, Result};
use crate::nft::{Chain, ChainKind, Expression, Filter, Hook, Register, Transaction};

/// Where containers ask, as docker's do.
pub const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);
/// The table in the container's network namespace.
const TABLE: &str = "bulkhead-names";
/// Behind the first of these the kernel remembers connections, and before the second it has; so it sees one port both ways.
const FIRST: i32 = -300;
const LAST: i32 = 300;
/// NFPROTO_IPV4.
const V4: &[u8] = &[2];
const LOOPBACK: &[u8] = &ADDRESS.ip().octets();
/// Where IPv4's header has the source and the destination, and UDP's and TCP's the ports.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
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
    Filter::open()?.commit(table(udp_port, tcp_port))?;
    Ok(Sockets { udp: udp.into(), tcp: tcp.into() })
}

/// Puts the table there anew.
fn table(udp: u16, tcp: u16) -> Transaction {
    let mut transaction = Transaction::new();
    // What is deleted must be there.
    transaction.make_table(TABLE).delete_table(TABLE).make_table(TABLE);
    let (kind, own) = (ChainKind::Filter, ADDRESS.port());
    transaction.make_chain(TABLE, Chain { name: "output", kind, hook: Hook::Output, priority: FIRST });
    transaction
        .make_chain(TABLE, Chain { name: "postrouting", kind, hook: Hook::Postrouting, priority: LAST });
    for (protocol, port) in [(UDP, udp), (TCP, tcp)] {
        transaction.add_rule(TABLE, "output", &rule((DESTINATION, DESTINATION_PORT), protocol, own, port));
        transaction.add_rule(TABLE, "postrouting", &rule((SOURCE, SOURCE_PORT), protocol, port, own));
    }
    transaction
}

/// Writes one port in the place of another.
fn rule(
    (address_at, port_at): (u32, u32),
    (protocol, checksum_at): (&'static [u8], u32),
    from: u16,
    to: u16,
) -> Vec<Expression> {
    use Expression::{Is, IsPort, LoadFamily, LoadNetwork, LoadProtocol, LoadTransport, Put, StoreTransport};
    const WORD: Register = Register(0);
    let [first, second] = to.to_be_bytes();
    vec![
        LoadFamily(WORD),
        Is(WORD, V4),
        LoadNetwork(WORD, address_at, 4),
        Is(WORD, LOOPBACK),
        LoadProtocol(WORD),
        Is(WORD, protocol),
        LoadTransport(WORD, port_at, 2),
        IsPort(WORD, from),
        Put(WORD, [first, second, 0, 0]),
        StoreTransport(WORD, port_at, 2, checksum_at),
    ]
}
