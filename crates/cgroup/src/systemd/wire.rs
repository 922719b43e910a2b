//! How D-Bus lays values out in bytes: as many types as systemd's calls need (D-Bus Specification, "Marshaling").
//!
//! Every value is aligned to its own size, counted from the start of the message; headers are padded to 8, so a body
//! may be laid out on its own.

/// What is wrong with bytes that should have been a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a D-Bus message {0}")]
pub struct Malformed(pub &'static str);

/// The result of reading bytes.
pub type Result<T> = std::result::Result<T, Malformed>;

/// Lays values out in the byte order of this machine.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Pads with zeros to a multiple of `size`, a power of two.
    pub fn align(&mut self, size: usize) {
        self.0.resize(self.0.len().next_multiple_of(size), 0);
    }

    /// Adds a byte (`y`).
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Adds a number of 32 bits (`u`, `i`).
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_ne_bytes());
    }

    /// Adds a number of 64 bits (`t`, `x`).
    pub fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_ne_bytes());
    }

    /// Adds a truth value (`b`).
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// Adds a text or the path of an object (`s`, `o`).
    pub fn string(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// Adds a signature (`g`) of at most 255 bytes, as all of ours are.
    pub fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// Adds an array (`a…`) whose items are aligned to `size` and written by `items`.
    pub fn array(&mut self, size: usize, items: impl FnOnce(&mut Self)) {
        self.u32(0);
        let place = self.0.len() - 4;
        // What pads to the first item does not count.
        self.align(size);
        let begin = self.0.len();
        items(self);
        let count = length(self.0.len() - begin).to_ne_bytes();
        self.0[place..place + 4].copy_from_slice(&count);
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Messages are far below the 128 MiB that D-Bus allows.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The byte order of a message, which its sender chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `l`
    Little,
    /// `B`
    Big,
}

impl Order {
    /// That of this machine.
    pub const OWN: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    /// Returns the letter with which a message begins.
    pub fn letter(self) -> u8 {
        match self {
            Self::Little => b'l',
            Self::Big => b'B',
        }
    }

    /// Reads that letter.
    pub(crate) fn of(letter: u8) -> Result<Self> {
        match letter {
            b'l' => Ok(Self::Little),
            b'B' => Ok(Self::Big),
            _ => Err(Malformed("has an unknown byte order")),
        }
    }

    /// Reads a number of 32 bits.
    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// Takes values from bytes; what is not there or not well-formed is an error, never a panic.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: Order,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of a message or body.
    pub fn new(bytes: &'a [u8], order: Order) -> Self {
        Self { bytes, at: 0, order }
    }

    /// Tells how many bytes were taken.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed("claims an impossible length"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("is too short"))?;
        self.at = end;
        Ok(taken)
    }

    /// Skips the padding before a value of `size` bytes.
    pub fn align(&mut self, size: usize) -> Result<()> {
        let padding = self.at.next_multiple_of(size) - self.at;
        self.take(padding).map(|_| ())
    }

    /// Takes a byte (`y`).
    pub fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// Takes a number of 32 bits (`u`).
    pub fn u32(&mut self) -> Result<u32> {
        self.align(4)?;
        let mut number = [0; 4];
        number.copy_from_slice(self.take(4)?);
        Ok(self.order.u32(number))
    }

    /// Takes a text or the path of an object (`s`, `o`).
    pub fn string(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    /// Takes a signature (`g`).
    pub fn signature(&mut self) -> Result<&'a str> {
        let length = usize::from(self.byte()?);
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<&'a str> {
        let text = self.take(length)?;
        if self.byte()? != 0 || text.contains(&0) {
            return Err(Malformed("has a text that does not end with its only NUL"));
        }
        std::str::from_utf8(text).map_err(|_| Malformed("has a text that is not UTF-8"))
    }

    /// Takes a variant (`v`) that holds a text.
    pub fn variant_string(&mut self) -> Result<&'a str> {
        match self.signature()? {
            "s" => self.string(),
            _ => Err(Malformed("has a value of another type than a text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns the byte order of this machine into that of the tables.
    fn little(bytes: &[u8]) -> Vec<u8> {
        assert_eq!(Order::OWN, Order::Little, "the tables below are little-endian");
        bytes.to_vec()
    }

    #[test]
    fn values_are_aligned_to_their_size() {
        let mut writer = Writer::default();
        writer.byte(7);
        writer.u32(0x0102_0304);
        writer.bool(true);
        writer.byte(9);
        writer.u64(0x0102_0304_0506_0708);
        let expected = [
            7, 0, 0, 0, 4, 3, 2, 1, // a byte, its padding, a number
            1, 0, 0, 0, 9, 0, 0, 0, // true, a byte, its padding
            8, 7, 6, 5, 4, 3, 2, 1,
        ];
        assert_eq!(little(&writer.into_bytes()), expected);
    }

    #[test]
    fn texts_end_with_nul_and_signatures_have_a_short_length() {
        let mut writer = Writer::default();
        writer.signature("a(sv)");
        writer.string("ab");
        assert_eq!(little(&writer.into_bytes()), b"\x05a(sv)\0\0\x02\0\0\0ab\0");
    }

    #[test]
    fn the_length_of_an_array_does_not_count_what_pads_to_its_first_item() {
        let mut writer = Writer::default();
        writer.array(8, |items| items.u64(1));
        assert_eq!(little(&writer.into_bytes()), [8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let mut writer = Writer::default();
        writer.array(8, |_| {});
        assert_eq!(writer.into_bytes(), [0; 8], "an empty one is padded too");
    }

    #[test]
    fn both_byte_orders_are_read() {
        for (order, bytes) in [(Order::Little, [1, 0, 0, 0]), (Order::Big, [0, 0, 0, 1])] {
            assert_eq!(Reader::new(&bytes, order).u32(), Ok(1));
        }
    }

    #[test]
    fn bytes_that_are_no_value_are_refused() {
        let read = |bytes: &'static [u8]| Reader::new(bytes, Order::Little).string().unwrap_err().0;
        assert_eq!(read(b"\x02\0\0\0ab"), "is too short");
        assert_eq!(read(b"\x02\0\0\0abc"), "has a text that does not end with its only NUL");
        assert_eq!(read(b"\x02\0\0\0a\0\0"), "has a text that does not end with its only NUL");
        assert_eq!(read(b"\x01\0\0\0\xff\0"), "has a text that is not UTF-8");
        assert_eq!(read(b"\xff\xff\xff\xff"), "is too short");
        let variant = Reader::new(b"\x01u\0\0\x01\0\0\0", Order::Little).variant_string().unwrap_err();
        assert_eq!(variant.0, "has a value of another type than a text");
    }
}
