//! Which namespaces the container gets, and the identity maps of a user namespace.

use std::path::{Path, PathBuf};

use bulkhead_spec::{Clock, IdMapping, Linux, NamespaceType};
use bulkhead_sys::namespace::Kind;

use super::process::{Process, User};
use super::shared_mounts;
use crate::error::{Error, Result};

/// The namespaces of a container; a kind in neither list is the runtime's own.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Kinds that are created.
    new: Vec<Kind>,
    /// Kinds that are joined, with the path of the namespace.
    pub join: Vec<(Kind, PathBuf)>,
    /// Identity maps of a new user namespace; empty maps for none.
    maps: Option<IdMaps>,
    /// Lines for `/proc/PID/timens_offsets`, empty for none.
    pub time_offsets: String,
}

/// The identity maps of a user namespace, user_namespaces(7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Maps of user ids.
    pub uids: Vec<IdMapping>,
    /// Maps of group ids.
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// Returns the container's user that sets it up: its root, or the first that it has.
    pub fn first_uid(&self) -> u32 {
        first_id(&self.uids)
    }

    /// Returns the container's group that sets it up: its root's, or the first that it has.
    pub fn first_gid(&self) -> u32 {
        first_id(&self.gids)
    }
}

fn first_id(maps: &[IdMapping]) -> u32 {
    match host_id(maps, 0) {
        Some(_) => 0,
        None => maps.first().map_or(0, |map| map.container_id),
    }
}

impl IdMaps {
    /// Refuses a user who is not in the user namespace.
    ///
    /// # Errors
    /// One of its two ids is not mapped.
    pub fn check_user(&self, user: &User) -> Result<()> {
        for (list, id, name) in [(&self.uids, user.uid, "uid"), (&self.gids, user.gid, "gid")] {
            if host_id(list, id).is_none() {
                let reason = format!("{id} is not mapped in the container's user namespace");
                return Err(Error::invalid(format!("/process/user/{name}"), reason));
            }
        }
        Ok(())
    }

    /// Refuses maps that the kernel would, with their place below `pointer`.
    ///
    /// # Errors
    /// A list without entries, an empty range, ranges that overlap.
    pub fn check(&self, pointer: &str) -> Result<()> {
        for (list, name) in [(&self.uids, "uidMappings"), (&self.gids, "gidMappings")] {
            let pointer = format!("{pointer}/{name}");
            if list.is_empty() {
                return Err(Error::invalid(pointer, "a new user namespace needs a mapping of its ids"));
            }
            check_maps(list, &pointer)?;
        }
        Ok(())
    }
}

/// Translates an id of the container to the host's.
pub fn host_id(maps: &[IdMapping], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| {
        let offset = id.checked_sub(map.container_id)?;
        if offset < map.size { map.host_id.checked_add(offset) } else { None }
    })
}

/// Writes maps in the format of `/proc/PID/uid_map`.
pub fn map_text(maps: &[IdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size)).collect()
}

/// Where the maps of a new user namespace come from for which the configuration has none.
pub type Elsewhere<'a> = &'a dyn Fn() -> Result<IdMaps>;

impl Namespaces {
    /// Decides the namespaces of a configuration; `elsewhere` is asked only if it has a new user namespace without maps.
    ///
    /// # Errors
    /// A kind that is listed twice, a path that is not absolute, maps without a user namespace or a user namespace
    /// with half of them, offsets without a time namespace; those of `elsewhere`.
    pub fn plan(linux: &Linux, elsewhere: Elsewhere<'_>, warnings: &mut Vec<String>) -> Result<Self> {
        let mut plan = Self::default();
        for (index, namespace) in linux.namespaces.iter().enumerate() {
            let kind = kind(namespace.kind);
            let pointer = format!("/linux/namespaces/{index}");
            if plan.is_new(kind) || plan.joins(kind) {
                return Err(Error::invalid(
                    pointer,
                    format!("namespace {:?} is listed twice", namespace.kind.as_str()),
                ));
            }
            match &namespace.path {
                None => plan.new.push(kind),
                Some(path) if path.starts_with('/') => plan.join.push((kind, path.into())),
                Some(path) => {
                    return Err(Error::invalid(
                        pointer + "/path",
                        format!("{path:?} is not an absolute path"),
                    ));
                }
            }
        }
        plan.join.sort_by_key(|(kind, _)| Kind::ALL.iter().position(|other| other == kind));
        plan.maps = maps(linux, &plan, elsewhere, warnings)?;
        plan.time_offsets = time_offsets(linux, &plan)?;
        Ok(plan)
    }

    /// Tells whether a namespace of this kind is created.
    pub fn is_new(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    /// Tells whether a namespace of this kind is joined.
    pub fn joins(&self, kind: Kind) -> bool {
        self.join.iter().any(|(joined, _)| *joined == kind)
    }

    /// Returns the path of a namespace that is joined.
    pub fn path(&self, kind: Kind) -> Option<&Path> {
        self.join.iter().find(|(joined, _)| *joined == kind).map(|(_, path)| path.as_path())
    }

    /// Tells whether the container has a namespace of this kind that is not the runtime's.
    pub fn has(&self, kind: Kind) -> bool {
        self.is_new(kind) || self.joins(kind)
    }

    /// Tells whether the container is in the runtime's mount namespace.
    pub fn shares_mounts(&self) -> bool {
        !self.has(Kind::Mount)
    }

    /// Refuses a process that cannot be what it is to be in these namespaces.
    ///
    /// # Errors
    /// A user who is not mapped, a profile of AppArmor without a mount namespace.
    pub fn check_member(&self, process: &Process) -> Result<()> {
        if self.shares_mounts() {
            shared_mounts::check_process(process)?;
        }
        self.maps.iter().try_for_each(|maps| maps.check_user(&process.user))
    }

    /// Returns the identity maps of a new user namespace.
    pub fn maps(&self) -> Option<&IdMaps> {
        self.maps.as_ref()
    }

    /// Lists the kinds that are created.
    pub fn new_kinds(&self) -> &[Kind] {
        &self.new
    }
}

fn kind(kind: NamespaceType) -> Kind {
    match kind {
        NamespaceType::Mount => Kind::Mount,
        NamespaceType::Pid => Kind::Pid,
        NamespaceType::Network => Kind::Network,
        NamespaceType::Uts => Kind::Uts,
        NamespaceType::Ipc => Kind::Ipc,
        NamespaceType::User => Kind::User,
        NamespaceType::Cgroup => Kind::Cgroup,
        NamespaceType::Time => Kind::Time,
    }
}

fn maps(
    linux: &Linux,
    namespaces: &Namespaces,
    elsewhere: Elsewhere<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<IdMaps>> {
    let mut maps = IdMaps { uids: linux.uid_mappings.clone(), gids: linux.gid_mappings.clone() };
    let empty = maps.uids.is_empty() && maps.gids.is_empty();
    if namespaces.is_new(Kind::User) {
        if empty {
            maps = elsewhere()?;
            let ranges: Vec<_> =
                maps.uids.iter().map(|map| format!("{} from {}", map.size, map.host_id)).collect();
            let ranges = ranges.join(", ");
            warnings.push(format!(
                "the user namespace has no mappings and gets those of its maker: user ids of the host ({ranges})"
            ));
        }
        maps.check("/linux")?;
        return Ok(Some(maps));
    }
    if !empty && !namespaces.joins(Kind::User) {
        return Err(Error::invalid("/linux/uidMappings", "id mappings need a namespace of type \"user\""));
    }
    Ok(None)
}

/// Refuses empty and overlapping ranges with their place, where the kernel would only say EINVAL.
fn check_maps(maps: &[IdMapping], pointer: &str) -> Result<()> {
    for (index, map) in maps.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        if map.size == 0 {
            return Err(Error::invalid(pointer + "/size", "the range is empty"));
        }
        for (id, name) in [(map.container_id, "containerID"), (map.host_id, "hostID")] {
            if id.checked_add(map.size).is_none() {
                return Err(Error::invalid(format!("{pointer}/{name}"), "the range goes beyond 4294967295"));
            }
        }
        let overlap = |a: u32, b: u32, other: &IdMapping| a < b + other.size && b < a + map.size;
        let clash = maps[..index].iter().any(|other| {
            overlap(map.container_id, other.container_id, other) || overlap(map.host_id, other.host_id, other)
        });
        if clash {
            return Err(Error::invalid(pointer, "the range overlaps an earlier one"));
        }
    }
    Ok(())
}

fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<String> {
    if linux.time_offsets.is_empty() {
        return Ok(String::new());
    }
    if !namespaces.is_new(Kind::Time) {
        return Err(Error::invalid(
            "/linux/timeOffsets",
            "time offsets need a new namespace of type \"time\"",
        ));
    }
    let mut text = String::new();
    for (clock, offset) in &linux.time_offsets {
        let number = match clock {
            Clock::Monotonic => 1,
            Clock::Boottime => 7,
        };
        if offset.nanosecs >= 1_000_000_000 {
            let pointer = format!("/linux/timeOffsets/{clock}/nanosecs");
            return Err(Error::invalid(pointer, "nanoseconds go from 0 to 999999999"));
        }
        text += &format!("{number} {} {}\n", offset.secs, offset.nanosecs);
    }
    Ok(text)
}
