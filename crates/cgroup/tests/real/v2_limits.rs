//! Limits on a machine where v2 is alone and has the controllers.

use bulkhead_cgroup::{Devices, Error, Need, OomEvent, Places};
use bulkhead_testkit::skip::report;

use crate::scratch::{Device, Scratch, eventually, file};
use crate::watch::readable;

#[test]
fn limits_are_set_as_converted() {
    let Some(scratch) = Scratch::with_v2_controllers(&["cpu", "memory", "pids"]) else { return };
    let limits = r#"{
        "memory": {"limit": 67108864, "reservation": 33554432},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 77},
        "unified": {"memory.high": "50331648", "cgroup.max.depth": "3"}
    }"#;
    let cgroup = scratch.create(limits).unwrap();
    let record = cgroup.record();
    assert_eq!(file(&record, "", "memory.max"), "67108864");
    assert_eq!(file(&record, "", "memory.low"), "33554432");
    assert_eq!(file(&record, "", "memory.high"), "50331648", "unified is written last");
    assert_eq!(file(&record, "", "cpu.weight"), "59");
    assert_eq!(file(&record, "", "cpu.max"), "50000 100000");
    assert_eq!(file(&record, "", "pids.max"), "77");
    assert_eq!(file(&record, "", "cgroup.max.depth"), "3");

    cgroup.update(&scratch.update(r#"{"cpu": {"period": 50000}}"#)).unwrap();
    assert_eq!(file(&record, "", "cpu.max"), "50000 50000", "the quota stays");
    cgroup.update(&scratch.update(r#"{"cpu": {"quota": -1}}"#)).unwrap();
    assert_eq!(file(&record, "", "cpu.max"), "max 50000", "the period stays");
    cgroup.update(&scratch.update(r#"{"memory": {"limit": -1}}"#)).unwrap();
    assert_eq!(file(&record, "", "memory.max"), "max");
    cgroup.update(&scratch.update(r#"{"pids": {"limit": -1}}"#)).unwrap();
    assert_eq!(file(&record, "", "pids.max"), "max");
    if std::path::Path::new(&record.paths[""]).join("cpu.idle").exists() {
        cgroup.update(&scratch.update(r#"{"cpu": {"shares": 2048, "idle": 1}}"#)).unwrap();
        assert_eq!(file(&record, "", "cpu.idle"), "1");
        cgroup.update(&scratch.update(r#"{"cpu": {"shares": 1024, "idle": 0}}"#)).unwrap();
        let weight = file(&record, "", "cpu.weight");
        assert_eq!(weight, "100", "a weight that idleness forbids is set when it has ended");
    } else {
        report("the kernel is older than 5.15 and knows no idle cgroups");
    }
    cgroup.remove().unwrap();
    assert!(scratch.left().is_empty(), "nothing is left");
}

#[test]
fn swap_is_limited_alone() {
    let Some(scratch) = Scratch::with_v2_controllers(&["memory"]) else { return };
    let cgroup = scratch.create(r#"{"memory": {"limit": 67108864}}"#).unwrap();
    let record = cgroup.record();
    let swap = std::path::Path::new(&record.paths[""]).join("memory.swap.max");
    if !swap.exists() {
        report("the kernel does not account swap");
        cgroup.update(&scratch.update(r#"{"memory": {"limit": 67108864, "swap": 67108864}}"#)).unwrap();
        let error = cgroup.update(&scratch.update(r#"{"memory": {"limit": 67108864, "swap": 67112960}}"#));
        assert!(error.unwrap_err().is_gone(), "a limit that cannot be kept is an error");
        return;
    }
    cgroup.update(&scratch.update(r#"{"memory": {"swap": 134217728}}"#)).unwrap();
    assert_eq!(file(&record, "", "memory.swap.max"), "67108864", "the sum less the limit in force");
    cgroup.update(&scratch.update(r#"{"memory": {"limit": 33554432, "swap": 33554432}}"#)).unwrap();
    assert_eq!(file(&record, "", "memory.swap.max"), "0");
    cgroup.remove().unwrap();
}

#[test]
fn a_limit_below_use_is_refused_if_asked_and_kills_if_not() {
    let Some(mut scratch) = Scratch::with_v2_controllers(&["memory"]) else { return };
    let cgroup = scratch.create(r#"{"memory": {"limit": 67108864, "swap": 67108864}}"#).unwrap();
    let mut watch = cgroup.watch_oom().unwrap();
    scratch.spawn_in(&cgroup, "exec dd if=/dev/zero bs=20M count=2 | sleep 600");
    eventually("memory is in use", || cgroup.stats().unwrap().memory.usage.usage > 20 << 20);
    let error = cgroup.update(
        &scratch.update(r#"{"memory": {"limit": 4194304, "swap": 4194304, "checkBeforeUpdate": true}}"#),
    );
    assert!(matches!(error, Err(Error::BelowUsage { limit: 4_194_304, .. })), "{error:?}");
    assert_eq!(cgroup.oom_kill_count().unwrap(), 0);
    assert_eq!(watch.event().unwrap(), OomEvent::Nothing);
    cgroup.update(&scratch.update(r#"{"memory": {"limit": 4194304, "swap": 4194304}}"#)).unwrap();
    readable(&watch);
    eventually("the kill is told", || watch.event().unwrap() == OomEvent::OutOfMemory);
    assert!(cgroup.oom_kill_count().unwrap() >= 1);
    cgroup.kill_all(9).unwrap();
    eventually("the end is told", || watch.event().unwrap() == OomEvent::Gone);
    scratch.reap();
    cgroup.remove().unwrap();
}

#[test]
fn statistics_tell_of_use_and_limits() {
    let Some(mut scratch) = Scratch::with_v2_controllers(&["cpu", "memory", "pids"]) else { return };
    let limits = r#"{"memory": {"limit": 67108864}, "pids": {"limit": 20}, "cpu": {"quota": 10000}}"#;
    let cgroup = scratch.create(limits).unwrap();
    scratch.spawn_in(&cgroup, "dd if=/dev/zero of=/dev/null bs=2M count=1 2>&-; while :; do :; done");
    eventually("the quota throttles the shell alone", || {
        let stats = cgroup.stats().unwrap();
        stats.cpu.throttling.throttled_periods > 1 && stats.pids.current == 1
    });
    let stats = cgroup.stats().unwrap();
    assert_eq!(stats.pids.limit, 20);
    assert_eq!(stats.memory.usage.limit, 67_108_864);
    assert!(stats.memory.usage.usage > 0 && stats.memory.raw.contains_key("anon"), "{:?}", stats.memory);
    assert!(stats.cpu.total >= stats.cpu.user && stats.cpu.total > 0, "{:?}", stats.cpu);
    cgroup.kill_all(9).unwrap();
    scratch.reap();
    cgroup.remove().unwrap();
}

#[test]
fn the_limit_of_tasks_bites() {
    let Some(mut scratch) = Scratch::with_v2_controllers(&["pids"]) else { return };
    let cgroup = scratch.create(r#"{"pids": {"limit": 0}}"#).unwrap();
    scratch.spawn_in(&cgroup, "(:) 2>/dev/null || exit 9; exit 0");
    assert_ne!(scratch.reap().code(), Some(0), "with a limit of 0 the first process cannot fork");
    cgroup.remove().unwrap();
}

#[test]
fn devices_and_cpusets_work_beside_the_other_limits() {
    let Some(mut scratch) = Scratch::with_v2_controllers(&["cpuset", "pids"]) else { return };
    let device = Device::new();
    let cgroup = scratch.create(r#"{"cpu": {"cpus": "0", "mems": "0"}}"#).unwrap();
    assert_eq!(file(&cgroup.record(), "", "cpuset.cpus.effective"), "0");
    assert_eq!(device.open_in(&mut scratch, Some(&cgroup)), Some(4), "the kernel log is denied");
    cgroup.remove().unwrap();
}

#[test]
fn below_processes_domain_controllers_are_refused_by_name() {
    let Some(mut scratch) = Scratch::with_v2_controllers(&["memory", "pids"]) else { return };
    let parent = scratch.create("{}").unwrap();
    scratch.spawn_in(&parent, "exec sleep 600");
    let inner =
        bulkhead_cgroup::CgroupPath::from_config(Some(&format!("{}/in", scratch.path())), "id").unwrap();
    let places = Places::find(&scratch.host, &inner).unwrap();
    let record = places.record().unwrap();
    let create = |json: &str| {
        let plan = scratch.plan(json, Devices::Untouched);
        bulkhead_cgroup::Cgroup::create(&places, &record, &plan, Need::Required)
    };
    let error = create(r#"{"memory": {"limit": 67108864}}"#).unwrap_err();
    assert!(matches!(&error, Error::NoController { controller, .. } if controller == "memory"), "{error}");
    let kind = |cgroup: &bulkhead_cgroup::Cgroup| file(&cgroup.record(), "", "cgroup.type");
    let without = create("{}").expect("without limits it can be made");
    assert_eq!((kind(&parent), kind(&without)), ("domain".into(), "domain".into()), "nobody is restricted");
    without.remove().unwrap();
    let threaded = create(r#"{"pids": {"limit": 5}}"#).expect("a threaded controller works");
    assert_eq!((kind(&parent), kind(&threaded)), ("domain threaded".into(), "threaded".into()));
    let pid = scratch.spawn_in(&threaded, "exec sleep 600");
    assert_eq!(threaded.procs().unwrap(), [pid], "a threaded cgroup lists its threads");
    threaded.kill_all(9).unwrap();
    scratch.reap();
    threaded.remove().unwrap();
    parent.kill_all(9).unwrap();
}
