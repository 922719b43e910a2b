//! `restore`: CRIU makes a container's processes again of the images that `checkpoint` wrote.
//!
//! All around them is made as for a new container: the record, the cgroups with their limits and device programs, hooks.
//! CRIU runs in the container's cgroup, and in a mount namespace of its own, where the root file system is mounted as it
//! wants it: at a place over which nothing else lies. That namespace ends with CRIU, so nothing of it can be left.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bulkhead_cgroup::Doors;
use bulkhead_sys::mount::{self as sys_mount, Filesystem, Propagation, Reach};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{net, path, process};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags};

use crate::bundle::Bundle;
use crate::cgroup_plan::{self, CgroupPlan};
use crate::checkpoint::{self, DESCRIPTORS, EXTERNAL, Existing, FILES, Images, external_mounts, option};
use crate::cli::RestoreOptions;
use crate::clone::Child;
use crate::criu::wire::{Response, Writer, kind};
use crate::criu::{self, Criu, Streams};
use crate::error::{Doing, Error, Result, words};
use crate::hooks::Document;
use crate::launch::{Attempt, Launched, Request, attempt};
use crate::log::Log;
use crate::plan::mounts::Source;
use crate::plan::namespaces::host_id;
use crate::plan::{Overlay, Plan, Root};
use crate::rootfs::Entry;
use crate::state::{CRIU_MOUNTS, CRIU_ROOT, State, StateDir};
use crate::timestamp::Timestamp;
use crate::{fds, launch, mount, overlay, sources, target};

const LOG: &str = "restore.log";

/// The version since which a security label can be exchanged.
const LABELS: [u32; 3] = [3, 16, 0];

/// Where AppArmor lists the profiles that are loaded, a line for each: `NAME (MODE)`.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// Restores a container.
///
/// # Errors
/// No CRIU or one that is too old, no images, and all that can go wrong with a new container; nothing is left of it then.
pub(crate) fn restore(
    bundle: &Bundle,
    request: &Request<'_>,
    options: &RestoreOptions,
    log: &Log,
) -> Result<Launched> {
    let plan = launch::plan(bundle, request, log)?;
    checkpoint::check(&plan)?;
    let version = criu::version()?;
    for (flag, value) in
        [("--lsm-profile", &options.lsm_profile), ("--lsm-mount-context", &options.lsm_mount_context)]
    {
        if value.is_some() && version < LABELS {
            return Err(criu::too_old(version, LABELS, flag));
        }
    }
    check_profile(bundle, options)?;
    let images = Images::open(&options.images, Existing::Required)?;
    let (streams, _null) = streams(&images, options.create.preserve_fds)?;
    attempt(&plan, bundle, request, log, &mut |attempt, cgroup, _| {
        Restoration { options, streams: &streams, version }.make(attempt, bundle, cgroup)
    })
}

/// Makes sure that AppArmor has the profile that the container is to have, another or its own. CRIU finds out when all has
/// been restored, kills a process whose end it then has to take note of, and waits instead for the first one, which waits
/// for that.
fn check_profile(bundle: &Bundle, options: &RestoreOptions) -> Result<()> {
    let own = bundle.config.process.as_ref().and_then(|process| process.apparmor_profile.as_deref());
    let name = match &options.lsm_profile {
        Some(other) => other.strip_prefix("apparmor:"),
        None => own.filter(|name| !name.is_empty()),
    };
    let Some(name) = name else { return Ok(()) };
    match std::fs::read_to_string(PROFILES) {
        Ok(loaded) if !is_loaded(name, &loaded) => {
            let reason = format!("AppArmor has no profile {name:?}; apparmor_parser loads one");
            Err(match options.lsm_profile {
                Some(_) => Error::Usage(format!("--lsm-profile: {reason}")),
                None => Error::invalid("/process/apparmorProfile", reason),
            })
        }
        // A kernel without AppArmor, or nobody has mounted its files. What has been restored is looked at, too.
        _ => Ok(()),
    }
}

/// Refuses a process that is to have a label and has the runtime's own, or whose label nobody can read.
fn confirm_label(wanted: &str, own: io::Result<String>, found: io::Result<String>) -> Result<()> {
    let reason = match (own, found) {
        (Ok(own), Ok(found)) if is_lost(wanted, &own, &found) => format!(
            "criu has not restored the label {wanted}, and the container had the runtime's own: {}",
            own.trim_end_matches(['\0', '\n'])
        ),
        (Ok(_), Ok(_)) => return Ok(()),
        (Err(error), _) | (_, Err(error)) => format!(
            "the container is to have the label {wanted}, and what it has cannot be read in /proc/PID/attr/current: {}",
            words(&error)
        ),
    };
    Err(Error::Criu { reason })
}

/// Tells whether a process that is to have a label has that of the runtime, as the kernel writes both.
fn is_lost(wanted: &str, own: &str, found: &str) -> bool {
    let plain = |label: &str| label.trim_end_matches(['\0', '\n']).to_owned();
    let own = plain(own);
    plain(found) == own && own != wanted && !own.starts_with(&format!("{wanted} ("))
}

/// Looks for a profile, or for each of a stack (`ONE//&OTHER`); those of another policy namespace (`:NAMESPACE:NAME`) are
/// not listed here.
fn is_loaded(label: &str, profiles: &str) -> bool {
    let is_listed = |name: &str| {
        let mut listed = profiles.lines().filter_map(|line| line.rsplit_once(" ("));
        listed.any(|(listed, _)| listed == name)
    };
    label.split("//&").all(|name| name == "unconfined" || name.starts_with(':') || is_listed(name))
}

/// What processes take over from the caller: the name that CRIU has for it, and the descriptor's number.
type Stream = (String, i32);

/// Finds them. A pipe or a file of the host becomes the caller's stream of the same number; what was the host's null
/// device stays that, and is opened here for as long as it is needed.
fn streams(images: &Images, preserved: u32) -> Result<(Vec<Stream>, Vec<OwnedFd>)> {
    let names = list(&images.file(DESCRIPTORS))?;
    // runc's images have none.
    let files = list(&images.file(FILES)).unwrap_or_default();
    let count = preserved as usize + 3;
    let mut streams: Vec<Stream> = Vec::new();
    let mut opened = Vec::new();
    for (number, name) in (0..).zip(names.iter().take(count)) {
        if number > 2 && !fds::is_passed(number as u32) {
            continue;
        }
        let Some(file) = files.get(number as usize).filter(|file| !file.is_empty()) else {
            if name.contains("pipe:") {
                streams.push((name.clone(), number));
            }
            continue;
        };
        // CRIU takes a name once. Of several streams the last counts: where input and output are one file, the caller's
        // output can be written.
        streams.retain(|(known, _)| known != file);
        let number = if name == "/dev/null" {
            let null = path::open_host(Path::new(name), OFlags::RDWR).doing(|| "open the null device")?;
            opened.push(null);
            opened.last().map_or(number, AsRawFd::as_raw_fd)
        } else {
            number
        };
        streams.push((file.clone(), number));
    }
    // The caller's further ones are known if they are those that the container had.
    for number in (names.len().max(3)..count).filter(|&number| fds::is_passed(number as u32)) {
        let name = std::fs::read_link(format!("/proc/self/fd/{number}"))
            .doing(|| format!("look at descriptor {number}"))?;
        streams.push((name.to_string_lossy().into_owned(), number as i32));
    }
    Ok((streams, opened))
}

fn list(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).doing(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", file.display())))
}

struct Restoration<'a> {
    options: &'a RestoreOptions,
    streams: &'a [Stream],
    version: [u32; 3],
}

impl Restoration<'_> {
    fn make(
        &self,
        attempt: &mut Attempt<'_>,
        bundle: &Bundle,
        cgroup: &mut Option<CgroupPlan>,
    ) -> Result<(State, Child, Option<OwnedFd>)> {
        let plan = attempt.plan;
        let mut state = attempt.record(bundle, cgroup.as_ref())?;
        let mut request = Writer::default();
        let namespaces = self.add_namespaces(&mut request, plan)?;
        let inherited: Vec<i32> = namespaces
            .iter()
            .map(AsRawFd::as_raw_fd)
            .chain(self.streams.iter().map(|(_, number)| *number))
            .collect();
        let places = make_mount_points(plan)?;
        let stage = Stage::enter()?;
        let started = set_stage(plan, &attempt.dir, attempt.request.entry).and_then(|()| {
            // CRIU mounts in its work directory, which must be on a mount of its own namespace.
            let images = Images::open(&self.options.images, Existing::Required)?;
            Ok((images, Criu::start(Streams::Inherited, &inherited)?))
        });
        stage.leave()?;
        let (images, criu) = started?;
        if cgroup.as_ref().is_some_and(CgroupPlan::is_for_systemd) {
            attempt.make_scope(criu.pid(), cgroup.as_mut(), &mut state)?;
        } else if let Some(made) = &attempt.cgroup {
            made.joiner(Doors::OpenedByChild)?.join_other(criu.pid())?;
        }
        attempt.join_class(criu.pid())?;
        if !plan.net_devices.is_empty() {
            attempt.log.warn(
                "/linux/netDevices: devices of the host are not moved into a container that is restored",
            );
        }
        if let Some(gid) = plan.namespaces.maps().and_then(|maps| host_id(&maps.gids, maps.first_gid())) {
            images.let_in(Gid::from_raw(gid));
        }
        images.add_to(&mut request, LOG);
        let place = std::fs::canonicalize(attempt.dir.path("")).doing(|| "find the state directory")?;
        checkpoint::add_common(&mut request, &self.options.images, plan, &place.join(CRIU_ROOT));
        self.add_own(&mut request);
        add_cgroups(&mut request, criu.pid())?;
        let views = match plan.namespaces.has(Kind::Cgroup) {
            true => Vec::new(),
            false => cgroup_plan::views(plan, cgroup.as_ref(), attempt.cgroup.as_ref()),
        };
        for (name, source) in external_mounts(plan, &views, &places, &place.join(CRIU_MOUNTS)) {
            // CRIU takes a link for a file, even if it leads to a directory.
            let source = std::fs::canonicalize(&source).unwrap_or(source);
            request.pair(option::EXT_MNT, name.as_os_str().as_bytes(), source.as_os_str().as_bytes());
        }
        request.pair(option::EXT_MNT, b"/dev/null", b"/dev/null");
        let mut master = None;
        let watch = attempt.request.watch;
        let restored = criu.perform(kind::RESTORE, request, watch, &mut |response, descriptor| {
            at_notification(attempt, &mut state, &mut master, response, descriptor)
        });
        restored.inspect_err(|_| criu::quote(&images.log(LOG), attempt.log))?;
        self.check_label(plan, attempt.child.as_ref())?;
        // Not before: a mount that is on a directory ends with it.
        let mut places = std::iter::once(CRIU_ROOT).chain(has_maps(plan).then_some(CRIU_MOUNTS));
        places
            .try_for_each(|name| rustix::fs::unlinkat(attempt.dir.directory(), name, AtFlags::REMOVEDIR))
            .doing(|| "remove the places of mounts for criu")?;
        attempt.dir.unlock()?;
        let child =
            attempt.child.take().ok_or_else(|| Error::Criu { reason: "criu names no process".into() })?;
        Ok((state, child, master))
    }

    /// Ends a container that has come back without the label that confines it: a CRIU that was built without the security
    /// module leaves its processes with the runtime's own, and says nothing.
    fn check_label(&self, plan: &Plan, child: Option<&Child>) -> Result<()> {
        let process = plan.process.as_ref();
        let named = self.options.lsm_profile.as_deref().and_then(|profile| profile.split_once(':'));
        let wanted = named.map(|(_, label)| label).or_else(|| {
            process
                .and_then(|process| process.selinux_label.as_deref().or(process.apparmor_profile.as_deref()))
        });
        let (Some(wanted), Some(child)) = (wanted, child) else { return Ok(()) };
        let label = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/attr/current"));
        confirm_label(wanted, label("self"), label(&child.pid.to_string()))
    }

    fn add_own(&self, request: &mut Writer) {
        request.flag(option::EVASIVE_DEVICES, true);
        // The restored process is this one's child, and can be waited for.
        request.flag(option::RST_SIBLING, true);
        for (name, number) in self.streams {
            add_inherited(request, name, *number);
        }
        let labels = [
            (option::LSM_PROFILE, &self.options.lsm_profile),
            (option::LSM_MOUNT_CONTEXT, &self.options.lsm_mount_context),
        ];
        for (field, value) in labels {
            if let Some(value) = value {
                request.bytes(field, value.as_bytes());
            }
        }
    }

    /// Names the namespaces that are joined; those of the network and of pids CRIU inherits.
    fn add_namespaces(&self, request: &mut Writer, plan: &Plan) -> Result<Vec<OwnedFd>> {
        let mut opened = Vec::new();
        for (kind, path) in &plan.namespaces.join {
            if let Some((_, _, key, since)) = EXTERNAL.iter().find(|(external, ..)| external == kind) {
                if self.version < *since {
                    return Err(criu::too_old(self.version, *since, "a namespace that is joined"));
                }
                let namespace = path::open_host(path, OFlags::RDONLY)
                    .doing(|| format!("open the namespace {}, which must exist", path.display()))?;
                add_inherited(request, key, namespace.as_raw_fd());
                opened.push(namespace);
                continue;
            }
            let name = match kind {
                Kind::Mount => "mnt",
                Kind::User => "user",
                Kind::Ipc => "ipc",
                Kind::Uts => "uts",
                Kind::Time => "time",
                _ => {
                    return Err(Error::Usage(
                        "criu cannot restore into a cgroup namespace that exists".into(),
                    ));
                }
            };
            request.pair(option::JOIN_NS, name.as_bytes(), path.as_os_str().as_bytes());
        }
        Ok(opened)
    }
}

fn add_inherited(request: &mut Writer, key: &str, number: i32) {
    let mut inner = Writer::default();
    inner.bytes(1, key.as_bytes());
    inner.number(2, number.into());
    request.bytes(option::INHERIT_FD, &inner.into_bytes());
}

/// Says where the images' root of every hierarchy is now: where CRIU is, proc_pid_cgroup(5).
fn add_cgroups(request: &mut Writer, criu: i32) -> Result<()> {
    let file = format!("/proc/{criu}/cgroup");
    let text = std::fs::read_to_string(&file).doing(|| format!("read {file}"))?;
    for line in text.lines() {
        let Some((controllers, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        for controller in controllers.split(',') {
            request.pair(option::CG_ROOT, controller.as_bytes(), path.as_bytes());
        }
    }
    Ok(())
}

fn at_notification(
    attempt: &mut Attempt<'_>,
    state: &mut State,
    master: &mut Option<OwnedFd>,
    response: &Response,
    descriptor: Option<OwnedFd>,
) -> Result<()> {
    attempt.log.debug(format_args!("criu: {}", response.script));
    match (response.script.as_str(), descriptor) {
        ("setup-namespaces", _) => {
            // From here on the container's processes can be ended, whatever becomes of CRIU.
            let pidfd = process::open_pidfd(response.pid).doing(|| "open the restored process")?;
            attempt.child = Some(Child::new(response.pid, pidfd, None));
            attempt.document = Some(Document::new(state, Some(response.pid)));
            if attempt.plan.namespaces.is_new(Kind::Network) {
                bring_loopback_up(response.pid)?;
            }
            attempt.creation_hooks()
        }
        ("orphan-pts-master", Some(terminal)) => {
            *master = attempt.deliver_console(terminal)?;
            Ok(())
        }
        ("post-restore", _) => {
            attempt.give_cgroup_away(response.pid)?;
            state.created = Timestamp::now();
            attempt.after_setup(response.pid, state)
        }
        _ => Ok(()),
    }
}

/// The network namespace of the images is empty, but a program may well use its own address.
fn bring_loopback_up(pid: i32) -> Result<()> {
    let doing = || "bring the loopback interface up";
    let open =
        |pid: &str| path::open_host(Path::new(&format!("/proc/{pid}/ns/net")), OFlags::RDONLY).doing(doing);
    let (own, restored) = (open("self")?, open(&pid.to_string())?);
    namespace::join(restored.as_fd(), Kind::Network).doing(doing)?;
    let result = net::bring_loopback_up().doing(doing);
    namespace::join(own.as_fd(), Kind::Network).doing(doing)?;
    result
}

/// A mount namespace that this process is in for a while.
struct Stage {
    host: OwnedFd,
    root: OwnedFd,
    cwd: OwnedFd,
}

impl Stage {
    /// Leaves the host's mounts for a copy in which changes of the host's are seen, and not the other way round.
    fn enter() -> Result<Self> {
        let doing = || "make a mount namespace for criu";
        let open =
            |path: &str| path::open_host(Path::new(path), OFlags::PATH | OFlags::DIRECTORY).doing(doing);
        let host = path::open_host(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY).doing(doing)?;
        let stage = Self { host, root: open("/")?, cwd: open(".")? };
        namespace::unshare(Kind::Mount).doing(doing)?;
        mount::set_namespace_propagation(Propagation::Slave, Reach::Tree)?;
        Ok(stage)
    }

    fn leave(self) -> Result<()> {
        let doing = || "return to the host's mounts";
        namespace::join(self.host.as_fd(), Kind::Mount).doing(doing)?;
        rustix::process::fchdir(&self.root).doing(doing)?;
        rustix::process::chroot(".").doing(doing)?;
        rustix::process::fchdir(&self.cwd).doing(doing)
    }
}

/// Mounts the root file system for CRIU, in its mount namespace.
fn set_stage(plan: &Plan, dir: &StateDir, entry: Entry) -> Result<()> {
    if entry == Entry::Move {
        cover_ramdisk()?;
    }
    let doing = || format!("mount the root file system {} for criu", plan.root.path.display());
    let tree = match &plan.root.overlay {
        Some(overlay) => overlay_tree(overlay, &plan.root)?,
        None => mount::open_source(&plan.root.path, Reach::Tree)?,
    };
    sys_mount::attach(&tree, &make_place(dir, CRIU_ROOT)?).doing(doing)?;
    if has_maps(plan) { set_mapped_mounts(plan, dir) } else { Ok(()) }
}

fn make_place(dir: &StateDir, name: &str) -> Result<OwnedFd> {
    let doing = || format!("make {name} in the state directory");
    rustix::fs::mkdirat(dir.directory(), name, Mode::RWXU).doing(doing)?;
    path::open_host(&dir.path(name), OFlags::PATH | OFlags::DIRECTORY).doing(doing)
}

/// Mounts the overlay of a root anywhere: CRIU's namespace alone sees it.
fn overlay_tree(overlay: &Overlay, root: &Root) -> Result<OwnedFd> {
    if let Some(by) = &root.layers {
        return overlay::mount_mapped(overlay, by, &root.path);
    }
    if let Some(tree) = overlay::mount(overlay, overlay::Attributes::Trusted)? {
        return Ok(tree);
    }
    overlay::mount_at(overlay, overlay::Attributes::Trusted, &root.path)?;
    mount::open_source(&root.path, Reach::Mount)
}

fn has_maps(plan: &Plan) -> bool {
    plan.mounts.iter().any(|mount| matches!(mount.source, Source::Bind { idmap: Some(_), .. }))
}

/// Mounts what is bound with mapped ids where CRIU can bind it from: it knows nothing of maps, but what it binds keeps
/// that of its source.
fn set_mapped_mounts(plan: &Plan, dir: &StateDir) -> Result<()> {
    let doing = || "mount what has mapped ids for criu";
    let tmpfs = Filesystem::open("tmpfs").and_then(|tmpfs| tmpfs.mount(0)).doing(doing)?;
    sys_mount::attach(&tmpfs, &make_place(dir, CRIU_MOUNTS)?).doing(doing)?;
    for (index, mount) in plan.mounts.iter().enumerate() {
        if let Source::Bind { path, reach, idmap: Some(idmap), .. } = &mount.source {
            let tree = sources::open_mapped(path, *reach, idmap)?;
            let point = point_for(&tmpfs, Path::new(&format!("/{index}")), tree.as_fd())?;
            sys_mount::attach(&tree, &point).doing(doing)?;
        }
    }
    Ok(())
}

/// Puts a copy of all mounts over a root that is a ramdisk, from which no process can pivot (`--no-pivot`).
fn cover_ramdisk() -> Result<()> {
    let doing = || "cover the ramdisk";
    let slash = path::open_host(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
    let copy = sys_mount::clone_tree(&slash, Path::new(""), Reach::Tree).doing(doing)?;
    sys_mount::attach(&copy, &slash).doing(doing)?;
    rustix::process::fchdir(&copy).doing(doing)?;
    rustix::process::chroot(".").doing(doing)
}

/// Makes in the image what a new container would get there, mount points above all: CRIU makes none. Returns where they
/// are.
///
/// Mount points may lie in what is bound, so that is mounted meanwhile, in a namespace that ends with this.
fn make_mount_points(plan: &Plan) -> Result<Vec<PathBuf>> {
    let stage = Stage::enter()?;
    let made = furnish(plan);
    stage.leave()?;
    made
}

fn furnish(plan: &Plan) -> Result<Vec<PathBuf>> {
    let mut root = path::open_host(&plan.root.path, OFlags::PATH | OFlags::DIRECTORY)
        .doing(|| format!("open the root file system {}", plan.root.path.display()))?;
    if let Some(overlay) = &plan.root.overlay {
        let tree = overlay_tree(overlay, &plan.root)?;
        sys_mount::attach(&tree, &root).doing(|| "mount the overlay")?;
        root = tree;
    }
    let mut lasting = plan.mounts.iter().filter(|mount| !is_on_tmpfs(&mount.destination, plan));
    lasting.try_for_each(|mount| match &mount.source {
        Source::Bind { path, link, .. } if link.content(path).is_some() => Ok(()),
        Source::Bind { path, reach, idmap, .. } => {
            let tree = match idmap {
                Some(idmap) => sources::open_mapped(path, *reach, idmap)?,
                None => mount::open_source(path, *reach)?,
            };
            let target = point_for(&root, &mount.destination, tree.as_fd())?;
            let doing = || format!("bind {} at {}", path.display(), mount.destination.display());
            sys_mount::attach(&tree, &target).doing(doing)
        }
        Source::Inside { path, .. } => match target::open(root.as_fd(), path, OFlags::PATH)? {
            Some(source) => point_for(&root, &mount.destination, source.as_fd()).map(drop),
            None => Ok(()),
        },
        Source::Filesystem { .. } | Source::Namespace { .. } => {
            target::directory(root.as_fd(), &mount.destination).map(drop)
        }
        // Those of v1 are in a tmpfs, that of v2 in a sysfs.
        Source::Cgroup | Source::Existing { .. } => Ok(()),
    })?;
    Ok(checkpoint::places(plan, &root))
}

/// Makes a mount point of the kind of what is mounted there.
fn point_for(root: &OwnedFd, destination: &Path, source: BorrowedFd<'_>) -> Result<OwnedFd> {
    let found =
        rustix::fs::fstat(source).doing(|| format!("look at what is bound at {}", destination.display()))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => target::directory(root.as_fd(), destination),
        _ => target::file(root.as_fd(), destination),
    }
}

/// The images have the content of a tmpfs.
fn is_on_tmpfs(destination: &Path, plan: &Plan) -> bool {
    plan.mounts.iter().any(|mount| {
        let is_tmpfs = matches!(&mount.source, Source::Filesystem { kind, .. } if kind == "tmpfs");
        is_tmpfs && destination != mount.destination && destination.starts_with(&mount.destination)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ImageOptions;

    #[test]
    fn a_profile_is_found_by_its_whole_name() {
        let profiles = "docker-default (enforce)\n/usr/bin/man (with spaces) (complain)\n";
        for (name, expected) in [
            ("docker-default", true),
            ("/usr/bin/man (with spaces)", true),
            ("unconfined", true),
            ("docker", false),
            ("docker-default (enforce)", false),
            ("", false),
            ("docker-default//&/usr/bin/man (with spaces)", true),
            ("docker-default//&unconfined", true),
            ("docker-default//&missing", false),
            ("missing//&docker-default", false),
            (":containers:missing", true),
            ("docker-default//&:containers:missing", true),
            (":containers:missing//&missing", false),
        ] {
            assert_eq!(is_loaded(name, profiles), expected, "{name}");
        }
    }

    #[test]
    fn a_label_is_lost_where_the_runtimes_own_is_found() {
        let (own, wanted) = ("system_u:system_r:initrc_t:s0\0", "system_u:system_r:container_t:s0:c1,c2");
        assert!(is_lost(wanted, own, "system_u:system_r:initrc_t:s0"));
        assert!(!is_lost(wanted, own, "system_u:system_r:container_t:s0:c1,c2\0"));
        assert!(!is_lost("system_u:system_r:initrc_t:s0", own, own), "it was asked for");
        assert!(is_lost("docker-default", "unconfined\n", "unconfined\n"));
        assert!(!is_lost("unconfined", "unconfined\n", "unconfined\n"));
        assert!(!is_lost("outer", "outer (enforce)\n", "outer (enforce)\n"));
    }

    #[test]
    fn a_label_that_cannot_be_read_is_not_there() {
        let text = |text: &str| Ok(text.to_owned());
        let unreadable = || Err(io::Error::from(io::ErrorKind::InvalidInput));
        confirm_label("x", text("unconfined\n"), text("x (enforce)\n")).unwrap();
        let lost = confirm_label("x", text("unconfined\n"), text("unconfined\n")).unwrap_err().to_string();
        assert!(lost.contains("not restored the label x"), "{lost}");
        for (own, found) in [(unreadable(), text("x\n")), (text("x\n"), unreadable())] {
            let error = confirm_label("x", own, found).unwrap_err().to_string();
            assert!(error.contains("the label x") && error.contains("cannot be read"), "{error}");
        }
    }

    #[test]
    fn the_runtimes_own_descriptors_are_not_the_callers() {
        let place = bulkhead_testkit::Scratch::new();
        std::fs::write(
            place.path().join(DESCRIPTORS),
            r#"["/dev/null", "pipe:[1]", "/dev/pts/0", "pipe:[2]"]"#,
        )
        .unwrap();
        let options = ImageOptions { image_path: Some(place.path().to_owned()), ..ImageOptions::default() };
        let images = Images::open(&options, Existing::Required).unwrap();
        // Some of these numbers are in use here, and nobody has named them before.
        let (streams, _null) = streams(&images, 8).unwrap();
        assert_eq!(streams, [("pipe:[1]".to_owned(), 1)]);
    }
}
