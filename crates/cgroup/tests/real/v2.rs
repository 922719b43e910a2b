//! The v2 hierarchy alone, without controllers: what needs none.

use std::path::Path;

use bulkhead_cgroup::devices::Rules;
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
        format!("cannot set memory.max: the requested cgroup controller `memory` is not available in {at}")
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

/// A device program of somebody else's, which allows everything, attached to a cgroup as long as that lives.
fn foreign(directory: &str) -> u32 {
    use bulkhead_sys::bpf::{
        Attach, Instruction, attach_device, attached_device_programs, load_device_program,
    };
    let allow = [(0xb7, 1), (0x95, 0)].map(|(code, immediate)| Instruction {
        code,
        registers: 0,
        offset: 0,
        immediate,
    });
    let program = load_device_program(c"somebody_else", &allow).unwrap();
    let directory = std::fs::File::open(directory).unwrap();
    let before = attached_device_programs(&directory).unwrap();
    attach_device(&directory, &program, Attach::Beside).unwrap();
    let now = attached_device_programs(&directory).unwrap();
    now.into_iter().find(|id| !before.contains(id)).unwrap()
}

fn attached(directory: &str) -> Vec<u32> {
    bulkhead_sys::bpf::attached_device_programs(std::fs::File::open(directory).unwrap()).unwrap()
}

const KERNEL_LOG: &str =
    r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}]}"#;

#[test]
fn other_rules_take_the_place_of_the_old_ones_beside_foreign_programs() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let device = Device::new();
    let cgroup = scratch.create("{}").unwrap();
    let directory = cgroup.paths()[""].clone();
    let [first] = attached(&directory)[..] else { panic!("one program is attached") };
    let foreign = foreign(&directory);
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(4), "the kernel log is denied");

    let plan = scratch.update(KERNEL_LOG);
    assert_eq!(cgroup.change_devices(plan.devices().unwrap()).unwrap(), Rules::Set);
    let now = attached(&directory);
    assert!(now.len() == 2 && now.contains(&foreign), "the foreign program stays: {now:?}");
    assert!(!now.contains(&first), "ours is another one: {now:?}");
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(0), "the new rules allow it");

    let plan = scratch.update(r#"{"devices": [{"allow": false, "access": "rwm"}]}"#);
    cgroup.change_devices(plan.devices().unwrap()).unwrap();
    assert_eq!(attached(&directory).len(), 2, "they do not stack up");
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(4), "and are as strict as before");
}

#[test]
fn a_program_that_took_the_place_of_ours_is_left_alone() {
    let Some(scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let directory = cgroup.paths()[""].clone();
    let [own] = attached(&directory)[..] else { panic!("one program is attached") };
    let foreign = foreign(&directory);
    let own = bulkhead_sys::bpf::program_by_id(own).unwrap();
    bulkhead_sys::bpf::detach_device(std::fs::File::open(&directory).unwrap(), &own).unwrap();
    let plan = scratch.update(KERNEL_LOG);
    assert_eq!(cgroup.change_devices(plan.devices().unwrap()).unwrap(), Rules::OfOthers);
    assert_eq!(attached(&directory), [foreign]);
}

#[test]
fn a_directory_that_is_used_again_keeps_foreign_programs() {
    let Some(scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let directory = cgroup.paths()[""].clone();
    let foreign = foreign(&directory);
    let again = scratch.create(KERNEL_LOG).unwrap();
    assert_eq!(again.paths()[""], directory);
    let now = attached(&directory);
    assert!(now.len() == 2 && now.contains(&foreign), "ours is replaced, the other stays: {now:?}");
}

/// Makes a directory above the container's that is of a kind, and returns the container's cgroup in it.
fn below_a_threaded(scratch: &Scratch, kind: &str) -> Cgroup {
    let top = Path::new(&scratch.places().paths()[""]).parent().unwrap().to_owned();
    std::fs::create_dir_all(top.join("x")).unwrap();
    // Whoever has a threaded child is the domain of its threads.
    let threaded = if kind == "threaded" { top.clone() } else { top.join("x") };
    std::fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    assert_eq!(std::fs::read_to_string(top.join("cgroup.type")).unwrap().trim(), kind);
    scratch.create("{}").unwrap()
}

#[test]
fn a_container_lives_in_a_threaded_cgroup_where_its_parent_is_one() {
    for kind in ["threaded", "domain threaded"] {
        let Some(mut scratch) = Scratch::with_v2() else { return };
        let cgroup = below_a_threaded(&scratch, kind);
        let directory = cgroup.paths()[""].clone();
        let own = std::fs::read_to_string(Path::new(&directory).join("cgroup.type")).unwrap();
        assert_eq!(own.trim(), "threaded", "below one that is {kind}");
        assert!(cgroup.joiner(Doors::OpenedByParent).unwrap().into_cgroup_fd().is_some());
        let pid = scratch.spawn_in(&cgroup, "exec sleep 600");
        assert_eq!(cgroup.procs().unwrap(), [pid]);
        cgroup.kill_all(9).unwrap();
        scratch.reap();
        eventually("the cgroup is empty", || cgroup.is_empty().unwrap());
        cgroup.remove().unwrap();
    }
}

#[test]
fn a_process_in_threaded_sub_cgroups_is_listed_once() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let sub = Path::new(&cgroup.paths()[""]).join("sub");
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(sub.join("cgroup.type"), "threaded").unwrap();
    let first = scratch.spawn_in(&cgroup, "exec sleep 600");
    let second = scratch.spawn_in(&cgroup, "exec sleep 600");
    std::fs::write(sub.join("cgroup.threads"), second.to_string()).unwrap();
    let mut pids = cgroup.procs().unwrap();
    pids.sort_unstable();
    assert_eq!(pids, [first.min(second), first.max(second)]);
    cgroup.kill_all(9).unwrap();
    scratch.reap();
    eventually("the cgroup is empty", || cgroup.is_empty().unwrap());
    std::fs::remove_dir(sub).unwrap();
}
