//! The sandbox itself: that it finds every kind of leak, removes what it finds, and leaves others alone.
//!
//! The runtime is a shell script that keeps a directory per container, and leaves behind what a test tells it to.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_testkit::{Leak, Sandbox, cgroups, fresh, is_root, requires, wait_until};

fn sandbox() -> Sandbox {
    Sandbox::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runtime.sh"))
}

/// Makes a bundle whose container runs a script on the host.
fn bundle(sandbox: &Sandbox, short: &str, script: &str) -> bulkhead_testkit::Bundle {
    let bundle = sandbox.bundle(short);
    fs::write(bundle.directory().join("script"), script).unwrap();
    bundle
}

/// How long a leak that is expected is waited for to go away.
const SHORT: Duration = Duration::from_millis(100);

/// Drops a sandbox that is expected to complain, and returns what it says.
fn complaint(sandbox: Sandbox) -> String {
    let sandbox = sandbox.settling_in(SHORT);
    let directory = sandbox.directory().to_owned();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(sandbox))).expect_err("the sandbox complains");
    assert!(!directory.exists(), "the sandbox is gone all the same");
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_clean_test_leaves_nothing_and_passes() {
    let sandbox = sandbox();
    let directory = sandbox.directory().to_owned();
    let bundle = bundle(&sandbox, "a", "echo hello; echo oops >&2; exit 3");
    let output = sandbox.run(&bundle).output().exits_with(3).prints("hello\n").complains("oops");
    assert!(
        output.to_string().contains(&format!("run --bundle {}", bundle.directory().display())),
        "{output}"
    );
    drop(sandbox);
    assert!(!directory.exists(), "the directory is gone");
}

#[test]
fn containers_that_are_left_are_deleted_by_the_runtime() {
    let sandbox = sandbox();
    let bundle = bundle(&sandbox, "a", "exec sleep 1000");
    sandbox.launch(&bundle);
    assert_eq!(sandbox.status(&bundle), "running");
    let pid = sandbox.pid(&bundle);
    drop(sandbox);
    assert!(!is_running(pid), "the container's process is gone");
}

#[test]
fn an_orphan_can_be_waited_for() {
    let sandbox = sandbox();
    let bundle = bundle(&sandbox, "a", "exec sleep 1000");
    sandbox.launch(&bundle);
    let pid = sandbox.pid(&bundle);
    sandbox.kill(&bundle, "TERM");
    assert_eq!(sandbox.wait_for_exit(pid).signal(), Some(15));
}

#[test]
fn a_state_directory_that_is_not_empty_is_a_leak() {
    let sandbox = sandbox();
    fs::write(sandbox.state_directory().join("lock"), "").unwrap();
    assert!(complaint(sandbox).contains("/state/lock"));
}

#[test]
fn a_file_elsewhere_is_a_leak() {
    let sandbox = sandbox().settling_in(SHORT);
    let file = Path::new("/dev/shm").join(format!("{}-x", sandbox.name()));
    fs::write(&file, "").unwrap();
    assert_eq!(sandbox.leaks(), [Leak::File(file.clone())]);
    fs::remove_file(file).unwrap();
}

#[test]
fn what_takes_a_moment_to_end_is_no_leak() {
    let sandbox = sandbox();
    let bundle = bundle(&sandbox, "a", "setsid sleep 1 & echo $!");
    let output = sandbox.run(&bundle).output().succeeds();
    let pid: i32 = output.stdout.trim().parse().unwrap();
    assert!(is_running(pid), "the process outlives its container");
    assert_eq!(sandbox.leaks(), []);
}

#[test]
fn a_scratch_goes_away_with_all_that_is_in_it() {
    let scratch = bulkhead_testkit::Scratch::new();
    let path = scratch.path().to_owned();
    fs::create_dir(path.join("directory")).unwrap();
    fs::write(path.join("directory/file"), "x").unwrap();
    drop(scratch);
    assert!(!path.exists());
}

#[test]
fn a_process_that_escaped_is_a_leak_and_is_killed() {
    let sandbox = sandbox();
    let bundle = bundle(&sandbox, "a", "setsid sleep 1000 & echo $!");
    let output = sandbox.run(&bundle).output().succeeds();
    let pid: i32 = output.stdout.trim().parse().unwrap();
    let complaint = complaint(sandbox);
    assert!(complaint.contains(&format!("process {pid} (sleep sleep 1000)")), "{complaint}");
    wait_until("the process is killed", || !is_running(pid));
}

#[test]
fn a_process_without_marks_is_found_by_its_directory() {
    let sandbox = sandbox();
    let script =
        "cd \"$(dirname \"$0\")\"; cd /tmp/$BULKHEAD_SANDBOX; exec setsid env -i sleep 1000 & echo $!";
    let bundle = bundle(&sandbox, "a", script);
    sandbox.run(&bundle).output().succeeds();
    let complaint = complaint(sandbox);
    assert!(complaint.contains("its cwd is"), "{complaint}");
}

#[test]
fn a_cgroup_is_a_leak_and_is_removed_with_its_processes() {
    requires!(is_root(), "needs root");
    let Some(hierarchy) = cgroups::hierarchies().into_iter().find(|path| path.ends_with("freezer")) else {
        bulkhead_testkit::skip!("needs the v1 freezer");
    };
    let sandbox = sandbox();
    let parent = hierarchy.join(sandbox.name());
    let cgroup = parent.join("leaked/deep");
    fs::create_dir_all(&cgroup).unwrap();
    let sleeper = sandbox.command("env").args(["-i", "sleep", "1000"]).spawn();
    fs::write(cgroup.join("cgroup.procs"), sleeper.pid().to_string()).unwrap();
    fs::write(cgroup.join("freezer.state"), "FROZEN").unwrap();
    let complaint = complaint(sandbox);
    assert!(complaint.contains(&format!("cgroup: {}", parent.join("leaked").display())), "{complaint}");
    assert!(complaint.contains("it is in the cgroup"), "{complaint}");
    assert!(!parent.exists(), "the cgroups are gone");
    assert_eq!(sleeper.wait().code(), 128 + 9, "the frozen process was thawed and killed");
}

#[test]
fn the_sandboxs_own_parent_cgroup_is_no_leak() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let parents: Vec<PathBuf> = cgroups::hierarchies().iter().map(|path| path.join(sandbox.name())).collect();
    for parent in &parents {
        fs::create_dir(parent).unwrap();
    }
    assert_eq!(sandbox.cgroups(sandbox.name()), parents);
    drop(sandbox);
    assert!(!parents.iter().any(|parent| parent.exists()), "they are removed all the same");
}

#[test]
fn a_mount_is_a_leak_and_is_unmounted() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let point = sandbox.directory().join("mount");
    fs::create_dir(&point).unwrap();
    for _ in 0..2 {
        sandbox.command("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&point).output().succeeds();
    }
    let complaint = complaint(sandbox);
    assert_eq!(complaint.matches("mount: ").count(), 2, "{complaint}");
}

#[test]
fn a_namespace_of_the_sandbox_is_a_leak_where_another_process_is_in_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox().settling_in(SHORT);
    let holder = sandbox.command("unshare").args(["--net", "--", "sleep", "1000"]).spawn();
    wait_until("the namespace exists", || {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        namespace(&holder.pid().to_string()) != namespace("self")
    });
    // Neither its environment nor its directory belongs to the sandbox.
    let mut stranger = std::process::Command::new("nsenter")
        .args(["--net", "--target", &holder.pid().to_string(), "--", "sleep", "1000"])
        .spawn()
        .unwrap();
    wait_until("the stranger has joined", || {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        namespace(stranger.id()) == namespace(holder.pid())
    });
    let pid = stranger.id().cast_signed();
    let leaks = sandbox.leaks();
    assert!(
        leaks.iter().any(|leak| matches!(leak, Leak::Namespace { pid: found, .. } if *found == pid)),
        "{leaks:?}"
    );
    drop(holder);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger is reported, not killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_failing_test_keeps_its_own_message() {
    let sandbox = sandbox().settling_in(SHORT);
    let directory = sandbox.directory().to_owned();
    fs::write(sandbox.state_directory().join("lock"), "").unwrap();
    let panic = catch_unwind(AssertUnwindSafe(move || {
        let _sandbox = sandbox;
        panic!("the test's own reason");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"the test's own reason"));
    assert!(!directory.exists(), "the sandbox is cleaned up all the same");
}

#[test]
fn a_command_that_takes_too_long_is_killed() {
    let sandbox = sandbox();
    let run =
        sandbox.command("sh").args(["-c", "echo begun; exec sleep 1000"]).timeout(Duration::from_millis(300));
    let panic = catch_unwind(AssertUnwindSafe(|| run.output())).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("took longer than its limit") && message.contains("begun"), "{message}");
}

#[test]
fn a_command_gets_input_and_variables_and_its_group() {
    let sandbox = sandbox();
    let output = sandbox
        .command("sh")
        .args(["-c", "cat; echo $A $BULKHEAD_SANDBOX; pwd; test $(ps -o pgid= $$) = $$"])
        .input("from stdin\n")
        .env("A", "b")
        .current_dir(sandbox.directory())
        .output();
    let (name, directory) = (sandbox.name(), sandbox.directory().display());
    output.succeeds().prints(&format!("from stdin\nb {name}\n{directory}\n"));
}

#[test]
fn faults_and_launchers_apply_to_the_runtime_only() {
    let sandbox = sandbox().without_calls("mkdir=EPERM,mkdirat=EPERM").through(["env", "LAUNCHED=yes"]);
    let bundle = bundle(&sandbox, "a", "true");
    let output = sandbox.run(&bundle).output().complains("Operation not permitted");
    assert!(output.stderr.contains("annot create directory"), "{output}");
    sandbox.exec(&bundle, ["sh", "-c", "echo $LAUNCHED"]).output().succeeds().prints("yes\n");
    sandbox.command("mkdir").arg(sandbox.directory().join("works")).output().succeeds();
}

#[test]
fn a_runtime_can_run_as_an_ordinary_user() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox().as_user(1000, 1000);
    let bundle = bundle(&sandbox, "a", "id -u; id -G; touch $XDG_RUNTIME_DIR/file");
    assert_eq!(bundle.config()["linux"]["uidMappings"][0]["hostID"], 1000);
    sandbox.run(&bundle).output().succeeds().prints("1000\n1000\n");
}

#[test]
fn a_runtime_can_see_cgroup_v2_only() {
    requires!(is_root() && fresh::is_possible(&[fresh::Kind::Mount]), "needs root and mount namespaces");
    let sandbox = sandbox().v2_only();
    let script = "grep -c ' - cgroup ' /proc/self/mountinfo; grep -c ' - cgroup2 ' /proc/self/mountinfo; \
                  stat -f -c %T /sys/fs/cgroup";
    let bundle = bundle(&sandbox, "a", script);
    sandbox.run(&bundle).output().succeeds().prints("0\n1\ncgroup2fs\n");
    assert!(!cgroups::hierarchies().is_empty(), "the machine's hierarchies stay");
}

#[test]
fn a_sandbox_of_a_killed_test_is_swept_up() {
    let stale = std::env::temp_dir().join(format!("bh-test-{}-999999", std::process::id()));
    fs::create_dir(&stale).unwrap();
    let lock = fs::File::create(stale.join("lock")).unwrap();
    lock.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
    // Sweeping happens once in a process, so it is another one that must do it.
    let own = std::env::current_exe().unwrap();
    let test = ["a_clean_test_leaves_nothing_and_passes", "--exact"];
    let output = std::process::Command::new(&own).args(test).output().unwrap();
    assert!(output.status.success());
    assert!(!stale.exists(), "nobody holds the lock of {}", stale.display());
}

#[test]
fn a_sandbox_in_use_is_not_swept_up() {
    let sandbox = sandbox();
    let lock = fs::File::options().write(true).open(sandbox.directory().join("lock")).unwrap();
    lock.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let own = std::env::current_exe().unwrap();
    let test = ["a_clean_test_leaves_nothing_and_passes", "--exact"];
    assert!(std::process::Command::new(&own).args(test).output().unwrap().status.success());
    assert!(sandbox.directory().exists(), "its lock is held");
}

#[test]
fn many_sandboxes_at_once_do_not_disturb_each_other() {
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let sandbox = sandbox();
                let bundle = bundle(&sandbox, "a", "exec sleep 1000");
                sandbox.launch(&bundle);
                let pid = sandbox.pid(&bundle);
                assert!(is_running(pid));
                sandbox.kill(&bundle, "KILL");
                assert_eq!(sandbox.wait_for_exit(pid).signal(), Some(9));
                sandbox.delete(&bundle);
                assert_eq!(sandbox.leaks(), []);
            });
        }
    });
}

/// Says whether a process exists and has not ended.
fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|line| !line.contains(") Z "))
}
