//! From what was asked for, what the image says and what the host is, to the runtime's configuration. Pure: no file is opened
//! here, and nothing is asked of the kernel.
//!
//! ```text
//!  Request ──┐
//!  Defaults ─┼─ mount_points ── volumes made, filled and named by the caller ──┐
//!            ├─ users ──────── which ids the container has, kept in its record ─┤
//!            └─ stop, health ─ what its monitor does                            ▼
//!                                          Facts, ImageFiles ──────────────── configure ── Configured
//! ```
//!
//! The rules are docker's where it has any; docs/engine.md lists the differences. What cannot be had is an
//! [`Error::Invalid`](crate::Error::Invalid) that names the flag and the way out.

mod accounts;
mod capabilities;
pub mod cdi;
mod devices;
mod exec;
mod facts;
mod health;
pub mod identity;
mod merged;
mod mount_points;
mod mounts;
mod names;
mod namespaces;
mod process;
mod profile;
mod resources;
mod security;
pub(crate) mod sysctl;
mod users;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bulkhead_spec::{Config, Linux, OCI_VERSION, Resources};
use bulkhead_store::Defaults;

pub use exec::exec;
pub use facts::{
    AppArmor, Caller, CgroupVersion, Cgroups, Cpuset, DeviceKind, Facts, HostDevice, HostFile, Selinux,
    Subordinate,
};
pub use health::{health, stop};
pub use identity::Identity;
pub use merged::merged;
pub use mount_points::mount_points;
pub use mounts::INIT_COPY;
pub use process::{command_line, console_size, labels};
pub(crate) use resources::NO_CGROUPS;
pub use security::{FileLabels, HiddenPaths};
pub(crate) use users::mappings;
pub use users::users;

/// The users of a container in a user namespace of its own, or of its pod's.
pub use bulkhead_shim::users::Users;

use crate::error::{Error, Result};
use crate::request::{Carrier, Mount, Network, Request, UserNamespace};

/// The annotation by which `bulkrun` mounts an overlay as the root.
pub const OVERLAY_ANNOTATION: &str = "org.bulkhead.rootfs.overlay";

/// The annotation by which `bulkrun` gives hooks of the creation new namespaces of the container.
const HOOKS_ANNOTATION: &str = "org.bulkhead.hooks.namespaces";

/// Those that a program enters which carries the container's packets.
const HOOKS_NAMESPACES: &str = "network,user";

/// The version of the specification that runtimes of others are told: some, such as crun 1.8, refuse what is newer than they are,
/// and none what is older.
const OLDEST_VERSION: &str = "1.0.2";

/// Everything that a configuration is made of.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The container's name.
    pub name: &'a str,
    /// What was asked for.
    pub request: &'a Request,
    /// What the image says; nothing for a container without one.
    pub defaults: &'a Defaults,
    /// Where its root is.
    pub root: &'a RootPlace,
    /// Its mounts: [`mount_points`], in which each volume has a name.
    pub mounts: &'a [Mount],
    /// What is bound for each volume, by its place in the container.
    pub sources: &'a BTreeMap<String, PathBuf>,
    /// The directory of its files on the host.
    pub files: &'a Path,
    /// The directory on the host with its secrets: number N of the request's is `N`, with its owner and mode.
    pub secrets: &'a Path,
    /// Its users, if they are not the host's: what [`users`] decided when it was created, or those of another container.
    pub users: Option<&'a Users>,
    /// The containers whose namespaces it shares, as the request names them.
    pub peers: &'a BTreeMap<String, Peer>,
    /// The directory in which its monitor has links to the namespaces of its pod and of these containers, and the pod's
    /// `/dev/shm`.
    pub links: &'a Path,
    /// What it shares with its pod, if it is in one.
    pub pod: Option<OfPod<'a>>,
    /// How it is connected with others.
    pub wiring: &'a Wiring,
    /// What the image has of users.
    pub image: ImageFiles<'a>,
    /// What the host is.
    pub facts: &'a Facts,
    /// What starts it.
    pub runtime: Runtime,
}

impl Scene<'_> {
    fn is_within(&self) -> bool {
        is_within(self.runtime, self.facts.caller, self.request, self.users)
    }
}

/// Tells whether a runtime of others is called in a user namespace that was made for the container: an ordinary user's, which has users of its own.
pub(crate) fn is_within(runtime: Runtime, caller: Caller, request: &Request, users: Option<&Users>) -> bool {
    let is_shared = matches!(request.namespaces.user, Some(UserNamespace::Container(_) | UserNamespace::Pod));
    runtime == Runtime::Foreign && caller != Caller::Root && users.is_some() && !is_shared
}

/// Where a container's root is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootPlace {
    /// Layers, the topmost first, with a writable one and its work directory.
    Overlay {
        /// What is not written to.
        lower: Vec<PathBuf>,
        /// What is written to.
        upper: PathBuf,
        /// The work directory, on the file system of `upper`.
        work: PathBuf,
    },
    /// A directory.
    Directory(PathBuf),
}

/// What starts a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// `bulkrun`, which mounts overlays itself.
    Ours,
    /// Another one: its monitor mounts the root at `rootfs` in the bundle.
    Foreign,
    /// As that, with a kernel of its own for the container, in which a mount has no others below it (gVisor).
    Guest,
}

/// A running container whose namespaces are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What people call it.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// The directory of its files on the host.
    pub files: PathBuf,
    /// What is bound at `/dev/shm` where its IPC namespace is shared; without it there is none.
    pub shm: Option<PathBuf>,
    /// Its users, if they are not the host's.
    pub users: Option<Users>,
    /// The SELinux context of its processes, if it has one.
    pub label: Option<String>,
}

/// What a container has of its pod. Which of it, its request says.
#[derive(Debug, Clone, Copy)]
pub struct OfPod<'a> {
    /// The pod's id.
    pub id: &'a str,
    /// The directory of the pod's files on the host.
    pub files: &'a Path,
    /// The pod's host name.
    pub hostname: &'a str,
    /// The program of an ordinary user's that carries the packets of its network, if one does.
    pub carrier: Option<Carrier>,
}

/// Returns the files by which the containers of a pod find names: names and texts.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for an entry that cannot be.
pub(crate) fn names_of_pod(
    request: &Request,
    hostname: &str,
    facts: &Facts,
    wiring: &Wiring,
) -> Result<Vec<(&'static str, String)>> {
    in_pod(request, facts, |scene| names::files(&Scene { wiring, ..*scene }, hostname, facts))
}

/// Decides the limits of a pod's cgroup, which are those of a container's; nothing where the caller may have no cgroups.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a limit that cannot be, or for which there is no controller or no cgroup.
pub(crate) fn limits_of_pod(request: &Request, facts: &Facts) -> Result<Option<Resources>> {
    in_pod(request, facts, |scene| resources::decide(scene, Vec::new()))
}

/// Decides something for a pod, of which there is no more than a request and the host.
fn in_pod<T>(request: &Request, facts: &Facts, decide: impl FnOnce(&Scene<'_>) -> T) -> T {
    decide(&Scene {
        id: "",
        name: "",
        request,
        defaults: &Defaults::default(),
        root: &RootPlace::Directory(PathBuf::new()),
        mounts: &[],
        sources: &BTreeMap::new(),
        files: Path::new(""),
        secrets: Path::new(""),
        users: None,
        peers: &BTreeMap::new(),
        links: Path::new(""),
        pod: None,
        wiring: &Wiring::default(),
        image: ImageFiles::default(),
        facts,
        runtime: Runtime::Ours,
    })
}

/// How a container or a pod is connected with others, for the files by which it finds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wiring {
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The host's address, as it is reached from there.
    pub host: Option<IpAddr>,
    /// Whether others have names there, which the name server of its networks knows.
    pub has_names: bool,
    /// Whom to ask for names, if a network from elsewhere tells that.
    pub told: Option<Resolvers>,
}

/// Whom a container asks for names, and what is put behind those that are short.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// Addresses of servers, at least one.
    pub servers: Vec<String>,
    /// Domains.
    pub search: Vec<String>,
    /// As in resolv.conf(5).
    pub options: Vec<String>,
}

/// What the image has of users: the bytes of its own files, read inside its root.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageFiles<'a> {
    /// `/etc/passwd`; empty where there is none.
    pub passwd: &'a [u8],
    /// `/etc/group`; empty where there is none.
    pub group: &'a [u8],
}

/// What a container is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Configured {
    /// The bundle's `config.json`.
    pub config: Config,
    /// What is written below [`Scene::files`] before the start: names and texts.
    pub files: Vec<(&'static str, String)>,
    /// What is written below `/etc` of its own layer, where it has not been yet: names and texts.
    pub accounts: Vec<(&'static str, String)>,
    /// The container's users, see [`Scene::users`].
    pub users: Option<Users>,
    /// Whether an overlay that is its root is never synced: it goes with the container.
    pub volatile: bool,
    /// The SELinux contexts of what is bound into it.
    pub labels: Option<FileLabels>,
    /// What the user should be told, though nothing stops for it.
    pub warnings: Vec<String>,
}

/// Decides how a container is run.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for what was asked for and cannot be had.
pub fn configure(scene: &Scene<'_>) -> Result<Configured> {
    let mut warnings = Vec::new();
    let Scene { request, facts, .. } = *scene;
    let has_ports = request.publishing.is_any();
    if has_ports && matches!(request.namespaces.network, Network::Host | Network::None | Network::Default) {
        let network = &request.namespaces.network;
        warnings.push(format!("with --network {network} no port is published: --publish changes nothing"));
    }
    let identity = process::identity(scene)?;
    let hostname = names::hostname(scene)?;
    let security = security::decide(scene)?;
    let namespaces = namespaces::decide(scene)?;
    let mut sysctl = sysctl::decide(scene, &namespaces)?;
    if let Some(domain) = &request.domainname {
        sysctl.insert("kernel.domainname".to_owned(), domain.clone());
    }
    let devices = devices::decide(scene)?;
    let resources = resources::decide(scene, devices.rules)?;
    let process = process::decide(scene, &identity, &hostname, &security, &mut warnings)?;
    let mut mounts = mounts::decide(scene, &identity)?;
    mounts.list.extend(devices.binds);
    let (root, annotation) = mounts::root(scene)?;
    let mut annotations = request.annotations.clone();
    if let Some(reserved) = annotations.keys().find(|key| key.starts_with("org.bulkhead.")) {
        return Err(invalid(
            format!("--annotation {reserved}"),
            "names that begin with org.bulkhead. are the engine's own",
        ));
    }
    annotations.extend(annotation.map(|value| (OVERLAY_ANNOTATION.to_owned(), value)));
    if let (Network::Carried(_), Runtime::Ours) = (&request.namespaces.network, scene.runtime) {
        annotations.insert(HOOKS_ANNOTATION.to_owned(), HOOKS_NAMESPACES.to_owned());
    }
    // A user namespace that is joined has its maps already.
    let is_shared = matches!(request.namespaces.user, Some(UserNamespace::Container(_) | UserNamespace::Pod));
    let users = scene.users.filter(|_| !is_shared && !scene.is_within()).cloned();
    let linux = Linux {
        uid_mappings: users.as_ref().map(|users| mappings(&users.uids)).unwrap_or_default(),
        gid_mappings: users.as_ref().map(|users| mappings(&users.gids)).unwrap_or_default(),
        sysctl,
        resources,
        cgroups_path: resources::cgroups_path(scene)?,
        namespaces: namespaces.list,
        devices: devices.nodes,
        seccomp: security.seccomp,
        rootfs_propagation: mounts.propagation,
        masked_paths: security.masked,
        readonly_paths: security.readonly,
        mount_label: security.mount_label,
        ..Linux::default()
    };
    let mut config = Config {
        oci_version: match scene.runtime {
            Runtime::Ours => OCI_VERSION,
            Runtime::Foreign | Runtime::Guest => OLDEST_VERSION,
        }
        .to_owned(),
        process: Some(process),
        root: Some(root),
        hostname: namespaces.own_uts.then(|| hostname.clone()),
        mounts: mounts.list,
        annotations,
        linux: Some(linux),
        ..Config::default()
    };
    cdi::apply(request, facts, &mut config)?;
    let files = names::files(scene, &hostname, facts)?;
    warnings.extend(names::without_servers(scene, facts));
    warnings.extend(health::without_signal(request, scene.defaults));
    Ok(Configured {
        config,
        files,
        accounts: accounts::files(scene, &identity),
        users: scene.users.cloned(),
        volatile: mounts::is_volatile(scene),
        labels: security::file_labels(scene)?,
        warnings,
    })
}

/// What was asked for cannot be had.
fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Invalid { what: what.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
