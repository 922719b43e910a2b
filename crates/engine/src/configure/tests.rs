//! Tables over whole configurations: what was asked for, and what becomes of it.

mod life;
mod limits;
mod mounts;
mod process;
mod refused;
mod security;
mod sharing;
mod users;

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
        cpuset: Cpuset { cpus: "0-2,7".to_owned(), mems: String::new() },
        user: Some("me".to_owned()),
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
            hostname: "db-host".into(),
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
            wiring: &Wiring::default(),
            pod: self.is_in_pod().then_some(OfPod {
                id: ID,
                files: Path::new("/pod/files"),
                hostname: "pod",
                carrier: None,
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
