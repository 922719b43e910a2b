//! Messages of the domain name system as a client sees them, written and read apart from the code that is tested.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const A: u16 = 1;
pub(crate) const PTR: u16 = 12;
pub(crate) const MX: u16 = 15;
pub(crate) const AAAA: u16 = 28;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: u16,
    pub(crate) code: u8,
    pub(crate) is_cut_off: bool,
    pub(crate) seconds: Vec<u32>,
    /// Addresses, or names.
    pub(crate) answers: Vec<String>,
}

/// Writes a question.
pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
    numbered(0x1234, name, kind)
}

pub(crate) fn numbered(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(name_bytes(name));
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// Answers a question with addresses of IPv4, as a resolver does.
pub(crate) fn answered(question: &[u8], code: u8, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut bytes = question.to_vec();
    (bytes[2], bytes[3]) = (0x81, 0x80 | code);
    bytes[7] = u8::try_from(addresses.len()).unwrap();
    bytes[11] = 0;
    for address in addresses {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address.octets());
    }
    bytes
}

/// The name that a question asks for.
pub(crate) fn asked_name(question: &[u8]) -> String {
    read_name(question, 12).0
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

fn read_name(bytes: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    let mut end = None;
    loop {
        let length = usize::from(bytes[at]);
        if length == 0 {
            return (labels.join("."), end.unwrap_or(at + 1));
        }
        if length >= 0xc0 {
            end.get_or_insert(at + 2);
            at = (length & 0x3f) << 8 | usize::from(bytes[at + 1]);
            continue;
        }
        labels.push(String::from_utf8(bytes[at + 1..=at + length].to_vec()).unwrap());
        at += 1 + length;
    }
}

impl Told {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(bytes[2] & 0xf8, 0x80, "an answer to a usual question");
        let mut at = 12;
        for _ in 0..short(4) {
            at = read_name(bytes, at).1 + 4;
        }
        let (mut seconds, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..short(6) {
            at = read_name(bytes, at).1;
            let (kind, length) = (short(at), usize::from(short(at + 8)));
            seconds.push(u32::from(short(at + 4)) << 16 | u32::from(short(at + 6)));
            let data = &bytes[at + 10..at + 10 + length];
            answers.push(match kind {
                A => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap())).to_string(),
                AAAA => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap())).to_string(),
                PTR => read_name(bytes, at + 10).0,
                other => format!("type {other}"),
            });
            at += 10 + length;
        }
        Self { id: short(0), code: bytes[3] & 15, is_cut_off: bytes[2] & 2 != 0, seconds, answers }
    }
}
