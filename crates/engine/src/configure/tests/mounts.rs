//! What is mounted, and what the root is.

use super::*;

#[test]
fn mounts_that_are_asked_for_come_last_and_in_depth() {
    let mut stage = with(|request| {
        request.mounts = [
            "/src:/a/deep",
            "/src:/a",
            "/src:/b:ro",
            "/src:/c:rslave",
            "vol:/d",
            "/src:/e:bind,rro",
            "/src:/etc/hosts",
            "/src:/dev/shm",
            "/src:/o:owner=www",
        ]
        .map(|text| Mount::from_volume(text).unwrap())
        .into();
        let recursive = "type=bind,src=/src,dst=/f,ro,bind-recursive=writable";
        request.mounts.push(Mount::from_mount(recursive).unwrap());
        request.mounts.push(Mount::from_tmpfs("/t:size=1m,exec,uid=7").unwrap());
        request.read_only = true;
        request.secrets = vec!["id=key,src=/k".parse().unwrap()];
        request.process.init = true;
    });
    stage.defaults.volumes = BTreeMap::from([("/v".to_owned(), bulkhead_store::Empty {})]);
    let config = stage.json();
    assert_eq!(
        mounts(&config)[6..],
        [
            "/a bind /src rbind,rprivate",
            "/b bind /src rbind,rro,rprivate",
            "/c bind /src rbind,rslave",
            "/d bind /volumes/v rbind,rprivate",
            "/e bind /src bind,rro,rprivate",
            "/o bind /src rbind,rprivate",
            "/f bind /src rbind,ro,rprivate",
            "/t tmpfs tmpfs nosuid,nodev,rprivate,exec,uid=7,size=1048576",
            "/v bind /volumes/v rbind,rprivate",
            "/etc/resolv.conf bind /c/files/resolv.conf rbind,rro,rprivate",
            "/etc/hostname bind /c/files/hostname rbind,rro,rprivate",
            "/sbin/docker-init bind /usr/bin/bulkmon bind,ro,rprivate",
            "/a/deep bind /src rbind,rprivate",
            "/etc/hosts bind /src rbind,rprivate",
            "/dev/shm bind /src rbind,rprivate",
            "/run/secrets/key bind /run/c/secrets/0 bind,ro,nosuid,nodev,noexec,rprivate",
        ]
    );
    assert_eq!(config["linux"]["rootfsPropagation"], "rslave");
    assert_eq!(config["root"]["readonly"], true);
    assert_eq!(config["process"]["args"], json!(["/sbin/docker-init", "init", "--", "/bin/true"]));
    let owned =
        config["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/o").unwrap();
    let exchanged = |list: &str, disk: u32, seen: u32| {
        let maps = owned[list].as_array().unwrap();
        let has =
            |from: u32, to: u32| maps.contains(&json!({ "containerID": from, "hostID": to, "size": 1 }));
        has(disk, seen) && has(seen, disk) && maps.len() == 5
    };
    assert!(exchanged("uidMappings", 1000, 33) && exchanged("gidMappings", 100, 34), "{owned}");
    stage.facts.kernel = (5, 10);
    assert!(stage.error().contains("since Linux 5.12"), "{}", stage.error());
    stage.request.mounts.retain(|mount| mount.destination != "/e");
    assert!(mounts(&stage.json()).contains(&"/b bind /src rbind,ro,rprivate".to_owned()));
    stage.facts.kernel = (6, 1);
    stage.runtime = Runtime::Foreign;
    let of_others = mounts(&stage.json());
    assert!(of_others.contains(&"/b bind /src rbind,ro,rprivate".to_owned()), "a file has nothing below it");
    assert!(of_others.contains(&"/etc/hostname bind /c/files/hostname rbind,ro,rprivate".to_owned()));
    stage.facts.sources.get_mut(Path::new("/src")).unwrap().is_directory = true;
    assert!(mounts(&stage.json()).contains(&"/b bind /src rbind,rro,rprivate".to_owned()));
}

#[test]
fn another_runtime_gets_a_mounted_root() {
    let mut stage = with(|_| {});
    stage.runtime = Runtime::Foreign;
    let config = stage.json();
    assert!(config.get("annotations").is_none());
    assert_eq!(config["root"]["path"], "rootfs");
    // For which its monitor must have the right to mount.
    stage.facts.caller = Caller::User { uid: 1000, gid: 100 };
    for runtime in [Runtime::Foreign, Runtime::Guest] {
        stage.runtime = runtime;
        let error = stage.error();
        assert!(error.contains("only bulkrun mounts the layers") && error.contains("--rootfs"), "{error}");
    }
    stage.runtime = Runtime::Ours;
    stage.configured().unwrap();
}
