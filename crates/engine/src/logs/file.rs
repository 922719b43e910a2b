//! One file of a log, read line by line.

use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::{Doing, Result};

/// How much is looked through at once for the beginning of the last lines.
const BLOCK: u64 = 64 << 10;

/// A file, and what was read of the line that is not whole yet.
#[derive(Debug)]
pub(super) struct File {
    reader: BufReader<std::fs::File>,
    inode: u64,
    line: Vec<u8>,
    is_fresh: bool,
}

impl File {
    /// Opens a file; `None` when it is not there.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.doing(|| format!("open {}", path.display()))?,
        };
        let inode = file.metadata().doing(|| format!("stat {}", path.display()))?.ino();
        let reader = BufReader::with_capacity(BLOCK as usize, file);
        Ok(Some(Self { reader, inode, line: Vec::new(), is_fresh: true }))
    }

    /// Returns what the file is known by, whatever its name becomes.
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Tells whether nothing was asked of it yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Returns the next whole line.
    pub(super) fn line(&mut self) -> io::Result<Option<&[u8]>> {
        self.is_fresh = false;
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        self.reader.read_until(b'\n', &mut self.line)?;
        Ok((self.line.last() == Some(&b'\n')).then_some(&self.line[..]))
    }

    /// Tells whether it has grown since the last line.
    pub(super) fn has_more(&mut self) -> io::Result<bool> {
        Ok(self.is_fresh || !self.reader.fill_buf()?.is_empty())
    }

    /// Goes to the beginning of the last `count` lines, or of the file, and returns how many lines follow.
    pub(super) fn skip_to_last(&mut self, count: u64) -> io::Result<u64> {
        let mut end = self.reader.get_ref().metadata()?.len();
        let mut found = 0;
        let mut block = Vec::new();
        // The newline that ends the last wanted line but one is where reading begins: one more than `count`.
        while end > 0 {
            let begin = end.saturating_sub(BLOCK);
            block.clear();
            self.reader.seek(SeekFrom::Start(begin))?;
            self.reader.by_ref().take(end - begin).read_to_end(&mut block)?;
            for (offset, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                if found == count {
                    self.reader.seek(SeekFrom::Start(begin + offset as u64 + 1))?;
                    return Ok(count);
                }
                found += 1;
            }
            end = begin;
        }
        self.reader.seek(SeekFrom::Start(0))?;
        Ok(found)
    }
}
