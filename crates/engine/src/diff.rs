//! What a container's root is by now: what was changed in it, how much that is, and all of it as an archive. Mounts are not
//! part of it, whether the container runs or not.

use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_store::layer::{self, Change, Compare, Marks, Owners, Pack};
use bulkhead_store::{Measure, room};
use bulkhead_sys::path;
use rustix::fs::OFlags;

use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::host;
use crate::known::Known;
use crate::rootfs::{RootFs, UPPER};

/// What the runtime may make to mount on: it is no change of the container's.
pub(crate) const OF_RUNTIME: [&str; 9] = [
    "dev",
    "proc",
    "sys",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "run/secrets",
    "sbin/docker-init",
    bulkhead_store::MARKER,
];

/// How large a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the files that it wrote.
    pub writable: u64,
    /// Bytes of that and of its image.
    pub whole: u64,
}

impl Engine {
    /// Lists what a container changed in its root.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a container whose root has no layers.
    pub fn diff(&self, wanted: &str) -> Result<Vec<Change>> {
        let (known, reading) = self.hold_layers(wanted)?;
        let root = self.root(&known)?;
        let upper = self.places().container(&known.record.id).join(UPPER);
        if root.above.is_none() {
            return Err(Error::Invalid {
                what: format!("root of container {}", known.record.name),
                reason: "it is a directory of the host, of which nobody knows what it was before".into(),
            });
        }
        let open = |path: &Path| -> Result<OwnedFd> {
            path::open_host(path, OFlags::RDONLY | OFlags::DIRECTORY)
                .doing(|| format!("open layer {}", path.display()))
        };
        let upper = open(&upper)?;
        let lower = root.layers().iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
        let lower: Vec<BorrowedFd<'_>> = lower.iter().map(|layer| layer.as_fd()).collect();
        let skip: Vec<PathBuf> = OF_RUNTIME.iter().map(PathBuf::from).collect();
        let marks = if host::is_real_root()? { Marks::Trusted } else { Marks::User };
        let compare = Compare { marks, owners: Owners::Kept, skip: &skip };
        let changes = layer::changes(upper.as_fd(), &lower, &compare)?;
        self.expect_kept(&known, &reading)?;
        Ok(changes)
    }

    /// Writes a container's root as an archive.
    ///
    /// # Errors
    /// As for reading the root; of the writer; [`Error::State`] for one that was removed meanwhile.
    pub fn export(&self, wanted: &str, to: &mut dyn Write) -> Result<()> {
        let (known, reading) = self.hold_layers(wanted)?;
        let root = self.root(&known)?.open()?;
        layer::pack(root.as_fd(), to, &Pack::plain())?;
        self.expect_kept(&known, &reading)?;
        self.tell(&known, "export");
        Ok(())
    }

    /// Tells how large a container is.
    ///
    /// # Errors
    /// As for reading its writable layer.
    pub fn size(&self, wanted: &str) -> Result<Size> {
        let known = self.find(wanted)?;
        let upper = self.places().container(&known.record.id).join(UPPER);
        let writable = room(&upper, Measure::Sizes)?;
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        Ok(Size { writable, whole: writable + image.map_or(0, |image| image.size) })
    }

    /// Says what the root of a container is made of.
    pub(crate) fn root(&self, known: &Known) -> Result<RootFs> {
        self.expect_whole(known)?;
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        Ok(self.root_of(&known.record, &known.document, image.as_ref()))
    }
}
