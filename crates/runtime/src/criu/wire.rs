//! The messages of CRIU's RPC (its `images/rpc.proto`): protocol buffers, version 2, as far as they are needed.
//!
//! A message is a sequence of fields, each a key and a value. The key is a number, field number times 8 plus the kind of
//! the value: 0 a number, 2 bytes with their length in front, 1 and 5 eight and four bytes, which CRIU does not use.
//! Numbers have seven bits a byte, the lowest first, and the eighth bit set in all but the last.

/// Kinds of values.
const NUMBER: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// What a request asks for and a response answers, `criu_req_type`.
pub mod kind {
    /// Writes a process tree to images.
    pub const DUMP: u64 = 1;
    /// Makes a process tree of images.
    pub const RESTORE: u64 = 2;
    /// Writes the memory of a process tree, which runs on.
    pub const PRE_DUMP: u64 = 4;
    /// Tells of a moment of a dump or a restore; waits for an answer.
    pub const NOTIFY: u64 = 6;
    /// Asks what CRIU and the kernel can do.
    pub const FEATURE_CHECK: u64 = 9;
    /// Asks for the version.
    pub const VERSION: u64 = 10;
}

/// A message that is being written.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Adds a number; a negative one has all 64 bits.
    pub fn number(&mut self, field: u64, value: i64) {
        self.raw(field << 3 | NUMBER);
        self.raw(value.cast_unsigned());
    }

    /// Adds a truth value.
    pub fn flag(&mut self, field: u64, value: bool) {
        self.number(field, value.into());
    }

    /// Adds a text, or a message within this one.
    pub fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw(field << 3 | BYTES);
        self.raw(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Adds a message of two texts, the fields 1 and 2.
    pub fn pair(&mut self, field: u64, first: &[u8], second: &[u8]) {
        let mut inner = Self::default();
        inner.bytes(1, first);
        inner.bytes(2, second);
        self.bytes(field, &inner.0);
    }

    /// Returns the message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn raw(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A response, `criu_resp`: what is not in it is zero, empty or false.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Response {
    /// What it answers, see [`kind`].
    pub kind: u64,
    /// Whether that was done.
    pub success: bool,
    /// The restored process, or that of a notification.
    pub pid: i32,
    /// The moment that a notification tells of.
    pub script: String,
    /// The error number of a failure.
    pub errno: i32,
    /// CRIU's own words for a failure.
    pub message: String,
    /// The version: major, minor, sublevel.
    pub version: [u32; 3],
    /// Whether the kernel tracks changes of memory.
    pub mem_track: bool,
    /// Whether memory can be restored lazily.
    pub lazy_pages: bool,
}

impl Response {
    /// Reads a response; `None` for bytes that are no message. Fields that are not known are skipped.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut response = Self::default();
        for field in fields(bytes) {
            let (number, value) = field?;
            match (number, value) {
                (1, Value::Number(value)) => response.kind = value,
                (2, Value::Number(value)) => response.success = value != 0,
                (4, Value::Bytes(restored)) => response.pid = number_in(restored, 1)? as i32,
                (5, Value::Bytes(notification)) => response.notification(notification)?,
                (7, Value::Number(value)) => response.errno = value as i32,
                (8, Value::Bytes(features)) => {
                    response.mem_track = number_in(features, 1)? != 0;
                    response.lazy_pages = number_in(features, 2)? != 0;
                }
                (9, Value::Bytes(message)) => response.message = text(message),
                (10, Value::Bytes(version)) => {
                    for (part, field) in response.version.iter_mut().zip([1, 2, 4]) {
                        *part = number_in(version, field)? as u32;
                    }
                }
                _ => {}
            }
        }
        Some(response)
    }

    fn notification(&mut self, bytes: &[u8]) -> Option<()> {
        for field in fields(bytes) {
            match field? {
                (1, Value::Bytes(script)) => self.script = text(script),
                (2, Value::Number(pid)) => self.pid = pid as i32,
                _ => {}
            }
        }
        Some(())
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Finds a number in a message, the last if there are several; 0 if there is none.
fn number_in(bytes: &[u8], wanted: u64) -> Option<u64> {
    let mut found = 0;
    for field in fields(bytes) {
        if let (number, Value::Number(value)) = field?
            && number == wanted
        {
            found = value;
        }
    }
    Some(found)
}

/// Goes through the fields of a message; `None` where it is broken, and nothing after that.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Value<'_>)>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.filter(|bytes| !bytes.is_empty())?;
        let field = field(bytes);
        rest = field.as_ref().map(|(_, rest)| *rest);
        Some(field.map(|(field, _)| field))
    })
}

fn field(bytes: &[u8]) -> Option<((u64, Value<'_>), &[u8])> {
    let (key, bytes) = number(bytes)?;
    let (value, rest) = match key & 7 {
        NUMBER => number(bytes).map(|(value, rest)| (Value::Number(value), rest))?,
        BYTES => {
            let (length, bytes) = number(bytes)?;
            let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            (Value::Bytes(value), rest)
        }
        EIGHT_BYTES => (Value::Other, bytes.get(8..)?),
        FOUR_BYTES => (Value::Other, bytes.get(4..)?),
        _ => return None,
    };
    Some(((key >> 3, value), rest))
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    // 64 bits are in ten bytes at most, of which the last has one.
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What protoc writes for `type: NOTIFY success: true notify { script: "post-restore" pid: 4711 }`.
    const NOTIFICATION: &[u8] = b"\x08\x06\x10\x01\x2a\x11\x0a\x0cpost-restore\x10\xe7\x24";

    #[test]
    fn a_request_is_written_as_protocol_buffers_have_it() {
        let mut opts = Writer::default();
        opts.number(1, 300);
        opts.number(2, -1);
        opts.flag(3, true);
        opts.pair(23, b"/a", b"/dev/null");
        let mut request = Writer::default();
        request.number(1, kind::DUMP.cast_signed());
        request.bytes(2, &opts.into_bytes());
        let expected = b"\x08\x01\x12\x22\x08\xac\x02\
            \x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x01\xba\x01\x0f\x0a\x02/a\x12\x09/dev/null";
        assert_eq!(request.into_bytes(), expected);
    }

    #[test]
    fn responses_are_read() {
        let notification = Response::read(NOTIFICATION).unwrap();
        let expected = Response {
            kind: kind::NOTIFY,
            success: true,
            pid: 4711,
            script: "post-restore".into(),
            ..Response::default()
        };
        assert_eq!(notification, expected);
        let version = Response::read(b"\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x02\x20\x01").unwrap();
        assert_eq!((version.kind, version.version), (kind::VERSION, [4, 2, 1]));
        let failed = Response::read(b"\x08\x01\x10\x00\x38\x0b\x4a\x02no\x42\x02\x08\x01").unwrap();
        assert_eq!((failed.success, failed.errno, failed.message.as_str()), (false, 11, "no"));
        assert_eq!((failed.mem_track, failed.lazy_pages), (true, false));
        let restored = Response::read(b"\x08\x02\x10\x01\x22\x02\x08\x07").unwrap();
        assert_eq!(restored.pid, 7);
    }

    #[test]
    fn what_is_not_known_is_skipped_and_what_is_broken_is_refused() {
        let unknown = b"\x08\x06\x10\x01\xf8\x07\x05\xfa\x07\x01x\xf9\x0712345678\xfd\x071234";
        assert_eq!(Response::read(unknown).unwrap().kind, kind::NOTIFY);
        assert_eq!(Response::read(b""), Some(Response::default()));
        for length in 1..NOTIFICATION.len() {
            // Whole fields are a message, too; no beginning makes the reader fall.
            let _ = Response::read(&NOTIFICATION[..length]);
        }
        for broken in [
            &b"\x08"[..],
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x0b",
            b"\x2a\x7f",
            b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x09123",
            b"\x2a\x01\x08",
        ] {
            assert_eq!(Response::read(broken), None, "{broken:x?}");
        }
    }
}
