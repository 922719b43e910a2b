//! A connection to the kernel's network devices and addresses, see rtnetlink(7): only what moving a device needs.
//!
//! ```text
//! request   | length 4 | type 2 | flags 2 | sequence 4 | port 4 | struct of the type | attributes …
//! attribute | length 2 | type 2 | value, padded to 4 |
//! answers   the same, one or more in a datagram, until NLMSG_DONE or NLMSG_ERROR (0 is success)
//! ```

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::{Call, Result};

const HEADER: usize = 16;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
/// Create, and fail if it exists.
const EXCLUSIVE: u16 = 0x600;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_LABEL: u16 = 3;
const ADDRESS_LIFETIME: u16 = 6;
const ADDRESS_FLAGS: u16 = 8;
/// The length of struct ifinfomsg.
const LINK_BODY: usize = 16;
/// The length of struct ifaddrmsg.
const ADDRESS_BODY: usize = 8;
const UP: u32 = 1;
const PERMANENT: u32 = 0x80;
/// Flags of an address that somebody asked for; the others say what became of it: no duplicate detection, home
/// address, made by privacy extensions, no route of its prefix, joined to a multicast group.
const ASKED_FLAGS: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
/// More than the kernel puts into one datagram of a dump.
const BUFFER: usize = 64 * 1024;

/// A connection to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Connection(OwnedFd);

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// Whether it is up.
    pub is_up: bool,
}

/// An address of a device, with all that somebody set about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    scope: u8,
    flags: u32,
    /// Attributes as the kernel wrote them.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Tells whether it is meant to stay and to be reached from anywhere: permanent, with global scope (RFC 3549,
    /// section 2.3.3.2).
    pub fn is_lasting(&self) -> bool {
        self.flags & PERMANENT != 0 && self.scope == 0
    }
}

impl Connection {
    /// Connects to the network namespace of the calling thread.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self> {
        // No protocol is NETLINK_ROUTE, whose number is 0.
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map(Self)
            .call(|| "socket(AF_NETLINK, NETLINK_ROUTE)")
    }

    /// Lists the devices.
    ///
    /// # Errors
    /// As recv(2).
    pub fn links(&self) -> Result<Vec<Link>> {
        let answers =
            self.ask(Request::new(GET_LINK, DUMP, &[0; LINK_BODY])).call(|| "netlink(RTM_GETLINK)")?;
        Ok(answers.iter().filter_map(|(_, body)| link(body)).collect())
    }

    /// Lists the addresses of a device, of every family.
    ///
    /// # Errors
    /// As recv(2).
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let request = Request::new(GET_ADDRESS, DUMP, &[0; ADDRESS_BODY]);
        let answers = self.ask(request).call(|| "netlink(RTM_GETADDR)")?;
        let of_device = |body: &[u8]| address(body).filter(|(owner, _)| *owner == index);
        Ok(answers.iter().filter_map(|(_, body)| of_device(body)).map(|(_, address)| address).collect())
    }

    /// Moves a device into another network namespace, where it gets a name at once; a `%d` in it becomes a number. It is
    /// down there, and without addresses.
    ///
    /// # Errors
    /// EEXIST for a name that is taken there, EINVAL for a device that cannot leave its namespace.
    pub fn move_link(&self, index: u32, name: &str, namespace: BorrowedFd<'_>) -> Result<()> {
        let mut request = Request::new(NEW_LINK, ACKNOWLEDGE, &link_body(index, 0));
        request.attribute(LINK_NAME, &[name.as_bytes(), b"\0"].concat());
        request.attribute(LINK_NAMESPACE, &namespace.as_raw_fd().to_ne_bytes());
        self.ask(request).map(drop).call(|| format!("netlink(RTM_NEWLINK, {name:?}, NET_NS_FD)"))
    }

    /// Gives a device an address as another one had it.
    ///
    /// # Errors
    /// EEXIST for one that it has.
    pub fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut body = [address.family, address.prefix, 0, address.scope, 0, 0, 0, 0];
        body[4..].copy_from_slice(&index.to_ne_bytes());
        let mut request = Request::new(NEW_ADDRESS, ACKNOWLEDGE | EXCLUSIVE, &body);
        request.attribute(ADDRESS_FLAGS, &(address.flags & ASKED_FLAGS).to_ne_bytes());
        for (kind, value) in &address.attributes {
            // The label has the device's old name in it, and what is permanent has no lifetime.
            if ![ADDRESS_LABEL, ADDRESS_LIFETIME, ADDRESS_FLAGS].contains(kind) {
                request.attribute(*kind, value);
            }
        }
        self.ask(request).map(drop).call(|| "netlink(RTM_NEWADDR)")
    }

    /// Sets a device up.
    ///
    /// # Errors
    /// As its driver.
    pub fn bring_up(&self, index: u32) -> Result<()> {
        let request = Request::new(NEW_LINK, ACKNOWLEDGE, &link_body(index, UP));
        self.ask(request).map(drop).call(|| "netlink(RTM_NEWLINK, UP)")
    }

    /// Sends a request and collects the answers, type and what follows the header, until there are no more.
    fn ask(&self, request: Request) -> rustix::io::Result<Vec<(u16, Vec<u8>)>> {
        let bytes = request.finished();
        rustix::io::retry_on_intr(|| rustix::net::send(&self.0, &bytes, SendFlags::empty()))?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let flags = RecvFlags::empty();
            let (length, _) =
                rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut buffer[..], flags))?;
            for (kind, body) in messages(&buffer[..length]) {
                match kind {
                    DONE => return Ok(answers),
                    ERROR => return verdict(body).map(|()| answers),
                    _ => answers.push((kind, body.to_vec())),
                }
            }
        }
    }
}

/// A message to the kernel.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        // Names, addresses and numbers: a few bytes.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finished(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn link_body(index: u32, set: u32) -> [u8; LINK_BODY] {
    let mut body = [0; LINK_BODY];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&set.to_ne_bytes());
    // The flags that are to change.
    body[12..].copy_from_slice(&set.to_ne_bytes());
    body
}

/// Takes a datagram apart into messages: type, and what follows the header.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(datagram, 0)?).ok()?;
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        let body = datagram.get(HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Takes attributes apart: type and value.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let short = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(short(0)?), short(2)? & 0x3fff);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads the verdict on a request: 0, or an error number below zero.
fn verdict(body: &[u8]) -> rustix::io::Result<()> {
    match number(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw_os_error(code.wrapping_neg())),
        None => Err(Errno::PROTO),
    }
}

fn link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (number(body, 4)?, number(body, 8)?);
    let (_, name) = attributes(body.get(LINK_BODY..)?).find(|(kind, _)| *kind == LINK_NAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(Link { index, name: String::from_utf8_lossy(name).into_owned(), is_up: flags & UP != 0 })
}

fn address(body: &[u8]) -> Option<(u32, Address)> {
    let &[family, prefix, flags, scope, ..] = body else { return None };
    let attributes: Vec<_> =
        attributes(body.get(ADDRESS_BODY..)?).map(|(kind, value)| (kind, value.to_vec())).collect();
    let all_flags = attributes.iter().find(|(kind, _)| *kind == ADDRESS_FLAGS);
    let flags = all_flags.and_then(|(_, value)| number(value, 0)).unwrap_or(flags.into());
    Some((number(body, 4)?, Address { family, prefix, scope, flags, attributes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_its_name_and_addresses() {
        let connection = Connection::open().unwrap();
        let links = connection.links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(loopback.index, 1);
        let addresses = connection.addresses(loopback.index).unwrap();
        assert_eq!(addresses.is_empty(), !loopback.is_up, "{addresses:?}");
        assert!(
            addresses.iter().all(|address| !address.is_lasting()),
            "it has the host's scope: {addresses:?}"
        );
    }

    #[test]
    fn a_refusal_is_an_error_number() {
        let error = Connection::open().unwrap().bring_up(u32::MAX / 2).unwrap_err();
        assert!([Errno::NODEV, Errno::PERM].contains(&error.errno()), "{error}");
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut request = Request::new(NEW_LINK, 0, &link_body(7, UP));
        request.attribute(LINK_NAME, b"eth0\0");
        let bytes = request.finished();
        let (_, whole) = messages(&bytes).next().unwrap();
        assert_eq!(link(whole), Some(Link { index: 7, name: "eth0".into(), is_up: true }));
        for length in 0..bytes.len() - 3 {
            assert_eq!(messages(&bytes[..length]).count(), 0, "{length}");
            assert_eq!(link(&whole[..length.min(whole.len() - 8)]), None, "{length}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0, "a message without a length");
        assert_eq!(attributes(&[0; 64]).count(), 0, "an attribute without a length");
        assert_eq!(verdict(&[]), Err(Errno::PROTO));
    }
}
