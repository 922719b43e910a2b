//! The descriptor-based mount interface: fsopen(2), fsmount(2), open_tree(2), mount_setattr(2), move_mount(2).
//!
//! A mount carries its final attributes before it is attached, so that no moment exists in which it is visible
//! with weaker ones, and it is attached to a descriptor, so that no path is walked twice.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string,
};

use rustix::io::Errno;

use crate::syscall::check;
use crate::{Call, Result, remount};

/// The attributes of a mount, as mount_setattr(2) takes them (`struct mount_attr`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Attribute bits of mount_setattr(2) that are set or cleared.
pub mod attribute {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID and set-group-ID bits and file capabilities have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device special files cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The mask of the access-time settings, of which one holds.
    pub const ATIME: u64 = 0x70;
    /// Access times are updated relative to the modification time (the value 0 of the mask).
    pub const RELATIME: u64 = 0x0;
    /// Access times are not updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// The mount maps identities by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// How mount events spread between a mount and its peers, see mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Events go neither in nor out.
    Private,
    /// Events go both ways.
    Shared,
    /// Events come in only.
    Slave,
    /// As private, and it cannot be bind-mounted.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

impl Attributes {
    /// Sets the bits of `set` and clears those of `clear`, see [`attribute`].
    pub fn new(set: u64, clear: u64) -> Self {
        Self { set, clear, ..Self::default() }
    }

    /// Changes the propagation too.
    #[must_use]
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation.bits();
        self
    }

    /// Maps the identities of the mount by the user namespace `userns`, which must stay open until the call.
    #[must_use]
    pub fn with_idmap(mut self, userns: BorrowedFd<'_>) -> Self {
        self.set |= attribute::IDMAP;
        self.userns_fd = userns.as_raw_fd().unsigned_abs().into();
        self
    }

    /// Tells whether the call would change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The bits of `attr_set` and `attr_clr`, by their names; a whole mask is one of them.
const NAMES: [(&str, u64); 10] = [
    ("RDONLY", attribute::RDONLY),
    ("NOSUID", attribute::NOSUID),
    ("NODEV", attribute::NODEV),
    ("NOEXEC", attribute::NOEXEC),
    ("_ATIME", attribute::ATIME),
    ("NOATIME", attribute::NOATIME),
    ("STRICTATIME", attribute::STRICTATIME),
    ("NODIRATIME", attribute::NODIRATIME),
    ("IDMAP", attribute::IDMAP),
    ("NOSYMFOLLOW", attribute::NOSYMFOLLOW),
];

impl fmt::Display for Attributes {
    /// Writes the members that are set as strace(1) does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, clear, propagation, userns_fd } = *self;
        let mut separator = "";
        for (member, bits) in [("attr_set", set), ("attr_clr", clear)] {
            let mut left = bits;
            for (name, value) in NAMES.into_iter().filter(|_| bits != 0) {
                if left & value == value {
                    let before = if left == bits { format!("{separator}{member}=") } else { "|".to_owned() };
                    write!(f, "{before}MOUNT_ATTR_{name}")?;
                    left &= !value;
                    separator = ", ";
                }
            }
        }
        for (member, value) in [("propagation", propagation), ("userns_fd", userns_fd)] {
            if value != 0 {
                write!(f, "{separator}{member}={value:#x}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// Whether a call reaches the submounts of a mount too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The mount alone.
    Mount,
    /// The mount and all below it (AT_RECURSIVE).
    Tree,
}

/// Whether the kernel was seen to lack mount_setattr(2); a cloned process knows what its maker has seen.
static BY_REMOUNT: AtomicBool = AtomicBool::new(false);

/// Tells whether the kernel was seen to change attached mounts only, as before Linux 5.12.
pub fn is_by_remount() -> bool {
    BY_REMOUNT.load(Ordering::Relaxed)
}

/// Changes the attributes of the attached mount whose root `mount` is; before Linux 5.12 by mount(2), which makes that
/// the working directory, or one of procfs.
///
/// # Errors
/// As [`set_attributes`], but for ENOSYS, which remains for an idmapping.
pub fn set_attached(mount: BorrowedFd<'_>, attributes: Attributes, reach: Reach) -> Result<()> {
    let error = match set_attributes(mount, attributes, reach) {
        Err(error) if error.errno() == Errno::NOSYS && attributes.userns_fd == 0 => error,
        other => return other,
    };
    let Attributes { set, clear, propagation, .. } = attributes;
    if set | clear != 0 {
        remount::set_attributes(mount, set, clear, reach)?;
    }
    match propagation {
        0 if set | clear == 0 => Err(error),
        0 => Ok(()),
        bits => remount::set_propagation(mount, bits, reach),
    }
}

/// Changes the attributes of the mount whose root `mount` is, attached or not.
///
/// # Errors
/// EPERM where a locked attribute would be cleared, EINVAL for an idmapping that the file system cannot have, ENOSYS
/// before Linux 5.12, and before 5.14 for `NOSYMFOLLOW`.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, reach: Reach) -> Result<()> {
    let is_young = (attributes.set | attributes.clear) & attribute::NOSYMFOLLOW != 0;
    let result = if is_by_remount() { Err(Errno::NOSYS) } else { setattr(mount, attributes, reach) };
    let result = match result {
        // Between 5.12 and 5.14 the call exists and does not know the bit.
        Err(Errno::INVAL) if is_young => Err(Errno::NOSYS),
        other => other,
    };
    if result == Err(Errno::NOSYS) {
        BY_REMOUNT.store(true, Ordering::Relaxed);
    }
    result.call(|| {
        let flags = if reach == Reach::Tree { "AT_EMPTY_PATH|AT_RECURSIVE" } else { "AT_EMPTY_PATH" };
        format!("mount_setattr({}, \"\", {flags}, {{{attributes}}})", mount.as_raw_fd())
    })
}

fn setattr(mount: BorrowedFd<'_>, attributes: Attributes, reach: Reach) -> std::result::Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if reach == Reach::Tree {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a constant C string and `attributes` is a live `#[repr(C)]` struct mount_attr whose size
    // is passed with it; the kernel reads both and keeps neither.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(returned).map(drop)
}

/// Clones the mount at `path` below `directory` (or of `directory` itself for an empty path) into a detached tree.
///
/// # Errors
/// EINVAL for an unbindable mount, ENOENT when the path is not there.
pub fn clone_tree(directory: impl AsFd, path: &Path, reach: Reach) -> Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if reach == Reach::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(directory, path, flags).call(|| {
        let recursive = if reach == Reach::Tree { "|AT_RECURSIVE" } else { "" };
        format!("open_tree(directory, {path:?}, OPEN_TREE_CLONE{recursive})")
    })
}

/// Attaches the detached `mount` on top of what `target` refers to.
///
/// # Errors
/// EINVAL when one is a directory and the other is not.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags).call(|| "move_mount(mount, target)")
}

/// Attaches the detached `mount` at `name` in a `directory` that nobody else can change.
///
/// # Errors
/// As move_mount(2).
pub fn attach_at(mount: impl AsFd, directory: impl AsFd, name: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", directory, name, flags)
        .call(|| format!("move_mount(mount, {name:?})"))
}

/// A file system that is being configured: before it becomes a mount, or while it is one.
#[derive(Debug)]
pub struct Filesystem {
    context: OwnedFd,
    kind: String,
}

impl From<Filesystem> for OwnedFd {
    fn from(filesystem: Filesystem) -> Self {
        filesystem.context
    }
}

impl Filesystem {
    /// Opens a configuration context for the file system type `kind`.
    ///
    /// # Errors
    /// ENODEV for a type that the kernel does not know.
    pub fn open(kind: &str) -> Result<Self> {
        let context =
            rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).call(|| format!("fsopen({kind:?})"))?;
        Ok(Self { context, kind: kind.to_owned() })
    }

    /// Opens a context to configure the file system again that is mounted at `mount`.
    ///
    /// # Errors
    /// EINVAL when `mount` is not the root of a mount.
    pub fn pick(mount: impl AsFd) -> Result<Self> {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let context = rustix::mount::fspick(mount, "", flags).call(|| "fspick(mount)")?;
        Ok(Self { context, kind: "remount".to_owned() })
    }

    /// Lets the options hold that were set since [`Filesystem::pick`].
    ///
    /// # Errors
    /// EPERM without the right over the file system, EINVAL for options that cannot change.
    pub fn reconfigure(&self) -> Result<()> {
        fsconfig_reconfigure(self.context.as_fd())
            .call(|| format!("fsconfig({}, CMD_RECONFIGURE){}", self.kind, self.reason()))
    }

    /// Sets the option `key` to `value`.
    ///
    /// # Errors
    /// EINVAL with the file system's own reason where it gives one.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        fsconfig_set_string(self.context.as_fd(), key, value)
            .call(|| format!("fsconfig({}, SET_STRING, {key:?}, {value:?}){}", self.kind, self.reason()))
    }

    /// Sets the option `key` that has no value.
    ///
    /// # Errors
    /// As [`Filesystem::set`].
    pub fn set_flag(&self, key: &str) -> Result<()> {
        fsconfig_set_flag(self.context.as_fd(), key)
            .call(|| format!("fsconfig({}, SET_FLAG, {key:?}){}", self.kind, self.reason()))
    }

    /// Creates the file system and returns it as a detached mount with the given attribute bits.
    ///
    /// # Errors
    /// EPERM without the right to mount this type, EINVAL for options that do not go together. Before Linux 5.14 the
    /// mount lacks `NOSYMFOLLOW`, which [`set_attached`] can give it; then [`is_by_remount`] holds.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        fsconfig_create(self.context.as_fd())
            .call(|| format!("fsconfig({}, CMD_CREATE){}", self.kind, self.reason()))?;
        match self.fsmount(attributes) {
            Err(Errno::INVAL) if attributes & attribute::NOSYMFOLLOW != 0 => {
                BY_REMOUNT.store(true, Ordering::Relaxed);
                self.fsmount(attributes & !attribute::NOSYMFOLLOW)
            }
            other => other,
        }
        .call(|| format!("fsmount({}, {attributes:#x})", self.kind))
    }

    fn fsmount(&self, attributes: u64) -> std::result::Result<OwnedFd, Errno> {
        let bits = MountAttrFlags::from_bits_retain(attributes as u32);
        rustix::mount::fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, bits)
    }

    /// Reads what the file system logged about the last failure, if anything.
    fn reason(&self) -> String {
        let mut buffer = [0_u8; 256];
        let length = rustix::io::read(&self.context, &mut buffer).unwrap_or(0);
        match String::from_utf8_lossy(&buffer[..length]).trim() {
            "" => String::new(),
            text => format!(" [{text}]"),
        }
    }
}

/// Makes `new_root` the root of the mount namespace and detaches the old root, leaving no trace of the host.
///
/// The working directory is the new root afterwards. Unmounting the old root is not seen by peers of its mounts.
///
/// # Errors
/// EINVAL when `new_root` is not a mount or its parent is shared, see pivot_root(2).
pub fn pivot_root(new_root: impl AsFd, old_mounts: OldMounts) -> Result<()> {
    let old_root = match old_mounts {
        OldMounts::Receiving => None,
        OldMounts::Shared => Some(crate::path::open_host(Path::new("/"), rustix::fs::OFlags::PATH)?),
    };
    rustix::process::fchdir(&new_root).call(|| "fchdir(new root)")?;
    rustix::process::pivot_root(".", ".").call(|| "pivot_root(\".\", \".\")")?;
    if let Some(old_root) = old_root {
        rustix::process::fchdir(&old_root).call(|| "fchdir(old root)")?;
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(".", slave).call(|| "mount(\".\", SLAVE | REC)")?;
    }
    rustix::mount::unmount(".", UnmountFlags::DETACH).call(|| "umount2(\".\", DETACH)")?;
    rustix::process::chdir("/").call(|| "chdir(\"/\")")
}

/// How the mounts below the old root stand to the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldMounts {
    /// Nothing that happens to them is seen elsewhere.
    Receiving,
    /// They are peers of the host's and must be cut off before they are unmounted.
    Shared,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_like_strace() {
        use attribute::{ATIME, NOATIME, NODEV, NOSUID, NOSYMFOLLOW, RDONLY};
        let shown = |set, clear| Attributes::new(set, clear).to_string();
        assert_eq!(shown(0, 0), "");
        assert_eq!(shown(NOSUID | NODEV, 0), "attr_set=MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV");
        assert_eq!(
            shown(RDONLY | NOATIME, ATIME | NOSYMFOLLOW),
            "attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOATIME, attr_clr=MOUNT_ATTR__ATIME|MOUNT_ATTR_NOSYMFOLLOW"
        );
        let slave = Attributes::new(0, RDONLY).with_propagation(Propagation::Slave);
        assert_eq!(slave.to_string(), "attr_clr=MOUNT_ATTR_RDONLY, propagation=0x80000");
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = set_attributes(file.as_fd(), Attributes::new(RDONLY, NODEV), Reach::Tree).unwrap_err();
        let expected = format!(
            "mount_setattr({}, \"\", AT_EMPTY_PATH|AT_RECURSIVE, {{attr_set=MOUNT_ATTR_RDONLY, attr_clr=MOUNT_ATTR_NODEV}}): ",
            file.as_raw_fd()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
