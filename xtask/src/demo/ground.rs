//! How a root is made of what lies at the top of this machine's `/`.
//!
//! An overlay over `/` is the simplest, but it shows submounts as empty directories and the kernel refuses it in
//! a user namespace. So it is taken for root on a machine without submounts; everywhere else the root is a fresh
//! directory in memory on which each entry of `/` is put in its own way, see [`Piece`].

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::user::User;

/// Made anew for every container; `/run` too (only in pieces), because its sockets lead to the host's daemons.
const FRESH: &[&str] = &["proc", "sys", "dev"];

/// The container's root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One overlay over `/`.
    Whole,
    /// Entry by entry, by name.
    Pieces(Vec<(String, Piece)>),
}

/// What becomes of one entry of `/`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A link, copied with this target.
    Link(PathBuf),
    /// A directory without submounts: an overlay.
    Overlay,
    /// A directory with submounts: bound with them, and the whole tree read-only.
    Bound,
    /// A directory that the caller cannot read: an empty one takes its place.
    Empty,
    /// A directory whose files belong to running daemons: an empty tmpfs takes its place.
    Tmpfs,
}

/// An entry of `/` as it was found.
struct Entry {
    name: String,
    kind: Kind,
}

enum Kind {
    Link(PathBuf),
    Directory { readable: bool },
}

impl Layout {
    pub(super) fn of_this_machine(user: &User) -> Result<Self> {
        let mounts = fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        Ok(Self::decide(entries(Path::new("/"))?, &mount_points(&mounts), user.is_root()))
    }

    fn decide(entries: Vec<Entry>, mounts: &[PathBuf], is_root: bool) -> Self {
        let below =
            |directory: &Path| mounts.iter().any(|mount| mount.starts_with(directory) && mount != directory);
        let fresh = |mount: &Path| FRESH.iter().any(|name| mount.starts_with(Path::new("/").join(name)));
        let plain = mounts.iter().all(|mount| mount == Path::new("/") || fresh(mount));
        if is_root && plain {
            return Self::Whole;
        }
        let pieces = entries.into_iter().filter(|entry| !FRESH.contains(&entry.name.as_str()));
        let decided = pieces.map(|Entry { name, kind }| {
            let piece = match kind {
                Kind::Link(target) => Piece::Link(target),
                Kind::Directory { .. } if name == "run" => Piece::Tmpfs,
                Kind::Directory { readable: false } => Piece::Empty,
                Kind::Directory { readable: true } if below(&Path::new("/").join(&name)) => Piece::Bound,
                Kind::Directory { readable: true } => Piece::Overlay,
            };
            (name, piece)
        });
        Self::Pieces(decided.collect())
    }

    /// What the user should know about this root.
    pub(super) fn notes(&self, user: &User) -> Vec<String> {
        let mut notes = Vec::new();
        match self {
            Self::Whole => notes.push("root: an overlay over /".to_owned()),
            Self::Pieces(pieces) => {
                let named = |wanted: &Piece| {
                    let names =
                        pieces.iter().filter(|(_, piece)| piece == wanted).map(|(name, _)| name.as_str());
                    Vec::from_iter(names).join(" ")
                };
                notes.push(format!("root: overlays over {}", named(&Piece::Overlay)));
                for (piece, what) in [
                    (Piece::Bound, "read-only, as other file systems are mounted in it"),
                    (Piece::Empty, "empty, as you cannot read it"),
                ] {
                    let names = named(&piece);
                    if !names.is_empty() {
                        notes.push(format!("      {what}: {names}"));
                    }
                }
            }
        }
        if !user.is_root() {
            notes.push(
                "no cgroup limits: an ordinary user may set none without a delegated cgroup".to_owned(),
            );
        }
        notes
    }
}

/// Links and directories in `directory`, sorted; files at the top (swap files, say) are left out.
fn entries(directory: &Path) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in directory.read_dir().with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let file_type = entry.file_type()?;
        if file_type.is_symlink() {
            found.push(Entry { name, kind: Kind::Link(entry.path().read_link()?) });
        } else if file_type.is_dir() {
            let readable = entry.path().read_dir().is_ok();
            found.push(Entry { name, kind: Kind::Directory { readable } });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The fifth field of every line of mountinfo, with its octal escapes undone.
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    Vec::from_iter(fields.map(|field| PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field)))))
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> Entry {
        Entry { name: name.to_owned(), kind: Kind::Directory { readable: true } }
    }

    fn paths(mounts: &[&str]) -> Vec<PathBuf> {
        mounts.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn root_without_submounts_gets_one_overlay() {
        let mounts = paths(&["/", "/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts"]);
        assert_eq!(Layout::decide(vec![directory("usr")], &mounts, true), Layout::Whole);
    }

    #[test]
    fn submounts_or_an_ordinary_user_need_pieces() {
        let mounts = paths(&["/", "/proc", "/home", "/var/lib/docker", "/run/user/1000"]);
        let entries = || {
            vec![
                Entry { name: "bin".to_owned(), kind: Kind::Link("usr/bin".into()) },
                directory("dev"),
                directory("home"),
                directory("proc"),
                Entry { name: "root".to_owned(), kind: Kind::Directory { readable: false } },
                directory("run"),
                directory("sys"),
                directory("usr"),
                directory("var"),
            ]
        };
        let expected = || {
            let pieces = [
                ("bin", Piece::Link("usr/bin".into())),
                ("home", Piece::Overlay),
                ("root", Piece::Empty),
                ("run", Piece::Tmpfs),
                ("usr", Piece::Overlay),
                ("var", Piece::Bound),
            ];
            Layout::Pieces(pieces.into_iter().map(|(name, piece)| (name.to_owned(), piece)).collect())
        };
        assert_eq!(Layout::decide(entries(), &mounts, true), expected());
        assert_eq!(Layout::decide(entries(), &mounts, false), expected());
        let plain = Layout::decide(vec![directory("usr")], &paths(&["/"]), false);
        assert_eq!(plain, Layout::Pieces(vec![("usr".to_owned(), Piece::Overlay)]));
    }

    #[test]
    fn mount_points_are_unescaped() {
        let text = b"36 35 98:0 / /a\\040b rw - ext4 /dev/x rw\n37 35 98:0 / /c\\x rw - ext4 /dev/x rw\n";
        assert_eq!(mount_points(text), paths(&["/a b", "/c\\x"]));
    }
}
