//! The v1 hierarchies of a legacy or hybrid machine.

use std::path::Path;

use bulkhead_cgroup::{Cgroup, Doors, Error, Freezer, SubCgroups};
use bulkhead_testkit::skip;

use crate::scratch::{Device, Scratch, eventually, file};

const LIMITS: &str = r#"{
    "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
    "pids": {"limit": 77},
    "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
}"#;

#[test]
fn a_cgroup_is_made_limited_and_removed_with_its_parents() {
    let Some(scratch) = Scratch::with_v1() else { return };
    let before = scratch.places().record().unwrap();
    let cgroup = scratch.create(LIMITS).unwrap();
    let record = cgroup.record();
    assert_eq!(record.made, before.made, "what the record foresaw was made");
    assert_eq!(file(&record, "memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file(&record, "memory", "memory.memsw.limit_in_bytes"), "134217728");
    assert_eq!(file(&record, "memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(file(&record, "cpu", "cpu.shares"), "512");
    assert_eq!(file(&record, "cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(file(&record, "cpu", "cpu.cfs_period_us"), "100000");
    assert_eq!(file(&record, "cpuset", "cpuset.cpus"), "0");
    assert_eq!(file(&record, "pids", "pids.max"), "77");
    let parent = Path::new(&record.paths["cpuset"]).parent().unwrap();
    for (dir, name) in [(parent, "cpuset.cpus"), (parent, "cpuset.mems")] {
        let inherited = std::fs::read_to_string(dir.join(name)).unwrap();
        let root = std::fs::read_to_string(dir.parent().unwrap().join(name)).unwrap();
        assert_eq!(inherited, root, "a new parent has what the root has");
    }
    assert_ne!(file(&record, "cpuset", "cpuset.mems"), "", "memory nodes are inherited");
    let devices = file(&record, "devices", "devices.list");
    assert!(devices.contains("c 10:229 rw") && devices.contains("c 1:3 rwm"), "{devices}");
    assert!(!devices.contains("a *:* rwm"), "all other devices are denied: {devices}");

    Cgroup::open(&record).remove().unwrap();
    assert_eq!(scratch.left(), [""; 0].map(Path::new), "nothing is left");
    Cgroup::open(&record).remove().expect("removing what is gone succeeds");
}

#[test]
fn a_single_thread_joins_by_tasks() {
    let Some(scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let joiner = cgroup.joiner(Doors::OpenedByParent).unwrap();
    // A test is one thread of the harness, and `tasks` moves just that.
    joiner.join_self().unwrap();
    let own = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let tid = rustix::thread::gettid().as_raw_nonzero().to_string();
    for hierarchy in scratch.host.hierarchies().iter().filter(|h| !h.controllers.is_empty()) {
        std::fs::write(Path::new(&hierarchy.mount_point).join("tasks"), &tid).unwrap();
        let line = own.lines().find(|line| line.contains(&format!(":{}:", hierarchy.controllers.join(","))));
        assert!(line.is_some_and(|line| line.ends_with(&scratch.path())), "{line:?} names the cgroup");
    }
    assert_eq!(joiner.into_cgroup_fd().is_some(), scratch.host.v2().is_some());
    drop(joiner);
    cgroup.remove().unwrap();
}

#[test]
fn a_cgroup_with_processes_or_a_frozen_one_is_refused_and_kept() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let pid = scratch.spawn("exec sleep 600");
    cgroup.joiner(Doors::OpenedByParent).unwrap().join_other(pid).unwrap();
    assert_eq!(cgroup.procs().unwrap(), [pid]);
    let below = Path::new(&cgroup.paths()["freezer"]).join("below");
    std::fs::create_dir(&below).unwrap();
    let error = scratch.create("{}").unwrap_err();
    assert!(matches!(error, Error::NotEmpty { count: 1, .. }), "{error}");
    assert!(below.exists(), "the failed attempt removes nothing of the first, not even below");
    cgroup.freeze().unwrap();
    assert_eq!(cgroup.freezer_state().unwrap(), Freezer::Frozen);
    cgroup.thaw().unwrap();
    assert_eq!(cgroup.freezer_state().unwrap(), Freezer::Thawed);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    scratch.reap();
    eventually("the cgroup is empty", || cgroup.is_empty().unwrap());

    cgroup.freeze().unwrap();
    let error = scratch.create("{}").unwrap_err();
    assert!(matches!(error, Error::Frozen { .. }), "{error}");
    cgroup.thaw().unwrap();
    let second = scratch.create("{}").expect("an empty one is taken");
    assert_eq!(second.record().made, [""; 0], "it made nothing");
    second.remove().unwrap();
    assert!(cgroup.exists(), "so it removed nothing");
    cgroup.remove().unwrap();
}

#[test]
fn a_limit_without_its_controller_undoes_everything() {
    let Some(scratch) = Scratch::with_v1() else { return };
    if scratch.host.v1("net_cls").is_some() {
        skip!("net_cls is there");
    }
    let error = scratch.create(r#"{"network": {"classID": 5}}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot set net_cls.classid: the requested cgroup controller `net_cls` is not available"
    );
    assert!(scratch.left().is_empty(), "nothing is left");
}

#[test]
fn memory_and_swap_are_raised_and_lowered_together() {
    let Some(scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create(r#"{"memory": {"limit": 67108864, "swap": 67108864}}"#).unwrap();
    for (limit, swap) in
        [(134_217_728_u64, 268_435_456_u64), (33_554_432, 33_554_432), (33_554_432, 67_108_864)]
    {
        let json = format!(r#"{{"memory": {{"limit": {limit}, "swap": {swap}}}}}"#);
        cgroup.update(&scratch.update(&json)).unwrap();
        assert_eq!(file(&cgroup.record(), "memory", "memory.limit_in_bytes"), limit.to_string());
        assert_eq!(file(&cgroup.record(), "memory", "memory.memsw.limit_in_bytes"), swap.to_string());
    }
    // In force are 33554432 and 67108864.
    for (limits, expected) in [
        (
            r#"{"limit": 134217728}"#,
            "a memory limit of 134217728 bytes is above the 67108864 for memory and swap together: set both",
        ),
        (
            r#"{"swap": 16777216}"#,
            "a memory limit of 33554432 bytes is above the 16777216 for memory and swap together: set both",
        ),
    ] {
        let error = cgroup.update(&scratch.update(&format!(r#"{{"memory": {limits}}}"#))).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    cgroup.update(&scratch.update(r#"{"memory": {"limit": -1}}"#)).unwrap();
    assert!(
        file(&cgroup.record(), "memory", "memory.memsw.limit_in_bytes").len() > 15,
        "swap is unlimited too"
    );
    let plan = scratch.update(r#"{"memory": {"reservation": 1048576}, "cpu": {"realtimeRuntime": -7}}"#);
    let error = cgroup.update(&plan).unwrap_err();
    assert_eq!(error.to_string(), "memory.soft_limit_in_bytes=1048576 had been set before");
    cgroup.remove().unwrap();
}

#[test]
fn cpu_time_changes_within_the_parents_bounds() {
    let Some(scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create(r#"{"cpu": {"quota": 100000, "period": 100000}}"#).unwrap();
    let parent = Path::new(&cgroup.record().paths["cpu"]).parent().unwrap().to_owned();
    std::fs::write(parent.join("cpu.cfs_quota_us"), "100000").unwrap();
    // A period of a tenth would be ten CPUs until the quota follows.
    cgroup.update(&scratch.update(r#"{"cpu": {"quota": 10000, "period": 10000}}"#)).unwrap();
    assert_eq!(file(&cgroup.record(), "cpu", "cpu.cfs_quota_us"), "10000");
    assert_eq!(file(&cgroup.record(), "cpu", "cpu.cfs_period_us"), "10000");
    cgroup.remove().unwrap();
}

#[test]
fn sub_cgroups_are_entered_and_removed_with_the_container() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create("{}").unwrap();
    for controller in ["freezer", "pids"] {
        std::fs::create_dir_all(Path::new(&cgroup.paths()[controller]).join("a/b")).unwrap();
    }
    let sub = cgroup.sub(&SubCgroups::parse(&["freezer,pids:a/b"]).unwrap()).unwrap();
    assert!(sub.paths()["pids"].ends_with("/box/a/b"));
    assert!(sub.paths()["memory"].ends_with("/box"), "the other hierarchies keep their limits");
    let pid = scratch.spawn("exec sleep 600");
    sub.joiner(Doors::OpenedByParent).unwrap().join_other(pid).unwrap();
    assert_eq!(cgroup.procs().unwrap(), [pid], "processes below count");
    let error = cgroup.sub(&SubCgroups::parse(&["gone"]).unwrap()).unwrap_err();
    assert!(error.is_gone(), "{error}");
    let error = cgroup.sub(&SubCgroups::parse(&["nope:a"]).unwrap()).unwrap_err();
    assert!(matches!(error, Error::SubCgroup { .. }), "{error}");

    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    scratch.reap();
    cgroup.remove().unwrap();
    assert!(scratch.left().is_empty(), "nothing is left");
}

#[test]
fn a_busy_cgroup_is_not_removed_and_says_so() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create("{}").unwrap();
    let pid = scratch.spawn("exec sleep 600");
    cgroup.joiner(Doors::OpenedByParent).unwrap().join_other(pid).unwrap();
    let error = cgroup.remove().unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::BUSY), "{error}");
}

#[test]
fn denied_devices_cannot_be_opened() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create(r#"{"devices": [{"allow": false, "access": "rwm"}]}"#).unwrap();
    let device = Device::new();
    assert_eq!(device.open_in(&mut scratch, None), Some(0), "outside the kernel log can be opened");
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(4), "inside it cannot");
    cgroup.remove().unwrap();
    let rules = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#;
    let cgroup = scratch.create(rules).unwrap();
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(0), "unless it is allowed");
    cgroup.remove().unwrap();
}

#[test]
fn realtime_budgets_reach_the_parents_that_were_made() {
    let Some(scratch) = Scratch::with_v1() else { return };
    let cpu = &scratch.host.v1("cpu").unwrap().mount_point;
    if !Path::new(cpu).join("cpu.rt_runtime_us").exists() {
        skip!("the kernel has no realtime groups");
    }
    let cgroup = scratch.create(r#"{"cpu": {"realtimeRuntime": 2000, "realtimePeriod": 500000}}"#).unwrap();
    let own = Path::new(&cgroup.paths()["cpu"]).to_owned();
    for dir in [own.as_path(), own.parent().unwrap()] {
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!((read("cpu.rt_runtime_us").trim(), read("cpu.rt_period_us").trim()), ("2000", "500000"));
    }
    cgroup.remove().unwrap();
}

#[test]
fn throttles_name_a_device_of_the_machine() {
    let Some(scratch) = Scratch::with_v1() else { return };
    let numbers = std::fs::read_dir("/sys/block").unwrap().flatten().find_map(|disk| {
        let text = std::fs::read_to_string(disk.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let (Some((major, minor)), Some(_)) = (numbers, scratch.host.v1("blkio")) else {
        skip!("no block device, or no blkio controller");
    };
    let throttle = format!(r#"[{{"major": {major}, "minor": {minor}, "rate": 1048576}}]"#);
    let cgroup =
        scratch.create(&format!(r#"{{"blockIO": {{"throttleReadBpsDevice": {throttle}}}}}"#)).unwrap();
    let set = file(&cgroup.record(), "blkio", "blkio.throttle.read_bps_device");
    assert_eq!(set, format!("{major}:{minor} 1048576"));
    cgroup
        .update(&scratch.update(&format!(
            r#"{{"blockIO": {{"throttleReadBpsDevice": {}}}}}"#,
            throttle.replace("1048576", "0")
        )))
        .unwrap();
    assert_eq!(file(&cgroup.record(), "blkio", "blkio.throttle.read_bps_device"), "", "0 lifts it");
    cgroup.remove().unwrap();
}

#[test]
fn other_device_rules_change_only_what_differs() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let device = Device::new();
    let cgroup = scratch.create("{}").unwrap();
    let list = || file(&cgroup.record(), "devices", "devices.list");
    let before = list();
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(4), "the kernel log is denied");
    for (rules, change) in [
        (r#"[{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}]"#, "c 1:11 rw"),
        (r#"[{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]"#, "c 1:11 r"),
        (r#"[{"allow": true, "access": "rwm"}]"#, "a *:* rwm"),
        (r#"[{"allow": false, "access": "rwm"}]"#, ""),
    ] {
        let plan = scratch.update(&format!(r#"{{"devices": {rules}}}"#));
        cgroup.change_devices(plan.devices().unwrap()).unwrap();
        let now = list();
        let mut new = now.lines().filter(|line| !before.contains(line));
        assert_eq!((new.next().unwrap_or_default(), new.next()), (change, None), "{rules}");
        let missing = before.lines().filter(|line| !now.contains(line)).count();
        assert!(missing == 0 || change.starts_with('a'), "{rules}: {now}");
        let opens = if change.is_empty() { Some(4) } else { Some(0) };
        assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), opens, "{rules}");
    }
}
