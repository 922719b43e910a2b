//! The private mount namespace that all platforms share.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal};

use crate::interrupt;

/// Where a machine with cgroup v1 has its v2 hierarchy, if it has one.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// How long the benchmark may take to clean up when it is interrupted, before it is told so again.
const GRACE: Duration = Duration::from_secs(5);

/// Starts this program again, with the same arguments, in a mount namespace of its own.
pub(super) fn enter() -> Result<ExitCode> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(program).args(std::env::args_os().skip(1));
    interrupt::watch()?;
    let mut child = command.arg("--inside").spawn().context("start unshare")?;
    let status = interrupt::wait(&mut child, GRACE).or_else(|error| {
        // A signal for this process alone.
        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).context("end the benchmark")?;
        child.wait().context("wait for the benchmark")?;
        Err(error)
    })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Makes a hybrid machine look like one with cgroup v1 alone: crun refuses anything else that has v1.
///
/// An empty tmpfs takes the place of the v2 hierarchy, so that what a runtime makes there goes with the namespace.
pub(super) fn settle() -> Result<()> {
    if !is_hybrid(&fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?) {
        return Ok(());
    }
    rustix::mount::unmount(UNIFIED, UnmountFlags::DETACH).with_context(|| format!("unmount {UNIFIED}"))?;
    rustix::mount::mount("none", UNIFIED, "tmpfs", MountFlags::empty(), None)
        .with_context(|| format!("mount a tmpfs at {UNIFIED}"))
}

fn is_hybrid(mounts: &str) -> bool {
    let fields = mounts.lines().map(|line| Vec::from_iter(line.split(' ')));
    let mut kinds = fields.filter(|fields| fields.len() > 2 && Path::new(fields[1]) == Path::new(UNIFIED));
    kinds.any(|fields| fields[2] == "cgroup2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_v2_hierarchy_beside_v1_is_hybrid() {
        for (mounts, expected) in [
            (
                "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n",
                true,
            ),
            ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", false),
            ("none /sys/fs/cgroup/unified tmpfs rw 0 0\n", false),
            ("", false),
        ] {
            assert_eq!(is_hybrid(mounts), expected, "wrong verdict on {mounts:?}");
        }
    }
}
