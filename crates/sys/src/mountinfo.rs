//! The table of mounts that a process sees, proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags};

use crate::Call;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// The number of the mount that it is on.
    pub parent: u64,
    /// Where it is mounted, as the process's root directory has it.
    pub point: PathBuf,
    /// Whether it is mounted read-only, whatever its file system is.
    pub is_readonly: bool,
    /// The type of its file system.
    pub kind: String,
}

/// A directory or file in a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the mount.
    pub mount: u64,
    /// The number of the directory or file in its file system.
    pub inode: u64,
}

/// Looks where a descriptor leads, statx(2).
///
/// # Errors
/// As statx(2).
pub fn place(descriptor: BorrowedFd<'_>) -> crate::Result<Place> {
    rustix::fs::statx(descriptor, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | StatxFlags::INO)
        .map(|found| Place { mount: found.stx_mnt_id, inode: found.stx_ino })
        .call(|| format!("statx({descriptor:?}, \"\", MNT_ID|INO)"))
}

/// Reads the calling process's table, oldest first as a rule.
///
/// # Errors
/// As open(2) and read(2) of `/proc/self/mountinfo`.
pub fn read() -> std::io::Result<Vec<Entry>> {
    Ok(entries(&std::fs::read("/proc/self/mountinfo")?))
}

/// Reads such a table; lines that are none are skipped.
pub fn entries(table: &[u8]) -> Vec<Entry> {
    table.split(|&byte| byte == b'\n').filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(2)?)));
    let is_readonly = fields.next()?.split(|&byte| byte == b',').any(|option| option == b"ro");
    // Optional fields lie between, of which a single dash is the end.
    fields.find(|field| field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Entry { id, parent, point, is_readonly, kind })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the octal escapes of a blank, a tab, a line feed and a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        (rest, _) = match tail {
            [a, b, c, after @ ..] if *first == b'\\' => {
                let digit = |byte: &u8| byte.wrapping_sub(b'0') & 7;
                (after, plain.push(digit(a) << 6 | digit(b) << 3 | digit(c)))
            }
            _ => (tail, plain.push(*first)),
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_where_what_is_mounted() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        let point = PathBuf::from("/mnt 2\\");
        let entry = Entry { id: 36, parent: 35, point, is_readonly: false, kind: "ext3".to_owned() };
        assert_eq!(parse(line), Some(entry));
        let proc = parse(b"36 35 98:0 / /proc nosuid,ro - proc proc rw").unwrap();
        assert_eq!((proc.kind.as_str(), proc.is_readonly), ("proc", true));
    }

    #[test]
    fn what_is_no_line_of_the_table_is_nothing() {
        for line in [&b""[..], b"36", b"a b 98:0 / /proc rw - proc", b"36 35 98:0 / /proc rw shared:2"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
