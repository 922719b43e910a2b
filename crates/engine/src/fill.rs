//! Filling new volumes with what the image has at their place (docker's rule: those that are empty, at first use).

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use bulkhead_store::layer::{self, Pack, Unpack};
use bulkhead_sys::path;
use rustix::fs::{
    FlockOperation, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, flock, fstat, futimens,
    openat,
};
use rustix::io::{Errno, retry_on_intr};

use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::root::{self, Upper};
use crate::rootfs::is_empty;

/// The file beside a volume's data that is there while that is filled. Whoever finds it unlocked begins anew.
const FILLING: &str = "filling";

impl Engine {
    /// Takes away what somebody who died has half filled into a volume, before anybody writes to it who wants no copy: the
    /// next filling would begin anew and take that along. Whoever fills it now is waited for.
    ///
    /// # Errors
    /// As for writing the volume.
    pub(crate) fn empty_half_filled(&self, name: &str) -> Result<()> {
        if !self.is_half_filled(name) {
            return Ok(());
        }
        let doing = || format!("empty volume {name}, of which the filling was not finished");
        let volume = self.places().volume(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = path::open_host(&volume, flags).doing(doing)?;
        retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive)).doing(doing)?;
        if self.is_half_filled(name) {
            let data = path::open_host(&volume.join("data"), flags).doing(doing)?;
            layer::empty(data.as_fd())?;
            fs::remove_file(volume.join(FILLING)).doing(doing)?;
        }
        Ok(())
    }

    /// Tells whether somebody fills the volume, or died over that.
    pub(crate) fn is_half_filled(&self, name: &str) -> bool {
        self.places().volume(name).join(FILLING).exists()
    }

    /// Tells whether nobody fills the volume now.
    pub(crate) fn is_idle(&self, name: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Ok(directory) = path::open_host(&self.places().volume(name), flags) else { return false };
        flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// Fills a volume that is empty with what the layers have at `destination`: files with owners, modes and attributes.
    ///
    /// What was half filled by somebody who died is made anew; a volume with anything else in it stays as it is.
    ///
    /// # Errors
    /// As for reading the image and writing the volume.
    pub(crate) fn fill(&self, name: &str, destination: &str, lower: &[PathBuf]) -> Result<()> {
        let doing = || format!("fill volume {name} with what the image has at {destination}");
        let volume = self.places().volume(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = path::open_host(&volume, flags).doing(doing)?;
        retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive)).doing(doing)?;
        let data = path::open_host(&volume.join("data"), flags).doing(doing)?;
        let filling = volume.join(FILLING);
        if filling.exists() {
            layer::empty(data.as_fd())?;
        } else if lower.is_empty() || !is_empty(&volume.join("data")).doing(doing)? {
            return Ok(());
        }
        let root = root::mount(lower, Upper::None)?;
        let source = match path::open_in_root(&root, Path::new(destination), flags) {
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => None,
            opened => Some(opened.doing(doing)?),
        };
        drop(File::create(&filling).doing(doing)?);
        let stat = source.as_ref().map(fstat).transpose().doing(doing)?;
        if let Some((source, stat)) = source.as_ref().zip(stat.as_ref()) {
            copy(source.as_fd(), data.as_fd())?;
            fchown(&data, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))).doing(doing)?;
            fchmod(&data, Mode::from_raw_mode(stat.st_mode)).doing(doing)?;
        }
        add_bound(data.as_fd(), Path::new(destination)).doing(doing)?;
        if let Some(stat) = stat {
            // Last: whatever is made in it gives it another one.
            let time = Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            };
            futimens(&data, &Timestamps { last_access: time, last_modification: time }).doing(doing)?;
        }
        fs::remove_file(&filling).doing(doing)
    }
}

/// Files of the engine that are bound into a container. Docker's images all have them, so that there is something to bind them to,
/// also where nothing can be made: in a volume that the container may only read.
const BOUND: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Makes empty files in a volume for what is bound into it.
fn add_bound(data: BorrowedFd<'_>, destination: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for path in BOUND.map(Path::new) {
        if path.parent() != Some(destination) {
            continue;
        }
        let Some(name) = path.file_name() else { continue };
        match openat(data, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(made) => fchmod(&made, Mode::from_raw_mode(0o644))?,
            // The image has its own, or a link.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Copies what is in a directory into another: one thread packs it, the other unpacks.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let (reader, writer) = std::io::pipe().doing(|| "pipe()")?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || layer::pack(from, writer, &Pack::plain()));
        let unpacked = layer::unpack(reader, to, &Unpack::plain());
        // A reader that failed ends the writer by EPIPE, which is no news then.
        let packed = packing.join();
        unpacked?;
        match packed {
            Ok(packed) => Ok(packed.map(drop)?),
            Err(_) => Err(Error::Damaged {
                what: "a directory of the image".into(),
                reason: "packing it failed".into(),
            }),
        }
    })
}
