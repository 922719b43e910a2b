//! The v2 hierarchy alone, without controllers: what needs none.

use std::path::Path;

use bulkhead_cgroup::{Cgroup, Devices, Doors, Error, Freezer, Need, SubCgroups};

use crate::scratch::{Device, Scratch, eventually};

#[test]
fn a_cgroup_is_made_and_removed_with_its_parents() {
    let Some(scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let record = cgroup.record();
    assert_eq!(record.paths.keys().collect::<Vec<_>>(), [""], "one directory for all controllers");
    assert_eq!(record.made.len(), 2, "the parent and the cgroup: {:?}", record.made);
    assert!(cgroup.joiner(Doors::OpenedByParent).unwrap().into_cgroup_fd().is_some());
    Cgroup::open(&record).remove().unwrap();
    assert!(scratch.left().is_empty(), "nothing is left");
}

#[test]
fn a_limit_without_its_controller_undoes_everything() {
    let Some(scratch) = Scratch::with_v2() else { return };
    let places = scratch.places();
    let error = scratch.create(r#"{"memory": {"limit": 1048576}}"#).unwrap_err();
    let at = &places.paths()[""];
    assert_eq!(
        error.to_string(),
        format!("cannot set memory.max: the cgroup controller memory is not available in {at}")
    );
    assert!(scratch.left().is_empty(), "nothing is left");
    scratch.create(r#"{"memory": {"limit": -1}}"#).expect_err("no limit needs the controller too");
    let error = scratch.create(r#"{"unified": {"rdma.max": "x hca_handle=1"}}"#).unwrap_err();
    assert!(matches!(error, Error::NoController { .. }), "{error}");
    scratch.create(r#"{"unified": {"cgroup.max.depth": "3"}}"#).expect("core files need none");
}

#[test]
fn freezing_stops_all_and_thawing_resumes() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    scratch.spawn_in(&cgroup, "while :; do sleep 0.01; done");
    cgroup.freeze().unwrap();
    assert_eq!(cgroup.freezer_state().unwrap(), Freezer::Frozen);
    let error = scratch.create("{}").unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    cgroup.thaw().unwrap();
    assert_eq!(cgroup.freezer_state().unwrap(), Freezer::Thawed);
    cgroup.kill_all(9).unwrap();
    scratch.reap();
    eventually("the cgroup is empty", || cgroup.is_empty().unwrap());
    cgroup.freeze().expect("an empty cgroup freezes");
    let error = scratch.create("{}").unwrap_err();
    assert!(matches!(error, Error::Frozen { .. }), "{error}");
}

#[test]
fn kill_reaches_frozen_processes_in_sub_cgroups() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    std::fs::create_dir_all(Path::new(&cgroup.paths()[""]).join("a/b")).unwrap();
    let sub = cgroup.sub(&SubCgroups::parse(&["a/b"]).unwrap()).unwrap();
    scratch.spawn_in(&sub, "sleep 600 & sleep 600");
    eventually("both sleep", || cgroup.procs().unwrap().len() == 3);
    cgroup.freeze().unwrap();
    cgroup.kill_all(9).unwrap();
    scratch.reap();
    eventually("all are dead", || cgroup.is_empty().unwrap());
    cgroup.remove().unwrap();
    assert!(scratch.left().is_empty(), "sub-cgroups are removed too");
    cgroup.kill_all(9).expect("a cgroup that is gone has no processes");
    assert!(cgroup.is_empty().unwrap() && !cgroup.exists());
    assert_eq!(cgroup.freezer_state().unwrap(), Freezer::Unknown);
}

#[test]
fn other_signals_reach_all_and_leave_a_frozen_cgroup_frozen() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    // The sleep begins after the trap is set, and a shell that waits takes the signal when that has ended.
    let pid = scratch.spawn_in(&cgroup, "trap 'exit 7' USR1; while :; do sleep 0.01; done");
    eventually("the loop runs", || cgroup.procs().unwrap().iter().any(|&other| other != pid));
    cgroup.freeze().unwrap();
    cgroup.kill_all(10).unwrap();
    assert_eq!(cgroup.freezer_state().unwrap(), Freezer::Frozen);
    cgroup.thaw().unwrap();
    assert_eq!(scratch.reap().code(), Some(7), "the signal waited for the thaw");
}

#[test]
fn the_device_program_is_enforced_and_replaced() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let device = Device::new();
    let cgroup = scratch.create("{}").unwrap();
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(4), "the kernel log is denied");
    eventually("the cgroup is empty", || cgroup.is_empty().unwrap());
    // The directory stays and is used again: its program must not stack up with the new one.
    let rules = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}]}"#;
    let again = scratch.create(rules).unwrap();
    assert_eq!(device.open_in(&mut scratch, Some(&again)), Some(0), "the new rules allow it");
}

#[test]
fn a_cgroup_is_given_to_a_user() {
    use std::os::unix::fs::MetadataExt;
    let Some(scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    cgroup.delegate(4711).unwrap();
    let dir = cgroup.paths()[""].clone();
    let owner = |file: &str| std::fs::metadata(Path::new(&dir).join(file)).unwrap().uid();
    assert_eq!((owner(""), owner("cgroup.procs"), owner("cgroup.subtree_control")), (4711, 4711, 4711));
    assert_eq!((owner("cgroup.max.depth"), owner("cgroup.freeze")), (0, 0), "its limits stay the host's");
}

#[test]
fn a_process_is_found_where_it_is() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let pid = scratch.spawn_in(&cgroup, "exec sleep 600");
    // The scratch machine starts below the real root, so the real one tells.
    let real = bulkhead_cgroup::Host::detect().unwrap();
    let found = Cgroup::of_process(&real, pid).unwrap();
    assert_eq!(found.paths()[""], cgroup.paths()[""]);
}

#[test]
fn trouble_other_than_lacking_rights_is_never_passed_over() {
    let Some(scratch) = Scratch::with_v2() else { return };
    // A directory that may hold no further cgroup answers EAGAIN.
    let places = scratch.places();
    let record = places.record().unwrap();
    let plan = scratch.plan("{}", Devices::Untouched);
    let top = Path::new(&record.made[0]).parent().unwrap();
    std::fs::write(top.join("cgroup.max.depth"), "0").unwrap();
    let error = Cgroup::create(&places, &record, &plan, Need::IfPermitted).unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::AGAIN), "{error}");
    assert!(scratch.left().is_empty());
}
