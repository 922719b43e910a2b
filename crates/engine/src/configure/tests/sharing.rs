//! What is shared with the host, with other containers and with a pod.

use super::*;

#[test]
fn namespaces_are_shared_with_host_and_containers() {
    let config = with(|request| {
        let asked = &mut request.namespaces;
        (asked.network, asked.ipc, asked.pid, asked.uts) = (
            "host".parse().unwrap(),
            "host".parse().unwrap(),
            "host".parse().unwrap(),
            "host".parse().unwrap(),
        );
        asked.cgroup = Some("host".parse().unwrap());
    });
    assert_eq!(config.json()["linux"]["namespaces"], json!([{ "type": "mount" }]));
    assert!(config.json().get("hostname").is_none() && config.json()["linux"].get("sysctl").is_none());
    assert_eq!(config.file("hosts"), "127.0.0.1 localhost\n10.0.0.1 host\n");
    assert_eq!(config.file("hostname"), "host\n");
    assert_eq!(config.file("resolv.conf"), facts().resolv_conf);
    assert!(mounts(&config.json()).contains(&"/dev/shm bind /dev/shm rbind,rprivate".to_owned()));
    let mut stage = with(|request| {
        request.namespaces.network = Network::Container("db".to_owned());
        request.namespaces.ipc = "container:db".parse().unwrap();
    });
    let config = stage.json();
    assert!(
        config["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .contains(&json!({ "type": "network", "path": "/run/c/joined-network" }))
    );
    assert!(mounts(&config).contains(&"/etc/hosts bind /db/files/hosts rbind,rprivate".to_owned()));
    assert!(mounts(&config).contains(&"/dev/shm bind /db/shm rbind,rprivate".to_owned()));
    assert!(stage.configured().unwrap().files.is_empty());
    stage.request.hostname = Some("x".to_owned());
    assert!(stage.error().contains("leave it out"));
    stage.request.hostname = None;
    stage.peers.clear();
    assert!(stage.error().contains("does not run"));
}

#[test]
fn files_with_names_follow_the_flags() {
    let stage = with(|request| {
        request.hostname = Some("box".to_owned());
        request.domainname = Some("example.org".to_owned());
        request.hosts.entries = vec!["db:10.0.0.7".parse().unwrap(), "six=[::2]".parse().unwrap()];
        request.hosts.options = vec!["ndots:2".to_owned()];
    });
    assert!(stage.file("hosts").ends_with("127.0.1.1\tbox.example.org box\n10.0.0.7\tdb\n::2\tsix\n"));
    assert_eq!(
        stage.file("resolv.conf"),
        "nameserver 10.0.0.53\nsearch a.example b.example\noptions ndots:2\n"
    );
    assert_eq!(stage.file("hostname"), "box\n");
    let config = stage.json();
    assert_eq!(config["linux"]["sysctl"]["kernel.domainname"], "example.org");
    assert_eq!(config["hostname"], "box");
    let stage = with(|request| {
        request.hosts.servers = vec!["1.1.1.1".parse().unwrap()];
        request.hosts.search = vec![".".to_owned()];
    });
    assert_eq!(stage.file("resolv.conf"), "nameserver 1.1.1.1\noptions edns0\n");
}

#[test]
fn another_runtime_does_not_mount_the_memory_of_a_pod_with_users() {
    let map = vec![IdMapping { container_id: 0, host_id: 100_000, size: 65_536 }];
    let mut stage = with(|request| {
        request.namespaces.user = Some(UserNamespace::Pod);
        request.namespaces.ipc = Ipc::Pod;
    });
    stage.users = Some(Users { uids: map.clone(), gids: map });
    let found = mounts(&stage.json());
    assert!(found.iter().any(|mount| mount.contains("mount-namespace")), "{found:?}");
    stage.runtime = Runtime::Guest;
    let error = stage.error();
    assert!(error.contains("only bulkrun mounts the /dev/shm") && error.contains("--ipc private"), "{error}");
}

#[test]
fn who_has_the_network_of_another_has_its_name() {
    let config = with(|request| request.namespaces.network = "container:db".parse().unwrap()).json();
    assert_eq!(config["hostname"], "db-host");
    assert!(config["process"]["env"].as_array().unwrap().contains(&json!("HOSTNAME=db-host")));
    let config = with(|request| request.namespaces.ipc = "container:db".parse().unwrap()).json();
    assert_eq!(config["hostname"], ID[..12]);
}
