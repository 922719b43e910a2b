//! Descriptors that reach the container: CVE-2016-9962, CVE-2024-21626.

use std::fs;

use bulkhead_testkit::{Run, Sandbox, is_root, requires};

use crate::sandbox;

/// Runs a verb under a caller that leaks a directory, a file and a socket's worth of descriptors.
fn leaking(sandbox: &Sandbox, verb: &[&str]) -> Run {
    let script = "exec 3</ 5</etc/passwd 9</ 63</root; exec \"$@\"";
    sandbox
        .command("bash")
        .args(["-c", script, "bash"])
        .arg(sandbox.runtime_program())
        .arg("--root")
        .arg(sandbox.state_directory())
        .args(verb)
}

/// Lists the descriptors of the shell itself: `ls` would have one more, for the directory that it reads.
const LIST: &str = "for file in /proc/$$/fd/*; do test -L $file && echo ${file##*/}; done; true";

/// Needs close_range(2) before execve(2) (`fds::seal`). Must fail without it: 3, 5, 9 and 63 are there.
#[test]
fn a_program_has_three_descriptors_whatever_the_caller_leaks() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("run").script(LIST);
    let verb = ["run", "--bundle", bundle.directory().to_str().unwrap(), bundle.id()];
    leaking(&sandbox, &verb).output().succeeds().prints("0\n1\n2\n");
}

/// As above.
#[test]
fn a_program_that_joins_has_three_descriptors_whatever_the_caller_leaks() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("exec").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    leaking(&sandbox, &["exec", bundle.id(), "/bin/sh", "-c", LIST]).output().succeeds().prints("0\n1\n2\n");
}

/// With `--preserve-fds` those that were asked for are passed, and no other. As above.
#[test]
fn only_as_many_descriptors_are_passed_as_were_asked_for() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("passed").script(LIST);
    let directory = bundle.directory().to_str().unwrap().to_owned();
    let verb = ["run", "--preserve-fds", "1", "--bundle", &directory, bundle.id()];
    leaking(&sandbox, &verb).output().succeeds().prints("0\n1\n2\n3\n");
}

/// Hooks of the host have their three streams. Needs `fds::keep_from_programs`. Seen to fail without it: 3, 5, 9 and 63
/// are there, with the rights with which the caller opened them.
#[test]
fn a_hook_has_three_descriptors_whatever_the_caller_leaks() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let out = sandbox.directory().join(kind);
        // One hook runs in the container's pid namespace, with the host's /proc.
        let script = format!("exec >{}; {}", out.display(), LIST.replace("$$", "self"));
        let bundle = sandbox.bundle(kind).hook_script(kind, &script).args(["/bin/true"]);
        let verb = ["run", "--bundle", bundle.directory().to_str().unwrap(), bundle.id()];
        leaking(&sandbox, &verb).output().succeeds();
        assert_eq!(fs::read_to_string(out).unwrap(), "0\n1\n2\n", "the descriptors of a {kind} hook");
    }
}

/// Between `create` and `start` nothing of the host is open but the streams, the gate, and the container's end of the
/// handshake, whose other end went with the parent: sockets, which lead to no file. Needs
/// `close_all_but` before the wait. Must fail without it: the state directory, cgroups and leaked files are there.
#[test]
fn a_created_container_holds_nothing_but_its_streams_and_the_gate() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("created").args(["sleep", "1000"]);
    let verb = ["create", "--bundle", bundle.directory().to_str().unwrap(), bundle.id()];
    leaking(&sandbox, &verb).output().succeeds();
    let open = fs::read_dir(format!("/proc/{}/fd", sandbox.pid(&bundle))).unwrap();
    let mut rest = Vec::new();
    for entry in open.flatten() {
        if !["0", "1", "2"].iter().any(|stream| entry.file_name() == *stream) {
            rest.push(fs::read_link(entry.path()).unwrap().display().to_string());
        }
    }
    assert!((1..=2).contains(&rest.len()), "the gate and at most the handshake are left: {rest:?}");
    assert!(rest.iter().all(|open| open.starts_with("socket:")), "both are sockets: {rest:?}");
}
