//! Bad input: one clear sentence with the place, an exit code, and nothing changed.

#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::os::unix::fs::chown;

use bulkhead_testkit::{Bundle, Output, Sandbox, cgroups, fresh, is_root, requires};
use serde_json::{Value, json};

/// An ordinary user that no host has.
const STRANGER: u32 = 54_322;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Makes sure that `create` and `run` refuse a bundle in one line with these words, and leave nothing.
#[track_caller]
fn refused(sandbox: &Sandbox, bundle: &Bundle, words: &str) {
    for verb in ["create", "run"] {
        let run = sandbox.runtime().args([verb, "--bundle"]).arg(bundle.directory()).arg(bundle.id());
        one_sentence(run.output().exits_with(1), words);
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "{verb}: no state is left");
        if !bundle.cgroups_path().is_empty() {
            assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "{verb}: no cgroup");
        }
    }
}

#[track_caller]
fn one_sentence(output: Output, words: &str) {
    let output = output.prints("").complains(words);
    assert_eq!(output.stderr.lines().count(), 1, "it is said in one line\n{output}");
}

#[test]
fn a_bundle_that_is_not_there_or_has_no_configuration_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let id = sandbox.id("none");
    for verb in ["create", "run"] {
        let run = sandbox.runtime().args([verb, "--bundle", "/no/such/bundle", &id]);
        one_sentence(run.output().exits_with(1), "/no/such/bundle");
        let run = sandbox.runtime().args([verb, &id]).current_dir(sandbox.directory());
        one_sentence(run.output().exits_with(1), "config.json is not there");
        let run = sandbox.runtime().args([verb, "--bundle", "/etc/passwd", &id]);
        one_sentence(run.output().exits_with(1), "/etc/passwd");
    }
    assert_eq!(fs::read_dir(sandbox.state_directory()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_configuration_that_is_no_configuration_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, content, words) in [
        ("empty", &b""[..], "config.json"),
        ("cut", b"{\"ociVersion\": \"1.3.0\", ", "line 1"),
        ("binary", b"\xff\xfe\x00", "UTF-8"),
        ("list", b"[]", "config.json"),
        ("bare", b"{}", "ociVersion"),
    ] {
        let bundle = sandbox.bundle(short);
        fs::write(bundle.directory().join("config.json"), content).unwrap();
        refused(&sandbox, &bundle, words);
    }
    let bundle = sandbox.bundle("directory");
    fs::remove_file(bundle.directory().join("config.json")).unwrap();
    fs::create_dir(bundle.directory().join("config.json")).unwrap();
    refused(&sandbox, &bundle, "config.json");
    let bundle = sandbox.bundle("pipe");
    fs::remove_file(bundle.directory().join("config.json")).unwrap();
    sandbox.command("mkfifo").arg(bundle.directory().join("config.json")).output().succeeds();
    refused(&sandbox, &bundle, "config.json is not a file");
}

#[test]
fn a_configuration_that_was_named_may_be_a_pipe_and_is_not_looked_for_in_the_bundle() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("named").args(["echo", "ran"]);
    let run = |config: &str| {
        let script =
            format!("cat {}/config.json | exec \"$@\" --config {config}", bundle.directory().display());
        let run = sandbox.command("sh").args(["-c", &script, "sh"]).arg(sandbox.runtime_program());
        run.arg("--root")
            .arg(sandbox.state_directory())
            .args(["run", bundle.id(), "--bundle"])
            .arg(bundle.directory())
            .output()
    };
    run("/dev/stdin").succeeds().prints("ran\n");
    let output = run("/nowhere.json").exits_with(1);
    assert!(output.stderr.contains("/nowhere.json is not there"), "{output}");
    assert!(!output.stderr.contains("bulkrun spec"), "spec would write another file\n{output}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_pointer() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (index, (pointer, value)) in [
        ("/process/args", json!("true")),
        ("/process/args/0", json!(1)),
        ("/process/user/uid", json!("root")),
        ("/process/user/uid", json!(-1)),
        ("/process/terminal", json!("yes")),
        ("/process/env", json!({ "A": "b" })),
        ("/root/path", json!(7)),
        ("/root/readonly", json!(1)),
        ("/mounts/0/options", json!("ro")),
        ("/mounts/0/destination", json!(null)),
        ("/linux/namespaces/0/type", json!(3)),
        ("/linux/resources/memory/limit", json!("1G")),
        ("/linux/resources/cpu/shares", json!(1.5)),
        ("/hostname", json!(["a"])),
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = sandbox.bundle(&index.to_string());
        let bundle = bundle.edit(|config| set(config, pointer, value));
        refused(&sandbox, &bundle, pointer);
    }
}

/// Sets the value at a JSON pointer, making its last member if it is missing.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match name.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[name] = value,
    }
}

#[test]
fn a_value_that_is_not_supported_is_named_by_its_pointer() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (index, (pointer, value)) in [
        ("/ociVersion", json!("2.0.0")),
        ("/ociVersion", json!("latest")),
        ("/process/cwd", json!("tmp")),
        ("/process/args", json!([])),
        ("/process/user/uid", json!(u32::MAX)),
        ("/process/user/gid", json!(u32::MAX)),
        ("/process/user/additionalGids", json!([1, u32::MAX])),
        ("/process/rlimits", json!([{ "type": "RLIMIT_SPEED", "soft": 1, "hard": 1 }])),
        ("/process/rlimits", json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }])),
        ("/linux/namespaces/0/type", json!("dream")),
        ("/linux/namespaces/1", json!({ "type": "mount" })),
        ("/linux/rootfsPropagation", json!("sideways")),
        ("/linux/intelRdt", json!({ "closID": "a" })),
        ("/linux/sysctl", json!({ "kernel.panic": "1" })),
        ("/hostname", json!("x".repeat(65))),
        ("/mounts/0/destination", json!("")),
        ("/mounts/0", json!({ "destination": "/x", "type": "dream" })),
        ("/linux/cgroupsPath", json!("/a/../b")),
        (
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "uts" }, { "type": "pid", "path": "/x" }]),
        ),
        (
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": u32::MAX }]),
        ),
        ("/linux/resources/hugepageLimits", json!([{ "pageSize": "3MB", "limit": 0 }])),
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = sandbox.bundle(&index.to_string());
        let bundle = bundle.edit(|config| set(config, pointer, value));
        refused(&sandbox, &bundle, pointer);
    }
}

#[test]
fn a_root_file_system_that_is_not_there_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, path, words) in
        [("missing", "no-rootfs", "no-rootfs is not there"), ("file", "/etc/passwd", "not a directory")]
    {
        let bundle = sandbox.bundle(short).edit(|config| config["root"]["path"] = path.into());
        refused(&sandbox, &bundle, "/root/path");
        refused(&sandbox, &bundle, words);
    }
}

#[test]
fn a_mount_that_cannot_be_made_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("source").bind("/no/such/source", "/data", &[]);
    refused(&sandbox, &bundle, "/no/such/source");
    let bundle = sandbox.bundle("type").mount("nosuchfs", "none", "/data", &[]);
    refused(&sandbox, &bundle, "nosuchfs");
    let bundle = sandbox.bundle("option").mount("tmpfs", "none", "/data", &["size=huge"]);
    refused(&sandbox, &bundle, "/data");
}

#[test]
fn a_program_that_cannot_be_executed_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (short, program, words) in [
        ("missing", "no-such-program", "executable file not found in $PATH"),
        ("path", "/no/such/program", "no such file or directory"),
        ("plain", "/etc/passwd", "permission denied"),
        ("directory", "/etc", "is a directory: permission denied"),
    ] {
        refused(&sandbox, &sandbox.bundle(short).args([program]), words);
    }
}

#[test]
fn a_program_of_another_machine_is_refused_when_it_is_executed() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let alien = |short: &str| {
        let bundle = sandbox.bundle(short).args(["/bin/alien"]).file("/bin/alien", "\u{7f}ELF of nowhere");
        sandbox.command("chmod").arg("755").arg(bundle.rootfs().join("bin/alien")).output().succeeds();
        bundle
    };
    let bundle = alien("run");
    one_sentence(sandbox.run(&bundle).output().exits_with(1), "exec format error");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");

    let bundle = alien("start");
    sandbox.create(&bundle);
    let start = sandbox.runtime().args(["start", bundle.id()]).output();
    one_sentence(start.exits_with(1), "exec format error");
    sandbox.wait_for_status(&bundle, "stopped");
}

#[test]
fn an_id_in_use_is_refused_and_its_container_lives_on() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("twice").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let before = sandbox.state(&bundle);
    for verb in ["create", "run"] {
        let run = sandbox.runtime().args([verb, "--bundle"]).arg(bundle.directory()).arg(bundle.id());
        one_sentence(run.output().exits_with(1), "container with given ID already exists");
    }
    assert_eq!(sandbox.state(&bundle), before);
}

#[test]
fn ids_that_could_be_paths_are_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("id");
    for id in ["", ".", "..", "../escape", "a/b", "a b", "a\nb"] {
        let run = sandbox.runtime().args(["create", "--bundle"]).arg(bundle.directory()).arg(id).output();
        let output = run.exits_with(1).prints("");
        assert_eq!(output.stderr.lines().count(), 1, "{id:?} is refused in one line\n{output}");
    }
    assert_eq!(fs::read_dir(sandbox.state_directory()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn root_of_a_user_namespace_alone_can_run_a_rootless_container() {
    requires!(is_root() && fresh::is_possible(&[fresh::Kind::User]), "needs root and user namespaces");
    let sandbox = sandbox().through(["unshare", "--user", "--map-root-user"]);
    let bundle = sandbox.bundle("nested").rootless(0, 0).args(["id", "-u"]);
    sandbox.run(&bundle).output().succeeds().prints("0\n");
}

#[test]
fn a_host_that_allows_no_user_namespace_is_named_with_the_setting() {
    requires!(is_root() && fresh::is_possible(&[fresh::Kind::User]), "needs root and user namespaces");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let sandbox = sandbox().through(["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]);
    let bundle = sandbox.bundle("users").rootless(0, 0);
    refused(&sandbox, &bundle, "/proc/sys/user/max_*_namespaces");
}

#[test]
fn a_caller_without_the_right_to_cgroups_is_told_which() {
    requires!(is_root() && fresh::is_possible(&[fresh::Kind::User]), "needs root and user namespaces");
    let sandbox = sandbox().through(["unshare", "--user", "--map-root-user"]);
    // Root of the namespace owns what root owns, on cgroup v2 also the top of the hierarchy.
    for hierarchy in cgroups::hierarchies() {
        let strangers = hierarchy.join(sandbox.name());
        fs::create_dir(&strangers).unwrap();
        chown(&strangers, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    let path = format!("/{}/wanted", sandbox.name());
    let bundle = sandbox.bundle("cgroups").rootless(0, 0);
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = path.clone().into());
    refused(&sandbox, &bundle, sandbox.name());
    sandbox.cgroups(sandbox.name()).iter().for_each(|cgroup| fs::remove_dir(cgroup).unwrap());
}

#[test]
fn every_verb_says_that_a_container_does_not_exist() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (words, code) in [
        (&["state", "nobody"][..], 1),
        (&["start", "nobody"], 1),
        (&["kill", "nobody", "TERM"], 1),
        (&["delete", "nobody"], 1),
        (&["pause", "nobody"], 1),
        (&["resume", "nobody"], 1),
        (&["ps", "nobody"], 1),
        (&["events", "--stats", "nobody"], 1),
        (&["update", "--memory", "1000000000", "nobody"], 1),
        (&["exec", "nobody", "true"], 255),
    ] {
        let output = sandbox.runtime().args(words).output();
        one_sentence(output.exits_with(code), "container does not exist");
    }
    sandbox.runtime().args(["delete", "--force", "nobody"]).output().succeeds().prints("");
}

#[test]
fn every_verb_says_which_state_forbids_it() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let refuse = |verb: &[&str], bundle: &Bundle, words: &str| {
        one_sentence(sandbox.runtime().args(verb).arg(bundle.id()).output().exits_with(1), words);
    };
    let bundle = sandbox.bundle("states").args(["sleep", "1000"]);
    sandbox.create(&bundle);
    refuse(&["resume"], &bundle, "cannot resume a container that is created");
    sandbox.start(&bundle);
    refuse(&["start"], &bundle, "cannot start a container that is running");
    refuse(&["resume"], &bundle, "cannot resume a container that is running");
    refuse(&["delete"], &bundle, "that is not stopped: running");
    sandbox.runtime().args(["pause", bundle.id()]).output().succeeds();
    refuse(&["pause"], &bundle, "cannot pause a container that is paused");
    refuse(&["start"], &bundle, "cannot start a container that is paused");
    refuse(&["delete"], &bundle, "that is not stopped: paused");
    sandbox.runtime().args(["resume", bundle.id()]).output().succeeds();
    let pid = sandbox.pid(&bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(pid);
    refuse(&["start"], &bundle, "cannot start a container that is stopped");
    refuse(&["pause"], &bundle, "cannot pause a container that is stopped");
    one_sentence(
        sandbox.runtime().args(["kill", bundle.id(), "TERM"]).output().exits_with(1),
        "container not running",
    );
}

#[test]
fn a_terminal_that_nobody_can_get_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("terminal").terminal();
    let create = sandbox.runtime().args(["create", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    one_sentence(create.output().exits_with(1), "--console-socket");
    let run =
        sandbox.runtime().args(["run", "--detach", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    one_sentence(run.output().exits_with(1), "--console-socket");
    let bundle = sandbox.bundle("nobody").terminal();
    let create = sandbox.runtime().args(["create", "--console-socket", "/no/such/socket", "--bundle"]);
    one_sentence(create.arg(bundle.directory()).arg(bundle.id()).output().exits_with(1), "/no/such/socket");
    assert_eq!(fs::read_dir(sandbox.state_directory()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn an_engine_finds_the_reason_as_json_in_its_log() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let log = sandbox.directory().join("log.json");
    let bundle = sandbox.bundle("log").args(["no-such-program"]);
    for times in 1..=2 {
        let run =
            sandbox.runtime().arg("--log").arg(&log).args(["--log-format", "json", "create", "--bundle"]);
        let output = run.arg(bundle.directory()).arg(bundle.id()).output().exits_with(1);
        output.complains("executable file not found in $PATH");
        let text = fs::read_to_string(&log).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), times, "lines are appended: {text}");
        for line in lines {
            assert_eq!(line["level"], "error", "{text}");
            assert!(line["msg"].as_str().unwrap().contains("executable file not found in $PATH"), "{text}");
            let time = line["time"].as_str().unwrap();
            assert!(time.starts_with("20") && time.contains('T'), "{text}");
        }
    }
}
