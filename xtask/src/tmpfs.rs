//! Whether something lies in memory.

use std::path::Path;

use anyhow::{Context as _, Result};

/// What statfs(2) says of a tmpfs.
const TMPFS_MAGIC: i128 = 0x0102_1994;

/// Tells whether a file or directory is on a tmpfs.
pub(crate) fn is_at(path: &Path) -> Result<bool> {
    let kind = rustix::fs::statfs(path).with_context(|| format!("look at {}", path.display()))?.f_type;
    Ok(i128::from(kind) == TMPFS_MAGIC)
}
