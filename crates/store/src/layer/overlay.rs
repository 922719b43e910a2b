//! How deletions are written: in archives by names, on disk as overlayfs reads them.
//!
//! | | in an archive | on disk |
//! |---|---|---|
//! | the file `NAME` of lower layers is gone (*whiteout*) | an empty file `.wh.NAME` | a character device 0/0 `NAME` |
//! | all that lower layers have in this directory is gone (*opaque*) | an empty file `.wh..wh..opq` in it | its attribute `overlay.opaque` is `y` |
//!
//! See "Whiteouts" in the OCI image specification, layer.md, and the kernel's Documentation/filesystems/overlayfs.rst,
//! "whiteouts and opaque directories". Since Linux 5.8 whoever may write to a directory may make a device 0/0 in it, so
//! that users without privileges need no other form. What they do need is another name space of attributes.

use std::os::fd::AsFd;

use bulkhead_sys::Call;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

/// The name space of the attributes that overlayfs reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.`, for which CAP_SYS_ADMIN is needed in the first user namespace.
    Trusted,
    /// `user.overlay.`, for a mount with the option `userxattr`, as ordinary users make it.
    User,
}

/// Before the names of attributes which say to overlayfs what a file is. A layer has no business with them.
pub(super) const OWN: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Before the name of what is gone.
pub(super) const WHITEOUT: &[u8] = b".wh.";

/// Before names that mean something of their own.
const RESERVED: &[u8] = b".wh..wh.";

/// The file that makes its directory opaque.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

impl Marks {
    fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// Returns the attribute by which a renamed directory is read from elsewhere in the layers below.
    fn redirect(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.redirect",
            Self::User => "user.overlay.redirect",
        }
    }

    /// Returns the attribute of a file whose contents are in the layers below.
    fn metacopy(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.metacopy",
            Self::User => "user.overlay.metacopy",
        }
    }
}

/// What a name in an archive says about the layers below.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark<'a> {
    /// Nothing: it is a file.
    File,
    /// This name is gone.
    Whiteout(&'a [u8]),
    /// The directory is opaque.
    Opaque,
    /// Something that aufs kept for itself, and that old images still have.
    Reserved,
}

/// Reads a file's name.
pub(super) fn mark(name: &[u8]) -> Mark<'_> {
    if name == OPAQUE {
        return Mark::Opaque;
    }
    if name.starts_with(RESERVED) {
        return Mark::Reserved;
    }
    name.strip_prefix(WHITEOUT).map_or(Mark::File, Mark::Whiteout)
}

/// Says whether a file's type and device number are those of a whiteout.
pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout.
pub(super) fn make_whiteout(directory: impl AsFd, name: &[u8]) -> bulkhead_sys::Result<()> {
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
        .call(|| format!("mknodat({:?}, S_IFCHR, 0)", String::from_utf8_lossy(name)))
}

/// Makes a directory opaque. The descriptor may be one that only stands for a path.
pub(super) fn make_opaque(directory: impl AsFd, marks: Marks) -> bulkhead_sys::Result<()> {
    let opened = bulkhead_sys::path::open_beneath(
        directory,
        std::path::Path::new("."),
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    let name = marks.opaque();
    rustix::fs::fsetxattr(&opened, name, b"y", XattrFlags::empty())
        .call(|| format!("fsetxattr({name}, \"y\")"))
}

/// Says whether a directory, open for reading, is opaque.
pub(super) fn is_opaque(directory: impl AsFd, marks: Marks) -> bulkhead_sys::Result<bool> {
    let mut value = [0_u8; 8];
    match rustix::fs::fgetxattr(directory, marks.opaque(), &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno).call(|| format!("fgetxattr({})", marks.opaque())),
    }
}

/// Says whether what a directory or a file shows lies elsewhere in the layers below, so that it alone is not all.
///
/// Only a mount with `redirect_dir=on` or `metacopy=on` makes such files.
pub(super) fn is_elsewhere(file: impl AsFd, marks: Marks) -> bulkhead_sys::Result<bool> {
    for name in [marks.redirect(), marks.metacopy()] {
        match rustix::fs::fgetxattr(&file, name, &mut [0_u8; 0]) {
            Ok(_) | Err(Errno::RANGE) => return Ok(true),
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno).call(|| format!("fgetxattr({name})")),
        }
    }
    Ok(false)
}

/// Looks at a file without following it.
pub(super) fn look(directory: impl AsFd, name: &[u8]) -> bulkhead_sys::Result<rustix::fs::Stat> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fstatat({:?}, AT_SYMLINK_NOFOLLOW)", String::from_utf8_lossy(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_deletions_are_known() {
        for (name, expected) in [
            (&b"passwd"[..], Mark::File),
            (b"x.wh.y", Mark::File),
            (b".wh", Mark::File),
            (b".wh.passwd", Mark::Whiteout(b"passwd")),
            (b".wh.", Mark::Whiteout(b"")),
            (b".wh..", Mark::Whiteout(b".")),
            (b".wh...", Mark::Whiteout(b"..")),
            (b".wh..hidden", Mark::Whiteout(b".hidden")),
            (b".wh..wh..opq", Mark::Opaque),
            (b".wh..wh.plnk", Mark::Reserved),
            (b".wh..wh.", Mark::Reserved),
        ] {
            assert_eq!(mark(name), expected, "of {:?}", String::from_utf8_lossy(name));
        }
    }
}
