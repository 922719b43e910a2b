//! One header block.

use super::fields::{self, Field};
use super::{BLOCK, pax};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with contents.
    Regular,
    /// Another name of a file that the archive has.
    HardLink,
    /// A symbolic link.
    SymbolicLink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A time as files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second.
    pub nanoseconds: u32,
}

/// The kinds of header that say something about the next entry, or about none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// An entry.
    Entry(Kind),
    /// A file of version 7, which is a directory if its name ends with a slash: there was no other sign.
    Old,
    /// A sparse file of GNU's older format.
    GnuSparse,
    /// Records for the next entry.
    Extended,
    /// Records for all that follow, which nobody who reads images applies.
    Global,
    /// The next entry's name.
    LongName,
    /// What the next entry links to.
    LongLink,
}

/// How the fields beyond those of version 7 are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Version7,
    Posix,
    Gnu,
}

/// A header block whose checksum is right and whose numbers are numbers.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) role: Role,
    pub(super) format: Format,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) user: i64,
    pub(super) group: i64,
    pub(super) size: u64,
    pub(super) time: Timestamp,
    pub(super) device: (i64, i64),
}

/// Reads a block.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence about a header.
pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Header, &'static str> {
    let sum = fields::CHECKSUM.number(block).ok_or("has no checksum")?;
    let (unsigned, signed) = fields::checksums(block);
    if sum != unsigned && sum != signed {
        return Err("has a wrong checksum");
    }
    let format = match fields::MAGIC.of(block) {
        [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Posix,
        b"ustar  \0" => Format::Gnu,
        _ => Format::Version7,
    };
    let number = |field: &Field, wrong| field.number(block).ok_or(wrong);
    let size = number(&fields::SIZE, "has a size that is no number")?;
    let role = role(block[fields::TYPE])?;
    let device = match (format, role) {
        (Format::Version7, _) => (0, 0),
        (_, Role::Entry(Kind::CharacterDevice | Kind::BlockDevice)) => {
            let wrong = "has a device number that is no number";
            (number(&fields::MAJOR, wrong)?, number(&fields::MINOR, wrong)?)
        }
        _ => (0, 0),
    };
    let mode = number(&fields::MODE, "has a mode that is no number")? & 0o7777;
    Ok(Header {
        role,
        format,
        name: name(block, format),
        link: fields::LINK.text(block).to_vec(),
        mode: u32::try_from(mode).unwrap_or(0),
        user: number(&fields::USER, "has an owner that is no number")?,
        group: number(&fields::GROUP, "has a group that is no number")?,
        size: u64::try_from(size).map_err(|_| "has a negative size")?,
        time: Timestamp { seconds: number(&fields::TIME, "has a time that is no number")?, nanoseconds: 0 },
        device,
    })
}

/// Joins prefix and name. GNU's format has no prefix, but Go wrote one before version 1.8, over the access time; like Go,
/// this reads it where it can be nothing else.
fn name(block: &[u8; BLOCK], format: Format) -> Vec<u8> {
    let name = fields::NAME.text(block);
    let prefix = match format {
        Format::Posix => fields::PREFIX.text(block),
        Format::Gnu if fields::GNU_ACCESS.number(block).is_none() => fields::PREFIX.text(block),
        Format::Gnu | Format::Version7 => &[],
    };
    match prefix {
        [] => name.to_vec(),
        prefix if format == Format::Gnu && !prefix.is_ascii() => name.to_vec(),
        prefix => [prefix, name].join(&b'/'),
    }
}

fn role(letter: u8) -> Result<Role, &'static str> {
    Ok(match letter {
        0 => Role::Old,
        b'0' | b'7' => Role::Entry(Kind::Regular),
        b'1' => Role::Entry(Kind::HardLink),
        b'2' => Role::Entry(Kind::SymbolicLink),
        b'3' => Role::Entry(Kind::CharacterDevice),
        b'4' => Role::Entry(Kind::BlockDevice),
        b'5' => Role::Entry(Kind::Directory),
        b'6' => Role::Entry(Kind::Fifo),
        b'S' => Role::GnuSparse,
        b'x' => Role::Extended,
        b'g' => Role::Global,
        b'L' => Role::LongName,
        b'K' => Role::LongLink,
        b'M' => return Err("belongs to an archive of several volumes"),
        b'D' => return Err("belongs to an incremental backup"),
        b'V' => return Err("is a volume's label"),
        _ => return Err("is of a kind that no layer has"),
    })
}

impl Header {
    /// Applies the records of an extended header.
    pub(super) fn apply(&mut self, records: &pax::Records) {
        let pax::Records { path, link, size, user, group, time, xattrs: _, sparse: _ } = records;
        if let Some(path) = path {
            self.name.clone_from(path);
        }
        if let Some(link) = link {
            self.link.clone_from(link);
        }
        self.size = size.unwrap_or(self.size);
        self.user = user.unwrap_or(self.user);
        self.group = group.unwrap_or(self.group);
        self.time = time.unwrap_or(self.time);
    }
}
