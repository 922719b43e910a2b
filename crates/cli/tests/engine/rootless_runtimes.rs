//! Runtimes of others that start an ordinary user's containers: Debian's runc and crun, with images and networks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{find_program, in_fresh_namespaces, requires, skip, wait_until};

use crate::carriers::{Carrier, FAR, NEWEST_PASTA, SERVICE, SLIRP, heard, kill, on_a_cable, runs};
use crate::person::{FIRST, Person, RANGE, USER, person};
use crate::runtimes::peer;
use crate::shop::IMAGE;

/// A runtime, and where `cargo xtask peers` has it.
#[derive(Clone, Copy)]
struct Foreign {
    name: &'static str,
    place: &'static str,
}

const RUNC: Foreign = Foreign { name: "runc", place: "bookworm/usr/sbin" };
const CRUN: Foreign = Foreign { name: "crun", place: "bookworm/usr/bin" };

/// Gives a person a runtime, or ends the test where there is none.
macro_rules! install {
    ($person:expr, $foreign:expr) => {{
        let Some(program) = peer($foreign.name, &[$foreign.place]) else {
            skip!("{} is not here", $foreign.name)
        };
        requires!(find_program("patchelf").is_some(), "needs patchelf");
        install(&$person, $foreign, &program)
    }};
}

/// crun refuses the mixture of both versions of cgroups that some machines have.
macro_rules! without_a_mixture {
    () => {
        requires!(bulkhead_testkit::is_root(), "needs root");
        in_fresh_namespaces!(Mount);
        drop(Command::new("umount").args(["-q", "/sys/fs/cgroup/unified"]).status());
    };
}

/// Copies a runtime with its libraries to where the user may read them; returns its path.
fn install(person: &Person, foreign: Foreign, program: &Path) -> String {
    let shop = &person.shop;
    let own = shop.path("runtimes");
    fs::create_dir_all(&own).unwrap();
    let copied = own.join(foreign.name);
    let copy = |from: &Path, to: &Path| {
        shop.sandbox.command("cp").arg("-L").arg(from).arg(to).output().succeeds();
    };
    copy(program, &copied);
    let needed = shop.sandbox.command("ldd").arg(program).output().succeeds().stdout;
    let mut loader = None;
    for path in needed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from) {
        copy(&path, &own);
        let name = path.file_name().unwrap().to_owned();
        if name.to_string_lossy().starts_with("ld-linux") {
            loader = Some(own.join(name));
        }
    }
    let patch = shop.sandbox.command("patchelf").arg("--set-interpreter").arg(loader.unwrap());
    patch.arg("--set-rpath").arg(&own).arg(&copied).output().succeeds();
    copied.to_str().unwrap().to_owned()
}

impl Person {
    /// Lists what is below the directories of containers and of runtimes' states.
    fn left(&self, runtime: &str) -> Vec<String> {
        let states = self.xdg.join("bulkhead/runtime").join(Path::new(runtime).file_name().unwrap());
        let places = [self.root().join("containers"), self.xdg.join("bulkhead/containers"), states];
        let entries = places.iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
        entries.map(|entry| entry.path().display().to_string()).collect()
    }
}

/// Everything that an ordinary user does with a container of an image.
fn lives(person: &Person, runtime: &str) {
    let with =
        |options: &[&str], script: &str| person.run(&[&["--runtime", runtime], options].concat(), script);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let script =
        "id -u; stat -c %u:%g /srv/file; tr -s ' ' < /proc/self/uid_map; ls /sys/class/net; hostname";
    let said = with(&["--rm", "--network", "none", "--hostname", "here"], script).output().succeeds();
    said.prints(&format!("0\n33:34\n 0 {USER} 1\n 1 {FIRST} 65536\nlo\nhere\n"));
    let said =
        with(&["--rm", "-i", "--network", "none", "-u", "33:34"], "id -u; cat").input("typed\n").output();
    assert_eq!(said.stdout, "33\ntyped\n", "{}", said.stderr);
    let network = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let said = with(&["--rm", "--network", "host"], "readlink /proc/self/ns/net; ls -d /sys/class")
        .output()
        .succeeds();
    said.prints(&format!("{}\n/sys/class\n", network.display()));
    with(&["--rm", "--network", "none"], "exit 7").output().exits_with(7);
    let missing = with(&["--rm", "--network", "none", "--entrypoint", "/nothing"], "true").output();
    missing.exits_with(127);

    let script = "echo ready; mkdir -m 700 /mine; echo x > /mine/file; chown -R 33:34 /mine; trap 'echo heard; exit 4' TERM; \
                  while :; do sleep 0.1; done";
    with(&["-d", "--name", "job", "--network", "none", "-v", "data:/srv"], script).output().succeeds();
    wait_until("it writes", || person.bulkhead(&["exec", "job", "test", "-O", "/mine"]).output().code() == 1);
    assert_eq!(person.said(&["logs", "job"]), "ready\n");
    assert!(person.said(&["ps"]).contains("job"));
    assert_eq!(person.said(&["exec", "-u", "33:34", "job", "cat", "/mine/file", "/srv/file"]), "x\nof 33\n");
    assert!(person.said(&["top", "job"]).contains("sleep"));
    person.bulkhead(&["exec", "job", "sh", "-c", "exit 5"]).output().exits_with(5);
    let missing = person.bulkhead(&["exec", "job", "no-such-program"]).output().exits_with(127);
    assert!(missing.stderr.contains("run a process in container job: "), "{}", missing.stderr);
    person.said(&["exec", "-d", "job", "touch", "/made"]);
    wait_until("it is made", || {
        person.bulkhead(&["exec", "job", "test", "-e", "/made"]).output().code() == 0
    });
    let seat = Seat::new(24, 80);
    let running = seat.spawn(person.bulkhead(&["exec", "-it", "job", "sh", "-c", "read x; echo got $x"]));
    seat.screen.type_in("word\r");
    seat.screen.shows("got word");
    running.wait().succeeds();
    person.said(&["stop", "-t", "20", "job"]);
    assert_eq!(person.said(&["logs", "job"]), "ready\nheard\n");
    assert!(person.said(&["diff", "job"]).lines().any(|line| line == "A /mine/file"));
    person.said(&["start", "job"]);
    assert_eq!(person.said(&["exec", "job", "cat", "/mine/file"]), "x\n", "what it wrote is its own");
    person.said(&["rm", "-f", "job"]);
    person.said(&["volume", "rm", "data"]);

    let seat = Seat::new(31, 41);
    let words = ["run", "--rm", "-it", "--runtime", runtime, "--network", "none", IMAGE, "sh", "-c"];
    let script = "until stty size 2>/dev/null; do sleep 0.05; done; read x; echo got $x; exit 3";
    let running = seat.spawn(person.bulkhead(&[&words[..], &[script]].concat()));
    seat.screen.shows("31 41");
    seat.screen.type_in("word\r");
    seat.screen.shows("got word");
    running.wait().exits_with(3);

    with(&["-d", "--name", "again", "--network", "none", "--restart", "always"], "echo up; sleep 0.3")
        .output()
        .succeeds();
    wait_until("it is started again", || person.said(&["logs", "again"]).lines().count() >= 3);
    person.said(&["rm", "-f", "again"]);
    let kept =
        with(&["--rm", "--network", "none", "--userns", "keep-id"], "id -u; touch /tmp/x; stat -c %u /tmp/x");
    kept.output().succeeds().prints(&format!("{USER}\n{USER}\n"));
    // Its monitor and its processes are killed: whoever looks removes what is left.
    with(&["-d", "--name", "lost", "--network", "none"], "sleep 1000").output().succeeds();
    let pid = person.pid("lost");
    kill(person, &person.monitor("lost").into());
    person.said(&["system", "check"]);
    wait_until("it has ended", || !runs(i32::try_from(pid).unwrap()));
    person.said(&["rm", "-f", "lost"]);
    let refused = person.bulkhead(&["create", "--runtime", runtime, "--pid", "host", IMAGE, "true"]).output();
    assert!(
        refused.code() != 0 && refused.stderr.contains("--pid host with --runtime"),
        "{}",
        refused.stderr
    );
    assert_eq!(person.left(runtime), Vec::<String>::new());
    assert_eq!(
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before,
        "the host's mounts are as they were"
    );
}

#[test]
fn runc_runs_an_ordinary_users_containers() {
    let person = person!(RANGE).with_image();
    let runtime = install!(person, RUNC);
    lives(&person, &runtime);
}

#[test]
fn crun_runs_an_ordinary_users_containers() {
    without_a_mixture!();
    let person = person!(RANGE).with_image();
    let runtime = install!(person, CRUN);
    lives(&person, &runtime);
}

/// Must fail when a container may look into a runtime that works among its own users, outside its namespace of processes.
#[test]
fn nobody_looks_into_the_runtime_of_an_ordinary_users_container() {
    requires!(bulkhead_testkit::is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let person = person!(RANGE).with_image();
    let runtime = install!(person, RUNC);
    let words = ["-d", "--name", "job", "--runtime", &runtime, "--network", "none"];
    person.run(&words, "sleep 1000").output().succeeds();
    let own = person.shop.path("own");
    fs::create_dir(&own).unwrap();
    let shared = format!("{}:/mnt", own.display());
    let looks = |verb: &str, options: &[&str]| {
        let script = [IMAGE, "sleep", "1000"];
        let first = [verb, "--rm", "--name", "looks", "--network", "container:job"];
        person.bulkhead(&[&first[..], options, &script].concat()).output()
    };
    for options in [&["--pid", "host", "--privileged"][..], &["-v", "/proc:/host:ro"], &["-v", "/:/host"]] {
        for verb in ["create", "run"] {
            let said = looks(verb, options).complains("container looks: it sees its host's processes, among");
            assert_ne!(said.code(), 0);
        }
    }
    looks("run", &["-d", "--pid", "container:job", "-v", &shared]).succeeds();
    person.said(&["rm", "-f", "looks"]);
    looks("run", &["-d", "-v", &shared]).succeeds();
    // The other way round, when there are processes to be seen where there were none.
    fs::create_dir(own.join("proc")).unwrap();
    let procfs = own.join("proc");
    Command::new("mount").args(["-t", "proc", "proc"]).arg(&procfs).status().unwrap();
    person.said(&["stop", "-t", "0", "job"]);
    person.bulkhead(&["start", "job"]).output().complains("container looks: it sees its host's processes");
    Command::new("umount").arg(&procfs).status().unwrap();
    person.said(&["start", "job"]);
    person.said(&["rm", "-f", "looks", "job"]);
}

/// Must fail when the container's first process can choose where runtimes are called.
#[test]
fn a_runtime_is_called_among_the_containers_users_wherever_its_first_process_has_gone() {
    let person = person!(RANGE).with_image();
    let runtime = install!(person, RUNC);
    let words = ["-d", "--name", "job", "--runtime", &runtime, "--network", "none", "--security-opt"];
    let script = "readlink /proc/self/ns/user; exec unshare -U -r sleep 1000";
    person.run(&[&words[..], &["seccomp=unconfined"]].concat(), script).output().succeeds();
    let link = format!("/proc/{}/ns/user", person.pid("job"));
    wait_until("it has gone", || {
        let said = person.said(&["logs", "job"]);
        !said.is_empty() && fs::read_link(&link).unwrap().to_str() != Some(said.trim())
    });
    let said = person.said(&["exec", "job", "readlink", "/proc/self/ns/user"]);
    assert_eq!(said, person.said(&["logs", "job"]));
    person.said(&["rm", "-f", "job"]);
    assert_eq!(person.left(&runtime), Vec::<String>::new());
}

/// Must fail when containers that ran before runtimes were called among their users cannot be joined any more.
#[test]
fn a_runtime_is_called_as_the_one_that_started_the_container() {
    let person = person!(RANGE).with_image();
    let runtime = install!(person, RUNC);
    let words = ["-d", "--name", "job", "--runtime", &runtime, "--network", "none"];
    person.run(&words, "sleep 1000").output().succeeds();
    let id = person.said(&["ps", "-q", "--no-trunc"]).trim().to_owned();
    let recorded = person.xdg.join("bulkhead/containers").join(&id).join("within.json");
    let (kept, real) = (person.shop.path("within.json"), format!("{runtime}.real"));
    fs::rename(&recorded, &kept).unwrap();
    fs::rename(&runtime, &real).unwrap();
    let said = person.xdg.join("said");
    let script = format!("#!/bin/sh\nreadlink /proc/self/ns/user > {}\nexit 1\n", said.display());
    person.shop.script_file(Path::new(&runtime), &script);
    assert_ne!(person.bulkhead(&["exec", "job", "true"]).output().code(), 0);
    let namespace = fs::read_link("/proc/self/ns/user").unwrap();
    assert_eq!(fs::read_to_string(&said).unwrap().trim(), namespace.to_str().unwrap());
    fs::rename(&real, &runtime).unwrap();
    fs::rename(&kept, &recorded).unwrap();
    fs::remove_file(&said).unwrap();
    person.said(&["rm", "-f", "job"]);
    assert_eq!(person.left(&runtime), Vec::<String>::new());
}

/// A network, its ports and its end.
fn leads_on(person: &Person, runtime: &str, which: Carrier) {
    let with =
        |options: &[&str], script: &str| person.run(&[&["--runtime", runtime], options].concat(), script);
    let script =
        format!("until busybox timeout 5 wget -qO- http://{FAR}:7000/ | grep hello; do sleep 0.1; done");
    let said = with(&["--rm"], &script).output().succeeds();
    assert_eq!(said.stdout, "hello far\n", "{}: {}", which.name, said.stderr);
    let low = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range";
    with(&["--rm"], low).output().succeeds().prints("0\n0\t65536\n");
    with(&["-d", "--name", "web", "-p", "127.0.0.1:8080:80"], SERVICE).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
    assert_eq!(person.said(&["port", "web"]), "80/tcp -> 127.0.0.1:8080\n");
    let inside = person.said(&["exec", "web", "readlink", "/proc/self/ns/net"]);
    let own = fs::read_link(format!("/proc/{}/ns/net", person.pid("web"))).unwrap();
    assert_eq!(inside.trim(), own.to_str().unwrap(), "who joins is in its network");
    let id = person.said(&["ps", "-q", "--no-trunc"]).trim().to_owned();
    let recorded = || {
        let file = person.xdg.join("bulkhead/containers").join(&id).join("network.json");
        let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        i32::try_from(document["carrier"]["process"]["pid"].as_i64().unwrap()).unwrap()
    };
    let first = recorded();
    person.said(&["restart", "-t", "0", "web"]);
    wait_until("it answers again", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
    let second = recorded();
    assert!(!runs(first) && runs(second));
    // The monitor and the container, of which nobody hears.
    let pid = person.pid("web");
    kill(person, &person.monitor("web").into());
    kill(person, &pid.into());
    person.said(&["system", "check"]);
    wait_until("the carrier has ended", || !runs(second));
    person.said(&["rm", "-f", "web"]);
    let options = ["--name", "no", "-p", "18080:80", "--entrypoint", "/nothing"];
    with(&options, "true").output().exits_with(127);
    assert!(std::net::TcpListener::bind("0.0.0.0:18080").is_ok(), "nobody listens for it");
    person.said(&["rm", "no"]);
    assert_eq!(person.left(runtime), Vec::<String>::new());
}

#[test]
fn containers_that_runc_starts_have_a_network() {
    for which in [NEWEST_PASTA, SLIRP] {
        let (person, _cable) = on_a_cable!(which);
        let runtime = install!(person, RUNC);
        leads_on(&person, &runtime, which);
    }
}

#[test]
fn containers_that_crun_starts_have_a_network() {
    without_a_mixture!();
    let (person, _cable) = on_a_cable!(SLIRP);
    let runtime = install!(person, CRUN);
    leads_on(&person, &runtime, SLIRP);
}
