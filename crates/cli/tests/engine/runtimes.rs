//! One and the same life of containers under every runtime: ours, and those of others, by the OCI command line alone.
//!
//! A runtime that is not here, or that cannot run anything here, is skipped with its own words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{cached, find_program, in_fresh_namespaces, skip, wait_until};

use crate::shop::{IMAGE, Shop, shop};

/// What a runtime cannot do, by its own account.
#[derive(Debug, Clone, Copy, Default)]
struct Lacks {
    /// Its containers' processes are not the host's.
    host_processes: bool,
    /// An end for want of memory is the end of the whole container, as which it is counted.
    precise_oom: bool,
}

/// A runtime under test.
struct Case<'a> {
    shop: &'a Shop,
    program: String,
    lacks: Lacks,
}

impl Case<'_> {
    fn run(&self, options: &[&str], command: &[&str]) -> bulkhead_testkit::Run {
        // An old gVisor takes each network namespace of a new kernel for the host's, and refuses that.
        let network: &[&str] = if self.program.ends_with("runsc") { &["--network", "none"] } else { &[] };
        self.shop.with("run", &[&["--runtime", &self.program], network, options].concat(), command)
    }

    #[track_caller]
    fn service(&self, name: &str, script: &str) {
        self.run(&["-d", "--name", name], &["sh", "-c", script]).output().succeeds();
    }
}

#[test]
fn bulkrun_runs_containers() {
    let shop = shop!().with_shipped_monitor();
    let program = env!("CARGO_BIN_EXE_bulkhead").replace("/bulkhead", "/bulkrun");
    whole_life(&Case { shop: &shop, program, lacks: Lacks::default() });
}

#[test]
fn runc_runs_containers() {
    let shop = shop!().with_shipped_monitor();
    let Some(program) = peer("runc", &["bookworm/usr/sbin"]) else { skip!("runc is not here") };
    with_foreign(&shop, &program, Lacks::default());
}

#[test]
fn crun_runs_containers() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
    // Newer ones refuse the mixture of both versions of cgroups that some machines have.
    in_fresh_namespaces!(Mount);
    drop(Command::new("umount").args(["-q", "/sys/fs/cgroup/unified"]).status());
    let shop = shop!().with_shipped_monitor();
    let Some(program) = peer("crun", &["bookworm/usr/bin"]) else { skip!("crun is not here") };
    with_foreign(&shop, &program, Lacks::default());
}

#[test]
fn runsc_runs_containers() {
    let shop = shop!().with_shipped_monitor();
    let Some(program) = peer("runsc", &["runsc-bookworm/usr/bin", "runsc-sid/usr/bin"]) else {
        skip!("runsc is not here")
    };
    with_foreign(&shop, &program, Lacks { host_processes: true, precise_oom: true });
}

/// A program of others: as `cargo xtask peers` unpacks it, or as it is installed.
pub(crate) fn peer(name: &str, places: &[&str]) -> Option<PathBuf> {
    let peers = cached("peers");
    let unpacked = places.iter().find_map(|place| Some(peers.as_ref()?.join(place).join(name)));
    unpacked.filter(|program| program.is_file()).or_else(|| find_program(name))
}

fn with_foreign(shop: &Shop, program: &Path, lacks: Lacks) {
    // What the engine writes for runtimes of others, too: crun 1.8 refuses later ones.
    let bundle = shop.sandbox.bundle("probe").args(["true"]).edit(|config| {
        config["ociVersion"] = "1.0.2".into();
    });
    let root = shop.path("probe-root");
    let probe = shop.sandbox.command(program).arg("--root").arg(&root);
    // gVisor looks for a network that the bundle has not.
    let network: &[&str] = if program.ends_with("runsc") { &["--network=none"] } else { &[] };
    let probe = probe.args(network).args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    let output = probe.output();
    if output.code() != 0 {
        skip!("{} runs nothing here: {}", program.display(), output.stderr);
    }
    whole_life(&Case { shop, program: program.to_str().unwrap().to_owned(), lacks });
}

/// Everything that the engine does with a container.
fn whole_life(case: &Case<'_>) {
    in_the_foreground(case);
    codes(case);
    at_a_terminal(case);
    in_the_background(case);
    frozen(case);
    stopped(case);
    limited(case);
    with_an_init(case);
    roots(case);
    nothing_is_left(case);
}

fn in_the_foreground(case: &Case<'_>) {
    let output = case.run(&["--rm"], &["sh", "-c", "echo out; echo err >&2"]).output().succeeds();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let text = "a line\n".repeat(1000);
    let output = case.run(&["--rm", "-i"], &["cat"]).input(&text).output().succeeds();
    assert_eq!(output.stdout, text);
    let options = ["--rm", "--hostname", "here", "-e", "A=b c", "-w", "/tmp", "-u", "user"];
    let output = case.run(&options, &["sh", "-c", "hostname; echo $A; pwd; id -un"]).output();
    assert_eq!(output.stdout, "here\nb c\n/tmp\nuser\n", "{}", output.stderr);
}

fn codes(case: &Case<'_>) {
    for (command, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -9 $$; sleep 9"], 137),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        // The first process of a namespace takes no signal from itself.
        let options: &[&str] = if code == 137 { &["--rm", "--pid", "host"] } else { &["--rm"] };
        if code == 137 && case.lacks.host_processes {
            continue;
        }
        case.run(options, command).output().exits_with(code);
    }
    assert_eq!(case.shop.said(&["ps", "-aq"]), "", "--rm removes what has ended and what cannot begin");
}

fn at_a_terminal(case: &Case<'_>) {
    let seat = Seat::new(31, 41);
    let running = seat.spawn(case.run(
        &["--rm", "-it"],
        &["sh", "-c", "until stty size 2>/dev/null; do sleep 0.05; done; read x; echo got $x; exit 3"],
    ));
    seat.screen.shows("31 41");
    seat.screen.type_in("word\r");
    seat.screen.shows("got word");
    running.wait().exits_with(3);
}

fn in_the_background(case: &Case<'_>) {
    let shop = case.shop;
    case.service("web", "echo ready; sleep 1000");
    wait_until("it speaks", || shop.said(&["logs", "web"]) == "ready\n");
    let process = shop.inspect("web");
    assert_eq!(process["State"]["Status"], "running");
    assert!(process["State"]["Pid"].as_i64().unwrap() > 1, "{process}");
    let said = shop.said(&["exec", "-e", "A=b", "-w", "/tmp", "web", "sh", "-c", "echo $A; pwd; hostname"]);
    assert_eq!(said, format!("b\n/tmp\n{}\n", &process["Id"].as_str().unwrap()[..12]));
    assert_eq!(shop.said(&["exec", "-u", "user", "web", "id", "-un"]), "user\n");
    shop.bulkhead(&["exec", "web", "sh", "-c", "exit 5"]).output().exits_with(5);
    let missing = shop.bulkhead(&["exec", "web", "no-such-program"]).output().exits_with(127);
    assert!(
        missing.stderr.starts_with("error: run a process in container web: ")
            && missing.stderr.matches('\n').count() == 1,
        "the runtime's words are ours, and said once: {missing}"
    );
    let both = shop.bulkhead(&["exec", "web", "sh", "-c", "echo one; echo two >&2; exit 3"]);
    let both = both.output().exits_with(3);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("one\n", "two\n"));
    shop.said(&["exec", "--detach", "web", "touch", "/made"]);
    wait_until("it is made", || shop.bulkhead(&["exec", "web", "test", "-e", "/made"]).output().code() == 0);
    let seat = Seat::new(24, 80);
    let running = seat.spawn(shop.bulkhead(&["exec", "-it", "web", "sh", "-c", "read x; echo got $x"]));
    seat.screen.type_in("word\r");
    seat.screen.shows("got word");
    running.wait().succeeds();
    let processes = shop.said(&["top", "web"]);
    assert!(processes.starts_with("UID") && processes.contains("sleep"), "{processes}");
    let used = shop.said(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "web"]);
    let words = Vec::from_iter(used.split_whitespace());
    assert_eq!(words[0], "web", "{used}");
    assert!(words[1].parse::<u64>().unwrap() >= 1 && !words[2].starts_with("0B"), "{used}");
    assert_eq!(shop.said(&["rm", "-f", "web"]), "web\n");
}

fn frozen(case: &Case<'_>) {
    let shop = case.shop;
    case.service("ice", "while :; do echo tick; sleep 0.05; done");
    wait_until("it ticks", || shop.said(&["logs", "ice"]).contains("tick"));
    shop.said(&["pause", "ice"]);
    assert!(shop.said(&["ps", "--format", "{{.Status}}"]).ends_with("(Paused)\n"));
    std::thread::sleep(std::time::Duration::from_millis(100));
    let before = shop.said(&["logs", "ice"]).len();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(shop.said(&["logs", "ice"]).len(), before, "what is frozen says nothing");
    shop.said(&["unpause", "ice"]);
    wait_until("it goes on", || shop.said(&["logs", "ice"]).len() > before);
    shop.said(&["pause", "ice"]);
    shop.said(&["rm", "-f", "ice"]);
}

fn stopped(case: &Case<'_>) {
    let shop = case.shop;
    case.service("job", "trap 'echo heard; exit 4' TERM; echo ready; while :; do sleep 0.1; done");
    wait_until("it listens", || shop.said(&["logs", "job"]) == "ready\n");
    shop.said(&["stop", "-t", "20", "job"]);
    assert_eq!(shop.said(&["logs", "job"]), "ready\nheard\n");
    assert_eq!(shop.inspect("job")["State"]["ExitCode"], 4);
    shop.said(&["start", "job"]);
    wait_until("it listens again", || shop.said(&["logs", "job"]).lines().count() == 3);
    shop.said(&["restart", "-t", "20", "job"]);
    wait_until("and again", || shop.said(&["logs", "job"]).lines().count() == 5);
    shop.said(&["kill", "job"]);
    assert_eq!(shop.said(&["wait", "job"]), "137\n");
    shop.said(&["rm", "job"]);

    case.service("deaf", "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    wait_until("it is deaf", || shop.said(&["logs", "deaf"]) == "ready\n");
    shop.said(&["stop", "-t", "1", "deaf"]);
    assert_eq!(shop.inspect("deaf")["State"]["ExitCode"], 137);
    shop.said(&["rm", "deaf"]);
}

fn limited(case: &Case<'_>) {
    let shop = case.shop;
    let size = if case.lacks.precise_oom { "128m" } else { "24m" };
    let options = ["--name", "hog", "--memory", size, "--memory-swap", size];
    let ended = case.run(&options, &["tail", "-c", "200000000", "/dev/zero"]).output();
    assert_ne!(ended.code(), 0);
    assert_eq!(ended.stdout, "", "it was ended before it wrote");
    let state = shop.inspect("hog")["State"].clone();
    assert_eq!(state["OOMKilled"], true, "{state}");
    shop.said(&["rm", "hog"]);
    if !case.lacks.host_processes {
        let script = "for i in $(seq 60); do sleep 5 & done; echo all";
        let output = case.run(&["--rm", "--pids-limit", "40"], &["sh", "-c", script]).output();
        assert!(output.stderr.contains("fork") && !output.stdout.contains("all"), "{output:?}");
    }
}

fn with_an_init(case: &Case<'_>) {
    let options = ["--rm", "--init"];
    let script = "cat /proc/1/cmdline | tr '\\0' ' '; (sleep 0.1 &); sleep 0.4; ps | grep -c '[Z]' ; exit 6";
    let output = case.run(&options, &["sh", "-c", script]).output().exits_with(6);
    assert!(output.stdout.starts_with("/sbin/docker-init"), "{output:?}");
}

fn roots(case: &Case<'_>) {
    let shop = case.shop;
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    case.service("writer", "echo new > /made; rm /bin/cat; echo done; sleep 1000");
    wait_until("it has written", || shop.said(&["logs", "writer"]) == "done\n");
    assert_eq!(mounts(), before, "the host's mounts are as they were");
    assert_eq!(shop.said(&["diff", "writer"]), "C /bin\nD /bin/cat\nA /made\n");
    let archive = shop.path("writer.tar");
    shop.said(&["export", "-o", archive.to_str().unwrap(), "writer"]);
    let listed = shop.sandbox.command("tar").arg("-tf").arg(&archive).output().succeeds().stdout;
    assert!(listed.lines().any(|name| name.trim_start_matches("./") == "made"), "{listed}");
    shop.said(&["restart", "-t", "0", "writer"]);
    assert_eq!(shop.said(&["exec", "writer", "ls", "/made"]), "/made\n", "what it wrote is its own");
    shop.said(&["rm", "-f", "writer"]);
    case.run(&["--rm"], &["ls", "/made"]).output().exits_with(1);
    let output = case.run(&["--rm", "--read-only"], &["touch", "/made"]).output();
    assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
    let file = shop.path("file");
    fs::write(&file, "of the host's").unwrap();
    for (source, place, what) in
        [(file.display(), "/file", "/file"), (shop.path("").display(), "/all", "/all/file")]
    {
        let volume = format!("{source}:{place}:ro");
        let script = format!("cat {what}; echo x > {what}");
        let output = case.run(&["--rm", "-v", &volume], &["sh", "-c", &script]).output();
        assert_eq!(output.stdout, "of the host's", "{}", output.stderr);
        assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
    }
    // The monitor that removes a container leaves the mounts that it has for itself.
    case.run(&["-d", "--rm", "--name", "brief"], &["true"]).output().succeeds();
    wait_until("it removes itself", || shop.said(&["ps", "-aq"]).is_empty());
}

fn nothing_is_left(case: &Case<'_>) {
    assert_eq!(case.shop.said(&["ps", "-aq"]), "");
    for directory in ["engine-run/containers", "engine/containers"] {
        assert_eq!(fs::read_dir(case.shop.path(directory)).unwrap().count(), 0, "{directory} is empty");
    }
}

/// Fails when it is decided by time whose the first words on the standard error are.
#[test]
fn what_a_slow_runtime_complains_of_is_said_once_and_a_process_is_heard_at_once() {
    let shop = shop!();
    let program = shop.path("slow");
    let real = env!("CARGO_BIN_EXE_bulkhead").replace("/bulkhead", "/bulkrun");
    let script = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" = exec ] && slow=1; done\n\
         [ \"$slow\" ] || exec {real} \"$@\"\n{real} \"$@\"; code=$?; sleep 0.5; exit $code\n"
    );
    shop.script_file(&program, &script);
    let program = program.to_str().unwrap();
    let run = shop.with("run", &["-d", "--name", "web", "--runtime", program], &["sleep", "1000"]);
    run.output().succeeds();
    let missing = shop.bulkhead(&["exec", "web", "no-such-program"]).output().exits_with(127);
    assert!(
        missing.stderr.starts_with("error: run a process in container web: ")
            && missing.stderr.matches('\n').count() == 1,
        "{missing}"
    );
    // It goes on for as long as nobody has heard it.
    let script = "echo first >&2; until [ -e /heard ]; do sleep 0.01; done; echo second >&2; exit 4";
    let exec = shop.bulkhead(&["exec", "web", "sh", "-c", script]).spawn();
    wait_until("it is heard while it runs", || exec.stderr() == "first\n");
    shop.said(&["exec", "web", "touch", "/heard"]);
    let exec = exec.wait().exits_with(4);
    assert_eq!(exec.stderr, "first\nsecond\n");
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let left = fs::read_dir(shop.run_directory.join("containers").join(id)).unwrap().flatten();
    assert!(left.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().starts_with("exec-")));
}

/// Fails when a process whose runtime does not tell where it is stays mute as long as it runs.
#[test]
fn a_process_that_cannot_be_told_from_its_runtime_is_heard_all_the_same() {
    let shop = shop!();
    let program = shop.path("silent");
    let real = env!("CARGO_BIN_EXE_bulkhead").replace("/bulkhead", "/bulkrun");
    // As one whose numbers of processes are not the host's: what it would leave says nothing.
    let script = format!(
        "#!/bin/sh\nleft=$#\nwhile [ $left -gt 0 ]; do\n word=$1; shift; left=$((left-1))\n\
         [ \"$word\" = exec ] && exec=1\n\
         if [ \"$exec\" ] && [ \"$word\" = --pid-file ]; then shift; left=$((left-1)); else set -- \"$@\" \"$word\"; fi\n\
         done\nexec {real} \"$@\"\n"
    );
    shop.script_file(&program, &script);
    let run = ["-d", "--name", "web", "--runtime", program.to_str().unwrap()];
    shop.with("run", &run, &["sleep", "1000"]).output().succeeds();
    let script = "echo first >&2; until [ -e /heard ]; do sleep 0.01; done; echo second >&2; exit 4";
    let exec = shop.bulkhead(&["exec", "web", "sh", "-c", script]).spawn();
    wait_until("it is heard while it runs", || exec.stderr() == "first\n");
    shop.said(&["exec", "web", "touch", "/heard"]);
    assert_eq!(exec.wait().exits_with(4).stderr, "first\nsecond\n");
}

#[test]
fn a_runtime_that_is_not_there_is_told() {
    let shop = shop!();
    for name in ["no-such-runtime", "/no/such/runtime"] {
        let output = shop.with("run", &["--rm", "--runtime", name], &["true"]).output().exits_with(125);
        let words = format!("runtime {name:?}: there is no such program; name one that is in PATH");
        assert!(output.stderr.contains(&words), "{}", output.stderr);
    }
    let output = shop.with("create", &["--runtime", "no-such-runtime"], &["true"]).output().exits_with(1);
    assert!(output.stderr.contains("no such program"), "{}", output.stderr);
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}

#[test]
fn a_runtime_by_its_path_is_found_from_anywhere() {
    let shop = shop!();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_bulkhead")).with_file_name("bulkrun");
    shop.said(&["version"]);
    let parent = shop.parent();
    let words =
        ["create", "--name", "job", "--cgroup-parent", &parent, "--runtime", "./bulkrun", IMAGE, "echo", "x"];
    shop.bulkhead(&words).current_dir(program.parent().unwrap()).output().succeeds();
    assert_eq!(shop.said(&["start", "-a", "job"]), "x\n");
}
