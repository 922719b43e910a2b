//! A procfs of our own: a mount that is attached nowhere, so that nobody can put anything over a part of it.
//!
//! Labels, kernel parameters and the like are written through it. Whatever an image or a container has at `/proc`, a
//! write that succeeds has reached the kernel (ARCHITECTURE.md, invariant 4).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bulkhead_sys::mount::{self, Filesystem, Reach};
use bulkhead_sys::path;
use rustix::fs::{OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

/// A detached procfs of the caller's pid namespace.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// Mounts one.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN, or in a user namespace without a fully visible procfs.
    pub(crate) fn mount() -> Result<Self> {
        let context = Filesystem::open("proc").doing(|| "mount a procfs for the runtime")?;
        let mount = context.mount(0).doing(|| "mount a procfs for the runtime")?;
        Ok(Self(mount))
    }

    /// Mounts one, or takes a copy of the host's where the caller may not: a container in a user namespace has processes that
    /// are not its own, and may mount none of these. The caller must still be in the host's root.
    ///
    /// # Errors
    /// As [`Procfs::mount`], when `/proc` is none.
    pub(crate) fn mount_or_copy() -> Result<Self> {
        match Self::mount() {
            Err(error) if is_forbidden(&error) => Self::copy_of_host().ok_or(error),
            mounted => mounted,
        }
    }

    fn copy_of_host() -> Option<Self> {
        let host = path::open_host(Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let is_procfs = rustix::fs::fstatfs(&host).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC);
        // With all that is mounted below, which a user namespace cannot leave behind; nothing is written to what that hides.
        is_procfs.then(|| mount::clone_tree(&host, Path::new(""), Reach::Tree).ok()).flatten().map(Self)
    }

    /// Writes a file of the calling process, such as `attr/exec`.
    ///
    /// # Errors
    /// As open(2) and write(2); EXDEV when something is mounted over it.
    pub(crate) fn write_own(&self, name: &str, value: &str) -> Result<()> {
        self.write(&self.own(name)?, value)
    }

    /// Returns the name here of a file of the calling process, whose number in a copy of the host's is the host's.
    ///
    /// # Errors
    /// As readlink(2).
    pub(crate) fn own(&self, name: &str) -> Result<PathBuf> {
        let own = rustix::fs::readlinkat(&self.0, "self", Vec::new()).doing(|| "read /proc/self")?;
        Ok(Path::new(OsStr::from_bytes(own.as_bytes())).join(name))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// As [`Procfs::write_own`].
    pub(crate) fn write(&self, name: &Path, value: &str) -> Result<()> {
        let file = path::open_on_mount(&self.0, name, OFlags::WRONLY)
            .doing(|| format!("open /proc/{}", name.display()))?;
        // One write: the kernel takes each as a whole value.
        rustix::io::write(&file, value.as_bytes())
            .map(drop)
            .doing(|| format!("write {value:?} to /proc/{}", name.display()))
    }

    /// Reads a short file of the calling process, such as `setgroups`.
    ///
    /// # Errors
    /// As open(2) and read(2); EXDEV when something is mounted over it.
    pub(crate) fn read_own(&self, name: &str) -> Result<Vec<u8>> {
        let own = self.own(name)?;
        let file = path::open_on_mount(&self.0, &own, OFlags::RDONLY)
            .doing(|| format!("open /proc/{}", own.display()))?;
        let mut text = vec![0; 64];
        let length = rustix::io::read(&file, &mut text).doing(|| format!("read /proc/{}", own.display()))?;
        text.truncate(length);
        Ok(text)
    }

    /// Tells whether a file is there.
    pub(crate) fn has(&self, name: &Path) -> bool {
        path::open_on_mount(&self.0, name, OFlags::PATH).is_ok()
    }
}

fn is_forbidden(error: &Error) -> bool {
    matches!(error, Error::System { source, .. } if source.errno() == Errno::PERM)
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
