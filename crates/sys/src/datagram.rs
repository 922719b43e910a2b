//! Datagrams of which it is known to which address of the host they came, and which leave with an address that is chosen: IP_PKTINFO of
//! ip(7), IPV6_RECVPKTINFO of ipv6(7) and RFC 3542.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::Errno;

use crate::syscall::check;
use crate::{Call, Result};

/// An address of the host's at which a datagram has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address; of a datagram to many, one of the device's.
    pub address: IpAddr,
    /// The number of the device, which matters to addresses of IPv6 that each cable has.
    pub device: u32,
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its bytes, in the room that was given; what did not fit is lost.
    pub length: usize,
    /// Who has sent it.
    pub peer: SocketAddr,
    /// Where it arrived, if the socket notes that.
    pub local: Option<Local>,
}

/// Has a socket note at which address datagrams arrive.
///
/// # Errors
/// ENOPROTOOPT for a socket of another family.
pub fn note_arrivals(socket: impl AsFd, family: Family) -> Result<()> {
    let (level, name) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let (descriptor, on) = (socket.as_fd().as_raw_fd(), 1_i32);
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of the live integer.
    let returned = unsafe { libc::setsockopt(descriptor, level, name, (&raw const on).cast(), length) };
    check(returned.into()).map(drop).call(|| format!("setsockopt({descriptor}, {level}, {name}, 1)"))
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Room for an address and for one control message, laid out as ip(7), ipv6(7) and cmsg(3) say: each is written and read as bytes.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Room([u8; 64]);

/// The length of `struct sockaddr_in` and of `struct sockaddr_in6`.
const ADDRESS: (usize, usize) = (16, 28);
/// Where `struct cmsghdr` has its level and its type, and where its data begins: behind a `size_t` and two integers.
const LEVEL: usize = size_of::<usize>();
const KIND: usize = LEVEL + 4;
const DATA: usize = KIND + 4;
/// Where `struct in_pktinfo` has the address that is the host's.
const SPECIFIC: usize = 4;

/// Receives a datagram, without waiting for one.
///
/// # Errors
/// EAGAIN where there is none; what an earlier one met, as ECONNREFUSED; EAFNOSUPPORT from a sender that has no port.
pub fn receive(socket: impl AsFd, room: &mut [u8]) -> Result<Received> {
    let descriptor = socket.as_fd().as_raw_fd();
    let (mut peer, mut control) = (Room([0; 64]), Room([0; 64]));
    let mut piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let mut header = header(&mut piece, &mut peer, size_of::<Room>());
    header.msg_control = (&raw mut control.0).cast();
    header.msg_controllen = control.0.len() as _;
    let length = rustix::io::retry_on_intr(|| {
        // SAFETY: `header` names live memory of the lengths that it says: the peer, the room and the control messages.
        let returned = unsafe { libc::recvmsg(descriptor, &raw mut header, libc::MSG_DONTWAIT) };
        check(returned as libc::c_long)
    });
    let length = length.call(|| format!("recvmsg({descriptor})"))? as usize;
    let peer = address(&peer.0).ok_or(Errno::AFNOSUPPORT).call(|| format!("recvmsg({descriptor})"))?;
    let local = if (header.msg_controllen as usize) < DATA { None } else { local(&control.0) };
    Ok(Received { length, peer, local })
}

/// Sends a datagram, without waiting for room; from this address of the host's, or one that the kernel chooses.
///
/// # Errors
/// As sendmsg(2); EINVAL for an address that is not the host's any more.
pub fn send(socket: impl AsFd, bytes: &[u8], peer: SocketAddr, local: Option<Local>) -> Result<()> {
    let descriptor = socket.as_fd().as_raw_fd();
    let (mut to, length) = written(peer);
    let mut control = Room([0; 64]);
    // The kernel does not write there.
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = header(&mut piece, &mut to, length);
    if let Some(local) = local {
        header.msg_controllen = write_local(&mut control.0, local) as _;
        header.msg_control = (&raw mut control.0).cast();
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    rustix::io::retry_on_intr(|| {
        // SAFETY: `header` names live memory of the lengths that it says, which the kernel reads.
        let returned = unsafe { libc::sendmsg(descriptor, &raw const header, flags) };
        check(returned as libc::c_long)
    })
    .map(drop)
    .call(|| format!("sendmsg({descriptor}, {} bytes, {peer})", bytes.len()))
}

fn header(piece: &mut libc::iovec, name: &mut Room, length: usize) -> libc::msghdr {
    // SAFETY: all of it may be zero.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut name.0).cast();
    header.msg_namelen = length as libc::socklen_t;
    header.msg_iov = piece;
    header.msg_iovlen = 1;
    header
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..at + N).and_then(|found| found.try_into().ok());
    found.unwrap_or([0; N])
}

/// Reads an address; nothing where there is none, as of a sender without a port.
fn address(bytes: &[u8; 64]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes_at(bytes, 0)));
    let port = u16::from_be_bytes(bytes_at(bytes, 2));
    match family {
        libc::AF_INET => Some(SocketAddrV4::new(bytes_at::<4>(bytes, 4).into(), port).into()),
        libc::AF_INET6 => {
            let scope = u32::from_ne_bytes(bytes_at(bytes, 24));
            Some(SocketAddrV6::new(bytes_at::<16>(bytes, 8).into(), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Writes an address, and returns its length.
fn written(address: SocketAddr) -> (Room, usize) {
    let mut room = Room([0; 64]);
    let bytes = &mut room.0;
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    let (family, length) = match address {
        SocketAddr::V4(address) => {
            bytes[4..8].copy_from_slice(&address.ip().octets());
            (libc::AF_INET, ADDRESS.0)
        }
        SocketAddr::V6(address) => {
            bytes[8..24].copy_from_slice(&address.ip().octets());
            bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
            (libc::AF_INET6, ADDRESS.1)
        }
    };
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    (room, length)
}

/// Reads from a control message where a datagram arrived.
fn local(control: &[u8; 64]) -> Option<Local> {
    let level = i32::from_ne_bytes(bytes_at(control, LEVEL));
    let kind = i32::from_ne_bytes(bytes_at(control, KIND));
    match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let device = u32::from_ne_bytes(bytes_at(control, DATA));
            let address = Ipv4Addr::from(bytes_at::<4>(control, DATA + SPECIFIC));
            Some(Local { address: address.into(), device })
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let address = Ipv6Addr::from(bytes_at::<16>(control, DATA));
            let device = u32::from_ne_bytes(bytes_at(control, DATA + 16));
            (!address.is_multicast()).then_some(Local { address: address.into(), device })
        }
        _ => None,
    }
}

/// Writes the control message that says from where a datagram leaves, and returns its length.
fn write_local(control: &mut [u8; 64], local: Local) -> usize {
    let (level, kind, length) = match local.address {
        IpAddr::V4(address) => {
            // The device is found by the way there.
            control[DATA + SPECIFIC..DATA + SPECIFIC + 4].copy_from_slice(&address.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, DATA + size_of::<libc::in_pktinfo>())
        }
        IpAddr::V6(address) => {
            let device = if address.is_unicast_link_local() { local.device } else { 0 };
            control[DATA..DATA + 16].copy_from_slice(&address.octets());
            control[DATA + 16..DATA + 20].copy_from_slice(&device.to_ne_bytes());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, DATA + size_of::<libc::in6_pktinfo>())
        }
    };
    control[..LEVEL].copy_from_slice(&length.to_ne_bytes());
    control[LEVEL..KIND].copy_from_slice(&level.to_ne_bytes());
    control[KIND..DATA].copy_from_slice(&kind.to_ne_bytes());
    length
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn waits(socket: &UdpSocket) {
        let mut polled = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&limit)).unwrap();
    }

    #[test]
    fn a_datagram_says_where_it_arrived_and_its_answer_comes_from_there() {
        for (any, own, family) in [("0.0.0.0:0", "127.0.0.7", Family::V4), ("[::]:0", "::1", Family::V6)] {
            let Ok(server) = UdpSocket::bind(any) else { continue };
            note_arrivals(&server, family).unwrap();
            let port = server.local_addr().unwrap().port();
            let client = UdpSocket::bind(any).unwrap();
            let at = SocketAddr::new(own.parse().unwrap(), port);
            if client.send_to(b"ask", at).is_err() {
                // A machine without IPv6.
                continue;
            }
            waits(&server);
            let mut room = [0; 16];
            let received = receive(&server, &mut room).unwrap();
            assert_eq!(&room[..received.length], b"ask");
            assert_eq!(received.local.unwrap().address, at.ip());
            assert_eq!(receive(&server, &mut room).unwrap_err().errno(), Errno::AGAIN);
            send(&server, b"told", received.peer, received.local).unwrap();
            waits(&client);
            let answer = receive(&client, &mut room).unwrap();
            assert_eq!((answer.peer, answer.local), (at, None), "it comes from where it was asked");
        }
    }
}
