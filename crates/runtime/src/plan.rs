//! What is to be done, decided before anything is: config.json becomes a [`Plan`].
//!
//! A plan is owned, validated and complete: no `Option` in it means two things, no name is left to look up in a
//! table, and whoever acts on it needs no knowledge of JSON. Everything here is pure (ARCHITECTURE.md, invariant 3).

pub mod annotations;
pub mod capabilities;
pub mod check;
pub mod ending;
pub mod hooks;
pub mod lists;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
pub mod net_devices;
pub mod process;
pub mod rdt;
mod shared_mounts;
pub mod stored;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_spec::{Config, Linux, Resources, RootfsPropagation, Seccomp};
use bulkhead_sys::mount::{Propagation, Reach};
use bulkhead_sys::namespace::Kind;

use crate::error::{Error, Result};
use check::{Parameter, Version};
use hooks::Hooks;
use mounts::{Device, MappedBy, Mount};
use namespaces::{Elsewhere, IdMaps, Namespaces};
use net_devices::NetDevice;
use process::Process;
use rdt::Rdt;

/// The annotation that asks for an overlay as the root: JSON
/// `{"lower": ["/a"], "upper": "/b", "work": "/c", "idmap": false}`.
pub const OVERLAY_ANNOTATION: &str = "org.bulkhead.rootfs.overlay";

/// Everything that a container's set-up needs to know.
#[derive(Debug)]
pub struct Plan {
    /// The root file system.
    pub root: Root,
    /// The namespaces, new and joined.
    pub namespaces: Namespaces,
    /// The host name of a new UTS namespace.
    pub hostname: Option<String>,
    /// The NIS domain name of a new UTS namespace.
    pub domainname: Option<String>,
    /// The mounts, in order.
    pub mounts: Vec<Mount>,
    /// The device nodes, the default ones included.
    pub devices: Vec<Device>,
    /// The network devices that it gets from the host.
    pub net_devices: Vec<NetDevice>,
    /// Paths that are hidden.
    pub masked: Vec<PathBuf>,
    /// Paths that are made read-only.
    pub readonly: Vec<PathBuf>,
    /// Kernel parameters.
    pub sysctl: Vec<Parameter>,
    /// The program, if the configuration has one.
    pub process: Option<Process>,
    /// The programs that run at points of the life cycle.
    pub hooks: Hooks,
    /// The new namespaces that hooks of the creation get as descriptors, by annotation.
    pub hook_namespaces: Vec<Kind>,
    /// Where in the cgroup hierarchies and with which limits.
    pub cgroup: Cgroup,
    /// The class of service of its cache and memory bandwidth.
    pub rdt: Option<Rdt>,
    /// The system call filter.
    pub seccomp: Option<Filter>,
    /// The SELinux context of mounts.
    pub mount_label: Option<MountLabel>,
    /// The unix socket that gets a pidfd of the container's process, by annotation.
    pub pidfd_receiver: Option<PathBuf>,
    /// What callers attached.
    pub annotations: BTreeMap<String, String>,
    /// The version of the specification that the bundle names.
    pub oci_version: String,
    /// What the caller should be told, though nothing stops for it.
    pub warnings: Vec<String>,
}

/// The root file system.
#[derive(Debug)]
pub struct Root {
    /// Absolute host path of its directory.
    pub path: PathBuf,
    /// Whether the container cannot write to it.
    pub readonly: bool,
    /// What is mounted over that directory inside the container's own mount namespace.
    pub overlay: Option<Overlay>,
    /// How the ids of the overlay's layers are mapped, if they are.
    pub layers: Option<MappedBy>,
    /// Propagation of the container's mounts.
    pub propagation: (Propagation, Reach),
}

impl Root {
    /// Tells whether mounts of the container may be peers of the host's: what happens to them is then seen there.
    pub fn keeps_peers(&self) -> bool {
        let (propagation, reach) = self.propagation;
        propagation == Propagation::Shared || reach == Reach::Mount
    }
}

/// An overlay of host directories.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Overlay {
    /// Lower layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// The writable layer; without it the overlay is read-only.
    #[serde(default)]
    pub upper: Option<PathBuf>,
    /// The work directory, on the file system of `upper`.
    #[serde(default)]
    pub work: Option<PathBuf>,
    /// The SELinux context of its files, `linux.mountLabel`.
    #[serde(skip)]
    pub label: Option<MountLabel>,
    /// The layers show their ids as the container's user namespace maps them, so that containers with different maps
    /// share them, one after the other also the writable one.
    #[serde(default)]
    pub idmap: bool,
    /// Nothing of it is ever synced to the disk, neither by fsync(2) in the container nor when it is unmounted
    /// (overlayfs's option `volatile`, since Linux 5.10): for a root that goes with its container.
    #[serde(default)]
    pub volatile: bool,
}

/// Control groups: the path as configured and the limits.
#[derive(Debug)]
pub struct Cgroup {
    /// `linux.cgroupsPath`.
    pub path: Option<String>,
    /// `linux.resources`.
    pub resources: Resources,
}

/// An SELinux context of mounts, and the option that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLabel {
    /// `context`, or another that an annotation names.
    pub option: &'static str,
    /// The context.
    pub context: String,
}

/// A compiled filter and where its notifications go.
#[derive(Debug)]
pub struct Filter {
    /// The program and its flags.
    pub program: bulkhead_seccomp::Program,
    /// The unix socket of the notification agent.
    pub listener: Option<PathBuf>,
    /// What is passed to the agent.
    pub metadata: String,
}

impl Plan {
    /// Decides what a configuration means for a bundle at the absolute path `bundle`. A user namespace for which it has no
    /// maps has those that `elsewhere` gives.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the JSON pointer of the first value that cannot be carried out.
    pub fn new(config: &Config, bundle: &Path, elsewhere: Elsewhere<'_>) -> Result<Self> {
        let version = check::version(&config.oci_version)?;
        let default_linux = Linux::default();
        let linux = config.linux.as_ref().unwrap_or(&default_linux);
        let mut warnings = Vec::new();
        let namespaces = Namespaces::plan(linux, elsewhere, &mut warnings)?;
        annotations::check(&config.annotations, &mut warnings)?;
        let seccomp = linux.seccomp.as_ref();
        let seccomp = seccomp.map(|profile| filter(profile, config, &mut warnings)).transpose()?;
        let process = config.process.as_ref().map(|p| Process::plan(p, config, &mut warnings)).transpose()?;
        process.iter().try_for_each(|process| namespaces.check_member(process))?;
        let root = root(config, linux, bundle, &namespaces)?;
        let mut mounts = mounts::plan(&config.mounts, bundle, &root.path, &namespaces)?;
        if namespaces.shares_mounts() {
            shared_mounts::settle(linux, &namespaces, &mut mounts)?;
        }
        check::requests(config, &namespaces)?;
        Ok(Self {
            root,
            hostname: config.hostname.clone(),
            domainname: config.domainname.clone(),
            devices: mounts::devices(&linux.devices, &mounts)?,
            net_devices: net_devices::plan(linux, &namespaces)?,
            masked: absolute_paths(&linux.masked_paths, "/linux/maskedPaths")?,
            readonly: absolute_paths(&linux.readonly_paths, "/linux/readonlyPaths")?,
            sysctl: check::sysctl(&linux.sysctl, &namespaces)?,
            hooks: Hooks::plan(&config.hooks)?,
            hook_namespaces: annotations::hook_namespaces(&config.annotations, &namespaces)?,
            cgroup: Cgroup { path: linux.cgroups_path.clone(), resources: resources(linux, version) },
            rdt: linux.intel_rdt.as_ref().map(rdt::plan).transpose()?,
            mount_label: mount_label(config, linux),
            pidfd_receiver: annotations::path(&config.annotations, annotations::PIDFD_RECEIVER),
            annotations: config.annotations.clone(),
            oci_version: config.oci_version.clone(),
            seccomp,
            process,
            mounts,
            namespaces,
            warnings,
        })
    }

    /// Returns the identity maps of the container's user namespace, if it gets a new one.
    pub fn maps(&self) -> Option<&IdMaps> {
        self.namespaces.maps()
    }

    /// Returns the user of the container to whom its control group is to belong, if to any (config-linux.md, "Cgroup
    /// ownership"): the one who runs its program, where that may write to a cgroup namespace of the container's own.
    pub fn cgroup_owner(&self) -> Option<u32> {
        let given_away = self.namespaces.is_new(Kind::Cgroup) && mounts::cgroups_are_writable(&self.mounts);
        self.process.as_ref().filter(|_| given_away).map(|process| process.user.uid)
    }

    /// Returns the place in the configuration of something that changes the container's namespace of this kind.
    pub fn change_to(&self, kind: Kind) -> Option<&str> {
        let of_uts = |set: bool, pointer| (set && kind == Kind::Uts).then_some(pointer);
        let parameter = self.sysctl.iter().find(|parameter| parameter.kind == kind);
        let device = kind == Kind::Network && !self.net_devices.is_empty();
        // Whoever shares the namespace in which the root is entered gets another root.
        let root = (kind == Kind::Mount).then_some("/root");
        root.or(of_uts(self.hostname.is_some(), "/hostname"))
            .or(of_uts(self.domainname.is_some(), "/domainname"))
            .or(device.then_some("/linux/netDevices"))
            .or(parameter.map(|parameter| parameter.pointer.as_str()))
    }
}

fn resources(linux: &Linux, version: Version) -> Resources {
    let mut resources = linux.resources.clone().unwrap_or_default();
    if let Some(pids) = resources.pids.as_mut().filter(|_| version.minor < 3) {
        // Up to 1.2 engines meant "no limit" by 0; what it means has been said since 1.3 (config-linux.md, "PIDs").
        pids.limit = pids.limit.map(|limit| if limit == 0 { -1 } else { limit });
    }
    resources
}

fn root(config: &Config, linux: &Linux, bundle: &Path, namespaces: &Namespaces) -> Result<Root> {
    let Some(root) = &config.root else {
        return Err(Error::invalid("/root", "a container needs a root file system: {\"path\": \"rootfs\"}"));
    };
    if root.path.is_empty() {
        return Err(Error::invalid("/root/path", "the path is empty"));
    }
    let mut overlay = config.annotations.get(OVERLAY_ANNOTATION).map(|text| overlay(text)).transpose()?;
    if let Some(overlay) = &mut overlay {
        overlay.label = mount_label(config, linux);
    }
    let is_mapped = overlay.as_ref().is_some_and(|overlay| overlay.idmap);
    let layers = if is_mapped { mounts::of_container(namespaces) } else { None };
    if is_mapped && layers.is_none() {
        let reason = "idmap takes the maps of the container's user namespace, which has none";
        return Err(Error::invalid(format!("/annotations/{OVERLAY_ANNOTATION}"), reason));
    }
    Ok(Root {
        path: bundle.join(&root.path),
        readonly: root.readonly,
        overlay,
        layers,
        propagation: match namespaces.shares_mounts() {
            true => (Propagation::Private, Reach::Tree),
            false => propagation(linux.rootfs_propagation),
        },
    })
}

fn mount_label(config: &Config, linux: &Linux) -> Option<MountLabel> {
    let context = process::label(linux.mount_label.as_deref())?;
    Some(MountLabel { option: annotations::mount_context(&config.annotations), context })
}

fn overlay(text: &str) -> Result<Overlay> {
    let pointer = format!("/annotations/{}", OVERLAY_ANNOTATION.replace('/', "~1"));
    let overlay: Overlay =
        serde_json::from_str(text).map_err(|error| Error::invalid(pointer.as_str(), error.to_string()))?;
    let paths = overlay.lower.iter().chain(&overlay.upper).chain(&overlay.work);
    if let Some(path) = paths.into_iter().find(|path| !path.is_absolute()) {
        return Err(Error::invalid(pointer, format!("{} is not an absolute path", path.display())));
    }
    let paths = overlay.lower.iter().chain(&overlay.upper).chain(&overlay.work);
    if paths.into_iter().any(|path| path.as_os_str().as_encoded_bytes().contains(&0)) {
        return Err(Error::invalid(pointer, "a path contains a NUL byte"));
    }
    if overlay.lower.is_empty() {
        return Err(Error::invalid(pointer, "an overlay needs at least one lower directory"));
    }
    if overlay.upper.is_some() != overlay.work.is_some() {
        return Err(Error::invalid(pointer, "upper and work go together"));
    }
    if overlay.idmap {
        let [upper, work] =
            [&overlay.upper, &overlay.work].map(|path| path.as_deref().and_then(Path::parent));
        if upper != work || upper == Some(Path::new("/")) {
            let reason =
                "idmap maps upper and work by one mount: they lie in one directory, which is not the root";
            return Err(Error::invalid(pointer, reason));
        }
    }
    Ok(overlay)
}

/// Without a setting the container's mounts receive events from the host's and send none, as under runc.
fn propagation(configured: Option<RootfsPropagation>) -> (Propagation, Reach) {
    match configured {
        None | Some(RootfsPropagation::RecursiveSlave) => (Propagation::Slave, Reach::Tree),
        Some(RootfsPropagation::Slave) => (Propagation::Slave, Reach::Mount),
        Some(RootfsPropagation::Private) => (Propagation::Private, Reach::Mount),
        Some(RootfsPropagation::RecursivePrivate) => (Propagation::Private, Reach::Tree),
        Some(RootfsPropagation::Shared) => (Propagation::Shared, Reach::Mount),
        Some(RootfsPropagation::RecursiveShared) => (Propagation::Shared, Reach::Tree),
        Some(RootfsPropagation::Unbindable) => (Propagation::Unbindable, Reach::Mount),
        Some(RootfsPropagation::RecursiveUnbindable) => (Propagation::Unbindable, Reach::Tree),
    }
}

fn absolute_paths(paths: &[String], pointer: &str) -> Result<Vec<PathBuf>> {
    let check = |(index, path): (usize, &String)| {
        let invalid = |reason: String| Err(Error::invalid(format!("{pointer}/{index}"), reason));
        if !path.starts_with('/') {
            return invalid(format!("{path:?} is not an absolute path"));
        }
        // Such a path leads nowhere, and what leads nowhere is not covered: a mistake must not pass for that.
        if path.contains('\0') {
            return invalid(format!("{path:?} contains a NUL byte"));
        }
        Ok(PathBuf::from(path))
    };
    paths.iter().enumerate().map(check).collect()
}

fn filter(profile: &Seccomp, config: &Config, warnings: &mut Vec<String>) -> Result<Filter> {
    let mut profile = std::borrow::Cow::Borrowed(profile);
    if profile.listener_path.is_none()
        && let Some(path) = config.annotations.get(annotations::SECCOMP_RECEIVER)
    {
        profile.to_mut().listener_path = Some(path.clone());
    }
    let program = bulkhead_seccomp::compile(&profile, bulkhead_seccomp::NATIVE).map_err(Error::Seccomp)?;
    if config.annotations.contains_key(annotations::UNKNOWN_CALLS) {
        refuse_unknown_calls(&program)?;
    }
    warnings.extend(program.warnings.iter().map(ToString::to_string));
    Ok(Filter {
        program,
        listener: profile.listener_path.as_ref().map(PathBuf::from),
        metadata: profile.listener_metadata.clone().unwrap_or_default(),
    })
}

fn refuse_unknown_calls(program: &bulkhead_seccomp::Program) -> Result<()> {
    program.warnings.iter().try_for_each(|warning| match warning {
        bulkhead_seccomp::Warning::UnknownCall { rule, name } => Err(Error::invalid(
            format!("/linux/seccomp/syscalls/{rule}/names"),
            format!(
                "there is no system call {name:?}, and the annotation {} wants all known",
                annotations::UNKNOWN_CALLS
            ),
        )),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_processes_at_all_meant_any_number_before_version_1_3() {
        let linux: Linux = serde_json::from_str(r#"{"resources": {"pids": {"limit": 0}}}"#).unwrap();
        for (minor, expected) in [(0, -1), (2, -1), (3, 0)] {
            let limit = resources(&linux, Version { minor }).pids.and_then(|pids| pids.limit);
            assert_eq!(limit, Some(expected), "1.{minor}");
        }
    }
}
