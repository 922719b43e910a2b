//! containerd with `bulkrun` behind its shim for runc: its own client, and the Container Runtime Interface that
//! Kubernetes speaks.

use std::fs;

use bulkhead_testkit::{Init, Machine, Run, Running};

use crate::cri::{self, Container, Cri, EXITED, LOG, RUNNING, Ran};
use crate::image::{self, ARCHIVE, BUSYBOX};
use crate::limits::{self, limit};
use crate::ours::Ours;
use crate::streaming::Streams;
use crate::{Ground, Suite, eventually, under_systemd, with_each_suite};

/// Before version 2 the plugin of CRI had another name. `restrict_oom_score_adj` is for a machine on which nobody may
/// lower the score.
const CONFIGURATION_OF_1: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "docker.io/library/pause:latest"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "bulkrun"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bulkrun]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bulkrun.options]
BinaryName = "/opt/bulkrun"
"#;

const CONFIGURATION_OF_2: &str = r#"
version = 3
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "docker.io/library/pause:latest"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "bulkrun"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.bulkrun]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.bulkrun.options]
BinaryName = "/opt/bulkrun"
"#;

const NETWORK: &str = r#"{
    "cniVersion": "0.4.0", "name": "pods", "plugins": [{
        "type": "bridge", "bridge": "pods0", "isGateway": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/16" }]] }
    }]
}"#;

with_each_suite!(
    a_container_lives_from_run_to_rm,
    options_of_run_take_effect,
    a_pod_and_its_containers_live,
    streams_of_a_container_are_carried,
    limits_are_in_force_and_can_change,
    a_container_that_takes_too_much_memory_is_reported_as_that,
);

under_systemd!(
    a_container_lives_from_run_to_rm,
    a_pod_and_its_containers_live,
    limits_are_in_force_and_can_change,
    a_container_that_takes_too_much_memory_is_reported_as_that,
);

/// The daemon on a machine, with images.
struct Containerd<'m> {
    machine: &'m Machine<'m>,
    /// Ends with the machine.
    daemon: Running,
}

impl<'m> Containerd<'m> {
    #[track_caller]
    fn set_up(&Ground { suite, sandbox, machine }: &Ground<'m>) -> Self {
        image::archive(sandbox, machine);
        let configuration = match suite {
            Suite::Release => CONFIGURATION_OF_1.replacen(
                "version = 2",
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"",
                1,
            ),
            Suite::Newest => CONFIGURATION_OF_2.to_owned(),
        };
        let configuration = match machine.init() {
            Init::Own => configuration,
            Init::Systemd => configuration + "SystemdCgroup = true\n",
        };
        fs::write(machine.shared().join("config.toml"), configuration).unwrap();
        fs::write(machine.shared().join("pods.conflist"), NETWORK).unwrap();
        let script = "mkdir -p /etc/containerd /etc/cni/net.d /run/shared/logs
            cp /run/shared/config.toml /etc/containerd/; cp /run/shared/pods.conflist /etc/cni/net.d/";
        machine.script(script).output().succeeds();
        let start = format!("exec containerd 2>{LOG}");
        let containerd = Self { machine, daemon: machine.script(&start).spawn() };
        eventually("the daemon answers", || {
            assert!(!containerd.daemon.has_ended(), "containerd should run\n{}", cri::last_words(machine));
            containerd.ctr(&["version"]).output().code() == 0
        });
        for namespace in ["default", "k8s.io"] {
            containerd.call(&["--namespace", namespace, "image", "import", ARCHIVE]);
        }
        containerd
    }

    fn ctr(&self, arguments: &[&str]) -> Run {
        self.machine.command("ctr").args(arguments)
    }

    /// Runs the client and returns what it prints.
    #[track_caller]
    fn call(&self, arguments: &[&str]) -> String {
        self.ctr(arguments).output().succeeds().stdout
    }

    /// Puts a container of busybox together.
    fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Run {
        let path = format!("--cgroup=system.slice:ctr:{id}");
        let systemd = match self.machine.init() {
            Init::Own => &[][..],
            Init::Systemd => &["--runc-systemd-cgroup", &path],
        };
        let runtime = ["run", "--runc-binary", "/opt/bulkrun"];
        self.ctr(&[&runtime, systemd, options, &[BUSYBOX, id], command].concat())
    }

    fn ours(&self, namespace: &str) -> Ours<'_> {
        let root = if namespace == "default" {
            "/run/containerd/runc/default"
        } else {
            "/run/containerd/runc/k8s.io"
        };
        Ours { machine: self.machine, root, monitor: "containerd-shim" }
    }

    /// The service of Kubernetes, and the containers that it makes.
    fn kubernetes(&self) -> (Cri<'_>, Ours<'_>) {
        (Cri::of(self.machine), self.ours("k8s.io"))
    }

    /// Kills a container's process and removes it.
    #[track_caller]
    fn end(&self, id: &str) {
        self.call(&["task", "kill", "--signal", "SIGKILL", id]);
        eventually("it has stopped", || self.task(id).is_some_and(|(_, status)| status == "STOPPED"));
        // It prints a warning about the exit code, and succeeds or not by version.
        self.ctr(&["task", "rm", id]).output();
    }

    /// A container's process and status, of which `ctr` prints a table.
    #[track_caller]
    fn task(&self, id: &str) -> Option<(u64, String)> {
        let tasks = self.call(&["task", "list"]);
        let rows = tasks.lines().map(|line| Vec::from_iter(line.split_whitespace()));
        let row = rows.into_iter().find(|row| row[0] == id)?;
        Some((row[1].parse().unwrap(), row[2].to_owned()))
    }
}

fn a_container_lives_from_run_to_rm(ground: &Ground<'_>) {
    let containerd = Containerd::set_up(ground);
    let ours = containerd.ours("default");
    containerd
        .run(&["--rm"], "short", &["sh", "-c", "echo hello; exit 3"])
        .output()
        .exits_with(3)
        .prints("hello\n");
    containerd.run(&["--detach"], "life", &["sleep", "1000"]).output().succeeds();
    let (pid, status) = containerd.task("life").unwrap();
    assert_eq!(status, "RUNNING");
    ours.runs("life", pid);

    let exec =
        containerd.ctr(&["task", "exec", "--exec-id", "one", "life", "sh", "-c", "cat /proc/1/comm; exit 4"]);
    exec.output().exits_with(4).prints("sleep\n");
    assert!(containerd.call(&["task", "ps", "life"]).contains(&pid.to_string()));
    let metrics = containerd.call(&["task", "metrics", "life"]);
    assert!(metrics.contains("pids.current"), "{metrics}");
    containerd.call(&["task", "pause", "life"]);
    assert_eq!(
        (containerd.task("life").unwrap().1, ours.status("life")),
        ("PAUSED".to_owned(), "paused".to_owned())
    );
    containerd.call(&["task", "resume", "life"]);
    assert_eq!(
        (containerd.task("life").unwrap().1, ours.status("life")),
        ("RUNNING".to_owned(), "running".to_owned())
    );
    containerd.end("life");
    containerd.call(&["container", "rm", "life"]);
    assert_eq!(containerd.task("life"), None);
    ours.has_none();
}

fn options_of_run_take_effect(ground: &Ground<'_>) {
    let containerd = Containerd::set_up(ground);
    let options = [
        "--detach",
        "--env=A=b",
        "--cwd=/tmp",
        "--cap-add=CAP_NET_ADMIN",
        "--seccomp",
        "--read-only",
        "--net-host",
        "--memory-limit=33554432",
        "--cpus=0.5",
        "--mount=type=bind,src=/run/shared,dst=/mnt,options=rbind:ro",
    ];
    let script = "{ id -u; echo $A; pwd; touch /file || echo refused; sed -n 's/^Seccomp:\\t//p' /proc/self/status; readlink /proc/self/ns/net; ls /mnt; } 2>/dev/null; sleep 1000";
    let log = containerd.machine.shared().join("output");
    let uri = "--log-uri=file:///run/shared/output";
    containerd.run(&[&options[..], &[uri]].concat(), "options", &["sh", "-c", script]).output().succeeds();
    let (pid, _) = containerd.task("options").unwrap();
    containerd.ours("default").runs("options", pid);
    eventually("it has spoken", || fs::read_to_string(&log).is_ok_and(|text| text.contains("output")));
    let said = fs::read_to_string(&log).unwrap();
    let network = containerd.machine.script("readlink /proc/self/ns/net").output().succeeds().stdout;
    assert!(said.starts_with(&format!("0\nb\n/tmp\nrefused\n2\n{network}")), "{said}");
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432")),
        limit("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
    ];
    limits::hold(containerd.machine, pid, &limits);
    containerd.end("options");
    containerd.ours("default").has_none();
}

fn a_pod_and_its_containers_live(ground: &Ground<'_>) {
    let containerd = Containerd::set_up(ground);
    let (cri, ours) = containerd.kubernetes();
    let pod = cri.run_pod();
    assert_eq!(ours.status(&pod.id), "running", "what holds the pod's namespaces is a container, too");
    let script = "echo out; echo err >&2; trap 'exit 7' TERM; while :; do sleep 0.1; done";
    let first =
        cri.start(&pod, &Container { name: "first", command: &["sh", "-c", script], ..Container::default() });
    let server = ["httpd", "-f", "-p", "80", "-h", "/etc"];
    let container = Container { name: "second", command: &server, read_only: true, ..Container::default() };
    let second = cri.start(&pod, &container);
    for id in [&first, &second] {
        let status = cri.status(id);
        assert_eq!(status.state, RUNNING);
        ours.runs(id, status.pid);
    }

    let script = "hostname; echo $A; wget -q -O - http://127.0.0.1/passwd | head -n 1; cat /proc/sys/net/ipv4/ip_forward";
    let output = "house\nb\nroot:x:0:0:root:/root:/bin/sh\n1\n".to_owned();
    let ran = cri.exec(&first, &["sh", "-c", script]);
    assert_eq!(ran, Ran { output, errors: String::new(), exit_code: 0 }, "they share the pod's network");
    let ran = cri.exec(&second, &["sh", "-c", "echo no >&2; exit 5"]);
    assert_eq!(ran, Ran { output: String::new(), errors: "no\n".to_owned(), exit_code: 5 });
    let url = format!("http://{}/passwd", cri.address(&pod));
    let page =
        containerd.machine.command("busybox").args(["wget", "-q", "-O", "-", &url]).output().succeeds();
    assert!(page.stdout.starts_with("root:"), "the pod has an address: {page}");
    let user = Container {
        name: "third",
        command: &["sleep", "1000"],
        user: 1000,
        privileged: true,
        ..Container::default()
    };
    let third = cri.start(&pod, &user);
    assert_eq!(cri.exec(&third, &["sh", "-c", "id -u; ls /dev/kmsg"]).output, "1000\n/dev/kmsg\n");

    let log = fs::read_to_string(containerd.machine.shared().join("logs/first.log")).unwrap();
    let said =
        |stream: &str, text: &str| log.lines().any(|line| line.ends_with(&format!(" {stream} F {text}")));
    assert!(said("stdout", "out") && said("stderr", "err"), "{log}");
    let (memory, time) = cri.statistics(&first);
    assert!(memory > 0 && time > 0, "{memory} bytes, {time} ns");

    cri.stop(&first, 30);
    let status = cri.status(&first);
    assert_eq!((status.state, status.exit_code, status.reason.as_str()), (EXITED, 7, "Error"));
    cri.stop(&second, 0);
    assert_eq!(cri.status(&second).exit_code, 137);
    cri.remove(&first);
    cri.remove(&second);
    cri.remove_pod(&pod);
    ours.has_none();
}

fn streams_of_a_container_are_carried(ground: &Ground<'_>) {
    let containerd = Containerd::set_up(ground);
    let (cri, ours) = containerd.kubernetes();
    let pod = cri.run_pod();
    let id = cri
        .start(&pod, &Container { name: "shell", command: &["sh"], terminal: true, ..Container::default() });
    ours.runs(&id, cri.status(&id).pid);

    let mut streams = Streams::open(
        containerd.machine,
        &cri.exec_streams(&id, &["sh", "-c", "read x; echo $x; echo e >&2; exit 6"], false),
    );
    streams.type_in("heard\n");
    streams.end();
    assert_eq!((streams.output.as_str(), streams.errors.as_str()), ("heard\n", "e\n"));
    assert!(streams.status.contains("\"message\":\"6\""), "the exit code is told: {}", streams.status);

    let mut streams = Streams::open(containerd.machine, &cri.exec_streams(&id, &["sh"], true));
    streams.resize(33, 66);
    streams.type_in("until stty size | grep -qx '33 66'; do sleep 0.1; done; tty; stty size; exit\n");
    streams.shows("/dev/pts/1\r\n33 66\r\n");
    streams.end();

    let mut streams = Streams::open(containerd.machine, &cri.attach(&id));
    streams.type_in("tty; echo at $((40 + 2)); exit 3\n");
    streams.shows("/dev/pts/0\r\nat 42\r\n");
    streams.end();
    eventually("it has ended", || cri.status(&id).state == EXITED);
    assert_eq!(cri.status(&id).exit_code, 3);
    cri.remove_pod(&pod);
    ours.has_none();
}

fn limits_are_in_force_and_can_change(ground: &Ground<'_>) {
    let containerd = Containerd::set_up(ground);
    let (cri, ours) = containerd.kubernetes();
    let pod = cri.run_pod();
    let command = ["sleep", "1000"];
    let container = Container {
        name: "limited",
        command: &command,
        memory: 64 << 20,
        quota: 50_000,
        ..Container::default()
    };
    let id = cri.start(&pod, &container);
    let pid = cri.status(&id).pid;
    ours.runs(&id, pid);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
        limit("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
    ];
    limits::hold(containerd.machine, pid, &limits);
    cri.update(&id, 80 << 20, 70_000);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "83886080"), ("memory.max", "83886080")),
        limit("cpu", ("cpu.cfs_quota_us", "70000"), ("cpu.max", "70000 100000")),
    ];
    limits::hold(containerd.machine, pid, &limits);
    let expected = match containerd.machine.init() {
        Init::Own => format!("pods/pod/{id}"),
        Init::Systemd => format!("system.slice/cri-containerd-{id}.scope"),
    };
    assert!(
        containerd.machine.cgroups().iter().any(|path| path.ends_with(&expected)),
        "{expected} is its cgroup"
    );
    cri.remove_pod(&pod);
    ours.has_none();
}

fn a_container_that_takes_too_much_memory_is_reported_as_that(ground: &Ground<'_>) {
    let containerd = Containerd::set_up(ground);
    let (cri, ours) = containerd.kubernetes();
    let pod = cri.run_pod();
    let wait = "until test -e /tmp/go; do sleep 0.1; done";
    let hog = "dd if=/dev/zero of=/dev/null bs=128M";
    let script = match containerd.machine.init() {
        Init::Own => format!("{wait}; exec {hog}"),
        // Somebody outlives it, so that the scope does (see `engine::is_killed_for_its_memory`).
        Init::Systemd => format!("{wait}; {hog}; code=$?; sleep 5; exit $code"),
    };
    let command = ["sh", "-c", &script];
    let hog = Container { name: "hog", command: &command, memory: 32 << 20, ..Container::default() };
    let id = cri.start(&pod, &hog);
    ours.runs(&id, cri.status(&id).pid);
    assert_eq!(cri.exec(&id, &["touch", "/tmp/go"]).exit_code, 0);
    eventually("it has ended", || cri.status(&id).state == EXITED);
    let status = cri.status(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    cri.remove_pod(&pod);
    ours.has_none();
}
