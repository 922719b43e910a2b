//! Entries, one after the other.

use std::io::BufRead;

use super::header::{self, Format, Header, Kind, Role, Timestamp};
use super::sparse::{self, Segment};
use super::{BLOCK, SPECIAL, fields, pax};
use crate::layer::{Error, Result};

/// An archive that is read once, from its beginning to its end.
#[derive(Debug)]
pub struct Archive<R> {
    source: R,
    /// How much of it was read.
    position: u64,
    /// What is left of the data of the last entry.
    left: u64,
    /// The zeros behind that.
    padding: u64,
    state: State,
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Entries,
    /// A block of zeros was there; a second one should be.
    Ended,
    /// The source ended where a header could be.
    Unended,
}

/// A file as an archive describes it. Nothing in it is checked but its form.
#[derive(Debug)]
pub struct Entry {
    /// Its name, with whatever slashes and dots it has.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// The twelve bits of the mode.
    pub mode: u32,
    /// The owner's number.
    pub user: i64,
    /// The group's number.
    pub group: i64,
    /// The size of a regular file in bytes, with its holes.
    pub size: u64,
    /// When it was changed.
    pub time: Timestamp,
    /// Major and minor number of a device.
    pub device: (i64, i64),
    /// Extended attributes, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data lies in a sparse file.
    pub segments: Option<Vec<Segment>>,
}

/// What headers before the entry's own say about it.
#[derive(Debug, Default)]
struct Before {
    records: Option<pax::Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Before {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.name.is_none() && self.link.is_none()
    }
}

impl<R: BufRead> Archive<R> {
    /// Reads an uncompressed archive.
    pub fn new(source: R) -> Self {
        Self { source, position: 0, left: 0, padding: 0, state: State::Entries }
    }

    /// Returns how many bytes of the archive were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next entry, past what was not read of the last one's data. There is none behind the end.
    ///
    /// # Errors
    /// [`Error::Header`], [`Error::Entry`], [`Error::Truncated`], and what the source says.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        let mut before = Before::default();
        loop {
            let position = self.position;
            let fault = |fault| Error::Header { position, fault };
            let Some(block) = self.header_block(&before)? else { return Ok(None) };
            let header = header::parse(&block).map_err(fault)?;
            match header.role {
                Role::Extended => {
                    let bytes = self.special(&header, position)?;
                    before.records = Some(pax::parse(&bytes).map_err(fault)?);
                }
                Role::Global => drop(self.special(&header, position)?),
                Role::LongName => before.name = Some(self.long_text(&header, position)?),
                Role::LongLink => before.link = Some(self.long_text(&header, position)?),
                Role::Entry(_) | Role::Old | Role::GnuSparse => {
                    return self.entry(header, before, &block).map(Some);
                }
            }
        }
    }

    /// Returns the next piece of the entry's data, as it is stored; it is empty at the end. [`Archive::consume`] goes on.
    ///
    /// # Errors
    /// [`Error::Truncated`], and what the source says.
    pub fn data(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let position = self.position;
        let piece = self.source.fill_buf().map_err(Error::from_read)?;
        if piece.is_empty() {
            return Err(Error::Truncated { position, within: "within a file" });
        }
        let length = piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        Ok(&piece[..length])
    }

    /// Goes on by `length` bytes of what [`Archive::data`] returned.
    pub fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.position += length as u64;
        self.left -= length as u64;
    }

    /// Reads to the end of the source, behind the last entry: only zeros may follow.
    ///
    /// # Errors
    /// [`Error::Trailing`], and what the source says; [`Error::Truncated`] if the archive's end is not marked. That is
    /// how one looks that was cut between two entries; `Whole::Known` is for an archive whose digest tells.
    pub fn finish(&mut self, whole: Whole) -> Result<()> {
        loop {
            let piece = self.source.fill_buf().map_err(Error::from_read)?;
            if piece.is_empty() {
                break;
            }
            if let Some(place) = piece.iter().position(|byte| *byte != 0) {
                return Err(Error::Trailing { position: self.position + place as u64 });
            }
            let length = piece.len();
            self.source.consume(length);
            self.position += length as u64;
        }
        match (self.state, whole) {
            (State::Ended, _) | (_, Whole::Known) => Ok(()),
            (State::Entries | State::Unended, Whole::Marked) => {
                Err(Error::Truncated { position: self.position, within: "without the mark of an end" })
            }
        }
    }

    fn skip_rest(&mut self) -> Result<()> {
        if self.skip(self.left)? > 0 {
            return Err(Error::Truncated { position: self.position, within: "within a file" });
        }
        self.left = 0;
        // What does not mark its end may not have padded it either, such as the layers of `umoci insert`.
        if self.skip(self.padding)? > 0 {
            self.state = State::Unended;
        }
        self.padding = 0;
        Ok(())
    }

    /// Passes over so many bytes, and returns how many were missing.
    fn skip(&mut self, mut length: u64) -> Result<u64> {
        while length > 0 {
            let piece = self.source.fill_buf().map_err(Error::from_read)?;
            if piece.is_empty() {
                break;
            }
            let part = piece.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            self.source.consume(part);
            self.position += part as u64;
            length -= part as u64;
        }
        Ok(length)
    }

    /// Reads the next header, or the mark of the end.
    fn header_block(&mut self, before: &Before) -> Result<Option<[u8; BLOCK]>> {
        if self.state != State::Entries {
            return Ok(None);
        }
        let position = self.position;
        let dangling =
            Error::Truncated { position, within: "behind a header for an entry that is not there" };
        let Some(block) = self.block("within a header")? else {
            self.state = State::Unended;
            return if before.is_empty() { Ok(None) } else { Err(dangling) };
        };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        if !before.is_empty() {
            return Err(dangling);
        }
        self.state = State::Ended;
        match self.block("within the mark of its end")? {
            Some(second) if second != [0; BLOCK] => {
                Err(Error::Header { position, fault: "is empty, and another one follows" })
            }
            _ => Ok(None),
        }
    }

    /// Reads a whole block, or nothing where the source ends.
    fn block(&mut self, within: &'static str) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let piece = self.source.fill_buf().map_err(Error::from_read)?;
            if piece.is_empty() && filled == 0 {
                return Ok(None);
            }
            if piece.is_empty() {
                return Err(Error::Truncated { position: self.position, within });
            }
            let part = piece.len().min(BLOCK - filled);
            block[filled..filled + part].copy_from_slice(&piece[..part]);
            self.source.consume(part);
            self.position += part as u64;
            filled += part;
        }
        Ok(Some(block))
    }

    /// Reads the data of a header that is about another one.
    fn special(&mut self, header: &Header, position: u64) -> Result<Vec<u8>> {
        if header.size > SPECIAL {
            return Err(Error::Header { position, fault: "has more than 1 MiB of records" });
        }
        let padded = header.size.next_multiple_of(BLOCK as u64);
        // What was not there is not reserved: a header is cheap, and its size may be a lie.
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < padded {
            let block = self.block("within an extended header")?;
            let end = self.position;
            let cut = Error::Truncated { position: end, within: "within an extended header" };
            bytes.extend_from_slice(&block.ok_or(cut)?);
        }
        bytes.truncate(usize::try_from(header.size).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    fn long_text(&mut self, header: &Header, position: u64) -> Result<Vec<u8>> {
        let bytes = self.special(header, position)?;
        Ok(fields::until_nul(&bytes).to_vec())
    }

    fn entry(&mut self, mut header: Header, before: Before, block: &[u8; BLOCK]) -> Result<Entry> {
        let mut records = before.records.unwrap_or_default();
        header.apply(&records);
        // GNU's names win over records, as with Go.
        header.name = before.name.unwrap_or(header.name);
        header.link = before.link.unwrap_or(header.link);
        let kind = match header.role {
            Role::Entry(kind) => kind,
            Role::Old if header.name.ends_with(b"/") => Kind::Directory,
            _ => Kind::Regular,
        };
        // What is no regular file has no data, whatever its size says; so it is with Go.
        let stored = if kind == Kind::Regular { header.size } else { 0 };
        self.left = stored;
        let padded = stored.checked_next_multiple_of(BLOCK as u64);
        let no_size = || Error::entry(&header.name, "has a size that no file can have");
        self.padding = padded.ok_or_else(no_size)? - stored;
        let mut size = stored;
        let mut segments = None;
        if kind == Kind::Regular
            && let Some((name, real, numbers)) = self.sparse(&header, &mut records.sparse, block)?
        {
            header.name = name.unwrap_or(header.name);
            let map = sparse::map(&numbers, real, self.left);
            segments = Some(map.map_err(|fault| Error::entry(&header.name, fault))?);
            size = real;
        }
        Ok(Entry {
            path: header.name,
            kind,
            link: header.link,
            mode: header.mode,
            user: header.user,
            group: header.group,
            size,
            time: header.time,
            device: header.device,
            xattrs: records.xattrs,
            segments,
        })
    }

    /// Finds what a sparse file is: the name that its records have, its size, and its map.
    #[expect(clippy::type_complexity, reason = "three things that are used at once, a line below")]
    fn sparse(
        &mut self,
        header: &Header,
        records: &mut pax::Sparse,
        block: &[u8; BLOCK],
    ) -> Result<Option<(Option<Vec<u8>>, u64, Vec<u64>)>> {
        let fault = |fault| Error::entry(&header.name, fault);
        if header.role == Role::GnuSparse {
            if header.format != Format::Gnu {
                return Err(fault("is a sparse file of a format that has none"));
            }
            let real = fields::GNU_REAL_SIZE.number(block).and_then(|size| u64::try_from(size).ok());
            let real = real.ok_or_else(|| fault("has a size that is no number"))?;
            return Ok(Some((None, real, self.gnu_map(header, block)?)));
        }
        let name = records.name.take();
        let version = (records.major, records.minor);
        let numbers = match version {
            (Some(1), Some(0) | None) => self.stored_map(header)?,
            (None | Some(0), None | Some(0 | 1)) if records.count.is_some() || !records.map.is_empty() => {
                let numbers = std::mem::take(&mut records.map);
                if records.count.is_some_and(|count| count != numbers.len() as u64 / 2) {
                    return Err(fault("has more or fewer segments than it says"));
                }
                numbers
            }
            (None, None) => return Ok(None),
            _ => return Err(fault("is a sparse file of a version that nobody knows")),
        };
        let real = records.real_size.ok_or_else(|| fault("is a sparse file that does not tell its size"))?;
        Ok(Some((name, real, numbers)))
    }

    /// Reads the map of GNU's older format, from the header and the blocks that follow it.
    fn gnu_map(&mut self, header: &Header, block: &[u8; BLOCK]) -> Result<Vec<u64>> {
        let fault = |fault| Error::entry(&header.name, fault);
        let mut numbers = Vec::new();
        let mut take = |bytes: &[u8]| {
            for pair in bytes.chunks_exact(24) {
                // An empty one is the end.
                if pair[0] == 0 {
                    return Ok(());
                }
                for field in pair.chunks_exact(12) {
                    let number = fields::number(field).and_then(|number| u64::try_from(number).ok());
                    numbers.push(number.ok_or_else(|| fault("has a segment that is no number"))?);
                }
            }
            if sparse::may_hold(numbers.len()) { Ok(()) } else { Err(fault("has a map that is too long")) }
        };
        take(fields::GNU_SPARSE.of(block))?;
        let mut more = block[fields::GNU_EXTENDED] != 0;
        let mut blocks = 0;
        while more {
            let position = self.position;
            let within = "within the map of a sparse file";
            let extension = self.block(within)?.ok_or(Error::Truncated { position, within })?;
            take(&extension[..504])?;
            more = extension[504] != 0;
            // An extension without segments costs nothing, and there could be any number of them.
            blocks += BLOCK as u64;
            if blocks > SPECIAL * 8 {
                return Err(fault("has a map that is too long"));
            }
        }
        Ok(numbers)
    }

    /// Reads the map of version 1.0, which lies before the data: a count and the numbers, one a line, in whole blocks.
    fn stored_map(&mut self, header: &Header) -> Result<Vec<u64>> {
        let fault = |fault| Error::entry(&header.name, fault);
        let mut numbers: Vec<u64> = Vec::new();
        let mut digits = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
            let room = self.left.checked_sub(BLOCK as u64);
            self.left = room.ok_or_else(|| fault("has a map that is longer than its data"))?;
            let position = self.position;
            let within = "within the map of a sparse file";
            let block = self.block(within)?.ok_or(Error::Truncated { position, within })?;
            for byte in block {
                if wanted.is_some_and(|wanted| numbers.len() as u64 == wanted) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number =
                    pax::decimal(&digits).ok_or_else(|| fault("has a map with what is no number"))?;
                digits.clear();
                match wanted {
                    None => {
                        wanted = Some(number.checked_mul(2).ok_or_else(|| fault("has a map without end"))?);
                    }
                    Some(_) => numbers.push(number),
                }
            }
            if !sparse::may_hold(numbers.len()) || digits.len() > 20 {
                return Err(fault("has a map that is too long"));
            }
        }
        Ok(numbers)
    }
}

/// How it is known that an archive is whole. Some programs mark no end, which looks like an archive that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// By the blocks of zeros at its end.
    Marked,
    /// By a digest or a length, which is compared elsewhere.
    Known,
}
