//! As much of gRPC as one call needs that takes one message and returns one: HTTP/2 (RFC 9113) over a unix socket, a
//! connection for each call, and protocol buffers without their compiler.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bulkhead_testkit::slowness;

/// A message of protocol buffers that is being written.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a text, bytes, or a message that has been written.
    pub(crate) fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a list of texts.
    pub(crate) fn texts(self, field: u32, values: &[&str]) -> Self {
        values.iter().fold(self, |message, value| message.bytes(field, value))
    }

    /// Adds a message.
    pub(crate) fn message(self, field: u32, value: Message) -> Self {
        self.bytes(field, value.0)
    }

    /// Adds a number or a truth.
    pub(crate) fn number(mut self, field: u32, value: impl Into<u64>) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value.into());
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A message that has been received.
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    /// A text; empty when it is not there, as protocol buffers have it.
    #[track_caller]
    pub(crate) fn text(&self, field: u32) -> String {
        String::from_utf8(self.first(field).unwrap_or_default().to_vec()).unwrap()
    }

    /// A message within; empty when it is not there.
    pub(crate) fn message(&self, field: u32) -> Answer {
        Answer(self.first(field).unwrap_or_default().to_vec())
    }

    /// All messages of a list.
    pub(crate) fn messages(&self, field: u32) -> Vec<Answer> {
        let fields = self.fields();
        let matching = fields.into_iter().filter(|(number, _)| *number == field);
        matching.map(|(_, value)| Answer(value.bytes().to_vec())).collect()
    }

    /// A number; 0 when it is not there.
    pub(crate) fn number(&self, field: u32) -> u64 {
        let found = self.fields().into_iter().find(|(number, _)| *number == field);
        match found {
            Some((_, Value::Number(value))) => value,
            _ => 0,
        }
    }

    fn first(&self, field: u32) -> Option<&[u8]> {
        self.fields().into_iter().find(|(number, _)| *number == field).map(|(_, value)| value.bytes())
    }

    fn fields(&self) -> Vec<(u32, Value<'_>)> {
        let (mut rest, mut fields) = (&self.0[..], Vec::new());
        while !rest.is_empty() {
            let tag = varint(&mut rest);
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut rest)),
                1 => Value::Bytes(take(&mut rest, 8)),
                2 => {
                    let length = varint(&mut rest);
                    Value::Bytes(take(&mut rest, length as usize))
                }
                5 => Value::Bytes(take(&mut rest, 4)),
                other => panic!("protocol buffers have no wire type {other}"),
            };
            fields.push(((tag >> 3) as u32, value));
        }
        fields
    }
}

/// What one field has.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Value::Number(_) => &[],
            Value::Bytes(bytes) => bytes,
        }
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(length);
    *rest = left;
    taken
}

/// Kinds of frames.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RESET: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GO_AWAY: u8 = 7;
}

/// Flags of frames.
mod flag {
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// Calls a method, such as `/runtime.v1.RuntimeService/Version`; `None` says that the server answered with an error,
/// which it also writes to its log.
///
/// # Panics
/// When the server cannot be reached, or does not answer within a minute.
#[track_caller]
pub(crate) fn call(socket: &Path, method: &str, request: &Message) -> Option<Answer> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60) * slowness())).unwrap();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(kind::SETTINGS, 0, 0, &[]));
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let block = headers.iter().flat_map(|(name, value)| literal(name, value));
    sent.extend(frame(kind::HEADERS, flag::END_HEADERS, 1, &block.collect::<Vec<u8>>()));
    let length = u32::try_from(request.0.len()).unwrap().to_be_bytes();
    let body = [&[0][..], &length, &request.0].concat();
    sent.extend(frame(kind::DATA, flag::END_STREAM, 1, &body));
    stream.write_all(&sent).unwrap();
    let body = answer(&mut stream);
    // One byte that says "not compressed", and the length.
    (!body.is_empty()).then(|| Answer(body[5..].to_vec()))
}

/// Reads frames to the end of the answer, and returns its body.
#[track_caller]
fn answer(stream: &mut UnixStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload =
            vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        let (kind, flags) = (head[3], head[4]);
        match kind {
            kind::DATA if flags & flag::PADDED != 0 => {
                let padding = usize::from(payload[0]);
                body.extend_from_slice(&payload[1..payload.len() - padding]);
            }
            kind::DATA => body.extend_from_slice(&payload),
            kind::SETTINGS | kind::PING if flags & flag::ACK == 0 => {
                let content = if kind == kind::PING { &payload[..] } else { &[] };
                stream.write_all(&frame(kind, flag::ACK, 0, content)).unwrap();
            }
            kind::RESET | kind::GO_AWAY => panic!("the server breaks the call off: {payload:?}"),
            _ => {}
        }
        if matches!(kind, kind::DATA | kind::HEADERS) && flags & flag::END_STREAM != 0 {
            return body;
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field without compression (RFC 7541, section 6.2.2); each part is shorter than 127 bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], part(name), part(value)].concat()
}
