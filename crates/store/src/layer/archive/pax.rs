//! The records of an extended header: `LENGTH KEY=VALUE\n`, see pax(1p), "pax Extended Header".

use super::header::Timestamp;

/// Before the name of an extended attribute, as star invented it and everybody writes it.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// What records say about an entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) user: Option<i64>,
    pub(super) group: Option<i64>,
    pub(super) time: Option<Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// What records say about a sparse file, in the three forms of GNU tar.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// `GNU.sparse.major` and `minor`, which only the last form has.
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.realsize`, or `GNU.sparse.size` in the older forms.
    pub(super) real_size: Option<u64>,
    /// How many segments there are; only older forms say it here.
    pub(super) count: Option<u64>,
    /// Offsets and lengths, one after the other.
    pub(super) map: Vec<u64>,
}

/// Reads the records.
///
/// # Errors
/// What is wrong with them, as the rest of a sentence about an extended header.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Records, &'static str> {
    let mut records = Records::default();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or("has a record that is none")?;
        bytes = rest;
        // An empty value takes back what a global header said, and those are not applied.
        if !value.is_empty() {
            records.take(key, value)?;
        }
    }
    Ok(records)
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

impl Records {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let text = |what| if value.contains(&0) { Err(what) } else { Ok(Some(value.to_vec())) };
        let count = |what| decimal(value).map(Some).ok_or(what);
        let sparse = &mut self.sparse;
        match key {
            b"path" => self.path = text("has a path with a NUL")?,
            b"linkpath" => self.link = text("has a link with a NUL")?,
            b"size" => self.size = count("has a size that is no number")?,
            b"uid" => self.user = Some(id(value).ok_or("has an owner that is no number")?),
            b"gid" => self.group = Some(id(value).ok_or("has a group that is no number")?),
            b"mtime" => self.time = Some(timestamp(value).ok_or("has a time that is none")?),
            b"GNU.sparse.major" => sparse.major = count("has a version of sparse files that is no number")?,
            b"GNU.sparse.minor" => sparse.minor = count("has a version of sparse files that is no number")?,
            b"GNU.sparse.name" => sparse.name = text("has a path with a NUL")?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                sparse.real_size = count("has a size of a sparse file that is no number")?;
            }
            b"GNU.sparse.numblocks" => sparse.count = count("has a number of segments that is none")?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                // They come in pairs, in this order.
                if (key == b"GNU.sparse.offset") != sparse.map.len().is_multiple_of(2) {
                    return Err("has a segment of a sparse file that is not whole");
                }
                sparse.map.push(decimal(value).ok_or("has a segment that is no number")?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal);
                sparse.map =
                    numbers.collect::<Option<_>>().ok_or("has a map of a sparse file that is none")?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                    self.set_xattr(name, value);
                }
            }
        }
        Ok(())
    }

    /// Keeps the last value, as a map would.
    fn set_xattr(&mut self, name: &[u8], value: &[u8]) {
        match self.xattrs.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_vec(),
            None => self.xattrs.push((name.to_vec(), value.to_vec())),
        }
    }
}

/// Reads decimal digits, and nothing but those.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn id(bytes: &[u8]) -> Option<i64> {
    match bytes.strip_prefix(b"-") {
        Some(digits) => i64::try_from(decimal(digits)?).ok().map(|value| -value),
        None => i64::try_from(decimal(bytes)?).ok(),
    }
}

/// Reads seconds with a fraction of any length, of which nine digits count. Before 1970 the fraction goes towards the past.
fn timestamp(bytes: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match bytes.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, bytes),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((digits, &b""[..]), |at| (&digits[..at], &digits[at + 1..]));
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let places = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = places.fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => {
            Timestamp { seconds: (-seconds).checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds }
        }
    })
}

/// Writes a record. Its length counts itself.
pub(super) fn write(into: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    // With its own digits it may have one more.
    length = rest + digits(length);
    into.extend_from_slice(length.to_string().as_bytes());
    into.push(b' ');
    into.extend_from_slice(key);
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Writes a time as a record has it.
pub(super) fn write_time(time: Timestamp) -> String {
    let Timestamp { seconds, nanoseconds } = time;
    let (sign, seconds, nanoseconds) = match (seconds, nanoseconds) {
        (..0, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (..0, 0) => ("-", seconds.unsigned_abs(), 0),
        _ => ("", seconds.unsigned_abs(), nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [1, 80, 88, 89, 90, 91, 980, 985, 990, 991, 992, 10_000] {
            let value = vec![b'v'; length];
            let mut bytes = Vec::new();
            write(&mut bytes, b"path", &value);
            write(&mut bytes, b"SCHILY.xattr.user.a=b", b"is cut at the first sign");
            let records = parse(&bytes).unwrap();
            assert_eq!(records.path.as_deref(), Some(&value[..]), "for {length} bytes");
            assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"b=is cut at the first sign".to_vec())]);
        }
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("1.5", 1, 500_000_000),
            ("-1.25", -2, 750_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("-3", -3, 0),
        ] {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(timestamp(text.as_bytes()), Some(time), "of {text}");
            assert_eq!(write_time(time), text, "of {time:?}");
        }
        assert_eq!(timestamp(b"1.0000000019"), Some(Timestamp { seconds: 1, nanoseconds: 1 }));
        for wrong in ["", "-", ".5", "1.x", "1e9", "nan", "99999999999999999999", " 1"] {
            assert_eq!(timestamp(wrong.as_bytes()), None, "{wrong:?} is no time");
        }
    }

    #[test]
    fn records_that_are_none_are_refused() {
        for bytes in [
            &b"path=x\n"[..],
            b"9 path=x\n\n9",
            b"8 path=x\n",
            b"99 path=x\n",
            b"0 path=x\n",
            b"4 =x\n",
            b"10 pa\0h=x\n",
            b"12 path=a\0b\n",
            b"8 size=\n8 size=y",
            b"10 size=1x\n",
            b"99999999999999999999 path=x\n",
            b"24 GNU.sparse.numbytes=1\n",
        ] {
            let refused = parse(bytes);
            assert!(refused.is_err(), "{:?} gives {refused:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_empty_value_leaves_the_header_as_it_is() {
        let records = parse(b"8 path=\n12 uid=1000\n").unwrap();
        assert_eq!((records.path, records.user), (None, Some(1000)));
    }
}
