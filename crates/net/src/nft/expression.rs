//! Expressions: a rule is a list of them, each of which goes on or ends the rule.

use bulkhead_sys::netlink::message::Message;

/// NFTA_DATA_VALUE and NFTA_DATA_VERDICT.
pub(super) const VALUE: u16 = 1;
pub(super) const VERDICT: u16 = 2;
/// NFTA_EXPR_NAME and NFTA_EXPR_DATA.
pub(super) const NAME: u16 = 1;
pub(super) const DATA: u16 = 2;

/// A register of four bytes, of which there are 16; what is longer goes on in the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(pub u8);

impl Register {
    /// NFT_REG32_00 and those behind it.
    fn number(self) -> [u8; 4] {
        (8 + u32::from(self.0)).to_be_bytes()
    }
}

/// How a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The packet goes.
    Drop,
    /// The packet passes this chain.
    Accept,
    /// The packet goes on where this chain was called.
    Return,
}

impl Verdict {
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            // NFT_RETURN: -5.
            Self::Return => 0xffff_fffb,
        }
    }
}

/// One step of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expression {
    /// Loads whether it is IPv4 (2) or IPv6 (10): one byte.
    LoadFamily(Register),
    /// Loads the protocol above: one byte.
    LoadProtocol(Register),
    /// Loads the name of the device by which it came: 16 bytes.
    LoadInput(Register),
    /// Loads the name of the device by which it goes: 16 bytes.
    LoadOutput(Register),
    /// Loads bytes of the header of IP: offset, length.
    LoadNetwork(Register, u32, u32),
    /// Loads bytes of the header above IP: offset, length.
    LoadTransport(Register, u32, u32),
    /// Loads bits of what is known of its connection: 1 invalid, 2 established, 4 related, 8 new.
    LoadState(Register),
    /// Loads the bits of its connection's status; 0x20 is that the destination was changed.
    LoadStatus(Register),
    /// Loads what kind of address the destination is: 2 is one of this host.
    LoadDestinationType(Register),
    /// Loads the number of the device by which it came, if its source is reached by that; else 0 (strict reverse path of RFC 3704).
    LoadWayBack(Register),
    /// Keeps bits.
    Mask(Register, u32),
    /// Goes on if the register begins with these bytes.
    Is(Register, &'static [u8]),
    /// Goes on if the register is the name of a device, with zeroes behind it.
    IsDevice(Register, [u8; 16]),
    /// Goes on if the register begins with a port.
    IsPort(Register, u16),
    /// Goes on unless the register begins with these bytes.
    IsNot(Register, &'static [u8]),
    /// Goes on if the key is in a set.
    In(Register, &'static str),
    /// Goes on if the key is in no element of a set.
    NotIn(Register, &'static str),
    /// Goes on if the key is in a map, with what it leads to in the second register.
    Map(Register, &'static str, Register),
    /// Puts bytes into a register.
    Put(Register, [u8; 4]),
    /// Writes bytes of the header above IP: offset, length, and where its checksum is, which follows.
    StoreTransport(Register, u32, u32, u32),
    /// Changes the destination to the address and the port of these registers: of IPv4 or IPv6.
    ChangeDestination(u8, Register, Register),
    /// Changes the source to an address of the device by which it goes.
    Masquerade,
    /// Counts packets and bytes, as each rule of iptables(8) does.
    Count,
    /// Ends.
    End(Verdict),
}

impl Expression {
    pub(super) fn write(&self, message: &mut Message) {
        match *self {
            Self::LoadFamily(to) => meta(message, to, 15),
            Self::LoadProtocol(to) => meta(message, to, 16),
            Self::LoadInput(to) => meta(message, to, 6),
            Self::LoadOutput(to) => meta(message, to, 7),
            Self::LoadNetwork(to, offset, length) => payload(message, to, 1, offset, length),
            Self::LoadTransport(to, offset, length) => payload(message, to, 2, offset, length),
            Self::LoadState(to) => connection(message, to, 0),
            Self::LoadStatus(to) => connection(message, to, 2),
            // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR.
            Self::LoadDestinationType(to) => named(message, "fib", |message| {
                message.attribute(1, &to.number());
                message.attribute(2, &3_u32.to_be_bytes()).attribute(3, &2_u32.to_be_bytes());
            }),
            // NFT_FIB_RESULT_OIF of NFTA_FIB_F_SADDR and NFTA_FIB_F_IIF.
            Self::LoadWayBack(to) => named(message, "fib", |message| {
                message.attribute(1, &to.number());
                message.attribute(2, &1_u32.to_be_bytes()).attribute(3, &9_u32.to_be_bytes());
            }),
            Self::Mask(at, mask) => named(message, "bitwise", |message| {
                message.attribute(1, &at.number()).attribute(2, &at.number());
                message.attribute(3, &4_u32.to_be_bytes());
                message.nest(4, |message| {
                    message.attribute(VALUE, &mask.to_ne_bytes());
                });
                message.nest(5, |message| {
                    message.attribute(VALUE, &[0; 4]);
                });
            }),
            Self::Is(at, bytes) => compare(message, at, 0, bytes),
            Self::IsDevice(at, name) => compare(message, at, 0, &name),
            Self::IsPort(at, port) => compare(message, at, 0, &port.to_be_bytes()),
            Self::IsNot(at, bytes) => compare(message, at, 1, bytes),
            Self::In(key, set) => lookup(message, key, set, None, 0),
            Self::NotIn(key, set) => lookup(message, key, set, None, 1),
            Self::Map(key, set, to) => lookup(message, key, set, Some(to), 0),
            Self::Put(to, bytes) => named(message, "immediate", |message| {
                message.attribute(1, &to.number()).nest(2, |message| {
                    message.attribute(VALUE, &bytes);
                });
            }),
            Self::StoreTransport(from, offset, length, checksum) => named(message, "payload", |message| {
                message.attribute(2, &2_u32.to_be_bytes()).attribute(3, &offset.to_be_bytes());
                message.attribute(4, &length.to_be_bytes()).attribute(5, &from.number());
                // NFT_PAYLOAD_CSUM_INET.
                message.attribute(6, &1_u32.to_be_bytes()).attribute(7, &checksum.to_be_bytes());
            }),
            Self::ChangeDestination(family, address, port) => named(message, "nat", |message| {
                message.attribute(1, &1_u32.to_be_bytes());
                message.attribute(2, &u32::from(family).to_be_bytes());
                message.attribute(3, &address.number()).attribute(5, &port.number());
            }),
            Self::Masquerade => named(message, "masq", |_| {}),
            Self::Count => named(message, "counter", |message| {
                message.attribute(1, &[0; 8]).attribute(2, &[0; 8]);
            }),
            Self::End(verdict) => named(message, "immediate", |message| {
                // NFT_REG_VERDICT.
                message.attribute(1, &0_u32.to_be_bytes()).nest(2, |message| {
                    message.nest(VERDICT, |message| {
                        message.attribute(1, &verdict.code().to_be_bytes());
                    });
                });
            }),
        }
    }
}

fn named(message: &mut Message, name: &str, inner: impl FnOnce(&mut Message)) {
    message.text(NAME, name).nest(DATA, inner);
}

fn meta(message: &mut Message, to: Register, key: u32) {
    named(message, "meta", |message| {
        message.attribute(1, &to.number()).attribute(2, &key.to_be_bytes());
    });
}

fn connection(message: &mut Message, to: Register, key: u32) {
    named(message, "ct", |message| {
        message.attribute(1, &to.number()).attribute(2, &key.to_be_bytes());
    });
}

fn payload(message: &mut Message, to: Register, base: u32, offset: u32, length: u32) {
    named(message, "payload", |message| {
        message.attribute(1, &to.number()).attribute(2, &base.to_be_bytes());
        message.attribute(3, &offset.to_be_bytes()).attribute(4, &length.to_be_bytes());
    });
}

fn compare(message: &mut Message, at: Register, operator: u32, bytes: &[u8]) {
    named(message, "cmp", |message| {
        message.attribute(1, &at.number()).attribute(2, &operator.to_be_bytes());
        message.nest(3, |message| {
            message.attribute(VALUE, bytes);
        });
    });
}

fn lookup(message: &mut Message, key: Register, set: &str, to: Option<Register>, flags: u32) {
    named(message, "lookup", |message| {
        message.text(1, set).attribute(2, &key.number());
        if let Some(to) = to {
            message.attribute(3, &to.number());
        }
        message.attribute(5, &flags.to_be_bytes());
    });
}
