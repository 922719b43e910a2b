//! Tables over whole configurations: what was asked for, and what becomes of it.

use bulkhead_shim::users::IdMapping;
use serde_json::{Value, json};

use super::*;
use crate::request::{Capability, Ipc, Limit, Network, Pid, Process, Resources, Security, SecurityOption};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nadm:x:4:www\nwww:x:34:\naudio:x:29:www\n";

/// A host on which everything is there.
pub(super) fn facts() -> Facts {
    let device = |path: &str, kind, major, minor| HostDevice {
        path: path.into(),
        kind,
        major,
        minor,
        mode: 0o660,
        uid: 0,
        gid: 6,
    };
    let zero = device("/dev/zero", DeviceKind::Char, 1, 5);
    let disk = device("/dev/sda", DeviceKind::Block, 8, 0);
    let sound = ["/dev/snd/seq", "/dev/snd/by-path/a"].map(|path| device(path, DeviceKind::Char, 116, 1));
    Facts {
        kernel: (6, 12),
        caller: Caller::Root,
        capabilities: u64::MAX,
        cgroups: Cgroups {
            version: CgroupVersion::V2,
            controllers: ["cpu", "cpuset", "io", "memory", "pids"].map(str::to_owned).into(),
            writable: true,
            systemd: false,
            swap: true,
        },
        cpus: 4,
        apparmor: AppArmor::Absent,
        selinux: None,
        oom_score_adjust: 0,
        open_files: 1 << 20,
        hostname: "host".to_owned(),
        hosts: "127.0.0.1 localhost\n10.0.0.1 host".to_owned(),
        resolv_conf: "# a comment\nnameserver 127.0.0.53\nnameserver 10.0.0.53\nsearch a.example b.example\noptions edns0\n"
            .to_owned(),
        devices: BTreeMap::from([
            ("/dev/zero".into(), vec![zero.clone()]),
            ("/dev/sda".into(), vec![disk.clone()]),
            ("/dev/snd".into(), sound.to_vec()),
        ]),
        cdi: Vec::new(),
        all_devices: vec![zero, disk],
        sources: BTreeMap::from([("/src".into(), HostFile { uid: 1000, gid: 100, is_directory: false })]),
        init: "/usr/bin/bulkmon".into(),
    }
}

/// All that a scene borrows.
pub(super) struct Stage {
    pub(super) request: Request,
    pub(super) defaults: Defaults,
    pub(super) facts: Facts,
    pub(super) users: Option<Users>,
    pub(super) peers: BTreeMap<String, Peer>,
    pub(super) runtime: Runtime,
}

impl Stage {
    pub(super) fn of(request: Request) -> Self {
        let defaults = Defaults {
            cmd: Some(vec!["/bin/true".to_owned()]),
            env: vec!["A=1".to_owned()],
            ..Defaults::default()
        };
        let peer = Peer {
            name: "db".into(),
            files: "/db/files".into(),
            shm: Some("/db/shm".into()),
            users: None,
            label: None,
        };
        let peers = BTreeMap::from([("db".to_owned(), peer)]);
        Self { request, defaults, facts: facts(), users: None, peers, runtime: Runtime::Ours }
    }

    pub(super) fn configured(&self) -> Result<Configured> {
        let mounts = mount_points(&self.request, &self.defaults)?;
        let volumes = mounts.iter().map(|mount| (mount.destination.clone(), PathBuf::from("/volumes/v")));
        let root = RootPlace::Overlay {
            lower: vec!["/layers/b".into(), "/layers/a".into()],
            upper: "/c/upper".into(),
            work: "/c/work".into(),
        };
        configure(&Scene {
            id: ID,
            name: "web",
            request: &self.request,
            defaults: &self.defaults,
            root: &root,
            mounts: &mounts,
            sources: &volumes.collect(),
            files: Path::new("/c/files"),
            secrets: Path::new("/run/c/secrets"),
            users: self.users.as_ref(),
            peers: &self.peers,
            links: Path::new("/run/c"),
            pod: self.is_in_pod().then_some(OfPod {
                id: ID,
                files: Path::new("/pod/files"),
                hostname: "pod",
            }),
            image: ImageFiles { passwd: PASSWD, group: GROUP },
            facts: &self.facts,
            runtime: self.runtime,
        })
    }

    fn is_in_pod(&self) -> bool {
        self.request.namespaces.ipc == Ipc::Pod
    }

    fn json(&self) -> Value {
        serde_json::to_value(self.configured().unwrap().config).unwrap()
    }

    fn error(&self) -> String {
        self.configured().unwrap_err().to_string()
    }

    fn file(&self, name: &str) -> String {
        let files = self.configured().unwrap().files;
        files.into_iter().find(|(other, _)| *other == name).map(|(_, text)| text).unwrap()
    }
}

fn mounts(config: &Value) -> Vec<String> {
    let words = |mount: &Value| {
        let options: Vec<&str> =
            mount["options"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        format!(
            "{} {} {} {}",
            mount["destination"].as_str().unwrap(),
            mount["type"].as_str().unwrap(),
            mount["source"].as_str().unwrap(),
            options.join(",")
        )
    };
    config["mounts"].as_array().unwrap().iter().map(words).collect()
}

fn with(change: impl FnOnce(&mut Request)) -> Stage {
    let mut request = Request::default();
    change(&mut request);
    Stage::of(request)
}

#[test]
fn a_container_without_options_is_docker_s() {
    let config = with(|_| {}).json();
    let process = &config["process"];
    assert_eq!(process["args"], json!(["/bin/true"]));
    assert_eq!(
        process["env"],
        json!([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=0123456789ab",
            "A=1",
            "HOME=/root"
        ])
    );
    assert_eq!(process["user"], json!({ "uid": 0, "gid": 0, "additionalGids": [0] }));
    assert_eq!(process["cwd"], "/");
    assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(config["hostname"], "0123456789ab");
    assert_eq!(config["root"], json!({ "path": "rootfs" }));
    let overlay: Value =
        serde_json::from_str(config["annotations"][OVERLAY_ANNOTATION].as_str().unwrap()).unwrap();
    let expected = json!({ "lower": ["/layers/b", "/layers/a"], "upper": "/c/upper", "work": "/c/work", "idmap": false, "volatile": false });
    assert_eq!(overlay, expected);
    assert_eq!(config["linux"]["cgroupsPath"], format!("/bulkhead/{ID}"));
    assert_eq!(config["linux"]["maskedPaths"].as_array().unwrap().len(), 12);
    assert!(config["linux"]["seccomp"]["syscalls"].is_array());
    let kinds: Vec<&str> = config["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| namespace["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["mount", "network", "uts", "pid", "ipc", "cgroup"]);
    assert_eq!(
        mounts(&config),
        [
            "/proc proc proc nosuid,noexec,nodev",
            "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
            "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            "/sys sysfs sysfs nosuid,noexec,nodev,ro",
            "/sys/fs/cgroup cgroup cgroup ro,nosuid,noexec,nodev",
            "/dev/mqueue mqueue mqueue nosuid,noexec,nodev",
            "/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
            "/etc/resolv.conf bind /c/files/resolv.conf rbind,rprivate",
            "/etc/hostname bind /c/files/hostname rbind,rprivate",
            "/etc/hosts bind /c/files/hosts rbind,rprivate",
        ]
    );
}

#[test]
fn entrypoint_and_command_go_together_as_in_docker() {
    let words =
        |text: Option<&str>| text.map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    for (of_image, command, entrypoint, asked, expected) in [
        (None, Some("c d"), None, "", "c d"),
        (Some("e"), Some("c d"), None, "", "e c d"),
        (Some("e"), Some("c d"), None, "x", "e x"),
        (Some("e"), Some("c d"), Some("n"), "", "n"),
        (Some("e"), Some("c d"), Some("n"), "x", "n x"),
        (Some("e"), Some("c d"), Some(""), "x", "x"),
        (Some("e"), None, None, "", "e"),
    ] {
        let defaults = Defaults { entrypoint: words(of_image), cmd: words(command), ..Defaults::default() };
        let process = Process {
            entrypoint: words(entrypoint),
            command: words(Some(asked)).unwrap(),
            ..Process::default()
        };
        let request = Request { process, ..Request::default() };
        assert_eq!(command_line(&request, &defaults).unwrap().join(" "), expected);
    }
    let nothing = command_line(&Request::default(), &Defaults::default()).unwrap_err().to_string();
    assert_eq!(nothing, "command: the image says nothing to run; name a program behind it");
    let reset = Request {
        process: Process { entrypoint: Some(Vec::new()), ..Process::default() },
        ..Request::default()
    };
    let image = Defaults { cmd: words(Some("c")), ..Defaults::default() };
    assert!(command_line(&reset, &image).is_err(), "an entrypoint takes the image's command away");
}

#[test]
fn later_variables_win_and_names_alone_take_away() {
    let mut stage = with(|request| {
        request.process.environment =
            ["B=3", "A", "PATH=/bin", "HOME=/h"].map(|text| text.parse().unwrap()).into();
        request.process.terminal = true;
    });
    stage.defaults.env = vec!["A=1".to_owned(), "B=2".to_owned()];
    let config = stage.json();
    assert_eq!(
        config["process"]["env"],
        json!(["PATH=/bin", "HOSTNAME=0123456789ab", "TERM=xterm", "B=3", "HOME=/h"])
    );
    assert_eq!(config["process"]["terminal"], true);
}

#[test]
fn users_come_from_the_image() {
    let mut stage = with(|_| {});
    stage.defaults.user = "www".to_owned();
    let user = json!({ "uid": 33, "gid": 34, "additionalGids": [34, 4, 29] });
    assert_eq!(stage.json()["process"]["user"], user);
    stage.request.process.user = Some("33:4".parse().unwrap());
    stage.request.process.groups = vec!["audio".to_owned(), "77".to_owned()];
    assert_eq!(
        stage.json()["process"]["user"],
        json!({ "uid": 33, "gid": 4, "additionalGids": [4, 29, 77] })
    );
    stage.request.process.user = Some("nobody".parse().unwrap());
    assert!(stage.error().contains("no such user"));
}

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

#[test]
fn a_score_below_the_own_one_is_the_own_one() {
    let mut stage = with(|request| request.process.oom_score_adjust = Some(-500));
    assert_eq!(stage.json()["process"]["oomScoreAdj"], -500);
    stage.facts.capabilities = 0x1ff_feff_ffff;
    let configured = stage.configured().unwrap();
    assert_eq!(configured.config.process.unwrap().oom_score_adj, Some(0));
    assert!(configured.warnings[0].contains("CAP_SYS_RESOURCE"), "{:?}", configured.warnings);
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
fn a_stop_has_a_signal_and_patience() {
    let mut request = Request::default();
    let mut image = Defaults::default();
    assert_eq!(stop(&request, &image).unwrap(), bulkhead_shim::order::Stop { signal: 15, grace: 10 });
    (image.stop_signal, image.stop_timeout) = ("SIGQUIT".to_owned(), Some(3));
    assert_eq!(stop(&request, &image).unwrap(), bulkhead_shim::order::Stop { signal: 3, grace: 3 });
    (request.stop_signal, request.stop_timeout) = (Some("INT".parse().unwrap()), Some(Limit::Unlimited));
    assert_eq!(
        stop(&request, &image).unwrap(),
        bulkhead_shim::order::Stop { signal: 2, grace: 3_153_600_000 }
    );
    request.stop_signal = None;
    image.stop_signal = "SIGFOO".to_owned();
    assert!(stop(&request, &image).unwrap_err().to_string().contains("SIGFOO"));
}

#[test]
fn a_health_check_is_the_image_s_unless_another_is_asked_for() {
    let image = |test: &[&str]| Defaults {
        healthcheck: Some(bulkhead_store::Healthcheck {
            test: test.iter().map(|&word| word.to_owned()).collect(),
            interval: 7_000_000_000,
            ..bulkhead_store::Healthcheck::default()
        }),
        ..Defaults::default()
    };
    let decided = |request: &Request, test: &[&str]| health(request, &image(test));
    let none = Request::default();
    assert_eq!(health(&none, &Defaults::default()).unwrap(), None);
    assert_eq!(decided(&none, &["NONE"]).unwrap(), None);
    let check = decided(&none, &["CMD", "curl", "-f"]).unwrap().unwrap();
    assert_eq!(
        (check.command.join(" ").as_str(), check.interval, check.retries),
        ("curl -f", 7_000_000_000, 3)
    );
    assert_eq!(decided(&none, &["CMD-SHELL", "a b"]).unwrap().unwrap().command, ["/bin/sh", "-c", "a b"]);
    assert!(decided(&none, &["RUN", "x"]).is_err());
    let mut request = Request::default();
    request.health.command = "true".parse().unwrap();
    request.health.interval = Some("1s".parse().unwrap());
    request.health.on_failure = Some("restart".parse().unwrap());
    let check = decided(&request, &["CMD", "x"]).unwrap().unwrap();
    assert_eq!(
        (check.command[2].as_str(), check.interval, check.start_interval),
        ("true", 1_000_000_000, 5_000_000_000)
    );
    request.health.interval = Some("1us".parse().unwrap());
    assert!(decided(&request, &[]).unwrap_err().to_string().starts_with("--health-interval 1µs: "));
    request.health.command = "none".parse().unwrap();
    assert!(decided(&request, &[]).unwrap_err().to_string().contains("--health-cmd"));
}
