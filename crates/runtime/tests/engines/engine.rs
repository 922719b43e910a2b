//! An engine with docker's command line, and what docker and podman do alike.

use std::fs;

use bulkhead_testkit::{Init, Machine, Output, Run};
use serde_json::Value;

use crate::eventually;
use crate::image::BUSYBOX;
use crate::ours::Ours;

/// An engine on a machine that has the images.
pub(crate) struct Engine<'m> {
    pub(crate) machine: &'m Machine<'m>,
    /// Begins a command line.
    pub(crate) program: fn(&Machine<'_>) -> Run,
    /// Removes containers at once, with all that belongs to them.
    pub(crate) removal: &'static [&'static str],
    /// Where `bulkrun` keeps records for it, and what it puts above containers.
    pub(crate) root: &'static str,
    pub(crate) monitor: &'static str,
}

impl Engine<'_> {
    pub(crate) fn command(&self, arguments: &[&str]) -> Run {
        (self.program)(self.machine).args(arguments)
    }

    /// Runs the client and returns what it prints.
    #[track_caller]
    pub(crate) fn call(&self, arguments: &[&str]) -> String {
        self.command(arguments).output().succeeds().stdout
    }

    /// Runs a container of busybox to its end and returns what it prints.
    #[track_caller]
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> String {
        self.call(&[&["run", "--rm"], options, &[BUSYBOX], command].concat())
    }

    /// Runs a script in a container of busybox to its end and returns what it prints.
    #[track_caller]
    pub(crate) fn shell(&self, options: &[&str], script: &str) -> String {
        self.run(options, &["sh", "-c", script])
    }

    /// Starts a container of busybox that lasts, and proves that it is one of `bulkrun`.
    #[track_caller]
    pub(crate) fn start(&self, name: &str, options: &[&str], command: &[&str]) -> Container<'_> {
        let id = self.call(&[&["run", "--detach", "--name", name], options, &[BUSYBOX], command].concat());
        let container = Container { engine: self, name: name.to_owned(), id: id.trim().to_owned() };
        container.runs();
        container
    }

    pub(crate) fn ours(&self) -> Ours<'_> {
        Ours { machine: self.machine, root: self.root, monitor: self.monitor }
    }

    /// What the engine knows of a container.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str) -> Value {
        self.command(&["container", "inspect", name]).output().succeeds().json()[0].take()
    }

    /// Finds a container that somebody has started, and proves that it is one of `bulkrun`.
    #[track_caller]
    pub(crate) fn running(&self, name: &str) -> Container<'_> {
        let id = self.inspect(name)["Id"].as_str().unwrap().to_owned();
        let container = Container { engine: self, name: name.to_owned(), id };
        container.runs();
        container
    }

    /// Removes all containers, after which nothing may be left.
    #[track_caller]
    pub(crate) fn ends(&self) {
        let all = self.call(&["ps", "--all", "--quiet"]);
        let remove = self.removal.iter().copied().chain(all.split_whitespace());
        self.command(&Vec::from_iter(remove)).output();
        assert_eq!(self.call(&["ps", "--all", "--quiet"]), "");
        self.ours().has_none();
    }
}

/// A container that has been started.
pub(crate) struct Container<'e> {
    engine: &'e Engine<'e>,
    pub(crate) name: String,
    pub(crate) id: String,
}

impl Container<'_> {
    #[track_caller]
    pub(crate) fn pid(&self) -> u64 {
        self.engine.inspect(&self.name)["State"]["Pid"].as_u64().unwrap()
    }

    /// Proves that it runs, as one of `bulkrun`.
    #[track_caller]
    pub(crate) fn runs(&self) {
        self.engine.ours().runs(&self.id, self.pid());
    }

    /// Runs a program in it and returns what it prints.
    #[track_caller]
    pub(crate) fn exec(&self, command: &[&str]) -> String {
        self.engine.call(&[&["exec", &self.name], command].concat())
    }
}

/// Reads a line of the status of a process, in a shell.
pub(crate) fn status(field: &str) -> String {
    format!("sed -n 's/^{field}:\\t//p' /proc/self/status")
}

/// A container called `life` is run, joined, paused, stopped, started again and killed; `observed` is how the engine
/// tells of it meanwhile.
#[track_caller]
pub(crate) fn lives(engine: &Engine<'_>, observed: impl FnOnce(&Container<'_>)) {
    let script = "trap 'echo goes; exit 7' TERM; echo comes; while :; do sleep 0.1; done";
    let container = engine.start("life", &[], &["sh", "-c", script]);
    eventually("it has spoken", || engine.call(&["logs", "life"]) == "comes\n");
    assert_eq!(container.exec(&["id", "-u"]), "0\n");
    let user = ["exec", "--user", "user", "--env", "A=b", "--workdir", "/tmp", "life"];
    let print = ["sh", "-c", "id -un; pwd; echo $A"];
    assert_eq!(engine.call(&[&user[..], &print].concat()), "user\n/tmp\nb\n");
    let input = engine.command(&["exec", "--interactive", "life", "cat"]).input("through a pipe\n");
    input.output().succeeds().prints("through a pipe\n");
    observed(&container);

    engine.call(&["pause", "life"]);
    assert_eq!(engine.ours().status(&container.id), "paused");
    assert_eq!(engine.inspect("life")["State"]["Status"], "paused");
    engine.call(&["unpause", "life"]);
    assert_eq!(engine.ours().status(&container.id), "running");

    engine.call(&["stop", "--time", "30", "life"]);
    let state = engine.inspect("life")["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &7.into()), "it heard the signal");
    assert_eq!(engine.call(&["logs", "life"]), "comes\ngoes\n");
    engine.call(&["start", "life"]);
    container.runs();
    engine.call(&["kill", "life"]);
    assert_eq!(engine.call(&["wait", "life"]), "137\n");
}

/// Exit codes are the program's, or tell what failed; `exec_fails` checks those of `exec`.
#[track_caller]
pub(crate) fn exits(engine: &Engine<'_>, exec_fails: impl Fn(Output, i32, &str)) {
    engine.start("place", &[], &["sleep", "1000"]);
    for (code, words, complaint) in [
        (5, &["sh", "-c", "exit 5"][..], ""),
        (143, &["sh", "-c", "sh -c 'kill $$'; exit $?"], ""),
        (127, &["no-such-program"], "executable file not found in $PATH"),
        (126, &["/etc"], "is a directory"),
        (126, &["/etc/passwd"], "permission denied"),
    ] {
        let output = engine.command(&[&["run", "--rm", BUSYBOX], words].concat()).output();
        output.exits_with(code).complains(complaint);
        exec_fails(engine.command(&[&["exec", "place"], words].concat()).output(), code, complaint);
    }
}

/// A program is held back by capabilities, no_new_privs and a filter, or not.
#[track_caller]
pub(crate) fn is_caged(engine: &Engine<'_>) {
    let caged = ["--cap-drop=ALL", "--cap-add=NET_ADMIN", "--security-opt=no-new-privileges"];
    let script = format!("{}; {}; {}", status("CapEff"), status("NoNewPrivs"), status("Seccomp"));
    assert_eq!(engine.shell(&caged, &script), "0000000000001000\n1\n2\n");
    let container = engine.start("caged", &caged, &["sleep", "1000"]);
    assert_eq!(container.exec(&["sh", "-c", &script]), "0000000000001000\n1\n2\n", "who joins is, too");
    assert_eq!(engine.shell(&["--security-opt=seccomp=unconfined"], &status("Seccomp")), "0\n");
}

/// A container that takes more memory than it may is killed, or the process in it that does.
///
/// Under systemd the second: it removes a scope, and the counts in its files, as soon as the last process is dead, while
/// the kernel tells of a kill up to 10 ms after it has told that the limit was hit. So engines learn why the last process
/// of a scope was killed only at times, with runc and crun, too.
#[track_caller]
pub(crate) fn is_killed_for_its_memory(engine: &Engine<'_>, name: &str) {
    let hog = ["run", "--name", name, "--memory=16m", "--memory-swap=16m", BUSYBOX];
    let taking = "dd if=/dev/zero of=/dev/null bs=64M";
    let outlived = format!("{taking}; code=$?; sleep 5; exit $code");
    let command = match engine.machine.init() {
        Init::Own => Vec::from_iter(taking.split(' ')),
        Init::Systemd => vec!["sh", "-c", &outlived],
    };
    engine.command(&[&hog[..], &command].concat()).output().exits_with(137);
}

/// Namespaces are those of the container `server`, which serves pages, or the machine's.
#[track_caller]
pub(crate) fn shares_namespaces(engine: &Engine<'_>) {
    let namespaces = ["--network=container:server", "--pid=container:server", "--ipc=container:server"];
    let script = "wget -q -O - http://127.0.0.1/passwd | head -n 1; cat /proc/1/comm";
    assert_eq!(engine.shell(&namespaces, script), "root:x:0:0:root:/root:/bin/sh\nhttpd\n");

    let host = ["--network=host", "--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"];
    let links = "for name in net pid ipc uts cgroup; do readlink /proc/self/ns/$name; done";
    let expected = engine.machine.script(links).output().succeeds().stdout;
    assert_eq!(engine.shell(&host, links), expected, "it is in the machine's namespaces");
    let private = engine.shell(&["--cgroupns=private"], links);
    assert!(private.lines().all(|line| !expected.contains(line)), "{private} is none of {expected}");
}

/// Checks that the machine serves a page of `server` at this address.
#[track_caller]
pub(crate) fn is_reached(engine: &Engine<'_>, url: &str) {
    let page = engine.machine.command("busybox").args(["wget", "-q", "-O", "-", url]).output().succeeds();
    assert!(page.stdout.starts_with("root:x:0:0:"), "{url} leads to it: {page}");
}

/// Files go between the machine and a container which has `/run/shared/data` as `/data`, `rslave`.
#[track_caller]
pub(crate) fn carries_files(container: &Container<'_>) {
    let Container { engine, name, .. } = container;
    let shared = engine.machine.shared();
    container.exec(&["sh", "-c", "echo out >/data/file; echo in-it >/tmp/file"]);
    assert_eq!(fs::read_to_string(shared.join("data/file")).unwrap(), "out\n");
    let mount = "mkdir /run/shared/data/later; mount -t tmpfs later /run/shared/data/later
        touch /run/shared/data/later/seen";
    engine.machine.script(mount).output().succeeds();
    assert_eq!(container.exec(&["ls", "/data/later"]), "seen\n", "mounts of the machine arrive");
    engine.machine.script("umount /run/shared/data/later").output().succeeds();

    engine.call(&["cp", &format!("{name}:/tmp/file"), "/run/shared/copied"]);
    assert_eq!(fs::read_to_string(shared.join("copied")).unwrap(), "in-it\n");
    engine.call(&["cp", "/run/shared/copied", &format!("{name}:/tmp/returned")]);
    assert_eq!(container.exec(&["cat", "/tmp/returned"]), "in-it\n");
    let changes = engine.call(&["diff", name]);
    assert!(changes.contains("A /tmp/file\n"), "{changes}");
}
