//! Writing a block and waiting until it is on the disk.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::Work;
use crate::error::{Error, Result};
use crate::scratch;

const BLOCK: usize = 4096;

/// Blocks of the file, which is written round and round.
const BLOCKS: u64 = 4096;

struct Writing {
    file: File,
    block: [u8; BLOCK],
    written: u64,
}

pub(super) fn begin(directory: &Path) -> Result<Box<dyn Work>> {
    Ok(Box::new(Writing { file: scratch::file(directory)?, block: [0; BLOCK], written: 0 }))
}

impl Work for Writing {
    fn turn(&mut self) -> Result<()> {
        self.block[..8].copy_from_slice(&self.written.to_le_bytes());
        let place = self.written % BLOCKS * BLOCK as u64;
        self.file.write_all_at(&self.block, place).map_err(Error::io("write to a file"))?;
        self.file.sync_all().map_err(Error::io("fsync"))?;
        self.written += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let mut block = [0; BLOCK];
        let place = (self.written - 1) % BLOCKS * BLOCK as u64;
        self.file.read_exact_at(&mut block, place).map_err(Error::io("read a file"))?;
        if block == self.block {
            Ok(())
        } else {
            Err(Error::Wrong("the last block is not what was written".to_owned()))
        }
    }
}
