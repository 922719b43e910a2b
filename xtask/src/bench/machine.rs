//! What the report says of the machine, and its cgroup hierarchies.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal};

/// Where the hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The share of a block that may go to other virtual machines before the block is flagged.
const STEAL: f64 = 0.05;

/// How often a cgroup is tried to be removed, 10 ms apart.
const PATIENCE: usize = 100;

/// The machine's CPU time so far, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CpuTime {
    total: f64,
    stolen: f64,
}

impl CpuTime {
    pub(super) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line: user nice system idle iowait irq softirq steal, then guest times that those include.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let ticks = fields.map(str::parse).collect::<Result<Vec<f64>, _>>().ok()?;
        Some(Self { total: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// What disturbed the time since `earlier`, if anything.
    pub(super) fn disturbance(self, earlier: Self) -> Option<String> {
        let share = (self.stolen - earlier.stolen) / (self.total - earlier.total);
        (share > STEAL).then(|| format!("{:.0} % of the CPU time was stolen", share * 100.0))
    }
}

/// One sentence on where the figures come from.
pub(super) fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let cgroups = match hierarchies() {
        Ok(hierarchies) if hierarchies.is_empty() => "cgroup v2",
        _ => "cgroup v1",
    };
    format!(
        "Linux {}, {}, {cpus} CPUs, load {} at the start.",
        kernel.trim(),
        cgroups,
        load.split(' ').next().unwrap_or("unknown")
    )
}

/// The v1 hierarchies as the floor wants them: the directory's name, and the controllers after `=` where they
/// differ from it. None when cgroup v2 is mounted at the top.
pub(super) fn hierarchies() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    Ok(hierarchies_in(&mounts))
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

/// Removes the cgroups called `name`, wherever they are, and kills what is in them; the name is one that only the
/// benchmark uses.
pub(super) fn remove_cgroups(name: &str) {
    let hierarchies = Path::new(CGROUPS).read_dir().into_iter().flatten().flatten();
    let directories = hierarchies.map(|entry| entry.path().join(name));
    for directory in directories.chain([Path::new(CGROUPS).join(name)]) {
        // A killed process leaves its cgroup when it is gone, which takes a moment.
        for _ in 0..PATIENCE {
            if !directory.is_dir() || fs::remove_dir(&directory).is_ok() {
                break;
            }
            kill_all(&directory);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The names of cgroups that begin with `name` and a dash.
pub(super) fn cgroups_of(name: &str) -> BTreeSet<String> {
    let hierarchies = Path::new(CGROUPS).read_dir().into_iter().flatten().flatten();
    let directories = hierarchies.map(|entry| entry.path()).chain([PathBuf::from(CGROUPS)]);
    let entries = directories.flat_map(|directory| directory.read_dir().into_iter().flatten().flatten());
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|found| found.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))).collect()
}

fn kill_all(cgroup: &Path) {
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let pids = processes.lines().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw);
    for pid in pids {
        // One that is gone already is what is wanted.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_disturbs() {
        let earlier = CpuTime::parse("cpu  100 0 100 800 0 0 0 10 0 0\ncpu0 1 2\n").unwrap();
        let quiet = CpuTime::parse("cpu  150 0 150 1000 0 0 0 20 0 0\n").unwrap();
        let noisy = CpuTime::parse("cpu  150 0 150 1000 0 0 0 90 0 0\n").unwrap();
        assert_eq!(quiet.disturbance(earlier), None);
        assert_eq!(noisy.disturbance(earlier).unwrap(), "21 % of the CPU time was stolen");
        assert_eq!(CpuTime::parse("intr 1 2 3"), None);
    }

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
}
