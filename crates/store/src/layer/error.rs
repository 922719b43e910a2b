//! What can go wrong with layers.

use std::io;

use crate::Digest;

/// The result of an operation on layers.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on a layer. Names that come from an archive are quoted and escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An entry that is hostile, or makes no sense.
    #[error("{} {fault}", Quoted(entry))]
    Entry {
        /// The entry's name as the archive has it.
        entry: Vec<u8>,
        /// What is wrong with it, as the rest of a sentence.
        fault: String,
    },
    /// A header that is none.
    #[error("this is no tar archive: the header at byte {position} {fault}")]
    Header {
        /// Where it stands in the uncompressed archive.
        position: u64,
        /// What is wrong with it, as the rest of a sentence.
        fault: &'static str,
    },
    /// An archive that stops in the middle, or before its end is marked.
    #[error("{}", cut(*position, within))]
    Truncated {
        /// The length of the uncompressed archive.
        position: u64,
        /// What is not whole, as the rest of a sentence.
        within: &'static str,
    },
    /// An archive behind whose end there is more.
    #[error("something other than zeros follows the end of the archive, at byte {position}")]
    Trailing {
        /// Where it stands in the uncompressed archive.
        position: u64,
    },
    /// An archive that would need more than it may have.
    #[error("{}the layer has more than {limit} {of}; a layer that is meant to be so needs a higher limit", at(entry.as_deref()))]
    Limit {
        /// The entry that went too far, if it was one.
        entry: Option<Vec<u8>>,
        /// What there is too much of.
        of: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// A stream of a format that layers do not have.
    #[error(
        "the archive is compressed with {format}, and only plain ones and those compressed with gzip or zstd are read: decompress it first, as `{by}` does"
    )]
    Format {
        /// The format's name.
        format: &'static str,
        /// A command that decompresses it.
        by: &'static str,
    },
    /// A stream that cannot be decompressed, or is cut.
    #[error("the {format} stream is damaged")]
    Compression {
        /// The format's name.
        format: &'static str,
        /// What the decompressor says.
        source: io::Error,
    },
    /// Bytes that are not those that were asked for.
    #[error("the {subject} has digest {found} instead of {expected}")]
    WrongDigest {
        /// `blob` or `layer`.
        subject: &'static str,
        /// What it should have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// A blob of another size than was said.
    #[error("the blob has {} {found} bytes instead of {expected}", if found > expected { "at least" } else { "only" })]
    WrongSize {
        /// What it should have.
        expected: u64,
        /// What it has, as far as it was read.
        found: u64,
    },
    /// The bytes of a layer could not be read to their end.
    #[error("read the layer")]
    Read(#[source] io::Error),
    /// The bytes of a layer could not be written.
    #[error("write the layer")]
    Write(#[source] io::Error),
    /// The machine would not do what an entry asks for.
    #[error("{doing} {}", Quoted(path))]
    Machine {
        /// What was being done, such as `make the directory`.
        doing: &'static str,
        /// The file's path in the layer.
        path: Vec<u8>,
        /// What the kernel says.
        source: bulkhead_sys::Error,
    },
    /// The kernel keeps a file that was to be removed.
    #[error("{} {reason}", Quoted(path))]
    Kept {
        /// The file's path in the tree.
        path: Vec<u8>,
        /// Why, as the rest of a sentence, with the way out.
        reason: &'static str,
    },
    /// A file that no layer can hold.
    #[error("{} {reason}, which a layer cannot hold", Quoted(path))]
    Unpackable {
        /// The file's path in the tree.
        path: Vec<u8>,
        /// What it is, as the rest of a sentence.
        reason: &'static str,
    },
}

/// What a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The bytes are not those that were asked for, or are not whole: another copy may be.
    Damaged,
    /// The archive is hostile or wrong in itself: every copy is.
    Refused,
    /// The machine would not: the disk may be full, or a right may be missing.
    Failed,
}

/// Says that an archive stops where it should not.
fn cut(position: u64, within: &str) -> String {
    match position {
        0 => "the archive is empty: it ends before it has begun".to_owned(),
        _ => format!("the archive was cut: it ends at byte {position} {within}"),
    }
}

impl Error {
    /// Tells what kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Compression { .. }
            | Self::Truncated { .. }
            | Self::Trailing { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. } => Kind::Damaged,
            Self::Entry { .. }
            | Self::Header { .. }
            | Self::Limit { .. }
            | Self::Format { .. }
            | Self::Unpackable { .. } => Kind::Refused,
            Self::Read(_) | Self::Write(_) | Self::Machine { .. } | Self::Kept { .. } => Kind::Failed,
        }
    }

    /// Names an entry and what is wrong with it.
    pub(crate) fn entry(entry: &[u8], fault: impl Into<String>) -> Self {
        Self::Entry { entry: entry.to_vec(), fault: fault.into() }
    }

    /// Says what was being done to a file when a system call failed.
    pub(crate) fn machine(doing: &'static str, path: &[u8]) -> impl Fn(bulkhead_sys::Error) -> Self + Copy {
        move |source| Self::Machine { doing, path: path.to_vec(), source }
    }

    /// Finds the error of ours that came through a reader, or says that reading failed.
    pub(crate) fn from_read(error: io::Error) -> Self {
        Self::within(error).unwrap_or_else(Self::Read)
    }

    /// Finds the error of ours that an error of a reader carries.
    pub(crate) fn within(error: io::Error) -> std::result::Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

fn at(entry: Option<&[u8]>) -> String {
    entry.map_or_else(String::new, |entry| format!("at {}, ", Quoted(entry)))
}

/// Writes a name that a stranger chose: on one line, within quotes, and shortened in its middle.
pub(crate) struct Quoted<T>(pub(crate) T);

/// The most characters of a name that are shown.
const SHOWN: usize = 240;

impl<T: AsRef<[u8]>> std::fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(self.0.as_ref());
        let count = text.chars().count();
        if count <= SHOWN {
            return write!(f, "{text:?}");
        }
        let start: String = text.chars().take(SHOWN / 2).collect();
        let end: String = text.chars().skip(count - SHOWN / 2).collect();
        write!(f, "{:?}", format!("{start}…{end}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_move_no_cursor() {
        let error = Error::entry(b"a\x1b[2J\n\xff", "leaves the layer");
        assert_eq!(error.to_string(), "\"a\\u{1b}[2J\\n\u{fffd}\" leaves the layer");
        let long = Error::entry(&[b'x'; 5000], "is too long").to_string();
        assert!(long.chars().count() < 280 && long.contains("x…x"), "{long}");
    }

    #[test]
    fn an_error_of_ours_comes_through_a_reader() {
        let through = io::Error::from(Error::Trailing { position: 5 });
        assert!(matches!(Error::from_read(through), Error::Trailing { position: 5 }));
        assert!(matches!(Error::from_read(io::Error::other("cable")), Error::Read(_)));
    }
}
