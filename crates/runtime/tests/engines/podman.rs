//! podman with `bulkrun` as its runtime: as root, with cgroups of its own making.

use std::fs;
use std::thread;
use std::time::Duration;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{Machine, Run, is_root, requires, skip};
use serde_json::Value;

use crate::image::{self, ARCHIVE, BUSYBOX, PAUSE};
use crate::limits::{self, limit};
use crate::ours::Ours;
use crate::{MISSING, Suite, eventually, sandbox, with_each_suite};

/// The limits are for a machine on which nobody may raise them: podman asks for a million files otherwise. The soft and
/// the hard one are the same, since podman 4.3 takes each for the other when it plays a document of Kubernetes. Both
/// spellings of the list of runtimes that can do without cgroups are in use: the manual's and the program's.
pub(crate) const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "bulkrun"
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "docker.io/library/pause:latest"
stop_timeout = 1
runtime_supports_json = ["bulkrun"]
runtime_supports_nocgroup = ["bulkrun"]
runtime_supports_nocgroups = ["bulkrun"]
[engine.runtimes]
bulkrun = ["/opt/bulkrun"]
"#;

with_each_suite!(
    a_container_lives_from_run_to_rm,
    exit_codes_are_the_programs_or_tell_what_failed,
    a_person_attaches_to_a_terminal_and_leaves_it,
    limits_are_in_force_and_can_change,
    options_of_run_take_effect,
    users_of_containers_are_nobody_on_the_machine,
    a_container_without_cgroups_stays_where_podman_is,
    namespaces_can_be_those_of_another_container_or_the_machine,
    files_go_in_and_out,
    a_health_check_runs_in_the_container,
    a_pod_lives_as_one,
    a_pod_is_made_of_a_kubernetes_document,
);

/// podman on a machine, with images.
struct Podman<'m> {
    machine: &'m Machine<'m>,
}

impl<'m> Podman<'m> {
    #[track_caller]
    fn set_up(sandbox: &bulkhead_testkit::Sandbox, machine: &'m Machine<'m>) -> Self {
        image::archive(sandbox, machine);
        fs::write(machine.shared().join("containers.conf"), CONFIGURATION).unwrap();
        let script = "mkdir -p /etc/containers; cp /run/shared/containers.conf /etc/containers/
            echo containers:x:990:990::/:/bin/false >>/etc/passwd
            echo containers:1000000:1000000 | tee -a /etc/subuid >>/etc/subgid";
        machine.script(script).output().succeeds();
        let podman = Self { machine };
        podman.call(&["load", "--quiet", "--input", ARCHIVE]);
        podman
    }

    fn command(&self, arguments: &[&str]) -> Run {
        self.machine.command("podman").env("PODMAN_IGNORE_CGROUPSV1_WARNING", "yes").args(arguments)
    }

    /// Runs it and returns what it prints.
    #[track_caller]
    fn call(&self, arguments: &[&str]) -> String {
        self.command(arguments).output().succeeds().stdout
    }

    /// Runs a container of busybox to its end and returns what it prints.
    #[track_caller]
    fn run(&self, options: &[&str], command: &[&str]) -> String {
        self.call(&[&["run", "--rm"], options, &[BUSYBOX], command].concat())
    }

    /// Starts a container of busybox that lasts, and proves that it is one of `bulkrun`.
    #[track_caller]
    fn start(&self, name: &str, options: &[&str], command: &[&str]) -> Container<'_> {
        let id = self.call(&[&["run", "--detach", "--name", name], options, &[BUSYBOX], command].concat());
        let container = Container { podman: self, name: name.to_owned(), id: id.trim().to_owned() };
        self.ours().runs(&container.id, container.pid());
        container
    }

    fn ours(&self) -> Ours<'_> {
        Ours { machine: self.machine, root: "/run/bulkrun", monitor: "conmon" }
    }

    /// What podman knows of a container.
    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        self.command(&["container", "inspect", name]).output().succeeds().json()[0].take()
    }

    /// Removes all containers, after which nothing may be left.
    #[track_caller]
    fn ends(&self) {
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        self.ours().has_none();
    }
}

/// A container that has been started.
struct Container<'p> {
    podman: &'p Podman<'p>,
    name: String,
    id: String,
}

impl Container<'_> {
    #[track_caller]
    fn pid(&self) -> u64 {
        self.podman.inspect(&self.name)["State"]["Pid"].as_u64().unwrap()
    }

    /// Runs a program in it and returns what it prints.
    #[track_caller]
    fn exec(&self, command: &[&str]) -> String {
        self.podman.call(&[&["exec", &self.name], command].concat())
    }
}

fn a_container_lives_from_run_to_rm(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    let script = "trap 'echo goes; exit 7' TERM; echo comes; while :; do sleep 0.1; done";
    let container = podman.start("life", &[], &["sh", "-c", script]);
    assert_eq!(podman.inspect("life")["OCIRuntime"], "bulkrun");
    eventually("it has spoken", || podman.call(&["logs", "life"]) == "comes\n");

    assert_eq!(container.exec(&["id", "-u"]), "0\n");
    let user = [
        "exec",
        "--user",
        "user",
        "--env",
        "A=b",
        "--workdir",
        "/tmp",
        "life",
        "sh",
        "-c",
        "id -un; pwd; echo $A",
    ];
    assert_eq!(podman.call(&user), "user\n/tmp\nb\n");
    let input = podman.command(&["exec", "--interactive", "life", "cat"]).input("through a pipe\n");
    input.output().succeeds().prints("through a pipe\n");
    let top = podman.call(&["top", "life", "pid", "user", "args"]);
    assert!(top.lines().any(|line| line.starts_with("1 ") && line.contains("while :")), "{top}");
    let statistics =
        podman.command(&["stats", "--no-stream", "--format", "json", "life"]).output().succeeds().json();
    assert_eq!(statistics[0]["id"], container.id[..12], "{statistics}");
    let memory = statistics[0]["mem_usage"].as_str().unwrap();
    assert!(memory.contains("B / ") && !memory.starts_with("0B"), "{statistics}");

    podman.call(&["pause", "life"]);
    assert_eq!(podman.ours().status(&container.id), "paused");
    assert_eq!(podman.inspect("life")["State"]["Status"], "paused");
    podman.call(&["unpause", "life"]);
    assert_eq!(podman.ours().status(&container.id), "running");

    podman.call(&["stop", "--time", "30", "life"]);
    let state = podman.inspect("life")["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &7.into()), "it heard the signal");
    assert_eq!(podman.call(&["logs", "life"]), "comes\ngoes\n");
    podman.call(&["start", "life"]);
    podman.ours().runs(&container.id, container.pid());
    podman.call(&["kill", "life"]);
    assert_eq!(podman.call(&["wait", "life"]), "137\n");
    podman.ends();
}

fn exit_codes_are_the_programs_or_tell_what_failed(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    podman.start("place", &[], &["sleep", "1000"]);
    for (code, words, complaint) in [
        (5, &["sh", "-c", "exit 5"][..], ""),
        (143, &["sh", "-c", "sh -c 'kill $$'; exit $?"], ""),
        (127, &["no-such-program"], "executable file not found in $PATH"),
        (126, &["/etc"], "is a directory"),
        (126, &["/etc/passwd"], "permission denied"),
    ] {
        let run = podman.command(&[&["run", "--rm", BUSYBOX], words].concat()).output();
        run.exits_with(code).complains(complaint);
        let exec = podman.command(&[&["exec", "place"], words].concat()).output();
        exec.exits_with(code).complains(complaint);
    }
    podman.ends();
}

fn a_person_attaches_to_a_terminal_and_leaves_it(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    let seat = Seat::new(30, 100);
    let run = ["run", "--interactive", "--tty", "--name", "seat", BUSYBOX, "sh"];
    let running = seat.spawn(podman.command(&run));
    eventually("the terminal is raw", || seat.is_raw());
    seat.screen.type_in(&format!("{}; tty\r", has_size("30 100")));
    seat.screen.shows("/dev/pts/0\r\n");
    seat.resize(33, 66);
    // Nobody tells it, for the terminal does not control its session.
    machine.command("pkill").args(["-WINCH", "-x", "podman"]).output().succeeds();
    seat.screen.type_in(&format!("{}; echo $((6 * 7)) it is\r", has_size("33 66")));
    seat.screen.shows("42 it is\r\n");
    // Ctrl-P Ctrl-Q leaves it; podman takes them for that only one by one.
    seat.screen.type_in("\u{10}");
    thread::sleep(Duration::from_millis(500));
    seat.screen.type_in("\u{11}");
    running.wait().succeeds();
    seat.is_restored();
    let state = podman.inspect("seat");
    podman.ours().runs(state["Id"].as_str().unwrap(), state["State"]["Pid"].as_u64().unwrap());

    let seat = Seat::new(20, 70);
    let running = seat.spawn(podman.command(&["attach", "seat"]));
    eventually("the terminal is raw", || seat.is_raw());
    seat.screen.type_in("echo back $((40 + 2)); exit 9\r");
    seat.screen.shows("back 42\r\n");
    // podman keeps the code of a container that it attaches to for itself.
    running.wait().succeeds();
    seat.is_restored();
    eventually("it has ended", || podman.inspect("seat")["State"]["Status"] == "exited");
    assert_eq!(podman.inspect("seat")["State"]["ExitCode"], 9);

    let seat = Seat::new(11, 22);
    podman.start("other", &[], &["sleep", "1000"]);
    let running = seat.spawn(podman.command(&["exec", "--interactive", "--tty", "other", "sh"]));
    eventually("the terminal is raw", || seat.is_raw());
    seat.screen.type_in(&format!("{}; exit 4\r", has_size("11 22")));
    running.wait().exits_with(4);
    podman.ends();
}

/// Waits in a shell until its terminal has a size, which may arrive after the start.
fn has_size(size: &str) -> String {
    format!("until stty size | grep -qx '{size}'; do sleep 0.1; done")
}

fn limits_are_in_force_and_can_change(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    let options =
        ["--memory=64m", "--memory-reservation=32m", "--cpus=0.5", "--pids-limit=50", "--cpuset-cpus=0"];
    let container = podman.start("limited", &options, &["sleep", "1000"]);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
        limit("memory", ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")),
        limit("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
        limit("pids", ("pids.max", "50"), ("pids.max", "50")),
        limit("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    ];
    limits::hold(&machine, container.pid(), &limits);
    podman.call(&["update", "--memory", "80m", "--cpus", "0.7", "limited"]);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "83886080"), ("memory.max", "83886080")),
        limit("cpu", ("cpu.cfs_quota_us", "70000"), ("cpu.max", "70000 100000")),
    ];
    limits::hold(&machine, container.pid(), &limits);

    let hog = ["run", "--name", "hog", "--memory=16m", "--memory-swap=16m", BUSYBOX];
    let command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M"];
    podman.command(&[&hog[..], &command].concat()).output().exits_with(137);
    // podman 4.3 does not learn it on a machine with both versions of cgroups, whatever the runtime.
    if suite == Suite::Newest {
        assert_eq!(podman.inspect("hog")["State"]["OOMKilled"], true, "the reason is known");
    }
    podman.ends();
}

fn options_of_run_take_effect(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    let shell = |options: &[&str], script: &str| podman.run(options, &["sh", "-c", script]);
    let status = |field: &str| format!("sed -n 's/^{field}:\\t//p' /proc/self/status");

    let user =
        ["--user=1000", "--group-add=3000", "--umask=077", "--hostname=house", "--env=A=b", "--workdir=/tmp"];
    let answer =
        shell(&user, "id -u; id -G | tr ' ' '\\n' | sort -nu | xargs; umask; hostname; echo $A; pwd");
    assert_eq!(answer, "1000\n1000 2000 3000\n0077\nhouse\nb\n/tmp\n");
    let system = [
        "--sysctl=net.ipv4.ip_forward=1",
        "--ulimit=nofile=100:200",
        "--ulimit=nproc=400:400",
        "--oom-score-adj=500",
        "--shm-size=1m",
    ];
    let script = "cat /proc/sys/net/ipv4/ip_forward; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; df -k /dev/shm | awk 'END { print $2 }'";
    assert_eq!(shell(&system, script), "1\n100\n200\n500\n1024\n");
    let caged = ["--cap-drop=ALL", "--cap-add=NET_ADMIN", "--security-opt=no-new-privileges"];
    let script = format!("{}; {}; {}", status("CapEff"), status("NoNewPrivs"), status("Seccomp"));
    assert_eq!(shell(&caged, &script), "0000000000001000\n1\n2\n");
    assert_eq!(shell(&["--security-opt=seccomp=unconfined"], &status("Seccomp")), "0\n");
    let privileged =
        shell(&["--privileged"], &format!("{}; test -e /dev/kmsg && echo kmsg", status("CapEff")));
    let all = machine.script(&status("CapEff")).output().succeeds().stdout;
    assert_eq!(privileged, format!("{all}kmsg\n"), "all that the machine gives");

    let files = ["--read-only", "--tmpfs=/data:size=1m,mode=700", "--device=/dev/null:/dev/nothing"];
    let script =
        "touch /file 2>/dev/null || echo refused; touch /tmp/file; stat -c %a /data; ls /dev/nothing";
    assert_eq!(shell(&files, script), "refused\n700\n/dev/nothing\n");
    assert_eq!(shell(&["--init"], "cat /proc/1/comm"), "podman-init\n");
    let written = podman.command(&["run", "--rm", "--systemd=always", BUSYBOX, "sh", "-c"]);
    let output = written.arg("grep -c '^tmpfs /run ' /proc/mounts").output().succeeds();
    output.prints("1\n");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(shell(&["--personality=LINUX32"], "uname -m"), "i686\n");
    }
    let masked = ["--security-opt=mask=/etc/group", "--security-opt=unmask=/proc/acpi"];
    assert_eq!(shell(&masked, "wc -c </etc/group; grep -c ' /proc/acpi ' /proc/mounts || true"), "0\n0\n");
    podman.ends();
}

fn users_of_containers_are_nobody_on_the_machine(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    let map = |name: &str| -> Vec<u64> {
        let container = podman.start(name, &["--userns=auto:size=1000"], &["sleep", "1000"]);
        assert_eq!(container.exec(&["id", "-u"]), "0\n");
        let owner = machine.command("stat").args(["--format=%u", &format!("/proc/{}", container.pid())]);
        let map = container.exec(&["cat", "/proc/self/uid_map"]);
        let map = Vec::from_iter(map.split_whitespace().map(|number| number.parse().unwrap()));
        owner.output().succeeds().prints(&format!("{}\n", map[1]));
        map
    };
    assert_eq!(map("one"), [0, 1_000_000, 1000]);
    assert_eq!(map("two"), [0, 1_001_000, 1000], "each has users of its own");
    let users = podman.call(&["top", "two", "huser"]);
    assert_eq!(Vec::from_iter(users.split_whitespace()), ["HUSER", "1001000"]);
    let given =
        podman.run(&["--uidmap=0:200000:5000", "--gidmap=0:300000:6000"], &["cat", "/proc/self/gid_map"]);
    assert_eq!(Vec::from_iter(given.split_whitespace()), ["0", "300000", "6000"]);
    podman.ends();
}

fn a_container_without_cgroups_stays_where_podman_is(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    let options = ["--cgroups=disabled", "--cgroupns=host"];
    let container = podman.start("free", &options, &["sleep", "1000"]);
    let left = machine.cgroups().iter().filter(|path| path.to_string_lossy().contains(&container.id)).count();
    assert_eq!(left, 0, "no cgroup is made for it");
    assert_eq!(container.exec(&["true"]), "");
    podman.call(&["stop", "--time", "0", "free"]);
    assert_eq!(podman.inspect("free")["State"]["ExitCode"], 137);
    podman.ends();
}

fn namespaces_can_be_those_of_another_container_or_the_machine(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    let server = podman.start("server", &[], &["httpd", "-f", "-p", "80", "-h", "/etc"]);
    let namespaces = ["--network=container:server", "--pid=container:server", "--ipc=container:server"];
    let script = "wget -q -O - http://127.0.0.1/passwd | head -n 1; cat /proc/1/comm";
    assert_eq!(podman.run(&namespaces, &["sh", "-c", script]), "root:x:0:0:root:/root:/bin/sh\nhttpd\n");
    let address = &podman.inspect("server")["NetworkSettings"]["Networks"]["podman"]["IPAddress"];
    let url = format!("http://{}/passwd", address.as_str().unwrap());
    let page = machine.command("busybox").args(["wget", "-q", "-O", "-", &url]).output().succeeds();
    assert!(page.stdout.starts_with("root:x:0:0:"), "the bridge leads to it: {page}");

    let host = ["--network=host", "--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"];
    let links = "for name in net pid ipc uts cgroup; do readlink /proc/self/ns/$name; done";
    let expected = machine.script(links).output().succeeds().stdout;
    assert_eq!(podman.run(&host, &["sh", "-c", links]), expected, "it is in the machine's namespaces");
    let private = podman.run(&["--cgroupns=private"], &["sh", "-c", links]);
    assert!(private.lines().all(|line| !expected.contains(line)), "{private} is none of {expected}");
    drop(server);
    podman.ends();
}

fn files_go_in_and_out(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    fs::create_dir(machine.shared().join("data")).unwrap();
    let mounts = ["--volume=/run/shared/data:/data:rslave", "--volume=named:/named", "--volume=/usr:/over:O"];
    let container = podman.start("files", &mounts, &["sleep", "1000"]);
    assert_eq!(
        container.exec(&["sh", "-c", "echo out >/data/file; touch /named/x /over/x; echo in-it >/tmp/file"]),
        ""
    );
    assert_eq!(fs::read_to_string(machine.shared().join("data/file")).unwrap(), "out\n");
    assert!(!machine.path("/usr/x").exists(), "what is written over /usr stays in the container");
    machine.script("mkdir /run/shared/data/later; mount -t tmpfs later /run/shared/data/later; touch /run/shared/data/later/seen").output().succeeds();
    assert_eq!(container.exec(&["ls", "/data/later"]), "seen\n", "mounts of the machine arrive");
    machine.script("umount /run/shared/data/later").output().succeeds();

    podman.call(&["cp", "files:/tmp/file", "/run/shared/copied"]);
    assert_eq!(fs::read_to_string(machine.shared().join("copied")).unwrap(), "in-it\n");
    podman.call(&["cp", "/run/shared/copied", "files:/tmp/returned"]);
    assert_eq!(container.exec(&["cat", "/tmp/returned"]), "in-it\n");
    let changes = podman.call(&["diff", "files"]);
    assert!(changes.contains("A /tmp/file\n"), "{changes}");
    let root =
        ["run", "--rm", "--rootfs", "/run/shared/root:O", "/bin/busybox", "sh", "-c", "echo x >/y; cat /y"];
    let busybox = machine.shared().join("root/bin");
    fs::create_dir_all(&busybox).unwrap();
    fs::copy(bulkhead_testkit::rootfs::BUSYBOX, busybox.join("busybox")).unwrap();
    assert_eq!(podman.call(&root), "x\n", "a directory will do for an image");
    podman.call(&["volume", "ls"]);
    podman.ends();
}

fn a_health_check_runs_in_the_container(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    // Without systemd nobody calls it in intervals.
    let options = ["--health-cmd=test -e /tmp/well", "--health-interval=disable", "--health-retries=1"];
    let container = podman.start("patient", &options, &["sleep", "1000"]);
    podman.command(&["healthcheck", "run", "patient"]).output().exits_with(1);
    container.exec(&["touch", "/tmp/well"]);
    podman.call(&["healthcheck", "run", "patient"]);
    podman.ends();
}

fn a_pod_lives_as_one(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    podman.call(&["pod", "create", "--name", "pod", "--infra-image", PAUSE, "--share", "net,ipc,uts,pid"]);
    let first = podman.start("first", &["--pod=pod"], &["httpd", "-f", "-p", "80", "-h", "/etc"]);
    let second = podman.start("second", &["--pod=pod"], &["sleep", "1000"]);
    let page = second.exec(&["wget", "-q", "-O", "-", "http://127.0.0.1/passwd"]);
    assert!(page.starts_with("root:"), "they share the network: {page}");
    assert!(first.exec(&["ps"]).contains("sleep 1000"), "they share the processes");
    podman.call(&["pod", "pause", "pod"]);
    assert_eq!([&first, &second].map(|one| podman.ours().status(&one.id)), ["paused", "paused"]);
    podman.call(&["pod", "unpause", "pod"]);
    let statistics = podman.call(&["pod", "stats", "--no-stream", "pod"]);
    assert_eq!(statistics.lines().count(), 4, "a headline and three containers: {statistics}");
    podman.call(&["pod", "restart", "pod"]);
    podman.ours().runs(&second.id, second.pid());
    podman.call(&["pod", "stop", "--time", "0", "pod"]);
    assert_eq!(podman.inspect("second")["State"]["Status"], "exited");
    podman.call(&["pod", "rm", "--force", "pod"]);
    podman.ends();
}

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: play
spec:
  terminationGracePeriodSeconds: 1
  volumes:
    - name: scratch
      emptyDir: {}
  containers:
    - name: writer
      image: docker.io/library/busybox:latest
      imagePullPolicy: Never
      command: [sh, -c, 'echo $WORD >/scratch/word; exec sleep 1000']
      env: [{ name: WORD, value: hello }]
      resources: { limits: { memory: 32Mi } }
      volumeMounts: [{ name: scratch, mountPath: /scratch }]
    - name: reader
      image: docker.io/library/busybox:latest
      imagePullPolicy: Never
      command: [sleep, '1000']
      securityContext: { runAsUser: 1000, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
      volumeMounts: [{ name: scratch, mountPath: /scratch }]
";

fn a_pod_is_made_of_a_kubernetes_document(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let podman = Podman::set_up(&sandbox, &machine);
    fs::write(machine.shared().join("pod.yaml"), POD).unwrap();
    podman.call(&["kube", "play", "/run/shared/pod.yaml"]);
    for name in ["play-writer", "play-reader"] {
        let state = podman.inspect(name);
        podman.ours().runs(state["Id"].as_str().unwrap(), state["State"]["Pid"].as_u64().unwrap());
    }
    let read = ["exec", "play-reader", "sh", "-c", "cat /scratch/word; id -u"];
    eventually("the word is there", || podman.command(&read).output().stdout == "hello\n1000\n");
    let writer = podman.inspect("play-writer")["State"]["Pid"].as_u64().unwrap();
    let memory = [limit("memory", ("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432"))];
    limits::hold(&machine, writer, &memory);
    podman.call(&["kube", "down", "/run/shared/pod.yaml"]);
    podman.ends();
}
