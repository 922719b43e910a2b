//! What a container left on the host: everything that carries its id.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The hierarchies lie here, or are this one.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Deep enough for a cgroup below a systemd user's slice.
const CGROUP_DEPTH: usize = 7;

/// Mounts, cgroups, processes and files that name the container `id`, each described.
pub(super) fn of(id: &str) -> Result<Vec<String>> {
    let mut found = mounts(id)?;
    cgroups(Path::new(CGROUPS), id, CGROUP_DEPTH, &mut found);
    found.extend(processes(id)?);
    found.extend(files(id));
    Ok(found)
}

fn mounts(id: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let lines = text.lines().filter(|line| line.contains(id));
    Ok(lines.filter_map(|line| line.split(' ').nth(4)).map(|point| format!("the mount {point}")).collect())
}

fn cgroups(directory: &Path, id: &str, depth: usize, found: &mut Vec<String>) {
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(id) {
            found.push(format!("the cgroup {}", entry.path().display()));
        } else if depth > 0 {
            cgroups(&entry.path(), id, depth - 1, found);
        }
    }
}

/// Processes other than this one that were called with the id or sit in its cgroup.
fn processes(id: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        let names_id = |file: &str| {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(id)
        };
        if names_id("cmdline") || names_id("cgroup") {
            found.push(format!("the process {name}"));
        }
    }
    Ok(found)
}

fn files(id: &str) -> Vec<String> {
    let places = ["/dev/shm", "/run", "/run/bulkhead", "/tmp"].map(Path::new);
    let paths = places.iter().map(|place| place.join(id));
    paths.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_names_the_id_is_found() {
        let id = format!("bh-leftover-test-{}", std::process::id());
        let mut child = std::process::Command::new("sh").args(["-c", "read line", &id]).spawn_waiting();
        let found = await_processes(&id);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [format!("the process {}", child.id())]);
        assert_eq!(of(&id).unwrap(), [""; 0]);
    }

    #[test]
    fn a_directory_that_carries_the_id_is_found() {
        let id = format!("bh-leftover-file-{}", std::process::id());
        let path = Path::new("/dev/shm").join(&id);
        fs::create_dir(&path).unwrap();
        let found = files(&id);
        fs::remove_dir(&path).unwrap();
        assert_eq!(found, [path.display().to_string()]);
    }

    /// Spawning returns a moment before the kernel has the new program's arguments.
    fn await_processes(id: &str) -> Vec<String> {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let found = processes(id).unwrap();
            if !found.is_empty() || std::time::Instant::now() > end {
                return found;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    trait SpawnWaiting {
        fn spawn_waiting(&mut self) -> std::process::Child;
    }

    impl SpawnWaiting for std::process::Command {
        /// A child that waits for input that never comes.
        fn spawn_waiting(&mut self) -> std::process::Child {
            self.stdin(std::process::Stdio::piped()).spawn().unwrap()
        }
    }
}
