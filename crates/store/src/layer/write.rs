//! The contents of a regular file.

use std::io::BufRead;
use std::os::fd::OwnedFd;

use bulkhead_sys::Call;
use rustix::io::Errno;

use super::archive::{Archive, Entry, Segment};
use super::{Error, Result};

/// Writes an entry's contents into a new file, and returns how many bytes were stored.
pub(super) fn contents<R: BufRead>(file: &OwnedFd, entry: &Entry, archive: &mut Archive<R>) -> Result<u64> {
    let failed = Error::machine("write", &entry.path);
    let Some(segments) = &entry.segments else {
        return whole(file, entry, archive);
    };
    let mut stored = 0;
    // The reader has compared the map with the data: they are of one length.
    for Segment { offset, length } in segments {
        let (mut offset, mut left) = (*offset, *length);
        while left > 0 {
            let piece = archive.data()?;
            let part = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if part == 0 {
                break;
            }
            write_at(file, &piece[..part], offset).map_err(failed)?;
            archive.consume(part);
            offset += part as u64;
            left -= part as u64;
            stored += part as u64;
        }
    }
    rustix::fs::ftruncate(file, entry.size).call(|| format!("ftruncate({})", entry.size)).map_err(failed)?;
    Ok(stored)
}

fn whole<R: BufRead>(file: &OwnedFd, entry: &Entry, archive: &mut Archive<R>) -> Result<u64> {
    let mut stored = 0;
    loop {
        let piece = archive.data()?;
        if piece.is_empty() {
            return Ok(stored);
        }
        let written = match rustix::io::write(file, piece) {
            Err(Errno::INTR) => continue,
            written => written.call(|| "write"),
        };
        let written = written.map_err(Error::machine("write", &entry.path))?;
        archive.consume(written);
        stored += written as u64;
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> bulkhead_sys::Result<()> {
    while !bytes.is_empty() {
        let written = match rustix::io::pwrite(file, bytes, offset) {
            Err(Errno::INTR) => continue,
            written => written.call(|| format!("pwrite(offset {offset})"))?,
        };
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}
