//! The system call filter of a container: docker's default profile, actions, and notification of an agent.

#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the rule against threads is bulkrun's, not that of its tests"
)]

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_testkit::{Arrival, Bundle, Desk, Sandbox, find_program, is_root, requires, skip, wait_until};
use serde_json::{Value, json};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Allows everything but the calls of one rule.
fn all_but(names: &[&str], rule: Value) -> Value {
    let mut rule = rule;
    rule["names"] = json!(names);
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

/// Both orders in which a filter is loaded: before the capabilities are dropped, and last.
fn in_both_orders(sandbox: &Sandbox, short: &str) -> [Bundle; 2] {
    [false, true].map(|value| {
        let bundle = sandbox.bundle(&format!("{short}-{value}"));
        bundle.edit(|config| config["process"]["noNewPrivileges"] = value.into())
    })
}

/// Calls that docker's profile refuses to a container.
const FORBIDDEN: &str = "unshare -U true; unshare -m true; mount -t tmpfs none /tmp; true";

#[test]
fn dockers_profile_lets_a_container_work_and_holds_it_back() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let profile = serde_json::to_value(bulkhead_seccomp::default_profile()).unwrap();
    for bundle in in_both_orders(&sandbox, "docker") {
        let script =
            format!("grep -E '^Seccomp:' /proc/self/status; ls / > /dev/null && echo works; {FORBIDDEN}");
        let bundle = bundle.seccomp(profile.clone()).script(&script);
        let output = sandbox.run(&bundle).output().succeeds().prints("Seccomp:\t2\nworks\n");
        let refusals = output.stderr.matches("Operation not permitted").count()
            + output.stderr.matches("permission denied").count();
        assert_eq!(refusals, 3, "{output}");
    }
}

#[test]
fn a_filter_that_forbids_to_ask_for_rights_hides_no_program() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let refused = json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 1 });
    for (short, names) in [("old", &["faccessat2"][..]), ("strict", &["faccessat2", "faccessat", "access"])] {
        for bundle in in_both_orders(&sandbox, short) {
            // The first directories of PATH do not have it.
            let bundle = bundle.seccomp(all_but(names, refused.clone())).env("PATH=/no:/tmp:/bin:/usr/bin");
            sandbox.run(&bundle.args(["echo", "found"])).output().succeeds().prints("found\n");
        }
    }
}

#[test]
fn the_filter_holds_for_hooks_of_the_start() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let filter = all_but(&["mkdir", "mkdirat"], json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
    for bundle in in_both_orders(&sandbox, "hook") {
        let bundle = bundle.seccomp(filter.clone()).args(["echo", "must not run"]);
        let bundle = bundle.hook_script("startContainer", "mkdir /made");
        let output = sandbox.run(&bundle).output().exits_with(1).prints("").complains("startContainer");
        output.complains("Function not implemented");
    }
}

#[test]
fn dockers_profile_is_in_force_for_ordinary_users_and_exec() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let profile = serde_json::to_value(bulkhead_seccomp::default_profile()).unwrap();
    for bundle in in_both_orders(&sandbox, "exec") {
        let bundle = bundle.seccomp(profile.clone()).args(["sleep", "1000"]).user(1000, 1000);
        sandbox.launch(&bundle);
        let output =
            sandbox.exec(&bundle, ["sh", "-c", "grep -E '^Seccomp:' /proc/self/status; unshare -U true"]);
        output.output().exits_with(1).prints("Seccomp:\t2\n").complains("Operation not permitted");
        let output = sandbox.exec(&bundle, ["grep", "-E", "^Seccomp:", "/proc/1/status"]).output();
        output.succeeds().prints("Seccomp:\t2\n");
    }
}

#[test]
fn a_filter_does_not_bring_no_new_privileges() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let profile = serde_json::to_value(bulkhead_seccomp::default_profile()).unwrap();
    let [without, with] = in_both_orders(&sandbox, "nnp");
    for (bundle, expected) in [(without, "NoNewPrivs:\t0\n"), (with, "NoNewPrivs:\t1\n")] {
        let bundle = bundle.seccomp(profile.clone()).args(["grep", "NoNewPrivs", "/proc/self/status"]);
        sandbox.run(&bundle).output().succeeds().prints(expected);
    }
}

#[test]
fn a_call_fails_with_the_number_of_its_rule() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (index, (rule, words)) in [
        (json!({ "action": "SCMP_ACT_ERRNO" }), "Operation not permitted"),
        (json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }), "Function not implemented"),
        (json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }), "No space left on device"),
    ]
    .into_iter()
    .enumerate()
    {
        for bundle in in_both_orders(&sandbox, &index.to_string()) {
            let filter = all_but(&["mkdir", "mkdirat"], rule.clone());
            let bundle = bundle.seccomp(filter).args(["mkdir", "/tmp/directory"]);
            sandbox.run(&bundle).output().exits_with(1).complains(words);
        }
    }
}

#[test]
fn a_rule_can_kill() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"] {
        let bundle = sandbox.bundle(&action.to_lowercase());
        let bundle = bundle.seccomp(all_but(&["mkdir", "mkdirat"], json!({ "action": action })));
        let bundle = bundle.script("mkdir /tmp/directory; echo ended with $?");
        // SIGSYS.
        sandbox.run(&bundle).output().succeeds().prints("ended with 159\n");
        let bundle = sandbox.bundle(&format!("{}-init", action.to_lowercase()));
        let bundle = bundle.seccomp(all_but(&["mkdir", "mkdirat"], json!({ "action": action })));
        sandbox.run(&bundle.args(["mkdir", "/tmp/directory"])).output().exits_with(159);
    }
}

#[test]
fn a_rule_can_send_a_signal_ask_a_tracer_or_only_log() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (action, code, words) in [
        // SIGSYS again, but one that could be caught.
        ("SCMP_ACT_TRAP", 159, "Bad system call"),
        // Nobody traces, so the call is not there (seccomp(2)).
        ("SCMP_ACT_TRACE", 1, "Function not implemented"),
        ("SCMP_ACT_LOG", 0, ""),
        ("SCMP_ACT_ALLOW", 0, ""),
    ] {
        let filter = all_but(&["mkdir", "mkdirat"], json!({ "action": action }));
        let bundle = sandbox.bundle(&action.to_lowercase()).seccomp(filter);
        let bundle = bundle.script(
            "mkdir /tmp/directory; echo ended with $?; ! test -d /tmp/directory || rmdir /tmp/directory",
        );
        let output = sandbox.run(&bundle).output().succeeds();
        output.prints(&format!("ended with {code}\n")).complains(words);
    }
}

#[test]
fn arguments_are_compared() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let rule = json!({
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 28,
        // SIGUSR1.
        "args": [{ "index": 1, "value": 10, "op": "SCMP_CMP_EQ" }],
    });
    let bundle = sandbox.bundle("args").seccomp(all_but(&["kill"], rule));
    let script = "trap '' USR1 USR2; kill -USR2 $$ && echo sent; kill -USR1 $$ || echo refused";
    let output = sandbox.run(&bundle.script(script)).output().succeeds().prints("sent\nrefused\n");
    output.complains("No space left on device");
}

#[test]
fn a_profile_that_is_wrong_names_the_place() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (index, (filter, place)) in [
        (json!({ "defaultAction": "SCMP_ACT_FLY" }), "/linux/seccomp/defaultAction"),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"] }),
            "/linux/seccomp",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_FLY"] }),
            "/linux/seccomp",
        ),
        (all_but(&["mkdir"], json!({ "action": "SCMP_ACT_FLY" })), "/linux/seccomp/syscalls/0"),
        (all_but(&["mkdir"], json!({ "action": "SCMP_ACT_NOTIFY" })), "/linux/seccomp"),
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = sandbox.bundle(&index.to_string()).seccomp(filter);
        let output = sandbox.run(&bundle).output().exits_with(1).complains(place);
        assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
    }
}

#[test]
fn a_filter_that_comes_last_need_not_allow_what_the_runtime_does() {
    requires!(is_root() && cfg!(target_arch = "x86_64"), "needs root and x86-64");
    let sandbox = sandbox();
    // What a static program needs to print a line.
    let names = json!([
        "arch_prctl",
        "brk",
        "execve",
        "exit_group",
        "fstat",
        "getrandom",
        "getuid",
        "ioctl",
        "mmap",
        "mprotect",
        "prctl",
        "prlimit64",
        "readlink",
        "readlinkat",
        "rseq",
        "set_robust_list",
        "set_tid_address",
        "write",
    ]);
    let filter = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    });
    let bundle = sandbox.bundle("small").seccomp(filter).args(["echo", "enough"]);
    let bundle = bundle.edit(|config| config["process"]["noNewPrivileges"] = true.into());
    sandbox.run(&bundle).output().succeeds().prints("enough\n");
    sandbox.create(&bundle);
    sandbox.start(&bundle);
}

/// What an agent was sent: the document and the descriptor on which it answers.
fn accept(desk: &Desk) -> (Value, OwnedFd) {
    let Arrival { bytes, descriptor, .. } = desk.takes();
    (serde_json::from_slice(&bytes).unwrap(), descriptor)
}

/// Makes the socket of an agent, and a bundle whose mkdir it is asked about.
fn notified(sandbox: &Sandbox, short: &str) -> (Desk, Bundle) {
    let desk = Desk::at(sandbox.directory().join(format!("{short}.sock")));
    let mut filter = all_but(&["mkdir", "mkdirat"], json!({ "action": "SCMP_ACT_NOTIFY" }));
    filter["listenerPath"] = json!(desk.path());
    filter["listenerMetadata"] = json!("for the agent");
    (desk, sandbox.bundle(short).seccomp(filter))
}

#[test]
fn an_agent_is_told_about_the_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for value in [false, true] {
        let (desk, bundle) = notified(&sandbox, &format!("agent-{value}"));
        let bundle = bundle.args(["true"]).annotation("org.example.key", "value");
        let bundle = bundle.edit(|config| config["process"]["noNewPrivileges"] = value.into());
        let agent = std::thread::spawn(move || accept(&desk));
        sandbox.create(&bundle);
        let pid = sandbox.pid(&bundle);
        let (document, _descriptor) = agent.join().unwrap();
        assert_eq!(document["fds"], json!(["seccompFd"]), "{document}");
        assert_eq!(document["pid"], pid, "{document}");
        assert_eq!(document["metadata"], "for the agent", "{document}");
        assert_eq!(document["state"]["id"], bundle.id(), "{document}");
        assert_eq!(document["state"]["status"], "creating", "{document}");
        assert_eq!(document["state"]["pid"], pid, "{document}");
        assert_eq!(document["state"]["bundle"], json!(bundle.directory()), "{document}");
        assert_eq!(document["state"]["annotations"], json!({ "org.example.key": "value" }), "{document}");
        sandbox.start(&bundle);
    }
}

#[test]
fn an_agent_is_told_about_a_process_of_exec() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let (desk, bundle) = notified(&sandbox, "exec");
    let bundle = bundle.args(["sleep", "1000"]);
    let agent = std::thread::spawn(move || [accept(&desk), accept(&desk)]);
    sandbox.launch(&bundle);
    let pid_file = sandbox.directory().join("pid");
    let run = sandbox.runtime().args(["exec", "--pid-file"]).arg(&pid_file);
    run.args([bundle.id(), "true"]).output().succeeds();
    let [_, (document, _)] = agent.join().unwrap();
    assert_eq!(document["pid"].to_string(), std::fs::read_to_string(pid_file).unwrap(), "{document}");
    assert_eq!(document["state"]["status"], "running", "{document}");
    assert_eq!(document["state"]["pid"], sandbox.pid(&bundle), "{document}");
}

/// Serves the filter that comes to the socket `argv[1]`: it answers mkdir with EDQUOT, lets all else go on, and prints
/// how many calls it was asked about in the end.
const AGENT: &str = r#"
import fcntl, select, socket, struct, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
_, (fd,), _, _ = socket.recv_fds(listener.accept()[0], 65536, 1)
poll = select.poll()
poll.register(fd, select.POLLIN)
asked = set()
while not poll.poll(10000)[0][1] & select.POLLHUP:
    call = bytearray(80)
    fcntl.ioctl(fd, 0xC0502100, call)
    id, number = struct.unpack_from("=Q8xi", call)
    asked.add(number)
    answer = (id, 0, -122, 0) if number in (34, 83, 258) else (id, 0, 0, 1)
    fcntl.ioctl(fd, 0xC0182101, bytearray(struct.pack("=QqiI", *answer)))
print(len(asked), "calls")
"#;

#[test]
fn an_agent_answers_calls_also_those_by_which_the_runtime_gives_up_its_rights() {
    let Some(python) = find_program("python3") else { skip!("needs python3") };
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, value, asked) in [("early", false, 4), ("late", true, 1)] {
        let path = sandbox.directory().join(short);
        let names = ["mkdir", "mkdirat", "setresgid", "setresuid", "capset"];
        let mut filter = all_but(&names, json!({ "action": "SCMP_ACT_NOTIFY" }));
        filter["listenerPath"] = json!(path);
        let bundle = sandbox
            .bundle(&format!("answers-{short}"))
            .user(1000, 1000)
            .seccomp(filter)
            .args(["mkdir", "/tmp/x"]);
        let bundle = bundle.edit(|config| config["process"]["noNewPrivileges"] = value.into());
        let agent = sandbox.command(&python).args(["-c", AGENT]).arg(&path).spawn();
        wait_until("the agent listens", || path.exists());
        sandbox.run(&bundle).output().exits_with(1).complains("Disk quota exceeded");
        agent.wait().succeeds().prints(&format!("{asked} calls\n"));
    }
}

#[test]
fn an_agent_cannot_be_asked_about_the_calls_that_reach_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for name in ["write", "sendmsg", "recvmsg"] {
        let mut filter = all_but(&[name], json!({ "action": "SCMP_ACT_NOTIFY" }));
        filter["listenerPath"] = json!("/nowhere");
        let output = sandbox.run(&sandbox.bundle(name).seccomp(filter)).output().exits_with(1);
        output.complains(&format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall"));
    }
}

#[test]
fn without_an_agent_a_call_fails_with_enosys() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let (desk, bundle) = notified(&sandbox, "gone");
    let bundle = bundle.args(["mkdir", "/tmp/directory"]);
    // Its descriptor is closed at once.
    let agent = std::thread::spawn(move || drop(accept(&desk)));
    let run = sandbox.run(&bundle).timeout(Duration::from_secs(30)).output();
    agent.join().unwrap();
    run.exits_with(1).complains("Function not implemented");
}

#[test]
fn an_agent_that_is_not_there_ends_the_creation() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let (desk, bundle) = notified(&sandbox, "nobody");
    drop(desk);
    let output = sandbox.run(&bundle).output().exits_with(1).complains("nobody.sock");
    assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
}
