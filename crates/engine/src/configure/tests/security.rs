//! Rights, profiles and labels.

use super::*;

#[test]
fn capabilities_follow_docker_s_rules() {
    let kept = |add: &[&str], drop: &[&str], privileged: bool| {
        let read =
            |list: &[&str]| list.iter().map(|name| name.parse::<Capability>().unwrap()).collect::<Vec<_>>();
        let stage = with(|request| {
            request.security =
                Security { privileged, add: read(add), drop: read(drop), ..Security::default() };
        });
        let config = stage.json();
        let list = config["process"]["capabilities"]["bounding"].as_array().cloned().unwrap_or_default();
        list.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let has = |list: &[String], name: &str| list.iter().any(|kept| kept == name);
    let list = kept(&["NET_ADMIN"], &["MKNOD"], false);
    assert!(list.len() == 14 && has(&list, "CAP_NET_ADMIN") && !has(&list, "CAP_MKNOD"));
    assert_eq!(kept(&["chown"], &["all"], false), ["CAP_CHOWN"]);
    assert_eq!(kept(&[], &["ALL"], false).len(), 0);
    let list = kept(&["ALL"], &["SYS_ADMIN"], false);
    assert!(list.len() == 40 && !has(&list, "CAP_SYS_ADMIN"));
    assert_eq!(kept(&[], &["NET_RAW"], true).len(), 41, "as in docker, privileged containers drop nothing");
    let mut stage = with(|request| request.security.add = vec!["SYS_RESOURCE".parse().unwrap()]);
    stage.facts.capabilities &= !(1 << 24);
    assert!(stage.error().starts_with("--cap-add CAP_SYS_RESOURCE: "), "{}", stage.error());
    stage.request.security.add = vec!["ALL".parse().unwrap()];
    assert_eq!(stage.json()["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 40);
}

#[test]
fn a_privileged_container_has_no_walls_of_paths_and_calls() {
    let config = with(|request| request.security.privileged = true).json();
    for gone in ["maskedPaths", "readonlyPaths", "seccomp"] {
        assert!(config["linux"].get(gone).is_none(), "{gone}");
    }
    assert_eq!(config["linux"]["resources"]["devices"], json!([{ "allow": true, "access": "rwm" }]));
    assert_eq!(config["linux"]["devices"].as_array().unwrap().len(), 2);
    let mounts = mounts(&config);
    assert!(mounts.contains(&"/sys sysfs sysfs nosuid,noexec,nodev".to_owned()), "{mounts:?}");
    assert!(mounts.contains(&"/sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev".to_owned()), "{mounts:?}");
}

#[test]
fn security_options_take_effect() {
    let with = |options: &[&str]| {
        with(|request| {
            for option in options {
                request.security.apply(option.parse::<SecurityOption>().unwrap()).unwrap();
            }
        })
    };
    let config =
        with(&["seccomp=unconfined", "no-new-privileges", "systempaths=unconfined", "mask=/srv"]).json();
    assert_eq!(config["linux"]["maskedPaths"], json!(["/srv"]));
    assert!(config["linux"].get("seccomp").is_none() && config["linux"].get("readonlyPaths").is_none());
    assert_eq!(config["process"]["noNewPrivileges"], true);
    let config = with(&["unmask=/proc/acpi:/proc/sys"]).json();
    assert_eq!(config["linux"]["maskedPaths"].as_array().unwrap().len(), 11);
    assert_eq!(config["linux"]["readonlyPaths"].as_array().unwrap().len(), 4);
    assert!(with(&["apparmor=x"]).error().contains("no AppArmor"));
    assert!(with(&["label=type:x_t"]).error().contains("no SELinux"));
    with(&["apparmor=unconfined", "label=disable"]).configured().unwrap();
    let mut labelled = with(&["label=type:x_t"]);
    labelled.facts.selinux = Some(Selinux {
        process: "system_u:system_r:container_t:s0".to_owned(),
        file: "system_u:object_r:container_file_t:s0".to_owned(),
        read: "system_u:object_r:container_ro_file_t:s0".to_owned(),
    });
    labelled.facts.apparmor = AppArmor::Present { profile: Some("default".to_owned()) };
    labelled.request.process.init = true;
    let config = labelled.json();
    let init = "/sbin/docker-init bind /c/files/init bind,ro,rprivate".to_owned();
    assert!(mounts(&config).contains(&init), "the program is the container's own");
    let label = config["process"]["selinuxLabel"].as_str().unwrap();
    let level = label.strip_prefix("system_u:system_r:x_t:").unwrap();
    assert_eq!(config["linux"]["mountLabel"], format!("system_u:object_r:container_file_t:{level}"));
    assert_eq!(config["process"]["apparmorProfile"], "default");
    let labels = labelled.configured().unwrap().labels.unwrap();
    assert_eq!(labels.private, format!("system_u:object_r:container_file_t:{level}"));
    assert_eq!(labels.shared, "system_u:object_r:container_file_t:s0", "all containers may use it");
    assert_eq!(labels.layers, "system_u:object_r:container_ro_file_t:s0");
}

#[test]
fn labels_are_those_of_whom_a_container_shares_with_and_the_host_s_have_none() {
    let label = |edit: &dyn Fn(&mut Stage)| {
        let mut stage = with(|_| {});
        stage.facts.selinux = Some(Selinux {
            process: "system_u:system_r:container_t:s0".to_owned(),
            file: "system_u:object_r:container_file_t:s0".to_owned(),
            read: "system_u:object_r:container_ro_file_t:s0".to_owned(),
        });
        edit(&mut stage);
        let config = stage.json();
        let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        let labels = stage.configured().unwrap().labels.unwrap();
        [text(&config["process"]["selinuxLabel"]), text(&config["linux"]["mountLabel"]), labels.private]
    };
    let none = label(&|stage| stage.request.namespaces.pid = Pid::Host);
    assert_eq!(&none[..2], ["none", "none"]);
    assert!(none[2].starts_with("system_u:object_r:container_file_t:s0:c"), "files have one: {none:?}");
    assert_eq!(label(&|stage| stage.request.namespaces.ipc = Ipc::Host)[0], "none");
    assert_eq!(label(&|stage| stage.request.security.privileged = true)[0], "none");
    let chosen = |stage: &mut Stage| {
        stage.request.security.privileged = true;
        for text in ["label=user:me_u", "label=level:s0:c1,c2"] {
            stage.request.security.apply(text.parse().unwrap()).unwrap();
        }
    };
    let file = "me_u:object_r:container_file_t:s0:c1,c2";
    assert_eq!(label(&chosen), ["me_u:system_r:container_t:s0:c1,c2", file, file], "who names one has it");

    let shares = |stage: &mut Stage| {
        stage.peers.get_mut("db").unwrap().label = Some("you_u:system_r:x_t:s0:c3,c4".to_owned());
        stage.request.namespaces.ipc = Ipc::Container("db".to_owned());
    };
    let file = "you_u:object_r:container_file_t:s0:c3,c4";
    assert_eq!(label(&shares), ["you_u:system_r:x_t:s0:c3,c4", file, file]);
    let differ = |stage: &mut Stage| {
        shares(stage);
        let other =
            Peer { label: Some("you_u:system_r:x_t:s0:c5,c6".to_owned()), ..stage.peers["db"].clone() };
        stage.peers.insert("other".to_owned(), other);
        stage.request.namespaces.pid = Pid::Container("other".to_owned());
    };
    let mut stage = with(|_| {});
    let context = || "a:b:c".to_owned();
    stage.facts.selinux = Some(Selinux { process: context(), file: context(), read: context() });
    differ(&mut stage);
    assert!(stage.error().contains("different SELinux labels"));
}
