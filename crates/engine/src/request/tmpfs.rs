//! `--tmpfs DESTINATION[:OPTIONS]`, and the options that a tmpfs may have.

use super::mount::{Access, Mount, MountKind, Tmpfs, destination};
use super::{Malformed, Size};

const NOUN: &str = "tmpfs";

/// Options without a value: flags of the mount, and what the file system takes.
const WORDS: [&str; 23] = [
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "noswap",
    "tmpcopyup",
    "notmpcopyup",
    "defaults",
];

/// Options with a value, tmpfs(5).
const KEYS: [&str; 7] = ["mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"];

/// Reads one `--tmpfs`.
pub(super) fn read(text: &str) -> Result<Mount, Malformed> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = Tmpfs::default();
    let mut access = Access::ReadWrite;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let wrong = |reason: &str| Malformed::new(NOUN, text, reason);
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("ro", None) => access = Access::ReadOnly,
            ("rw", None) => access = Access::ReadWrite,
            ("notmpcopyup" | "defaults", None) => {}
            ("size", Some(value)) if value.ends_with('%') => tmpfs.options.push(option.to_owned()),
            ("size", Some(value)) => tmpfs.size = Some(size(text, value)?),
            ("mode", Some(value)) => tmpfs.mode = Some(mode(text, value)?),
            (key, None) if WORDS.contains(&key) => tmpfs.options.push(key.to_owned()),
            (key, Some(value)) if KEYS.contains(&key) && !value.is_empty() => {
                tmpfs.options.push(option.to_owned());
            }
            _ => return Err(wrong(&format!("{option:?} is no option of a tmpfs, tmpfs(5)"))),
        }
    }
    Ok(Mount { destination: destination(NOUN, text, path)?, access, kind: MountKind::Tmpfs(tmpfs) })
}

/// Reads a size in bytes.
pub(super) fn size(whole: &str, text: &str) -> Result<Size, Malformed> {
    text.parse().map_err(|error: Malformed| error.within(NOUN, whole))
}

/// Reads permission bits in octal.
pub(super) fn mode(whole: &str, text: &str) -> Result<u32, Malformed> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| mode <= 0o7777);
    mode.ok_or_else(|| Malformed::new(NOUN, whole, "the mode is octal, such as 1777"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tmpfs(text: &str) -> Result<(String, Access, Tmpfs), String> {
        let mount = read(text).map_err(|error| error.to_string())?;
        match mount.kind {
            MountKind::Tmpfs(tmpfs) => Ok((mount.destination, mount.access, tmpfs)),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_tmpfs_has_options() {
        assert_eq!(tmpfs("/run"), Ok(("/run".to_owned(), Access::ReadWrite, Tmpfs::default())));
        let (destination, access, read) = tmpfs("/run:ro,size=64m,mode=1777,noexec,uid=7,,defaults").unwrap();
        assert_eq!((destination.as_str(), access), ("/run", Access::ReadOnly));
        assert_eq!((read.size, read.mode), (Some(Size(64 << 20)), Some(0o1777)));
        assert_eq!(read.options, ["noexec", "uid=7"]);
        assert_eq!(tmpfs("/run:size=50%").unwrap().2.options, ["size=50%"]);
        for text in [
            "",
            "run",
            "/",
            "/run:foo",
            "/run:mode=9",
            "/run:size=x",
            "/run:uid=",
            "/run:bind",
            "/run:remount",
        ] {
            assert!(tmpfs(text).is_err(), "{text}");
        }
    }
}
