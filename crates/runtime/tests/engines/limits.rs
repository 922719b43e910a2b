//! What the limits of a container are, in the files of the kernel, whichever version of cgroups the machine has.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_testkit::Machine;

/// A limit: the v1 controller, its file and what that has, the v2 file and what that has.
pub(crate) struct Limit<'a> {
    controller: &'a str,
    v1: (&'a str, &'a str),
    v2: (&'a str, &'a str),
}

/// A row of a table of limits.
pub(crate) const fn limit<'a>(
    controller: &'a str,
    v1: (&'a str, &'a str),
    v2: (&'a str, &'a str),
) -> Limit<'a> {
    Limit { controller, v1, v2 }
}

/// Says whether the machine has the controller of v1, and with it limits that v2 does not know.
pub(crate) fn is_v1(machine: &Machine<'_>, controller: &str) -> bool {
    machine.path("/sys/fs/cgroup").join(controller).is_dir()
}

/// Checks the limits of the container whose first process is `pid` in the machine.
#[track_caller]
pub(crate) fn hold(machine: &Machine<'_>, pid: u64, limits: &[Limit<'_>]) {
    for Limit { controller, v1, v2 } in limits {
        let (file, expected) = match cgroup_v1(machine, pid, controller) {
            Some(cgroup) => (cgroup.join(v1.0), v1.1),
            None => (cgroup_v2(machine, pid).join(v2.0), v2.1),
        };
        let value = fs::read_to_string(&file);
        let value = value.unwrap_or_else(|error| panic!("{} should be there: {error}", file.display()));
        assert_eq!(value.trim(), expected, "{} is the limit", file.display());
    }
}

/// The cgroup of a controller of v1, if the machine has that.
fn cgroup_v1(machine: &Machine<'_>, pid: u64, controller: &str) -> Option<PathBuf> {
    let top = machine.path("/sys/fs/cgroup").join(controller);
    let path = of_process(machine, pid, |fields| fields.split(',').any(|name| name == controller))?;
    Some(below(&top, &path))
}

fn cgroup_v2(machine: &Machine<'_>, pid: u64) -> PathBuf {
    let path = of_process(machine, pid, str::is_empty).unwrap();
    below(&machine.path("/sys/fs/cgroup"), &path)
}

/// The path in `/proc/PID/cgroup` of the line whose list of controllers is wanted, as the machine sees it.
fn of_process(machine: &Machine<'_>, pid: u64, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
    let text = machine.command("cat").arg(format!("/proc/{pid}/cgroup")).output().succeeds().stdout;
    let fields = text.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    fields.into_iter().find(|fields| is_wanted(fields[1])).map(|fields| fields[2].to_owned())
}

fn below(top: &Path, path: &str) -> PathBuf {
    top.join(path.trim_start_matches('/'))
}
