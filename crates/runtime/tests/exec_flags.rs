//! What each flag of `exec` does to the process: one row, one behaviour.

use std::fs;

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires, wait_until};

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// A container of user 5 in group 6 whose processes may do little.
fn launched(sandbox: &Sandbox, name: &str) -> Bundle {
    let bundle = sandbox.bundle(name).args(["sleep", "1000"]).user(5, 6).env("FROM=config");
    sandbox.launch(&bundle);
    bundle
}

fn stop(sandbox: &Sandbox, bundle: &Bundle) {
    let pid = sandbox.pid(bundle);
    sandbox.kill(bundle, "KILL");
    sandbox.wait_for_exit(pid);
}

#[test]
fn flags_change_the_process() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = launched(&sandbox, "flags");
    let table: &[(&[&str], &str, &str)] = &[
        (&[], "id -u; id -g; echo $FROM; pwd", "5\n6\nconfig\n/\n"),
        (&["--user", "7"], "id -u; id -g", "7\n6\n"),
        (&["-u", "7:8"], "id -u; id -g", "7\n8\n"),
        (&["-g", "20", "--additional-gids", "21"], "grep Groups: /proc/self/status", "Groups:\t20 21 \n"),
        (&["--cwd", "/tmp"], "pwd", "/tmp\n"),
        (&["-e", "A=1", "--env", "FROM=flag"], "echo $A $FROM", "1 flag\n"),
        (&["--no-new-privs"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
        (&["-t"], "test -t 0 && test -t 1 && test -t 2 && echo terminal", "terminal\n"),
        (&["--tty=false"], "test -t 0 || echo none", "none\n"),
    ];
    for (flags, script, expected) in table {
        let exec = sandbox.runtime().arg("exec").args(*flags).arg(bundle.id()).args(["sh", "-c", script]);
        exec.output().succeeds().prints(expected);
    }
    stop(&sandbox, &bundle);
}

#[test]
fn the_exit_code_is_the_commands_or_255() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = launched(&sandbox, "codes");
    let exec = |words: &[&str]| sandbox.exec(&bundle, words).output();
    exec(&["true"]).exits_with(0);
    exec(&["sh", "-c", "exit 42"]).exits_with(42);
    exec(&["sh", "-c", "kill -TERM $$"]).exits_with(128 + 15);
    exec(&["--", "sh", "-c", "exit 3"]).exits_with(3);
    exec(&["no-such-program"]).exits_with(255).complains("executable file not found in $PATH");
    exec(&["/no/such/program"]).exits_with(255).complains("no such file or directory");
    exec(&["/tmp"]).exits_with(255).complains("/tmp");
    sandbox
        .runtime()
        .args(["exec", "--cwd", "/no/where"])
        .arg(bundle.id())
        .arg("true")
        .output()
        .exits_with(255);
    // As runc: what the flags mean is the command's affair, which flags there are the program's.
    let flags = |words: &[&str]| sandbox.runtime().args(["exec"]).args(words).output();
    flags(&[bundle.id()]).exits_with(255).complains("exec args cannot be empty");
    flags(&["--user", "1x", bundle.id(), "true"]).exits_with(255).complains("1x");
    flags(&["--env", "A", bundle.id(), "true"]).exits_with(255).complains("--env");
    flags(&["--no-such-flag", bundle.id(), "true"]).exits_with(1).complains("--no-such-flag");
    flags(&[]).exits_with(1).complains("requires a minimum of");
    stop(&sandbox, &bundle);
    exec(&["true"]).exits_with(255).complains("cannot exec in a stopped container");
}

#[test]
fn a_paused_container_takes_no_process_unless_told() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = launched(&sandbox, "paused");
    let on = |verb: &str| sandbox.runtime().arg(verb).arg(bundle.id()).output().succeeds();
    on("pause");
    sandbox.exec(&bundle, ["true"]).output().exits_with(255).complains("--ignore-paused");
    let waiting =
        sandbox.runtime().args(["exec", "--ignore-paused"]).arg(bundle.id()).args(["echo", "thawed"]);
    let waiting = waiting.spawn();
    on("resume");
    waiting.wait().succeeds().prints("thawed\n");
    stop(&sandbox, &bundle);
}

#[test]
fn a_detached_process_leaves_its_pid_in_the_file() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = launched(&sandbox, "detached");
    let file = sandbox.directory().join("pid");
    let exec = sandbox.runtime().args(["exec", "--detach", "--pid-file"]).arg(&file).arg(bundle.id());
    exec.args(["sleep", "1000"]).output().succeeds().prints("");
    let pid: i32 = fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let pids = || sandbox.runtime().args(["ps", "-f", "json"]).arg(bundle.id()).output().succeeds().json();
    let has = |pid: i32| pids().as_array().is_some_and(|pids| pids.iter().any(|one| *one == pid));
    assert!(has(pid), "{pid} is not in the container");
    fs::remove_file(&file).ok();
    stop(&sandbox, &bundle);
    sandbox.wait_for_exit(pid);
    wait_until("the container is empty", || !has(pid));
}

#[test]
fn a_process_file_replaces_the_whole_process() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = launched(&sandbox, "file");
    let file = sandbox.directory().join("process.json");
    let process = r#"{"user":{"uid":9,"gid":10},"cwd":"/tmp","env":["PATH=/bin:/usr/bin","X=y"],
        "args":["sh","-c","id -u; id -g; pwd; echo $X$FROM"]}"#;
    let exec = || sandbox.runtime().args(["exec", "--process"]).arg(&file).arg(bundle.id()).output();
    for (text, complaint) in [("{", "process"), (r#"{"cwd":7}"#, "/cwd")] {
        fs::write(&file, text).ok();
        exec().exits_with(255).complains(complaint);
    }
    fs::write(&file, process).ok();
    exec().succeeds().prints("9\n10\n/tmp\ny\n");
    fs::remove_file(&file).ok();
    exec().exits_with(255).complains("process.json");
    stop(&sandbox, &bundle);
}
