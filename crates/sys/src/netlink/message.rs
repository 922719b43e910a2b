//! Messages to the kernel and from it, see netlink(7).
//!
//! ```text
//! message   | length 4 | type 2 | flags 2 | sequence 4 | port 4 | struct of the type | attributes …
//! attribute | length 2 | type 2 | value, padded to 4 |
//! ```

/// The length of struct nlmsghdr.
const HEADER: usize = 16;
/// NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// NLA_F_NESTED: the value is attributes.
const NESTED: u16 = 0x8000;
/// NLA_TYPE_MASK.
const TYPE: u16 = 0x3fff;

/// NLM_F_ACK: success is answered, too.
pub const ACKNOWLEDGE: u16 = 4;
/// NLM_F_DUMP: all that there are.
pub const DUMP: u16 = 0x300;
/// NLM_F_CREATE: it is made unless it is there.
pub const CREATE: u16 = 0x400;
/// NLM_F_CREATE and NLM_F_EXCL: it is made, and must not be there.
pub const EXCLUSIVE: u16 = 0x600;
/// NLM_F_CREATE and NLM_F_APPEND: it is made behind the others.
pub const APPEND: u16 = 0xc00;

/// A message to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// Begins a request of a type, with flags beside NLM_F_REQUEST, and the struct that this type has.
    #[must_use]
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        let mut message = Self(bytes);
        message.pad();
        message
    }

    /// Adds an attribute. A value has at most 65 531 bytes; a longer one makes the message one that the kernel refuses.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds an attribute that is a text, with the NUL at its end.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Adds an attribute whose value is attributes.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inner(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds an attribute whose value is attributes that somebody wrote.
    pub fn nested(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.attribute(kind | NESTED, value)
    }

    /// Adds bytes as they are, padded: a struct inside an attribute.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Returns the type.
    #[must_use]
    pub fn kind(&self) -> u16 {
        short(&self.0, 4).unwrap_or_default()
    }

    /// Has success answered by a verdict, so that what is asked for and is one thing ends as a list does.
    #[must_use]
    pub fn acknowledged(mut self) -> Self {
        self.set(ACKNOWLEDGE);
        self
    }

    /// Adds flags.
    fn set(&mut self, flags: u16) {
        let all = short(&self.0, 6).unwrap_or_default() | flags;
        self.0[6..8].copy_from_slice(&all.to_ne_bytes());
    }

    /// Returns the bytes with their length and this number.
    pub(super) fn finished(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Takes a datagram apart, as far as its messages are whole.
pub fn parts(mut datagram: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(datagram, 0)?).ok()?;
        let (kind, flags, sequence) = (short(datagram, 4)?, short(datagram, 6)?, number(datagram, 8)?);
        let body = datagram.get(HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Part { kind, flags, sequence, body })
    })
}

/// Takes attributes apart, as far as they are whole: type and value.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(short(rest, 0)?), short(rest, 2)? & TYPE);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Finds an attribute.
#[must_use]
pub fn attribute(rest: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Reads a number of 16 bits in the machine's order.
#[must_use]
pub fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Reads a number of 32 bits in the machine's order.
#[must_use]
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Reads a text, which ends before a NUL if there is one. Bytes that are no UTF-8 become U+FFFD.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_attribute_has_the_length_of_all_that_is_in_it() {
        let mut message = Message::new(7, ACKNOWLEDGE, &[1, 2, 3, 4]);
        message.nest(18, |message| {
            message.text(1, "veth").nest(2, |message| {
                message.attribute(1, &[9]);
            });
        });
        message.attribute(3, &[5; 4]);
        let bytes = message.finished(11);
        let part = parts(&bytes).next().unwrap();
        assert_eq!((part.kind, part.flags, part.sequence), (7, ACKNOWLEDGE | REQUEST, 11));
        let top = Vec::from_iter(attributes(&part.body[4..]));
        assert_eq!(top.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [18, 3]);
        assert_eq!(top[1].1, [5; 4]);
        let inner = top[0].1;
        assert_eq!(attribute(inner, 1).map(text), Some("veth".to_owned()));
        assert_eq!(attribute(attribute(inner, 2).unwrap(), 1), Some(&[9_u8][..]));
        assert_eq!(attribute(inner, 5), None);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut message = Message::new(1, 0, &[0; 16]);
        message.text(3, "eth0");
        let bytes = message.finished(0);
        for length in 0..bytes.len() - 3 {
            assert_eq!(parts(&bytes[..length]).count(), 0, "{length}");
        }
        assert_eq!(parts(&[0; 64]).count(), 0, "a message without a length");
        assert_eq!(attributes(&[0; 64]).count(), 0, "an attribute without a length");
    }
}
