//! What cannot be had.

use super::*;

/// A change of a scene, and the words of its error.
type Wrong = (fn(&mut Stage), &'static str);

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_had_is_told_with_the_flag() {
    let table: &[Wrong] = &[
        (
            |s| s.request.resources.memory = Some("1m".parse().unwrap()),
            "--memory 1m: nothing runs in less than 6m",
        ),
        (|s| s.request.resources.memory_swap = Some(Limit::At(1)), "--memory-swap 1b: it needs --memory"),
        (
            |s| s.request.resources.cpus = Some("5".parse().unwrap()),
            "--cpus 5: expected a number from 0.01 to 4",
        ),
        (
            |s| {
                s.request.resources.cpus = Some("1".parse().unwrap());
                s.request.resources.cpu_period = Some(1000);
            },
            "--cpus 1: it is a quota of its own",
        ),
        (|s| s.request.resources.cpu_quota = Some(10), "--cpu-quota 10: expected at least 1000"),
        (|s| s.request.resources.cpu_shares = Some(1), "--cpu-shares 1: expected a weight"),
        (|s| s.request.resources.cpuset_cpus = Some("3-1".to_owned()), "--cpuset-cpus 3-1: expected numbers"),
        (
            |s| s.request.resources.cpuset_cpus = Some("0-3".to_owned()),
            "--cpuset-cpus 0-3: not all of these are there; available: 0-2,7",
        ),
        (|s| s.request.resources.oom_kill_disable = true, "--oom-kill-disable: cgroup v2 does not have it"),
        (|s| s.request.resources.memory_swappiness = Some(1), "--memory-swappiness 1: cgroup v2"),
        (|s| s.request.resources.realtime_runtime = Some(1), "--cpu-rt-runtime: cgroup v2"),
        (
            |s| {
                s.request.resources.pids = Some(Limit::At(1));
                s.facts.cgroups.controllers.clear();
            },
            "--pids-limit: this host's cgroups have no controller pids",
        ),
        (
            |s| {
                s.request.resources.memory = Some("1g".parse().unwrap());
                s.facts.cgroups.writable = false;
            },
            "--memory: an ordinary user may have no cgroups here",
        ),
        (|s| s.request.resources.block.weight = Some(1), "--blkio-weight 1: expected"),
        (
            |s| s.request.resources.cgroup_parent = Some("a/../b".to_owned()),
            "--cgroup-parent a/../b: expected",
        ),
        (
            |s| {
                s.facts.cgroups.systemd = true;
                s.request.resources.cgroup_parent = Some("/a".to_owned());
            },
            "--cgroup-parent /a: systemd makes the cgroups",
        ),
        (
            |s| s.request.devices.add("/dev/none".parse().unwrap()),
            "--device /dev/none: this host has no such device",
        ),
        (
            |s| drop(s.request.sysctls.insert("vm.swappiness".to_owned(), "1".to_owned())),
            "--sysctl vm.swappiness: no container",
        ),
        (
            |s| {
                s.request.namespaces.network = Network::Host;
                s.request.sysctls.insert("net.core.somaxconn".to_owned(), "1".to_owned());
            },
            "--sysctl net.core.somaxconn: with --network host",
        ),
        (|s| s.request.process.directory = Some("a".to_owned()), "--workdir a: expected an absolute path"),
        (|s| s.request.process.oom_score_adjust = Some(1001), "--oom-score-adj 1001: expected"),
        (|s| s.request.hostname = Some("a b".to_owned()), "--hostname \"a b\": a name has"),
        (
            |s| s.request.domainname = Some("a\n6.6.6.6 b".to_owned()),
            "--domainname \"a\\n6.6.6.6 b\": a domain has",
        ),
        (
            |s| {
                s.request.hostname = Some("a".to_owned());
                s.request.namespaces.uts = "host".parse().unwrap();
            },
            "--hostname a: the container shares its name",
        ),
        (
            |s| drop(s.request.annotations.insert("org.bulkhead.x".to_owned(), String::new())),
            "--annotation org.bulkhead.x: ",
        ),
        (
            |s| s.request.hosts.entries = vec!["a:host-gateway".parse().unwrap()],
            "--add-host a:host-gateway: without a network",
        ),
        (
            |s| s.request.mounts = vec![Mount::from_volume("/src:/a:idmap").unwrap()],
            "mount at /a: idmap shows files",
        ),
        (
            |s| s.request.mounts = vec![Mount::from_volume("/no:/a:owner").unwrap()],
            "mount at /a: its source is not there",
        ),
        (
            |s| {
                s.request.process.ulimits = vec!["nofile=1:2000000".parse().unwrap()];
                s.facts.capabilities = 0x1ff_feff_ffff;
            },
            "--ulimit nofile=1:2000000: without CAP_SYS_RESOURCE",
        ),
        (
            |s| {
                s.request.namespaces.ipc = "host".parse().unwrap();
                s.request.resources.shm_size = Some("1m".parse().unwrap());
            },
            "--shm-size 1m: /dev/shm is the host's",
        ),
    ];
    for (change, words) in table {
        let mut stage = with(|_| {});
        change(&mut stage);
        let error = stage.error();
        assert!(error.starts_with(words), "{error}");
    }
}
