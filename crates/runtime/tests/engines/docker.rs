//! docker with `bulkrun` as its default runtime.

use std::fs;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{Machine, Run, Running, Sandbox, is_root, requires, skip};
use serde_json::{Value, json};

use crate::image::{self, ARCHIVE};
use crate::limits::{self, limit};
use crate::ours::Ours;
use crate::{MISSING, Suite, eventually, sandbox, with_each_suite};

const IMAGE: &str = "busybox";

with_each_suite!(
    a_container_lives_from_run_to_rm,
    exit_codes_are_the_programs_or_tell_what_failed,
    a_person_attaches_to_a_terminal_and_leaves_it,
    limits_are_in_force_and_can_change,
    options_of_run_take_effect,
    files_go_in_and_out,
    namespaces_can_be_those_of_another_container_or_the_machine,
    containers_are_started_again_as_their_policy_says,
    a_container_outlives_the_daemon,
    fifty_containers_start_at_once,
    a_health_check_runs_in_the_container,
);

/// The daemon on a machine, with images.
struct Docker<'m> {
    machine: &'m Machine<'m>,
    /// Ends with the machine.
    daemon: Running,
}

impl<'m> Docker<'m> {
    #[track_caller]
    fn set_up(sandbox: &Sandbox, machine: &'m Machine<'m>) -> Self {
        image::archive(sandbox, machine);
        let configuration = json!({
            "default-runtime": "bulkrun",
            "runtimes": { "bulkrun": { "path": "/opt/bulkrun" } },
            "live-restore": true,
        });
        fs::write(machine.shared().join("daemon.json"), configuration.to_string()).unwrap();
        machine.script("mkdir -p /etc/docker; cp /run/shared/daemon.json /etc/docker/").output().succeeds();
        let docker = Self { machine, daemon: Self::daemon(machine) };
        docker.answers();
        docker.call(&["load", "--quiet", "--input", ARCHIVE]);
        docker
    }

    fn daemon(machine: &Machine<'_>) -> Running {
        machine.command("dockerd").spawn()
    }

    #[track_caller]
    fn answers(&self) {
        eventually("the daemon answers", || {
            assert!(!self.daemon.has_ended(), "the daemon should run\n{}", self.daemon.stderr());
            self.command(&["version"]).output().code() == 0
        });
    }

    fn command(&self, arguments: &[&str]) -> Run {
        self.machine.command("docker").args(arguments)
    }

    /// Runs the client and returns what it prints.
    #[track_caller]
    fn call(&self, arguments: &[&str]) -> String {
        self.command(arguments).output().succeeds().stdout
    }

    /// Runs a container of busybox to its end and returns what it prints.
    #[track_caller]
    fn run(&self, options: &[&str], command: &[&str]) -> String {
        self.call(&[&["run", "--rm"], options, &[IMAGE], command].concat())
    }

    /// Starts a container of busybox that lasts, and proves that it is one of `bulkrun`.
    #[track_caller]
    fn start(&self, name: &str, options: &[&str], command: &[&str]) -> Container<'_> {
        let id = self.call(&[&["run", "--detach", "--name", name], options, &[IMAGE], command].concat());
        let container = Container { docker: self, name: name.to_owned(), id: id.trim().to_owned() };
        container.runs();
        container
    }

    fn ours(&self) -> Ours<'_> {
        // Whatever a runtime is called, docker names the directory after runc.
        Ours { machine: self.machine, root: "/run/docker/runtime-runc/moby", monitor: "containerd-shim" }
    }

    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        self.command(&["container", "inspect", name]).output().succeeds().json()[0].take()
    }

    /// Removes all containers, after which nothing may be left.
    #[track_caller]
    fn ends(&self) {
        let all = self.call(&["ps", "--all", "--quiet"]);
        let remove = ["rm", "--force", "--volumes"].into_iter().chain(all.split_whitespace());
        self.command(&Vec::from_iter(remove)).output();
        assert_eq!(self.call(&["ps", "--all", "--quiet"]), "");
        self.ours().has_none();
    }
}

/// A container that has been started.
struct Container<'d> {
    docker: &'d Docker<'d>,
    name: String,
    id: String,
}

impl Container<'_> {
    #[track_caller]
    fn pid(&self) -> u64 {
        self.docker.inspect(&self.name)["State"]["Pid"].as_u64().unwrap()
    }

    #[track_caller]
    fn runs(&self) {
        self.docker.ours().runs(&self.id, self.pid());
    }

    /// Runs a program in it and returns what it prints.
    #[track_caller]
    fn exec(&self, command: &[&str]) -> String {
        self.docker.call(&[&["exec", &self.name], command].concat())
    }
}

fn a_container_lives_from_run_to_rm(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let script = "trap 'echo goes; exit 7' TERM; echo comes; while :; do sleep 0.1; done";
    let container = docker.start("life", &[], &["sh", "-c", script]);
    assert_eq!(docker.inspect("life")["HostConfig"]["Runtime"], "bulkrun");
    eventually("it has spoken", || docker.call(&["logs", "life"]) == "comes\n");

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
    assert_eq!(docker.call(&user), "user\n/tmp\nb\n");
    let input = docker.command(&["exec", "--interactive", "life", "cat"]).input("through a pipe\n");
    input.output().succeeds().prints("through a pipe\n");
    docker.call(&["exec", "--detach", "life", "sleep", "77"]);
    eventually("ps(1) shows both", || {
        let top = docker.call(&["top", "life", "-eo", "pid,args"]);
        top.contains("while :") && top.contains("sleep 77")
    });
    let format = "{{.ID}} {{.PIDs}} {{.MemUsage}}";
    let statistics = docker.call(&["stats", "--no-stream", "--format", format, "life"]);
    let fields = Vec::from_iter(statistics.split_whitespace());
    assert_eq!(fields[0], &container.id[..12], "{statistics}");
    assert!(fields[1].parse::<u32>().unwrap() >= 2 && !fields[2].starts_with("0B"), "{statistics}");

    docker.call(&["pause", "life"]);
    assert_eq!(docker.ours().status(&container.id), "paused");
    assert_eq!(docker.inspect("life")["State"]["Status"], "paused");
    docker.call(&["unpause", "life"]);
    assert_eq!(docker.ours().status(&container.id), "running");

    docker.call(&["stop", "--time", "30", "life"]);
    let state = docker.inspect("life")["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &7.into()), "it heard the signal");
    assert_eq!(docker.call(&["logs", "life"]), "comes\ngoes\n");
    docker.call(&["start", "life"]);
    container.runs();
    docker.call(&["kill", "life"]);
    assert_eq!(docker.call(&["wait", "life"]), "137\n");
    docker.ends();
}

fn exit_codes_are_the_programs_or_tell_what_failed(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    docker.start("place", &[], &["sleep", "1000"]);
    // docker 20 says 126 whatever keeps `exec` from executing.
    let missing_in_exec = if suite == Suite::Newest { 127 } else { 126 };
    for (run, exec, words, complaint) in [
        (5, 5, &["sh", "-c", "exit 5"][..], ""),
        (143, 143, &["sh", "-c", "sh -c 'kill $$'; exit $?"], ""),
        (127, missing_in_exec, &["no-such-program"], "executable file not found in $PATH"),
        (126, 126, &["/etc"], "is a directory"),
        (126, 126, &["/etc/passwd"], "permission denied"),
    ] {
        let output = docker.command(&[&["run", "--rm", IMAGE], words].concat()).output();
        output.exits_with(run).complains(complaint);
        let output = docker.command(&[&["exec", "place"], words].concat()).output().exits_with(exec);
        // docker 20 prints it on standard output.
        assert!(format!("{}{}", output.stdout, output.stderr).contains(complaint), "{output}");
    }
    docker.ends();
}

fn a_person_attaches_to_a_terminal_and_leaves_it(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let seat = Seat::new(30, 100);
    let run = ["run", "--interactive", "--tty", "--name", "seat", IMAGE, "sh"];
    let running = seat.spawn(docker.command(&run));
    eventually("the terminal is raw", || seat.is_raw());
    seat.screen.type_in("tty; echo at $((40 + 2))\r");
    seat.screen.shows("/dev/pts/0\r\nat 42\r\n");
    // docker tells the size after the start.
    eventually("the size has arrived", || {
        docker.call(&["exec", "seat", "stty", "-F", "/dev/pts/0", "size"]) == "30 100\n"
    });
    seat.resize(33, 66);
    // Nobody tells it, for the terminal does not control its session.
    machine.command("pkill").args(["-WINCH", "-x", "docker"]).output().succeeds();
    eventually("the new size has arrived", || {
        docker.call(&["exec", "seat", "stty", "-F", "/dev/pts/0", "size"]) == "33 66\n"
    });
    // Ctrl-P Ctrl-Q leaves it.
    seat.screen.type_in("\u{10}\u{11}");
    running.wait().succeeds();
    seat.is_restored();
    let state = docker.inspect("seat");
    docker.ours().runs(state["Id"].as_str().unwrap(), state["State"]["Pid"].as_u64().unwrap());

    let seat = Seat::new(20, 70);
    let running = seat.spawn(docker.command(&["attach", "seat"]));
    eventually("the terminal is raw", || seat.is_raw());
    seat.screen.type_in("echo back $((40 + 2)); exit 9\r");
    seat.screen.shows("back 42\r\n");
    running.wait().exits_with(9);
    seat.is_restored();

    let seat = Seat::new(11, 22);
    docker.start("other", &[], &["sleep", "1000"]);
    let running = seat.spawn(docker.command(&["exec", "--interactive", "--tty", "other", "sh"]));
    eventually("the terminal is raw", || seat.is_raw());
    seat.screen.type_in("tty; exit 4\r");
    seat.screen.shows("/dev/pts/0\r\n");
    running.wait().exits_with(4);
    docker.ends();
}

fn limits_are_in_force_and_can_change(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let options = [
        "--memory=64m",
        "--memory-swap=64m",
        "--memory-reservation=32m",
        "--cpu-period=50000",
        "--cpu-quota=10000",
        "--cpu-shares=512",
        "--pids-limit=50",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
    ];
    let container = docker.start("limited", &options, &["sleep", "1000"]);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
        limit("memory", ("memory.memsw.limit_in_bytes", "67108864"), ("memory.swap.max", "0")),
        limit("memory", ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")),
        limit("cpu", ("cpu.cfs_quota_us", "10000"), ("cpu.max", "10000 50000")),
        limit("cpu", ("cpu.cfs_period_us", "50000"), ("cpu.max", "10000 50000")),
        limit("pids", ("pids.max", "50"), ("pids.max", "50")),
        limit("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        limit("cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    ];
    limits::hold(&machine, container.pid(), &limits);
    let update =
        ["update", "--memory=100m", "--memory-swap=200m", "--cpu-quota=20000", "--pids-limit=77", "limited"];
    docker.call(&update);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "104857600"), ("memory.max", "104857600")),
        limit("memory", ("memory.memsw.limit_in_bytes", "209715200"), ("memory.swap.max", "104857600")),
        limit("cpu", ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")),
        limit("pids", ("pids.max", "77"), ("pids.max", "77")),
    ];
    limits::hold(&machine, container.pid(), &limits);
    docker.call(&["update", "--cpu-shares=1024", "limited"]);
    let shares = [limit("cpu", ("cpu.shares", "1024"), ("cpu.weight", "100"))];
    limits::hold(&machine, container.pid(), &shares);

    limits_of_v1_and_of_disks_are_in_force(&docker);
    let parent = docker.start("child", &["--cgroup-parent=/elsewhere", "--cpus=0.5"], &["sleep", "1000"]);
    let half = [limit("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"))];
    limits::hold(&machine, parent.pid(), &half);
    let expected = format!("/elsewhere/{}", parent.id);
    assert!(machine.cgroups().iter().any(|path| path.ends_with(&expected[1..])), "{expected} is its cgroup");

    let hog = ["run", "--name", "hog", "--memory=16m", "--memory-swap=16m", IMAGE];
    let command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M"];
    docker.command(&[&hog[..], &command].concat()).output().exits_with(137);
    eventually("the reason is known", || docker.inspect("hog")["State"]["OOMKilled"] == true);
    docker.ends();
}

/// What not every machine has.
#[track_caller]
fn limits_of_v1_and_of_disks_are_in_force(docker: &Docker<'_>) {
    if limits::is_v1(docker.machine, "memory") {
        let options = ["--memory=64m", "--memory-swappiness=5", "--oom-kill-disable"];
        let old = docker.start("old", &options, &["sleep", "1000"]);
        let limits = [
            limit("memory", ("memory.swappiness", "5"), ("", "")),
            limit("memory", ("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 0"), ("", "")),
        ];
        limits::hold(docker.machine, old.pid(), &limits);
    }
    if let Some((node, number)) = limits::disk() {
        let options = [format!("--device-read-bps={node}:1mb"), format!("--device-write-iops={node}:100")];
        let slow = docker.start("slow", &[&options[0], &options[1]], &["sleep", "1000"]);
        let all = format!("{number} rbps=1048576 wbps=max riops=max wiops=100");
        let (reads, writes) = (format!("{number} 1048576"), format!("{number} 100"));
        let limits = [
            limit("blkio", ("blkio.throttle.read_bps_device", &reads), ("io.max", &all)),
            limit("blkio", ("blkio.throttle.write_iops_device", &writes), ("io.max", &all)),
        ];
        limits::hold(docker.machine, slow.pid(), &limits);
    }
}

fn options_of_run_take_effect(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let shell = |options: &[&str], script: &str| docker.run(options, &["sh", "-c", script]);
    let status = |field: &str| format!("sed -n 's/^{field}:\\t//p' /proc/self/status");

    let user = ["--user=1000", "--group-add=3000", "--hostname=house", "--env=A=b", "--workdir=/new"];
    let answer = shell(&user, "id -u; id -G | tr ' ' '\\n' | sort -nu | xargs; hostname; echo $A; pwd");
    assert_eq!(answer, "1000\n1000 2000 3000\nhouse\nb\n/new\n");
    let system =
        ["--sysctl=net.ipv4.ip_forward=1", "--sysctl=kernel.shmmax=65536", "--ulimit=nofile=100:200"];
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; ulimit -n; ulimit -Hn";
    assert_eq!(shell(&system, script), "1\n65536\n100\n200\n");
    let more = ["--oom-score-adj=500", "--shm-size=1m", "--domainname=town"];
    let script =
        "cat /proc/self/oom_score_adj /proc/sys/kernel/domainname; df -k /dev/shm | awk 'END { print $2 }'";
    assert_eq!(shell(&more, script), "500\ntown\n1024\n");
    let caged = ["--cap-drop=ALL", "--cap-add=NET_ADMIN", "--security-opt=no-new-privileges"];
    let script = format!("{}; {}; {}", status("CapEff"), status("NoNewPrivs"), status("Seccomp"));
    assert_eq!(shell(&caged, &script), "0000000000001000\n1\n2\n");
    assert_eq!(shell(&["--security-opt=seccomp=unconfined"], &status("Seccomp")), "0\n");
    let script =
        format!("{}; test -e /dev/kmsg && echo kmsg; touch /proc/sys/kernel/domainname", status("CapEff"));
    let privileged = shell(&["--privileged"], &script);
    let capabilities = u64::from_str_radix(privileged.lines().next().unwrap(), 16).unwrap();
    assert!(capabilities & 1 << 21 != 0 && privileged.ends_with("kmsg\n"), "SYS_ADMIN is among {privileged}");

    let kmsg = "mknod /tmp/kmsg c 1 11; dd if=/tmp/kmsg of=/dev/null count=0 2>/dev/null && echo open || echo denied";
    assert_eq!(shell(&["--cap-add=SYSLOG"], kmsg), "denied\n");
    assert_eq!(shell(&["--cap-add=SYSLOG", "--device-cgroup-rule=c 1:11 rm"], kmsg), "open\n");
    let device = ["--device=/dev/kmsg:/dev/log:r", "--cap-add=SYSLOG"];
    let files = [&["--read-only", "--tmpfs=/data:size=1m,mode=700"], &device[..]].concat();
    let script = "touch /file 2>/dev/null || echo refused; stat -c %a /data
        dd if=/dev/log count=0 2>/dev/null && { echo 2>/dev/null >/dev/log || echo for reading; }";
    assert_eq!(shell(&files, script), "refused\n700\nfor reading\n");
    assert_eq!(shell(&["--init"], "cat /proc/1/comm"), "docker-init\n");
    assert_eq!(shell(&["--network=none"], "ls /sys/class/net"), "lo\n");
    let open = shell(
        &["--security-opt=systempaths=unconfined"],
        "grep -cE ' /proc/(kcore|keys|sysrq-trigger) ' /proc/mounts || true",
    );
    assert_eq!(open, "0\n", "nothing is masked");
    docker.ends();
}

fn files_go_in_and_out(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    fs::create_dir(machine.shared().join("data")).unwrap();
    let mounts = [
        "--mount=type=bind,src=/run/shared/data,dst=/data,bind-propagation=rslave",
        "--mount=type=bind,src=/run/shared,dst=/fixed,readonly",
        "--mount=type=tmpfs,dst=/quick,tmpfs-size=1m",
        "--volume=named:/home",
    ];
    let container = docker.start("files", &mounts, &["sleep", "1000"]);
    assert_eq!(
        container.exec(&["sh", "-c", "echo out >/data/file; touch /home/x /quick/x; ls /home"]),
        "user\nx\n"
    );
    assert_eq!(fs::read_to_string(machine.shared().join("data/file")).unwrap(), "out\n");
    docker.command(&["exec", "files", "touch", "/fixed/x"]).output().exits_with(1);
    machine.script("mkdir /run/shared/data/later; mount -t tmpfs later /run/shared/data/later; touch /run/shared/data/later/seen").output().succeeds();
    assert_eq!(container.exec(&["ls", "/data/later"]), "seen\n", "mounts of the machine arrive");
    machine.script("umount /run/shared/data/later").output().succeeds();

    container.exec(&["sh", "-c", "echo in-it >/tmp/file"]);
    docker.call(&["cp", "files:/tmp/file", "/run/shared/copied"]);
    assert_eq!(fs::read_to_string(machine.shared().join("copied")).unwrap(), "in-it\n");
    docker.call(&["cp", "/run/shared/copied", "files:/tmp/returned"]);
    assert_eq!(container.exec(&["cat", "/tmp/returned"]), "in-it\n");
    let changes = docker.call(&["diff", "files"]);
    assert!(changes.contains("A /tmp/file\n"), "{changes}");
    docker.call(&["commit", "files", "changed"]);
    assert_eq!(docker.call(&["run", "--rm", "changed", "cat", "/tmp/file"]), "in-it\n");
    docker.ends();
}

fn namespaces_can_be_those_of_another_container_or_the_machine(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let options = ["--publish=127.0.0.1:8080:80", "--ipc=shareable"];
    docker.start("server", &options, &["httpd", "-f", "-p", "80", "-h", "/etc"]);
    let namespaces = ["--network=container:server", "--pid=container:server", "--ipc=container:server"];
    let script = "wget -q -O - http://127.0.0.1/passwd | head -n 1; cat /proc/1/comm";
    assert_eq!(docker.run(&namespaces, &["sh", "-c", script]), "root:x:0:0:root:/root:/bin/sh\nhttpd\n");
    let page = ["wget", "-q", "-O", "-", "http://127.0.0.1:8080/passwd"];
    let page = machine.command("busybox").args(page).output().succeeds();
    assert!(page.stdout.starts_with("root:x:0:0:"), "the published port leads to it: {page}");

    let host = ["--network=host", "--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"];
    let links = "for name in net pid ipc uts cgroup; do readlink /proc/self/ns/$name; done";
    let expected = machine.script(links).output().succeeds().stdout;
    assert_eq!(docker.run(&host, &["sh", "-c", links]), expected, "it is in the machine's namespaces");
    let private = docker.run(&["--cgroupns=private"], &["sh", "-c", links]);
    assert!(private.lines().all(|line| !expected.contains(line)), "{private} is none of {expected}");
    docker.ends();
}

fn containers_are_started_again_as_their_policy_says(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let failing = [
        "run",
        "--detach",
        "--name",
        "failing",
        "--restart=on-failure:2",
        IMAGE,
        "sh",
        "-c",
        "echo tries; exit 1",
    ];
    docker.call(&failing);
    let immortal = docker.start("immortal", &["--restart=always"], &["sleep", "1000"]);
    let first = immortal.pid();
    machine.command("kill").args(["-KILL", &first.to_string()]).output().succeeds();
    eventually("it runs again", || {
        let state = docker.inspect("immortal");
        state["RestartCount"] == 1 && state["State"]["Status"] == "running"
    });
    assert_ne!(immortal.pid(), first);
    immortal.runs();
    eventually("it was tried often enough", || {
        let state = docker.inspect("failing");
        state["RestartCount"] == 2 && state["State"]["Status"] == "exited"
    });
    assert_eq!(docker.call(&["logs", "failing"]), "tries\ntries\ntries\n");
    docker.ends();
}

fn a_container_outlives_the_daemon(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let mut docker = Docker::set_up(&sandbox, &machine);
    let (id, pid) = {
        let container = docker.start("survivor", &[], &["sleep", "1000"]);
        (container.id.clone(), container.pid())
    };
    machine.script("kill $(cat /run/docker.pid)").output().succeeds();
    eventually("the daemon has ended", || docker.daemon.has_ended());
    docker.ours().runs(&id, pid);
    docker.daemon = Docker::daemon(&machine);
    docker.answers();
    let state = docker.inspect("survivor")["State"].take();
    assert_eq!((&state["Status"], &state["Pid"]), (&"running".into(), &pid.into()));
    assert_eq!(docker.call(&["exec", "survivor", "cat", "/proc/1/comm"]), "sleep\n");
    docker.call(&["stop", "--time", "0", "survivor"]);
    assert_eq!(docker.inspect("survivor")["State"]["ExitCode"], 137);
    docker.ends();
}

fn fifty_containers_start_at_once(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let script = "for i in $(seq 50); do docker run --detach --network none busybox sleep 1000 & done; wait";
    let ids = machine.script(script).timeout(std::time::Duration::from_secs(180)).output().succeeds().stdout;
    assert_eq!(ids.lines().count(), 50, "each has started:\n{ids}");
    let arguments = ["container", "inspect"].into_iter().chain(ids.lines());
    let all = docker.command(&Vec::from_iter(arguments)).output().succeeds().json();
    for container in all.as_array().unwrap() {
        docker.ours().runs(container["Id"].as_str().unwrap(), container["State"]["Pid"].as_u64().unwrap());
    }
    docker.ends();
}

fn a_health_check_runs_in_the_container(suite: Suite) {
    requires!(is_root(), "needs root");
    let Some(tree) = suite.tree() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let machine = sandbox.boot(&tree);
    let docker = Docker::set_up(&sandbox, &machine);
    let options = ["--health-cmd=test -e /tmp/well", "--health-interval=100ms", "--health-retries=1"];
    let container = docker.start("patient", &options, &["sleep", "1000"]);
    let is = |health: &str| docker.inspect("patient")["State"]["Health"]["Status"] == health;
    eventually("it is unwell", || is("unhealthy"));
    container.exec(&["touch", "/tmp/well"]);
    eventually("it is well", || is("healthy"));
    docker.ends();
}
