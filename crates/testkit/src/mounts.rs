//! Mounts as `/proc/PID/mountinfo` lists them, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fail::OrFail;

/// One line of a mountinfo file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The number of the mount.
    pub id: u32,
    /// The device, `major:minor`.
    pub device: String,
    /// The directory of the file system that is the root of the mount.
    pub root: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The type of file system.
    pub kind: String,
    /// The line as it stands.
    pub line: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let fields: Vec<&str> = line.split(' ').collect();
        let separator = fields.iter().position(|&field| field == "-")?;
        Some(Mount {
            id: fields.first()?.parse().ok()?,
            device: (*fields.get(2)?).to_owned(),
            root: (*fields.get(3)?).to_owned(),
            point: PathBuf::from(unescape(fields.get(4)?)),
            kind: (*fields.get(separator + 1)?).to_owned(),
            line: line.to_owned(),
        })
    }
}

/// The mounts of the namespace of this process, watched for every change, however short: best in a namespace of the test's own.
#[derive(Debug)]
pub struct Table(File);

impl Table {
    /// Begins to watch.
    ///
    /// # Panics
    /// When /proc is not mounted.
    #[track_caller]
    pub fn watch() -> Table {
        Table(File::open("/proc/self/mountinfo").or_fail("open /proc/self/mountinfo"))
    }

    /// Tells whether something was mounted, moved or unmounted since the last time, proc_pid_mounts(5).
    ///
    /// # Panics
    /// When the kernel does not tell.
    #[track_caller]
    pub fn has_changed(&self) -> bool {
        let mut file = [PollFd::new(&self.0, PollFlags::PRI)];
        poll(&mut file, Some(&Timespec::default())).or_fail("ask whether mounts have changed");
        file[0].revents().contains(PollFlags::PRI)
    }
}

/// Lists the mounts that this process sees.
pub fn own() -> Vec<Mount> {
    of("self")
}

/// Lists the mounts that a process sees; none when it is gone or may not be looked at.
pub(crate) fn of(process: &str) -> Vec<Mount> {
    let bytes = fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(Mount::parse).collect()
}

/// Resolves the octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> OsString {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read() {
        let line = r"36 35 98:0 /mnt1 /a\040b\134c rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.root.as_str(), mount.kind.as_str()), (36, "/mnt1", "ext3"));
        assert_eq!(mount.point, PathBuf::from(r"/a b\c"));
        assert_eq!(Mount::parse("36 35 98:0 /mnt1 /mnt2 rw"), None);
    }

    #[test]
    fn the_root_of_this_process_is_a_mount() {
        assert!(own().iter().any(|mount| mount.point == std::path::Path::new("/")));
    }
}
