//! File systems in files, made without mounting anything.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::invoke;

/// Blocks, inodes and directories of a file system take this much of it at most.
const OVERHEAD: u64 = 16 << 20;

/// Makes an ext4 image that holds a directory's contents and has `free` bytes left.
pub(super) fn from_directory(directory: &Path, image: &Path, free: u64) -> Result<()> {
    let content = size(directory).with_context(|| format!("add up {}", directory.display()))?;
    let bytes = content + content / 8 + OVERHEAD + free;
    let mut make = Command::new(mke2fs());
    // No journal and nothing left to initialise: it is written once, then read or thrown away.
    make.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-E",
        "lazy_itable_init=0,root_owner=0:0",
        "-d",
    ]);
    make.arg(directory).arg(image).arg(format!("{}k", bytes.div_ceil(1024)));
    invoke::quietly(&mut make)
}

/// An ordinary user's PATH has no sbin.
fn mke2fs() -> &'static OsStr {
    let program = if invoke::in_path("mke2fs") { "mke2fs" } else { "/sbin/mke2fs" };
    OsStr::new(program)
}

/// Bytes of all files, in whole blocks.
fn size(directory: &Path) -> io::Result<u64> {
    const BLOCK: u64 = 4096;
    let mut total = BLOCK;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += match metadata.is_dir() {
            true => size(&entry.path())?,
            false => metadata.size().next_multiple_of(BLOCK),
        };
    }
    Ok(total)
}
