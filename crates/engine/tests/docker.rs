//! Compares what `configure` decides with what docker asks of its runtime for the same flags.
//!
//! docker's runtime is a script here that keeps `config.json` and fails. What differs on purpose is taken out of both sides by
//! [`without_differences`], whose lines are the list in docs/engine.md, "What docker's configuration has otherwise".
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bulkhead_engine::configure::{
    AppArmor, Caller, CgroupVersion, Cgroups, Cpuset, DeviceKind, Facts, HostDevice, ImageFiles, RootPlace,
    Runtime, Scene, Wiring, configure, merged, mount_points,
};
use bulkhead_engine::request::{HealthCommand, Limit, Mount, Request, SecurityOption, Size};
use bulkhead_store::Defaults;
use bulkhead_testkit::{Docker, Init, Machine, Sandbox, cached, is_root, skip};
use serde_json::{Value, json};

/// Keeps the configuration of a container that is to be created.
const RUNTIME: &str = r#"#!/bin/sh
bundle=. verb= next=
for word; do
    if [ "$next" ]; then bundle=$word next=; continue; fi
    case $word in --bundle) next=1 ;; create | features) verb=$word ;; esac
done
case $verb in
create) cp "$bundle/config.json" /run/shared/config.json ;;
features) echo '{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0","mountOptions":["rro"]}'; exit 0 ;;
esac
exit 1
"#;

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n";
const GROUP: &str = "root:x:0:\nadm:x:4:www\nwww:x:34:\naudio:x:29:www\n";
const IMAGE: &str = "docker import -c 'ENV A=1' -c 'CMD [\"/bin/true\"]' - img";

/// An image that says everything that one can say.
const FULL: &str = r#"docker import -c 'USER www' -c 'EXPOSE 80 53/udp' -c 'ENV A=1' -c 'ENV B=2' \
    -c 'ENTRYPOINT ["/bin/sh", "-e"]' -c 'CMD ["-c", "true"]' -c 'VOLUME /data' -c 'WORKDIR /w' -c 'LABEL a=1 b=2' \
    -c 'STOPSIGNAL SIGQUIT' -c 'HEALTHCHECK --interval=7s --retries=2 CMD true' - full"#;

/// Flags and words behind the image, and the same as a request.
type Over = (&'static str, &'static [&'static str], fn(&mut Request));

/// What becomes of [`FULL`].
const OVER_IMAGE: &[Over] = &[
    ("", &[], |_| {}),
    ("-e B=9 -e C=3 -e A", &["x", "y"], |r| {
        r.process.environment = ["B=9", "C=3", "A"].map(|text| text.parse().unwrap()).into();
    }),
    ("--entrypoint /own", &[], |r| r.process.entrypoint = Some(vec!["/own".to_owned()])),
    ("--entrypoint ''", &["z"], |r| r.process.entrypoint = Some(Vec::new())),
    ("-u 0:0 -w /v -l b=3 -l c --stop-signal SIGTERM --stop-timeout 3", &[], |r| {
        r.process.user = Some("0:0".parse().unwrap());
        r.process.directory = Some("/v".to_owned());
        r.labels = BTreeMap::from([("b".to_owned(), "3".to_owned()), ("c".to_owned(), String::new())]);
        r.stop_signal = Some("SIGTERM".parse().unwrap());
        r.stop_timeout = Some(Limit::At(3));
    }),
    ("-v /more -v vol:/n -v /tmp/root:/h", &[], |r| {
        let volumes = ["/more", "vol:/n", "/tmp/root:/h"];
        r.mounts = volumes.map(|text| Mount::from_volume(text).unwrap()).into();
    }),
    ("--no-healthcheck", &[], |r| r.health.command = HealthCommand::None),
    ("--health-cmd 'a b' --health-retries 4 --health-timeout 3s", &[], |r| {
        r.health.command = HealthCommand::Shell("a b".to_owned());
        r.health.retries = Some(4);
        r.health.timeout = Some("3s".parse().unwrap());
    }),
];

/// Flags of docker's, and the same as a request.
type Case = (&'static str, fn(&mut Request));

const CASES: &[Case] = &[
    ("", |_| {}),
    ("-i -t", |r| (r.process.stdin, r.process.terminal) = (true, true)),
    ("-u www", |r| r.process.user = Some("www".parse().unwrap())),
    ("-u 33:4 --group-add audio --group-add 77", |r| {
        r.process.user = Some("33:4".parse().unwrap());
        r.process.groups = vec!["audio".to_owned(), "77".to_owned()];
    }),
    ("--cap-add NET_ADMIN --cap-drop MKNOD", |r| {
        r.security.add = vec!["NET_ADMIN".parse().unwrap()];
        r.security.drop = vec!["MKNOD".parse().unwrap()];
    }),
    ("--cap-add ALL --cap-drop SYS_ADMIN", |r| {
        r.security.add = vec!["ALL".parse().unwrap()];
        r.security.drop = vec!["SYS_ADMIN".parse().unwrap()];
    }),
    ("--cap-drop ALL --cap-add CHOWN", |r| {
        r.security.add = vec!["CHOWN".parse().unwrap()];
        r.security.drop = vec!["ALL".parse().unwrap()];
    }),
    ("--privileged", |r| r.security.privileged = true),
    ("--privileged --cap-drop NET_RAW -u www --read-only", |r| {
        (r.security.privileged, r.read_only) = (true, true);
        r.security.drop = vec!["NET_RAW".parse().unwrap()];
        r.process.user = Some("www".parse().unwrap());
    }),
    ("--read-only --tmpfs /run --tmpfs /tmp:size=64m,exec", |r| {
        r.read_only = true;
        r.mounts = ["/run", "/tmp:size=64m,exec"].map(|text| Mount::from_tmpfs(text).unwrap()).into();
    }),
    (
        "--cpus 1.5 --cpu-shares 512 -m 256m --memory-reservation 128m --pids-limit 50 --cpuset-cpus 0 \
         --oom-score-adj 500 --shm-size 32m --ulimit nofile=100:200 --ulimit core=-1",
        |r| {
            let resources = &mut r.resources;
            resources.cpus = Some("1.5".parse().unwrap());
            resources.cpu_shares = Some(512);
            resources.memory = Some("256m".parse().unwrap());
            resources.memory_reservation = Some("128m".parse().unwrap());
            resources.pids = Some(Limit::At(50));
            resources.cpuset_cpus = Some("0".to_owned());
            resources.shm_size = Some("32m".parse().unwrap());
            r.process.oom_score_adjust = Some(500);
            r.process.ulimits = ["nofile=100:200", "core=-1"].map(|text| text.parse().unwrap()).into();
        },
    ),
    ("-m 256m --memory-swappiness 10 --oom-kill-disable", |r| {
        r.resources.memory = Some("256m".parse().unwrap());
        r.resources.memory_swappiness = Some(10);
        r.resources.oom_kill_disable = true;
    }),
    ("--device /dev/zero:/dev/zzz:r", |r| r.devices.add("/dev/zero:/dev/zzz:r".parse().unwrap())),
    (
        "-v /tmp/root:/a -v /tmp/root:/b:ro -v /tmp/root:/c:rslave -v vol:/d -v /tmp/root:/a/deep \
         --mount type=bind,src=/tmp/root,dst=/e,ro,bind-recursive=writable --mount type=tmpfs,dst=/f,tmpfs-mode=700",
        |r| {
            let volumes =
                ["/tmp/root:/a", "/tmp/root:/b:ro", "/tmp/root:/c:rslave", "vol:/d", "/tmp/root:/a/deep"];
            r.mounts = volumes.map(|text| Mount::from_volume(text).unwrap()).into();
            let e = "type=bind,src=/tmp/root,dst=/e,ro,bind-recursive=writable";
            r.mounts.push(Mount::from_mount(e).unwrap());
            r.mounts.push(Mount::from_mount("type=tmpfs,dst=/f,tmpfs-mode=700").unwrap());
        },
    ),
    ("-v /tmp/root:/dev/shm -v /tmp/root:/dev", |r| {
        r.mounts =
            ["/tmp/root:/dev/shm", "/tmp/root:/dev"].map(|text| Mount::from_volume(text).unwrap()).into();
    }),
    ("--network host --ipc host --pid host --uts host", |r| {
        let asked = &mut r.namespaces;
        (asked.network, asked.ipc, asked.pid, asked.uts) = (
            "host".parse().unwrap(),
            "host".parse().unwrap(),
            "host".parse().unwrap(),
            "host".parse().unwrap(),
        );
    }),
    ("--hostname box --domainname example.org --ipc none", |r| {
        r.hostname = Some("box".to_owned());
        r.domainname = Some("example.org".to_owned());
        r.namespaces.ipc = "none".parse().unwrap();
    }),
    (
        "--security-opt seccomp=unconfined --security-opt no-new-privileges --security-opt systempaths=unconfined",
        |r| {
            for option in ["seccomp=unconfined", "no-new-privileges", "systempaths=unconfined"] {
                r.security.apply(option.parse::<SecurityOption>().unwrap()).unwrap();
            }
        },
    ),
    ("--sysctl net.core.somaxconn=5 --sysctl kernel.msgmax=1", |r| {
        r.sysctls = BTreeMap::from([
            ("net.core.somaxconn".to_owned(), "5".to_owned()),
            ("kernel.msgmax".to_owned(), "1".to_owned()),
        ]);
    }),
    ("--entrypoint /bin/sh -w /w -e B=2 -e A --annotation a.b=c", |r| {
        r.process.entrypoint = Some(vec!["/bin/sh".to_owned()]);
        r.process.directory = Some("/w".to_owned());
        r.process.environment = vec!["B=2".parse().unwrap(), "A".parse().unwrap()];
        r.annotations.insert("a.b".to_owned(), "c".to_owned());
    }),
];

#[test]
fn docker_asks_the_same_of_its_runtime() {
    if !is_root() {
        skip!("needs root");
    }
    let Some(tree) = cached("engines/newest") else {
        skip!("no engines in the cache: `cargo xtask engines` brings them");
    };
    let scratch = std::env::temp_dir().join(format!("bulkhead-configure-{}", std::process::id()));
    fs::create_dir(&scratch).unwrap();
    let program = scratch.join("runtime");
    fs::write(&program, RUNTIME).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = Sandbox::new(&program);
    let machine = sandbox.boot(&tree, Init::Own);
    let docker = Docker::start(&machine);
    make_image(&machine);
    let mut wrong = Vec::new();
    for (flags, ask) in CASES {
        let theirs = asked_by_docker(&machine, flags);
        let mut request = Request::default();
        request.process.command = vec!["a".to_owned(), "b".to_owned()];
        ask(&mut request);
        let ours = decided(&request, theirs["process"]["env"].as_array().unwrap());
        compare(
            &mut wrong,
            flags,
            "",
            &without_differences(theirs, flags),
            &without_differences(ours, flags),
        );
    }
    told_by_docker(&machine, &mut wrong);
    drop(docker);
    drop(machine);
    fs::remove_dir_all(&scratch).unwrap();
    assert!(wrong.is_empty(), "docker's and ours:\n{}", wrong.join("\n"));
}

/// Makes an image.
fn make_image(machine: &Machine<'_>) {
    fs::write(machine.shared().join("passwd"), PASSWD).unwrap();
    fs::write(machine.shared().join("group"), GROUP).unwrap();
    let make = "mkdir -p /tmp/root/etc && cp /run/shared/passwd /run/shared/group /tmp/root/etc";
    machine.script(&format!("{make} && tar -C /tmp/root -c . | {IMAGE}")).output().succeeds();
}

/// Compares what `inspect` tells of a container's configuration, in which image and request are joined.
fn told_by_docker(machine: &Machine<'_>, wrong: &mut Vec<String>) {
    machine.script(&format!("tar -C /tmp/root -c . | {FULL}")).output().succeeds();
    let json = |script: &str| {
        let said = machine.script(script).output().succeeds().stdout;
        serde_json::from_str::<Value>(&said).unwrap_or_else(|error| panic!("{script}: {error} in {said}"))
    };
    let image: Defaults =
        serde_json::from_value(json("docker image inspect -f '{{json .Config}}' full")).unwrap();
    assert_eq!(image.working_dir, "/w", "{image:?}");
    for (flags, words, ask) in OVER_IMAGE {
        let words = words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let make = format!("docker create --network none {flags} full {}", words.join(" "));
        let theirs = json(&format!("docker inspect -f '{{{{json .Config}}}}' $({make})"));
        let mut request = Request::default();
        request.process.command = words;
        ask(&mut request);
        let ours = serde_json::to_value(merged(&request, &image)).unwrap();
        compare(wrong, &make, "inspect", &said_of_image(&theirs), &said_of_image(&ours));
    }
}

/// What an image can say of a container, without what is said of nothing.
fn said_of_image(config: &Value) -> Value {
    let names = [
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Healthcheck",
        "Shell",
        "OnBuild",
    ];
    let is_something =
        |value: &Value| ![Value::Null, json!(""), json!([]), json!({}), json!(0)].contains(value);
    let mut kept = serde_json::Map::new();
    for name in names {
        let mut value = config[name].clone();
        if let Value::Object(fields) = &mut value {
            fields.retain(|_, field| name != "Healthcheck" || is_something(field));
        }
        if let ("Env", Value::Array(variables)) = (name, &mut value) {
            // docker's are in another order now and then.
            variables.sort_by_key(Value::to_string);
        }
        if is_something(&value) {
            kept.insert(name.to_owned(), value);
        }
    }
    Value::Object(kept)
}

fn asked_by_docker(machine: &Machine<'_>, flags: &str) -> Value {
    let kept = machine.shared().join("config.json");
    let _ = fs::remove_file(&kept);
    // A network of docker's would add its own parameters and files.
    let network = if flags.contains("--network") { "" } else { "--network none" };
    let run = machine.script(&format!("docker run -d --rm {network} {flags} img a b")).output();
    let text = fs::read(&kept)
        .unwrap_or_else(|_| panic!("docker {flags} should come to its runtime\n{}", run.stderr));
    serde_json::from_slice(&text).unwrap()
}

/// What we decide on this machine; the host's name, which docker's container sees, is that of the machine it runs on.
fn decided(request: &Request, env_of_docker: &[Value]) -> Value {
    let name = env_of_docker
        .iter()
        .find_map(|variable| variable.as_str().unwrap().strip_prefix("HOSTNAME="))
        .unwrap();
    let defaults = Defaults {
        cmd: Some(vec!["/bin/true".to_owned()]),
        env: vec!["A=1".to_owned()],
        ..Defaults::default()
    };
    let mounts = mount_points(request, &defaults).unwrap();
    let sources = mounts.iter().map(|mount| (mount.destination.clone(), PathBuf::from("/volume"))).collect();
    let facts = facts(name);
    let scene = Scene {
        id: &format!("{name:0<64}"),
        name: "web",
        request,
        defaults: &defaults,
        root: &RootPlace::Directory("/root-of-it".into()),
        mounts: &mounts,
        sources: &sources,
        files: Path::new("/files"),
        secrets: Path::new("/secrets"),
        users: None,
        peers: &BTreeMap::new(),
        links: Path::new(""),
        pod: None,
        wiring: &Wiring::default(),
        image: ImageFiles { passwd: PASSWD.as_bytes(), group: GROUP.as_bytes() },
        facts: &facts,
        runtime: Runtime::Foreign,
    };
    serde_json::to_value(configure(&scene).unwrap().config).unwrap()
}

fn facts(hostname: &str) -> Facts {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    let zero = HostDevice {
        path: "/dev/zero".into(),
        kind: DeviceKind::Char,
        major: 1,
        minor: 5,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    Facts {
        kernel: (6, 1),
        caller: Caller::Root,
        capabilities: u64::from_str_radix(bounding, 16).unwrap(),
        cgroups: Cgroups {
            version: CgroupVersion::V1,
            controllers: ["cpu", "cpuset", "io", "memory", "pids"].map(str::to_owned).into(),
            writable: true,
            systemd: false,
            swap: true,
        },
        cpus: 2,
        cpuset: Cpuset::default(),
        user: None,
        apparmor: AppArmor::Absent,
        selinux: None,
        oom_score_adjust: 0,
        open_files: 1 << 20,
        hostname: hostname.to_owned(),
        hosts: String::new(),
        resolv_conf: String::new(),
        devices: BTreeMap::from([("/dev/zero".into(), vec![zero])]),
        cdi: Vec::new(),
        all_devices: Vec::new(),
        sources: BTreeMap::new(),
        init: "/init".into(),
    }
}

/// Takes out what differs on purpose, and the order of what has none. Each step is a line of docs/engine.md.
fn without_differences(mut config: Value, flags: &str) -> Value {
    // Where things are on the host, and the version of the specification.
    config.as_object_mut().unwrap().retain(|key, _| key != "ociVersion");
    config["root"].as_object_mut().unwrap().remove("path");
    config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    // HOME is docker's runtime's to find.
    let environment = config["process"]["env"].as_array_mut().unwrap();
    environment.retain(|variable| !variable.as_str().unwrap().starts_with("HOME="));
    // The limit of open files is that of docker's daemon.
    let process = config["process"].as_object_mut().unwrap();
    if !flags.contains("--ulimit") {
        process.remove("rlimits");
    }
    // What is as for every process of the host is left out.
    process.retain(|key, value| key != "oomScoreAdj" || *value != json!(0));
    process.retain(|key, _| key != "consoleSize");
    // With cgroup v1 docker's containers see the host's cgroups.
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    // Docker's runtime adds rules for the nodes that every container has, and docker forbids /dev/fuse, which nothing allows.
    let resources = config["linux"]["resources"].as_object_mut().unwrap();
    resources.remove("devices");
    resources.retain(|_, value| *value != json!({}));
    if let Some(memory) = resources.get_mut("memory") {
        memory.as_object_mut().unwrap().retain(|_, value| *value != json!(false));
    }
    resources.retain(|_, value| *value != json!({}));
    // The host's nodes are the test's own choice here.
    if flags.contains("--privileged") {
        config["linux"].as_object_mut().unwrap().remove("devices");
    }
    // Its allowed calls are compared by name: conditions differ in the families of sockets (crates/seccomp/src/default.rs).
    if let Some(filter) = config["linux"].get_mut("seccomp") {
        let rules = filter["syscalls"].as_array().unwrap().iter();
        let allowed = rules.filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
        let names = allowed.flat_map(|rule| rule["names"].as_array().unwrap().iter());
        let names: BTreeSet<&str> = names.map(|name| name.as_str().unwrap()).collect();
        *filter = json!({ "default": filter["defaultAction"], "allowed": names });
    }
    let mounts = config["mounts"].as_array().unwrap().iter().map(|mount| {
        let mut options: Vec<String> = mount["options"]
            .as_array()
            .unwrap()
            .iter()
            .map(|option| option.as_str().unwrap().to_owned())
            .collect();
        // Docker leaves the propagation of volumes and of mounts below slaves to the root's, which is private, too.
        options.retain(|option| option != "rprivate");
        // Below a file there is nothing, and crun before 1.9 refuses `rro` for one.
        let is_file = mount["destination"].as_str().unwrap().starts_with("/etc/");
        // The size of a tmpfs is passed on as it was typed.
        for option in &mut options {
            if is_file && option == "rro" {
                *option = "ro".to_owned();
            }
            if let Some(size) = option.strip_prefix("size=") {
                *option = format!("size={}", size.parse::<Size>().unwrap().0);
            }
        }
        options.sort();
        (mount["destination"].as_str().unwrap().to_owned(), json!([mount["type"], options]))
    });
    config["mounts"] = json!(mounts.collect::<BTreeMap<String, Value>>());
    for list in ["maskedPaths", "readonlyPaths"] {
        if let Some(Value::Array(paths)) = config["linux"].get_mut(list) {
            paths.sort_by_key(|path| path.as_str().unwrap().to_owned());
        }
    }
    if let Some(Value::Array(groups)) = config["process"]["user"].get_mut("additionalGids") {
        groups.sort_by_key(Value::as_u64);
    }
    for set in ["bounding", "effective", "permitted"] {
        if let Some(Value::Array(names)) = config["process"]["capabilities"].get_mut(set) {
            names.sort_by_key(|name| name.as_str().unwrap().to_owned());
        }
    }
    config
}

/// Says where two values differ.
fn compare(wrong: &mut Vec<String>, flags: &str, place: &str, theirs: &Value, ours: &Value) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                compare(wrong, flags, &format!("{place}/{key}"), a, b);
            }
        }
        (Value::Array(a), Value::Array(b)) if a != b => {
            let only = |a: &[Value], b: &[Value]| {
                json!(a.iter().filter(|value| !b.contains(value)).collect::<Vec<_>>()).to_string()
            };
            wrong.push(format!("[{flags}] {place}: docker alone {}, we alone {}", only(a, b), only(b, a)));
        }
        _ if theirs != ours => wrong.push(format!("[{flags}] {place}: {theirs} and {ours}")),
        _ => {}
    }
}
