//! What mount_setattr(2) does, by mount(2): for Linux before 5.12.
//!
//! mount(2) has three limits that the new call has not. It changes attached mounts only, so whoever makes one attaches
//! it first ([`crate::mount::is_by_remount`]). It sets all attributes at once, so those of the mount are read before. And
//! it changes one mount at a time, so those below are looked up in the table of mounts; each is opened below the first
//! one's root without following a link, and used only if it has the number that the table says.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};

use crate::mount::{Reach, attribute};
use crate::{Call, Result, mountinfo, path};

/// The attributes by which ST_* flags, which tell what holds, are numbered alike.
const ALIKE: u64 = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
/// ST_NOSYMFOLLOW, which the C library does not know.
const ST_NOSYMFOLLOW: u64 = 0x2000;
/// MS_NOSYMFOLLOW, since Linux 5.10.
const MS_NOSYMFOLLOW: u32 = 0x100;

/// Sets the attribute bits `set` and clears `clear` of an attached mount, and of those below it if asked to.
///
/// # Errors
/// EPERM where a locked attribute would change, ESTALE when a mount below cannot be reached.
#[cold]
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64, reach: Reach) -> Result<()> {
    if reach == Reach::Tree {
        for below in below(mount)? {
            set_attributes(below.as_fd(), set, clear, Reach::Mount)?;
        }
    }
    let flags = flags(attributes(mount)? & !clear | set);
    at(mount, |point| mount_remount(point, MountFlags::BIND | flags, c""))
        .call(|| format!("mount(NULL, {mount:?}, NULL, REMOUNT | BIND | {flags:?})"))
}

/// Changes the propagation of an attached mount.
///
/// # Errors
/// EINVAL when it is not attached in the caller's mount namespace.
#[cold]
pub(crate) fn set_propagation(mount: BorrowedFd<'_>, bits: u64, reach: Reach) -> Result<()> {
    let mut flags = MountPropagationFlags::from_bits_retain(bits as u32);
    flags.set(MountPropagationFlags::REC, reach == Reach::Tree);
    at(mount, |point| mount_change(point, flags)).call(|| format!("mount(NULL, {mount:?}, NULL, {flags:?})"))
}

/// The attributes that hold for a mount, as bits of mount_setattr(2).
fn attributes(mount: BorrowedFd<'_>) -> Result<u64> {
    let found = rustix::fs::fstatvfs(mount).call(|| format!("fstatvfs({mount:?})"))?.f_flag;
    let mut bits = found.bits() & ALIKE;
    if found.bits() & ST_NOSYMFOLLOW != 0 {
        bits |= attribute::NOSYMFOLLOW;
    }
    if found.contains(StatVfsMountFlags::NODIRATIME) {
        bits |= attribute::NODIRATIME;
    }
    Ok(bits
        | if found.contains(StatVfsMountFlags::NOATIME) {
            attribute::NOATIME
        } else if found.contains(StatVfsMountFlags::RELATIME) {
            attribute::RELATIME
        } else {
            attribute::STRICTATIME
        })
}

/// The flags of mount(2) for bits of mount_setattr(2).
fn flags(bits: u64) -> MountFlags {
    let mut flags = MountFlags::from_bits_retain((bits & ALIKE) as u32);
    flags.set(MountFlags::NODIRATIME, bits & attribute::NODIRATIME != 0);
    flags.set(MountFlags::from_bits_retain(MS_NOSYMFOLLOW), bits & attribute::NOSYMFOLLOW != 0);
    flags
        | match bits & attribute::ATIME {
            attribute::NOATIME => MountFlags::NOATIME,
            attribute::STRICTATIME => MountFlags::STRICTATIME,
            _ => MountFlags::RELATIME,
        }
}

/// Opens every mount below `mount`, as far as it can be seen: what is hidden under another of them stays as it is, since
/// who could lay it bare could change it too.
fn below(mount: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let stale = |point: &Path| Err(Errno::STALE).call(|| format!("openat2(mount, {point:?})"));
    let table = mountinfo::read().call(|| "read(\"/proc/self/mountinfo\")")?;
    let top = mountinfo::place(mount)?.mount;
    let Some(base) = table.iter().find(|entry| entry.id == top) else { return stale(Path::new("")) };
    let mut tree = vec![top];
    // A mount that was moved comes before the one that it is on.
    loop {
        let known = tree.len();
        for entry in table.iter().filter(|entry| entry.point != base.point) {
            if tree.contains(&entry.parent) && !tree.contains(&entry.id) {
                tree.push(entry.id);
            }
        }
        if tree.len() == known {
            break;
        }
    }
    let mut opened = Vec::new();
    for entry in table.iter().filter(|entry| entry.id != top && tree.contains(&entry.id)) {
        let point = entry.point.strip_prefix(&base.point).unwrap_or(&entry.point);
        let found = path::open_beneath(mount, point, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        match mountinfo::place(found.as_fd())?.mount {
            number if number == entry.id => opened.push(found),
            number if tree.contains(&number) => {}
            _ => return stale(point),
        }
    }
    Ok(opened)
}

/// Acts on the mount behind a descriptor, although mount(2) takes paths only.
///
/// A directory becomes the working directory, which no link can exchange. What is none, or cannot be entered, is named
/// by its entry among the process's descriptors, once that is seen to be the kernel's list and nobody's directory.
fn at(
    mount: BorrowedFd<'_>,
    act: impl Fn(&str) -> std::result::Result<(), Errno>,
) -> std::result::Result<(), Errno> {
    if rustix::process::fchdir(mount).is_ok() {
        return act(".");
    }
    let list = rustix::fs::openat(
        CWD,
        "/proc/self/fd",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if rustix::fs::fstatfs(&list)?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::NOSYS);
    }
    rustix::process::fchdir(&list)?;
    act(&mount.as_raw_fd().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_has_its_flag() {
        use attribute::{NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, STRICTATIME};
        for (bits, expected) in [
            (0, MountFlags::RELATIME),
            (RDONLY | NOSUID, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::RELATIME),
            (NODEV | NOEXEC | NOATIME, MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME),
            (STRICTATIME | NODIRATIME, MountFlags::STRICTATIME | MountFlags::NODIRATIME),
            (NOSYMFOLLOW, MountFlags::from_bits_retain(0x100) | MountFlags::RELATIME),
        ] {
            assert_eq!(flags(bits), expected, "{bits:#x}");
        }
    }
}
