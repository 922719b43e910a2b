//! What a container's root is made of, and its files while nobody runs in it.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bulkhead_shim::order::Overlay;
use bulkhead_store::{ContainerRecord, Image, MARKER};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::configure::{Caller, RootPlace};
use crate::create::make_directory;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::host;
use crate::known::Known;
use crate::request::Root;
use crate::root::{self, Layers, Upper};

/// The writable layer, in the container's directory.
pub(crate) const UPPER: &str = "upper";
/// Overlayfs's own directory beside it.
pub(crate) const WORK: &str = "work";

/// How much of `/etc/passwd` or `/etc/group` is read. An image may say anything.
pub(crate) const LONGEST: u64 = 4 << 20;

/// From how many layers on there is nothing below them: kernels before Linux 6.8 can be told of 15 where a root is mounted by
/// descriptors, and one of these is the writable layer where it is only read.
const MANY: usize = 14;

/// What a container's root is made of.
#[derive(Debug)]
pub(crate) struct RootFs {
    /// The layers of the image, the topmost first; or a directory alone.
    pub(crate) lower: Vec<PathBuf>,
    /// What lies below all of them, for runtimes to mount on.
    pub(crate) below: Option<PathBuf>,
    /// The container's directory, whose writable layer lies above; nothing for a directory alone.
    pub(crate) above: Option<PathBuf>,
}

impl Engine {
    /// Says what a container's root is made of.
    pub(crate) fn root_of(
        &self,
        record: &ContainerRecord,
        document: &Document,
        image: Option<&Image>,
    ) -> RootFs {
        let directory = self.places().container(&record.id);
        match (&document.request.root, image) {
            (Root::Directory(root), _) => {
                let above = root.overlay.then_some(directory);
                RootFs { lower: vec![root.path.clone()], below: None, above }
            }
            (Root::Image(_), Some(image)) => {
                let lower = self.store.lower(image);
                let below = self.places().mountpoints().filter(|_| lower.len() < MANY);
                RootFs { lower, below, above: Some(directory) }
            }
            (Root::Image(_), None) => RootFs { lower: Vec::new(), below: None, above: Some(directory) },
        }
    }
}

impl Engine {
    /// Lets the writable layer of a container be mounted again that was mounted without syncs: the kernel refuses that, since
    /// the machine may have gone down under it.
    ///
    /// # Errors
    /// As [`Engine::expect_whole`].
    pub(crate) fn renew(&self, known: &Known, root: &RootFs) -> Result<()> {
        self.expect_whole(known)?;
        match &root.above {
            Some(above) if is_marked(above) => {
                // Nothing in it outlives a mount.
                self.clear(&above.join(WORK))?;
                make_directory(&above.join(WORK))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a writable layer of which nobody knows what is on the disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that was mounted without syncs before this boot.
    pub(crate) fn expect_whole(&self, known: &Known) -> Result<()> {
        if !known.document.request.remove || !is_marked(&self.places().container(&known.record.id)) {
            return Ok(());
        }
        let boot = self.boot()?;
        // A monitor writes that it starts before anything is mounted.
        if known.status.as_ref().is_some_and(|status| status.boot == boot) {
            return Ok(());
        }
        let name = &known.record.name;
        Err(Error::Invalid {
            what: format!("container {name}"),
            reason: format!(
                "the machine went down under it, and of what removes itself nothing is sure to be on the disk: \
                 remove it with `bulkhead rm {name}`"
            ),
        })
    }
}

/// Tells whether a container's layer was mounted without syncs. To ordinary users the kernel closes the place of its mark.
fn is_marked(above: &Path) -> bool {
    let mark = above.join(WORK).join("work/incompat").symlink_metadata();
    !mark.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

impl RootFs {
    /// Returns the lower directories of an overlay, the topmost first.
    pub(crate) fn layers(&self) -> Vec<PathBuf> {
        self.lower.iter().chain(&self.below).cloned().collect()
    }

    /// Says it as the runtime's configuration does.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a directory of the host that is not there.
    pub(crate) fn place(&self) -> Result<RootPlace> {
        match (&self.above, self.lower.first()) {
            (Some(above), _) => Ok(RootPlace::Overlay {
                lower: self.layers(),
                upper: above.join(UPPER),
                work: above.join(WORK),
            }),
            (None, Some(directory)) => Ok(RootPlace::Directory(directory.clone())),
            (None, None) => Err(Error::Invalid {
                what: "root of the container".into(),
                reason: "there is neither an image nor a directory".into(),
            }),
        }
    }

    /// Returns the overlay as a monitor mounts it.
    pub(crate) fn overlay(&self, at: PathBuf, volatile: bool) -> Option<Overlay> {
        let above = self.above.as_ref()?;
        let (upper, work) = (above.join(UPPER), above.join(WORK));
        Some(Overlay { lower: self.layers(), upper, work, at, volatile })
    }

    /// Writes files below `/etc` of a container's own layer, unless it has made them itself, or has no such directory. It may have
    /// put links there: none is followed.
    ///
    /// # Errors
    /// As for writing them.
    pub(crate) fn add_accounts(&self, accounts: &[(&str, String)]) -> Result<()> {
        const ETC: &str = "etc";
        let (Some(above), false) = (&self.above, accounts.is_empty()) else { return Ok(()) };
        let doing = || format!("write accounts to {}", above.display());
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = openat(CWD, above.join(UPPER), directory, Mode::empty()).doing(doing)?;
        let etc = match openat(&upper, ETC, directory, Mode::empty()) {
            Err(Errno::NOENT) => {
                // The topmost of the image's decides what is below.
                let below = self.lower.iter().find_map(|layer| layer.join(ETC).symlink_metadata().ok());
                let Some(below) = below.filter(std::fs::Metadata::is_dir) else { return Ok(()) };
                mkdirat(&upper, ETC, Mode::from_raw_mode(below.mode() & 0o7777)).doing(doing)?;
                openat(&upper, ETC, directory, Mode::empty()).doing(doing)?
            }
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(()),
            opened => opened.doing(doing)?,
        };
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (name, text) in accounts {
            match openat(&etc, *name, new, Mode::from_raw_mode(0o644)) {
                Err(Errno::EXIST) => {}
                opened => File::from(opened.doing(doing)?).write_all(text.as_bytes()).doing(doing)?,
            }
        }
        Ok(())
    }

    /// Opens the root to read it, while nobody runs in it.
    ///
    /// # Errors
    /// As [`root::mount`].
    pub(crate) fn open(&self) -> Result<std::os::fd::OwnedFd> {
        match &self.above {
            Some(above) => root::mount(&self.layers(), Upper::Read(&above.join(UPPER))),
            None => root::mount(&self.lower, Upper::None),
        }
    }

    /// Reads files of the root while nobody runs in it; `None` for one that is not there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is no regular file, or is too long.
    pub(crate) fn read<const N: usize>(&self, paths: [&str; N]) -> Result<[Option<Vec<u8>>; N]> {
        let is_untouched = match &self.above {
            Some(above) => is_untouched(&above.join(UPPER)).doing(|| format!("read {}", above.display()))?,
            None => true,
        };
        let mut contents = [const { None }; N];
        // What an ordinary user mounts renames no directories, and outside a user namespace such a user mounts nothing.
        let is_simple = host::caller() != Caller::Root;
        if is_untouched || is_simple {
            let above = self.above.iter().filter(|_| !is_untouched).map(|above| above.join(UPPER));
            let layers = Layers::open(&above.chain(self.lower.iter().cloned()).collect::<Vec<_>>())?;
            for (content, path) in contents.iter_mut().zip(paths) {
                *content = layers.read(Path::new(path), LONGEST)?;
            }
        } else {
            let root = self.open()?;
            for (content, path) in contents.iter_mut().zip(paths) {
                *content = root::read(&root, Path::new(path), LONGEST)?;
            }
        }
        Ok(contents)
    }
}

/// Tells whether a writable layer has nothing that its container made.
fn is_untouched(upper: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(upper)? {
        if entry?.file_name() != MARKER {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells whether there is nothing in a directory.
pub(crate) fn is_empty(directory: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(directory)?.next().is_none())
}
