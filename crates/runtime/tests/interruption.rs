//! Commands that are interrupted, wait for each other, or are called by hooks of the container that they change.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires, wait_until};
use rustix::process::Signal;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// Makes a bundle with a hook that says its pid and hangs.
fn hanging(sandbox: &Sandbox, short: &str, kind: &str) -> (Bundle, PathBuf) {
    let pid = sandbox.directory().join(format!("{short}.pid"));
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid.display());
    (sandbox.bundle(short).args(["sleep", "1000"]).hook_script(kind, &script), pid)
}

fn is_alive(pid: &PathBuf) -> bool {
    let pid = fs::read_to_string(pid).unwrap();
    fs::read_to_string(format!("/proc/{}/comm", pid.trim())).is_ok_and(|name| name == "sleep\n")
}

#[test]
fn a_signal_ends_a_run_whose_hook_hangs_and_nothing_is_left() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT"), (Signal::HUP, "SIGHUP")] {
        for kind in ["createRuntime", "createContainer", "poststart"] {
            let (bundle, pid) = hanging(&sandbox, &format!("{name}-{kind}"), kind);
            // In the container it is another shell, which cannot write there.
            let bundle = bundle.bind(sandbox.directory(), sandbox.directory().to_str().unwrap(), &["rw"]);
            let run = sandbox.run(&bundle).spawn();
            wait_until("the hook runs", || pid.exists());
            run.signal(signal);
            run.wait().exits_with(1).complains(&format!("interrupted by {name}"));
            assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
        }
    }
}

#[test]
fn a_hook_that_was_interrupted_is_killed() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let (bundle, pid) = hanging(&sandbox, "hook", "createRuntime");
    let run = sandbox.run(&bundle).spawn();
    wait_until("the hook runs", || pid.exists());
    run.signal(Signal::TERM);
    run.wait()
        .exits_with(1)
        .complains("createRuntime hook #0")
        .complains("hook was killed: interrupted by SIGTERM");
    assert!(!is_alive(&pid), "the hook is killed");
}

#[test]
fn other_signals_reach_a_container_that_was_being_made() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let there = sandbox.directory().join("there");
    let go = sandbox.directory().join("go");
    let script = format!("touch {}; until test -e {}; do sleep 0.01; done", there.display(), go.display());
    let bundle = sandbox.bundle("early").without_namespace("pid").hook_script("createRuntime", &script);
    // Of all signals at their defaults this one kills, unless one is the first process of a pid namespace.
    let run = sandbox.run(&bundle.args(["sleep", "1000"])).spawn();
    wait_until("the hook runs", || there.exists());
    run.signal(Signal::USR1);
    fs::write(&go, "").unwrap();
    run.wait().exits_with(128 + Signal::USR1.as_raw());
}

#[test]
fn a_signal_ends_an_exec_that_waits_for_a_paused_container() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("paused").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    sandbox.runtime().arg("pause").arg(bundle.id()).output().succeeds();
    let exec = sandbox.runtime().args(["exec", "--ignore-paused", bundle.id(), "true"]).spawn();
    let of_container = bundle.config()["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    wait_until("the process is in the container's cgroup", || {
        let processes =
            |cgroup: &PathBuf| fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        sandbox.cgroups(&of_container).iter().any(|cgroup| processes(cgroup).lines().count() > 1)
    });
    exec.signal(Signal::TERM);
    exec.wait().exits_with(255).complains("interrupted by SIGTERM");
    sandbox.runtime().arg("resume").arg(bundle.id()).output().succeeds();
    assert_eq!(sandbox.status(&bundle), "running", "the container goes on");
}

#[test]
fn a_hook_can_use_its_container_once_that_has_started() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let notes = sandbox.directory().join("notes");
    let command = format!("{} --root {}", BULKRUN, sandbox.state_directory().display());
    for (short, verb) in [("run", "run"), ("start", "start")] {
        let bundle = sandbox.bundle(short).args(["sleep", "1"]);
        let script = format!(
            "for verb in pause resume 'update --pids-limit 77'; do {command} $verb {} 2>> {}; done",
            bundle.id(),
            notes.display()
        );
        let bundle = bundle.hook_script("poststart", &format!("PATH=/bin:/usr/bin; {script}"));
        let begin = Instant::now();
        if verb == "run" {
            sandbox.run(&bundle).output().succeeds();
        } else {
            sandbox.create(&bundle);
            sandbox.start(&bundle);
        }
        assert_eq!(fs::read_to_string(&notes).unwrap(), "", "{verb}: nothing went wrong");
        assert!(begin.elapsed() < Duration::from_secs(9), "{verb}: no command waited for the other");
    }
}

#[test]
fn a_hook_of_the_creation_learns_the_pid_by_state() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sandbox.bundle("pid").args(["true"]);
    let (told, asked) = (sandbox.directory().join("told"), sandbox.directory().join("asked"));
    let command = format!("{} --root {}", BULKRUN, sandbox.state_directory().display());
    let script = format!("cat > {}; {command} state {} > {}", told.display(), bundle.id(), asked.display());
    sandbox.run(&bundle.hook_script("createRuntime", &script)).output().succeeds();
    let read = |path| serde_json::from_str::<serde_json::Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let (told, asked) = (read(told), read(asked));
    assert_eq!(asked["pid"], told["pid"], "{asked}");
    assert_eq!(asked["status"], "creating");
}

/// Both in one test, so that the ten seconds pass for both at once.
#[test]
fn nothing_is_waited_for_for_ever() {
    requires!(is_root(), "needs root");
    std::thread::scope(|scope| {
        scope.spawn(a_command_does_not_wait_for_ever_for_another);
        scope.spawn(a_socket_that_nobody_serves_is_not_waited_for_for_ever);
    });
}

fn a_command_does_not_wait_for_ever_for_another() {
    let sandbox = Sandbox::new(BULKRUN);
    let (bundle, pid) = hanging(&sandbox, "busy", "createRuntime");
    let run = sandbox.run(&bundle).spawn();
    wait_until("the hook runs", || pid.exists());
    let waiting = ["delete --force", "pause"].map(|verb| {
        sandbox.runtime().args(verb.split(' ')).arg(bundle.id()).timeout(Duration::from_secs(60)).spawn()
    });
    for command in waiting {
        let output = command.wait().exits_with(1).complains("is being changed by another command");
        output.complains(&format!("(process {})", run.pid()));
    }
    run.signal(Signal::TERM);
    run.wait().exits_with(1);
}

#[test]
fn what_the_caller_ignores_does_not_interrupt() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN).through(["env", "--ignore-signal=HUP,CHLD"]);
    let there = sandbox.directory().join("there");
    let go = sandbox.directory().join("go");
    let script = format!("touch {}; until test -e {}; do sleep 0.01; done", there.display(), go.display());
    let bundle = sandbox.bundle("nohup").script("exit 7").hook_script("createRuntime", &script);
    let run = sandbox.run(&bundle).spawn();
    wait_until("the hook runs", || there.exists());
    run.signal(Signal::HUP);
    fs::write(&go, "").unwrap();
    // That it waits for its children, whatever the caller does about its own, is seen by the code.
    run.wait().exits_with(7);
}

#[test]
fn a_run_that_has_lost_its_container_leaves_the_next_one_alone() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let files = ["there", "go", "ends"].map(|name| sandbox.directory().join(name));
    let [there, go, ends] = &files;
    let script =
        format!("touch {}; until test -e {}; do sleep 0.01; done; exit 3", there.display(), go.display());
    let first = sandbox.bundle("again").args(["sleep", "1000"]).hook_script("poststart", &script);
    let first = first.hook_script("poststop", &format!("echo end >> {}", ends.display()));
    let run = sandbox.run(&first).spawn();
    wait_until("the hook runs", || there.exists());
    sandbox.runtime().args(["delete", "--force", first.id()]).output().succeeds();
    let second = first.edit(|config| config["hooks"] = serde_json::json!({}));
    sandbox.launch(&second);
    fs::write(go, "").unwrap();
    run.wait().exits_with(1).complains("poststart hook #0");
    assert_eq!(sandbox.status(&second), "running", "the second container of the name goes on");
    assert_eq!(fs::read_to_string(ends).unwrap(), "end\n", "hooks of the end run once");
}

fn a_socket_that_nobody_serves_is_not_waited_for_for_ever() {
    let sandbox = Sandbox::new(BULKRUN);
    let path = sandbox.directory().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _only_one_may_wait = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let bundle = sandbox.bundle("console").terminal();
    let run = sandbox.run(&bundle).arg("--console-socket").arg(&path).timeout(Duration::from_secs(60));
    run.output().exits_with(1).complains("timed out");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
}

#[test]
fn a_proc_of_another_pid_namespace_is_named_and_nothing_hangs() {
    requires!(is_root(), "needs root");
    let last_pid = std::path::Path::new("/proc/sys/kernel/ns_last_pid");
    requires!(last_pid.exists(), "this kernel does not let a test choose pids");
    // The first pids of the namespace from which the runtime is started are ones that the host does not have.
    let script = "for p in $(seq 20000 30000); do for q in $(seq $p $((p + 9))); do \
        [ -e /proc/$q ] && continue 2; done; break; done; echo $p > /proc/sys/kernel/ns_last_pid; \"$@\"";
    let sandbox = Sandbox::new(BULKRUN).through(["unshare", "--pid", "--fork", "sh", "-c", script, "sh"]);
    let bundle = sandbox.bundle("foreign").args(["true"]);
    // The host may take one of them meanwhile.
    let is_named = (0..5).any(|_| {
        let output = sandbox.run(&bundle).timeout(Duration::from_secs(60)).output();
        output.stderr.contains("/proc, which belongs to another pid namespace")
    });
    assert!(is_named, "it says what is wrong");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
}
