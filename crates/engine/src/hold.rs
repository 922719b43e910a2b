//! Holding a container while its parts change: a lock on its directory, which the kernel takes away from who dies.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::{Errno, retry_on_intr};

use crate::engine::Engine;
use crate::error::{Doing, Result};

/// A container that nobody else starts, pauses or removes while this is there; or a pod into which nobody else starts one.
#[derive(Debug)]
pub(crate) struct Held {
    _directory: OwnedFd,
}

impl Engine {
    /// Waits until nobody else holds the container. `None` when it has no directory: it was not made yet, or is gone.
    ///
    /// Whoever waited asks the record again, which may have changed or gone meanwhile.
    ///
    /// # Errors
    /// As open(2) and flock(2).
    pub(crate) fn hold(&self, id: &str) -> Result<Option<Held>> {
        directory(&self.places().container(id))
    }
}

/// As [`Engine::hold`], for the directory of a container or a pod.
pub(crate) fn directory(path: &Path) -> Result<Option<Held>> {
    let doing = || format!("lock {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.doing(doing)?,
    };
    retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive)).doing(doing)?;
    Ok(Some(Held { _directory: directory }))
}
