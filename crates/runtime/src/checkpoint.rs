//! `checkpoint`: a container becomes a directory of images, which CRIU writes.
//!
//! What `checkpoint` and [`restore`](crate::restore) must agree on is here: which mounts are the host's, under which
//! names they are in the images, and the options that both pass.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bulkhead_cgroup::{Host, Version, View};
use bulkhead_sys::namespace::Kind;
use bulkhead_sys::{path, process};
use rustix::fs::{FileType, Gid, Mode, OFlags};

use crate::cli::{CheckpointOptions, ImageOptions};
use crate::container::Container;
use crate::criu::wire::{Response, Writer, kind};
use crate::criu::{self, Criu, Feature, Streams};
use crate::error::{Doing, Error, Result};
use crate::log::Log;
use crate::plan::mounts::{Mount, Source};
use crate::plan::{Plan, annotations};
use crate::state::NOTIFY;
use crate::{fds, notify, target};

/// Which standard stream was what, in the directory of images: JSON, as runc has it.
pub(crate) const DESCRIPTORS: &str = "descriptors.json";

/// Which standard stream was a file of the host, by the name that CRIU has for it; JSON too.
pub(crate) const FILES: &str = "external-files.json";

/// Where images are if nothing else is said, in the current directory.
const DEFAULT_IMAGES: &str = "checkpoint";

/// How many pre-dumps may continue each other when their directories are opened for a user namespace.
const PARENTS: usize = 100;

/// CRIU's configuration file where no annotation names one; runc's.
const CONFIG: &str = "/etc/criu/runc.conf";

/// CRIU's log level: everything but what only helps its authors.
const LOG_LEVEL: i64 = 4;

/// The major number of the null device and its like.
const MEMORY: u32 = 1;

/// NFTABLES of `criu_network_lock_method`.
const NFTABLES: i64 = 2;

/// The versions since which the freezer of cgroup v2 and a status descriptor as a notification are known, and external
/// namespaces of the network and of pids. What an older one does not know of the rest it leaves out.
const FREEZER_V2: [u32; 3] = [3, 14, 0];
const STATUS_READY: [u32; 3] = [3, 15, 0];
const EXTERNAL_NET: [u32; 3] = [3, 11, 0];
const EXTERNAL_PID: [u32; 3] = [3, 15, 0];

/// Fields of the options, `criu_opts`.
pub(crate) mod option {
    pub(crate) const IMAGES_DIR_FD: u64 = 1;
    pub(crate) const PID: u64 = 2;
    pub(crate) const LEAVE_RUNNING: u64 = 3;
    pub(crate) const EXT_UNIX_SK: u64 = 4;
    pub(crate) const TCP_ESTABLISHED: u64 = 5;
    pub(crate) const EVASIVE_DEVICES: u64 = 6;
    pub(crate) const SHELL_JOB: u64 = 7;
    pub(crate) const FILE_LOCKS: u64 = 8;
    pub(crate) const LOG_LEVEL: u64 = 9;
    pub(crate) const LOG_FILE: u64 = 10;
    pub(crate) const PAGE_SERVER: u64 = 11;
    pub(crate) const NOTIFY_SCRIPTS: u64 = 12;
    pub(crate) const ROOT: u64 = 13;
    pub(crate) const PARENT_IMG: u64 = 14;
    pub(crate) const TRACK_MEM: u64 = 15;
    pub(crate) const AUTO_DEDUP: u64 = 16;
    pub(crate) const WORK_DIR_FD: u64 = 17;
    pub(crate) const LINK_REMAP: u64 = 18;
    pub(crate) const EXT_MNT: u64 = 23;
    pub(crate) const MANAGE_CGROUPS: u64 = 24;
    pub(crate) const CG_ROOT: u64 = 25;
    pub(crate) const RST_SIBLING: u64 = 26;
    pub(crate) const INHERIT_FD: u64 = 27;
    pub(crate) const MANAGE_CGROUPS_MODE: u64 = 34;
    pub(crate) const EXTERNAL: u64 = 37;
    pub(crate) const EMPTY_NS: u64 = 38;
    pub(crate) const JOIN_NS: u64 = 39;
    pub(crate) const FREEZE_CGROUP: u64 = 44;
    pub(crate) const TCP_SKIP_IN_FLIGHT: u64 = 46;
    pub(crate) const LAZY_PAGES: u64 = 48;
    pub(crate) const STATUS_FD: u64 = 49;
    pub(crate) const ORPHAN_PTS_MASTER: u64 = 50;
    pub(crate) const CONFIG_FILE: u64 = 51;
    pub(crate) const LSM_PROFILE: u64 = 53;
    pub(crate) const LSM_MOUNT_CONTEXT: u64 = 63;
    pub(crate) const NETWORK_LOCK: u64 = 64;
}

/// Writes the images of a container that runs or is paused.
///
/// # Errors
/// No CRIU, one that is too old or lacks something, and what it says.
pub(crate) fn checkpoint(container: &Container, options: &CheckpointOptions, log: &Log) -> Result<()> {
    let mut plan = container.plan(&container.stored()?)?;
    check(&plan)?;
    let version = criu::version()?;
    let pid = container.state.process.map(|process| process.pid).unwrap_or_default();
    if container.dir.path(NOTIFY).exists() {
        notify::add_to(&mut plan, &container.dir.path(""));
    }
    let images = Images::open(&options.images, Existing::Allowed)?;
    let mut status = None;
    if options.pre_dump {
        criu::check(Feature::MemTrack)?;
    }
    if options.images.lazy_pages {
        criu::check(Feature::LazyPages)?;
        status = options.status_fd.map(status_descriptor).transpose()?;
    }
    let mut request = Writer::default();
    images.add_to(&mut request, "dump.log");
    add_common(&mut request, &options.images, &plan, &container.state.rootfs);
    add_own(&mut request, options, pid);
    add_parent(&mut request, options, &images)?;
    if let Some(freezer) = freezer(&container.cgroup().paths(), version) {
        request.bytes(option::FREEZE_CGROUP, freezer.as_bytes());
    }
    add_external_namespaces(&mut request, &plan, version)?;
    // An old CRIU writes there itself, as long as it is open here.
    let of_criu = status.take_if(|_| version < STATUS_READY);
    if let Some(descriptor) = &of_criu {
        request.number(option::STATUS_FD, descriptor.as_raw_fd().into());
    }
    let what = if options.pre_dump {
        kind::PRE_DUMP
    } else {
        let views = if plan.namespaces.has(Kind::Cgroup) {
            Vec::new()
        } else {
            container.cgroup().views(&Host::detect()?)
        };
        // An overlay is only there.
        let root = format!("/proc/{pid}/root");
        let root = path::open_host(Path::new(&root), OFlags::PATH | OFlags::DIRECTORY)
            .doing(|| "open the container's root")?;
        for (name, _) in external_mounts(&plan, &views, &places(&plan, &root), Path::new("")) {
            request.pair(option::EXT_MNT, name.as_os_str().as_bytes(), name.as_os_str().as_bytes());
        }
        add_masks(&mut request, &plan, &root)?;
        images.write(DESCRIPTORS, &descriptors(pid)?)?;
        let files = external_files(pid)?;
        for file in files.iter().filter(|file| !file.is_empty()) {
            request.bytes(option::EXTERNAL, file.as_bytes());
        }
        images.write(FILES, &json(&files)?)?;
        kind::DUMP
    };
    let mut notified = |response: &Response, _: Option<OwnedFd>| {
        log.debug(format_args!("criu: {}", response.script));
        match status.take_if(|_| response.script == "status-ready") {
            // A NUL byte and the end of the stream, for this program runs on until all pages have gone.
            Some(status) => rustix::io::write(&status, &[0])
                .map(drop)
                .doing(|| "say on --status-fd that pages are served"),
            None => Ok(()),
        }
    };
    let result = Criu::start(Streams::None, &[])?.perform(what, request, None, &mut notified);
    result.inspect_err(|_| criu::quote(&images.log("dump.log"), log))
}

/// Returns the cgroup by which CRIU stops the container; without one it traces each process.
fn freezer(cgroups: &BTreeMap<String, String>, version: [u32; 3]) -> Option<&String> {
    cgroups.get("freezer").or_else(|| cgroups.get("").filter(|_| version >= FREEZER_V2))
}

/// Whether a directory of images may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is made where it is missing.
    Allowed,
    /// It must be there.
    Required,
}

/// The directories that CRIU reads and writes.
#[derive(Debug)]
pub(crate) struct Images {
    path: PathBuf,
    directory: OwnedFd,
    work: Option<(PathBuf, OwnedFd)>,
}

impl Images {
    /// Opens them, making what may be made.
    ///
    /// # Errors
    /// As mkdir(2) and open(2).
    pub(crate) fn open(options: &ImageOptions, existing: Existing) -> Result<Self> {
        let path = options.image_path.clone().unwrap_or_else(|| DEFAULT_IMAGES.into());
        let work = options.work_path.clone();
        let make = |path: &Path| {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(path).doing(|| format!("make {}", path.display()))
        };
        if existing == Existing::Allowed {
            make(&path)?;
        }
        work.as_deref().map_or(Ok(()), make)?;
        let open = |path: &Path| {
            path::open_host(path, OFlags::RDONLY | OFlags::DIRECTORY)
                .doing(|| format!("open the images in {}", path.display()))
        };
        let directory = open(&path)?;
        let work = work.map(|path| open(&path).map(|opened| (path, opened))).transpose()?;
        Ok(Self { path, directory, work })
    }

    /// Lets a group go through the directory of images, and those of the pre-dumps that they continue: in a user namespace
    /// CRIU opens them as the container's root. What others may do stays as it is.
    ///
    /// # Errors
    /// None: where it cannot be done, CRIU says which image it cannot open, if it cannot.
    pub(crate) fn let_in(&self, group: Gid) {
        let mut place = rustix::io::dup(&self.directory).ok();
        for _ in 0..PARENTS {
            let Some(directory) = place else { return };
            let Ok(found) = rustix::fs::fstat(&directory) else { return };
            let mode = Mode::from_raw_mode(found.st_mode);
            if !mode.contains(Mode::XOTH) && rustix::fs::fchown(&directory, None, Some(group)).is_ok() {
                let _ = rustix::fs::fchmod(&directory, mode | Mode::XGRP);
            }
            place =
                rustix::fs::openat(&directory, "parent", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                    .ok();
        }
    }

    /// Names them in a request, and the log in the latter.
    pub(crate) fn add_to(&self, request: &mut Writer, log: &str) {
        // An older one would be taken for this request's if CRIU ended before it began its own.
        let _ = std::fs::remove_file(self.log(log));
        request.number(option::IMAGES_DIR_FD, self.directory.as_raw_fd().into());
        if let Some((_, work)) = &self.work {
            request.number(option::WORK_DIR_FD, work.as_raw_fd().into());
        }
        request.number(option::LOG_LEVEL, LOG_LEVEL);
        request.bytes(option::LOG_FILE, log.as_bytes());
    }

    /// Returns where CRIU's log is.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.work.as_ref().map_or(&self.path, |(path, _)| path).join(name)
    }

    /// Returns the path of a file among the images.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.file(name), text).doing(|| format!("write {}", self.file(name).display()))
    }
}

/// Adds what both directions need.
pub(crate) fn add_common(request: &mut Writer, options: &ImageOptions, plan: &Plan, root: &Path) {
    request.bytes(option::ROOT, root.as_os_str().as_bytes());
    // Nobody restores interfaces: a new network namespace is empty, and hooks or engines fill it, as under runc.
    request.number(option::EMPTY_NS, Kind::Network as i64);
    request.number(option::MANAGE_CGROUPS_MODE, options.cgroups_mode.into());
    for (field, value) in [
        (option::MANAGE_CGROUPS, true),
        (option::NOTIFY_SCRIPTS, true),
        (option::ORPHAN_PTS_MASTER, true),
        (option::SHELL_JOB, options.shell_job),
        (option::TCP_ESTABLISHED, options.tcp_established),
        (option::EXT_UNIX_SK, options.ext_unix_sk),
        (option::FILE_LOCKS, options.file_locks),
        (option::AUTO_DEDUP, options.auto_dedup),
        (option::LAZY_PAGES, options.lazy_pages),
    ] {
        request.flag(field, value);
    }
    // By default CRIU calls a program for that, which many hosts do not have any more; a configuration file that chooses
    // another way comes after this.
    if !is_in_path("iptables-restore") {
        request.number(option::NETWORK_LOCK, NFTABLES);
    }
    match plan.annotations.get(annotations::CRIU_CONFIG).map(String::as_str) {
        Some("") => {}
        Some(file) => request.bytes(option::CONFIG_FILE, file.as_bytes()),
        None => request.bytes(option::CONFIG_FILE, CONFIG.as_bytes()),
    }
}

fn is_in_path(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|place| place.join(program).exists())
}

fn add_own(request: &mut Writer, options: &CheckpointOptions, pid: i32) {
    request.number(option::PID, pid.into());
    for (field, value) in [
        (option::LEAVE_RUNNING, options.leave_running),
        (option::TCP_SKIP_IN_FLIGHT, options.tcp_skip_in_flight),
        (option::LINK_REMAP, options.link_remap),
    ] {
        request.flag(field, value);
    }
    if let Some(server) = &options.page_server {
        let mut inner = Writer::default();
        inner.bytes(1, server.address.as_bytes());
        inner.number(2, server.port.into());
        request.bytes(option::PAGE_SERVER, &inner.into_bytes());
    }
}

/// Adds the images of an earlier pre-dump, whose path starts at these images.
fn add_parent(request: &mut Writer, options: &CheckpointOptions, images: &Images) -> Result<()> {
    let Some(parent) = &options.parent_path else { return Ok(()) };
    if parent.is_absolute() {
        return Err(Error::Usage("--parent-path must be relative".into()));
    }
    let place = images.path.join(parent);
    let found =
        std::fs::metadata(&place).doing(|| format!("invalid --parent-path: look at {}", place.display()))?;
    if !found.is_dir() {
        return Err(Error::Usage(format!("invalid --parent-path: {}: not a directory", place.display())));
    }
    request.bytes(option::PARENT_IMG, parent.as_os_str().as_bytes());
    request.flag(option::TRACK_MEM, true);
    Ok(())
}

/// The namespaces that CRIU takes from outside: their kind, their name among its options, and who knows it since when.
pub(crate) const EXTERNAL: [(Kind, &str, &str, [u32; 3]); 2] =
    [(Kind::Network, "net", "extRootNetNS", EXTERNAL_NET), (Kind::Pid, "pid", "extRootPidNS", EXTERNAL_PID)];

fn add_external_namespaces(request: &mut Writer, plan: &Plan, version: [u32; 3]) -> Result<()> {
    for (kind, name, key, since) in EXTERNAL {
        let Some(path) = plan.namespaces.path(kind) else { continue };
        if version < since {
            return Err(criu::too_old(version, since, "a namespace that is joined"));
        }
        let found = std::fs::metadata(path).doing(|| format!("look at the namespace {}", path.display()))?;
        request.bytes(option::EXTERNAL, format!("{name}[{}]:{key}", found.ino()).as_bytes());
    }
    Ok(())
}

/// Refuses what CRIU would restore as something else: it binds again what is bound inside the container, and knows
/// nothing of its map; and what it cannot find: a root that is attached nowhere in its mount namespace.
///
/// # Errors
/// The first such mount.
pub(crate) fn check(plan: &Plan) -> Result<()> {
    if plan.namespaces.shares_mounts() {
        let reason = "criu cannot keep a container without a namespace of type \"mount\"";
        return Err(Error::invalid("/linux/namespaces", reason));
    }
    let is_shared = |mount: &Mount| matches!(mount.source, Source::Namespace { .. });
    if let Some(index) = plan.mounts.iter().position(is_shared) {
        let reason = "criu cannot keep what is mounted in another mount namespace";
        return Err(Error::invalid(format!("/mounts/{index}"), reason));
    }
    let is_lost = |mount: &Mount| matches!(mount.source, Source::Inside { idmap: Some(_), .. });
    plan.mounts.iter().position(is_lost).map_or(Ok(()), |index| {
        let reason = "criu cannot keep the id mapping of a mount whose source is in the container";
        Err(Error::invalid(format!("/mounts/{index}"), reason))
    })
}

/// Lists the mounts of a container whose content is the host's: their name in the images, which is their place in the
/// container, and the host's path.
///
/// `places` are those of [`places`]; what is bound with mapped ids is in `mapped`, by the mount's number.
pub(crate) fn external_mounts(
    plan: &Plan,
    views: &[View],
    places: &[PathBuf],
    mapped: &Path,
) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for (index, (mount, place)) in plan.mounts.iter().zip(places).enumerate() {
        match &mount.source {
            Source::Bind { path, link, .. } if link.content(path).is_some() => {}
            Source::Bind { path, idmap, .. } => {
                let source = if idmap.is_some() { mapped.join(index.to_string()) } else { path.clone() };
                found.push((place.clone(), source));
            }
            Source::Cgroup => found.extend(parts(place, views)),
            // What is bound inside the container is in the images.
            Source::Inside { .. } | Source::Filesystem { .. } | Source::Existing { .. } => {}
            // Refused by `check`.
            Source::Namespace { .. } => {}
        }
    }
    // In a user namespace nodes are bind mounts of the host's.
    found.extend(plan.devices.iter().map(|device| (device.path.clone(), device.path.clone())));
    found
}

fn parts(place: &Path, views: &[View]) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    // As they are mounted: `cgroup_mount`.
    let is_unified = matches!(views, [only] if only.version == Version::V2);
    let views = views.iter().filter(move |view| is_unified || view.version == Version::V1);
    views.map(move |view| {
        let at = if is_unified { place.to_owned() } else { place.join(&view.name) };
        (at, PathBuf::from(&view.source))
    })
}

/// Returns where each mount of a container is, for the kernel: the image may have links on the way to a mount point.
pub(crate) fn places(plan: &Plan, root: &OwnedFd) -> Vec<PathBuf> {
    let place = |mount: &Mount| {
        let there = mount.destination.ancestors();
        there.into_iter().find_map(|there| resolved(root, &mount.destination, there))
    };
    plan.mounts.iter().map(|mount| place(mount).unwrap_or_else(|| mount.destination.clone())).collect()
}

/// Follows links as far as `there`, a part of the way; what is behind it need not exist.
fn resolved(root: &OwnedFd, destination: &Path, there: &Path) -> Option<PathBuf> {
    let found = target::open(root.as_fd(), there, OFlags::PATH).ok().flatten()?;
    let name =
        |descriptor: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok();
    let inside = Path::new("/").join(name(&found)?.strip_prefix(name(root)?).ok()?);
    Some(inside.join(destination.strip_prefix(there).ok()?).components().collect())
}

/// Names the masks that are files: each is the host's null device.
fn add_masks(request: &mut Writer, plan: &Plan, root: &OwnedFd) -> Result<()> {
    for masked in &plan.masked {
        let Ok(Some(found)) = target::open(root.as_fd(), masked, OFlags::PATH) else { continue };
        let found = rustix::fs::fstat(&found).doing(|| format!("look at {}", masked.display()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            request.pair(option::EXT_MNT, masked.as_os_str().as_bytes(), b"/dev/null");
        }
    }
    Ok(())
}

/// Says what the standard streams are, as a list of the names that the kernel has for them.
fn descriptors(pid: i32) -> Result<String> {
    let name = |number| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        // One that the program has closed.
        link.map_or_else(|_| "/dev/null".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    json(&[name(0), name(1), name(2)])
}

fn json(texts: &[String; 3]) -> Result<String> {
    serde_json::to_string(texts).map_err(|error| Error::Usage(error.to_string()))
}

/// Names the standard streams that are files of the host, a log or its null device: CRIU knows only files on mounts of the
/// container, and takes others from whoever restores.
fn external_files(pid: i32) -> Result<[String; 3]> {
    let mounts = format!("/proc/{pid}/mountinfo");
    let mounts = std::fs::read_to_string(&mounts).doing(|| format!("read {mounts}"))?;
    let name = |number: usize| {
        let found = std::fs::metadata(format!("/proc/{pid}/fd/{number}")).ok()?;
        let is_file = found.is_file()
            || found.file_type().is_char_device() && rustix::fs::major(found.rdev()) == MEMORY;
        let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        let mount = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse::<u64>().ok()?;
        let is_inside = mounts.lines().any(|line| line.split(' ').next() == Some(mount.to_string().as_str()));
        (is_file && !is_inside).then(|| format!("file[{mount:x}:{:x}]", found.ino()))
    };
    Ok([0, 1, 2].map(|number| name(number).unwrap_or_default()))
}

/// Takes the caller's descriptor that hears when pages can be served; it may be a socket, too.
fn status_descriptor(number: i32) -> Result<OwnedFd> {
    let invalid = |why: &str| Error::Usage(format!("invalid --status-fd argument {number}: {why}"));
    if !u32::try_from(number).is_ok_and(fds::is_passed) {
        return Err(invalid("it is not open"));
    }
    let descriptor = process::take_inherited(number).map_err(|_| invalid("it is not open"))?;
    let mode = rustix::fs::fcntl_getfl(&descriptor).doing(|| "look at --status-fd")?;
    match mode.intersects(OFlags::WRONLY | OFlags::RDWR) {
        true => Ok(descriptor),
        false => Err(invalid("not writable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_criu_does_not_hear_of_the_freezer_of_v2() {
        let of = |places: &[&str], version| {
            let cgroups = places.iter().map(|name| ((*name).to_owned(), format!("/{name}"))).collect();
            freezer(&cgroups, version).cloned()
        };
        let (old, new) = ([3, 13, 9], [3, 14, 0]);
        assert_eq!(of(&["memory", "freezer", ""], old).as_deref(), Some("/freezer"));
        assert_eq!(of(&[""], new).as_deref(), Some("/"));
        assert_eq!(of(&[""], old), None);
        assert_eq!(of(&["memory"], new), None);
    }
}
