//! Mounts of the container: from the plan to the kernel, by descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_cgroup::View;
use bulkhead_sys::mount::{self as sys_mount, Attributes, Filesystem, Propagation, Reach, attribute};
use bulkhead_sys::namespace::Kind;
use bulkhead_sys::path;
use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::cgroup_mount;
use crate::error::{Doing, Error, Result};
use crate::plan::mount_options::Change;
use crate::plan::mounts::{Mount, Source};
use crate::plan::namespaces::Namespaces;
use crate::plan::{MountLabel, Plan};
use crate::spent::Spent;
use crate::{copy_up, handshake, sources, target};

/// Longest value that fsconfig(2) takes.
pub(crate) const LONGEST_VALUE: usize = 255;
/// File systems whose superblock is shared: `ro` may change the mount only.
const SHARED_SUPERBLOCK: [&str; 7] = ["proc", "sysfs", "mqueue", "devpts", "tmpfs", "cgroup", "cgroup2"];

/// What mounts need beside the plan.
pub(crate) struct Context<'a> {
    /// The container's root.
    pub root: BorrowedFd<'a>,
    /// Which namespaces the container has.
    pub namespaces: &'a Namespaces,
    /// The container's view of its control groups.
    pub cgroups: &'a [View],
    /// Detached trees that the parent opened with the host's rights, by index of the mount.
    pub prepared: &'a [Option<OwnedFd>],
    /// The parent, who maps ids for a user namespace.
    pub socket: &'a handshake::Child,
    /// How these are cut off from the host's.
    pub cut: Option<Propagation>,
    /// The SELinux context of mounts.
    pub label: Option<&'a MountLabel>,
    /// Where descriptors go that have done their work.
    pub spent: &'a Spent,
}

/// Performs mount number `index` of the plan; returns it if it is to be made read-only when all is in place.
///
/// # Errors
/// The mount's place in the configuration, its destination and the call that failed.
pub(crate) fn perform(context: &Context<'_>, index: usize, mount: &Mount) -> Result<Option<OwnedFd>> {
    let attempted = attempt(context, index, mount);
    // The words are runc's: people look for them in logs.
    let what = || format!("error mounting {:?} to rootfs at {:?}", source_of(mount), mount.destination);
    attempted.map_err(|error| error.at(&format!("/mounts/{index}")).within(what))
}

/// What the configuration calls the source of a mount, as far as it has one.
fn source_of(mount: &Mount) -> &Path {
    match &mount.source {
        Source::Bind { path, .. } | Source::Inside { path, .. } | Source::Namespace { path } => path,
        Source::Filesystem { source, .. } => Path::new(source),
        Source::Cgroup => Path::new("cgroup"),
        Source::Existing { .. } => Path::new(""),
    }
}

fn attempt(context: &Context<'_>, index: usize, mount: &Mount) -> Result<Option<OwnedFd>> {
    match &mount.source {
        Source::Bind { path, reach, link, .. } => {
            if let Some(content) = link.content(path) {
                return target::link(context.root, &mount.destination, &content).map(|()| None);
            }
            let prepared = context.prepared.get(index).and_then(Option::as_ref);
            bind(context, mount, path, *reach, prepared.map(AsFd::as_fd)).map(|()| None)
        }
        Source::Inside { path, reach, idmap } => {
            let tree = open_inside(context.root, path, *reach)?;
            match (idmap, context.prepared.get(index).and_then(Option::as_ref)) {
                (None, _) => {}
                (Some(idmap), Some(mapping)) => {
                    crate::idmap::map_tree(&tree, mapping.as_fd(), idmap.reach, path)?;
                }
                (Some(_), None) => context.socket.unmapped(index as u32, tree.as_fd())?,
            }
            let done = bind(context, mount, path, *reach, Some(tree.as_fd())).map(|()| None);
            context.spent.take(tree);
            done
        }
        Source::Namespace { path } => {
            let namespace = context.prepared.get(index).and_then(Option::as_ref).ok_or(Errno::NOENT);
            let namespace = namespace.doing(|| format!("open the mount namespace {}", path.display()))?;
            let tree = sources::open_root_of(namespace.as_fd())?;
            let done = bind(context, mount, path, Reach::Mount, Some(tree.as_fd())).map(|()| None);
            context.spent.take(tree);
            done
        }
        Source::Filesystem { kind, source, options, flags, copy_up } => {
            filesystem(context, mount, &New { kind, source, options, flags, copy_up: *copy_up })
        }
        Source::Cgroup => cgroup_mount::perform(context, mount).map(|()| None),
        Source::Existing { options, flags } => {
            let existing = target::existing(context.root, &mount.destination)?;
            reconfigure(&existing, mount, options, flags)?;
            change(existing.as_fd(), mount, sys_mount::set_attached).map(|()| None)
        }
    }
}

/// Makes mounts read-only that had to be writable for mount points and devices in them.
///
/// # Errors
/// As mount_setattr(2).
pub(crate) fn seal(mounts: &[OwnedFd]) -> Result<()> {
    let readonly = Attributes::new(attribute::RDONLY, 0);
    mounts.iter().try_for_each(|mount| {
        sys_mount::set_attached(mount.as_fd(), readonly, Reach::Mount).doing(|| "make a mount read-only")
    })
}

/// Changes a mount: [`sys_mount::set_attributes`] for a detached one, [`sys_mount::set_attached`] for another.
pub(crate) type Set = fn(BorrowedFd<'_>, Attributes, Reach) -> bulkhead_sys::Result<()>;

/// Attaches a mount with what `change` does to it: before, so that nobody ever sees it without.
///
/// Where the kernel changes attached mounts only, which is before Linux 5.12, it is attached first. It is attached in the
/// container's mount namespace, in which nothing of the container runs yet.
///
/// # Errors
/// Those of `change` and `attach`.
pub(crate) fn place(
    change: &dyn Fn(Set) -> Result<()>,
    attach: &dyn Fn() -> bulkhead_sys::Result<()>,
    doing: &dyn Fn() -> String,
) -> Result<()> {
    match change(sys_mount::set_attributes) {
        Err(_) if sys_mount::is_by_remount() => {
            attach().doing(doing)?;
            change(sys_mount::set_attached)
        }
        changed => {
            changed?;
            attach().doing(doing)
        }
    }
}

/// Tells how a tree of the runtime's mount namespace becomes what a copy of it would be in the container's.
pub(crate) fn cut_of(plan: &Plan) -> Option<Propagation> {
    if plan.root.keeps_peers() && !plan.namespaces.has(Kind::User) {
        return None;
    }
    let (propagation, _) = plan.root.propagation;
    Some(if propagation == Propagation::Private { propagation } else { Propagation::Slave })
}

/// Cuts a tree off from the host's mounts.
///
/// # Errors
/// As mount_setattr(2).
pub(crate) fn cut_off(tree: BorrowedFd<'_>, cut: Option<Propagation>, set: Set) -> Result<()> {
    let Some(kind) = cut else { return Ok(()) };
    set(tree, Attributes::default().with_propagation(kind), Reach::Tree)
        .doing(|| "cut a mount off from the host's")
}

/// Changes the options of a file system that is mounted; attributes are the mount's and not its affair.
fn reconfigure(
    existing: &OwnedFd,
    mount: &Mount,
    options: &[(String, Option<String>)],
    flags: &[&str],
) -> Result<()> {
    if options.is_empty() && flags.is_empty() {
        return Ok(());
    }
    let doing = || format!("change the file system at {}", mount.destination.display());
    let filesystem = Filesystem::pick(existing).doing(doing)?;
    set_options(&filesystem, options, flags).doing(doing)?;
    filesystem.reconfigure().doing(doing)
}

/// Opens the source of a bind mount as a detached tree.
///
/// # Errors
/// ENOENT when the source is not there.
pub(crate) fn open_source(source: &Path, reach: Reach) -> Result<OwnedFd> {
    let doing = || format!("bind {}", source.display());
    let opened = path::open_host(source, OFlags::PATH).doing(doing)?;
    sys_mount::clone_tree(&opened, Path::new(""), reach).doing(doing)
}

/// Opens a source in the container as a detached tree; whatever its links are, it is not left.
fn open_inside(root: BorrowedFd<'_>, path: &Path, reach: Reach) -> Result<OwnedFd> {
    let doing = || format!("bind {} of the container", path.display());
    let opened = target::open(root, path, OFlags::PATH)?.ok_or(Errno::NOENT).doing(doing)?;
    sys_mount::clone_tree(&opened, Path::new(""), reach).doing(doing)
}

fn bind(
    context: &Context<'_>,
    mount: &Mount,
    source: &Path,
    reach: Reach,
    prepared: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let opened = if prepared.is_none() { Some(open_source(source, reach)?) } else { None };
    let Some(tree) = prepared.or(opened.as_ref().map(AsFd::as_fd)) else { return Ok(()) };
    let doing = || format!("bind {} at {}", source.display(), mount.destination.display());
    let found = rustix::fs::fstat(tree).doing(doing)?;
    let target = if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        target::directory(context.root, &mount.destination)?
    } else {
        target::file(context.root, &mount.destination)?
    };
    let change = |set: Set| {
        if prepared.is_some() && sys_mount::is_by_remount() {
            // What the parent could not do: see `prepare_mounts`.
            cut_off(tree, context.cut, set)?;
        }
        change(tree, mount, set)
    };
    place(&change, &|| sys_mount::attach(tree, &target), &doing)?;
    context.spent.take(target);
    opened.into_iter().for_each(|tree| context.spent.take(tree));
    Ok(())
}

/// Changes attributes and propagation of a mount.
pub(crate) fn change(tree: BorrowedFd<'_>, mount: &Mount, set: Set) -> Result<()> {
    let Change { set: added, clear } = mount.attributes;
    let wanted = Change { set: added, clear: clear | mount.yielding };
    match alter(tree, mount, wanted, Reach::Mount, set) {
        Err(Error::System { source, .. }) if source.errno() == Errno::PERM && mount.yielding != 0 => {
            alter(tree, mount, mount.attributes, Reach::Mount, set)?;
        }
        other => other?,
    }
    settle(tree, mount, set)
}

/// Changes what reaches beyond the attributes of the mount itself.
///
/// # Errors
/// EPERM in a user namespace that would clear what the host has set.
pub(crate) fn settle(tree: BorrowedFd<'_>, mount: &Mount, set: Set) -> Result<()> {
    alter(tree, mount, mount.recursive, Reach::Tree, set)?;
    let doing = || format!("set the propagation of {}", mount.destination.display());
    mount.propagation.iter().try_for_each(|&(kind, reach)| {
        set(tree, Attributes::default().with_propagation(kind), reach).doing(doing)
    })
}

fn alter(tree: BorrowedFd<'_>, mount: &Mount, change: Change, reach: Reach, set: Set) -> Result<()> {
    let attributes = Attributes::new(change.set, change.clear);
    if attributes.is_empty() {
        return Ok(());
    }
    set(tree, attributes, reach).map_err(|source| {
        let why = match source.errno() {
            Errno::PERM => " (a user namespace keeps what the host has set)",
            _ => "",
        };
        let doing = format!("set the options of {}{why}", mount.destination.display());
        Error::System { doing, source }
    })
}

/// A file system to create.
struct New<'a> {
    kind: &'a str,
    source: &'a str,
    options: &'a [(String, Option<String>)],
    flags: &'a [&'static str],
    copy_up: bool,
}

impl New<'_> {
    fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|(key, _)| key == name)
    }

    /// File systems without labels of their own take the container's, unless theirs is configured.
    fn takes_context(&self) -> bool {
        matches!(self.kind, "tmpfs" | "ramfs" | "devpts" | "overlay") && !self.has_option("context")
    }

    /// The kernel has mounted the queues of an IPC namespace itself already, and refuses another context: only their
    /// directory gets the label, as under runc.
    fn is_labelled_later(&self) -> bool {
        self.kind == "mqueue"
    }
}

fn filesystem(context: &Context<'_>, mount: &Mount, new: &New<'_>) -> Result<Option<OwnedFd>> {
    // Mount points and devices are still to be made in these.
    let is_furnished = new.kind == "tmpfs" || mount.destination == Path::new("/dev");
    let is_sealed = is_furnished && mount.attributes.set & attribute::RDONLY != 0;
    let set = if is_sealed { mount.attributes.set & !attribute::RDONLY } else { mount.attributes.set };
    let mode = inherited_mode(context, mount, new)?;
    let target = target::directory(context.root, &mount.destination)?;
    let is_long = |(_, value): &(String, Option<String>)| {
        value.as_ref().is_some_and(|value| value.len() > LONGEST_VALUE)
    };
    let tree = if new.options.iter().any(is_long) {
        legacy(context, mount, new, target.as_fd(), Change { set, ..mount.attributes })?
    } else {
        let doing = || explain(context, mount, new);
        let created = configure(context, new, set, mode).and_then(|filesystem| {
            let tree = filesystem.mount(set);
            context.spent.take(filesystem);
            tree
        });
        match created {
            Err(error) if error.errno() == Errno::PERM => {
                let Some(host) = substitute(context.namespaces, mount, new.kind) else {
                    return Err(error).doing(doing);
                };
                return bind_instead(context, mount, host);
            }
            other => {
                let tree = other.doing(doing)?;
                if new.copy_up {
                    copy_up::copy(target.as_fd(), tree.as_fd(), &mount.destination)?;
                }
                if let Some(label) = context.label.filter(|_| new.is_labelled_later()) {
                    label_root(&tree, &label.context).doing(doing)?;
                }
                let rest = Change { set: set & attribute::NOSYMFOLLOW, clear: 0 };
                let change = |set: Set| {
                    if sys_mount::is_by_remount() {
                        // The one attribute that a new mount does not get from an old kernel.
                        alter(tree.as_fd(), mount, rest, Reach::Mount, set)?;
                    }
                    settle(tree.as_fd(), mount, set)
                };
                place(&change, &|| sys_mount::attach(&tree, &target), &doing)?;
                tree
            }
        }
    };
    context.spent.take(target);
    if is_sealed {
        return Ok(Some(tree));
    }
    context.spent.take(tree);
    Ok(None)
}

/// A tmpfs over a directory of the image gets that one's mode, as under runc: /tmp stays open to all.
fn inherited_mode(context: &Context<'_>, mount: &Mount, new: &New<'_>) -> Result<Option<String>> {
    if new.kind != "tmpfs" || new.has_option("mode") {
        return Ok(None);
    }
    let Some(hidden) = target::open(context.root, &mount.destination, OFlags::PATH)? else { return Ok(None) };
    let found = rustix::fs::fstat(&hidden).doing(|| format!("look at {}", mount.destination.display()))?;
    Ok(Some(format!("{:o}", found.st_mode & 0o7777)))
}

fn configure(
    context: &Context<'_>,
    new: &New<'_>,
    attributes: u64,
    mode: Option<String>,
) -> bulkhead_sys::Result<Filesystem> {
    let filesystem = Filesystem::open(new.kind)?;
    if !new.source.is_empty() {
        filesystem.set("source", new.source)?;
    }
    // devpts has had one instance per mount since Linux 4.7 and ignores the word.
    let is_obsolete = |key: &str| new.kind == "devpts" && key == "newinstance";
    let options: Vec<_> = new.options.iter().filter(|(key, _)| !is_obsolete(key)).cloned().collect();
    set_options(&filesystem, &options, new.flags)?;
    if let Some(mode) = mode {
        filesystem.set("mode", &mode)?;
    }
    if attributes & attribute::RDONLY != 0 && !SHARED_SUPERBLOCK.contains(&new.kind) {
        filesystem.set_flag("ro")?;
    }
    if let Some(label) = context.label.filter(|_| new.takes_context()) {
        filesystem.set(label.option, &label.context)?;
    }
    Ok(filesystem)
}

fn set_options(
    filesystem: &Filesystem,
    options: &[(String, Option<String>)],
    flags: &[&str],
) -> bulkhead_sys::Result<()> {
    for (key, value) in options {
        match value {
            Some(value) => filesystem.set(key, value)?,
            None => filesystem.set_flag(key)?,
        }
    }
    flags.iter().try_for_each(|flag| filesystem.set_flag(flag))
}

/// Names the host's directory that stands in where a user namespace may not mount a file system of its own, because
/// what that shows belongs to a namespace which the container shares with the host.
///
/// A read-only sysfs is replaced also where the runtime sees one of which parts are hidden, as in most containers, since
/// the kernel makes no other that shows them; crun does the same.
fn substitute(namespaces: &Namespaces, mount: &Mount, kind: &str) -> Option<&'static Path> {
    let (owner, path) = match kind {
        "sysfs" => (Kind::Network, "/sys"),
        "mqueue" => (Kind::Ipc, "/dev/mqueue"),
        "proc" => (Kind::Pid, "/proc"),
        _ => return None,
    };
    let is_closed_sysfs = kind == "sysfs" && mount.attributes.set & attribute::RDONLY != 0;
    let stands_in = is_closed_sysfs || !namespaces.is_new(owner);
    (namespaces.has(Kind::User) && stands_in).then_some(Path::new(path))
}

/// Binds a directory of the host with all that is mounted below it, which gets the same attributes.
fn bind_instead(context: &Context<'_>, mount: &Mount, host: &Path) -> Result<Option<OwnedFd>> {
    let everything = Mount {
        destination: mount.destination.clone(),
        source: Source::Existing { options: Vec::new(), flags: Vec::new() },
        attributes: Change::default(),
        yielding: 0,
        // Only what is set: what the host has set stays.
        recursive: Change { set: mount.attributes.set & !attribute::ATIME, clear: 0 },
        propagation: mount.propagation.clone(),
    };
    bind(context, &everything, host, Reach::Tree, None).map(|()| None)
}

fn explain(context: &Context<'_>, mount: &Mount, new: &New<'_>) -> String {
    let hint = match new.kind {
        "proc" | "sysfs" if context.namespaces.has(Kind::User) => {
            " (a user namespace may do that only where it sees one of which nothing is hidden)"
        }
        _ if context.label.is_some() && new.takes_context() => {
            " (with the SELinux label of /linux/mountLabel: is SELinux enabled on this host, and the label known to it?)"
        }
        _ => "",
    };
    format!("mount {} at {}{hint}", new.kind, mount.destination.display())
}

fn label_root(tree: &OwnedFd, label: &str) -> bulkhead_sys::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(tree, ".", flags, Mode::empty());
    root.and_then(|root| {
        rustix::fs::fsetxattr(root, "security.selinux", label.as_bytes(), XattrFlags::empty())
    })
    .map_err(|errno| bulkhead_sys::Error::new(format!("fsetxattr(\"security.selinux\", {label:?})"), errno))
}

/// The option by which mount(2), which has commas between options, is told a label, which may have some too.
pub(crate) fn context(option: &str, label: &str) -> (String, Option<String>) {
    (option.to_owned(), Some(format!("\"{label}\"")))
}

/// Mounts by mount(2), whose data may have a page, where a value is too long for fsconfig(2).
fn legacy(
    context: &Context<'_>,
    mount: &Mount,
    new: &New<'_>,
    target: BorrowedFd<'_>,
    attributes: Change,
) -> Result<OwnedFd> {
    let doing = || format!("mount {} at {}", new.kind, mount.destination.display());
    if new.copy_up {
        return Err(Error::Usage(format!(
            "the options of {} are too long for tmpcopyup",
            mount.destination.display()
        )));
    }
    let mut options = new.options.to_vec();
    if let Some(label) = context.label.filter(|_| new.takes_context()) {
        options.push(self::context(label.option, &label.context));
    }
    mount_here(new.source, new.kind, target, &options, legacy_flags(attributes.set, new.flags))
        .doing(doing)?;
    let mounted = target::directory(context.root, &mount.destination)?;
    alter(mounted.as_fd(), mount, attributes, Reach::Mount, sys_mount::set_attached)?;
    settle(mounted.as_fd(), mount, sys_mount::set_attached)?;
    Ok(mounted)
}

fn legacy_flags(attributes: u64, flags: &[&str]) -> MountFlags {
    let mut bits = MountFlags::empty();
    for (bit, flag) in [
        (attribute::RDONLY, MountFlags::RDONLY),
        (attribute::NOSUID, MountFlags::NOSUID),
        (attribute::NODEV, MountFlags::NODEV),
        (attribute::NOEXEC, MountFlags::NOEXEC),
    ] {
        bits.set(flag, attributes & bit != 0);
    }
    for flag in flags {
        let (flag, is_set) = match *flag {
            "sync" => (MountFlags::SYNCHRONOUS, true),
            "async" => (MountFlags::SYNCHRONOUS, false),
            "dirsync" => (MountFlags::DIRSYNC, true),
            "lazytime" => (MountFlags::LAZYTIME, true),
            "nolazytime" => (MountFlags::LAZYTIME, false),
            "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
            "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
            _ => continue,
        };
        bits.set(flag, is_set);
    }
    bits
}

/// Mounts on the directory behind a descriptor: it becomes the working directory, which no link can exchange.
pub(crate) fn mount_here(
    source: &str,
    kind: &str,
    target: impl AsFd,
    options: &[(String, Option<String>)],
    flags: MountFlags,
) -> bulkhead_sys::Result<()> {
    use bulkhead_sys::Call;
    let words = options.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    let data = words.collect::<Vec<_>>().join(",");
    let data =
        std::ffi::CString::new(data).map_err(|_| Errno::INVAL).call(|| "mount(data with a NUL byte)")?;
    rustix::process::fchdir(target).call(|| "fchdir(mount point)")?;
    rustix::mount::mount(source, ".", kind, flags, Some(data.as_c_str()))
        .call(|| format!("mount({source:?}, \".\", {kind:?}, {flags:?}, {data:?})"))
}

/// Sets the propagation of the calling thread's whole mount namespace.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub(crate) fn set_namespace_propagation(kind: Propagation, reach: Reach) -> Result<()> {
    let mut flags = match kind {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    flags.set(MountPropagationFlags::REC, reach == Reach::Tree);
    rustix::mount::mount_change("/", flags).doing(|| "set the propagation of the container's mounts")
}
