//! What a layer may take at most: a small file can hold an archive without end.

use super::{Error, Result};

/// Bounds of one layer. The defaults leave room for what people have: the largest images of machine learning have layers
/// of some tens of gigabytes, and half a million files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive, and bytes of all files with their holes.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of a path. The kernel takes no more than 4096 at once, so neither would a container.
    pub name: usize,
    /// Directories above a file.
    pub depth: usize,
    /// Uncompressed bytes for each compressed one, once there is more than a gigabyte of them. gzip reaches 1030 for
    /// nothing but zeros, and files of programs and data reach 3 to 10.
    pub ratio: u64,
    /// Bytes of what is kept in memory for the end: names of directories, and their attributes.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 1 << 22, name: 4096, depth: 1024, ratio: 400, memory: 128 << 20 }
    }
}

/// So much may come out of any stream: up to here a bomb is small enough to be unpacked and removed.
const HARMLESS: u64 = 1 << 30;

impl Limits {
    /// Compares what came out of a stream with what went in.
    pub(super) fn check_stream(&self, length: u64, compressed: u64) -> Result<()> {
        self.check_bytes(length, None)?;
        if length > HARMLESS && length / compressed.max(1) > self.ratio {
            return Err(Error::Limit { entry: None, of: "bytes for each compressed one", limit: self.ratio });
        }
        Ok(())
    }

    pub(super) fn check_bytes(&self, bytes: u64, entry: Option<&[u8]>) -> Result<()> {
        Self::compare(bytes, self.bytes, "bytes", entry)
    }

    pub(super) fn check_entries(&self, entries: u64, entry: &[u8]) -> Result<()> {
        Self::compare(entries, self.entries, "entries", Some(entry))
    }

    pub(super) fn check_memory(&self, bytes: usize, entry: &[u8]) -> Result<()> {
        Self::compare(
            bytes as u64,
            self.memory as u64,
            "bytes of names and attributes of directories",
            Some(entry),
        )
    }

    fn compare(found: u64, limit: u64, of: &'static str, entry: Option<&[u8]>) -> Result<()> {
        if found <= limit {
            return Ok(());
        }
        Err(Error::Limit { entry: entry.map(<[u8]>::to_vec), of, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_seen_by_its_ratio() {
        let limits = Limits::default();
        for (length, compressed, fits) in [
            (0, 0, true),
            (1 << 30, 1, true),
            ((1 << 30) + 1, 1 << 20, false),
            (10 << 30, 100 << 20, true),
            (257 << 30, 100 << 30, false),
        ] {
            assert_eq!(limits.check_stream(length, compressed).is_ok(), fits, "{length} of {compressed}");
        }
    }
}
