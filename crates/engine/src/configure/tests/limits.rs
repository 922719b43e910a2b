//! Limits and devices.

use super::*;

#[test]
fn limits_become_the_cgroup_s() {
    let config = with(|request| {
        request.resources = Resources {
            cpus: Some("1.5".parse().unwrap()),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0-1".to_owned()),
            memory: Some("256m".parse().unwrap()),
            memory_reservation: Some("128m".parse().unwrap()),
            pids: Some(Limit::At(50)),
            cgroup_parent: Some("/foo/".to_owned()),
            ..Resources::default()
        };
        request.resources.block.weight = Some(500);
        request.resources.block.read_bytes = vec![crate::request::Throttle::of_bytes("/dev/sda:1k").unwrap()];
        request.process.ulimits = ["nofile=100:200", "core=-1"].map(|text| text.parse().unwrap()).into();
        request.process.oom_score_adjust = Some(500);
    })
    .json();
    let resources = &config["linux"]["resources"];
    assert_eq!(
        resources["cpu"],
        json!({ "shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0-1" })
    );
    assert_eq!(
        resources["memory"],
        json!({ "limit": 268_435_456, "reservation": 134_217_728, "swap": 536_870_912 })
    );
    assert_eq!(resources["pids"], json!({ "limit": 50 }));
    assert_eq!(resources["blockIO"]["weight"], 500);
    assert_eq!(
        resources["blockIO"]["throttleReadBpsDevice"],
        json!([{ "major": 8, "minor": 0, "rate": 1024 }])
    );
    assert_eq!(config["linux"]["cgroupsPath"], format!("/foo/{ID}"));
    assert_eq!(config["process"]["oomScoreAdj"], 500);
    assert_eq!(
        config["process"]["rlimits"],
        json!([
            { "type": "RLIMIT_CORE", "hard": u64::MAX, "soft": u64::MAX },
            { "type": "RLIMIT_NOFILE", "hard": 200, "soft": 100 },
        ])
    );
}

#[test]
fn devices_have_nodes_and_rules() {
    let config = with(|request| {
        request.devices.add("/dev/zero:/dev/zzz:r".parse().unwrap());
        request.devices.add("/dev/snd:/dev/sound".parse().unwrap());
        request.devices.rules = vec!["c 10:* rm".parse().unwrap()];
    })
    .json();
    let paths: Vec<&Value> =
        config["linux"]["devices"].as_array().unwrap().iter().map(|node| &node["path"]).collect();
    assert_eq!(paths, ["/dev/zzz", "/dev/sound/seq", "/dev/sound/by-path/a"]);
    let rules = config["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules[0], json!({ "allow": false, "access": "rwm" }));
    assert!(rules.contains(&json!({ "allow": true, "type": "c", "major": 1, "minor": 5, "access": "r" })));
    assert_eq!(*rules.last().unwrap(), json!({ "allow": true, "type": "c", "major": 10, "access": "rm" }));
}

#[test]
fn renamed_devices_are_the_hosts_only_where_nobody_makes_them() {
    let map = vec![IdMapping { container_id: 0, host_id: 100_000, size: 65_536 }];
    let ordinary = Caller::User { uid: 1000, gid: 100 };
    for (caller, has_users, is_mount) in
        [(Caller::Root, false, false), (Caller::Root, true, false), (ordinary, true, true)]
    {
        let mut stage = with(|request| request.devices.add("/dev/zero:/dev/zzz".parse().unwrap()));
        stage.facts.caller = caller;
        stage.users = has_users.then(|| Users { uids: map.clone(), gids: map.clone() });
        let config = stage.json();
        let has = |list: &Value, key: &str| {
            list.as_array().is_some_and(|list| list.iter().any(|each| each[key] == "/dev/zzz"))
        };
        let found = (has(&config["mounts"], "destination"), has(&config["linux"]["devices"], "path"));
        assert_eq!(found, (is_mount, !is_mount), "{caller:?} {has_users}");
    }
}
