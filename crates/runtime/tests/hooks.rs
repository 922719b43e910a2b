//! The six hooks: when they run, where, what they are told, and what follows from a failure.

#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::time::{Duration, Instant};

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires, wait_until};
use serde_json::{Value, json};

/// The hooks in the order of a container's life.
const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Lets a container see the sandbox's directory, where hooks leave what they saw, at the place it has on the host.
fn with_notes(sandbox: &Sandbox, short: &str) -> Bundle {
    let notes = sandbox.directory().join("notes");
    fs::create_dir_all(&notes).unwrap();
    sandbox.bundle(short).bind(&notes, notes.to_str().unwrap(), &["rw"])
}

/// Reads what hooks have left under a name.
fn note(sandbox: &Sandbox, name: &str) -> String {
    let file = sandbox.directory().join("notes").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{} should be there: {error}", file.display()))
}

/// Adds a hook of each kind that runs a script with `$kind` and `$notes` set.
fn with_all(sandbox: &Sandbox, bundle: Bundle, script: &str) -> Bundle {
    let notes = sandbox.directory().join("notes");
    KINDS.iter().fold(bundle, |bundle, kind| {
        let script = format!("PATH=/bin:/usr/bin kind={kind} notes={}; {script}", notes.display());
        bundle.hook_script(kind, &script)
    })
}

#[test]
fn hooks_run_in_the_order_of_the_containers_life() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let order = sandbox.directory().join("notes/order");
    let bundle = with_notes(&sandbox, "order").script(&format!("echo program >> {}", order.display()));
    let bundle = with_all(&sandbox, bundle, "echo $kind 1 >> $notes/order");
    let bundle = with_all(&sandbox, bundle, "echo $kind 2 >> $notes/order");
    sandbox.run(&bundle).output().succeeds();
    let lines = note(&sandbox, "order");
    // The program and poststart run side by side.
    let (program, hooks): (Vec<_>, Vec<_>) = lines.lines().partition(|line| *line == "program");
    assert_eq!(program.len(), 1, "{lines}");
    let expected: Vec<_> = KINDS.iter().flat_map(|kind| [format!("{kind} 1"), format!("{kind} 2")]).collect();
    assert_eq!(hooks, expected);
    let position = |wanted: &str| lines.lines().position(|line| line == wanted);
    assert!(position("startContainer 2") < position("program"), "{lines}");
    assert!(position("program") < position("poststop 1"), "{lines}");
}

#[test]
fn hooks_are_told_the_state_with_status_and_pid() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "state").args(["sleep", "1000"]).annotation("org.example.key", "value");
    let bundle = with_all(&sandbox, bundle, "cat > $notes/$kind");
    sandbox.create(&bundle);
    let pid = sandbox.pid(&bundle);
    sandbox.start(&bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
    for (kind, status, pid) in [
        ("prestart", "created", Some(pid)),
        ("createRuntime", "creating", Some(pid)),
        // The container's own pid namespace is all that hooks in it can use.
        ("createContainer", "creating", Some(1)),
        ("startContainer", "created", Some(1)),
        ("poststart", "running", Some(pid)),
        ("poststop", "stopped", None),
    ] {
        let state: Value = serde_json::from_str(&note(&sandbox, kind)).unwrap();
        assert_eq!(state["status"], status, "{kind}: {state}");
        assert_eq!(state["id"], bundle.id(), "{kind}");
        assert_eq!(state["bundle"], json!(bundle.directory()), "{kind}");
        assert_eq!(state["annotations"], json!({ "org.example.key": "value" }), "{kind}");
        assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{kind}");
        let told = state["pid"].as_i64().filter(|&pid| pid != 0);
        assert_eq!(told, pid.map(i64::from), "{kind}: {state}");
    }
}

#[test]
fn hooks_run_in_the_namespaces_of_their_kind() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let script = "for n in mnt net uts ipc; do readlink /proc/self/ns/$n; done > $notes/$kind";
    let bundle = with_notes(&sandbox, "where").script(&format!(
        "for n in mnt net uts ipc; do readlink /proc/self/ns/$n; done > {}/notes/program",
        sandbox.directory().display()
    ));
    let bundle = with_all(&sandbox, bundle, script);
    sandbox.run(&bundle).output().succeeds();
    let namespaces = ["mnt", "net", "uts", "ipc"].map(|name| {
        fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned() + "\n"
    });
    let (host, container) = (namespaces.concat(), note(&sandbox, "program"));
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(note(&sandbox, kind), host, "{kind} runs in the runtime's namespaces");
    }
    // createContainer sees the host's /proc still, in which it is itself found by the host's pid.
    for kind in ["createContainer", "startContainer"] {
        assert_eq!(note(&sandbox, kind), container, "{kind} runs in the container's namespaces");
    }
    assert_ne!(host, container);
}

#[test]
fn a_filter_holds_for_the_hooks_of_the_start() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL" }],
    });
    let core = json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
    let bundle = sandbox.bundle("filtered").args(["true"]).seccomp(filter);
    let bundle = bundle.hook("startContainer", "/bin/mkdir", &["mkdir", "/dev/shm/x"]);
    let bundle = bundle.edit(|config| config["process"]["rlimits"] = core);
    let words = "startContainer";
    sandbox.run(&bundle).output().exits_with(1).complains(words).complains("signal: bad system call");
}

#[test]
fn the_root_is_entered_between_the_hooks_of_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "root").file("/mark", "the image");
    let rootfs = bundle.rootfs();
    let script = format!(
        "{{ test -e /mark && echo inside || echo outside; test -e {}/mark && echo reachable; true; }} > $notes/$kind",
        rootfs.display()
    );
    let bundle = with_all(&sandbox, bundle, &script);
    sandbox.run(&bundle).output().succeeds();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        assert_eq!(note(&sandbox, kind), "outside\nreachable\n", "{kind}");
    }
    assert_eq!(note(&sandbox, "startContainer"), "inside\n");
}

#[test]
fn hooks_of_the_container_see_its_mounts() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "mounts");
    let shm = bundle.rootfs().join("dev/shm");
    let script = format!("grep -c ' {} ' /proc/self/mountinfo > $notes/$kind", shm.display());
    let bundle = with_all(&sandbox, bundle, &format!("{{ {script}; }} || true"));
    sandbox.run(&bundle).output().succeeds();
    assert_eq!(note(&sandbox, "createContainer"), "1\n");
    assert_eq!(note(&sandbox, "createRuntime"), "0\n", "the runtime's mount namespace stays as it was");
}

#[test]
fn a_hook_gets_the_arguments_and_the_environment_of_the_configuration_and_no_more() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let notes = sandbox.directory().join("notes");
    let script = "printf '%s\\n' \"$0\" \"$@\" > $OUT/args; tr '\\0' '\\n' < /proc/$$/environ > $OUT/env";
    let bundle = with_notes(&sandbox, "env").edit(|config| {
        config["hooks"]["createRuntime"] = json!([{
            "path": "/bin/sh",
            "args": ["any name", "-c", script, "zero", "one", "two words"],
            "env": [format!("OUT={}", notes.display()), "PATH=/usr/bin:/bin", "A=x=y"],
        }]);
    });
    sandbox.run(&bundle).env("SECRET", "of the caller").output().succeeds();
    assert_eq!(note(&sandbox, "args"), "zero\none\ntwo words\n");
    let expected = format!("A=x=y\nOUT={}\nPATH=/usr/bin:/bin\n", notes.display());
    let mut lines: Vec<_> = note(&sandbox, "env").lines().map(|line| format!("{line}\n")).collect();
    lines.sort_unstable();
    assert_eq!(lines.concat(), expected);
}

#[test]
fn a_hook_without_arguments_is_called_by_its_path() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "noargs");
    let script = sandbox.directory().join("hook.sh");
    let text = format!("#!/bin/sh\necho \"$0 $#\" > {}/notes/called\n", sandbox.directory().display());
    // Another process writes it: a file that this one had open could be busy.
    let write = sandbox.command("sh").args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"]).arg(&script);
    write.input(text).output().succeeds();
    let bundle = bundle.edit(|config| config["hooks"]["createRuntime"] = json!([{ "path": script }]));
    sandbox.run(&bundle).output().succeeds();
    assert_eq!(note(&sandbox, "called"), format!("{} 0\n", script.display()));
}

#[test]
fn hooks_run_in_the_bundle_and_those_of_the_container_in_its_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "cwd");
    let bundle = with_all(&sandbox, bundle, "pwd > $notes/$kind");
    sandbox.run(&bundle).output().succeeds();
    let directory = format!("{}\n", bundle.directory().display());
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(note(&sandbox, kind), directory, "{kind}");
    }
    assert_eq!(note(&sandbox, "createContainer"), format!("{}\n", bundle.rootfs().display()));
    assert_eq!(note(&sandbox, "startContainer"), "/\n");
}

#[test]
fn hooks_start_with_no_signal_blocked() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    // Without a fork: some shells unblock everything in their children.
    let bundle = with_notes(&sandbox, "mask");
    let bundle = with_all(&sandbox, bundle, "exec grep ^SigBlk /proc/self/status > $notes/$kind");
    sandbox.run(&bundle).output().succeeds();
    for kind in KINDS {
        assert_eq!(note(&sandbox, kind), "SigBlk:\t0000000000000000\n", "{kind}");
    }
}

#[test]
fn hooks_start_with_their_streams_alone() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "clean");
    let bundle = with_all(&sandbox, bundle, "ls /proc/self/fd > $notes/$kind");
    sandbox.run(&bundle).output().succeeds();
    for kind in KINDS {
        // 3 is the directory that `ls` itself lists.
        assert_eq!(note(&sandbox, kind), "0\n1\n2\n3\n", "{kind}");
    }
}

#[test]
fn a_hook_without_an_environment_has_that_of_its_place() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let notes = sandbox.directory().join("notes");
    let script = |name: &str| format!("echo \"<$OUTSIDE> <$INSIDE>\" > {}/{name}", notes.display());
    let bundle = with_notes(&sandbox, "env").args(["true"]).env("INSIDE=container");
    let bundle = bundle
        .hook_script("createRuntime", &script("runtime"))
        .hook_script("startContainer", &script("container"))
        .hook_script("poststart", &script("empty"))
        .edit(|config| config["hooks"]["poststart"][0]["env"] = json!([]));
    sandbox.run(&bundle).env("OUTSIDE", "host").output().succeeds();
    assert_eq!(note(&sandbox, "runtime"), "<host> <>\n");
    assert_eq!(
        note(&sandbox, "container"),
        "<> <container>\n",
        "a program of the image sees nothing of the host"
    );
    assert_eq!(note(&sandbox, "empty"), "<> <>\n", "no variable is not the same as no environment");
}

#[test]
fn a_hook_that_reads_nothing_hurts_nobody() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    // More than a pipe holds.
    let bundle = with_notes(&sandbox, "deaf").annotation("org.example.long", &"x".repeat(200_000));
    let bundle = with_all(&sandbox, bundle.script("echo fine"), "exec <&-; true");
    sandbox.run(&bundle).output().succeeds().prints("fine\n");
}

#[test]
fn a_failing_hook_of_the_creation_ends_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let bundle = with_notes(&sandbox, kind).script("echo must not run");
        let notes = sandbox.directory().join("notes");
        let bundle = bundle
            .hook_script(kind, "exit 0")
            .hook_script(kind, "echo because >&2; exit 3")
            .hook_script(kind, &format!("touch {}/{kind}-next", notes.display()))
            .hook_script("poststop", &format!("touch {}/{kind}-poststop", notes.display()));
        let output = sandbox.run(&bundle).output().exits_with(1).prints("");
        let output = output.complains(kind).complains("hook #1").complains("failed with exit code 3");
        let output = output.complains("because");
        assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
        assert!(!notes.join(format!("{kind}-next")).exists(), "hooks after the failed one do not run");
        assert!(notes.join(format!("{kind}-poststop")).exists(), "{kind}: poststop runs");
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
    }
}

#[test]
fn a_failing_poststart_hook_stops_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let notes = sandbox.directory().join("notes");
    let bundle = with_notes(&sandbox, "run").args(["sleep", "1000"]);
    let bundle = bundle
        .hook_script("poststart", "exit 4")
        .hook_script("poststop", &format!("touch {}/poststop", notes.display()));
    sandbox
        .run(&bundle)
        .output()
        .exits_with(1)
        .complains("poststart hook #0")
        .complains("hook failed with exit code 4");
    assert!(notes.join("poststop").exists(), "poststop runs");

    let bundle = with_notes(&sandbox, "start").args(["sleep", "1000"]).hook_script("poststart", "exit 4");
    sandbox.create(&bundle);
    let start = sandbox.runtime().arg("start").arg(bundle.id()).output();
    start.exits_with(1).complains("poststart hook #0");
    sandbox.runtime().arg("state").arg(bundle.id()).output().exits_with(1).complains("does not exist");
}

#[test]
fn failing_poststop_hooks_are_warnings() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "end").args(["true"]);
    let last = sandbox.directory().join("notes/last");
    let bundle = bundle
        .hook_script("poststop", "exit 5")
        .hook("poststop", "/no/such/hook", &["hook"])
        .hook_script("poststop", &format!("echo ran > {}", last.display()));
    let output = sandbox.run(&bundle).output().succeeds().complains("level=warning");
    let output =
        output.complains("error running poststop hook #0: /bin/sh: poststop hook failed with exit code 5");
    output.complains("error running poststop hook #1: /no/such/hook: poststop hook could not be executed");
    assert_eq!(note(&sandbox, "last"), "ran\n");
}

#[test]
fn a_hook_that_outlasts_its_timeout_is_killed() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let pid_file = sandbox.directory().join("notes/pid");
    // It does not read what it is told, which is more than a pipe holds.
    let bundle = with_notes(&sandbox, "slow").annotation("org.example.long", &"x".repeat(200_000));
    let bundle = bundle.edit(|config| {
        config["hooks"]["createRuntime"] = json!([{
            "path": "/bin/sh",
            "args": ["sh", "-c", format!("echo $$ > {}; exec /bin/sleep 1000", pid_file.display())],
            "timeout": 1,
        }]);
    });
    let start = Instant::now();
    let output = sandbox.run(&bundle).output().exits_with(1);
    output.complains("createRuntime hook #0").complains("timeout of 1 s");
    assert!(start.elapsed() >= Duration::from_secs(1), "it has its time");
    let pid = note(&sandbox, "pid");
    let is_gone =
        !fs::read_to_string(format!("/proc/{}/comm", pid.trim())).is_ok_and(|name| name == "sleep\n");
    assert!(is_gone, "the hook {pid} is killed");
}

#[test]
fn what_a_hook_has_started_is_killed_with_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let pid_file = sandbox.directory().join("notes/pid");
    let script = format!("/bin/sleep 1000 & echo $! > {}; wait", pid_file.display());
    let bundle = with_notes(&sandbox, "family").edit(|config| {
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1 }]);
    });
    sandbox.run(&bundle).output().exits_with(1).complains("timeout of 1 s");
    let pid = note(&sandbox, "pid");
    // A zombie, whom nobody may have reaped yet, has no command line.
    wait_until("the child of the hook is gone", || {
        !fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| line.starts_with(b"/bin/sleep"))
    });
}

#[test]
fn a_hook_that_ends_in_time_is_not_delayed() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_notes(&sandbox, "quick").edit(|config| {
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "exit 0"], "timeout": 3000 }]);
    });
    sandbox.run(&bundle).output().succeeds();
}

#[test]
fn hooks_that_cannot_be_run_say_why() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (index, (hook, words)) in [
        (json!({ "path": "bin/true" }), "/hooks/createRuntime/0/path"),
        (json!({ "path": "/bin/true", "timeout": 0 }), "/hooks/createRuntime/0/timeout"),
        (json!({ "path": "/bin/true", "timeout": -1 }), "/hooks/createRuntime/0/timeout"),
        (json!({ "path": "/bin/true", "env": ["BARE"] }), "/hooks/createRuntime/0/env/0"),
        (json!({ "args": ["true"] }), "/hooks/createRuntime/0"),
        (json!({ "path": "/no/such/hook" }), "createRuntime hook #0: /no/such/hook"),
        (json!({ "path": "/etc/passwd" }), "createRuntime hook #0: /etc/passwd"),
        (json!({ "path": "/tmp" }), "createRuntime hook #0: /tmp"),
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = sandbox.bundle(&index.to_string());
        let bundle = bundle.edit(|config| config["hooks"]["createRuntime"] = json!([hook]));
        let output = sandbox.run(&bundle).output().exits_with(1).complains(words);
        assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "{words}: nothing is left");
    }
}
