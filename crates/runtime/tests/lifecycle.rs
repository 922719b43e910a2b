//! The life of a container: signals, pauses, ends by force, detached and foreground runs.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use bulkhead_testkit::{Bundle, Desk, Sandbox, is_root, mounts, requires, skip, wait_until};
use rustix::process::Signal;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

fn sleeper(sandbox: &Sandbox, short: &str) -> Bundle {
    sandbox.bundle(short).args(["sleep", "1000"])
}

fn verb(sandbox: &Sandbox, words: &[&str], bundle: &Bundle) {
    sandbox.runtime().args(words).arg(bundle.id()).output().succeeds().prints("");
}

/// Makes sure that nothing is left of a container, without which the id could not be used again.
fn is_gone(sandbox: &Sandbox, bundle: &Bundle) {
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "the state is removed");
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "the cgroups are removed");
}

#[test]
fn a_signal_is_named_or_numbered() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let names = ["USR1", "SIGUSR1", "usr1", "10"];
    let script = "trap 'n=$((n+1)); echo got $n' USR1; echo ready; while :; do sleep 0.05; done";
    let bundle = sandbox.bundle("names").script(script);
    let running = sandbox.run(&bundle).spawn();
    let mut expected = "ready\n".to_owned();
    wait_until("the program is ready", || running.stdout() == expected);
    for (number, name) in (1..).zip(names) {
        sandbox.kill(&bundle, name);
        expected.push_str(&format!("got {number}\n"));
        wait_until(&format!("the program has got {name}"), || running.stdout() == expected);
    }
    let kill = sandbox.runtime().args(["kill", bundle.id(), "NOSUCH"]).output();
    kill.exits_with(1).complains("NOSUCH");
    sandbox.kill(&bundle, "KILL");
    running.wait().exits_with(128 + 9);
}

#[test]
fn a_created_container_can_be_ended_before_its_program_is_there() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for signal in ["HUP", "INT", "TERM"] {
        let bundle = sandbox.bundle(&signal.to_lowercase()).args(["sleep", "1000"]);
        sandbox.create(&bundle);
        sandbox.kill(&bundle, signal);
        sandbox.wait_for_status(&bundle, "stopped");
        sandbox.delete(&bundle);
    }
}

#[test]
fn a_program_that_was_created_first_handles_no_signal() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "deaf");
    sandbox.launch(&bundle);
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid(&bundle))).unwrap_or_default();
    assert!(status.contains("SigCgt:\t0000000000000000\n"), "{status}");
}

#[test]
fn kill_without_a_signal_sends_term() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let bundle = sandbox.bundle("term").script(script);
    let running = sandbox.run(&bundle).spawn();
    wait_until("the program is ready", || running.stdout() == "ready\n");
    verb(&sandbox, &["kill"], &bundle);
    running.wait().exits_with(7);
}

#[test]
fn kill_all_reaches_every_process() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let script = "trap 'echo first' USR1; (trap 'echo second' USR1; echo ready; while :; do sleep 0.05; done) & \
                  echo ready; while :; do sleep 0.05; done";
    let bundle = sandbox.bundle("all").script(script);
    let running = sandbox.run(&bundle).spawn();
    wait_until("both are ready", || running.stdout() == "ready\nready\n");
    // A `sleep` of the script may be hit too, which ends only that.
    sandbox.runtime().args(["kill", "--all", bundle.id(), "USR1"]).output().succeeds();
    wait_until("both have got it", || {
        running.stdout().contains("first\n") && running.stdout().contains("second\n")
    });
    sandbox.runtime().args(["kill", "--all", bundle.id(), "KILL"]).output().succeeds();
    running.wait().exits_with(128 + 9);
}

#[test]
fn force_deletes_a_container_in_every_state() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for state in ["created", "running", "paused", "paused when created", "stopped"] {
        let bundle = sleeper(&sandbox, &state.replace(' ', "-"));
        sandbox.create(&bundle);
        let pid = sandbox.pid(&bundle);
        match state {
            "running" => sandbox.start(&bundle),
            "paused" => {
                sandbox.start(&bundle);
                verb(&sandbox, &["pause"], &bundle);
            }
            "paused when created" => verb(&sandbox, &["pause"], &bundle),
            "stopped" => {
                sandbox.start(&bundle);
                sandbox.kill(&bundle, "KILL");
            }
            _ => {}
        }
        verb(&sandbox, &["delete", "--force"], &bundle);
        is_gone(&sandbox, &bundle);
        sandbox.wait_for_exit(pid);
        verb(&sandbox, &["delete", "--force"], &bundle);
    }
}

#[test]
fn a_pattern_means_every_container_that_matches() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let [one, two, other] = ["web-1", "web-2", "db-1"].map(|short| {
        let bundle = sleeper(&sandbox, short);
        sandbox.launch(&bundle);
        bundle
    });
    sandbox.runtime().args(["kill", "--regex", "web-.$", "KILL"]).output().succeeds();
    for bundle in [&one, &two] {
        sandbox.wait_for_status(bundle, "stopped");
    }
    assert_eq!(sandbox.status(&other), "running", "it does not match");
    let failed = sandbox.runtime().args(["delete", "-r", "(web|db)-1$"]).output().exits_with(1);
    failed.complains("that is not stopped: running");
    is_gone(&sandbox, &one);
    assert_eq!(sandbox.status(&two), "stopped", "it does not match");
    verb(&sandbox, &["delete", "-f", "--regex"], &two);
    sandbox.runtime().args(["delete", "--force", "--regex", "."]).output().succeeds();
    is_gone(&sandbox, &other);
    let bad = sandbox.runtime().args(["delete", "--regex", "web-["]).output().exits_with(1);
    bad.complains("CONTAINER: ").complains("without");
}

#[test]
fn force_removes_a_record_that_cannot_be_read() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("torn");
    let directory = sandbox.state_directory().join(bundle.id());
    fs::create_dir_all(&directory).ok();
    fs::write(directory.join("state.json"), "{\"version\":1,").ok();
    let delete = || sandbox.runtime().args(["delete", bundle.id()]).output();
    delete().exits_with(1).complains("state.json");
    let output = sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    assert!(output.stderr.contains("only the record is removed"), "it warns\n{output}");
    assert!(!directory.exists(), "the record is gone");
    delete().exits_with(1).complains("container does not exist");
}

#[test]
fn debug_tells_the_story_of_a_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("story").args(["true"]);
    let log = sandbox.directory().join("log");
    let run = |flags: &[&str]| {
        let run = sandbox.runtime().args(flags).arg("--log").arg(&log).args(["run", "--bundle"]);
        run.arg(bundle.directory()).arg(bundle.id()).output().succeeds().prints("");
        let lines = fs::read_to_string(&log).unwrap_or_default();
        fs::remove_file(&log).ok();
        lines
    };
    let story = run(&["--debug"]);
    let places = ["recorded in", "its cgroup is", "its process is", "program runs", "is removed"]
        .map(|words| story.find(words).unwrap_or_else(|| panic!("{words} is missing in\n{story}")));
    assert!(places.is_sorted(), "the order is that of the events\n{story}");
    assert!(story.lines().all(|line| line.contains("level=debug")), "{story}");
    assert_eq!(run(&[]), "", "without the flag nothing is said");
}

#[test]
fn a_created_container_can_be_deleted_without_force() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "created");
    sandbox.create(&bundle);
    sandbox.delete(&bundle);
    is_gone(&sandbox, &bundle);
}

#[test]
fn a_container_with_cgroups_of_its_own_inside_is_deleted() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "inner");
    sandbox.launch(&bundle);
    for cgroup in sandbox.cgroups(bundle.cgroups_path()) {
        fs::create_dir_all(cgroup.join("inner/most")).unwrap();
    }
    verb(&sandbox, &["delete", "--force"], &bundle);
    is_gone(&sandbox, &bundle);
}

#[test]
fn processes_without_a_pid_namespace_of_their_own_end_with_their_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for way in ["delete", "kill"] {
        let bundle = sandbox.bundle(way).without_namespace("pid");
        let bundle = bundle.script("sleep 1001 & sleep 1002 & exec sleep 1003");
        sandbox.launch(&bundle);
        let processes = || {
            let output = sandbox.runtime().args(["ps", "-f", "json", bundle.id()]).output().succeeds();
            output.json().as_array().unwrap().len()
        };
        wait_until("three processes run", || processes() == 3);
        if way == "kill" {
            sandbox.kill(&bundle, "KILL");
            wait_until("all have ended", || processes() == 0);
        }
        verb(&sandbox, &["delete", "--force"], &bundle);
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("pause").script("while :; do echo .; sleep 0.01; done");
    let running = sandbox.run(&bundle).spawn();
    wait_until("it runs", || !running.stdout().is_empty());
    verb(&sandbox, &["pause"], &bundle);
    assert_eq!(sandbox.status(&bundle), "paused");
    let before = running.stdout().len();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(running.stdout().len(), before, "nothing runs");
    verb(&sandbox, &["resume"], &bundle);
    assert_eq!(sandbox.status(&bundle), "running");
    wait_until("it goes on", || running.stdout().len() > before);
    sandbox.kill(&bundle, "KILL");
    running.wait().exits_with(128 + 9);
}

#[test]
fn a_paused_container_dies_of_sigkill() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "frozen");
    sandbox.launch(&bundle);
    let pid = sandbox.pid(&bundle);
    verb(&sandbox, &["pause"], &bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    assert_eq!(sandbox.status(&bundle), "stopped");
}

/// Finds the hierarchy that freezes containers.
fn freezer() -> Option<PathBuf> {
    let mounts: Vec<_> = mounts::own().into_iter().filter(|mount| mount.root == "/").collect();
    let v1 = mounts.iter().find(|mount| mount.kind == "cgroup" && mount.point.ends_with("freezer"));
    let found = v1.or_else(|| mounts.iter().find(|mount| mount.kind == "cgroup2"));
    found.map(|mount| mount.point.clone())
}

/// The container's process stops with all that is below, and under v1 it cannot even be killed there.
#[test]
fn a_cgroup_below_a_frozen_one_is_refused_with_its_name() {
    requires!(is_root(), "needs root");
    let Some(freezer) = freezer() else { skip!("no hierarchy with a freezer is mounted") };
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "below");
    let above = format!("{}-above", bundle.cgroups_path());
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = format!("{above}/c").into());
    let directory = freezer.join(above.trim_start_matches('/'));
    fs::create_dir_all(&directory).unwrap();
    let (file, frozen, thawed) = match directory.join("freezer.state").exists() {
        true => ("freezer.state", "FROZEN", "THAWED"),
        false => ("cgroup.freeze", "1", "0"),
    };
    fs::write(directory.join(file), frozen).unwrap();
    for verb in ["create", "run"] {
        let run = sandbox.runtime().args([verb, "--bundle"]).arg(bundle.directory()).arg(bundle.id());
        let output = run.output().exits_with(1).complains("which is frozen");
        output.complains(directory.to_str().unwrap()).complains(&format!("write {thawed} to {file}"));
        is_gone(&sandbox, &bundle);
    }
    fs::write(directory.join(file), thawed).unwrap();
    sandbox.launch(&bundle);
    verb(&sandbox, &["delete", "--force"], &bundle);
    fs::remove_dir(&directory).unwrap();
    // The sandbox's own, where nothing else was.
    let _ = fs::remove_dir(directory.parent().unwrap());
}

/// As for a new container: it would stand still as soon as it is in the cgroup.
#[test]
fn exec_below_a_frozen_cgroup_is_refused_with_its_name() {
    requires!(is_root(), "needs root");
    let mounts: Vec<_> = mounts::own().into_iter().filter(|mount| mount.root == "/").collect();
    let v1 = mounts.iter().find(|mount| mount.kind == "cgroup" && mount.point.ends_with("freezer"));
    let v2 = mounts.iter().find(|mount| mount.kind == "cgroup2");
    requires!(v1.is_some() || v2.is_some(), "no hierarchy with a freezer is mounted");
    let on_v1 = v1.map(|mount| (sandbox(), mount, "freezer.state", "FROZEN", "THAWED"));
    let on_v2 = v2.map(|mount| (sandbox().v2_only(), mount, "cgroup.freeze", "1", "0"));
    for (sandbox, mount, file, frozen, thawed) in on_v1.into_iter().chain(on_v2) {
        let bundle = sleeper(&sandbox, "below");
        let above = format!("{}-above", bundle.cgroups_path());
        let bundle = bundle.edit(|config| {
            config["linux"]["cgroupsPath"] = format!("{above}/c").into();
            config["linux"]["resources"] = serde_json::json!({});
        });
        sandbox.launch(&bundle);
        let directory = mount.point.join(above.trim_start_matches('/'));
        fs::write(directory.join(file), frozen).unwrap();
        for flags in [&["exec"][..], &["exec", "--detach"]] {
            let output = sandbox.runtime().args(flags).args([bundle.id(), "true"]).output().exits_with(255);
            output
                .complains("which is frozen")
                .complains(&format!("{above}, "))
                .complains(&format!("write {thawed} to {file}"));
            let processes = || fs::read_to_string(directory.join("c/cgroup.procs")).unwrap();
            wait_until("only the first process is left", || processes().lines().count() == 1);
        }
        fs::write(directory.join(file), thawed).unwrap();
        sandbox.exec(&bundle, ["true"]).output().succeeds();
        verb(&sandbox, &["delete", "--force"], &bundle);
    }
}

#[test]
fn a_run_in_the_foreground_leaves_nothing_and_has_the_programs_code() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, script, code) in [("zero", "exit 0", 0), ("code", "exit 42", 42)] {
        let bundle = sandbox.bundle(short).script(script);
        sandbox.run(&bundle).output().exits_with(code);
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn a_run_can_keep_its_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("keep").script("exit 3");
    let run = sandbox.runtime().args(["run", "--keep", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(3);
    assert_eq!(sandbox.status(&bundle), "stopped");
    sandbox.delete(&bundle);
}

#[test]
fn a_detached_run_returns_while_the_program_runs() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "detached");
    let file = sandbox.directory().join("pid");
    let run = sandbox.runtime().args(["run", "--detach", "--pid-file"]).arg(&file).arg("--bundle");
    run.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    assert_eq!(sandbox.status(&bundle), "running");
    assert_eq!(fs::read_to_string(&file).unwrap(), sandbox.pid(&bundle).to_string());
}

#[test]
fn the_pid_file_is_there_after_create() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "pidfile");
    let file = sandbox.directory().join("pid");
    let create = sandbox.runtime().args(["create", "--pid-file"]).arg(&file).arg("--bundle");
    create.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    assert_eq!(fs::read_to_string(&file).unwrap(), sandbox.pid(&bundle).to_string());
    assert!(!sandbox.directory().join(".pid").exists(), "its temporary name is gone");
}

#[test]
fn a_pid_file_that_cannot_be_written_ends_the_creation() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "nofile");
    let create = sandbox.runtime().args(["create", "--pid-file", "/no/such/directory/pid", "--bundle"]);
    let output = create.arg(bundle.directory()).arg(bundle.id()).output().exits_with(1);
    output.complains("/no/such/directory/pid");
    is_gone(&sandbox, &bundle);
}

#[test]
fn signals_of_a_run_go_to_the_program() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let bundle = sandbox.bundle(&format!("signal-{}", signal.as_raw()));
        let script = "trap 'exit 5' TERM INT HUP; echo ready; while :; do sleep 0.05; done";
        let bundle = bundle.script(script);
        let running = sandbox.run(&bundle).spawn();
        wait_until("the program is ready", || running.stdout() == "ready\n");
        running.signal(signal);
        running.wait().exits_with(5);
        is_gone(&sandbox, &bundle);
    }
}

#[test]
fn a_run_reaps_orphans_of_its_container() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("orphans").without_namespace("pid");
    // A grandchild whose parent ends goes to the subreaper, the runtime.
    let script = "(sleep 0.1 &) ; echo ready; while :; do sleep 0.05; done";
    let running = sandbox.run(&bundle.script(script)).spawn();
    wait_until("the program is ready", || running.stdout() == "ready\n");
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    wait_until("only the program is a child of the runtime", || {
        fs::read_to_string(&children).is_ok_and(|list| list.split_whitespace().count() == 1)
    });
    sandbox.runtime().args(["kill", &sandbox.id("orphans"), "KILL"]).output().succeeds();
    running.wait().exits_with(128 + 9);
}

#[test]
fn of_two_creations_of_one_id_one_wins() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sleeper(&sandbox, "race");
    let create = || {
        let run = sandbox.runtime().args(["create", "--bundle"]).arg(bundle.directory());
        run.arg(bundle.id()).spawn()
    };
    let outputs: Vec<_> = [create(), create(), create()].into_iter().map(|run| run.wait()).collect();
    let (winners, losers): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|output| output.code() == 0);
    assert_eq!(winners.len(), 1, "one creation wins");
    for loser in losers {
        loser.exits_with(1).complains("container with given ID already exists");
    }
    assert_eq!(sandbox.status(&bundle), "created");
    sandbox.start(&bundle);
}

#[test]
fn create_sends_a_pidfd_of_the_program() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let desk = Desk::at(sandbox.directory().join("pidfd.sock"));
    let bundle = sandbox.bundle("pidfd").args(["sleep", "1000"]);
    let create = sandbox.runtime().arg("create").arg("--pidfd-socket").arg(desk.path());
    let create = create.arg("--bundle").arg(bundle.directory()).arg(bundle.id()).spawn();
    let pidfd = desk.takes().descriptor;
    create.wait().succeeds();
    let pid = sandbox.pid(&bundle);
    sandbox.start(&bundle);
    bulkhead_sys::process::signal(&pidfd, 9).unwrap();
    assert_eq!(sandbox.wait_for_exit(pid).signal(), Some(9), "the descriptor is the program's");
}

#[test]
fn without_a_subreaper_orphans_go_to_the_callers() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, flags, is_runtime) in [("with", &[][..], true), ("without", &["--no-subreaper"][..], false)] {
        let bundle = sandbox.bundle(short).without_namespace("pid");
        // It outlives its parent, and says who its new one is.
        let bundle = bundle.file("/orphan", "sleep 0.3; grep PPid /proc/$$/status > /tmp/parent");
        let bundle = bundle.script("(sh /orphan &); exec sleep 1");
        let run =
            sandbox.runtime().arg("run").args(flags).arg("--bundle").arg(bundle.directory()).arg(bundle.id());
        let running = run.spawn();
        let pid = running.pid();
        running.wait().succeeds();
        let parent = fs::read_to_string(bundle.rootfs().join("tmp/parent")).unwrap();
        assert_eq!(parent == format!("PPid:\t{pid}\n"), is_runtime, "{short}: {parent}");
    }
}
