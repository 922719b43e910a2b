//! The fields of a header block.

use super::BLOCK;

/// The places of the fields in a block, and their lengths.
pub(super) struct Field(pub(super) usize, pub(super) usize);

pub(super) const NAME: Field = Field(0, 100);
pub(super) const MODE: Field = Field(100, 8);
pub(super) const USER: Field = Field(108, 8);
pub(super) const GROUP: Field = Field(116, 8);
pub(super) const SIZE: Field = Field(124, 12);
pub(super) const TIME: Field = Field(136, 12);
pub(super) const CHECKSUM: Field = Field(148, 8);
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Field = Field(157, 100);
/// The magic and the version.
pub(super) const MAGIC: Field = Field(257, 8);
pub(super) const MAJOR: Field = Field(329, 8);
pub(super) const MINOR: Field = Field(337, 8);
pub(super) const PREFIX: Field = Field(345, 155);
/// In GNU's format, at the place of the prefix.
pub(super) const GNU_ACCESS: Field = Field(345, 12);
/// In GNU's format: up to four segments of a sparse file, each an offset and a length of twelve bytes.
pub(super) const GNU_SPARSE: Field = Field(386, 96);
/// In GNU's format: whether blocks with more segments follow.
pub(super) const GNU_EXTENDED: usize = 482;
/// In GNU's format: the size of a sparse file with its holes.
pub(super) const GNU_REAL_SIZE: Field = Field(483, 12);

impl Field {
    /// Returns the field's bytes.
    pub(super) fn of<'a>(&self, block: &'a [u8; BLOCK]) -> &'a [u8] {
        &block[self.0..self.0 + self.1]
    }

    /// Returns the field's bytes for writing.
    pub(super) fn of_mut<'a>(&self, block: &'a mut [u8; BLOCK]) -> &'a mut [u8] {
        &mut block[self.0..self.0 + self.1]
    }

    /// Returns the field's text: what stands before the first NUL.
    pub(super) fn text<'a>(&self, block: &'a [u8; BLOCK]) -> &'a [u8] {
        until_nul(self.of(block))
    }

    /// Reads the field's number: octal digits, or GNU's binary form.
    pub(super) fn number(&self, block: &[u8; BLOCK]) -> Option<i64> {
        number(self.of(block))
    }
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// Reads a number: octal digits with blanks around, nothing for zero, or, where the first bit is set, big-endian binary.
pub(super) fn number(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => binary(bytes),
        _ => octal(bytes),
    }
}

/// Reads two's complement of any length whose first bit only says that it is that; the second is the sign.
fn binary(bytes: &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    let negative = first & 0x40 != 0;
    let mut value = if negative { i128::from(first | 0x80) - 256 } else { i128::from(first & 0x3f) };
    for byte in rest {
        value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        i64::try_from(value).ok()?;
    }
    i64::try_from(value).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    let mut value: i64 = 0;
    // What follows a NUL within the field was never meant: Go does not read it either.
    for byte in until_nul(&bytes[start..end]) {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

/// Computes the sums of a header's bytes, its own field taken as blanks: POSIX adds unsigned bytes, old programs signed.
pub(super) fn checksums(block: &[u8; BLOCK]) -> (i64, i64) {
    let own = CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1;
    let bytes = block.iter().enumerate().map(|(place, byte)| if own.contains(&place) { b' ' } else { *byte });
    bytes.fold((0, 0), |(unsigned, signed), byte| {
        (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (bytes, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"12\0 9999", Some(0o12)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"777777777777777777777777", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(bytes), expected, "of {bytes:?}");
        }
    }
}
