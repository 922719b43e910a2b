//! Whole messages of D-Bus: calls as we send them, replies and signals as we read them.

use super::wire::{Malformed, Order, Reader, Result, Writer};

/// The version of the protocol.
const VERSION: u8 = 1;
/// The fixed part of a header, up to and with the length of its fields.
pub const FIXED: usize = 16;
/// The longest message that is read, in bytes. D-Bus allows 128 MiB, systemd's answers to us have some hundred bytes.
const LONGEST: usize = 1 << 20;

/// What a field of a header is about.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SENDER: u8 = 7;
    pub(super) const SIGNATURE: u8 = 8;
}

const METHOD_CALL: u8 = 1;

/// A call of a method.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Whom it is for; nobody but the other end has a name on a connection without a bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// The types of its arguments.
    pub signature: &'a str,
}

impl Call<'_> {
    /// Lays the message out.
    pub fn encode(&self, serial: u32, body: &[u8]) -> Vec<u8> {
        let Self { destination, path, interface, member, signature } = *self;
        let mut writer = Writer::default();
        for byte in [Order::OWN.letter(), METHOD_CALL, 0, VERSION] {
            writer.byte(byte);
        }
        writer.u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        writer.u32(serial);
        writer.array(8, |fields| {
            let texts = [
                (field::PATH, "o", path),
                (field::INTERFACE, "s", interface),
                (field::MEMBER, "s", member),
                (field::DESTINATION, "s", destination),
            ];
            for (code, kind, text) in texts {
                fields.align(8);
                fields.byte(code);
                fields.signature(kind);
                fields.string(text);
            }
            if !signature.is_empty() {
                fields.align(8);
                fields.byte(field::SIGNATURE);
                fields.signature("g");
                fields.signature(signature);
            }
        });
        writer.align(8);
        let mut bytes = writer.into_bytes();
        bytes.extend(body);
        bytes
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The answer to a call.
    Return,
    /// The refusal of a call.
    Error,
    /// Something that happened.
    Signal,
    /// Something that is not for us to answer.
    Other,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The call that it answers; 0 for none.
    pub reply_to: u32,
    /// The name of a signal.
    pub member: String,
    /// The name of an error.
    pub error: String,
    /// Who sent it, where a bus was in between, which says so.
    pub sender: String,
    signature: String,
    body: Vec<u8>,
    order: Order,
}

impl Message {
    /// Tells how long a message is of which the fixed part of the header is known.
    ///
    /// # Errors
    /// Bytes that are no header, or the header of a message too long to be for us.
    pub fn length(fixed: &[u8; FIXED]) -> Result<usize> {
        let order = Order::of(fixed[0])?;
        let number = |at: usize| order.u32([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
        let (body, fields) = (number(4), number(12));
        if fixed[3] != VERSION {
            return Err(Malformed("has another version of the protocol"));
        }
        if body > LONGEST || fields > LONGEST {
            return Err(Malformed("is too long"));
        }
        Ok((FIXED + fields).next_multiple_of(8) + body)
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// Bytes that are no message.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let fixed = bytes.first_chunk().ok_or(Malformed("is too short"))?;
        if Self::length(fixed)? != bytes.len() {
            return Err(Malformed("has another length than it says"));
        }
        let order = Order::of(fixed[0])?;
        let mut message = Self {
            kind: match fixed[1] {
                2 => Kind::Return,
                3 => Kind::Error,
                4 => Kind::Signal,
                _ => Kind::Other,
            },
            reply_to: 0,
            member: String::new(),
            error: String::new(),
            sender: String::new(),
            signature: String::new(),
            body: Vec::new(),
            order,
        };
        let mut reader = Reader::new(bytes, order);
        for _ in 0..3 {
            reader.u32()?;
        }
        let end = FIXED + reader.u32()? as usize;
        while reader.position() < end {
            message.field(&mut reader)?;
        }
        if reader.position() != end {
            return Err(Malformed("has a header whose fields are longer than it says"));
        }
        reader.align(8)?;
        message.body = bytes.get(reader.position()..).unwrap_or_default().to_vec();
        Ok(message)
    }

    /// Reads one field of the header. Those that say nothing to us are passed over; they have simple types, too.
    fn field(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        reader.align(8)?;
        let code = reader.byte()?;
        match (code, reader.signature()?) {
            (field::REPLY_SERIAL, "u") => self.reply_to = reader.u32()?,
            (field::SIGNATURE, "g") => reader.signature()?.clone_into(&mut self.signature),
            (field::MEMBER, "s") => reader.string()?.clone_into(&mut self.member),
            (field::ERROR_NAME, "s") => reader.string()?.clone_into(&mut self.error),
            (field::SENDER, "s") => reader.string()?.clone_into(&mut self.sender),
            (_, "s" | "o") => reader.string().map(|_| ())?,
            (_, "g") => reader.signature().map(|_| ())?,
            (_, "u") => reader.u32().map(|_| ())?,
            _ => return Err(Malformed("has a header with a field of an unknown type")),
        }
        Ok(())
    }

    /// Returns the arguments, which must begin with values of these types.
    ///
    /// # Errors
    /// Other types.
    pub fn arguments(&self, types: &str) -> Result<Reader<'_>> {
        if !self.signature.starts_with(types) {
            return Err(Malformed("has arguments of other types than it should"));
        }
        Ok(Reader::new(&self.body, self.order))
    }

    /// Returns the sentence that comes with an error.
    pub fn sentence(&self) -> &str {
        self.arguments("s").and_then(|mut reader| reader.string()).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Lays out a message to us: a number is the code of the message, the texts are fields.
    pub(crate) fn incoming(
        kind: u8,
        reply_to: u32,
        fields: &[(u8, &str)],
        signature: &str,
        body: &[u8],
    ) -> Vec<u8> {
        let mut writer = Writer::default();
        [Order::OWN.letter(), kind, 1, VERSION].into_iter().for_each(|byte| writer.byte(byte));
        writer.u32(body.len() as u32);
        writer.u32(77);
        writer.array(8, |all| {
            all.byte(field::REPLY_SERIAL);
            all.signature("u");
            all.u32(reply_to);
            for (code, text) in fields {
                all.align(8);
                all.byte(*code);
                all.signature(if *code == field::PATH { "o" } else { "s" });
                all.string(text);
            }
            all.align(8);
            all.byte(field::SIGNATURE);
            all.signature("g");
            all.signature(signature);
        });
        writer.align(8);
        let mut bytes = writer.into_bytes();
        bytes.extend(body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::incoming;
    use super::*;

    #[test]
    fn a_call_is_laid_out_byte_for_byte() {
        let call = Call { destination: "a.b", path: "/a", interface: "a.c", member: "Go", signature: "s" };
        let mut body = Writer::default();
        body.string("x");
        let bytes = call.encode(5, &body.into_bytes());
        let expected = [
            b"l\x01\0\x01\x06\0\0\0\x05\0\0\0\x47\0\0\0".as_slice(), // call, version 1, body 6, serial 5, fields 71
            b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0",                  // path
            b"\x02\x01s\0\x03\0\0\0a.c\0\0\0\0\0",                   // interface
            b"\x03\x01s\0\x02\0\0\0Go\0\0\0\0\0\0",                  // member
            b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0",                   // destination
            b"\x08\x01g\0\x01s\0\0",                                 // signature, padding
            b"\x01\0\0\0x\0",
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(Message::length(bytes.first_chunk().unwrap()), Ok(bytes.len()));
    }

    #[test]
    fn a_call_without_arguments_has_no_signature() {
        let call = Call { destination: "a", path: "/", interface: "b", member: "c", signature: "" };
        let bytes = call.encode(1, &[]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.signature.as_str()), (Kind::Other, ""));
    }

    #[test]
    fn a_reply_is_read() {
        let mut body = Writer::default();
        body.string("/org/x/job/7");
        let bytes = incoming(2, 3, &[(7, ":1.1")], "o", &body.into_bytes());
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_to, message.sender.as_str()), (Kind::Return, 3, ":1.1"));
        assert_eq!(message.arguments("o").unwrap().string(), Ok("/org/x/job/7"));
        assert!(message.arguments("u").is_err(), "another type is refused");
    }

    #[test]
    fn an_error_has_a_name_and_a_sentence() {
        let mut body = Writer::default();
        body.string("Unit x exists.");
        let bytes = incoming(3, 3, &[(4, "org.x.UnitExists")], "s", &body.into_bytes());
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.error.as_str(), message.sentence()), ("org.x.UnitExists", "Unit x exists."));
        let silent = Message::parse(&incoming(3, 3, &[(4, "org.x.No")], "", &[])).unwrap();
        assert_eq!(silent.sentence(), "");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = incoming(2, 3, &[(7, ":1.1")], "", &[]);
        for length in 0..good.len() {
            assert!(Message::parse(&good[..length]).is_err(), "only {length} bytes of it");
        }
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Message::parse(&bytes).unwrap_err().0
        };
        assert_eq!(changed(0, b'x'), "has an unknown byte order");
        assert_eq!(changed(3, 2), "has another version of the protocol");
        assert_eq!(changed(7, 1), "is too long");
        assert_eq!(changed(12, 0), "has another length than it says");
        assert_eq!(changed(18, b'v'), "has a header with a field of an unknown type");
    }
}
