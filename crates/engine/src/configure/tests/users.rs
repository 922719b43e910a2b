//! Users of a container's own.

use super::*;

#[test]
fn users_of_its_own_change_what_is_mapped() {
    let map = |size| vec![IdMapping { container_id: 0, host_id: 100_000, size }];
    let mut stage = with(|request| {
        request.process.user = Some("www".parse().unwrap());
        request.mounts =
            vec![Mount::from_volume("/src:/a:owner").unwrap(), Mount::from_volume("v1:/b:idmap").unwrap()];
    });
    stage.users = Some(Users { uids: map(65_536), gids: map(65_536) });
    let config = stage.json();
    assert_eq!(
        config["linux"]["uidMappings"],
        json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }])
    );
    assert!(config["linux"]["namespaces"].as_array().unwrap().contains(&json!({ "type": "user" })));
    assert!(config["annotations"][OVERLAY_ANNOTATION].as_str().unwrap().contains("\"idmap\":true"));
    assert_eq!(stage.configured().unwrap().users, stage.users);
    let find = |place: &str| {
        let mounts = config["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == place).unwrap().clone()
    };
    let maps = find("/a")["uidMappings"].clone();
    let kept = |first: u32, size: u32| json!({ "containerID": first, "hostID": first, "size": size });
    let given = |disk: u32, seen: u32| json!({ "containerID": disk, "hostID": seen, "size": 1 });
    let expected = json!([
        kept(0, 1000),
        given(1000, 100_033),
        kept(1001, 99_032),
        given(100_033, 1000),
        kept(100_034, u32::MAX - 100_034),
    ]);
    assert_eq!(maps, expected, "the two change places");
    assert_eq!(find("/b")["options"], json!(["rbind", "rprivate", "idmap"]));
    stage.facts.kernel = (5, 18);
    assert!(stage.error().contains("since Linux 5.19, and this is 5.18"), "{}", stage.error());
    stage.facts.kernel = (5, 19);
    stage.runtime = Runtime::Foreign;
    assert!(stage.error().contains("only bulkrun"), "{}", stage.error());
    stage.runtime = Runtime::Ours;
    stage.users = Some(Users { uids: map(10), gids: map(10) });
    assert!(stage.error().starts_with("user www: its ids 33:34 are not among"), "{}", stage.error());
    stage.request.process.user = None;
    stage.request.mounts.clear();
    stage.users = Some(Users { uids: map(3), gids: map(3) });
    assert!(mounts(&stage.json()).iter().all(|mount| !mount.contains("gid=5")), "there is no group 5");
}

#[test]
fn users_of_another_container_are_joined_and_not_made() {
    let map = vec![IdMapping { container_id: 0, host_id: 100_000, size: 65_536 }];
    let users = Users { uids: map.clone(), gids: map };
    let mut stage = with(|request| {
        request.namespaces.user = Some(UserNamespace::Container("db".to_owned()));
        request.mounts = vec![Mount::from_volume("v1:/b").unwrap()];
    });
    let namespaces = |config: &Value| config["linux"]["namespaces"].as_array().unwrap().clone();
    let config = stage.json();
    assert!(
        namespaces(&config).iter().all(|namespace| namespace["type"] != "user"),
        "db has the host's users"
    );
    assert!(config["annotations"][OVERLAY_ANNOTATION].as_str().unwrap().contains("\"idmap\":false"));
    stage.users = Some(users);
    let config = stage.json();
    assert!(namespaces(&config).contains(&json!({ "type": "user", "path": "/run/c/joined-user" })));
    assert_eq!(config["linux"].get("uidMappings"), None, "they are there already");
    assert!(config["annotations"][OVERLAY_ANNOTATION].as_str().unwrap().contains("\"idmap\":true"));
    assert!(
        mounts(&config).contains(&"/b bind /volumes/v rbind,rprivate,idmap".to_owned()),
        "volumes are shown, too"
    );
    stage.peers.clear();
    assert!(stage.error().contains("that container does not run"), "{}", stage.error());
}

#[test]
fn who_asked_for_other_users_is_never_the_hosts_root() {
    for asked in ["auto", "keep-id", "nomap"] {
        let stage = with(|request| request.namespaces.user = Some(asked.parse().unwrap()));
        assert!(stage.error().contains("make it anew"), "{}", stage.error());
    }
    assert!(with(|request| request.namespaces.user = Some(UserNamespace::Host)).configured().is_ok());
}

#[test]
fn a_runtime_of_others_needs_a_root_among_an_ordinary_users_users() {
    let one = |container_id| vec![IdMapping { container_id, host_id: 1000, size: 1 }];
    let mut stage = with(|request| request.namespaces.user = Some("keep-id".parse().unwrap()));
    stage.facts.caller = Caller::User { uid: 1000, gid: 1000 };
    stage.users = Some(Users { uids: one(1000), gids: one(1000) });
    assert!(stage.configured().is_ok(), "bulkrun needs none");
    stage.runtime = Runtime::Foreign;
    let error = stage.error();
    assert!(error.starts_with("--userns keep-id with --runtime: "), "{error}");
    assert!(error.contains("have further ids in /etc/subuid"), "{error}");
    stage.request.namespaces.user = Some(UserNamespace::Map { uids: Vec::new(), gids: Vec::new() });
    stage.request.process.user = Some("0:1000".parse().unwrap());
    stage.users = Some(Users { uids: one(0), gids: one(1000) });
    let error = stage.error();
    assert!(error.starts_with("--uidmap with --runtime: ") && error.contains("map id 0"), "{error}");
    stage.request.process.user = None;
    stage.users = Some(Users { uids: one(0), gids: one(0) });
    assert!(stage.configured().is_ok());
}

#[test]
fn an_ordinary_user_alone_has_no_further_groups() {
    let one = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    let mut stage = with(|_| {});
    stage.facts.caller = Caller::User { uid: 1000, gid: 100 };
    stage.users = Some(Users { uids: one(1000), gids: one(100) });
    let configured = stage.configured().unwrap();
    assert_eq!(configured.config.process.unwrap().user.additional_gids, Vec::<u32>::new());
    assert!(configured.warnings[0].contains("the only user"), "{:?}", configured.warnings);
    assert!(configured.config.annotations[OVERLAY_ANNOTATION].contains("\"idmap\":false"));
}

#[test]
fn a_kept_user_whom_the_image_does_not_know_has_lines_of_its_own() {
    let around = vec![IdMapping { container_id: 0, host_id: 100_000, size: 65_536 }];
    let mut stage = with(|request| request.namespaces.user = Some("keep-id".parse().unwrap()));
    stage.facts.caller = Caller::User { uid: 1000, gid: 100 };
    stage.users = Some(Users { uids: around.clone(), gids: around });
    let lines = |stage: &Stage, name: &str, file: &[u8]| {
        let file = String::from_utf8(file.to_vec()).unwrap();
        let accounts = stage.configured().unwrap().accounts;
        let (_, text) = accounts.into_iter().find(|(other, _)| *other == name).unwrap();
        text.strip_prefix(&file).map(str::to_owned).unwrap()
    };
    assert_eq!(lines(&stage, "passwd", PASSWD), "me:*:1000:100::/:/bin/sh\n");
    assert_eq!(lines(&stage, "group", GROUP), "me:*:100:\n");
    stage.facts.user = Some("www".to_owned());
    assert_eq!(lines(&stage, "passwd", PASSWD), "1000:*:1000:100::/:/bin/sh\n", "www is another there");
    stage.request.process.user = Some("www".parse().unwrap());
    assert_eq!(stage.configured().unwrap().accounts, [], "www is known");
    stage.request.process.user = Some("1000".parse().unwrap());
    stage.request.namespaces.user = Some("host".parse().unwrap());
    assert_eq!(stage.configured().unwrap().accounts, [], "nobody is kept");
}
