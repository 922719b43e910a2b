//! How the bytes of a layer are packed, which their first ones tell.

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use super::{Error, Result};

/// The formats of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// gzip (RFC 1952), of any number of members.
    Gzip,
    /// Zstandard (RFC 8878), of any number of frames.
    Zstd,
}

/// Bytes at the beginning, whose they are, and what decompresses the rest.
const FOREIGN: [(&[u8], &str, &str); 4] = [
    (b"BZh", "bzip2", "bzip2 -dc FILE"),
    (b"\xfd7zXZ\0", "xz", "xz -dc FILE"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc FILE"),
    (b"PK\x03\x04", "zip", "unzip -p FILE"),
];

impl Compression {
    /// Tells the format by the first bytes of a stream, of which six are enough.
    ///
    /// # Errors
    /// [`Error::Format`] for one that layers do not have.
    pub fn of(start: &[u8]) -> Result<Self> {
        if start.starts_with(&[0x1f, 0x8b]) {
            return Ok(Self::Gzip);
        }
        // A frame, or one of the sixteen magic numbers of frames that are skipped.
        if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            || matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
        {
            return Ok(Self::Zstd);
        }
        match FOREIGN.iter().find(|(magic, ..)| start.starts_with(magic)) {
            Some((_, format, by)) => Err(Error::Format { format, by }),
            None => Ok(Self::None),
        }
    }

    /// Returns the format's name, as in media types.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A stream that is decompressed while it is read.
pub enum Decoder<R: BufRead> {
    /// What is not compressed.
    Plain(R),
    /// gzip.
    Gzip(Box<MultiGzDecoder<R>>),
    /// Zstandard.
    Zstd(Box<zstd::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Looks at the first bytes and begins.
    ///
    /// # Errors
    /// [`Error::Format`], and what the source says.
    pub fn new(mut source: R) -> Result<Self> {
        // A source may give few bytes at a time; a buffered one of ours gives all that it has room for.
        let start = source.fill_buf().map_err(Error::from_read)?;
        Ok(match Compression::of(start)? {
            Compression::None => Self::Plain(source),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let decoder = zstd::Decoder::with_buffer(source);
                let failed = |source| Error::Compression { format: Compression::Zstd.name(), source };
                Self::Zstd(Box::new(decoder.map_err(failed)?))
            }
        })
    }

    /// Tells the format.
    pub fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let format = self.compression().name();
        let read = match self {
            Self::Plain(source) => return source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        };
        // What the source says is not the compression's fault, but both come the same way.
        read.map_err(|error| match Error::within(error) {
            Ok(ours) => ours.into(),
            Err(source) if is_of_stream(&source) => Error::Compression { format, source }.into(),
            Err(error) => error,
        })
    }
}

/// Says whether a decompressor complains, and not the source: that has an errno, or is interrupted.
fn is_of_stream(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.kind() != io::ErrorKind::Interrupted
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    fn decode(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::new(bytes).map_err(io::Error::from)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn the_first_bytes_tell_the_format() {
        for (bytes, expected) in [
            (&b""[..], Some(Compression::None)),
            (b"etc/\0\0", Some(Compression::None)),
            (b"\x1f\x8b\x08", Some(Compression::Gzip)),
            (b"\x28\xb5\x2f\xfd\0", Some(Compression::Zstd)),
            (b"\x5e\x2a\x4d\x18", Some(Compression::Zstd)),
            (b"\xfd7zXZ\0\0", None),
            (b"BZh91AY", None),
            (b"PK\x03\x04", None),
        ] {
            assert_eq!(Compression::of(bytes).ok(), expected, "of {bytes:?}");
        }
        let refused = Compression::of(b"\xfd7zXZ\0").unwrap_err().to_string();
        assert!(refused.starts_with("the archive is compressed with xz"), "{refused}");
        assert!(refused.ends_with("`xz -dc FILE` does"), "{refused}");
    }

    #[test]
    fn members_and_frames_are_one_stream() {
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for bytes in [
            [gzip(b"one "), gzip(b""), gzip(b"two")].concat(),
            [zstd(b"one "), zstd(b""), skipped.clone(), zstd(b"two")].concat(),
            [skipped, zstd(b"one two")].concat(),
            b"one two".to_vec(),
        ] {
            assert_eq!(decode(&bytes).unwrap(), b"one two");
        }
    }

    #[test]
    fn a_stream_that_is_cut_or_goes_on_is_damaged() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        for whole in [gzip(&text), zstd(&text)] {
            let format = Compression::of(&whole).unwrap();
            for cut in [whole.len() / 2, whole.len() - 1] {
                let error = decode(&whole[..cut]).unwrap_err();
                assert_eq!(error.to_string(), format!("the {format} stream is damaged"), "cut at {cut}");
            }
            let mut longer = whole.clone();
            longer.extend_from_slice(b"trailing");
            assert!(decode(&longer).is_err(), "{format} with something behind it");
            let mut other = whole.clone();
            let place = other.len() / 2;
            other[place] ^= 0x55;
            assert!(decode(&other).is_err() || decode(&other).unwrap() != text, "{format} with another byte");
        }
    }
}
