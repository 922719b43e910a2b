//! Binding ports of the host.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use bulkhead_sys::datagram::{self, Family};
use bulkhead_sys::{Call as _, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::rules::Protocol;

/// How many connections may wait to be taken; the kernel has at most `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listens at a port of the host, at an address of it or at all of its family.
///
/// # Errors
/// EADDRINUSE where somebody has it, EADDRNOTAVAIL for an address that is not the host's, EAFNOSUPPORT without that family;
/// EPROTONOSUPPORT for SCTP, which no helper carries.
pub fn listen(protocol: Protocol, at: SocketAddr) -> Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Sctp => return Err(Errno::PROTONOSUPPORT).call(|| format!("socket({protocol})")),
    };
    let (family, own) = match at.ip() {
        IpAddr::V4(_) => (AddressFamily::INET, Family::V4),
        IpAddr::V6(_) => (AddressFamily::INET6, Family::V6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(family, kind, flags, None).call(|| format!("socket({protocol})"))?;
    if at.is_ipv6() {
        // Packets of IPv4 have a socket of their own.
        sockopt::set_ipv6_v6only(&socket, true).call(|| "setsockopt(IPV6_V6ONLY)")?;
    }
    if protocol == Protocol::Tcp {
        // What an earlier one has ended is no obstacle.
        sockopt::set_socket_reuseaddr(&socket, true).call(|| "setsockopt(SO_REUSEADDR)")?;
    } else if at.ip().is_unspecified() {
        datagram::note_arrivals(&socket, own)?;
    }
    rustix::net::bind(&socket, &at).call(|| format!("bind({at}/{protocol})"))?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG).call(|| format!("listen({at})"))?;
    }
    Ok(socket)
}

/// Takes a port of the host without listening, so that no program does: what comes there is led elsewhere before. Nothing for SCTP, of which
/// asking would load the kernel's module.
///
/// # Errors
/// As [`listen`].
pub fn hold(protocol: Protocol, at: SocketAddr) -> Result<Option<OwnedFd>> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Sctp => return Ok(None),
    };
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .call(|| format!("socket({protocol})"))?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true).call(|| "setsockopt(IPV6_V6ONLY)")?;
    }
    if protocol == Protocol::Tcp {
        // Connections that have ended are no obstacle to us, and we are one to whoever comes later.
        sockopt::set_socket_reuseaddr(&socket, true).call(|| "setsockopt(SO_REUSEADDR)")?;
    } else {
        // What is sent to all of a cable comes here, and is for nobody: as little as the kernel lets be is kept.
        sockopt::set_socket_recv_buffer_size(&socket, 0).call(|| "setsockopt(SO_RCVBUF)")?;
    }
    rustix::net::bind(&socket, &at).call(|| format!("bind({at}/{protocol})"))?;
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, false).call(|| "setsockopt(SO_REUSEADDR)")?;
    }
    Ok(Some(socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_port_is_had_once_in_each_family_and_protocol() {
        let first = listen(Protocol::Tcp, "0.0.0.0:0".parse().unwrap()).unwrap();
        let at = SocketAddr::try_from(rustix::net::getsockname(&first).unwrap()).unwrap();
        let port = at.port();
        let error = listen(Protocol::Tcp, SocketAddr::new("127.0.0.1".parse().unwrap(), port)).unwrap_err();
        assert_eq!(error.errno(), Errno::ADDRINUSE);
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}/tcp")), "{error}");
        listen(Protocol::Udp, at).unwrap();
        match listen(Protocol::Tcp, SocketAddr::new("::".parse().unwrap(), port)) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.errno(), Errno::AFNOSUPPORT, "{error}"),
        }
        drop(first);
        let error = listen(Protocol::Sctp, at).unwrap_err();
        assert_eq!(error.errno(), Errno::PROTONOSUPPORT);
    }

    #[test]
    fn who_comes_after_one_who_holds_a_port_is_told() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let held = hold(protocol, "0.0.0.0:0".parse().unwrap()).unwrap().unwrap();
            let at = SocketAddr::try_from(rustix::net::getsockname(&held).unwrap()).unwrap();
            let own = SocketAddr::new("127.0.0.1".parse().unwrap(), at.port());
            // The standard library's listener has SO_REUSEADDR set, as servers do.
            let error = match protocol {
                Protocol::Udp => UdpSocket::bind(own).unwrap_err(),
                _ => TcpListener::bind(own).unwrap_err(),
            };
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{protocol}");
            assert_eq!(hold(protocol, own).unwrap_err().errno(), Errno::ADDRINUSE);
        }
        assert!(hold(Protocol::Sctp, "0.0.0.0:80".parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn connections_that_have_ended_are_no_obstacle() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(at).unwrap();
        // Who ends first remembers it for a minute: here the server.
        drop(listener.accept().unwrap());
        drop((listener, client));
        hold(Protocol::Tcp, at).unwrap().unwrap();
    }
}
