//! podman with `bulkrun` as its runtime: as root, with cgroups of its own making.

use std::fs;
use std::thread;
use std::time::Duration;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{Init, Machine};

use crate::engine::{self, Engine, status};
use crate::image::{self, ARCHIVE, BUSYBOX, PAUSE};
use crate::limits::{self, limit};
use crate::{Ground, Suite, eventually, under_systemd, with_each_suite};

/// The limits are for a machine on which nobody may raise them: podman asks for a million files otherwise. The soft and
/// the hard one are the same, since podman 4.3 takes each for the other when it plays a document of Kubernetes. Both
/// spellings of the list of runtimes that can do without cgroups are in use: the manual's and the program's.
const CONFIGURATION: &str = r#"
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

/// What podman puts above a container, and how it removes some at once.
pub(crate) const MONITOR: &str = "conmon";
pub(crate) const REMOVAL: &[&str] = &["rm", "--force", "--time", "0"];

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

under_systemd!(
    a_container_lives_from_run_to_rm,
    exit_codes_are_the_programs_or_tell_what_failed,
    limits_are_in_force_and_can_change,
    options_of_run_take_effect,
    users_of_containers_are_nobody_on_the_machine,
    a_health_check_runs_in_the_container,
    a_pod_lives_as_one,
    a_pod_is_made_of_a_kubernetes_document,
);

/// podman's configuration, by which the machine's init makes the cgroups if it can.
pub(crate) fn configuration(machine: &Machine<'_>) -> String {
    match machine.init() {
        Init::Own => CONFIGURATION.to_owned(),
        Init::Systemd => CONFIGURATION.replace("\"cgroupfs\"", "\"systemd\""),
    }
}

/// podman on a machine, with images.
#[track_caller]
fn set_up<'m>(&Ground { sandbox, machine, .. }: &Ground<'m>) -> Engine<'m> {
    image::archive(sandbox, machine);
    fs::write(machine.shared().join("containers.conf"), configuration(machine)).unwrap();
    let script = "mkdir -p /etc/containers; cp /run/shared/containers.conf /etc/containers/
        echo containers:x:990:990::/:/bin/false >>/etc/passwd
        echo containers:1000000:1000000 | tee -a /etc/subuid >>/etc/subgid";
    machine.script(script).output().succeeds();
    let podman = Engine {
        machine,
        program: |machine| machine.command("podman").env("PODMAN_IGNORE_CGROUPSV1_WARNING", "yes"),
        removal: REMOVAL,
        root: "/run/bulkrun",
        monitor: MONITOR,
    };
    podman.call(&["load", "--quiet", "--input", ARCHIVE]);
    podman
}

fn a_container_lives_from_run_to_rm(ground: &Ground<'_>) {
    let podman = set_up(ground);
    engine::lives(&podman, |container| {
        assert_eq!(podman.inspect("life")["OCIRuntime"], "bulkrun");
        let top = podman.call(&["top", "life", "pid", "user", "args"]);
        assert!(top.lines().any(|line| line.starts_with("1 ") && line.contains("while :")), "{top}");
        let statistics = podman.command(&["stats", "--no-stream", "--format", "json", "life"]);
        let statistics = statistics.output().succeeds().json();
        assert_eq!(statistics[0]["id"], container.id[..12], "{statistics}");
        let memory = statistics[0]["mem_usage"].as_str().unwrap();
        assert!(memory.contains("B / ") && !memory.starts_with("0B"), "{statistics}");
    });
    podman.ends();
}

fn exit_codes_are_the_programs_or_tell_what_failed(ground: &Ground<'_>) {
    let podman = set_up(ground);
    engine::exits(&podman, |output, code, complaint| {
        output.exits_with(code).complains(complaint);
    });
    podman.ends();
}

fn a_person_attaches_to_a_terminal_and_leaves_it(ground: &Ground<'_>) {
    let podman = set_up(ground);
    let seat = Seat::new(30, 100);
    let run = ["run", "--interactive", "--tty", "--name", "seat", BUSYBOX, "sh"];
    let running = seat.spawn(podman.command(&run));
    eventually("the terminal is raw", || seat.is_raw());
    seat.screen.type_in(&format!("{}; tty\r", has_size("30 100")));
    seat.screen.shows("/dev/pts/0\r\n");
    seat.resize(33, 66);
    // Nobody tells it, for the terminal does not control its session.
    podman.machine.command("pkill").args(["-WINCH", "-x", "podman"]).output().succeeds();
    seat.screen.type_in(&format!("{}; echo $((6 * 7)) it is\r", has_size("33 66")));
    seat.screen.shows("42 it is\r\n");
    // Ctrl-P Ctrl-Q leaves it; podman takes them for that only one by one, and nothing tells that it is done with the
    // first: it has left the terminal long before.
    seat.screen.type_in("\u{10}");
    thread::sleep(Duration::from_millis(500));
    seat.screen.type_in("\u{11}");
    running.wait().succeeds();
    seat.is_restored();
    podman.running("seat");

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

fn limits_are_in_force_and_can_change(ground: &Ground<'_>) {
    let podman = set_up(ground);
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
    limits::hold(podman.machine, container.pid(), &limits);
    podman.call(&["update", "--memory", "80m", "--cpus", "0.7", "limited"]);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "83886080"), ("memory.max", "83886080")),
        limit("cpu", ("cpu.cfs_quota_us", "70000"), ("cpu.max", "70000 100000")),
    ];
    limits::hold(podman.machine, container.pid(), &limits);

    // podman's monitor reads why once the container has ended, when systemd may have taken the scope away already: it
    // misses some, whatever the runtime. One that is known shows that the runtime leaves it to be read. podman 4.3 learns
    // of none on a machine with both versions of cgroups.
    let knows = ground.suite == Suite::Newest;
    let mut hogs = (0..if knows { 12 } else { 1 }).map(|number| format!("hog{number}"));
    let known = hogs.any(|hog| {
        engine::is_killed_for_its_memory(&podman, &hog);
        podman.inspect(&hog)["State"]["OOMKilled"] == true
    });
    assert!(known || !knows, "the reason is known");
    podman.ends();
}

fn options_of_run_take_effect(ground: &Ground<'_>) {
    let podman = set_up(ground);
    let shell = |options: &[&str], script: &str| podman.shell(options, script);
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
    engine::is_caged(&podman);
    let privileged =
        shell(&["--privileged"], &format!("{}; test -e /dev/kmsg && echo kmsg", status("CapEff")));
    let all = podman.machine.script(&status("CapEff")).output().succeeds().stdout;
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

fn users_of_containers_are_nobody_on_the_machine(ground: &Ground<'_>) {
    let podman = set_up(ground);
    let map = |name: &str| -> Vec<u64> {
        let container = podman.start(name, &["--userns=auto:size=1000"], &["sleep", "1000"]);
        assert_eq!(container.exec(&["id", "-u"]), "0\n");
        let owner =
            podman.machine.command("stat").args(["--format=%u", &format!("/proc/{}", container.pid())]);
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

fn a_container_without_cgroups_stays_where_podman_is(ground: &Ground<'_>) {
    let podman = set_up(ground);
    let options = ["--cgroups=disabled", "--cgroupns=host"];
    let container = podman.start("free", &options, &["sleep", "1000"]);
    let left =
        podman.machine.cgroups().iter().filter(|path| path.to_string_lossy().contains(&container.id)).count();
    assert_eq!(left, 0, "no cgroup is made for it");
    assert_eq!(container.exec(&["true"]), "");
    podman.call(&["stop", "--time", "0", "free"]);
    assert_eq!(podman.inspect("free")["State"]["ExitCode"], 137);
    podman.ends();
}

fn namespaces_can_be_those_of_another_container_or_the_machine(ground: &Ground<'_>) {
    let podman = set_up(ground);
    podman.start("server", &[], &["httpd", "-f", "-p", "80", "-h", "/etc"]);
    engine::shares_namespaces(&podman);
    let address = &podman.inspect("server")["NetworkSettings"]["Networks"]["podman"]["IPAddress"];
    engine::is_reached(&podman, &format!("http://{}/passwd", address.as_str().unwrap()));
    podman.ends();
}

fn files_go_in_and_out(ground: &Ground<'_>) {
    let podman = set_up(ground);
    fs::create_dir(podman.machine.shared().join("data")).unwrap();
    let mounts = ["--volume=/run/shared/data:/data:rslave", "--volume=named:/named", "--volume=/usr:/over:O"];
    let container = podman.start("files", &mounts, &["sleep", "1000"]);
    assert_eq!(container.exec(&["touch", "/named/x", "/over/x"]), "");
    assert!(!podman.machine.path("/usr/x").exists(), "what is written over /usr stays in the container");
    engine::carries_files(&container);
    let root =
        ["run", "--rm", "--rootfs", "/run/shared/root:O", "/bin/busybox", "sh", "-c", "echo x >/y; cat /y"];
    let busybox = podman.machine.shared().join("root/bin");
    fs::create_dir_all(&busybox).unwrap();
    fs::copy(bulkhead_testkit::rootfs::BUSYBOX, busybox.join("busybox")).unwrap();
    assert_eq!(podman.call(&root), "x\n", "a directory will do for an image");
    podman.call(&["volume", "ls"]);
    podman.ends();
}

fn a_health_check_runs_in_the_container(ground: &Ground<'_>) {
    let podman = set_up(ground);
    // Without systemd nobody calls it in intervals.
    let options = ["--health-cmd=test -e /tmp/well", "--health-interval=disable", "--health-retries=1"];
    let container = podman.start("patient", &options, &["sleep", "1000"]);
    podman.command(&["healthcheck", "run", "patient"]).output().exits_with(1);
    container.exec(&["touch", "/tmp/well"]);
    podman.call(&["healthcheck", "run", "patient"]);
    podman.ends();
}

fn a_pod_lives_as_one(ground: &Ground<'_>) {
    let podman = set_up(ground);
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
    second.runs();
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

fn a_pod_is_made_of_a_kubernetes_document(ground: &Ground<'_>) {
    let podman = set_up(ground);
    fs::write(podman.machine.shared().join("pod.yaml"), POD).unwrap();
    podman.call(&["kube", "play", "/run/shared/pod.yaml"]);
    for name in ["play-writer", "play-reader"] {
        podman.running(name);
    }
    let read = ["exec", "play-reader", "sh", "-c", "cat /scratch/word; id -u"];
    eventually("the word is there", || podman.command(&read).output().stdout == "hello\n1000\n");
    let writer = podman.inspect("play-writer")["State"]["Pid"].as_u64().unwrap();
    let memory = [limit("memory", ("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432"))];
    limits::hold(podman.machine, writer, &memory);
    podman.call(&["kube", "down", "/run/shared/pod.yaml"]);
    podman.ends();
}
