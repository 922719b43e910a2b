//! Whether the kernel killed for want of memory, and whether a container is frozen: what its cgroup says.
//!
//! The file is opened when the container starts and read when it has ended, before the runtime removes the cgroup: a path
//! could be gone by then, or another container's. systemd removes the cgroup as soon as nothing is in it, and nobody can read the
//! file then: the one above counts what was killed below it, too (cgroup v2).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Where cgroups are mounted (systemd's convention, which runtimes rely on).
const MOUNT: &str = "/sys/fs/cgroup";

/// The file in which the kernel counts.
#[derive(Debug)]
pub(super) struct Memory {
    file: OwnedFd,
    /// The file of the cgroup above, and what it said at the start, where others may remove that of the container.
    above: Option<(OwnedFd, u64)>,
}

impl Memory {
    /// Opens the file of a process's cgroup; of `cgroup`, an absolute `linux.cgroupsPath`, when the process is no more.
    /// `None` without a memory controller.
    pub(super) fn open(pid: i32, cgroup: Option<&Path>) -> Option<Self> {
        let table = table(pid);
        let v1 = path(&table, "memory").filter(|path| path != Path::new("/"));
        let v2 = path(&table, "").filter(|path| path != Path::new("/"));
        let known = [v1.as_deref().or(cgroup), v2.as_deref().or(cgroup)];
        let files = [("memory", "memory.oom_control"), (".", "memory.events")];
        let candidates = known.into_iter().zip(files);
        let mut files =
            candidates.filter_map(|(path, (hierarchy, name))| open(&file(hierarchy, path?, name)));
        let above = || open(&file(".", v2.as_deref()?.parent()?, "memory.events"));
        let above = if cgroup.is_none() { above() } else { None };
        let above = above.and_then(|file| read(&file).map(|count| (file, count)));
        Some(Self { file: files.next()?, above })
    }

    /// Tells whether the kernel has killed processes in it, of whose first one it is known whether that was killed.
    pub(super) fn has_killed(&self, was_first_killed: bool) -> bool {
        let above = || {
            let (file, before) = self.above.as_ref()?;
            Some(was_first_killed && read(file)? > *before)
        };
        read(&self.file).map_or_else(|| above().unwrap_or(false), |count| count > 0)
    }
}

/// Reads how many processes were killed; nothing where the cgroup is gone.
fn read(file: &OwnedFd) -> Option<u64> {
    let mut text = [0; 512];
    let length = rustix::io::pread(file, &mut text, 0).ok()?;
    Some(count(&String::from_utf8_lossy(&text[..length])))
}

/// Tells whether a process is frozen, as by a runtime's `pause`.
pub(super) fn is_frozen(pid: i32) -> bool {
    let table = table(pid);
    let state = |path: Option<PathBuf>, hierarchy, name| {
        std::fs::read_to_string(file(hierarchy, &path?, name)).ok().map(|text| text.trim_end().to_owned())
    };
    state(path(&table, ""), ".", "cgroup.freeze").is_some_and(|state| state == "1")
        || state(path(&table, "freezer"), "freezer", "freezer.state").is_some_and(|state| state != "THAWED")
}

/// The parent of a process, field 4 of proc_pid_stat(5).
pub(super) fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn table(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// Finds the path of a v1 controller, or of v2, which has none, in `/proc/PID/cgroup` (cgroups(7)).
fn path(table: &str, controller: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then(|| PathBuf::from(path))
    })
}

fn file(hierarchy: &str, path: &Path, name: &str) -> PathBuf {
    let below = path.strip_prefix("/").unwrap_or(path);
    Path::new(MOUNT).join(hierarchy).join(below).join(name)
}

fn open(path: &Path) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn count(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_under_one_name() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\n"), 0, "before Linux 4.13");
    }

    #[test]
    fn a_process_s_cgroups_are_found() {
        let table = "12:cpu,cpuacct:/a\n5:memory:/bulk/m\n1:name=systemd:/s\n0::/unified\n";
        assert_eq!(path(table, "memory"), Some("/bulk/m".into()));
        assert_eq!(path(table, "cpuacct"), Some("/a".into()));
        assert_eq!(path(table, ""), Some("/unified".into()));
        assert_eq!(path(table, "freezer"), None);
        assert_eq!(file("memory", Path::new("/bulk/m"), "x"), Path::new("/sys/fs/cgroup/memory/bulk/m/x"));
    }
}
