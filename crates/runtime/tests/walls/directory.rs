//! Working directories outside the root: CVE-2024-21626.

use std::fs;
use std::os::unix::fs::symlink;

use bulkhead_testkit::{Bundle, Run, Sandbox, is_root, requires};

use crate::outside::{Outside, SECRET};
use crate::sandbox;

/// Runs the runtime under a caller that leaks descriptors of the host's directories, not close-on-exec.
fn leaking(sandbox: &Sandbox, outside: &Outside, verb: &[&str]) -> Run {
    let script = "exec 7</ 8<\"$1\" 9<\"$1/secret\"; shift; exec \"$@\"";
    sandbox
        .command("bash")
        .args(["-c", script, "bash"])
        .arg(outside.path())
        .arg(sandbox.runtime_program())
        .arg("--root")
        .arg(sandbox.state_directory())
        .args(verb)
}

fn run_leaking(sandbox: &Sandbox, outside: &Outside, bundle: &Bundle) -> Run {
    leaking(sandbox, outside, &["run", "--bundle", bundle.directory().to_str().unwrap(), bundle.id()])
}

/// What a container does that came out of its root.
const ESCAPED: &str = "cat secret ./../outside/secret ../../../../../../../../etc/shadow; echo escaped";

/// Needs the check of the working directory (`program::enter_directory`) and the refusal of magic links where it is
/// made (`program::make_directory`). Must fail without both: `cat secret` prints the host's file.
#[test]
fn a_descriptor_is_no_working_directory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let bundle = sandbox.bundle("run").script(ESCAPED);
    for number in 0..64 {
        let cwd = format!("/proc/self/fd/{number}");
        let bundle = bundle.clone().edit(|config| config["process"]["cwd"] = cwd.as_str().into());
        let output = run_leaking(&sandbox, &outside, &bundle).output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{cwd} is refused\n{output}");
    }
}

/// The same for `exec`, where nothing but the check of the working directory is in the way. Must fail without it.
#[test]
fn a_descriptor_is_no_working_directory_of_exec() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let bundle = sandbox.bundle("exec").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    for number in 0..64 {
        let cwd = format!("/proc/self/fd/{number}");
        let verb = ["exec", "--cwd", &cwd, bundle.id(), "/bin/sh", "-c", ESCAPED];
        let output = leaking(&sandbox, &outside, &verb).output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{cwd} is refused\n{output}");
    }
}

/// An image's link to a descriptor is the same attack with an innocent configuration. As above.
#[test]
fn a_link_to_a_descriptor_is_no_working_directory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let bundle = sandbox.bundle("link").script(ESCAPED);
    let links = sandbox.bundle("links").args(["sleep", "1000"]);
    sandbox.launch(&links);
    for number in 3..24 {
        for bundle in [&bundle, &links] {
            symlink(format!("/proc/self/fd/{number}"), bundle.rootfs().join(format!("work{number}")))
                .unwrap();
        }
        let cwd = format!("/work{number}");
        let bundle = bundle.clone().edit(|config| config["process"]["cwd"] = cwd.as_str().into());
        let output = run_leaking(&sandbox, &outside, &bundle).output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{cwd} is refused\n{output}");
        let verb = ["exec", "--cwd", &cwd, links.id(), "/bin/sh", "-c", ESCAPED];
        let output = leaking(&sandbox, &outside, &verb).output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{cwd} is refused by exec\n{output}");
    }
}

/// A working directory that is reached through links and `..` of the image stays inside. Needs the root to be entered
/// before the working directory is; must fail when `make_directory` resolves without RESOLVE_IN_ROOT: a directory
/// appears on the host.
#[test]
fn a_working_directory_is_made_inside_the_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    for (number, way) in outside.ways("inner").iter().enumerate() {
        let bundle = sandbox
            .bundle(&format!("made{number}"))
            .script("pwd -P")
            .edit(|config| config["process"]["cwd"] = "/link/made/here".into());
        symlink(way, bundle.rootfs().join("link")).unwrap();
        let expected = format!("{}/inner/made/here\n", outside.path().display());
        sandbox.run(&bundle).output().succeeds().prints(&expected);
    }
    outside.is_untouched();
}

/// A directory that was removed has no path: whoever is in it could be anywhere. Must fail without the check of the
/// working directory.
#[test]
fn a_removed_directory_is_no_working_directory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let script = "mkdir /gone; cd /gone; exec sleep 1000";
    let bundle = sandbox.bundle("gone").script(script);
    sandbox.launch(&bundle);
    let gone = bundle.rootfs().join("gone");
    bulkhead_testkit::wait_until("the container is in its directory", || {
        gone.exists() && {
            let cwd = fs::read_link(format!("/proc/{}/cwd", sandbox.pid(&bundle)));
            cwd.is_ok_and(|cwd| cwd.ends_with("gone"))
        }
    });
    fs::remove_dir(&gone).unwrap();
    for cwd in ["/gone", "/proc/1/cwd"] {
        let run = sandbox.runtime().args(["exec", "--cwd", cwd, bundle.id(), "/bin/echo", "ran"]);
        let output = run.output();
        assert!(output.code() != 0 && output.stdout.is_empty(), "{cwd} is refused\n{output}");
    }
}

/// A process of the container that is in the host's directories, which a faulty tool may have put there, is no way
/// out for others. Must fail without the check of the working directory: `cat secret` prints the host's file.
#[test]
fn a_directory_of_a_process_outside_is_no_working_directory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let bundle = sandbox.bundle("stranger").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let pid = sandbox.pid(&bundle).to_string();
    // Enters the container's pid namespace only: its root and working directory are the host's.
    let stranger = sandbox
        .command("nsenter")
        .args(["-p", "-t", &pid, "sleep", "1000"])
        .current_dir(outside.path())
        .spawn();
    let find = || {
        let processes = sandbox.exec(&bundle, ["ps", "-o", "pid,comm"]).output().stdout;
        let mut lines = processes.lines().filter(|line| line.contains("sleep"));
        lines.nth(1).and_then(|line| line.split_whitespace().next().map(str::to_owned))
    };
    let mut found = None;
    bulkhead_testkit::wait_until("the stranger is there", || {
        found = find();
        found.is_some()
    });
    let stranger_pid = found.unwrap();
    for link in ["cwd", "root"] {
        let cwd = format!("/proc/{stranger_pid}/{link}");
        let run = sandbox.runtime().args(["exec", "--cwd", &cwd, bundle.id(), "/bin/sh", "-c", ESCAPED]);
        let output = run.output();
        assert!(!output.stdout.contains(SECRET), "{cwd} does not show the host\n{output}");
        assert!(output.code() != 0 && output.stdout.is_empty(), "{cwd} is refused\n{output}");
    }
    // The container ends first: the kernel lets it when `nsenter`, which is outside, has reaped its child.
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    stranger.wait();
}
