//! Messages of the domain name system, RFC 1035, section 4, as far as a server needs them that answers for a few names and
//! passes the rest on.
//!
//! ```text
//! message   | id 2 | flags 2 | questions 2 | answers 2 | authorities 2 | others 2 | question | records …
//! question  | name | type 2 | class 2 |
//! record    | name | type 2 | class 2 | time to live 4 | length 2 | data |
//! name      | length 1 | label … | 0 |   or a pointer of two bytes, 0xc000 and an offset, in the place of its end
//! ```
//!
//! No pointer is ever followed: before the first question there is none to follow to, and of records only the length counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest question that is read, in bytes.
pub const MOST: usize = 4096;
/// What a client takes as a datagram that says nothing else (RFC 1035, section 2.3.4).
const PLAIN: usize = 512;
/// What is said to be taken, and the most that is sent as a datagram (RFC 6891).
const ROOM: usize = 4096;
const HEADER: usize = 12;
/// The longest name, with its lengths (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 255;
/// The length of an OPT record without options.
const OPT_LENGTH: usize = 11;
/// Flags.
const RESPONSE: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CODE: u16 = 0x000f;
/// The class of the internet.
const INTERNET: u16 = 1;
/// A pointer to the question's name.
const TO_QUESTION: [u8; 2] = [0xc0, 12];

/// The types of records that something is known of.
pub mod kind {
    /// An address of IPv4.
    pub const A: u16 = 1;
    /// What an address is called.
    pub const PTR: u16 = 12;
    /// An address of IPv6.
    pub const AAAA: u16 = 28;
    /// What a message can be beyond RFC 1035.
    pub const OPT: u16 = 41;
}

/// What became of a question, RFC 1035, section 4.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// It is answered.
    Done,
    /// It cannot be read.
    Malformed,
    /// It cannot be answered now.
    Failed,
    /// It asks for what is not done here.
    Unsupported,
    /// Its extensions are of another version (RFC 6891, section 6.1.3).
    BadVersion,
}

impl Code {
    fn number(self) -> u16 {
        match self {
            Self::Done => 0,
            Self::Malformed => 1,
            Self::Failed => 2,
            Self::Unsupported => 4,
            Self::BadVersion => 16,
        }
    }
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// As a datagram, cut off where it is longer than the client takes.
    Udp,
    /// In a stream.
    Tcp,
}

/// A question as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    bytes: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// Its name as it stands there.
    name: &'a [u8],
    /// The type of records that is asked for.
    pub kind: u16,
    class: u16,
    extension: Option<Extension>,
}

/// What an OPT record says, RFC 6891.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extension {
    room: u16,
    version: u8,
}

/// Why a message is no question to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is none, and whoever sent it is told nothing, lest two servers talk for ever.
    Nothing,
    /// It is answered with this.
    Refused(Code),
}

impl<'a> Query<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// One that is not one question of the usual kind.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let flags = short(bytes, 2).filter(|flags| flags & RESPONSE == 0 && bytes.len() >= HEADER);
        let flags = flags.ok_or(Unreadable::Nothing)?;
        if flags & OPERATION != 0 {
            return Err(Unreadable::Refused(Code::Unsupported));
        }
        Self::read_question(bytes).ok_or(Unreadable::Refused(Code::Malformed))
    }

    fn read_question(bytes: &'a [u8]) -> Option<Self> {
        let counts = [4, 6, 8, 10].map(|at| short(bytes, at));
        let [Some(1), Some(0), Some(0), Some(others)] = counts else { return None };
        if bytes.len() > MOST {
            return None;
        }
        let behind = skip_labels(bytes, HEADER)?;
        let name = bytes.get(HEADER..behind)?;
        let (kind, class, end) = (short(bytes, behind)?, short(bytes, behind + 2)?, behind + 4);
        let extension = extension(bytes, end, others)?;
        Some(Self { bytes, end, name, kind, class, extension })
    }

    /// Returns the name that is asked for, in lower case and without the last point; nothing for one that is no text, and so no
    /// name of a container.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let mut name = String::with_capacity(self.name.len());
        for label in labels(self.name) {
            if !name.is_empty() {
                name.push('.');
            }
            let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'.';
            if !label.iter().all(is_plain) {
                return None;
            }
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
        Some(name)
    }

    /// Tells whether it asks about the internet, as nearly all do.
    #[must_use]
    pub fn is_of_internet(&self) -> bool {
        self.class == INTERNET
    }

    /// Returns what is to be answered before the name is looked at.
    #[must_use]
    pub fn objection(&self) -> Option<Code> {
        self.extension.filter(|extension| extension.version != 0).map(|_| Code::BadVersion)
    }

    /// Returns the number by which the client knows it.
    #[must_use]
    pub fn id(&self) -> [u8; 2] {
        [self.bytes[0], self.bytes[1]]
    }

    /// Tells whether a message is the answer to this question, asked by another number.
    #[must_use]
    pub fn is_answered_by(&self, answer: &[u8], id: [u8; 2]) -> bool {
        let is_answer = |flags| flags & (RESPONSE | OPERATION) == RESPONSE;
        answer.get(..2) == Some(&id)
            && short(answer, 2).is_some_and(is_answer)
            && short(answer, 4) == Some(1)
            && answer.get(HEADER..self.end).is_some_and(|question| {
                // A byte of a length is no letter.
                question.eq_ignore_ascii_case(&self.bytes[HEADER..self.end])
            })
    }

    /// Begins its answer, by the way by which it came.
    #[must_use]
    pub fn answer(&self, code: Code, transport: Transport) -> Answer {
        let asked = short(self.bytes, 2).unwrap_or_default();
        let flags = RESPONSE | RECURSION_AVAILABLE | asked & RECURSION_DESIRED | code.number() & CODE;
        let mut bytes = Vec::with_capacity(PLAIN);
        bytes.extend(self.id());
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(&self.bytes[HEADER..self.end]);
        let room = match (transport, self.extension) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN,
            (Transport::Udp, Some(Extension { room, .. })) => usize::from(room).clamp(PLAIN, ROOM),
        };
        let extension = self.extension.map(|_| (code.number() >> 4) as u8);
        let room = room - if extension.is_some() { OPT_LENGTH } else { 0 };
        Answer { bytes, room, count: 0, is_cut_off: false, extension }
    }
}

/// Answers a message that cannot be read as a question: with its header alone.
#[must_use]
pub fn refuse(bytes: &[u8], code: Code) -> Option<Vec<u8>> {
    let flags = short(bytes, 2)?;
    let mut answer = bytes.get(..2)?.to_vec();
    answer.extend((RESPONSE | flags & (OPERATION | RECURSION_DESIRED) | code.number() & CODE).to_be_bytes());
    answer.resize(HEADER, 0);
    Some(answer)
}

/// Tells whether a server has answered that it cannot or will not: that it failed, does not do such a thing, or refuses.
#[must_use]
pub fn is_refusal(answer: &[u8]) -> bool {
    short(answer, 2).is_some_and(|flags| matches!(flags & CODE, 2 | 4 | 5))
}

/// An answer that is being written.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    room: usize,
    count: u16,
    is_cut_off: bool,
    /// The upper bits of the code, if there are extensions.
    extension: Option<u8>,
}

impl Answer {
    /// Adds an address of the name that was asked for, to be remembered for so many seconds.
    pub fn address(&mut self, address: IpAddr, seconds: u32) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.record(kind::A, seconds, &address.octets()),
            IpAddr::V6(address) => self.record(kind::AAAA, seconds, &address.octets()),
        }
    }

    /// Adds what the address is called that was asked for; what is no name is left out.
    pub fn called(&mut self, name: &str, seconds: u32) -> &mut Self {
        match written(name) {
            Some(name) => self.record(kind::PTR, seconds, &name),
            None => self,
        }
    }

    fn record(&mut self, kind: u16, seconds: u32, data: &[u8]) -> &mut Self {
        // Its length is an address's or a name's.
        let length = data.len() as u16;
        if self.is_cut_off || self.bytes.len() + TO_QUESTION.len() + 10 + data.len() > self.room {
            self.is_cut_off = true;
            return self;
        }
        self.bytes.extend(TO_QUESTION);
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(INTERNET.to_be_bytes());
        self.bytes.extend(seconds.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(data);
        self.count += 1;
        self
    }

    /// Returns the message.
    #[must_use]
    pub fn finished(self) -> Vec<u8> {
        let Self { mut bytes, room: _, count, is_cut_off, extension } = self;
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        if is_cut_off {
            bytes[2] |= TRUNCATED.to_be_bytes()[0];
        }
        if let Some(upper) = extension {
            bytes[11] = 1;
            bytes.push(0);
            bytes.extend(kind::OPT.to_be_bytes());
            bytes.extend((ROOM as u16).to_be_bytes());
            bytes.extend([upper, 0, 0, 0, 0, 0]);
        }
        bytes
    }
}

/// Returns the address that a name asks about, as `2.0.0.10.in-addr.arpa`, or 32 digits and `ip6.arpa` (RFC 1035, section 3.5,
/// RFC 3596, section 2.5).
#[must_use]
pub fn address_in(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut address: Ipv4Addr = digits.parse().ok()?;
        address = u32::from(address).swap_bytes().into();
        return Some(address.into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut address = 0_u128;
    let mut count = 0;
    for (place, digit) in digits.split('.').enumerate() {
        let value = u128::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1 && place < 32)?;
        address |= value << (4 * place);
        count = place + 1;
    }
    (count == 32).then(|| Ipv6Addr::from(address).into())
}

/// Writes a name; nothing for what cannot be one.
fn written(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    (bytes.len() <= LONGEST_NAME).then_some(bytes)
}

/// Finds the end of a name without pointers.
fn skip_labels(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length > 63 || at - start > LONGEST_NAME || at > bytes.len() {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// Takes a name apart whose end was found.
fn labels(mut name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = name.split_first()?;
        let label = rest.get(..usize::from(*length)).filter(|label| !label.is_empty())?;
        name = &rest[label.len()..];
        Some(label)
    })
}

/// Reads the records behind a question, of which one may be OPT; nothing if they are not whole.
fn extension(bytes: &[u8], mut at: usize, count: u16) -> Option<Option<Extension>> {
    let mut found = None;
    for _ in 0..count {
        let behind = skip_name(bytes, at)?;
        let (kind, class) = (short(bytes, behind)?, short(bytes, behind + 2)?);
        let version = *bytes.get(behind + 5)?;
        let length = usize::from(short(bytes, behind + 8)?);
        at = behind + 10 + length;
        if at > bytes.len() {
            return None;
        }
        if kind == kind::OPT {
            // There is at most one, of the root (RFC 6891, section 6.1.1).
            if found.is_some() || bytes.get(behind - 1) != Some(&0) {
                return None;
            }
            found = Some(Extension { room: class, version });
        }
    }
    Some(found)
}

/// Finds the end of a name, which may be a pointer.
fn skip_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length @ ..64 => at += 1 + length,
            _ => return None,
        }
        if at - start > LONGEST_NAME {
            return None;
        }
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for a name.
    fn query(name: &str, kind: u16, extension: Option<(u16, u8)>) -> Vec<u8> {
        let mut bytes = vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(extension.is_some())];
        bytes.extend(written(name).unwrap());
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        if let Some((room, version)) = extension {
            bytes.extend([0, 0, 41]);
            bytes.extend(room.to_be_bytes());
            bytes.extend([0, version, 0, 0, 0, 0]);
        }
        bytes
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let bytes = query("Db.Shop", kind::A, None);
        let asked = Query::read(&bytes).unwrap();
        assert_eq!((asked.name().as_deref(), asked.kind, asked.id()), (Some("db.shop"), kind::A, [7, 8]));
        assert!(asked.is_of_internet());
        let mut answer = asked.answer(Code::Done, Transport::Udp);
        answer.address("10.0.0.2".parse().unwrap(), 600);
        let answer = answer.finished();
        assert_eq!(answer[..12], [7, 8, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[12..25], bytes[12..25], "the question is as it was asked");
        assert_eq!(answer[25..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 0, 2]);
        assert!(asked.is_answered_by(&answer, [7, 8]));
        assert!(!asked.is_answered_by(&answer, [7, 9]));
        assert!(!asked.is_answered_by(&bytes, [7, 8]), "a question is no answer");
        let other = query("db.shoq", kind::A, None);
        assert!(!Query::read(&other).unwrap().is_answered_by(&answer, [7, 8]));
        let answer = asked.answer(Code::Failed, Transport::Tcp).finished();
        assert_eq!(answer[2..4], [0x81, 0x82]);
        assert!(is_refusal(&answer));
    }

    #[test]
    fn an_address_is_called_something() {
        let bytes = query("2.0.0.10.in-addr.arpa", kind::PTR, None);
        let asked = Query::read(&bytes).unwrap();
        let mut answer = asked.answer(Code::Done, Transport::Udp);
        answer.called("db.shop", 600).called("a..b", 600).called(&"a".repeat(64), 600);
        let answer = answer.finished();
        assert_eq!(answer[7], 1, "what is no name is left out");
        assert!(answer.ends_with(b"\x02db\x04shop\0"));
    }

    #[test]
    fn what_does_not_fit_is_cut_off_and_said() {
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        for (extension, transport, most) in [
            (None, Transport::Udp, 512),
            (Some((100, 0)), Transport::Udp, 512),
            (Some((1232, 0)), Transport::Udp, 1232),
            (Some((65_535, 0)), Transport::Udp, 4096),
            (None, Transport::Tcp, 65_535),
        ] {
            let bytes = query("db", kind::A, extension);
            let mut answer = Query::read(&bytes).unwrap().answer(Code::Done, transport);
            for _ in 0..5000 {
                answer.address(address, 600);
            }
            let answer = answer.finished();
            assert!((most - 16..=most).contains(&answer.len()), "{} of {most}", answer.len());
            assert_eq!(answer[2] & 2, 2);
            let count = usize::from(short(&answer, 6).unwrap());
            let length = bytes[HEADER..].len() - if extension.is_some() { OPT_LENGTH } else { 0 };
            let tail = if extension.is_some() { OPT_LENGTH } else { 0 };
            assert_eq!(answer.len(), HEADER + length + 16 * count + tail, "whole records");
        }
    }

    #[test]
    fn extensions_are_answered_and_those_of_a_later_version_refused() {
        let bytes = query("db", kind::A, Some((1232, 0)));
        let asked = Query::read(&bytes).unwrap();
        assert_eq!(asked.objection(), None);
        let answer = asked.answer(Code::Done, Transport::Udp).finished();
        assert!(answer.ends_with(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]), "{answer:?}");
        let bytes = query("db", kind::A, Some((1232, 1)));
        let asked = Query::read(&bytes).unwrap();
        let code = asked.objection().unwrap();
        let answer = asked.answer(code, Transport::Udp).finished();
        assert_eq!((answer[3] & 15, answer[answer.len() - 6]), (0, 1), "16 is 1 and 0");
    }

    #[test]
    fn what_is_no_question_is_refused_or_ignored() {
        let good = query("db", kind::A, Some((1232, 0)));
        for length in 0..good.len() {
            let expected =
                if length < HEADER { Unreadable::Nothing } else { Unreadable::Refused(Code::Malformed) };
            assert_eq!(Query::read(&good[..length]), Err(expected), "{length}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for (bytes, expected) in [
            (with(2, 0x81), Unreadable::Nothing),
            (with(2, 0x29), Unreadable::Refused(Code::Unsupported)),
            (with(5, 2), Unreadable::Refused(Code::Malformed)),
            (with(5, 0), Unreadable::Refused(Code::Malformed)),
            (with(7, 1), Unreadable::Refused(Code::Malformed)),
            (with(11, 2), Unreadable::Refused(Code::Malformed)),
            (with(12, 0xc0), Unreadable::Refused(Code::Malformed)),
            (with(12, 0x40), Unreadable::Refused(Code::Malformed)),
            (vec![b'a'; MOST + 1], Unreadable::Refused(Code::Unsupported)),
        ] {
            assert_eq!(Query::read(&bytes).unwrap_err(), expected, "{bytes:?}");
        }
        let mut long = query("db", kind::A, None);
        long.splice(12..12, std::iter::repeat_n([1, b'a'], 127).flatten());
        assert_eq!(Query::read(&long), Err(Unreadable::Refused(Code::Malformed)), "a name of 258 bytes");
        let answer = refuse(&good, Code::Malformed).unwrap();
        assert_eq!(answer, [7, 8, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_name_that_is_no_text_is_nobody_s() {
        for (label, name) in [
            (&b"\x02db"[..], Some("db")),
            (b"\x02d.", None),
            (b"\x02d\0", None),
            (b"\x02d\xc3", None),
            (b"", Some("")),
        ] {
            let bytes = [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], label, &[0, 0, 1, 0, 1]].concat();
            assert_eq!(Query::read(&bytes).unwrap().name().as_deref(), name, "{label:?}");
        }
    }

    #[test]
    fn addresses_are_read_backwards() {
        let six = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        for (name, address) in [
            ("2.0.0.10.in-addr.arpa", Some("10.0.0.2")),
            (&six, Some("fd00::2")),
            ("0.0.10.in-addr.arpa", None),
            ("2.0.0.0.10.in-addr.arpa", None),
            ("256.0.0.10.in-addr.arpa", None),
            (&six[2..], None),
            (&format!("0.{six}"), None),
            ("10.0.0.2", None),
            ("ip6.arpa", None),
        ] {
            let expected = address.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(address_in(name), expected, "{name}");
        }
    }
}
