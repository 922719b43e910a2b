//! Owners, modes, times and extended attributes of what was unpacked.
//!
//! The order matters: writing to a file and giving it away take its set-user-id bit and its capabilities. So contents
//! come first, then the owner, then attributes, then the mode, and the time last. Directories get all of that when the
//! layer is complete, since each file that is made in one changes its time, and since one may be closed to us then.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bulkhead_sys::Call;
use bulkhead_sys::path::open_beneath;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::archive::Timestamp;
use super::owner::{Creator, Owner};
use super::tree::{Directory, Tree};
use super::{Error, Form, Limits, Result, listing, overlay, place};

/// What an archive holds and the machine would not take. The layer is whole without.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// How much.
    pub count: u64,
    /// The first few: a path, and what it lacks.
    pub examples: Vec<(PathBuf, String)>,
}

impl LeftOut {
    pub(super) fn note(&mut self, path: &[u8], what: impl Into<String>) {
        const EXAMPLES: usize = 8;
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push((PathBuf::from(OsStr::from_bytes(path)), what.into()));
        }
    }
}

/// The attributes of a file, resolved.
#[derive(Debug)]
pub(super) struct Attributes {
    /// Whom it is given to, if to anybody.
    pub(super) owner: Option<Owner>,
    pub(super) mode: u32,
    pub(super) time: Timestamp,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Removes what would not be the layer's to say, and refuses what would lie to overlayfs.
    pub(super) fn check(mut self, form: Form, entry: &[u8]) -> Result<Self> {
        if form != Form::Plain
            && let Some((name, _)) =
                self.xattrs.iter().find(|(name, _)| overlay::OWN.iter().any(|own| name.starts_with(own)))
        {
            let name = String::from_utf8_lossy(name);
            return Err(Error::entry(
                entry,
                format!("has the attribute {name:?}, which is the overlay's own"),
            ));
        }
        // Labels are the mount's.
        self.xattrs.retain(|(name, _)| name != b"security.selinux");
        Ok(self)
    }

    /// Gives them to a file that is open for writing, or a directory that is open for reading.
    ///
    /// `made` is the mode that it was made with, if it was.
    pub(super) fn set(
        &self,
        file: &OwnedFd,
        path: &[u8],
        made: Option<u32>,
        creator: &Creator,
        left_out: &mut LeftOut,
    ) -> Result<()> {
        let failed = |doing| Error::machine(doing, path);
        let given = self.owner.filter(|owner| made.is_none() || !creator.gives(*owner));
        if let Some(owner) = given {
            let (user, group) = owner.ids();
            rustix::fs::fchown(file, user, group)
                .call(|| format!("fchown({}, {})", owner.user, owner.group))
                .map_err(failed("give away"))?;
        }
        for (name, value) in &self.xattrs {
            let set = rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
            judge_xattr(set, name, path, left_out)?;
        }
        // An ACL among the attributes has changed the mode, or will be changed by it.
        let is_right = made.is_some_and(|made| creator.makes(made, self.mode)) && self.xattrs.is_empty();
        if !is_right {
            rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))
                .call(|| format!("fchmod({:#o})", self.mode))
                .map_err(failed("set the mode of"))?;
        }
        rustix::fs::futimens(file, &self.times()).call(|| "futimens").map_err(failed("set the time of"))
    }

    /// Gives them to a link, a device or a pipe, which is not opened.
    pub(super) fn set_named(
        &self,
        directory: &Directory,
        name: &[u8],
        path: &[u8],
        made: Option<u32>,
        creator: &Creator,
        left_out: &mut LeftOut,
    ) -> Result<()> {
        let failed = |doing| Error::machine(doing, path);
        if let Some(owner) = self.owner.filter(|owner| !creator.gives(*owner)) {
            let (user, group) = owner.ids();
            rustix::fs::chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
                .call(|| format!("fchownat({}, {}, AT_SYMLINK_NOFOLLOW)", owner.user, owner.group))
                .map_err(failed("give away"))?;
        }
        // The kernel has no call for it that takes a directory's descriptor, before Linux 6.13.
        let in_proc = listing::in_proc(directory, name);
        for (attribute, value) in &self.xattrs {
            let set = rustix::fs::lsetxattr(&in_proc, attribute.as_slice(), value, XattrFlags::empty());
            judge_xattr(set, attribute, path, left_out)?;
        }
        if let Some(made) = made
            && !(creator.makes(made, self.mode) && self.xattrs.is_empty())
        {
            self.set_mode_of_special(directory, name).map_err(failed("set the mode of"))?;
        }
        self.set_times(directory, name).map_err(failed("set the time of"))
    }

    /// Sets the mode of a device or a pipe through a descriptor that does not open it.
    fn set_mode_of_special(&self, directory: &Directory, name: &[u8]) -> bulkhead_sys::Result<()> {
        let special =
            open_beneath(directory, Path::new(OsStr::from_bytes(name)), OFlags::PATH, Mode::empty())?;
        let in_proc = format!("/proc/self/fd/{}", special.as_raw_fd());
        rustix::fs::chmod(&in_proc, Mode::from_raw_mode(self.mode))
            .call(|| format!("chmod({in_proc:?}, {:#o})", self.mode))
    }

    fn set_times(&self, directory: impl AsFd, name: &[u8]) -> bulkhead_sys::Result<()> {
        rustix::fs::utimensat(directory, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
            .call(|| format!("utimensat({:?}, AT_SYMLINK_NOFOLLOW)", String::from_utf8_lossy(name)))
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.time.seconds, tv_nsec: i64::from(self.time.nanoseconds) };
        Timestamps { last_access: time, last_modification: time }
    }

    fn weight(&self) -> usize {
        let xattrs =
            self.xattrs.iter().map(|(name, value)| name.len() + value.len() + size_of::<[Vec<u8>; 2]>());
        size_of::<Deferred>() + xattrs.sum::<usize>()
    }
}

/// Passes over what the file system or the caller's rights do not allow, as docker does.
fn judge_xattr(
    set: std::result::Result<(), Errno>,
    name: &[u8],
    path: &[u8],
    left_out: &mut LeftOut,
) -> Result<()> {
    match set {
        Err(Errno::NOTSUP | Errno::PERM) => {
            left_out.note(path, format!("the attribute {:?}", String::from_utf8_lossy(name)));
            Ok(())
        }
        set => set
            .call(|| format!("setxattr({:?})", String::from_utf8_lossy(name)))
            .map_err(Error::machine("set an attribute of", path)),
    }
}

/// What directories will get at the end.
#[derive(Debug, Default)]
pub(super) struct Directories {
    deferred: Vec<Deferred>,
    /// Directories that made way for something else, and the number of records at that moment.
    replaced: HashMap<Vec<u8>, usize>,
    memory: usize,
}

#[derive(Debug)]
struct Deferred {
    path: Vec<u8>,
    /// The mode that it was made with; none for one that was there.
    made: Option<u32>,
    attributes: Attributes,
}

impl Directories {
    /// Notes what a directory will get.
    pub(super) fn defer(
        &mut self,
        path: Vec<u8>,
        made: Option<u32>,
        attributes: Attributes,
        limits: &Limits,
    ) -> Result<()> {
        self.memory += path.len() + attributes.weight();
        limits.check_memory(self.memory, &path)?;
        self.deferred.push(Deferred { path, made, attributes });
        Ok(())
    }

    /// Notes that a directory is no more: what was noted about it and those below it is void.
    pub(super) fn replaced(&mut self, path: &[u8], limits: &Limits) -> Result<()> {
        self.memory += path.len() + size_of::<(Vec<u8>, usize)>();
        limits.check_memory(self.memory, path)?;
        self.replaced.insert(path.to_vec(), self.deferred.len());
        Ok(())
    }

    fn is_void(replaced: &HashMap<Vec<u8>, usize>, number: usize, path: &[u8]) -> bool {
        if replaced.is_empty() {
            return false;
        }
        let mut above = Some(path);
        while let Some(path) = above {
            if replaced.get(path).is_some_and(|since| number < *since) {
                return true;
            }
            above = place::split(path).map(|(above, _)| above);
        }
        false
    }

    /// Gives all directories what they are to get, the deepest first: after it one may be closed to us.
    pub(super) fn finish(self, tree: &mut Tree<'_>, creator: &Creator, left_out: &mut LeftOut) -> Result<()> {
        let replaced = self.replaced;
        let numbered = self.deferred.into_iter().enumerate();
        let mut valid: Vec<_> = numbered
            .filter(|(number, deferred)| !Self::is_void(&replaced, *number, &deferred.path))
            .collect();
        // Those of one path stay in the archive's order, so that the last one counts.
        valid.sort_by(|(_, one), (_, other)| other.path.cmp(&one.path));
        tree.forget();
        for (_, Deferred { path, made, attributes }) in valid {
            let failed = |doing| Error::machine(doing, &path);
            let as_made = made.is_some_and(|made| creator.makes(made, attributes.mode))
                && attributes.owner.is_none_or(|owner| creator.gives(owner))
                && attributes.xattrs.is_empty();
            match place::split(&path) {
                Some((parent, name)) if as_made => {
                    let parent = tree.parent(parent, &path)?;
                    attributes.set_times(parent, name).map_err(failed("set the time of"))?;
                }
                split => {
                    let directory = match split {
                        Some((parent, name)) => open_to_change(tree.parent(parent, &path)?, name),
                        None => open_to_change(tree.root(), b"."),
                    };
                    let directory = directory.map_err(failed("open the directory"))?;
                    attributes.set(&directory, &path, made, creator, left_out)?;
                }
            }
        }
        Ok(())
    }
}

fn open_to_change(parent: impl AsFd, name: &[u8]) -> bulkhead_sys::Result<OwnedFd> {
    let name = Path::new(OsStr::from_bytes(name));
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}
