//! The mounts of a container, and its root.

use bulkhead_shim::order::{NamespaceKind, OnUnhealthy};
use bulkhead_shim::place;
use bulkhead_spec::{IdMapping, Mount, Root, RootfsPropagation};

use super::process::INIT;
use super::{Caller, Identity, RootPlace, Runtime, Scene, identity, invalid};
use crate::error::Result;
use crate::request::{
    self, Access, Bind, Ipc, MountKind, Network, Ownership, Propagation, Reach, Tmpfs, UserNamespace,
    UserSpec,
};

/// What was decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// The configuration's list, in the order in which they are made.
    pub(super) list: Vec<Mount>,
    /// How the root must propagate for what was asked for.
    pub(super) propagation: Option<RootfsPropagation>,
}

/// The program of `--init` among a container's own files, where SELinux labels these.
pub const INIT_COPY: &str = "init";
/// The version of Linux since which overlays join layers that are mapped.
const MAPPED_LAYERS: (u32, u32) = (5, 19);
/// The size of `/dev/shm` unless somebody says otherwise.
const SHM_SIZE: u64 = 64 << 20;

/// Decides the mounts: those that every container has, but for the places at which others are asked for; then the files with
/// names, the secrets and what was asked for, a directory before what lies in it.
///
/// # Errors
/// A volume that nobody has made, owners who cannot be mapped.
pub(super) fn decide(scene: &Scene<'_>, identity: &Identity) -> Result<Decided> {
    let asked_at = |place: &str| scene.mounts.iter().any(|mount| mount.destination == place);
    let mut list = own(scene)?;
    list.retain(|mount| {
        let hidden = asked_at("/dev") && mount.destination.starts_with("/dev/");
        !asked_at(&mount.destination) && !hidden
    });
    let mut further = files(scene)?;
    further.extend(secrets(scene)?);
    further.extend(init(scene)?);
    further.retain(|mount| !asked_at(&mount.destination));
    for mount in scene.mounts {
        further.push(asked(scene, identity, mount)?);
    }
    further.sort_by_key(|mount| mount.destination.matches('/').count());
    list.extend(further);
    Ok(Decided { list, propagation: propagation(scene.mounts) })
}

/// Returns the configuration's root, and the annotation by which our runtime makes it.
pub(super) fn root(scene: &Scene<'_>) -> Result<(Root, Option<String>)> {
    let readonly = scene.request.read_only;
    match scene.root {
        RootPlace::Directory(path) => {
            if matches!(scene.request.namespaces.user, Some(UserNamespace::Auto { .. })) {
                let reason = format!(
                    "the files of --rootfs {0} belong to nobody there; with --rootfs {0}:O they are shown as its users'",
                    path.display()
                );
                return Err(invalid("--userns auto", reason));
            }
            Ok((Root { path: text(path)?, readonly }, None))
        }
        RootPlace::Overlay { lower, upper, work } => {
            can_mount_layers(scene)?;
            let idmap = is_mapped(scene);
            if idmap {
                can_map_layers(scene)?;
            }
            let annotation = match scene.runtime {
                Runtime::Ours => {
                    let lower = lower.iter().map(|path| text(path)).collect::<Result<Vec<_>>>()?;
                    let overlay = serde_json::json!({
                        "lower": lower, "upper": text(upper)?, "work": text(work)?, "idmap": idmap,
                        "volatile": is_volatile(scene),
                    });
                    Some(overlay.to_string())
                }
                Runtime::Foreign | Runtime::Guest => None,
            };
            Ok((Root { path: "rootfs".to_owned(), readonly }, annotation))
        }
    }
}

/// Tells whether what the container writes need not reach the disk: it goes with the container. Else the kernel syncs the
/// whole file system of the layer when the last process ends.
pub(super) fn is_volatile(scene: &Scene<'_>) -> bool {
    // A monitor that starts it again makes no new work directory.
    let on_failure = scene.request.health.on_failure.as_ref();
    scene.request.remove && !on_failure.is_some_and(|action| action.0 == OnUnhealthy::Restart)
}

/// Refuses layers that nobody can mount: a runtime of somebody else has its monitor do it, outside of the container's users.
fn can_mount_layers(scene: &Scene<'_>) -> Result<()> {
    if scene.runtime == Runtime::Ours || scene.facts.caller == Caller::Root || scene.is_within() {
        return Ok(());
    }
    let reason = "only bulkrun mounts the layers of an ordinary user's container that shares the users of others, and gVisor has none of \
                  any: leave --runtime out, or give a directory by --rootfs";
    Err(invalid("--runtime", reason))
}

/// Refuses layers that nobody can show to users of their own.
fn can_map_layers(scene: &Scene<'_>) -> Result<()> {
    let (major, minor) = scene.facts.kernel;
    if scene.runtime == Runtime::Foreign {
        let reason =
            "only bulkrun shows an image's files to users of their own: leave --runtime or --userns out";
        return Err(invalid("--userns", reason));
    }
    if (major, minor) < MAPPED_LAYERS {
        let reason = format!(
            "an image's files are shown to users of their own since Linux 5.19, and this is {major}.{minor}: \
             leave --userns out"
        );
        return Err(invalid("--userns", reason));
    }
    Ok(())
}

/// Tells whether layers and volumes are shown to the container's users by maps. An ordinary user's belong to the user's own
/// ids already.
fn is_mapped(scene: &Scene<'_>) -> bool {
    scene.users.is_some() && scene.facts.caller == Caller::Root
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

/// The file systems of the kernel that every container has.
fn own(scene: &Scene<'_>) -> Result<Vec<Mount>> {
    let request = scene.request;
    let privileged = request.security.privileged;
    let in_user_namespace = scene.users.is_some();
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ];
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // The group tty, if there is one.
    if scene.users.is_none_or(|users| users.group_on_host(5).is_some()) {
        pts.push("gid=5");
    }
    list.push(mount("/dev/pts", "devpts", "devpts", &pts));
    let access: &[&str] = if privileged { &[] } else { &["ro"] };
    let sys = ["nosuid", "noexec", "nodev"];
    // sysfs shows a network: without one of its own a user namespace may not mount it, and gets the host's.
    list.push(match in_user_namespace && request.namespaces.network == Network::Host {
        true => mount("/sys", "none", "/sys", &[&["rbind"], &sys[..], &["ro"]].concat()),
        false => mount("/sys", "sysfs", "sysfs", &[&sys[..], access].concat()),
    });
    let cgroups: &[&str] = if privileged || request.security.writable_cgroups { &[] } else { &["ro"] };
    list.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &[cgroups, &sys[..]].concat()));
    list.push(match in_user_namespace && request.namespaces.ipc == Ipc::Host {
        true => mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "nosuid", "noexec", "nodev"]),
        false => mount("/dev/mqueue", "mqueue", "mqueue", &sys),
    });
    list.extend(shm(scene)?);
    Ok(list)
}

fn shm(scene: &Scene<'_>) -> Result<Option<Mount>> {
    let size = scene.request.resources.shm_size;
    let shared = |what: &str| match size {
        Some(size) => {
            Err(invalid(format!("--shm-size {size}"), format!("/dev/shm is {what}: leave --ipc or it out")))
        }
        None => Ok(()),
    };
    Ok(match &scene.request.namespaces.ipc {
        Ipc::None => {
            shared("not there")?;
            None
        }
        Ipc::Private | Ipc::Shareable => {
            let size = format!("size={}", size.map_or(SHM_SIZE, |size| size.0));
            Some(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]))
        }
        Ipc::Host => {
            shared("the host's")?;
            Some(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"]))
        }
        Ipc::Container(name) => {
            shared("that of the other container")?;
            let source = scene
                .peers
                .get(name)
                .and_then(|peer| peer.shm.as_ref())
                .map(|path| text(path))
                .transpose()?;
            source.map(|source| mount("/dev/shm", "bind", &source, &["rbind", "rprivate"]))
        }
        Ipc::Pod => {
            shared("the pod's: give it to `bulkhead pod create`, or")?;
            if scene.request.namespaces.user == Some(UserNamespace::Pod) {
                if scene.runtime != Runtime::Ours {
                    let reason = "only bulkrun mounts the /dev/shm of a pod with users of its own, which is in a mount \
                                  namespace that the OCI command line has no word for: leave --runtime out, or choose \
                                  --ipc private";
                    return Err(invalid("--runtime", reason));
                }
                let source = text(&place::namespace(scene.links, NamespaceKind::Memory))?;
                return Ok(Some(mount("/dev/shm", "bind", &source, &["bind", "mount-namespace", "private"])));
            }
            let source = scene.pod.map(|_| text(&scene.links.join(place::SHARED_MEMORY))).transpose()?;
            source.map(|source| mount("/dev/shm", "bind", &source, &["rbind", "rprivate"]))
        }
    })
}

/// The files by which a container finds names: its own, or those of the container whose network it shares.
fn files(scene: &Scene<'_>) -> Result<Vec<Mount>> {
    let directory = match &scene.request.namespaces.network {
        Network::Container(name) => scene.peers.get(name).map_or(scene.files, |peer| &peer.files),
        Network::Pod => scene.pod.map_or(scene.files, |pod| pod.files),
        _ => scene.files,
    };
    let access = if scene.request.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let access = read_only(scene, of_file(scene, access))?;
    let options: Vec<&str> = ["rbind"].into_iter().chain(access).chain(["rprivate"]).collect();
    let mut list = Vec::new();
    for name in ["resolv.conf", "hostname", "hosts"] {
        list.push(mount(&format!("/etc/{name}"), "bind", &text(&directory.join(name))?, &options));
    }
    Ok(list)
}

fn secrets(scene: &Scene<'_>) -> Result<Vec<Mount>> {
    let source = |index: usize| text(&scene.secrets.join(index.to_string()));
    let secrets = scene.request.secrets.iter().enumerate();
    secrets
        .map(|(index, secret)| {
            let options = ["bind", "ro", "nosuid", "nodev", "noexec", "rprivate"];
            Ok(mount(&secret.target, "bind", &source(index)?, &options))
        })
        .collect()
}

fn init(scene: &Scene<'_>) -> Result<Option<Mount>> {
    if !scene.request.process.init {
        return Ok(None);
    }
    // With the host's label no container might execute it: it has a copy of its own.
    let program = match &scene.facts.selinux {
        Some(_) => text(&scene.files.join(INIT_COPY))?,
        None => text(&scene.facts.init)?,
    };
    Ok(Some(mount(INIT, "bind", &program, &["bind", "ro", "rprivate"])))
}

fn asked(scene: &Scene<'_>, identity: &Identity, asked: &request::Mount) -> Result<Mount> {
    let place = &asked.destination;
    match &asked.kind {
        MountKind::Bind(bind) => {
            let path = text(&bind.source)?;
            let mut made = mount(place, "bind", &path, &[]);
            made.options = bind_options(scene, asked.access, bind)?;
            let owner = scene.facts.sources.get(&bind.source).map(|file| (file.uid, file.gid));
            own_by(scene, identity, &mut made, bind.ownership.as_ref(), owner)?;
            Ok(made)
        }
        MountKind::Volume(volume) => {
            let Some(source) = scene.sources.get(place) else {
                return Err(invalid(format!("mount at {place}"), "its volume has not been made"));
            };
            let mut made = mount(place, "bind", &text(source)?, &["rbind"]);
            made.options.extend(read_only(scene, asked.access)?.map(str::to_owned));
            made.options.push("rprivate".to_owned());
            let owner = scene.facts.sources.get(source).map(|file| (file.uid, file.gid));
            // What one container has written another with other ids may read.
            let own = is_mapped(scene).then_some(&Ownership::Container);
            own_by(scene, identity, &mut made, volume.ownership.as_ref().or(own), owner)?;
            Ok(made)
        }
        MountKind::Tmpfs(tmpfs) => {
            let mut made = mount(place, "tmpfs", "tmpfs", &[]);
            made.options = tmpfs_options(asked.access, tmpfs);
            Ok(made)
        }
    }
}

fn bind_options(scene: &Scene<'_>, access: Access, bind: &Bind) -> Result<Vec<String>> {
    let reach = match bind.reach {
        Reach::Tree => "rbind",
        Reach::Alone => "bind",
    };
    let propagation = bind.propagation.unwrap_or(Propagation::RecursivePrivate).as_str();
    let is_file = scene.facts.sources.get(&bind.source).is_some_and(|source| !source.is_directory);
    let access = if is_file { of_file(scene, access) } else { access };
    let words = [reach].into_iter().chain(read_only(scene, access)?).chain([propagation]);
    Ok(words.map(str::to_owned).collect())
}

/// Says the same of a file, below which nothing can be mounted: crun 1.8 takes what is read-only as a tree for a directory.
fn of_file(scene: &Scene<'_>, access: Access) -> Access {
    match access {
        Access::ReadOnly | Access::ReadOnlyTree if scene.runtime == Runtime::Foreign => Access::ReadOnlyAlone,
        other => other,
    }
}

/// The option that makes a mount read-only, as far down as was asked for.
fn read_only(scene: &Scene<'_>, access: Access) -> Result<Option<&'static str>> {
    let can = scene.facts.has_read_only_trees();
    Ok(match access {
        Access::ReadWrite => None,
        Access::ReadOnlyAlone => Some("ro"),
        Access::ReadOnly | Access::ReadOnlyTree if scene.runtime == Runtime::Guest => Some("ro"),
        Access::ReadOnly if can => Some("rro"),
        Access::ReadOnly => Some("ro"),
        Access::ReadOnlyTree if can => Some("rro"),
        Access::ReadOnlyTree => {
            let reason = "mounts below others are made read-only since Linux 5.12; use ro, which is for the mount itself";
            return Err(invalid("read-only mount", reason));
        }
    })
}

/// Shows the files of a mount as another's.
fn own_by(
    scene: &Scene<'_>,
    identity: &Identity,
    made: &mut Mount,
    ownership: Option<&Ownership>,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let wrong = |reason: &str| invalid(format!("mount at {}", made.destination), reason);
    match ownership {
        None => {}
        Some(Ownership::Container) => {
            if scene.users.is_none() {
                return Err(wrong(
                    "idmap shows files by the maps of the container's user namespace, which has none; use owner",
                ));
            }
            made.options.push("idmap".to_owned());
        }
        Some(Ownership::Ranges { uids, gids }) => {
            made.uid_mappings.clone_from(uids);
            made.gid_mappings.clone_from(gids);
        }
        Some(Ownership::Owner(user)) => {
            if scene.facts.caller != Caller::Root {
                return Err(wrong(
                    "owner takes the host's root; without it --userns keep-id makes you the same user inside",
                ));
            }
            let (uid, gid) = owner.ok_or_else(|| wrong("its source is not there, so that nobody owns it"))?;
            let inside = of_container(scene, identity, user.as_ref())?;
            let seen = scene.users.map_or(Some(inside), |users| users.on_host(inside.0, inside.1));
            let (seen_uid, seen_gid) =
                seen.ok_or_else(|| wrong("its owner is not in the container's user namespace"))?;
            if (uid, gid) != (seen_uid, seen_gid) {
                made.uid_mappings = exchange(uid, seen_uid);
                made.gid_mappings = exchange(gid, seen_gid);
            }
        }
    }
    Ok(())
}

/// Maps each of two ids to the other, and all others to themselves: whoever else makes files there does so as without it.
fn exchange(one: u32, other: u32) -> Vec<IdMapping> {
    let (low, high) = (one.min(other), one.max(other));
    let range = |container_id, host_id, size| IdMapping { container_id, host_id, size };
    let kept = |first: u32, end: u32| range(first, first, end - first);
    // The last number is no id.
    let all = match low == high {
        true => vec![kept(0, u32::MAX)],
        false => vec![
            kept(0, low),
            range(low, high, 1),
            kept(low + 1, high),
            range(high, low, 1),
            kept(high + 1, u32::MAX),
        ],
    };
    all.into_iter().filter(|map| map.size > 0).collect()
}

fn of_container(scene: &Scene<'_>, identity: &Identity, user: Option<&UserSpec>) -> Result<(u32, u32)> {
    let Some(user) = user else { return Ok((identity.uid, identity.gid)) };
    let other = identity::resolve(scene.image, user, &[])?;
    Ok((other.uid, other.gid))
}

/// Words of which a later one takes an earlier one back.
const OPPOSITES: [(&str, &str); 8] = [
    ("exec", "noexec"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("sync", "async"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
];

/// Docker's options of a tmpfs, over which the request's go.
fn tmpfs_options(access: Access, tmpfs: &Tmpfs) -> Vec<String> {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev", "rprivate"].map(str::to_owned).into();
    for option in &tmpfs.options {
        let opposite = OPPOSITES.iter().find_map(|&(word, other)| match option.as_str() {
            option if option == word => Some(other),
            option if option == other => Some(word),
            _ => None,
        });
        let key = |option: &str| option.split_once('=').map_or(option.to_owned(), |(key, _)| key.to_owned());
        options.retain(|earlier| Some(earlier.as_str()) != opposite && key(earlier) != key(option));
        options.push(option.clone());
    }
    if access != Access::ReadWrite {
        options.push("ro".to_owned());
    }
    options.extend(tmpfs.mode.map(|mode| format!("mode={mode:o}")));
    options.extend(tmpfs.size.map(|size| format!("size={}", size.0)));
    options
}

/// The root must be a peer, or receive, where one of its mounts shall.
fn propagation(mounts: &[request::Mount]) -> Option<RootfsPropagation> {
    let asked = |wanted: &[Propagation]| {
        mounts.iter().any(|mount| match &mount.kind {
            MountKind::Bind(bind) => {
                bind.propagation.is_some_and(|propagation| wanted.contains(&propagation))
            }
            MountKind::Volume(_) | MountKind::Tmpfs(_) => false,
        })
    };
    if asked(&[Propagation::Shared, Propagation::RecursiveShared]) {
        Some(RootfsPropagation::RecursiveShared)
    } else if asked(&[Propagation::Slave, Propagation::RecursiveSlave]) {
        Some(RootfsPropagation::RecursiveSlave)
    } else {
        None
    }
}

/// The configuration is JSON, which has no other bytes.
pub(super) fn text(path: &std::path::Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| invalid(path.display().to_string(), "the path is not UTF-8"))
}
