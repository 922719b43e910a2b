//! What must survive: commands and monitors that are killed, full disks, crowds, damage, other versions, a boot in the middle.
//!
//! Each test ends as people would: `bulkhead system check` mends what there is to mend, finds nothing the second time, and
//! nothing is left that belongs to no container.

mod begun;
mod boot;
mod carried;
mod connections;
mod crowd;
mod damage;
mod disk;
mod elsewhere;
mod lost;
mod moments;
mod reboot;
mod syncs;
mod versions;
mod whole;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bulkhead_testkit::{Output, wait_until};
use rustix::fs::{FlockOperation, flock};

use crate::shop::Shop;

/// The line of a check that finds nothing.
const WELL: &str = "all is as it should be\n";

/// Has what was left mended, and holds the engine to its promises about what is there afterwards.
#[track_caller]
fn is_whole(shop: &Shop, after: &str) {
    let check = || -> Output { shop.bulkhead(&["system", "check"]).output() };
    let mended = check();
    assert!(mended.code() == 0, "after {after}, not all could be mended\n{mended}");
    let again = check();
    assert!(
        again.stdout == WELL && again.code() == 0,
        "after {after}, a second check finds something\n{mended}\n{again}"
    );
    has_no_strays(shop, after);
}

/// Whatever is there belongs to a container that is there.
#[track_caller]
fn has_no_strays(shop: &Shop, after: &str) {
    let told = shop.said(&["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.State}}"]);
    let mut ids = BTreeSet::new();
    let mut active = BTreeSet::new();
    for (id, state) in told.lines().filter_map(|line| line.split_once(' ')) {
        ids.insert(id.to_owned());
        if state == "running" || state == "paused" {
            active.insert(id.to_owned());
        }
    }
    let (root, run) = (shop.path("engine"), shop.path("engine-run"));
    assert_eq!(names(&root.join("containers")), ids, "after {after}, the directories of containers");
    let places = names(&run.join("containers"));
    assert!(places.is_subset(&ids), "after {after}, {places:?} are not all of {ids:?}");
    let states = names(&run.join("runtime/bulkrun"));
    let states = BTreeSet::from_iter(states.into_iter().filter(|name| !name.starts_with('.')));
    assert_eq!(states, active, "after {after}, what the runtime knows");
    assert_eq!(names(&root.join("ingest")), BTreeSet::new(), "after {after}, what is half made");
    for cgroup in shop.sandbox.cgroups(&format!("/{}", shop.sandbox.name())) {
        let groups = directories(&cgroup);
        assert!(
            groups.is_subset(&active),
            "after {after}, cgroups of the dead in {}: {groups:?}",
            cgroup.display()
        );
    }
}

/// Nothing is left, though containers were.
#[track_caller]
fn leaves_nothing(shop: &Shop, after: &str) {
    let leaks = shop.sandbox.leaks();
    assert!(leaks.is_empty(), "after {after}: {leaks:?}");
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn directories(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// The pid of a container's monitor, by the status that it wrote.
#[track_caller]
pub(crate) fn monitor(shop: &Shop, id: &str) -> i32 {
    // What removes itself has it where nothing outlives the machine.
    let places = ["engine/containers", "engine-run/containers"];
    let mut paths = places.map(|place| shop.path(place).join(id).join("status.json")).into_iter();
    let path = paths.find(|path| path.exists()).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    i32::try_from(status["monitor"]["pid"].as_i64().unwrap()).unwrap()
}

/// Kills a monitor, of which the test is the reaper.
#[track_caller]
fn kill_monitor(shop: &Shop, id: &str) {
    let pid = rustix::process::Pid::from_raw(monitor(shop, id)).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // It lets its lock go when it gets to run once more.
    let lock = fs::File::open(shop.path("engine-run/containers").join(id).join("lock")).unwrap();
    wait_until("the monitor is gone", || flock(&lock, FlockOperation::NonBlockingLockShared).is_ok());
}
