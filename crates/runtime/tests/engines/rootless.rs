//! podman as an ordinary user.

use std::fs;

use bulkhead_testkit::{Init, Machine, Run, Session, skip};

use crate::engine::Engine;
use crate::image::{self, ARCHIVE, BUSYBOX};
use crate::limits::{self, limit};
use crate::ours::Ours;
use crate::podman::{self, MONITOR, REMOVAL};
use crate::{Ground, Suite, with_each_suite};

const UID: u32 = 4321;
/// Where `bulkrun` keeps the records of that user.
const ROOT: &str = "/run/user/4321/bulkrun";

with_each_suite!(a_user_without_rights_runs_containers, a_user_with_one_id_runs_containers);

mod systemd {
    mod newest {
        #[test]
        fn a_users_own_systemd_holds_the_limits() {
            super::super::a_users_own_systemd_holds_the_limits(crate::Suite::Newest);
        }
    }
}

/// What ids a user has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// Subordinate ones, too.
    Many,
    One,
}

/// podman of a user of the machine.
#[track_caller]
fn set_up<'m>(&Ground { sandbox, machine, .. }: &Ground<'m>, ids: Ids) -> Engine<'m> {
    image::archive(sandbox, machine);
    fs::write(machine.shared().join("containers.conf"), podman::configuration(machine)).unwrap();
    let script = format!(
        "mkdir -p /etc/containers /run/user/{UID} /var/lib/person; cp /run/shared/containers.conf /etc/containers/
        chmod 755 /opt/bulkrun; chown {UID}:{UID} /run/user/{UID} /var/lib/person; chmod 700 /run/user/{UID}
        echo person:x:{UID}:{UID}::/var/lib/person:/bin/sh >>/etc/passwd; echo person:x:{UID}: >>/etc/group
"
    );
    machine.script(&script).output().succeeds();
    if ids == Ids::Many {
        machine.script("echo person:2000000:65536 | tee -a /etc/subuid >>/etc/subgid").output().succeeds();
    }
    let podman = Engine { machine, program, removal: REMOVAL, root: ROOT, monitor: MONITOR };
    podman.call(&["load", "--quiet", "--input", ARCHIVE]);
    podman
}

fn program(machine: &Machine<'_>) -> Run {
    let run = machine.command_as(UID, UID, "env").arg(format!("XDG_RUNTIME_DIR=/run/user/{UID}"));
    let run = run.args(["HOME=/var/lib/person", "PODMAN_IGNORE_CGROUPSV1_WARNING=yes"]);
    run.args(["--chdir=/var/lib/person", "podman"])
}

fn a_user_without_rights_runs_containers(ground: &Ground<'_>) {
    let machine = ground.machine;
    let podman = set_up(ground, Ids::Many);
    let own = podman.start("own", &["--network=none"], &["sleep", "1000"]);
    let owner = machine.command("stat").args(["--format=%u", &format!("/proc/{}", own.pid())]);
    owner.output().succeeds().prints(&format!("{UID}\n"));
    let map = own.exec(&["cat", "/proc/self/uid_map"]);
    let map = Vec::from_iter(map.split_whitespace());
    assert_eq!(
        map,
        ["0", "4321", "1", "1", "2000000", "65536"],
        "root is the user, the others are subordinate"
    );
    let script = "id -u; touch /tmp/file; stat -c %u /tmp/file; hostname inside && hostname";
    let privileged = ["exec", "--user", "user", "own", "sh", "-c", script];
    podman.command(&privileged).output().exits_with(1).prints("1000\n1000\n");

    let run = [
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--tmpfs=/data:size=1m",
        "--hostname=house",
        BUSYBOX,
    ];
    let script = "hostname; touch /file 2>/dev/null || echo refused; touch /data/file; mount | grep -c ' /sys '; exit 3";
    let output = podman.command(&[&run[..], &["sh", "-c", script]].concat()).output();
    output.exits_with(3).prints("house\nrefused\n1\n");
    let kept = ["run", "--rm", "--network=none", "--userns=keep-id", BUSYBOX, "id", "-u"];
    assert_eq!(podman.call(&kept), format!("{UID}\n"));
    let volume = [
        "run",
        "--rm",
        "--network=none",
        "--volume=mine:/data",
        BUSYBOX,
        "sh",
        "-c",
        "touch /data/x; ls /data",
    ];
    assert_eq!(podman.call(&volume), "x\n");
    let host = ["run", "--rm", "--network=host", "--pid=host", BUSYBOX, "cat", "/proc/1/comm"];
    assert_eq!(podman.call(&host), "tini\n");

    let joined = ["run", "--rm", "--network=none", "--pid=container:own", BUSYBOX, "cat", "/proc/1/comm"];
    assert_eq!(podman.call(&joined), "sleep\n", "the pid namespace is another container's");

    podman.call(&["stop", "--time", "0", "own"]);
    assert_eq!(podman.inspect("own")["State"]["ExitCode"], 137);
    podman.call(&["start", "own"]);
    own.runs();
    podman.ends();
}

fn a_user_with_one_id_runs_containers(ground: &Ground<'_>) {
    let machine = ground.machine;
    machine.script("touch /etc/subuid; mkdir -p /etc/containers; echo '[storage]' >/etc/containers/storage.conf
        printf 'driver = \"overlay\"\n[storage.options.overlay]\nignore_chown_errors = \"true\"\n' >>/etc/containers/storage.conf").output().succeeds();
    let podman = set_up(ground, Ids::One);
    let own = podman.start("own", &["--network=none"], &["sleep", "1000"]);
    let map = own.exec(&["cat", "/proc/self/uid_map", "/proc/self/setgroups"]);
    assert_eq!(Vec::from_iter(map.split_whitespace()), ["0", "4321", "1", "deny"]);
    podman.ends();
}

/// Before the machine, which shares the sessions that are there.
fn a_users_own_systemd_holds_the_limits(suite: Suite) {
    let tree = match crate::tree(suite, Init::Systemd) {
        Ok(tree) => tree,
        Err(why) => skip!("{why}"),
    };
    let sandbox = crate::sandbox();
    let session = Session::begin(&sandbox);
    let uid = session.uid();
    let machine = sandbox.boot(&tree, Init::Systemd);
    image::archive(&sandbox, &machine);
    fs::write(machine.shared().join("containers.conf"), podman::configuration(&machine)).unwrap();
    let script =
        "mkdir -p /etc/containers; cp /run/shared/containers.conf /etc/containers/; chmod 755 /opt/bulkrun";
    machine.script(script).output().succeeds();
    let podman = |arguments: &[&str]| {
        let run = machine.command_as(uid, uid, "env").arg(format!("XDG_RUNTIME_DIR=/run/user/{uid}"));
        let run = run.arg(format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus"));
        let home = format!("/home/{}", session.name());
        let run = run.arg(format!("HOME={home}")).arg(format!("--chdir={home}")).arg("podman");
        run.args(arguments).output().succeeds()
    };
    podman(&["load", "--quiet", "--input", ARCHIVE]);
    let run = ["run", "--detach", "--network=none", "--name", "own", "--memory=64m", "--pids-limit=50"];
    podman(&[&run[..], &[BUSYBOX, "sleep", "1000"]].concat());
    let inspect = || podman(&["container", "inspect", "own"]).json()[0].take();
    let state = inspect();
    let (id, pid) = (state["Id"].as_str().unwrap(), state["State"]["Pid"].as_u64().unwrap());
    let root = format!("/run/user/{uid}/bulkrun");
    let ours = Ours { machine: &machine, root: &root, monitor: MONITOR };
    ours.runs(id, pid);
    let limits = [
        limit("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
        limit("pids", ("pids.max", "50"), ("pids.max", "50")),
    ];
    limits::hold(&machine, pid, &limits);
    let cgroup = fs::read_to_string(machine.path(format!("/proc/{pid}/cgroup"))).unwrap();
    assert!(cgroup.contains(&format!("/user@{uid}.service/user.slice/")), "it is his: {cgroup}");
    assert_eq!(podman(&["exec", "own", "cat", "/proc/1/comm"]).stdout, "sleep\n");
    let statistics = podman(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "own"]).stdout;
    assert!(statistics.contains("67.11MB"), "the limit is known: {statistics}");
    podman(&["stop", "--time", "0", "own"]);
    assert_eq!(inspect()["State"]["ExitCode"], 137);
    podman(&["rm", "own"]);
    ours.has_none();
    // A process of podman's keeps the user's namespace.
    podman(&["system", "reset", "--force"]);
    drop(machine);
    drop(session);
}
