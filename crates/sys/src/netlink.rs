//! The kernel's network devices, addresses and packet filters, see netlink(7) and rtnetlink(7).
//!
//! `message` and `socket` know how to talk; what is said about devices that move is here.

pub mod message;
mod socket;

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use message::{ACKNOWLEDGE, DUMP, EXCLUSIVE, Message, Part, attribute, attributes, number, parts, text};
use socket::{DONE, ERROR, INTERRUPTED, verdict};
pub use socket::{Family, Refused, Socket};

use crate::{Call, Result};

const NEW_LINK: u16 = 16;
const GONE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const LINK_NEW_INDEX: u16 = 49;
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
/// How often a list is asked for that changes while it is read.
const ATTEMPTS: usize = 10;

/// A connection to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Connection(Socket);

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
        Socket::open(Family::Route).map(Self)
    }

    /// Lists the devices.
    ///
    /// # Errors
    /// As recv(2), and EAGAIN for a list that never holds still.
    pub fn links(&self) -> Result<Vec<Link>> {
        let answers =
            self.ask(Message::new(GET_LINK, DUMP, &[0; LINK_BODY])).call(|| "netlink(RTM_GETLINK)")?;
        Ok(answers.links())
    }

    /// Lists the addresses of a device, of every family.
    ///
    /// # Errors
    /// As [`Connection::links`].
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let request = Message::new(GET_ADDRESS, DUMP, &[0; ADDRESS_BODY]);
        let answers = self.ask(request).call(|| "netlink(RTM_GETADDR)")?;
        Ok(answers.addresses(index))
    }

    /// Moves a device into another network namespace, where it gets a name at once; a `%d` in it becomes a number. It is
    /// down there, and without addresses.
    ///
    /// # Errors
    /// EEXIST for a name that is taken there, EINVAL for a device that cannot leave its namespace.
    pub fn move_link(&self, index: u32, name: &str, namespace: BorrowedFd<'_>) -> Result<()> {
        self.request_move(index, name, namespace).map(drop)
    }

    fn request_move(&self, index: u32, name: &str, namespace: BorrowedFd<'_>) -> Result<Answers> {
        let mut request = Message::new(NEW_LINK, ACKNOWLEDGE, &link_body(index, 0));
        request.text(LINK_NAME, name);
        request.attribute(LINK_NAMESPACE, &namespace.as_raw_fd().to_ne_bytes());
        self.ask(request).call(|| format!("netlink(RTM_NEWLINK, {name:?}, NET_NS_FD)"))
    }

    /// Gives a device an address as another one had it.
    ///
    /// # Errors
    /// EEXIST for one that it has.
    pub fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut body = [address.family, address.prefix, 0, address.scope, 0, 0, 0, 0];
        body[4..].copy_from_slice(&index.to_ne_bytes());
        let mut request = Message::new(NEW_ADDRESS, ACKNOWLEDGE | EXCLUSIVE, &body);
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
        let request = Message::new(NEW_LINK, ACKNOWLEDGE, &link_body(index, UP));
        self.ask(request).map(drop).call(|| "netlink(RTM_NEWLINK, UP)")
    }

    /// Sends a request and collects the answers until there are no more.
    fn ask(&self, request: Message) -> rustix::io::Result<Answers> {
        let bytes = request.finished(0);
        for _ in 0..ATTEMPTS {
            let mut answers = Answers::default();
            self.0.send(&bytes)?;
            self.0.receive(|datagram| answers.take(datagram).map(|()| answers.are_complete))?;
            if !answers.are_interrupted {
                return Ok(answers);
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Moves a device out of the network namespace of the calling thread, as [`Connection::move_link`], and returns the number
/// that it has there. The kernel tells it to those who listen here: whoever is in the other namespace may make devices of
/// the same kind at the same time, and so cannot be asked.
///
/// # Errors
/// As [`Connection::move_link`], and EPROTO if the kernel does not tell.
pub fn send_link(index: u32, name: &str, namespace: BorrowedFd<'_>) -> Result<u32> {
    let connection = Connection::open()?;
    connection.0.listen_for_links().call(|| "bind(AF_NETLINK, RTMGRP_LINK)")?;
    let answers = connection.request_move(index, name, namespace)?;
    answers.number_of(index).ok_or(Errno::PROTO).call(|| format!("netlink(RTM_DELLINK, {index})"))
}

/// What the kernel answers to one request, in one datagram or several.
#[derive(Debug, Default)]
pub struct Answers {
    /// What follows the header of each.
    bodies: Vec<Vec<u8>>,
    /// Devices that have left meanwhile: what follows the header of each message.
    gone: Vec<Vec<u8>>,
    are_complete: bool,
    /// What is listed has changed meanwhile.
    are_interrupted: bool,
}

impl Answers {
    /// Takes in what is whole of a datagram, until the end of all.
    ///
    /// # Errors
    /// The kernel's verdict.
    pub fn take(&mut self, datagram: &[u8]) -> rustix::io::Result<()> {
        for Part { kind, flags, body, .. } in parts(datagram) {
            self.are_interrupted |= flags & INTERRUPTED != 0;
            self.are_complete = matches!(kind, DONE | ERROR);
            match kind {
                DONE => return Ok(()),
                ERROR => return verdict(body),
                GONE_LINK => self.gone.push(body.to_vec()),
                _ => self.bodies.push(body.to_vec()),
            }
        }
        Ok(())
    }

    /// Finds the number that a device has got in the namespace for which it has left.
    pub fn number_of(&self, index: u32) -> Option<u32> {
        let of_device = |body: &&Vec<u8>| number(body, 4) == Some(index);
        let new = |body: &Vec<u8>| number(attribute(body.get(LINK_BODY..)?, LINK_NEW_INDEX)?, 0);
        self.gone.iter().filter(of_device).find_map(new)
    }

    /// Reads the answers as devices.
    pub fn links(&self) -> Vec<Link> {
        self.bodies.iter().filter_map(|body| link(body)).collect()
    }

    /// Reads the answers as addresses, and returns those of one device.
    pub fn addresses(&self, index: u32) -> Vec<Address> {
        let addresses = self.bodies.iter().filter_map(|body| address(body));
        addresses.filter(|(owner, _)| *owner == index).map(|(_, address)| address).collect()
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

fn link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (number(body, 4)?, number(body, 8)?);
    let name = text(attribute(body.get(LINK_BODY..)?, LINK_NAME)?);
    Some(Link { index, name, is_up: flags & UP != 0 })
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
    use rustix::net::SendFlags;
    use rustix::net::netlink::SocketAddrNetlink;

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

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Message::new(kind, 0, body).finished(0);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_kernel_is_believed() {
        let victim = Connection::open().unwrap();
        let links = victim.links().unwrap();
        let port = SocketAddrNetlink::try_from(rustix::net::getsockname(&victim.0).unwrap()).unwrap();
        let mut forged = Message::new(NEW_LINK, 0, &link_body(4711, UP));
        forged.attribute(LINK_NAME, b"forged\0");
        let forged = [forged.finished(0), message(DONE, 0, &[0; 4])].concat();
        let stranger = Connection::open().unwrap();
        match rustix::net::sendto(&stranger.0, &forged, SendFlags::empty(), &port) {
            // Takes CAP_NET_ADMIN.
            Err(Errno::PERM) => return,
            sent => assert_eq!(sent, Ok(forged.len())),
        }
        let after = victim.links().unwrap();
        assert_eq!(after.iter().find(|link| link.name == "forged"), None);
        assert!(links.iter().any(|link| link.index == 1) && after.iter().any(|link| link.index == 1));
    }

    #[test]
    fn a_list_ends_with_its_last_message_and_may_have_changed_meanwhile() {
        for (datagrams, complete, interrupted) in [
            (vec![message(NEW_LINK, 2, &[])], false, false),
            (vec![message(NEW_LINK, 2, &[]), message(DONE, 2, &[0; 4])], true, false),
            (vec![message(NEW_LINK, 2 | INTERRUPTED, &[]), message(DONE, 2, &[0; 4])], true, true),
            (vec![[message(NEW_LINK, 2, &[]), message(DONE, 2 | INTERRUPTED, &[0; 4])].concat()], true, true),
        ] {
            let mut answers = Answers::default();
            datagrams.iter().for_each(|datagram| answers.take(datagram).unwrap());
            assert_eq!(
                (answers.are_complete, answers.are_interrupted),
                (complete, interrupted),
                "{datagrams:x?}"
            );
            assert_eq!(answers.bodies.len(), 1, "{datagrams:x?}");
        }
        assert_eq!(Answers::default().take(&message(ERROR, 0, &(-1_i32).to_ne_bytes())), Err(Errno::PERM));
    }

    #[test]
    fn the_new_number_of_a_device_is_told_when_it_leaves() {
        let gone = |index: u32, new: Option<u32>| {
            let mut request = Message::new(GONE_LINK, 0, &link_body(index, 0));
            request.attribute(LINK_NAME, b"eth0\0");
            if let Some(new) = new {
                request.attribute(LINK_NEW_INDEX, &new.to_ne_bytes());
            }
            request.finished(0)
        };
        let mut answers = Answers::default();
        for datagram in [gone(6, Some(60)), gone(7, None), gone(7, Some(70)), message(ERROR, 0, &[0; 4])] {
            answers.take(&datagram).unwrap();
        }
        assert_eq!(answers.links(), [], "what has left is not there");
        assert_eq!([6, 7, 8].map(|index| answers.number_of(index)), [Some(60), Some(70), None]);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut request = Message::new(NEW_LINK, 0, &link_body(7, UP));
        request.attribute(LINK_NAME, b"eth0\0");
        let bytes = request.finished(0);
        let whole = parts(&bytes).next().unwrap().body;
        assert_eq!(link(whole), Some(Link { index: 7, name: "eth0".into(), is_up: true }));
        for length in 0..bytes.len() - 3 {
            assert_eq!(link(&whole[..length.min(whole.len() - 8)]), None, "{length}");
        }
    }
}
