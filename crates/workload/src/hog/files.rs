//! Opens files and keeps them, as many as it may.

use std::fs::File;

use rustix::io::Errno;

use super::Share;
use crate::error::{Error, Result};
use crate::pace::{now, sleep_until};
use crate::this_program;

/// The most that one process opens, however many it may.
const MOST: usize = 10_000;

/// What passes before it tries again, when it has all that it gets.
const PAUSE: u64 = 10_000_000;

pub(super) fn live(share: &Share<'_>) -> Result<()> {
    let program = this_program::path()?;
    let mut files = Vec::new();
    while now() < share.end {
        if files.len() == MOST {
            sleep_until(now() + PAUSE);
            continue;
        }
        match File::open(&program) {
            Ok(file) => {
                files.push(file);
                share.slot.count(1);
                share.slot.hold(files.len() as u64);
            }
            Err(error) if is_a_limit(&error) => {
                share.slot.refuse();
                sleep_until(now() + PAUSE);
            }
            Err(error) => return Err(Error::io("open this program's file")(error)),
        }
    }
    Ok(())
}

/// Tells whether a file was not opened because the hog took too much, which is what it is for.
fn is_a_limit(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}
