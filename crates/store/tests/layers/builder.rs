//! Archives made byte by byte, right ones and wrong ones.

/// An archive that is being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

/// A header, field by field.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) name: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) user: u64,
    pub(crate) group: u64,
    pub(crate) size: u64,
    pub(crate) time: u64,
    pub(crate) letter: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) magic: [u8; 8],
    pub(crate) device: (u32, u32),
    /// What follows, from byte 345 on.
    pub(crate) rest: Vec<u8>,
}

impl Head {
    pub(crate) fn new(letter: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            mode: 0o644,
            user: 0,
            group: 0,
            size: 0,
            time: 1_600_000_000,
            letter,
            link: Vec::new(),
            magic: *b"ustar\x0000",
            device: (0, 0),
            rest: Vec::new(),
        }
    }

    pub(crate) fn gnu(mut self) -> Self {
        self.magic = *b"ustar  \0";
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn owner(mut self, user: u64, group: u64) -> Self {
        (self.user, self.group) = (user, group);
        self
    }

    pub(crate) fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, &number(self.user, 8));
        put(116, &number(self.group, 8));
        put(124, &number(self.size, 12));
        put(136, &number(self.time, 12));
        put(148, b"        ");
        put(156, &[self.letter]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, &self.magic);
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        put(345, &self.rest);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// Writes octal digits, or GNU's binary form.
fn number(value: u64, length: usize) -> Vec<u8> {
    let digits = length - 1;
    let text = format!("{value:0digits$o}\0");
    if text.len() == length {
        return text.into_bytes();
    }
    let mut bytes = vec![0; length];
    bytes[length - 8..].copy_from_slice(&value.to_be_bytes());
    bytes[0] |= 0x80;
    bytes
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a header and, padded, what follows it.
    pub(crate) fn add(mut self, head: &Head, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(&head.block());
        self.data(data)
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        let padded = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(padded, 0);
        self
    }

    pub(crate) fn file(self, name: &str, contents: &[u8]) -> Self {
        let mut head = Head::new(b'0', name);
        head.size = contents.len() as u64;
        self.add(&head, contents)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.add(&Head::new(b'5', name).mode(0o755), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        let mut head = Head::new(b'1', name);
        head.link = target.into();
        self.add(&head, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let mut head = Head::new(b'2', name);
        head.link = target.into();
        self.add(&head, b"")
    }

    /// Adds an extended header with these records.
    pub(crate) fn records(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        let mut head = Head::new(b'x', "PaxHeaders/x");
        head.size = bytes.len() as u64;
        self.add(&head, &bytes)
    }

    /// Adds one of GNU's headers that hold a name (`L`) or a target (`K`).
    pub(crate) fn long(self, letter: u8, text: &[u8]) -> Self {
        let mut head = Head::new(letter, "././@LongLink").gnu();
        head.size = text.len() as u64 + 1;
        self.add(&head, &[text, b"\0"].concat())
    }

    /// Returns the archive with its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    /// Returns the archive without an end.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}
