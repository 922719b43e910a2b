//! The cgroup hierarchies of the machine, and the removal of what a sandbox left in them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::mounts::{self, Mount};
use crate::name::Name;
use crate::process::Process;

/// Lists where the hierarchies are mounted, v1 and v2, each once.
pub fn hierarchies() -> Vec<PathBuf> {
    let mut found: Vec<Mount> = Vec::new();
    for mount in mounts::own() {
        let is_hierarchy = matches!(mount.kind.as_str(), "cgroup" | "cgroup2") && mount.root == "/";
        if is_hierarchy && !found.iter().any(|other| other.device == mount.device) {
            found.push(mount);
        }
    }
    found.into_iter().map(|mount| mount.point).collect()
}

/// Lists the topmost cgroups of all hierarchies whose names mention the sandbox.
pub(crate) fn mentioning(name: &Name) -> Vec<PathBuf> {
    hierarchies().iter().flat_map(|hierarchy| mentioning_below(hierarchy, name)).collect()
}

fn mentioning_below(cgroup: &Path, name: &Name) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for child in children(cgroup) {
        let is_named = child.file_name().is_some_and(|file| name.is_mentioned(file.as_encoded_bytes()));
        if is_named {
            found.push(child);
        } else {
            found.extend(mentioning_below(&child, name));
        }
    }
    found
}

/// Lists the child cgroups.
pub(crate) fn children(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Lists the processes in a cgroup, without its children; those of foreign pid namespaces cannot be named.
pub(crate) fn members(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0).collect()
}

/// Kills all processes in a cgroup and below, and removes it. Gives up after a while; the leak check then tells.
pub(crate) fn remove(cgroup: &Path) {
    for child in children(cgroup) {
        remove(&child);
    }
    // Whichever file exists thaws it: a frozen process does not die.
    drop(fs::write(cgroup.join("freezer.state"), "THAWED"));
    drop(fs::write(cgroup.join("cgroup.freeze"), "0"));
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let end = Instant::now() + Duration::from_secs(5);
    while cgroup.exists() && Instant::now() < end {
        let foreign = members(cgroup).into_iter().filter(|&pid| pid != own);
        foreign.filter_map(Process::read).for_each(|process| process.kill());
        crate::process::reap_orphans();
        if fs::remove_dir(cgroup).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_of_this_process_is_found() {
        let found = hierarchies();
        let joined = fs::read_to_string("/proc/self/cgroup").unwrap();
        if found.is_empty() {
            crate::skip!("no cgroup hierarchy is mounted");
        }
        assert!(found.len() <= joined.lines().count(), "{found:?} has no more hierarchies than {joined}");
        for hierarchy in found {
            assert!(hierarchy.join("cgroup.procs").exists(), "{} is a cgroup", hierarchy.display());
        }
    }
}
