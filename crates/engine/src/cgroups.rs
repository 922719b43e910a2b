//! Cgroups that containers left. The engine makes none, and looks for them only where no runtime knows them any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_sys::{mountinfo, process};

use crate::error::{Doing, Result};

/// How long processes may take to end, and the kernel to notice.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Finds the cgroups of an absolute path, one in each hierarchy that has it.
pub(crate) fn find(path: &Path) -> Result<Vec<PathBuf>> {
    let Ok(relative) = path.strip_prefix("/") else { return Ok(Vec::new()) };
    let mounts = mountinfo::read().doing(|| "list the hierarchies of cgroups")?;
    let hierarchies = mounts.into_iter().filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"));
    let mut found: Vec<PathBuf> = hierarchies
        .map(|mount| mount.point.join(relative))
        .filter(|cgroup| cgroup.join("cgroup.procs").exists())
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Ends all processes in the cgroups of one path, and removes these. In each of them they are the same, and end only when none
/// freezes them.
pub(crate) fn remove_all(cgroups: &[PathBuf]) -> Result<()> {
    cgroups.iter().for_each(|cgroup| thaw(cgroup));
    cgroups.iter().try_for_each(|cgroup| remove(cgroup))
}

/// Lets processes go on, as far as that is a matter of this cgroup.
pub(crate) fn thaw(cgroup: &Path) {
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if cgroup.join(file).exists() {
            // That it is not so is told when it cannot be removed.
            let _ = fs::write(cgroup.join(file), value);
        }
    }
}

/// Ends all processes in a cgroup and below, and removes it. One that is not there is removed.
pub(crate) fn remove(cgroup: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match clear(cgroup) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if Instant::now() < end => thread::sleep(PAUSE),
            cleared => return cleared.doing(|| format!("remove cgroup {}", cgroup.display())),
        }
    }
}

fn clear(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clear(&entry.path())?;
        }
    }
    // Whichever of them is there: what is frozen does not end.
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0"), ("cgroup.kill", "1")] {
        if cgroup.join(file).exists() {
            fs::write(cgroup.join(file), value)?;
        }
    }
    let members = cgroup.join("cgroup.procs");
    for pid in fs::read_to_string(&members)?.lines().filter_map(|line| line.parse::<i32>().ok()) {
        let Ok(pidfd) = process::open_pidfd(pid) else { continue };
        // Its number is its own if it is still there now that the descriptor is open.
        if fs::read_to_string(&members)?.lines().any(|line| line.parse() == Ok(pid)) {
            let _ = process::signal(pidfd, crate::stop::KILL);
        }
    }
    fs::remove_dir(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_found_and_is_removed() {
        assert_eq!(find(Path::new("/bulkhead-no-such/cgroup")).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(find(Path::new("system.slice:bulkhead:1")).unwrap(), Vec::<PathBuf>::new());
        remove(Path::new("/sys/fs/cgroup/bulkhead-no-such")).unwrap();
    }
}
