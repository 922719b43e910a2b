//! The tar format: what is read and written of it. Pure: it knows streams of bytes, and no files.
//!
//! Read are the formats of POSIX (ustar and pax), GNU (long names, sparse files in all four forms) and version 7. Where
//! they leave room, the reading is that of Go's `archive/tar`, because that is what most images were made by and are
//! looked at with: an archive must not be one thing to a scanner and another to us. See pax(1p), "EXTENDED DESCRIPTION",
//! and the manual of GNU tar, "Tar Internals".

mod fields;
mod header;
mod pax;
mod read;
mod sparse;
mod write;

pub use header::{Kind, Timestamp};
pub use read::{Archive, Entry, Whole};
pub use sparse::Segment;
pub(crate) use write::{Head, Writer};

/// The unit of the format: headers are one block, and data is padded to whole ones.
pub(crate) const BLOCK: usize = 512;

/// The most bytes that an extended header, a long name or the map of a sparse file may have, as in Go.
const SPECIAL: u64 = 1 << 20;
