//! docker with `bulkrun` as its default runtime.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{Disk, Init, Running, requires, skip, slowness};
use serde_json::json;

use crate::engine::{self, Engine, status};
use crate::image::{self, ARCHIVE, BUSYBOX};
use crate::limits::{self, limit};
use crate::{Ground, Suite, eventually, under_systemd, with_each_suite};

with_each_suite!(
    a_container_lives_from_run_to_rm,
    exit_codes_are_the_programs_or_tell_what_failed,
    a_person_attaches_to_a_terminal_and_leaves_it,
    limits_are_in_force_and_can_change,
    limits_that_only_v1_has_are_in_force,
    rates_of_disks_are_in_force,
    weights_of_disks_are_in_force_or_docker_says_that_it_cannot,
    real_time_is_shared_out,
    options_of_run_take_effect,
    files_go_in_and_out,
    namespaces_can_be_those_of_another_container_or_the_machine,
    containers_are_started_again_as_their_policy_says,
    a_container_outlives_the_daemon,
    fifty_containers_start_at_once,
    a_health_check_runs_in_the_container,
);

under_systemd!(
    a_container_lives_from_run_to_rm,
    limits_are_in_force_and_can_change,
    options_of_run_take_effect,
    containers_are_started_again_as_their_policy_says,
    a_container_outlives_the_daemon,
);

/// The daemon on a machine, with images.
struct Docker<'m> {
    engine: Engine<'m>,
    /// Ends with the machine.
    daemon: Running,
}

impl<'m> Deref for Docker<'m> {
    type Target = Engine<'m>;

    fn deref(&self) -> &Engine<'m> {
        &self.engine
    }
}

impl<'m> Docker<'m> {
    #[track_caller]
    fn set_up(&Ground { sandbox, machine, .. }: &Ground<'m>) -> Self {
        image::archive(sandbox, machine);
        let configuration = json!({
            "default-runtime": "bulkrun",
            "runtimes": { "bulkrun": { "path": "/opt/bulkrun" } },
            "live-restore": true,
            "exec-opts": [match machine.init() {
                Init::Own => "native.cgroupdriver=cgroupfs",
                Init::Systemd => "native.cgroupdriver=systemd",
            }],
        });
        fs::write(machine.shared().join("daemon.json"), configuration.to_string()).unwrap();
        machine.script("mkdir -p /etc/docker; cp /run/shared/daemon.json /etc/docker/").output().succeeds();
        let engine = Engine {
            machine,
            program: |machine| machine.command("docker"),
            removal: &["rm", "--force", "--volumes"],
            // Whatever a runtime is called, docker names the directory after runc.
            root: "/run/docker/runtime-runc/moby",
            monitor: "containerd-shim",
        };
        let daemon = machine.command("dockerd").spawn();
        let docker = Self { engine, daemon };
        docker.answers();
        docker.call(&["load", "--quiet", "--input", ARCHIVE]);
        docker
    }

    /// Starts the daemon that has ended.
    #[track_caller]
    fn starts_again(&mut self) {
        self.daemon = self.machine.command("dockerd").spawn();
        self.answers();
    }

    #[track_caller]
    fn answers(&self) {
        eventually("the daemon answers", || {
            assert!(!self.daemon.has_ended(), "the daemon should run\n{}", self.daemon.stderr());
            self.command(&["version"]).output().code() == 0
        });
    }
}

fn a_container_lives_from_run_to_rm(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    engine::lives(&docker, |container| {
        assert_eq!(docker.inspect("life")["HostConfig"]["Runtime"], "bulkrun");
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
    });
    docker.ends();
}

fn exit_codes_are_the_programs_or_tell_what_failed(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    engine::exits(&docker, |output, code, complaint| {
        // docker 20 says 126 whatever keeps `exec` from executing, and prints it on standard output.
        let code = if code == 127 && ground.suite == Suite::Release { 126 } else { code };
        let output = output.exits_with(code);
        assert!(format!("{}{}", output.stdout, output.stderr).contains(complaint), "{output}");
    });
    docker.ends();
}

fn a_person_attaches_to_a_terminal_and_leaves_it(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    let seat = Seat::new(30, 100);
    let run = ["run", "--interactive", "--tty", "--name", "seat", BUSYBOX, "sh"];
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
    docker.machine.command("pkill").args(["-WINCH", "-x", "docker"]).output().succeeds();
    eventually("the new size has arrived", || {
        docker.call(&["exec", "seat", "stty", "-F", "/dev/pts/0", "size"]) == "33 66\n"
    });
    // Ctrl-P Ctrl-Q leaves it.
    seat.screen.type_in("\u{10}\u{11}");
    running.wait().succeeds();
    seat.is_restored();
    docker.running("seat");

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

fn limits_are_in_force_and_can_change(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
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
        limit("cpu", ("cpu.shares", "512"), ("cpu.weight", "59")),
        limit("pids", ("pids.max", "50"), ("pids.max", "50")),
        limit("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        limit("cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    ];
    limits::hold(docker.machine, container.pid(), &limits);
    let update =
        ["update", "--memory=100m", "--memory-swap=200m", "--cpu-quota=20000", "--pids-limit=77", "limited"];
    docker.call(&update);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "104857600"), ("memory.max", "104857600")),
        limit("memory", ("memory.memsw.limit_in_bytes", "209715200"), ("memory.swap.max", "104857600")),
        limit("cpu", ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")),
        limit("pids", ("pids.max", "77"), ("pids.max", "77")),
    ];
    limits::hold(docker.machine, container.pid(), &limits);
    docker.call(&["update", "--cpu-shares=1024", "limited"]);
    let shares = [limit("cpu", ("cpu.shares", "1024"), ("cpu.weight", "100"))];
    limits::hold(docker.machine, container.pid(), &shares);

    let (place, name) = match docker.machine.init() {
        Init::Own => ("/elsewhere", ""),
        Init::Systemd => ("system-elsewhere.slice", ".scope"),
    };
    let parent = format!("--cgroup-parent={place}");
    let child = docker.start("child", &[&parent, "--cpus=0.5"], &["sleep", "1000"]);
    let half = [limit("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"))];
    limits::hold(docker.machine, child.pid(), &half);
    let is_its = |path: &PathBuf| {
        path.parent().is_some_and(|parent| parent.ends_with(place.trim_start_matches('/')))
            && path.to_string_lossy().ends_with(&format!("{}{name}", child.id))
    };
    assert!(docker.machine.cgroups().iter().any(is_its), "its cgroup is in {place}");

    engine::is_killed_for_its_memory(&docker, "hog");
    eventually("the reason is known", || docker.inspect("hog")["State"]["OOMKilled"] == true);
    docker.ends();
    if docker.machine.init() == Init::Systemd {
        docker.machine.command("systemctl").args(["stop", place]).output().succeeds();
    }
}

fn limits_that_only_v1_has_are_in_force(ground: &Ground<'_>) {
    requires!(limits::is_v1(ground.machine, "memory"), "needs the memory controller of cgroup v1");
    let docker = Docker::set_up(ground);
    let mut options = vec!["--memory=64m", "--memory-swappiness=5", "--oom-kill-disable"];
    if ground.suite == Suite::Release {
        // Later clients do not have it any more. The kernel has no such limit, and the container starts all the same.
        options.push("--kernel-memory=32m");
    }
    let old = docker.start("old", &options, &["sleep", "1000"]);
    let limits = [
        limit("memory", ("memory.swappiness", "5"), ("", "")),
        limit("memory", ("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 0"), ("", "")),
    ];
    limits::hold(docker.machine, old.pid(), &limits);
    docker.ends();
}

fn rates_of_disks_are_in_force(ground: &Ground<'_>) {
    let Some(Disk { node, numbers: (major, minor) }) = Disk::find() else { skip!("needs a disk") };
    let docker = Docker::set_up(ground);
    let rates = ["read-bps", "write-bps", "read-iops", "write-iops"]
        .into_iter()
        .zip([1_048_576, 2_097_152, 300, 100]);
    let options = rates.clone().map(|(what, rate)| format!("--device-{what}={}:{rate}", node.display()));
    let options = Vec::from_iter(options);
    let slow = docker.start("slow", &Vec::from_iter(options.iter().map(String::as_str)), &["sleep", "1000"]);
    let all = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=300 wiops=100");
    for (what, rate) in rates {
        let file = format!("blkio.throttle.{}_device", what.replace('-', "_"));
        let own = format!("{major}:{minor} {rate}");
        limits::hold(docker.machine, slow.pid(), &[limit("blkio", (&file, &own), ("io.max", &all))]);
    }
    docker.ends();
}

fn weights_of_disks_are_in_force_or_docker_says_that_it_cannot(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    let words = ["run", "--detach", "--name", "weighty", "--blkio-weight=300", BUSYBOX, "sleep", "1000"];
    let output = docker.command(&words).output().succeeds();
    let weighty = docker.running("weighty");
    let told = output.stderr.to_lowercase();
    if told.contains("weight discarded") {
        assert_eq!(docker.inspect("weighty")["HostConfig"]["BlkioWeight"], 0, "docker does not ask for it");
    } else {
        assert!(!told.contains("weight"), "{output}");
        let (old, new) = (("blkio.weight", "300"), ("io.bfq.weight", "default 300"));
        limits::hold(docker.machine, weighty.pid(), &[limit("blkio", old, new)]);
    }
    docker.ends();
}

fn real_time_is_shared_out(ground: &Ground<'_>) {
    let file = "/sys/fs/cgroup/cpu/cpu.rt_runtime_us";
    requires!(ground.machine.path(file).exists(), "needs a kernel that shares real time out, and cgroup v1");
    let mut docker = Docker::set_up(ground);
    // All above a container must have some: the machine, and docker's own cgroup, for which its daemon cares.
    docker.machine.script(&format!("echo 20000 > {file}")).output().succeeds();
    docker.machine.script("kill $(cat /run/docker.pid)").output().succeeds();
    eventually("the daemon has ended", || docker.daemon.has_ended());
    let edit = "sed -i 's/^{/{\"cpu-rt-runtime\":20000,\"cpu-rt-period\":1000000,/' /etc/docker/daemon.json";
    docker.machine.script(edit).output().succeeds();
    docker.starts_again();
    let options = ["--cpu-rt-runtime=10000", "--cpu-rt-period=500000"];
    let quick = docker.start("quick", &options, &["sleep", "1000"]);
    let limits = [
        limit("cpu", ("cpu.rt_runtime_us", "10000"), ("", "")),
        limit("cpu", ("cpu.rt_period_us", "500000"), ("", "")),
    ];
    limits::hold(docker.machine, quick.pid(), &limits);
    docker.ends();
}

fn options_of_run_take_effect(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    let shell = |options: &[&str], script: &str| docker.shell(options, script);
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
    engine::is_caged(&docker);
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

fn files_go_in_and_out(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    fs::create_dir(docker.machine.shared().join("data")).unwrap();
    let mounts = [
        "--mount=type=bind,src=/run/shared/data,dst=/data,bind-propagation=rslave",
        "--mount=type=bind,src=/run/shared,dst=/fixed,readonly",
        "--mount=type=tmpfs,dst=/quick,tmpfs-size=1m",
        "--volume=named:/home",
    ];
    let container = docker.start("files", &mounts, &["sleep", "1000"]);
    assert_eq!(container.exec(&["sh", "-c", "touch /home/x /quick/x; ls /home"]), "user\nx\n");
    docker.command(&["exec", "files", "touch", "/fixed/x"]).output().exits_with(1);
    engine::carries_files(&container);
    docker.call(&["commit", "files", "changed"]);
    assert_eq!(docker.call(&["run", "--rm", "changed", "cat", "/tmp/file"]), "in-it\n");
    docker.ends();
}

fn namespaces_can_be_those_of_another_container_or_the_machine(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    let options = ["--publish=127.0.0.1:8080:80", "--ipc=shareable"];
    docker.start("server", &options, &["httpd", "-f", "-p", "80", "-h", "/etc"]);
    engine::shares_namespaces(&docker);
    engine::is_reached(&docker, "http://127.0.0.1:8080/passwd");
    docker.ends();
}

fn containers_are_started_again_as_their_policy_says(ground: &Ground<'_>) {
    let mut docker = Docker::set_up(ground);
    let failing = [
        "run",
        "--detach",
        "--name",
        "failing",
        "--restart=on-failure:2",
        BUSYBOX,
        "sh",
        "-c",
        "echo tries; exit 1",
    ];
    docker.call(&failing);
    let immortal = docker.start("immortal", &["--restart=always"], &["sleep", "1000"]);
    let first = immortal.pid();
    docker.machine.command("kill").args(["-KILL", &first.to_string()]).output().succeeds();
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
    let faithful = docker.start("faithful", &["--restart=unless-stopped"], &["sleep", "1000"]);
    let first = faithful.pid();
    docker.machine.command("kill").args(["-KILL", &first.to_string()]).output().succeeds();
    eventually("it runs again", || docker.inspect("faithful")["RestartCount"] == 1 && faithful.pid() != 0);
    faithful.runs();
    // A new daemon starts again what was stopped and is always to run, and not what was to run unless it is stopped.
    docker.call(&["stop", "--time", "0", "immortal", "faithful"]);
    docker.machine.script("kill $(cat /run/docker.pid)").output().succeeds();
    eventually("the daemon has ended", || docker.daemon.has_ended());
    docker.starts_again();
    eventually("it runs again", || docker.inspect("immortal")["State"]["Status"] == "running");
    docker.running("immortal");
    assert_eq!(docker.inspect("faithful")["State"]["Status"], "exited");
    docker.ends();
}

fn a_container_outlives_the_daemon(ground: &Ground<'_>) {
    let mut docker = Docker::set_up(ground);
    let (id, pid) = {
        let container = docker.start("survivor", &[], &["sleep", "1000"]);
        (container.id.clone(), container.pid())
    };
    docker.machine.script("kill $(cat /run/docker.pid)").output().succeeds();
    eventually("the daemon has ended", || docker.daemon.has_ended());
    docker.ours().runs(&id, pid);
    docker.starts_again();
    let state = docker.inspect("survivor")["State"].take();
    assert_eq!((&state["Status"], &state["Pid"]), (&"running".into(), &pid.into()));
    assert_eq!(docker.call(&["exec", "survivor", "cat", "/proc/1/comm"]), "sleep\n");
    docker.call(&["stop", "--time", "0", "survivor"]);
    assert_eq!(docker.inspect("survivor")["State"]["ExitCode"], 137);
    docker.ends();
}

fn fifty_containers_start_at_once(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    let script = "for i in $(seq 50); do docker run --detach --network none busybox sleep 1000 & done; wait";
    let patience = Duration::from_secs(180) * slowness();
    let ids = docker.machine.script(script).timeout(patience).output().succeeds().stdout;
    assert_eq!(ids.lines().count(), 50, "each has started:\n{ids}");
    let arguments = ["container", "inspect"].into_iter().chain(ids.lines());
    let all = docker.command(&Vec::from_iter(arguments)).output().succeeds().json();
    for container in all.as_array().unwrap() {
        docker.ours().runs(container["Id"].as_str().unwrap(), container["State"]["Pid"].as_u64().unwrap());
    }
    docker.ends();
}

fn a_health_check_runs_in_the_container(ground: &Ground<'_>) {
    let docker = Docker::set_up(ground);
    let options = ["--health-cmd=test -e /tmp/well", "--health-interval=100ms", "--health-retries=1"];
    let container = docker.start("patient", &options, &["sleep", "1000"]);
    let is = |health: &str| docker.inspect("patient")["State"]["Health"]["Status"] == health;
    eventually("it is unwell", || is("unhealthy"));
    container.exec(&["touch", "/tmp/well"]);
    eventually("it is well", || is("healthy"));
    docker.ends();
}
