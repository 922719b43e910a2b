//! The mounts and device nodes of a container.

use std::path::{Component, Path, PathBuf};

use bulkhead_spec::DeviceType;
use bulkhead_sys::mount::{Propagation, Reach, attribute};
use bulkhead_sys::namespace::Kind;

use super::mount_options::{self, Change, Options};
use super::namespaces::{IdMaps, Namespaces, host_id};
use super::process::id;
use crate::error::{Error, Result};

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// What is mounted.
    pub source: Source,
    /// Attributes of the mount itself.
    pub attributes: Change,
    /// Bits that are cleared too, but stay where the host has locked any of them.
    pub yielding: u64,
    /// Attributes of it and all below it.
    pub recursive: Change,
    /// Propagation, in order.
    pub propagation: Vec<(Propagation, Reach)>,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or directory of the host.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// Whether its submounts come along.
        reach: Reach,
        /// How its ids are mapped.
        idmap: Option<IdMap>,
        /// What becomes of a link.
        link: Link,
    },
    /// A file or directory of the container itself, as earlier mounts left it.
    Inside {
        /// Absolute path in the container.
        path: PathBuf,
        /// Whether its submounts come along.
        reach: Reach,
        /// How its ids are mapped.
        idmap: Option<IdMap>,
    },
    /// The root of another mount namespace, which shows nothing but what is mounted there.
    Namespace {
        /// Absolute host path of the namespace.
        path: PathBuf,
    },
    /// A new file system.
    Filesystem {
        /// Its type.
        kind: String,
        /// Its source, which most types only show.
        source: String,
        /// Options: key and value.
        options: Vec<(String, Option<String>)>,
        /// Flags of the file system.
        flags: Vec<&'static str>,
        /// Whether what it hides is copied into it.
        copy_up: bool,
    },
    /// The container's view of its control groups.
    Cgroup,
    /// Whatever is mounted there already.
    Existing {
        /// Options of its file system that change: key and value.
        options: Vec<(String, Option<String>)>,
        /// Flags of its file system that are set or taken back.
        flags: Vec<&'static str>,
    },
}

/// What becomes of a source that is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// What it leads to is mounted.
    Followed,
    /// There will be one like it, and no mount.
    Copied,
}

/// The mapping of the ids of a mount.
#[derive(Debug, PartialEq, Eq)]
pub struct IdMap {
    /// What maps them.
    pub by: MappedBy,
    /// Whether submounts are mapped too.
    pub reach: Reach,
}

/// What maps the ids of a mount.
#[derive(Debug, PartialEq, Eq)]
pub enum MappedBy {
    /// A user namespace made for it.
    Maps(IdMaps),
    /// The user namespace that the container joins, by path.
    Namespace(PathBuf),
}

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// Its type.
    pub kind: DeviceType,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
}

/// The nodes that every container has (config-linux.md, "Default Devices").
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

impl Device {
    /// Tells whether it is a node that every container has.
    pub fn is_default(&self) -> bool {
        let ordinary = (self.kind, self.mode, self.uid, self.gid) == (DeviceType::Char, 0o666, 0, 0);
        let listed = |&(path, major, minor): &(&str, u32, u32)| {
            (self.major, self.minor) == (major, minor) && self.path == Path::new(path)
        };
        ordinary && DEFAULT_DEVICES.iter().any(listed)
    }
}

/// Options of cgroup file systems, cgroups(7). All are the hierarchy's, which is the host's: the kernel ignores them where
/// a container mounts it, and so do we.
const CGROUP_OPTIONS: [&str; 29] = [
    "nsdelegate",
    "favordynmods",
    "nofavordynmods",
    "memory_localevents",
    "memory_recursiveprot",
    "memory_hugetlb_accounting",
    "pids_localevents",
    "all",
    "none",
    "name",
    "xattr",
    "noprefix",
    "clone_children",
    "cpuset_v2_mode",
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
    "misc",
    "release_agent",
];

/// Decides the mounts; `bundle` is where relative bind sources start, `namespaces` say what `idmap` without maps means.
///
/// A destination or a source below `root`, the host's path of the container's root, means what is there in the container,
/// as in runc.
///
/// # Errors
/// Empty destinations, destinations with `..`, a type that is missing, maps that make no sense.
pub fn plan(
    mounts: &[bulkhead_spec::Mount],
    bundle: &Path,
    root: &Path,
    namespaces: &Namespaces,
) -> Result<Vec<Mount>> {
    mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| one(mount, (bundle, root), namespaces, &format!("/mounts/{index}")))
        .collect()
}

fn one(
    mount: &bulkhead_spec::Mount,
    (bundle, root): (&Path, &Path),
    namespaces: &Namespaces,
    pointer: &str,
) -> Result<Mount> {
    let options = mount_options::parse(&mount.options);
    let destination = destination(&mount.destination, pointer)?;
    let destination = inside(root, &destination).unwrap_or(destination);
    let kind = mount.kind.as_deref().unwrap_or("none");
    for (text, field) in [(Some(kind), "type"), (mount.source.as_deref(), "source")] {
        if text.is_some_and(|text| text.contains('\0')) {
            return Err(Error::invalid(format!("{pointer}/{field}"), "it contains a NUL byte"));
        }
    }
    let idmap = idmap(mount, &options, namespaces, pointer)?;
    if options.copy_link && (options.remount || kind != "bind" && options.bind.is_none()) {
        return Err(Error::invalid(format!("{pointer}/options"), "copy-symlink is for bind mounts"));
    }
    let is_bound = kind == "bind" || options.bind.is_some();
    if options.of_namespace && (options.remount || !is_bound || options.copy_link || idmap.is_some()) {
        let reason = "mount-namespace is for bind mounts, without idmap and copy-symlink";
        return Err(Error::invalid(format!("{pointer}/options"), reason));
    }
    let (attributes, yielding) =
        if is_bound && !options.remount { options.bound() } else { (options.attributes, 0) };
    let (recursive, propagation) = (options.recursive, options.propagation.clone());
    let source = if options.remount {
        // With `bind` only the mount changes, as in mount(2).
        let of_filesystem = options.bind.is_none();
        Source::Existing {
            options: if of_filesystem { options.data } else { Vec::new() },
            flags: if of_filesystem { options.filesystem_flags } else { Vec::new() },
        }
    } else if is_bound {
        let Some(source) = mount.source.as_deref().filter(|source| !source.is_empty()) else {
            return Err(Error::invalid(format!("{pointer}/source"), "a bind mount needs a source"));
        };
        // Go joins paths so: what is relative becomes normal, and what is absolute stays.
        let path = if source.starts_with('/') { source.into() } else { normal(&bundle.join(source)) };
        let reach = options.bind.unwrap_or(Reach::Mount);
        match inside(root, &path) {
            _ if options.of_namespace => Source::Namespace { path },
            Some(path) => Source::Inside { path, reach, idmap },
            None => {
                let link = if options.copy_link { Link::Copied } else { Link::Followed };
                Source::Bind { path, reach, idmap, link }
            }
        }
    } else if idmap.is_some() {
        return Err(Error::invalid(format!("{pointer}/uidMappings"), "only a bind mount can map ids"));
    } else if kind == "cgroup" || kind == "cgroup2" {
        if let Some((key, _)) = options.data.iter().find(|(key, _)| !CGROUP_OPTIONS.contains(&key.as_str())) {
            // The first words are the kernel's.
            let reason = format!("Invalid argument: a cgroup file system has no option {key:?}");
            return Err(Error::invalid(format!("{pointer}/options"), reason));
        }
        Source::Cgroup
    } else if kind == "none" || kind.is_empty() {
        return Err(Error::invalid(
            format!("{pointer}/type"),
            "a mount that is not a bind mount needs a type",
        ));
    } else {
        owners_are_mapped(&options, namespaces, pointer)?;
        filesystem(kind, mount, options, pointer)?
    };
    Ok(Mount { destination, source, attributes, yielding, recursive, propagation })
}

/// Refuses a file system for somebody whom the container's user namespace does not have: the kernel would only say that
/// something is invalid. `gid=5` of devpts is the usual case.
fn owners_are_mapped(options: &Options, namespaces: &Namespaces, pointer: &str) -> Result<()> {
    let Some(maps) = namespaces.maps() else { return Ok(()) };
    for (key, value) in &options.data {
        let list = match key.as_str() {
            "uid" => &maps.uids,
            "gid" => &maps.gids,
            _ => continue,
        };
        let Some(id) = value.as_deref().and_then(|value| value.parse().ok()) else { continue };
        if host_id(list, id).is_none() {
            let reason =
                format!("{key}={id} is not mapped in the container's user namespace; leave the option out");
            return Err(Error::invalid(format!("{pointer}/options"), reason));
        }
    }
    Ok(())
}

fn filesystem(kind: &str, mount: &bulkhead_spec::Mount, options: Options, pointer: &str) -> Result<Source> {
    if options.copy_up && kind != "tmpfs" {
        return Err(Error::invalid(format!("{pointer}/options"), "tmpcopyup is for tmpfs"));
    }
    let source = mount.source.clone().unwrap_or_else(|| kind.to_owned());
    Ok(Source::Filesystem {
        kind: kind.to_owned(),
        source,
        options: options.data,
        flags: options.filesystem_flags,
        copy_up: options.copy_up,
    })
}

/// Returns where in the container a path of the host is that lies below the container's root; one that may leave it again
/// does not.
fn inside(root: &Path, path: &Path) -> Option<PathBuf> {
    let below =
        path.strip_prefix(root).ok().filter(|below| root != Path::new("/") && *below != Path::new(""))?;
    let leaves = below.components().any(|component| component == Component::ParentDir);
    (!leaves).then(|| Path::new("/").join(below))
}

/// Makes a path absolute and normal, without a look at links.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

/// Makes a destination absolute and normal: a relative one starts at `/`, as under runc.
fn destination(text: &str, pointer: &str) -> Result<PathBuf> {
    let pointer = format!("{pointer}/destination");
    if text.is_empty() {
        return Err(Error::invalid(pointer, "the destination is empty"));
    }
    if text.contains('\0') {
        return Err(Error::invalid(pointer, "it contains a NUL byte"));
    }
    let path = normal(Path::new(text));
    if path == Path::new("/") {
        return Err(Error::invalid(
            pointer,
            "nothing can be mounted over the container's root; set root.path instead",
        ));
    }
    Ok(path)
}

fn idmap(
    mount: &bulkhead_spec::Mount,
    options: &Options,
    namespaces: &Namespaces,
    pointer: &str,
) -> Result<Option<IdMap>> {
    let own = IdMaps { uids: mount.uid_mappings.clone(), gids: mount.gid_mappings.clone() };
    let reach = options.idmap.unwrap_or(Reach::Mount);
    let by = match (own.uids.is_empty(), own.gids.is_empty()) {
        (false, false) => {
            own.check(pointer)?;
            MappedBy::Maps(own)
        }
        (true, true) if options.idmap.is_none() => return Ok(None),
        (true, true) => match of_container(namespaces) {
            Some(by) => by,
            None => {
                return Err(Error::invalid(
                    format!("{pointer}/options"),
                    "idmap without mappings takes those of the container's user namespace, which has none",
                ));
            }
        },
        (true, false) | (false, true) => {
            return Err(Error::invalid(
                format!("{pointer}/uidMappings"),
                "uidMappings and gidMappings go together",
            ));
        }
    };
    Ok(Some(IdMap { by, reach }))
}

/// Tells whether the container can write to its control groups where it looks for them.
///
/// The last mount at that place counts; one that is not plainly writable is taken for closed.
pub fn cgroups_are_writable(mounts: &[Mount]) -> bool {
    let last = mounts.iter().rfind(|mount| mount.destination == Path::new("/sys/fs/cgroup"));
    let closed = |mount: &Mount| (mount.attributes.set | mount.recursive.set) & attribute::RDONLY != 0;
    last.is_some_and(|mount| mount.source == Source::Cgroup && !closed(mount))
}

/// Returns the mapping of the container's user namespace, new or joined.
pub(super) fn of_container(namespaces: &Namespaces) -> Option<MappedBy> {
    let maps = namespaces.maps().cloned().map(MappedBy::Maps);
    maps.or_else(|| namespaces.path(Kind::User).map(|path| MappedBy::Namespace(path.to_owned())))
}

/// Decides the device nodes: the default ones, then the configured ones, which replace them.
///
/// A bind mount on `/dev` is somebody else's set of devices and stays as it is. `/dev/ptmx` belongs to devpts.
///
/// # Errors
/// Paths that are not absolute, numbers out of range.
pub fn devices(configured: &[bulkhead_spec::Device], mounts: &[Mount]) -> Result<Vec<Device>> {
    let bound =
        |mount: &Mount| mount.destination == Path::new("/dev") && matches!(mount.source, Source::Bind { .. });
    if mounts.iter().any(bound) {
        return Ok(Vec::new());
    }
    let mut devices: Vec<Device> = DEFAULT_DEVICES
        .iter()
        .map(|&(path, major, minor)| Device {
            path: path.into(),
            kind: DeviceType::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for (index, device) in configured.iter().enumerate() {
        let device = self::device(device, &format!("/linux/devices/{index}"))?;
        devices.retain(|other| other.path != device.path);
        if device.path != Path::new("/dev/ptmx") {
            devices.push(device);
        }
    }
    Ok(devices)
}

fn device(device: &bulkhead_spec::Device, pointer: &str) -> Result<Device> {
    let path = destination(&device.path, pointer)?;
    if !device.path.starts_with('/') {
        return Err(Error::invalid(
            format!("{pointer}/path"),
            format!("{:?} is not an absolute path", device.path),
        ));
    }
    let number = |value: i64, name: &str| {
        u32::try_from(value)
            .map_err(|_| Error::invalid(format!("{pointer}/{name}"), "a device number is not negative"))
    };
    Ok(Device {
        path,
        kind: device.kind,
        major: number(device.major, "major")?,
        minor: number(device.minor, "minor")?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: id(device.uid.unwrap_or(0), format!("{pointer}/uid"))?,
        gid: id(device.gid.unwrap_or(0), format!("{pointer}/gid"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<Mount> {
        let mount: bulkhead_spec::Mount = serde_json::from_str(json).unwrap();
        let places = (Path::new("/bundle"), Path::new("/bundle/rootfs"));
        one(&mount, places, &Namespaces::default(), "/mounts/0")
    }

    #[test]
    fn relative_sources_start_at_the_bundle_and_destinations_at_the_root() {
        let mount = planned(r#"{"destination":"a/../b","source":"data","options":["rbind","ro"]}"#).unwrap();
        assert_eq!(mount.destination, Path::new("/b"));
        let source = Source::Bind {
            path: "/bundle/data".into(),
            reach: Reach::Tree,
            idmap: None,
            link: Link::Followed,
        };
        assert_eq!(mount.source, source);
    }

    #[test]
    fn a_host_path_below_the_root_means_what_is_there_in_the_container() {
        let mount =
            planned(r#"{"destination":"/bundle/rootfs/b","source":"/bundle/rootfs/a","options":["rbind"]}"#)
                .unwrap();
        assert_eq!(mount.destination, Path::new("/b"));
        assert_eq!(mount.source, Source::Inside { path: "/a".into(), reach: Reach::Tree, idmap: None });
        let mount =
            planned(r#"{"destination":"/bundle/rootfs2","source":"rootfs2","options":["bind"]}"#).unwrap();
        assert_eq!(mount.destination, Path::new("/bundle/rootfs2"));
        assert!(matches!(mount.source, Source::Bind { .. }), "{mount:?}");
    }

    #[test]
    fn a_source_that_leaves_the_root_is_the_hosts() {
        for (source, expected) in [
            ("rootfs/../data", Ok("/bundle/data")),
            ("/bundle/rootfs/../data", Ok("/bundle/rootfs/../data")),
            ("/bundle/rootfs/a/../../data", Ok("/bundle/rootfs/a/../../data")),
            ("../x/./y", Ok("/x/y")),
            ("rootfs/a/../b", Err("/b")),
            ("x/../rootfs/a", Err("/a")),
        ] {
            let json = format!(r#"{{"destination":"/m","source":"{source}","options":["bind"]}}"#);
            let found = match planned(&json).unwrap().source {
                Source::Bind { path, .. } => Ok(path),
                Source::Inside { path, .. } => Err(path),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected.map(PathBuf::from).map_err(PathBuf::from), "{source}");
        }
    }

    #[test]
    fn the_root_cannot_be_a_destination() {
        let error = planned(r#"{"destination":"/../","type":"tmpfs"}"#).unwrap_err().to_string();
        assert!(error.starts_with("config.json: /mounts/0/destination: nothing can be mounted"), "{error}");
    }

    #[test]
    fn a_cgroup_mount_takes_only_options_of_cgroups() {
        for kind in ["cgroup", "cgroup2"] {
            let mount = |option: &str| {
                planned(&format!(
                    r#"{{"destination":"/c","type":"{kind}","options":["ro","nosuid","{option}"]}}"#
                ))
            };
            for known in ["relatime", "rprivate", "nsdelegate", "memory", "name=systemd"] {
                assert_eq!(mount(known).unwrap().source, Source::Cgroup, "{known}");
            }
            let error = mount("no_such_option").unwrap_err().to_string();
            let told = "config.json: /mounts/0/options: Invalid argument: a cgroup file system has no option";
            assert_eq!(error, format!("{told} \"no_such_option\""));
        }
    }

    #[test]
    fn a_mount_needs_a_type() {
        let error = planned(r#"{"destination":"/x"}"#).unwrap_err().to_string();
        assert_eq!(error, "config.json: /mounts/0/type: a mount that is not a bind mount needs a type");
    }

    #[test]
    fn a_device_belongs_to_somebody() {
        let device = |owner: &str| {
            let json = format!(r#"{{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, {owner}}}"#);
            devices(&[serde_json::from_str(&json).unwrap()], &[]).unwrap_err().to_string()
        };
        assert!(device(r#""uid": 4294967295"#).starts_with("config.json: /linux/devices/0/uid: "));
        assert!(device(r#""gid": 4294967295"#).starts_with("config.json: /linux/devices/0/gid: "));
    }

    #[test]
    fn a_configured_device_replaces_the_default() {
        let device = bulkhead_spec::Device {
            path: "/dev/null".into(),
            kind: DeviceType::Char,
            major: 1,
            minor: 3,
            file_mode: Some(0o600),
            uid: None,
            gid: None,
        };
        let planned = devices(&[device], &[]).unwrap();
        assert_eq!(planned.iter().filter(|d| d.path == Path::new("/dev/null")).count(), 1);
        assert_eq!(planned.last().unwrap().mode, 0o600);
    }
}
