//! Who is who among the tasks that are followed, at the moment when the application is about to begin.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::seen::Role;
use crate::arena::WORKLOAD;
use crate::platform::Seat;

/// The role of each of `tasks` that is still there.
pub(super) fn of(
    tasks: impl IntoIterator<Item = u32>,
    seat: &Seat,
    workload: &Path,
    makers: &[u32],
) -> BTreeMap<u32, Role> {
    let workload = fs::metadata(workload).ok();
    // This program's, the machine's own, and those of daemons that make sandboxes.
    let outside = [std::process::id(), 1].into_iter().chain(makers.iter().copied());
    let outside = outside.filter_map(|process| mounts(&place(process))).collect();
    let role = |task| role(task, seat, workload.as_ref(), &outside);
    tasks.into_iter().filter_map(|task| Some((task, role(task)?))).collect()
}

fn place(task: u32) -> PathBuf {
    Path::new("/proc").join(task.to_string())
}

fn role(task: u32, seat: &Seat, workload: Option<&Metadata>, outside: &BTreeSet<PathBuf>) -> Option<Role> {
    let place = place(task);
    // The link leads to the file itself, whatever the task's own root and mounts are.
    let program = fs::metadata(place.join(ITSELF)).ok();
    let both = program.as_ref().zip(workload);
    let cgroups = fs::read_to_string(place.join("cgroup")).ok()?;
    let is_within = seat.cgroup.as_deref().is_some_and(|cgroup| is_in(&cgroups, cgroup));
    let is_file = both.is_some_and(|(file, other)| (file.dev(), file.ino()) == (other.dev(), other.ino()));
    // An engine has copied it into an image.
    let is_copy = || {
        both.is_some_and(|(file, other)| file.len() == other.len())
            && fs::read_link(place.join(ITSELF)).is_ok_and(|path| path == Path::new(WORKLOAD))
    };
    Some(if is_file || is_within && is_copy() {
        Role::Application
    } else if is_within && !is_outside(&place, outside) {
        Role::Sandbox(name(&place))
    } else {
        Role::Monitor(name(&place))
    })
}

/// Whether a process has mounts of those that are outside, and sees all of them: what watches over a sandbox may be in its cgroup, and is
/// not in the sandbox. Who has changed its root is.
fn is_outside(place: &Path, outside: &BTreeSet<PathBuf>) -> bool {
    let has_whole_root = fs::read_link(place.join("root")).is_ok_and(|root| root == Path::new("/"));
    has_whole_root && mounts(place).is_some_and(|own| outside.contains(&own))
}

fn mounts(place: &Path) -> Option<PathBuf> {
    fs::read_link(place.join("ns/mnt")).ok()
}

/// Whether one of the lines of a /proc/PID/cgroup names this cgroup, or one below it.
fn is_in(cgroups: &str, cgroup: &str) -> bool {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.map(Path::new).any(|path| path.starts_with(cgroup))
}

/// What the process calls itself; where it has no words any more, what the kernel calls it.
fn name(place: &Path) -> String {
    let words = fs::read(place.join("cmdline")).unwrap_or_default();
    let first = words.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = PathBuf::from(String::from_utf8_lossy(first).trim().to_owned());
    let called = || fs::read_to_string(place.join("comm")).unwrap_or_default().trim().to_owned();
    let said = first.file_name().map(|name| name.to_string_lossy().into_owned());
    let said = said.unwrap_or_else(called);
    // Who executes itself by a link in /proc tells nothing by that link's name, nor does the kernel.
    if said != ITSELF {
        return said;
    }
    let program = fs::read_link(place.join(ITSELF)).unwrap_or_default();
    let program = program.file_name().map_or_else(called, |name| name.to_string_lossy().into_owned());
    format!("{program}, executed by itself")
}

/// The name of a process's program in /proc.
const ITSELF: &str = "exe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_in_any_hierarchy() {
        let text = "7:memory:/x/runc-0\n4:cpu,cpuacct:/x/harness\n0::/\n";
        assert!(is_in(text, "/x/runc-0") && is_in("0::/x/runc-0/init\n", "/x/runc-0"));
        assert!(!is_in(text, "/x/runc") && !is_in("0::/x/runc-01\n", "/x/runc-0"));
    }

    #[test]
    fn who_executes_itself_is_called_by_its_program() {
        let scratch = bulkhead_testkit::Scratch::new();
        let words = |text: &str| fs::write(scratch.path().join("cmdline"), text).unwrap();
        std::os::unix::fs::symlink("/usr/bin/runsc", scratch.path().join("exe")).unwrap();
        for (text, comm, expected) in [
            ("/proc/self/exe\0x\0", "exe", "runsc, executed by itself"),
            ("runsc-gofer\0--root\0", "exe", "runsc-gofer"),
            ("/usr/bin/runsc-sandbox\0", "exe", "runsc-sandbox"),
            // It has given its memory away, and its words with it.
            ("", "exe", "runsc, executed by itself"),
            ("", "worker", "worker"),
        ] {
            words(text);
            fs::write(scratch.path().join("comm"), format!("{comm}\n")).unwrap();
            assert_eq!(name(scratch.path()), expected, "{text:?}");
        }
    }

    #[test]
    fn this_process_is_known_by_its_file() {
        let seat = Seat {
            id: "x".to_owned(),
            root: PathBuf::new(),
            bundle: PathBuf::new(),
            state: PathBuf::new(),
            cgroup: Some("/no/such/cgroup".to_owned()),
            limits: None,
        };
        let own = std::process::id();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(of([own, u32::MAX], &seat, &exe, &[]), [(own, Role::Application)].into());
        let monitor = Role::Monitor(exe.file_name().unwrap().to_string_lossy().into_owned());
        assert_eq!(of([own], &seat, Path::new("/bin/sh"), &[]), [(own, monitor.clone())].into());
        // Whoever has our mounts is outside, in whichever cgroup.
        let everywhere = Seat { cgroup: Some("/".to_owned()), ..seat };
        assert_eq!(of([own], &everywhere, Path::new("/bin/sh"), &[]), [(own, monitor)].into());
    }

    #[test]
    fn who_has_a_daemon_s_mounts_is_outside_but_not_who_has_another_root() {
        let scratch = bulkhead_testkit::Scratch::new();
        let looks = |mounts: &str, root: &str| {
            let place = scratch.path().join(format!("{mounts}{}", root.len()));
            fs::create_dir_all(place.join("ns")).unwrap();
            std::os::unix::fs::symlink(mounts, place.join("ns/mnt")).unwrap();
            std::os::unix::fs::symlink(root, place.join("root")).unwrap();
            is_outside(&place, &["own", "daemon"].map(PathBuf::from).into())
        };
        assert!(looks("own", "/") && looks("daemon", "/"));
        assert!(!looks("sandbox", "/") && !looks("own", "/some/root") && !looks("daemon", "/some/root"));
    }
}
