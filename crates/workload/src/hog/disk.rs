//! Writes a file round and round, and makes the disk have it.

use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::Share;
use crate::error::{Error, Result};
use crate::pace::{now, sleep_until};
use crate::scratch;

const MIB: u64 = 1 << 20;

/// MiB after which the hog waits for the disk.
const DIRTY: u64 = 8;

/// What passes before a full disk is tried again.
const PAUSE: u64 = 10_000_000;

pub(super) fn live(share: &Share<'_>) -> Result<()> {
    let file = scratch::file(share.directory)?;
    let mut block = vec![0; MIB as usize];
    let (mut place, mut written, mut longest) = (0, 0_u64, 0);
    while now() < share.end {
        // Blocks that are the same might be written once only.
        block[..8].copy_from_slice(&written.to_le_bytes());
        match file.write_all_at(&block, place * MIB) {
            Ok(()) => {
                written += 1;
                place += 1;
                longest = longest.max(place);
                share.slot.count(1);
                share.slot.hold(longest);
            }
            Err(error) if is_full(&error) => {
                share.slot.refuse();
                sleep_until(now() + PAUSE);
                place = 0;
            }
            Err(error) => return Err(Error::io("write to a file")(error)),
        }
        if place == share.mib as u64 {
            place = 0;
        }
        if written % DIRTY == 0 {
            match file.sync_data() {
                Err(error) if is_full(&error) => share.slot.refuse(),
                other => other.map_err(Error::io("fdatasync"))?,
            }
        }
    }
    Ok(())
}

/// Tells whether a write failed because the hog took too much, which is what it is for.
fn is_full(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}
