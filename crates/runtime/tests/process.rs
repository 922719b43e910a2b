//! The program of a container: how it is found, who it is, what it may do, with which limits it starts.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a step of the preparation that fails ends the test"
)]

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt as _};
use std::path::PathBuf;

use bulkhead_testkit::{Bundle, Output, Sandbox, is_root, requires};
use serde_json::{Value, json};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Puts a program into the root file system. Another process writes it: a file that this one had open for writing
/// could be busy as long as a child of another test holds the descriptor.
fn program(sandbox: &Sandbox, bundle: &Bundle, path: &str, mode: &str, text: &str) {
    let file = bundle.rootfs().join(path.trim_start_matches('/'));
    let script = "mkdir -p \"$(dirname \"$1\")\" && cat > \"$1\" && chmod \"$2\" \"$1\"";
    let run = sandbox.command("sh").args(["-c", script, "sh"]).arg(&file).arg(mode).input(text);
    run.output().succeeds();
}

/// Sets a member of the configuration's `process`.
fn with(bundle: Bundle, member: &str, value: Value) -> Bundle {
    bundle.edit(|config| config["process"][member] = value)
}

/// Reads a line of a status file, without its name.
fn field(output: &Output, name: &str) -> String {
    let line = output.stdout.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("there should be a line {name}\n{output}")).trim().to_owned()
}

/// Says whether the tests themselves hold a capability.
fn holds(capability: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> capability & 1 == 1)
}

const SYS_RESOURCE: u32 = 24;

#[test]
fn a_program_is_found_by_the_containers_path() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("path").args(["greet"]);
    let bundle = with(bundle, "env", json!(["PATH=/nowhere:/first:/second"]));
    program(&sandbox, &bundle, "/first/greet", "644", "not executable");
    program(&sandbox, &bundle, "/second/greet", "755", "#!/bin/sh\necho found $0\n");
    sandbox.run(&bundle).output().succeeds().prints("found /second/greet\n");
}

#[test]
fn a_program_is_found_in_the_system_directories_without_a_path() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(sandbox.bundle("nopath").args(["echo", "hello"]), "env", json!([]));
    sandbox.run(&bundle).output().succeeds().prints("hello\n");
}

#[test]
fn the_zeroth_argument_is_what_was_asked_for() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("argv").args(["cat", "/proc/self/cmdline"]);
    sandbox.run(&bundle).output().succeeds().prints("cat\0/proc/self/cmdline\0");
}

#[test]
fn of_two_variables_with_one_name_the_last_counts() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(
        sandbox.bundle("env").args(["env"]),
        "env",
        json!(["A=1", "PATH=/usr/bin", "B=x=y", "A=2", "HOME=/here", "EMPTY="]),
    );
    let expected = "PATH=/usr/bin\nB=x=y\nA=2\nHOME=/here\nEMPTY=\n";
    sandbox.run(&bundle).output().succeeds().prints(expected);
}

#[test]
fn home_comes_from_the_containers_passwd() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, uid, home) in [("root", 0, "/root"), ("user", 1000, "/home/user"), ("nobody", 4242, "/")] {
        let bundle = sandbox.bundle(short).user(uid, 0).script("echo $HOME");
        sandbox.run(&bundle).output().succeeds().prints(&format!("{home}\n"));
    }
}

#[test]
fn an_empty_home_counts_as_none() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("empty").env("HOME=").script("echo $HOME");
    sandbox.run(&bundle).output().succeeds().prints("/root\n");
}

#[test]
fn a_passwd_that_is_a_link_to_nowhere_or_a_fifo_gives_no_home() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("fifo").script("echo $HOME");
    fs::remove_file(bundle.rootfs().join("etc/passwd")).unwrap();
    sandbox.command("mkfifo").arg(bundle.rootfs().join("etc/passwd")).output().succeeds();
    sandbox.run(&bundle).output().succeeds().prints("/\n");
}

#[test]
fn a_missing_working_directory_is_made() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(sandbox.bundle("cwd").script("pwd; stat -c '%a %u' ."), "cwd", json!("/not/there/yet"));
    sandbox.run(&bundle).output().succeeds().prints("/not/there/yet\n755 0\n");
}

#[test]
fn a_relative_program_is_found_from_the_working_directory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(sandbox.bundle("relative").args(["./bin/greet"]), "cwd", json!("/opt/tool"));
    program(&sandbox, &bundle, "/opt/tool/bin/greet", "755", "#!/bin/sh\necho hello from $PWD\n");
    sandbox.run(&bundle).output().succeeds().prints("hello from /opt/tool\n");
}

#[test]
fn the_user_need_not_be_able_to_enter_the_working_directory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(sandbox.bundle("private").user(1000, 1000).args(["pwd"]), "cwd", json!("/root"));
    sandbox.run(&bundle).output().succeeds().prints("/root\n");
}

#[test]
fn a_working_directory_that_is_a_file_is_an_error() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(sandbox.bundle("file"), "cwd", json!("/etc/passwd"));
    sandbox.run(&bundle).output().exits_with(1).complains("/etc/passwd").complains("not a directory");
}

#[test]
fn the_user_has_its_groups_and_its_umask() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let script = "id -u; id -g; id -G; umask";
    let bundle = sandbox.bundle("user").script(script).edit(|config| {
        config["process"]["user"] =
            json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 2000], "umask": 0o077 });
    });
    sandbox.run(&bundle).output().succeeds().prints("1000\n1001\n1001 5 2000\n0077\n");
    let bundle = sandbox.bundle("plain").user(7, 8).script(script);
    sandbox.run(&bundle).output().succeeds().prints("7\n8\n8\n0022\n");
}

#[test]
fn resource_limits_are_set() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(
        sandbox.bundle("limits").args(["cat", "/proc/self/limits"]),
        "rlimits",
        json!([
            { "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152 },
        ]),
    );
    let output = sandbox.run(&bundle).output().succeeds();
    let columns =
        |name| field(&output, name).split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(columns("Max open files"), ["77", "88"]);
    assert_eq!(columns("Max core file size"), ["0", "0"]);
    assert_eq!(columns("Max stack size"), ["1048576", "2097152"]);
}

#[test]
fn raising_a_hard_limit_without_the_right_names_the_capability() {
    requires!(is_root(), "needs root");
    requires!(!holds(SYS_RESOURCE), "needs to be without CAP_SYS_RESOURCE");
    let sandbox = sandbox();
    let bundle = with(
        sandbox.bundle("raise"),
        "rlimits",
        json!([{ "type": "RLIMIT_NOFILE", "soft": 1_u64 << 40, "hard": 1_u64 << 40 }]),
    );
    sandbox.run(&bundle).output().exits_with(1).complains("RLIMIT_NOFILE").complains("CAP_SYS_RESOURCE");
}

/// CHOWN and KILL.
const TWO: &str = "0000000000000021";
const ONE: &str = "0000000000000001";
const NONE: &str = "0000000000000000";

fn sets(output: &Output) -> [String; 5] {
    ["CapBnd:", "CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].map(|name| field(output, name))
}

#[test]
fn the_five_capability_sets_of_root_are_those_asked_for() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let (two, one) = (json!(["CAP_CHOWN", "CAP_KILL"]), json!(["CAP_CHOWN"]));
    let bundle = sandbox.bundle("caps").args(["cat", "/proc/self/status"]);
    let bundle = with(
        bundle,
        "capabilities",
        json!({ "bounding": two, "permitted": two, "effective": one, "inheritable": one, "ambient": [] }),
    );
    let output = sandbox.run(&bundle).output().succeeds();
    // execve(2) gives root the whole bounding set as permitted and effective.
    assert_eq!(sets(&output), [TWO, TWO, TWO, ONE, NONE]);
}

#[test]
fn a_user_keeps_only_the_ambient_set() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let (two, one) = (json!(["CAP_CHOWN", "CAP_KILL"]), json!(["CAP_CHOWN"]));
    for (short, ambient, expected) in
        [("ambient", one, [TWO, ONE, ONE, TWO, ONE]), ("without", json!([]), [TWO, NONE, NONE, TWO, NONE])]
    {
        let bundle = sandbox.bundle(short).user(1000, 1000).args(["cat", "/proc/self/status"]);
        let all = json!({
            "bounding": two, "permitted": two, "effective": two, "inheritable": two, "ambient": ambient,
        });
        let output = sandbox.run(&with(bundle, "capabilities", all)).output().succeeds();
        assert_eq!(sets(&output), expected, "{short}");
    }
}

#[test]
fn an_ambient_capability_that_cannot_be_is_a_warning() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let (two, one) = (json!(["CAP_CHOWN", "CAP_KILL"]), json!(["CAP_CHOWN"]));
    let bundle = sandbox.bundle("ambient").user(1000, 1000).args(["cat", "/proc/self/status"]);
    let bundle = with(
        bundle,
        "capabilities",
        json!({ "bounding": two, "permitted": two, "effective": two, "inheritable": one, "ambient": two }),
    );
    let output =
        sandbox.run(&bundle).output().succeeds().complains("can't raise ambient capability CAP_KILL: ");
    assert_eq!(sets(&output), [TWO, ONE, ONE, ONE, ONE]);
}

#[test]
fn a_program_may_be_executable_by_the_right_to_override_permissions_alone() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let name = json!(["CAP_DAC_OVERRIDE"]);
    let closed = |short: &str| {
        let bundle = sandbox.bundle(short).user(1000, 1000).file("secret", "#!/bin/sh\necho fine\n");
        let path = bundle.rootfs().join("secret");
        fs::set_permissions(path, fs::Permissions::from_mode(0o744)).unwrap();
        bundle.args(["/secret"])
    };
    let without = with(closed("without"), "capabilities", json!({ "bounding": name }));
    sandbox.run(&without).output().exits_with(1).complains("permission denied");
    let all = json!({
        "bounding": name, "permitted": name, "effective": name, "inheritable": name, "ambient": name,
    });
    sandbox.run(&with(closed("with"), "capabilities", all)).output().succeeds().prints("fine\n");
}

#[test]
fn a_program_whose_interpreter_is_missing_is_named_as_runc_does() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("script").file("run.sh", "#!/no/such/shell\n").args(["/run.sh"]);
    let path = bundle.rootfs().join("run.sh");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let output = sandbox.run(&bundle).output().exits_with(1);
    assert_eq!(output.stderr, "exec /run.sh: no such file or directory\n");
    let log = sandbox.directory().join("log");
    let run = sandbox.runtime().arg("--log").arg(&log).args(["run", "--bundle"]).arg(bundle.directory());
    let output = run.arg(bundle.id()).output().exits_with(1);
    assert_eq!(output.stderr, "exec /run.sh: no such file or directory\n");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("its interpreter or its dynamic linker is not there"), "the log says more: {log}");
}

#[test]
fn a_process_without_capabilities_has_none() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(sandbox.bundle("none").args(["cat", "/proc/self/status"]), "capabilities", Value::Null);
    let output = sandbox.run(&bundle).output().succeeds();
    assert_eq!(sets(&output), [NONE; 5]);
}

#[test]
fn an_unknown_capability_is_a_warning() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with(
        sandbox.bundle("unknown").args(["echo", "fine"]),
        "capabilities",
        json!({ "bounding": ["CAP_SPEED", "CAP_CHOWN"], "permitted": ["CAP_SPEED"] }),
    );
    let output = sandbox.run(&bundle).output().succeeds().prints("fine\n").complains("level=warning");
    let output = output.complains("CAP_SPEED");
    assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
}

#[test]
fn a_capability_that_the_runtime_cannot_give_is_a_warning() {
    requires!(is_root(), "needs root");
    requires!(!holds(SYS_RESOURCE), "needs to be without CAP_SYS_RESOURCE");
    let sandbox = sandbox();
    let asked = json!(["CAP_SYS_RESOURCE", "CAP_CHOWN", "CAP_KILL"]);
    let bundle = with(
        sandbox.bundle("beyond").args(["cat", "/proc/self/status"]),
        "capabilities",
        json!({ "bounding": asked, "permitted": asked, "effective": asked, "inheritable": asked, "ambient": asked }),
    );
    let output = sandbox.run(&bundle).output().succeeds().complains("CAP_SYS_RESOURCE");
    assert_eq!(sets(&output), [TWO; 5]);
}

#[test]
fn no_new_privileges_is_as_asked() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, value, expected) in [("on", true, "1"), ("off", false, "0")] {
        let bundle = sandbox.bundle(short).args(["cat", "/proc/self/status"]);
        let output = sandbox.run(&with(bundle, "noNewPrivileges", value.into())).output().succeeds();
        assert_eq!(field(&output, "NoNewPrivs:"), expected);
    }
}

#[test]
fn the_out_of_memory_score_can_be_raised() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("oom").args(["cat", "/proc/self/oom_score_adj"]);
    sandbox.run(&with(bundle, "oomScoreAdj", json!(567))).output().succeeds().prints("567\n");
}

#[test]
fn lowering_the_out_of_memory_score_without_the_right_names_the_capability() {
    requires!(is_root(), "needs root");
    requires!(!holds(SYS_RESOURCE), "needs to be without CAP_SYS_RESOURCE");
    let sandbox = sandbox();
    let bundle = with(sandbox.bundle("low"), "oomScoreAdj", json!(-999));
    sandbox.run(&bundle).output().exits_with(1).complains("-999").complains("CAP_SYS_RESOURCE");
}

#[test]
fn labels_of_security_modules_that_are_not_there_are_refused() {
    requires!(is_root(), "needs root");
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let sandbox = sandbox();
    let cases = [("apparmorProfile", "AppArmor", "apparmor"), ("selinuxLabel", "SELinux", "selinux")];
    for (member, name, module) in cases {
        requires!(!modules.contains(module), "needs a kernel without {name}");
        let bundle = with(sandbox.bundle(module), member, json!("some-label"));
        sandbox.run(&bundle).output().exits_with(1).complains(name).complains("some-label");
    }
}

/// Returns the serial number of the keyring that a listing of `/proc/keys` has under this name.
fn keyring(keys: &str, name: &str) -> Option<String> {
    let line = keys.lines().find(|line| line.contains(&format!(" {name}: ")))?;
    line.split_whitespace().next().map(str::to_owned)
}

#[test]
fn a_container_has_a_session_keyring_which_exec_joins() {
    requires!(is_root() && PathBuf::from("/proc/keys").exists(), "needs root and keyrings");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("keys").args(["sleep", "100"]).edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
    });
    let name = format!("_ses.{}", bundle.id());
    sandbox.launch(&bundle);
    let show = || sandbox.exec(&bundle, ["cat", "/proc/keys"]).output().succeeds().stdout;
    let first = keyring(&show(), &name);
    assert!(first.is_some(), "exec has the keyring {name}\n{}", show());
    assert_eq!(keyring(&show(), &name), first, "every exec joins the same keyring");
}

#[test]
fn a_container_can_keep_its_callers_keyring() {
    requires!(is_root() && PathBuf::from("/proc/keys").exists(), "needs root and keyrings");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("nokey").args(["sleep", "100"]).edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
    });
    let create = sandbox.runtime().args(["create", "--no-new-keyring", "--bundle"]);
    create.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    sandbox.start(&bundle);
    let keys = sandbox.exec(&bundle, ["cat", "/proc/keys"]).output().succeeds().stdout;
    assert_eq!(keyring(&keys, &format!("_ses.{}", bundle.id())), None, "no keyring was made\n{keys}");
}

/// Returns a field, counted from 1, of the container's `/proc/self/stat`.
fn stat(output: &Output, number: usize) -> String {
    let (_, rest) = output.stdout.rsplit_once(") ").unwrap();
    rest.split(' ').nth(number - 3).unwrap().to_owned()
}

#[test]
fn the_scheduler_is_set() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let cat = ["cat", "/proc/self/stat"];
    let bundle =
        with(sandbox.bundle("batch").args(cat), "scheduler", json!({ "policy": "SCHED_BATCH", "nice": 7 }));
    let output = sandbox.run(&bundle).output().succeeds();
    assert_eq!((stat(&output, 19).as_str(), stat(&output, 41).as_str()), ("7", "3"), "{output}");
    let bundle = with(sandbox.bundle("idle").args(cat), "scheduler", json!({ "policy": "SCHED_IDLE" }));
    assert_eq!(stat(&sandbox.run(&bundle).output().succeeds(), 41), "5");
}

#[test]
fn a_deadline_and_a_cpuset_do_not_go_together_and_the_error_says_so() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("c").resources(json!({ "cpu": { "cpus": "0" } }));
    let bundle = with(bundle.args(["true"]), "scheduler", deadline(42_000, 1_000_000, 1_000_000));
    let words = "process scheduler can't be used together with AllowedCPUs";
    sandbox.run(&bundle).output().exits_with(1).complains(words);
}

fn deadline(runtime: u64, deadline: u64, period: u64) -> Value {
    json!({ "policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period })
}

#[test]
fn a_scheduler_that_makes_no_sense_is_refused_with_its_place() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let cases = [
        (json!({ "policy": "SCHED_FIFO", "priority": 100 }), "/process/scheduler/priority"),
        (json!({ "policy": "SCHED_OTHER", "priority": 3 }), "/process/scheduler/priority"),
        (json!({ "policy": "SCHED_OTHER", "nice": 20 }), "/process/scheduler/nice"),
        (json!({ "policy": "SCHED_FAST" }), "/process/scheduler/policy"),
        (json!({ "policy": "SCHED_DEADLINE", "deadline": 20_000 }), "/process/scheduler/runtime"),
        (json!({ "policy": "SCHED_DEADLINE", "runtime": 20_000 }), "/process/scheduler/deadline"),
        (deadline(0, 20_000, 20_000), "runtime must be greater than 0"),
        (deadline(1023, 20_000, 20_000), "runtime 1023 must be between 1024 and 9223372036854775807"),
        (deadline(1 << 63, u64::MAX, 0), "must be between"),
        (deadline(20_001, 20_000, 40_000), "runtime 20001 must be <= deadline 20000"),
        (deadline(10_000, 30_000, 20_000), "deadline 30000 must be <= period 20000"),
    ];
    for (number, (scheduler, place)) in cases.into_iter().enumerate() {
        let bundle = with(sandbox.bundle(&number.to_string()), "scheduler", scheduler);
        sandbox.run(&bundle).output().exits_with(1).complains(place);
    }
}

#[test]
fn the_io_priority_is_set() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, class, level, expected) in
        [("best", "IOPRIO_CLASS_BE", 6, "best-effort: prio 6\n"), ("idle", "IOPRIO_CLASS_IDLE", 0, "idle\n")]
    {
        let bundle = sandbox.bundle(short).script("ionice -p $$");
        let priority = json!({ "class": class, "priority": level });
        sandbox.run(&with(bundle, "ioPriority", priority)).output().succeeds().prints(expected);
    }
}

/// Returns the CPUs on which this process may run.
fn cpus() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as usize)
}

#[test]
fn exec_runs_on_the_cpus_that_were_chosen() {
    requires!(is_root() && cpus() > 1, "needs root and two CPUs");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("affinity").args(["sleep", "100"]);
    let bundle = with(bundle, "execCPUAffinity", json!({ "initial": "0", "final": "1" }));
    sandbox.launch(&bundle);
    let list = ["grep", "Cpus_allowed_list", "/proc/self/status", "/proc/1/status"];
    let output = sandbox.exec(&bundle, list).output().succeeds();
    let expected = "/proc/self/status:Cpus_allowed_list:\t1\n";
    assert!(output.stdout.starts_with(expected), "exec runs on CPU 1\n{output}");
    let first = output.stdout.lines().nth(1).unwrap_or_default();
    assert!(!first.ends_with("\t1"), "the first process is not concerned\n{output}");
}

#[test]
fn the_memory_policy_is_set() {
    requires!(is_root() && PathBuf::from("/proc/self/numa_maps").exists(), "needs root and NUMA");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("numa").script("head -n1 /proc/self/numa_maps | cut -d' ' -f2");
    let bundle =
        bundle.edit(|config| config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" }));
    sandbox.run(&bundle).output().succeeds().prints("bind:0\n");
}

#[test]
fn the_personality_is_set() {
    requires!(is_root() && cfg!(target_arch = "x86_64"), "needs root and x86-64");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("linux32").args(["uname", "-m"]);
    let bundle = bundle.edit(|config| config["linux"]["personality"] = json!({ "domain": "LINUX32" }));
    sandbox.run(&bundle).output().succeeds().prints("i686\n");
}

#[test]
fn descriptors_of_socket_activation_come_before_preserved_ones() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let [three, four, five] = ["three", "four", "five"].map(|name| {
        let file = sandbox.directory().join(name);
        fs::write(&file, name).unwrap();
        file
    });
    let script = "exec 3<\"$1\" 4<\"$2\" 5<\"$3\" 6<\"$3\"; shift 3; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b exec \"$@\"";
    let bundle = sandbox.bundle("listen").script(
        "cat <&3; echo; cat <&4; echo; cat <&5; echo; echo $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; ls /proc/self/fd | wc -l",
    );
    let launcher = sandbox.command("sh").args(["-c", script, "sh"]).arg(three).arg(four).arg(five);
    let run = launcher.arg(env!("CARGO_BIN_EXE_bulkrun")).arg("--root").arg(sandbox.state_directory());
    let run = run.args(["run", "--preserve-fds", "1", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    // Of ls: 0, 1, 2, the three, and the directory itself.
    run.output().succeeds().prints("three\nfour\nfive\n1 2 a:b\n7\n");
}

#[test]
fn socket_activation_names_the_process_in_a_pid_namespace_that_is_shared() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("shared").without_namespace("pid");
    let bundle = bundle.script("test $LISTEN_PID = $$ && test $$ != 1 && echo $LISTEN_FDS");
    let script = "exec 3</dev/null; LISTEN_FDS=1 exec \"$@\"";
    let run = sandbox.command("sh").args(["-c", script, "sh", env!("CARGO_BIN_EXE_bulkrun"), "--root"]);
    let run = run.arg(sandbox.state_directory()).args(["run", "--bundle"]).arg(bundle.directory());
    run.arg(bundle.id()).output().succeeds().prints("1\n");
}

#[test]
fn socket_activation_of_another_process_is_not_for_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle =
        sandbox.bundle("other").script("echo \"<$LISTEN_FDS$LISTEN_PID>\"; ls /proc/self/fd | wc -l");
    let run = sandbox.run(&bundle).env("LISTEN_PID", "2").env("LISTEN_FDS", "3");
    run.output().succeeds().prints("<>\n4\n");
}

/// Must fail without the list of `fds::seal`: under the numbers that are missing lie the runtime's own files.
#[test]
fn descriptors_to_pass_may_be_missing() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    // The test's own may have any number. Of ls: 0, 1, 2, and the directory itself.
    let shut = "for n in 3 4 5 6 7 8 9; do eval \"exec $n<&-\"; done";
    let count = "ls /proc/self/fd | wc -l";
    let through = |script: &str| {
        let script = format!("{shut}; {script}; exec \"$@\"");
        let launcher = sandbox.command("sh").args(["-c", &script, "sh", env!("CARGO_BIN_EXE_bulkrun")]);
        launcher.arg("--root").arg(sandbox.state_directory())
    };
    let log = sandbox.directory().join("log");
    let bundle = sandbox.bundle("some").script(&format!("cat <&4; cat <&6; {count}"));
    let open = "echo four > four; echo six > six; exec 4<four 6<six";
    let run = through(open).current_dir(sandbox.directory()).arg("--log").arg(&log);
    let run = run.args(["run", "--preserve-fds", "6", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().succeeds().prints("four\nsix\n6\n");
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("descriptor 3 is not open"), "{said}");

    let bundle = sandbox.bundle("none").script(&format!("echo $LISTEN_FDS $LISTEN_PID; {count}"));
    let run = through(":").args(["run", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    let output = run.env("LISTEN_FDS", "2").output().succeeds();
    output.prints("2 1\n4\n").complains("descriptor 3 is not open");
    let bundle = sandbox.bundle("joined").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let exec = through(":").args(["exec", "--preserve-fds", "7", bundle.id(), "sh", "-c", count]);
    exec.output().succeeds().prints("4\n").complains("descriptor 3 is not open");
}

#[test]
fn exec_gets_preserved_descriptors_but_no_activation() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("execfd").args(["sleep", "100"]);
    sandbox.launch(&bundle);
    let file = sandbox.directory().join("three");
    fs::write(&file, "three").unwrap();
    let script = "exec 3<\"$1\"; shift; LISTEN_FDS=1 exec \"$@\"";
    let launcher = sandbox.command("sh").args(["-c", script, "sh"]).arg(file);
    let run = launcher.arg(env!("CARGO_BIN_EXE_bulkrun")).arg("--root").arg(sandbox.state_directory());
    let run =
        run.args(["exec", "--preserve-fds", "1", bundle.id(), "sh", "-c", "cat <&3; echo \"$LISTEN_FDS\""]);
    run.output().succeeds().prints("three\n");
}

#[test]
fn signals_have_their_defaults_whatever_the_caller_does() {
    requires!(is_root(), "needs root");
    let launcher = ["env", "--ignore-signal=PIPE,HUP,INT,RTMAX", "--block-signal=TERM,USR1,CHLD,HUP"];
    let sandbox = sandbox().through(launcher);
    let bundle = sandbox.bundle("signals").args(["cat", "/proc/self/status"]);
    let output = sandbox.run(&bundle).output().succeeds();
    let masks = |output: &Output| ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| field(output, name));
    assert_eq!(masks(&output), [NONE; 3], "of run\n{output}");
    let bundle = sandbox.bundle("exec").args(["sleep", "100"]);
    sandbox.launch(&bundle);
    for status in ["/proc/1/status", "/proc/self/status"] {
        let output = sandbox.exec(&bundle, ["cat", status]).output().succeeds();
        assert_eq!(masks(&output), [NONE; 3], "of {status}\n{output}");
    }
}

#[test]
fn kernel_parameters_of_own_namespaces_are_set() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("sysctl").edit(|config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "kernel.sem": "250 32000 32 128" });
    });
    let bundle = bundle.args([
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/msgmax",
        "/proc/sys/kernel/sem",
    ]);
    sandbox.run(&bundle).output().succeeds().prints("1\n12345\n250\t32000\t32\t128\n");
}

#[test]
fn kernel_parameters_of_the_host_are_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let cases = [
        ("vm.swappiness", "/linux/sysctl/vm.swappiness"),
        ("kernel.hostname", "hostname"),
        ("kernel.domainname.x", "would change the host"),
        ("net.no.such", "net/no/such"),
    ];
    for (number, (key, words)) in cases.into_iter().enumerate() {
        let bundle = sandbox
            .bundle(&number.to_string())
            .edit(|config| config["linux"]["sysctl"] = json!({ key: "1" }));
        sandbox.run(&bundle).output().exits_with(1).complains(words);
    }
}

#[test]
fn streams_belong_to_the_containers_user() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let (read, write) = std::io::pipe().unwrap();
    assert!(read.as_raw_fd() > 2, "the pipe is no standard stream");
    let bundle = sandbox.bundle("streams").user(1000, 1000).script("echo again > /dev/stdout");
    sandbox.run(&bundle).stdout(write).output().succeeds();
    assert_eq!(std::io::read_to_string(read).unwrap(), "again\n");

    let (read, write) = std::io::pipe().unwrap();
    let owner = ["stat", "-L", "-c", "%u:%g", "/proc/self/fd/1"];
    let bundle = sandbox.bundle("owner").user(1000, 2000).args(owner);
    sandbox.run(&bundle).stdout(write).output().succeeds();
    assert_eq!(std::io::read_to_string(read).unwrap(), "1000:2000\n");
    // The group of a file on the host is not the container's affair.
    let path = sandbox.directory().join("stream");
    let file = fs::File::create(&path).unwrap();
    let bundle = sandbox.bundle("file").user(1000, 2000).args(["true"]);
    sandbox.run(&bundle).stdout(file).output().succeeds();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid()), (1000, 0));
}

/// A service manager: a socket that hears notifications.
struct Manager {
    socket: std::os::unix::net::UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(sandbox: &Sandbox) -> Manager {
        let path = sandbox.directory().join("manager.sock");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        Manager { socket, path }
    }

    /// Hears one message; descriptors that come with it are closed, which is what a barrier waits for.
    fn hear(&self) -> String {
        let mut bytes = [0; 256];
        let length = self.socket.recv(&mut bytes).expect("a notification arrives in time");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}

/// Lets the container use the host's Perl: busybox has nothing that writes to a unix datagram socket.
fn with_perl(bundle: Bundle) -> Bundle {
    for library in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{library}"), bundle.rootfs().join(library)).unwrap();
    }
    bundle.bind("/usr", "/usr", &["ro"])
}

/// Says something to the socket that the environment names.
const SAY: &str = r#"
    use Socket;
    socket(S, PF_UNIX, SOCK_DGRAM, 0) or die;
    send(S, $_, 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die "send: $!" for @ARGV;
    sleep 100 if $ENV{STAY};
"#;

const MERGED_USR: &str = "needs root and Perl in a merged /usr";

fn has_perl() -> bool {
    is_root() && PathBuf::from("/usr/bin/perl").exists() && PathBuf::from("/lib").is_symlink()
}

#[test]
fn readiness_in_the_foreground_names_the_runtime_as_the_main_process() {
    requires!(has_perl(), "{MERGED_USR}");
    let sandbox = sandbox();
    let manager = Manager::new(&sandbox);
    let bundle = with_perl(sandbox.bundle("ready")).user(1000, 1000);
    let bundle = bundle.args(["/usr/bin/perl", "-e", SAY, "STATUS=warming up", "READY=1\nSTATUS=fine"]);
    let running = sandbox.run(&bundle).env("NOTIFY_SOCKET", &manager.path).spawn();
    assert_eq!(manager.hear(), "READY=1");
    assert_eq!(manager.hear(), format!("MAINPID={}", running.pid()));
    running.wait().succeeds();
}

#[test]
fn readiness_of_a_created_container_is_waited_for_by_start() {
    requires!(has_perl(), "{MERGED_USR}");
    let sandbox = sandbox();
    let manager = Manager::new(&sandbox);
    let bundle = with_perl(sandbox.bundle("ready")).env("STAY=1");
    let bundle = bundle.args(["/usr/bin/perl", "-e", SAY, "READY=1"]);
    let create = sandbox.runtime().arg("create").arg("--bundle").arg(bundle.directory()).arg(bundle.id());
    create.env("NOTIFY_SOCKET", &manager.path).output().succeeds();
    let start = sandbox.runtime().arg("start").arg(bundle.id()).env("NOTIFY_SOCKET", &manager.path).spawn();
    assert_eq!(manager.hear(), "READY=1");
    assert_eq!(manager.hear(), format!("MAINPID={}", sandbox.pid(&bundle)));
    assert_eq!(manager.hear(), "BARRIER=1");
    start.wait().succeeds();
}

#[test]
fn readiness_of_a_detached_container_is_waited_for_by_run() {
    requires!(has_perl(), "{MERGED_USR}");
    let sandbox = sandbox();
    let manager = Manager::new(&sandbox);
    let bundle = with_perl(sandbox.bundle("ready")).env("STAY=1");
    let bundle = bundle.args(["/usr/bin/perl", "-e", SAY, "READY=1"]);
    let run =
        sandbox.runtime().args(["run", "--detach", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    let run = run.env("NOTIFY_SOCKET", &manager.path).spawn();
    assert_eq!(manager.hear(), "READY=1");
    assert_eq!(manager.hear(), format!("MAINPID={}", sandbox.pid(&bundle)));
    assert_eq!(manager.hear(), "BARRIER=1");
    run.wait().succeeds();
}

#[test]
fn start_does_not_wait_for_the_readiness_of_a_container_that_ends() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let manager = Manager::new(&sandbox);
    let bundle = sandbox.bundle("mute").script("echo $NOTIFY_SOCKET");
    let run =
        sandbox.runtime().args(["run", "--detach", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.env("NOTIFY_SOCKET", &manager.path).output().succeeds().prints("/run/notify/notify.sock\n");
}

#[test]
fn a_service_manager_that_is_not_there_is_an_error_and_leaves_nothing() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("nobody");
    let run = sandbox.run(&bundle).env("NOTIFY_SOCKET", sandbox.directory().join("no.sock"));
    run.output().exits_with(1).complains("service manager");
}
