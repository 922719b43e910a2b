//! Sets and maps, and what is in them.

use std::net::IpAddr;

use bulkhead_sys::netlink::message::{Message, attribute, attributes};
use ipnet::IpNet;

use super::ITEM;
use super::expression::VALUE;

/// NFT_SET_ELEM_INTERVAL_END.
const END: u32 = 1;
/// Attributes of an element, NFTA_SET_ELEM_*.
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const NOTE: u16 = 6;

/// A set, or a map from keys to addresses with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub kind: SetKind,
}

/// What is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    /// Names of devices.
    Devices,
    /// Pairs of names of devices: where a packet comes from, and where it goes.
    DevicePairs,
    /// Subnets of IPv4 or IPv6.
    Subnets(u8),
    /// From a protocol and a port to an address of this family and a port there.
    Ports(u8),
    /// From a protocol, an address of this family and a port to another address and a port there.
    AddressPorts(u8),
}

/// A part of a key, or of what it leads to, as it stands in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A device's name.
    Device(&'a str),
    /// An address.
    Address(IpAddr),
    /// A port.
    Port(u16),
    /// A protocol above IP: 6 is TCP, 17 is UDP, 132 is SCTP.
    Protocol(u8),
}

/// What is in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    key: Vec<u8>,
    data: Option<Vec<u8>>,
    flags: u32,
    /// Whose it is: at most 255 bytes, which the kernel keeps and does not look at.
    note: Option<Vec<u8>>,
}

/// The types of nft(8) by which its listing shows what is in sets: TYPE_* of its `datatype.h`, 6 bits each.
mod shown {
    pub(super) const ADDRESS: [u32; 2] = [7, 8];
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const SERVICE: u32 = 13;
    pub(super) const DEVICE: u32 = 41;
}

impl SetKind {
    /// The lengths of the parts of a key.
    fn key(self) -> &'static [u32] {
        match self {
            Self::Devices => &[16],
            Self::DevicePairs => &[16, 16],
            Self::Subnets(2) => &[4],
            Self::Subnets(_) => &[16],
            Self::Ports(_) => &[1, 2],
            Self::AddressPorts(2) => &[1, 4, 2],
            Self::AddressPorts(_) => &[1, 16, 2],
        }
    }

    /// The types of the parts of a key.
    fn shown(self) -> u32 {
        let address = |family: u8| shown::ADDRESS[usize::from(family != 2)];
        let parts: &[u32] = &match self {
            Self::Devices => vec![shown::DEVICE],
            Self::DevicePairs => vec![shown::DEVICE, shown::DEVICE],
            Self::Subnets(family) => vec![address(family)],
            Self::Ports(_) => vec![shown::PROTOCOL, shown::SERVICE],
            Self::AddressPorts(family) => vec![shown::PROTOCOL, address(family), shown::SERVICE],
        };
        parts.iter().fold(0, |all, part| all << 6 | part)
    }

    /// What a key leads to: its types and its length.
    fn data(self) -> Option<(u32, u32)> {
        match self {
            Self::Ports(family) | Self::AddressPorts(family) => {
                let v6 = family != 2;
                let shown = shown::ADDRESS[usize::from(v6)] << 6 | shown::SERVICE;
                Some((shown, if v6 { 20 } else { 8 }))
            }
            Self::Devices | Self::DevicePairs | Self::Subnets(_) => None,
        }
    }
}

impl Set {
    pub(super) fn write(&self, message: &mut Message) {
        const INTERVAL: u32 = 4;
        const MAP: u32 = 8;
        const CONCATENATION: u32 = 0x80;
        let parts = self.kind.key();
        let length: u32 = parts.iter().map(|length| length.next_multiple_of(4)).sum();
        let mut flags = 0;
        if matches!(self.kind, SetKind::Subnets(_)) {
            flags |= INTERVAL;
        }
        if parts.len() > 1 {
            flags |= CONCATENATION;
        }
        if let Some((shown, length)) = self.kind.data() {
            flags |= MAP;
            message.attribute(6, &shown.to_be_bytes()).attribute(7, &length.to_be_bytes());
        }
        message.attribute(3, &flags.to_be_bytes());
        message.attribute(4, &self.kind.shown().to_be_bytes()).attribute(5, &length.to_be_bytes());
        if parts.len() > 1 {
            message.nest(9, |message| {
                message.nest(2, |message| {
                    for length in parts {
                        message.nest(ITEM, |message| {
                            message.attribute(1, &length.to_be_bytes());
                        });
                    }
                });
            });
        }
    }
}

impl Element {
    /// Makes an element of a set.
    #[must_use]
    pub fn new(key: &[Value<'_>]) -> Self {
        Self { key: bytes(key), data: None, flags: 0, note: None }
    }

    /// Makes an element of a map.
    #[must_use]
    pub fn leading(key: &[Value<'_>], data: &[Value<'_>]) -> Self {
        Self { data: Some(bytes(data)), ..Self::new(key) }
    }

    /// Makes the two elements that are a subnet: its first address, and the first behind it, which is the end.
    #[must_use]
    pub fn subnet(subnet: IpNet) -> Vec<Self> {
        let first = Self::new(&[Value::Address(subnet.network())]);
        let mut behind = Self::new(&[Value::Address(subnet.broadcast())]);
        // One more, as a number of many bytes; behind the last of all there is nothing.
        for byte in behind.key.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        behind.flags = END;
        if behind.key.iter().all(|byte| *byte == 0) { vec![first] } else { vec![first, behind] }
    }

    /// Says whose it is; beyond 255 bytes it is cut off.
    #[must_use]
    pub fn of(mut self, owner: &str) -> Self {
        self.note = Some(owner.as_bytes().iter().copied().take(255).collect());
        self
    }

    /// Tells whether another element has the same key, and so its place in a set.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        (&self.key, self.flags) == (&other.key, other.flags)
    }

    /// Returns the key as it stands in registers.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns whose it is.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        std::str::from_utf8(self.note.as_deref()?).ok()
    }

    pub(super) fn write(&self, message: &mut Message) {
        message.nest(KEY, |message| {
            message.attribute(VALUE, &self.key);
        });
        if let Some(data) = &self.data {
            message.nest(DATA, |message| {
                message.attribute(VALUE, data);
            });
        }
        if self.flags != 0 {
            message.attribute(FLAGS, &self.flags.to_be_bytes());
        }
        if let Some(note) = &self.note {
            message.attribute(NOTE, note);
        }
    }

    /// Reads a list of elements, but for those whose key is no value.
    pub(super) fn read_all(list: &[u8]) -> impl Iterator<Item = Self> + '_ {
        attributes(list).filter(|(kind, _)| *kind == ITEM).filter_map(|(_, item)| Self::read(item))
    }

    fn read(item: &[u8]) -> Option<Self> {
        let value = |kind: u16| attribute(attribute(item, kind)?, VALUE).map(<[u8]>::to_vec);
        let flags = attribute(item, FLAGS).and_then(|flags| Some(u32::from_be_bytes(flags.try_into().ok()?)));
        Some(Self {
            key: value(KEY)?,
            data: value(DATA),
            flags: flags.unwrap_or_default(),
            note: attribute(item, NOTE).map(<[u8]>::to_vec),
        })
    }
}

/// Writes values into registers, four bytes each.
fn bytes(values: &[Value<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        match *value {
            Value::Device(name) => {
                bytes.extend(name.bytes().take(15));
                bytes.resize(bytes.len().next_multiple_of(16).max(16), 0);
            }
            Value::Address(IpAddr::V4(address)) => bytes.extend(address.octets()),
            Value::Address(IpAddr::V6(address)) => bytes.extend(address.octets()),
            Value::Port(port) => bytes.extend(port.to_be_bytes()),
            Value::Protocol(protocol) => bytes.push(protocol),
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}
