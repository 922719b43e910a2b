//! The removal of cgroups, with what is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal};

use super::{CGROUPS, UNIFIED, mode};

/// How often a cgroup is tried to be removed, 10 ms apart.
const PATIENCE: usize = 100;

/// Removes the cgroups called `name`, wherever they are, with all below them, and kills what is in them; the name is
/// one that only the caller uses.
pub fn remove_all(name: &str) {
    left(name).iter().for_each(|directory| remove(directory));
}

/// The cgroups called `name` that are there. What a runtime makes in the tmpfs of [`settle`](super::settle) is none.
pub(crate) fn left(name: &str) -> Vec<PathBuf> {
    let hierarchies = Path::new(CGROUPS).read_dir().into_iter().flatten().flatten();
    let directories = hierarchies.map(|entry| entry.path().join(name));
    directories
        .chain([Path::new(CGROUPS).join(name)])
        .filter(|directory| directory.join("cgroup.procs").exists())
        .collect()
}

/// Removes the cgroup called `name` in the v2 hierarchy that [`settle`](super::settle) hid: a daemon that does not live in this process's
/// mounts makes cgroups there, too.
pub fn remove_hidden(name: &str) {
    let is_hidden = mode() == "v1" && Path::new(UNIFIED).is_dir();
    if is_hidden && rustix::mount::mount("none", UNIFIED, "cgroup2", MountFlags::empty(), None).is_ok() {
        remove(&Path::new(UNIFIED).join(name));
        let _ = rustix::mount::unmount(UNIFIED, UnmountFlags::DETACH);
    }
}

/// The names of cgroups that begin with `name` and a dash.
pub fn named_after(name: &str) -> BTreeSet<String> {
    let hierarchies = Path::new(CGROUPS).read_dir().into_iter().flatten().flatten();
    let directories = hierarchies.map(|entry| entry.path()).chain([PathBuf::from(CGROUPS)]);
    let entries = directories.flat_map(|directory| directory.read_dir().into_iter().flatten().flatten());
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|found| found.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))).collect()
}

/// Removes one cgroup with all below it, and kills what is in them.
pub fn remove(cgroup: &Path) {
    let children = cgroup.read_dir().into_iter().flatten().flatten();
    let children = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    children.for_each(|entry| remove(&entry.path()));
    // A killed process leaves its cgroup when it is gone, which takes a moment, and longer when it is frozen.
    for _ in 0..PATIENCE {
        if !cgroup.is_dir() || fs::remove_dir(cgroup).is_ok() {
            break;
        }
        kill_all(cgroup);
        for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = cgroup.join(file);
            if file.exists() {
                let _ = fs::write(file, thawed);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn kill_all(cgroup: &Path) {
    // At once and whatever is born meanwhile, where the kernel can (Linux 5.14, v2).
    let killed = fs::OpenOptions::new().write(true).open(cgroup.join("cgroup.kill"));
    if killed.and_then(|mut file| std::io::Write::write_all(&mut file, b"1")).is_ok() {
        return;
    }
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let pids = processes.lines().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw);
    for pid in pids.filter(|pid| *pid != rustix::process::getpid()) {
        // One that is gone already is what is wanted.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}
