//! Statistics, kills and out-of-memory events of containers that run.

use bulkhead_cgroup::{Freezer, OomEvent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::scratch::{Scratch, eventually};

/// A small fork bomb: each of its processes starts two and goes.
const BOMB: &str = "f() { f & f & sleep 0.01; }; f 2>/dev/null; exec sleep 600";

#[test]
fn v1_statistics_tell_of_use_and_limits() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let limits = r#"{"memory": {"limit": 67108864}, "pids": {"limit": 20},
        "cpu": {"quota": 10000, "period": 100000, "cpus": "0"}}"#;
    let cgroup = scratch.create(limits).unwrap();
    scratch.spawn_in(&cgroup, "dd if=/dev/zero of=/dev/null bs=2M count=1 2>&-; while :; do :; done");
    eventually("the quota throttles", || cgroup.stats().unwrap().cpu.throttling.throttled_periods > 1);
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 20));
    assert_eq!(stats.memory.usage.limit, 67_108_864);
    assert!(stats.memory.usage.peak > 2 << 20 && stats.memory.raw.contains_key("rss"), "{:?}", stats.memory);
    assert!(stats.memory.hierarchical);
    assert!(stats.cpu.total > 0 && stats.cpu.user > 0, "{:?}", stats.cpu);
    assert_eq!(stats.cpu.per_cpu.iter().sum::<u64>() > 0, stats.cpu.total > 0);
    assert_eq!(stats.cpu.per_cpu.len(), stats.cpu.per_cpu_user.len());
    assert!(stats.cpu.throttling.throttled_time > 0 && stats.cpu.throttling.periods > 1);
    assert_eq!(stats.cpuset.cpus, [0]);
    assert!(!stats.cpuset.mems.is_empty());
    cgroup.kill_all(9).unwrap();
    scratch.reap();
    cgroup.remove().unwrap();
    assert_eq!(cgroup.stats().unwrap(), Default::default(), "a cgroup that is gone used nothing");
}

#[test]
fn v2_statistics_do_without_controllers() {
    let Some(mut scratch) = Scratch::with_v2() else { return };
    let cgroup = scratch.create("{}").unwrap();
    scratch.spawn_in(&cgroup, "while :; do :; done");
    eventually("CPU time is used", || cgroup.stats().unwrap().cpu.total > 0);
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 0), "processes are counted by hand");
    assert!(stats.cpu.pressure.is_some() || !std::path::Path::new("/proc/pressure").exists());
}

#[test]
fn v1_kills_what_forks_and_what_is_frozen() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create(r#"{"pids": {"limit": 200}}"#).unwrap();
    scratch.spawn_in(&cgroup, BOMB);
    eventually("it grows", || cgroup.procs().unwrap().len() > 20);
    cgroup.kill_all(9).unwrap();
    scratch.reap();
    eventually("all are dead", || cgroup.is_empty().unwrap());
    // The dead count until somebody has waited for them.
    eventually("there is room", || cgroup.stats().unwrap().pids.current == 0);

    scratch.spawn_in(&cgroup, "sleep 600 & exec sleep 600");
    eventually("two sleep", || cgroup.procs().unwrap().len() == 2);
    cgroup.freeze().unwrap();
    cgroup.kill_all(9).unwrap();
    assert_eq!(cgroup.freezer_state().unwrap(), Freezer::Thawed, "else they could not die");
    scratch.reap();
    eventually("all are dead", || cgroup.is_empty().unwrap());
    cgroup.remove().unwrap();
}

#[test]
fn v1_without_kill_file_freezes_signals_and_thaws() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create(r#"{"pids": {"limit": 200}}"#).unwrap();
    let mut record = cgroup.record();
    record.paths.remove("");
    let v1_only = bulkhead_cgroup::Cgroup::open(&record);
    scratch.spawn_in(&cgroup, BOMB);
    eventually("it grows", || cgroup.procs().unwrap().len() > 20);
    v1_only.kill_all(9).unwrap();
    scratch.reap();
    eventually("all are dead", || cgroup.is_empty().unwrap());
    cgroup.remove().unwrap();
}

#[test]
fn an_out_of_memory_kill_is_told_and_counted() {
    let Some(mut scratch) = Scratch::with_v1() else { return };
    let cgroup = scratch.create(r#"{"memory": {"limit": 8388608, "swap": 8388608}}"#).unwrap();
    let mut watch = cgroup.watch_oom().unwrap();
    assert_eq!(watch.event().unwrap(), OomEvent::Nothing);
    assert_eq!(cgroup.oom_kill_count().unwrap(), 0);
    scratch.spawn_in(&cgroup, "exec dd if=/dev/zero of=/dev/null bs=100M count=1");
    scratch.reap();
    readable(&watch);
    assert_eq!(watch.event().unwrap(), OomEvent::OutOfMemory);
    assert_eq!(cgroup.oom_kill_count().unwrap(), 1);
    cgroup.remove().unwrap();
    eventually("the end is told", || watch.event().unwrap() == OomEvent::Gone);
}

/// Waits until a watch has something to tell.
pub(crate) fn readable(watch: &bulkhead_cgroup::OomWatch) {
    let mut fds = [PollFd::new(watch, PollFlags::IN)];
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "the descriptor becomes readable");
}
