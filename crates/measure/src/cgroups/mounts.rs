//! How cgroups are mounted on this machine, and for this process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_sys::namespace::{self, Kind};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::{CGROUPS, UNIFIED};
use crate::error::{Doing as _, Error};

/// Gives this process mounts of its own, in which every platform finds what it can work with: crun refuses a hybrid
/// machine, so an empty tmpfs takes the place of the v2 hierarchy there. What is mounted goes with the process.
///
/// # Errors
/// When the caller may not mount.
pub fn settle() -> Result<(), Error> {
    namespace::unshare(Kind::Mount).doing(|| "make a mount namespace".to_owned())?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).doing(|| "make all mounts private".to_owned())?;
    if mode_of(&mounts()) != HYBRID {
        return Ok(());
    }
    rustix::mount::unmount(UNIFIED, UnmountFlags::DETACH).doing(|| format!("unmount {UNIFIED}"))?;
    rustix::mount::mount("none", UNIFIED, "tmpfs", MountFlags::empty(), None)
        .doing(|| format!("mount a tmpfs at {UNIFIED}"))
}

const HYBRID: &str = "v1 with v2 beside it";

/// How cgroups are mounted, in words.
pub fn mode() -> &'static str {
    mode_of(&mounts())
}

fn mode_of(mounts: &str) -> &'static str {
    let kinds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let mut mode = "none";
    for (place, kind) in kinds.filter(|(place, _)| place.starts_with(CGROUPS)) {
        mode = match (kind, mode) {
            ("cgroup2", _) if place == Path::new(CGROUPS) => "v2",
            ("cgroup2", _) if place == Path::new(UNIFIED) => HYBRID,
            ("cgroup", "none") => "v1",
            _ => mode,
        };
    }
    mode
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// The v1 hierarchies as a program in C wants them: the directory's name, and the controllers after `=` where they
/// differ from it. None when cgroup v2 is mounted at the top.
pub fn hierarchies() -> Vec<String> {
    hierarchies_in(&mounts())
}

fn hierarchies_in(mounts: &str) -> Vec<String> {
    let fields = mounts.lines().map(|line| Vec::from_iter(line.split(' ')));
    let v1 = fields.filter(|fields| fields.len() > 3 && fields[2] == "cgroup");
    let named = v1.filter_map(|fields| {
        let directory = Path::new(fields[1]).strip_prefix(CGROUPS).ok()?.to_str()?.to_owned();
        // The mount's own flags come first; what is left are controllers, or the name of a hierarchy without any.
        let flags = ["rw", "ro", "nosuid", "nodev", "noexec", "relatime", "seclabel", "xattr"];
        let controllers = fields[3].split(',').filter(|option| {
            !flags.contains(option) && !option.starts_with("release_agent=") && !option.is_empty()
        });
        let controllers = Vec::from_iter(controllers).join(",");
        Some(if controllers == directory { directory } else { format!("{directory}={controllers}") })
    });
    named.collect()
}

/// The controllers that can be used.
pub(crate) fn controllers() -> BTreeSet<String> {
    let mounts = mounts();
    if mode_of(&mounts) == "v2" {
        let there = fs::read_to_string(Path::new(CGROUPS).join("cgroup.controllers")).unwrap_or_default();
        return there.split_whitespace().map(str::to_owned).collect();
    }
    // A directory's name is its controllers' unless those stand behind it.
    let hierarchies = hierarchies_in(&mounts);
    let named =
        hierarchies.iter().flat_map(|hierarchy| hierarchy.rsplit('=').next().unwrap_or_default().split(','));
    named.map(str::to_owned).collect()
}

/// The top directory of every hierarchy that can be used.
pub(super) fn tops() -> Vec<PathBuf> {
    let mounts = mounts();
    if mode_of(&mounts) == "v2" {
        return vec![PathBuf::from(CGROUPS)];
    }
    let names = hierarchies_in(&mounts);
    let directories = names.iter().map(|name| name.split('=').next().unwrap_or(name));
    directories.map(|name| Path::new(CGROUPS).join(name)).collect()
}

/// The top of the first hierarchy; None where there is none.
pub(crate) fn top() -> Option<PathBuf> {
    tops().into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_named_with_their_controllers() {
        let mounts = "\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";
        assert_eq!(hierarchies_in(mounts), ["cpu", "cpu,cpuacct", "systemd=name=systemd"]);
        assert_eq!(hierarchies_in("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), [""; 0]);
    }

    #[test]
    fn the_mode_is_told_by_the_mounts() {
        for (mounts, expected) in [
            ("c /sys/fs/cgroup/unified cgroup2 rw 0 0\nc /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n", HYBRID),
            ("c /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nc /sys/fs/cgroup/unified cgroup2 rw 0 0\n", HYBRID),
            ("c /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nnone /sys/fs/cgroup/unified tmpfs rw 0 0\n", "v1"),
            ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "v2"),
            ("", "none"),
        ] {
            assert_eq!(mode_of(mounts), expected, "wrong verdict on {mounts:?}");
        }
    }
}
