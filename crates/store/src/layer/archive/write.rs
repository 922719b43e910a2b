//! Archives that are made: ustar, and extended headers for what it cannot hold.

use std::io::{self, Write};

use super::header::{Kind, Timestamp};
use super::{BLOCK, fields, pax};

/// A file as it goes into an archive.
#[derive(Debug, Clone)]
pub(crate) struct Head<'a> {
    /// Its name, without a slash at either end.
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind,
    /// What a link leads to.
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// How many bytes follow.
    pub(crate) size: u64,
    pub(crate) time: Timestamp,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// An archive that is being written. The same files make the same bytes.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    into: W,
    /// What is still to come of the last file.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(into: W) -> Self {
        Self { into, left: 0, padding: 0 }
    }

    /// Writes a header. The data of the file before must be complete.
    pub(crate) fn head(&mut self, head: &Head<'_>) -> io::Result<()> {
        self.complete()?;
        // A directory is known by the slash, too: so all programs write it.
        let path = match head.kind {
            Kind::Directory => [head.path, b"/"].concat(),
            _ => head.path.to_vec(),
        };
        let mut records = Vec::new();
        let mut block = [0; BLOCK];
        fill_names(&mut block, &path, head.link, &mut records);
        number(&mut block, &fields::MODE, u64::from(head.mode), b"", &mut records);
        number(&mut block, &fields::USER, u64::from(head.user), b"uid", &mut records);
        number(&mut block, &fields::GROUP, u64::from(head.group), b"gid", &mut records);
        number(&mut block, &fields::SIZE, head.size, b"size", &mut records);
        fill_time(&mut block, head.time, &mut records);
        if matches!(head.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            number(&mut block, &fields::MAJOR, u64::from(head.device.0), b"", &mut records);
            number(&mut block, &fields::MINOR, u64::from(head.device.1), b"", &mut records);
        }
        let mut xattrs: Vec<_> = head.xattrs.iter().collect();
        xattrs.sort();
        for (name, value) in xattrs {
            pax::write(&mut records, &[pax::XATTR, name].concat(), value);
        }
        if !records.is_empty() {
            self.extended(&path, &records)?;
        }
        seal(&mut block, letter(head.kind));
        self.into.write_all(&block)?;
        self.expect(head.size);
        Ok(())
    }

    /// Writes data of the last file.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| wrong("more"))?;
        self.into.write_all(bytes)
    }

    /// Ends the archive, and returns what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.complete()?;
        self.into.write_all(&[0; 2 * BLOCK])?;
        self.into.flush()?;
        Ok(self.into)
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(wrong("less"));
        }
        self.into.write_all(&[0; BLOCK][..self.padding])?;
        self.padding = 0;
        Ok(())
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
    }

    fn extended(&mut self, path: &[u8], records: &[u8]) -> io::Result<()> {
        let mut block = [0; BLOCK];
        // The name is for programs that do not know such headers, and extract them as files.
        let name = [b"PaxHeaders.0/", path].concat();
        let field = fields::NAME.of_mut(&mut block);
        let length = name.len().min(field.len());
        field[..length].copy_from_slice(&name[..length]);
        let mut none = Vec::new();
        number(&mut block, &fields::MODE, 0o644, b"", &mut none);
        number(&mut block, &fields::USER, 0, b"", &mut none);
        number(&mut block, &fields::GROUP, 0, b"", &mut none);
        number(&mut block, &fields::SIZE, records.len() as u64, b"", &mut none);
        number(&mut block, &fields::TIME, 0, b"", &mut none);
        seal(&mut block, b'x');
        self.into.write_all(&block)?;
        self.expect(records.len() as u64);
        self.data(records)?;
        self.complete()
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("there is {what} data than the header says"))
}

/// Puts names where they fit, and into records where not.
fn fill_names(block: &mut [u8; BLOCK], path: &[u8], link: &[u8], records: &mut Vec<u8>) {
    let name = fields::NAME.of_mut(block);
    if path.len() <= name.len() {
        name[..path.len()].copy_from_slice(path);
    } else if let Some(slash) = prefix(path) {
        let rest = &path[slash + 1..];
        name[..rest.len()].copy_from_slice(rest);
        fields::PREFIX.of_mut(block)[..slash].copy_from_slice(&path[..slash]);
    } else {
        let length = name.len();
        name.copy_from_slice(&path[..length]);
        pax::write(records, b"path", path);
    }
    let field = fields::LINK.of_mut(block);
    let length = link.len().min(field.len());
    field[..length].copy_from_slice(&link[..length]);
    if link.len() > length {
        pax::write(records, b"linkpath", link);
    }
}

/// Finds a slash at which a long name can be cut: at most 155 bytes before, and 1 to 100 behind.
fn prefix(path: &[u8]) -> Option<usize> {
    let first = path.len().checked_sub(fields::NAME.1 + 1)?;
    // The slash at the end of a directory's name does not cut anything.
    let last = path.len().checked_sub(2)?.min(fields::PREFIX.1);
    (first.max(1)..=last).find(|place| path[*place] == b'/')
}

/// Puts a number where it fits, and into a record where not.
fn number(block: &mut [u8; BLOCK], field: &fields::Field, value: u64, key: &[u8], records: &mut Vec<u8>) {
    let bytes = field.of_mut(block);
    let digits = bytes.len() - 1;
    let text = format!("{value:0digits$o}");
    if text.len() <= digits {
        bytes[..digits].copy_from_slice(text.as_bytes());
    } else {
        bytes[..digits].fill(b'0');
        pax::write(records, key, value.to_string().as_bytes());
    }
}

fn fill_time(block: &mut [u8; BLOCK], time: Timestamp, records: &mut Vec<u8>) {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let mut elsewhere = Vec::new();
    number(block, &fields::TIME, seconds, b"mtime", &mut elsewhere);
    if !elsewhere.is_empty() || time.seconds < 0 || time.nanoseconds > 0 {
        pax::write(records, b"mtime", pax::write_time(time).as_bytes());
    }
}

fn letter(kind: Kind) -> u8 {
    match kind {
        Kind::Regular => b'0',
        Kind::HardLink => b'1',
        Kind::SymbolicLink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn seal(block: &mut [u8; BLOCK], letter: u8) {
    block[fields::TYPE] = letter;
    fields::MAGIC.of_mut(block).copy_from_slice(b"ustar\x0000");
    let (sum, _) = fields::checksums(block);
    fields::CHECKSUM.of_mut(block).copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
