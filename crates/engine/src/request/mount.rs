//! What is mounted in a container besides what each has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bulkhead_shim::users::IdMapping;
pub use bulkhead_spec::RootfsPropagation as Propagation;
use serde::{Deserialize, Serialize};

use super::malformed::container_path;
use super::{Malformed, Size, UserSpec, mount_flag, tmpfs, volume_flag};

/// One mount that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute and normal path in the container, not `/`.
    pub destination: String,
    /// What may be done to it.
    pub access: Access,
    /// What is mounted.
    pub kind: MountKind,
}

impl Mount {
    /// Reads `--volume`: `[SOURCE:]DESTINATION[:OPTIONS]`.
    ///
    /// # Errors
    /// A form or an option that there is not, a path that cannot be.
    pub fn from_volume(text: &str) -> Result<Self, Malformed> {
        volume_flag::read(text)
    }

    /// Reads `--mount`: `type=bind,source=…,target=…` and the options of each type.
    ///
    /// # Errors
    /// As [`from_volume`](Self::from_volume).
    pub fn from_mount(text: &str) -> Result<Self, Malformed> {
        mount_flag::read(text)
    }

    /// Reads `--tmpfs`: `DESTINATION[:OPTIONS]`.
    ///
    /// # Errors
    /// As [`from_volume`](Self::from_volume).
    pub fn from_tmpfs(text: &str) -> Result<Self, Malformed> {
        tmpfs::read(text)
    }

    /// Makes the host's path of a bind mount absolute, as seen from a directory.
    pub fn resolve(&mut self, directory: &Path) {
        if let MountKind::Bind(bind) = &mut self.kind {
            let joined = directory.join(&bind.source);
            bind.source = joined.components().filter(|part| *part != std::path::Component::CurDir).collect();
        }
    }
}

/// What may be done to a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Everything.
    #[default]
    ReadWrite,
    /// It cannot be written, and what is mounted below it neither, where the kernel can see to that.
    ReadOnly,
    /// It cannot be written, but what is mounted below it can.
    ReadOnlyAlone,
    /// It cannot be written and what is mounted below it neither, or there is no container.
    ReadOnlyTree,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind(Bind),
    /// A volume.
    Volume(Volume),
    /// A file system in memory.
    Tmpfs(Tmpfs),
}

/// A file or directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is on the host; relative until [`Mount::resolve`].
    pub source: PathBuf,
    /// What becomes of one that is not there.
    pub missing: Missing,
    /// Whether what is mounted below it comes along.
    #[serde(default)]
    pub reach: Reach,
    /// How mounts on either side are seen on the other; without it not at all.
    #[serde(default)]
    pub propagation: Option<Propagation>,
    /// Whether its files get an SELinux label.
    #[serde(default)]
    pub relabel: Option<Relabel>,
    /// As whose its files are seen.
    #[serde(default)]
    pub ownership: Option<Ownership>,
}

/// What becomes of a source that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// A directory is made there, as `--volume` does.
    Created,
    /// There is no container, as `--mount` has it.
    Refused,
}

/// Whether what is mounted below a source comes along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// It does.
    #[default]
    Tree,
    /// It does not.
    Alone,
}

/// The SELinux label that the files of a source get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relabel {
    /// One that all containers may use (`z`).
    Shared,
    /// This container's (`Z`).
    Private,
}

/// As whose the files of a mount are seen in the container. The disk stays as it is: the mount maps ids (`MOUNT_ATTR_IDMAP`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// What belongs to the source's owner belongs to this user of the container, and the other way round (`owner=USER[:GROUP]`);
    /// without a user, to the one as whom the container runs. Nothing changes for others.
    Owner(Option<UserSpec>),
    /// As the container's user namespace maps them (`idmap`).
    Container,
    /// By these ranges (`idmap=uids=…;gids=…`).
    Ranges {
        /// The users.
        uids: Vec<IdRange>,
        /// The groups.
        gids: Vec<IdRange>,
    },
}

/// A range of ids of a mount: on the disk, on the host, and how many.
pub type IdRange = bulkhead_spec::IdMapping;

/// A directory that the engine keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its name; without one it is the container's own, and goes with `--rm`.
    pub name: Option<String>,
    /// Whether a new one is filled with what the image has there.
    pub copy: Copy,
    /// The directory in it that is mounted; without it all of it.
    pub subpath: Option<String>,
    /// The labels of a new one.
    pub labels: BTreeMap<String, String>,
    /// As whose its files are seen.
    pub ownership: Option<Ownership>,
}

/// Whether a new volume is filled with what the image has at its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copy {
    /// It is.
    #[default]
    Filled,
    /// It is empty (`nocopy`).
    Empty,
}

/// A file system in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tmpfs {
    /// How much it may hold; without it half of the memory.
    pub size: Option<Size>,
    /// The permission bits of its root; without it 1777.
    pub mode: Option<u32>,
    /// Further options of mount(8) and tmpfs(5), in the order given.
    pub options: Vec<String>,
}

/// The mounts of another container: `NAME[:ro|:rw]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// Its name or id.
    pub container: String,
    /// What may be done to them; without it what it may do itself.
    pub access: Option<Access>,
}

impl FromStr for VolumesFrom {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("container with volumes", text, reason);
        let (container, access) = match text.split_once(':') {
            None => (text, None),
            Some((container, "ro")) => (container, Some(Access::ReadOnly)),
            Some((container, "rw" | "z" | "Z")) => (container, Some(Access::ReadWrite)),
            Some(_) => return Err(wrong("expected NAME, NAME:ro or NAME:rw")),
        };
        if container.is_empty() {
            return Err(wrong("expected a container's name or id"));
        }
        Ok(Self { container: container.to_owned(), access })
    }
}

/// Reads a place in the container where something can be mounted.
pub(super) fn destination(noun: &'static str, whole: &str, text: &str) -> Result<String, Malformed> {
    match container_path("destination", text).map_err(|error| error.within(noun, whole))? {
        path if path == "/" => {
            Err(Malformed::new(noun, whole, "nothing can be mounted over the container's root"))
        }
        path => Ok(path),
    }
}

/// Reads the name of a volume: letters and digits, and `_.-` behind the first.
pub(super) fn volume_name(noun: &'static str, whole: &str, text: &str) -> Result<String, Malformed> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if first && rest && (2..=255).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    let reason = format!(
        "{text:?} is no name of a volume, which has 2 to 255 letters, digits or _.- behind the first; \
         a directory of the host begins with / or ./"
    );
    Err(Malformed::new(noun, whole, reason))
}

/// Reads the path of a directory inside a volume.
pub(super) fn subpath(noun: &'static str, whole: &str, text: &str) -> Result<String, Malformed> {
    let inside = !text.starts_with('/')
        && !text.is_empty()
        && !text.contains('\0')
        && text.split('/').all(|part| part != "..");
    if inside {
        return Ok(text.to_owned());
    }
    Err(Malformed::new(noun, whole, "a path in a volume is relative and has no .."))
}

impl Ownership {
    /// Reads `owner[=USER[:GROUP]]`.
    pub(super) fn owner(noun: &'static str, whole: &str, user: Option<&str>) -> Result<Self, Malformed> {
        let user = match user {
            Some("") => return Err(Malformed::new(noun, whole, "expected owner, or owner=USER[:GROUP]")),
            Some(user) => Some(user.parse().map_err(|error: Malformed| error.within(noun, whole))?),
            None => None,
        };
        Ok(Self::Owner(user))
    }

    /// Reads `idmap[=uids=DISK-HOST-SIZE#…;gids=DISK-HOST-SIZE#…]`, as crun and podman have it.
    pub(super) fn idmap(noun: &'static str, whole: &str, maps: Option<&str>) -> Result<Self, Malformed> {
        let Some(maps) = maps else { return Ok(Self::Container) };
        let wrong = || {
            Malformed::new(noun, whole, "expected idmap, or idmap=uids=DISK-HOST-SIZE;gids=DISK-HOST-SIZE")
        };
        let (mut uids, mut gids) = (Vec::new(), Vec::new());
        for map in maps.split(';') {
            let (ranges, list) = match map.split_once('=').ok_or_else(wrong)? {
                ("uids", list) => (&mut uids, list),
                ("gids", list) => (&mut gids, list),
                _ => return Err(wrong()),
            };
            for range in list.split('#') {
                let colons = range.replace('-', ":");
                let range: super::IdMap = colons.parse().map_err(|_| wrong())?;
                let IdMapping { container_id, host_id, size } = range.0;
                ranges.push(IdRange { container_id, host_id, size });
            }
        }
        if uids.is_empty() || gids.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Ranges { uids, gids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_sources_are_seen_from_a_directory() {
        for (source, expected) in
            [("./a", "/home/me/a"), (".", "/home/me"), ("/b", "/b"), ("../c", "/home/me/../c")]
        {
            let mut mount = Mount::from_volume(&format!("{source}:/x")).unwrap();
            mount.resolve(Path::new("/home/me"));
            let MountKind::Bind(bind) = mount.kind else { panic!("{source} is bound") };
            assert_eq!(bind.source, Path::new(expected));
        }
    }

    #[test]
    fn mounts_of_others_may_be_read_only() {
        for (text, access) in
            [("db", None), ("db:ro", Some(Access::ReadOnly)), ("db:rw", Some(Access::ReadWrite))]
        {
            assert_eq!(text.parse(), Ok(VolumesFrom { container: "db".to_owned(), access }));
        }
        assert!(":ro".parse::<VolumesFrom>().is_err() && "db:rx".parse::<VolumesFrom>().is_err());
    }
}
