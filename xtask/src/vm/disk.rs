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

/// Where the partition begins on a disk that has one.
const PARTITION: u64 = 1 << 20;

/// How a guest finds a disk. Newer kernels number disks in the order in which they happen to answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    /// The label of a file system that takes the whole disk, for mount(8).
    Label(&'static str),
    /// The signature of a disk whose first partition holds the file system, for the kernel.
    Signature(u32),
}

/// Makes an ext4 image that holds a directory's contents and has `free` bytes left.
pub(super) fn from_directory(directory: &Path, image: &Path, free: u64, name: Name) -> Result<()> {
    let content = size(directory).with_context(|| format!("add up {}", directory.display()))?;
    let bytes = (content + content / 8 + OVERHEAD + free).next_multiple_of(1 << 20);
    let mut make = Command::new(mke2fs());
    // No journal and nothing left to initialise: it is written once, then read or thrown away.
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E"]);
    let options = "lazy_itable_init=0,root_owner=0:0";
    match name {
        Name::Label(label) => make.args([options, "-L", label]),
        Name::Signature(signature) => {
            let table = partition_table(signature, bytes)?;
            fs::write(image, table).with_context(|| format!("write {}", image.display()))?;
            make.arg(format!("{options},offset={PARTITION}"))
        }
    };
    make.arg("-d").arg(directory).arg(image).arg(format!("{}k", bytes / 1024));
    invoke::quietly(&mut make)
}

/// The first sector of a disk with one Linux partition of so many bytes, as the first PC had it.
fn partition_table(signature: u32, bytes: u64) -> Result<[u8; 512]> {
    const SECTOR: u64 = 512;
    const LINUX: u8 = 0x83;
    let mut table = [0; 512];
    table[440..444].copy_from_slice(&signature.to_le_bytes());
    table[450] = LINUX;
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR).context("a partition of 2 TiB or more");
    table[454..458].copy_from_slice(&sectors(PARTITION)?.to_le_bytes());
    table[458..462].copy_from_slice(&sectors(bytes)?.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xAA]);
    Ok(table)
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
