//! Whom the host asks for names: resolv.conf(5), which is read again when it has changed, as when a laptop comes into another
//! network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::CWD;

use super::stamp::Stamp;

/// The port at which resolvers listen.
pub(super) const PORT: u16 = 53;
/// How many are asked, MAXNS of resolv.h.
const MOST: usize = 3;

/// Tells whether who asks there asks itself: at a loopback address in any notation, or at none at all, see connect(2) of ip(7).
#[must_use]
pub fn is_asking_itself(resolver: IpAddr) -> bool {
    let address = resolver.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// The host's resolvers.
#[derive(Debug)]
pub(super) struct Resolvers {
    /// None if they were given and do not change.
    file: Option<(PathBuf, Option<Stamp>)>,
    known: Rc<[SocketAddr]>,
    /// The one that answered last, which is asked first.
    first: usize,
}

impl Resolvers {
    /// Asks these.
    pub(super) fn fixed(addresses: Vec<SocketAddr>) -> Self {
        Self { file: None, known: addresses.into(), first: 0 }
    }

    /// Asks those that a file names.
    pub(super) fn of_file(path: PathBuf) -> Self {
        Self { file: Some((path, None)), known: Rc::new([]), first: 0 }
    }

    /// Returns them as they are now, and which is asked first. What cannot be read stays as it was.
    pub(super) fn now(&mut self) -> (Rc<[SocketAddr]>, usize) {
        if let Some((path, read)) = &mut self.file
            && let Ok(now) = Stamp::of(CWD, path)
            && !read.is_some_and(|read| read.still_holds(&now))
            && let Ok(text) = std::fs::read(path)
        {
            *read = Some(now);
            let found = servers(&String::from_utf8_lossy(&text));
            if *found != *self.known {
                self.known = found.into();
                self.first = 0;
            }
        }
        (Rc::clone(&self.known), self.first)
    }

    /// Remembers which has answered, of those that were asked.
    pub(super) fn answered(&mut self, asked: &Rc<[SocketAddr]>, which: usize) {
        if Rc::ptr_eq(asked, &self.known) {
            self.first = which;
        }
    }
}

/// Finds the servers in a resolv.conf(5): without any it is the host itself, as for the C library.
pub(super) fn servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next())
    });
    let mut servers = Vec::from_iter(words.filter_map(server).take(MOST));
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

/// Reads an address, which may name a device, as `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, device)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, PORT).into());
    };
    let scope = device.parse().ok().or_else(|| index(device))?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

/// Finds the number of a network device.
fn index(device: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None).ok()?;
    rustix::net::netdevice::name_to_index(&socket, device).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_what_a_resolv_conf_names() {
        let texts = |text: &str| Vec::from_iter(servers(text).iter().map(ToString::to_string));
        for (text, expected) in [
            ("nameserver 10.0.0.1\n", &["10.0.0.1:53"][..]),
            ("# x\nsearch a b\nnameserver\t127.0.0.53 # y\noptions edns0", &["127.0.0.53:53"]),
            ("nameserver fd00::1\nnameserver fe80::1%lo\n", &["[fd00::1]:53", "[fe80::1%1]:53"]),
            ("nameserver fe80::1%7", &["[fe80::1%7]:53"]),
            ("nameserver fe80::1%nosuchdevice\nnameserver a.b", &["127.0.0.1:53"]),
            (
                "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4",
                &["1.1.1.1:53", "1.1.1.2:53", "1.1.1.3:53"],
            ),
            ("", &["127.0.0.1:53"]),
            ("  nameserver 10.0.0.1", &["10.0.0.1:53"]),
        ] {
            assert_eq!(texts(text), expected, "{text}");
        }
    }
}
