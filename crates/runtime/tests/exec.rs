//! `exec`: another process in a container, with what the container's own has and what was typed.

use std::os::fd::AsRawFd;
use std::time::Duration;

use bulkhead_testkit::{Bundle, Desk, Run, Sandbox, is_root, requires, wait_until};
use serde_json::json;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Starts a container in which commands can be executed.
fn launched(sandbox: &Sandbox, edit: impl FnOnce(Bundle) -> Bundle) -> Bundle {
    let bundle = edit(sandbox.bundle("box").args(["sleep", "1000"]));
    sandbox.launch(&bundle);
    bundle
}

/// Puts `exec FLAGS ID sh -c SCRIPT` together.
fn script(sandbox: &Sandbox, bundle: &Bundle, flags: &[&str], script: &str) -> Run {
    sandbox.runtime().arg("exec").args(flags).arg(bundle.id()).args(["sh", "-c", script])
}

#[test]
fn a_process_joins_every_namespace_and_cgroup() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let show = "for n in cgroup ipc mnt net pid uts; do readlink /proc/$1/ns/$n; done; cat /proc/$1/cgroup";
    let run = |of: &str| sandbox.exec(&bundle, ["sh", "-c", show, "sh", of]).output().succeeds().stdout;
    assert_eq!(run("self"), run("1"));
}

#[test]
fn it_has_the_containers_environment_directory_user_and_capabilities() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| {
        bundle.env("KIND=container").user(1000, 1001).edit(|config| {
            config["process"]["cwd"] = json!("/tmp");
            config["process"]["user"]["umask"] = json!(0o027);
        })
    });
    let show = "echo $KIND; pwd; id -u; id -g; umask; echo $HOME; grep ^Cap /proc/self/status";
    let output = script(&sandbox, &bundle, &[], show).output().succeeds();
    assert!(output.stdout.starts_with("container\n/tmp\n1000\n1001\n0027\n/home/user\n"), "{output}");
    let caps = |path| sandbox.exec(&bundle, ["grep", "^Cap", path]).output().succeeds().stdout;
    assert_eq!(caps("/proc/self/status"), caps("/proc/1/status"));
}

#[test]
fn flags_change_directory_environment_user_and_groups() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle.env("A=1"));
    let flags =
        ["--cwd", "/var", "--env", "A=2", "-e", "B=3", "--user", "7:8", "--additional-gids", "9", "-g", "10"];
    let run = script(&sandbox, &bundle, &flags, "pwd; echo $A $B $HOME; id -u; id -G");
    run.output().succeeds().prints("/var\n2 3 /\n7\n8 9 10\n");
}

#[test]
fn a_user_without_a_group_keeps_the_containers_group() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle.user(1000, 1001));
    script(&sandbox, &bundle, &["--user", "7"], "id -u; id -g").output().succeeds().prints("7\n1001\n");
}

#[test]
fn users_are_strict_numbers() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    for user in ["root", "1000x", "-1", " 0", "0:", ":0", "4294967295", "4294967296", "+1", "0x0"] {
        let flag = format!("--user={user}");
        let output = script(&sandbox, &bundle, &[&flag], "id -u").output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{user:?} is no user\n{output}");
    }
}

#[test]
fn no_new_privileges_can_be_set_and_stays_set() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let show = "grep NoNewPrivs /proc/self/status";
    script(&sandbox, &bundle, &[], show).output().succeeds().prints("NoNewPrivs:\t0\n");
    script(&sandbox, &bundle, &["--no-new-privs"], show).output().succeeds().prints("NoNewPrivs:\t1\n");
}

#[test]
fn capabilities_can_be_added() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| {
        let one = json!(["CAP_CHOWN"]);
        bundle.edit(|config| {
            config["process"]["capabilities"] =
                json!({ "bounding": one, "effective": one, "permitted": one });
        })
    });
    let run = script(
        &sandbox,
        &bundle,
        &["--cap", "CAP_KILL"],
        "grep -E '^Cap(Bnd|Eff|Amb|Inh)' /proc/self/status",
    );
    let expected = "CapInh:\t0000000000000000\nCapEff:\t0000000000000021\nCapBnd:\t0000000000000021\nCapAmb:\t0000000000000000\n";
    run.output().succeeds().prints(expected);
}

#[test]
fn labels_of_security_modules_that_are_not_there_are_refused() {
    requires!(is_root(), "needs root");
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    requires!(!modules.contains("apparmor") && !modules.contains("selinux"), "needs a kernel without them");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    for (flag, name) in [("--apparmor=x-label", "AppArmor"), ("--process-label=x-label", "SELinux")] {
        script(&sandbox, &bundle, &[flag], "true")
            .output()
            .exits_with(255)
            .complains(name)
            .complains("x-label");
    }
}

#[test]
fn a_process_document_says_everything() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle.env("FROM=config"));
    let file = sandbox.directory().join("process.json");
    let process = json!({
        "args": ["sh", "-c", "echo $FROM; pwd; id -u; ulimit -n; cat /proc/self/oom_score_adj; grep -E 'NoNew|CapEff' /proc/self/status"],
        "cwd": "/tmp",
        "env": ["FROM=document", "PATH=/bin:/usr/bin"],
        "user": { "uid": 5, "gid": 6 },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 99 }],
        "oomScoreAdj": 333,
        "noNewPrivileges": true,
    });
    std::fs::write(&file, process.to_string()).unwrap();
    let run = sandbox.runtime().arg("exec").arg("--process").arg(&file).arg(bundle.id());
    let expected = "document\n/tmp\n5\n99\n333\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n";
    run.output().succeeds().prints(expected);
}

#[test]
fn a_process_document_leaves_the_rest_as_the_containers_own_process_has_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let rights =
        "grep -E '^(CapPrm|CapEff|CapBnd)' /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj";
    let bundle = launched(&sandbox, |bundle| {
        bundle.edit(|config| {
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 77 }]);
            config["process"]["oomScoreAdj"] = 222.into();
        })
    });
    let own = script(&sandbox, &bundle, &[], rights).output().succeeds().stdout;
    assert!(own.ends_with("77\n222\n"), "the container's own are others than the caller's: {own}");
    let file = sandbox.directory().join("process.json");
    let process = json!({ "args": ["sh", "-c", rights], "cwd": "/", "env": ["PATH=/bin:/usr/bin"] });
    std::fs::write(&file, process.to_string()).unwrap();
    let run = sandbox.runtime().arg("exec").arg("--process").arg(&file).arg(bundle.id());
    run.output().succeeds().prints(&own);
}

#[test]
fn a_process_document_that_is_wrong_names_the_place() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let file = sandbox.directory().join("process.json");
    for (text, place) in [
        (r#"{"args": "true", "cwd": "/"}"#, "/args"),
        (r#"{"args": ["true"], "cwd": "tmp"}"#, "/process/cwd"),
        (r#"{"args": [], "cwd": "/"}"#, "/process/args"),
        ("{", "process"),
    ] {
        std::fs::write(&file, text).unwrap();
        let run = sandbox.runtime().arg("exec").arg("-p").arg(&file).arg(bundle.id());
        run.output().exits_with(255).complains(place);
    }
}

#[test]
fn the_exit_code_is_the_processs_own() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    script(&sandbox, &bundle, &[], "exit 0").output().exits_with(0);
    script(&sandbox, &bundle, &[], "exit 42").output().exits_with(42);
    script(&sandbox, &bundle, &[], "kill -TERM $$").output().exits_with(128 + 15);
    script(&sandbox, &bundle, &[], "kill -KILL $$").output().exits_with(128 + 9);
}

#[test]
fn what_exec_cannot_do_is_255_and_a_sentence() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle =
        launched(&sandbox, |bundle| bundle.file("/etc/plain", "text").file("/bin/alien", "\u{7f}ELF no"));
    sandbox.command("chmod").arg("755").arg(bundle.rootfs().join("bin/alien")).output().succeeds();
    for (program, words) in [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/plain", "permission denied"),
        ("/etc", "is a directory: permission denied"),
        ("/bin/alien", "exec format error"),
    ] {
        sandbox.exec(&bundle, [program]).output().exits_with(255).complains(words);
    }
    let run = sandbox.runtime().args(["exec", "--cwd", "/no/such", bundle.id(), "true"]);
    run.output().exits_with(255).complains("/no/such");
    let run = sandbox.runtime().args(["exec", "no-such-container", "true"]);
    run.output().exits_with(255).complains("container does not exist");
}

#[test]
fn a_created_container_accepts_processes() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("created").args(["sleep", "1000"]);
    sandbox.create(&bundle);
    sandbox.exec(&bundle, ["echo", "hello"]).output().succeeds().prints("hello\n");
    assert_eq!(sandbox.status(&bundle), "created");
}

#[test]
fn a_stopped_container_refuses() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle.args(["true"]));
    sandbox.wait_for_status(&bundle, "stopped");
    sandbox.exec(&bundle, ["true"]).output().exits_with(255).complains("cannot exec in a stopped container");
}

#[test]
fn a_paused_container_refuses_unless_told_otherwise() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    sandbox.runtime().args(["pause", bundle.id()]).output().succeeds();
    sandbox.exec(&bundle, ["true"]).output().exits_with(255).complains("paused");
    // It waits for the end of the pause, like everything in the container.
    let waiting = sandbox.runtime().args(["exec", "--ignore-paused", bundle.id(), "echo", "late"]).spawn();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(waiting.stdout(), "");
    sandbox.runtime().args(["resume", bundle.id()]).output().succeeds();
    waiting.wait().succeeds().prints("late\n");
}

#[test]
fn a_detached_process_goes_on_and_leaves_its_pid() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let file = sandbox.directory().join("pid");
    let run = sandbox.runtime().args(["exec", "--detach", "--pid-file"]).arg(&file);
    run.args([bundle.id(), "sleep", "77"]).output().succeeds();
    let pid = std::fs::read_to_string(&file).unwrap();
    // The kernel closes descriptors, by which the runtime knows, a moment before the new arguments can be seen.
    wait_until("the pid file names the process", || {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap() == "sleep\u{0}77\u{0}"
    });
}

#[test]
fn a_detached_process_that_cannot_run_is_an_error() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let run = sandbox.runtime().args(["exec", "--detach", bundle.id(), "no-such-program"]);
    run.output().exits_with(255).complains("executable file not found");
}

#[test]
fn signals_are_passed_on() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let script = "trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.05; done";
    let running = sandbox.exec(&bundle, ["sh", "-c", script]).spawn();
    wait_until("the process is ready", || running.stdout() == "ready\n");
    running.signal(rustix::process::Signal::USR1);
    running.wait().exits_with(3).prints("ready\ngot it\n");
}

#[test]
fn a_sub_cgroup_is_joined() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let cgroups = sandbox.cgroups(bundle.cgroups_path());
    for cgroup in &cgroups {
        std::fs::create_dir(cgroup.join("inner")).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // In v1 an empty set takes no process; in v2 the controller is not passed on.
            let inner = cgroup.join("inner").join(file);
            if inner.exists() {
                std::fs::copy(cgroup.join(file), inner).unwrap();
            }
        }
    }
    let output =
        script(&sandbox, &bundle, &["--cgroup", "inner"], "cat /proc/self/cgroup").output().succeeds();
    assert!(output.stdout.lines().any(|line| line.ends_with("/inner")), "{output}");
    for outside in ["../..", "/..", "inner/../.."] {
        let output = script(&sandbox, &bundle, &["--cgroup", outside], "true").output();
        assert!(output.code() != 0, "{outside} is refused\n{output}");
    }
}

#[test]
fn a_pidfd_is_sent_to_a_socket() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let desk = Desk::at(sandbox.directory().join("pidfd.sock"));
    let running = sandbox.runtime().args(["exec", "--pidfd-socket"]).arg(desk.path());
    let running = running.args([bundle.id(), "sleep", "1000"]).spawn();
    let pidfd = desk.takes().descriptor;
    // It arrives before the program is executed, so that nobody can miss the beginning.
    wait_until("the program runs", || {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap_or_default().trim();
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    });
    bulkhead_sys::process::signal(&pidfd, 15).unwrap();
    running.wait().exits_with(128 + 15);
}

#[test]
fn nothing_is_left_of_a_process_whose_container_dies() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    let running = sandbox.exec(&bundle, ["sleep", "1000"]).spawn();
    wait_until("the process runs", || {
        sandbox.exec(&bundle, ["pgrep", "-c", "sleep"]).output().stdout == "2\n"
            || sandbox.exec(&bundle, ["sh", "-c", "ps | grep -c '[s]leep 1000'"]).output().stdout == "2\n"
    });
    sandbox.kill(&bundle, "KILL");
    running.wait().exits_with(128 + 9);
}

#[test]
fn options_after_the_id_belong_to_the_process() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = launched(&sandbox, |bundle| bundle);
    sandbox.exec(&bundle, ["echo", "--cwd", "-t", "--"]).output().succeeds().prints("--cwd -t --\n");
}
