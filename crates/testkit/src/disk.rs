//! Disks, whose rates tests limit.

use std::fs;
use std::path::PathBuf;

/// A whole disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its node, such as `/dev/vda`.
    pub node: PathBuf,
    /// Its numbers, major and minor.
    pub numbers: (u32, u32),
}

impl Disk {
    /// Finds one that is no file and no memory, and whose node is there.
    pub fn find() -> Option<Disk> {
        fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
            let (node, place) = (PathBuf::from("/dev").join(entry.file_name()), entry.path());
            if !place.join("device").exists() || !node.exists() {
                return None;
            }
            let numbers = fs::read_to_string(place.join("dev")).ok()?;
            let (major, minor) = numbers.trim().split_once(':')?;
            Some(Disk { node, numbers: (major.parse().ok()?, minor.parse().ok()?) })
        })
    }
}
