//! Annotations that change what the runtime does: those of crun, which podman sets or its users do.

#![expect(
    clippy::disallowed_methods,
    reason = "the rule against threads is bulkrun's, not that of its tests"
)]

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use bulkhead_testkit::{Arrival, Bundle, Desk, Sandbox, find_program, is_root, requires, skip};
use serde_json::{Value, json};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Prints the supplementary groups.
const GROUPS: [&str; 3] = ["sed", "-n", "s/^Groups:\t//p"];

#[test]
fn supplementary_groups_can_stay_those_of_the_caller() {
    let Some(setpriv) = find_program("setpriv") else { skip!("needs setpriv") };
    requires!(is_root(), "needs root");
    let sandbox = sandbox().through([setpriv.as_os_str()]).through(["--groups", "4711,4712"]);
    let print = [&GROUPS[..], &["/proc/self/status"]].concat();
    let bundle = |short: &str| {
        let bundle = sandbox.bundle(short).args(&print);
        bundle.edit(|config| config["process"]["user"]["additionalGids"] = json!([7]))
    };
    for (short, value, expected) in [("not", "0", "7 \n"), ("kept", "1", "4711 4712 \n")] {
        let bundle = bundle(short).annotation("run.oci.keep_original_groups", value);
        sandbox.run(&bundle).output().succeeds().prints(expected);
    }
    sandbox.run(&bundle("usual")).output().succeeds().prints("7 \n");
    // A process that joins keeps those of whoever lets it join.
    let bundle = bundle("exec").annotation("run.oci.keep_original_groups", "1").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    sandbox.exec(&bundle, print).output().succeeds().prints("4711 4712 \n");
}

#[test]
fn an_ordinary_users_container_can_keep_the_users_groups() {
    let Some(setpriv) = find_program("setpriv") else { skip!("needs setpriv") };
    requires!(is_root(), "needs root");
    let sandbox = sandbox().as_user(1000, 1000);
    let print = [&GROUPS[..], &["/proc/self/status"]].concat();
    let bundle = sandbox.bundle("user").args(&print).annotation("run.oci.keep_original_groups", "1");
    // Whoever is outside the container's user namespace is shown as the overflow group.
    let run = sandbox.command(&setpriv).args(["--reuid", "1000", "--regid", "1000", "--groups", "4711"]);
    let run = run.env("XDG_RUNTIME_DIR", sandbox.directory().join("xdg")).arg(sandbox.runtime_program());
    let run = run.arg("--root").arg(sandbox.state_directory()).args(["run", "--bundle"]);
    run.arg(bundle.directory()).arg(bundle.id()).output().succeeds().prints("65534 \n");
}

/// Adds a hook of each kind that names itself on both of its outputs.
fn with_speaking_hooks(bundle: Bundle) -> Bundle {
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    kinds.iter().fold(bundle, |bundle, kind| {
        bundle.hook_script(kind, &format!("echo {kind}; echo {kind} complains >&2"))
    })
}

fn without_order(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_hooks_print_is_appended_to_files() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let [out, err] = ["out", "err"].map(|name| sandbox.directory().join(name));
    fs::write(&out, "before\n").unwrap();
    let told = |bundle: Bundle| {
        let bundle = bundle.annotation("run.oci.hooks.stdout", out.to_str().unwrap());
        with_speaking_hooks(bundle.annotation("run.oci.hooks.stderr", err.to_str().unwrap()))
    };
    let kinds = ["createContainer", "createRuntime", "poststart", "poststop", "prestart", "startContainer"];
    let run = told(sandbox.bundle("run").args(["true"]));
    sandbox.run(&run).output().succeeds().prints("");
    let text = fs::read_to_string(&out).unwrap();
    assert!(text.starts_with("before\nprestart\ncreateRuntime\ncreateContainer\nstartContainer\n"), "{text}");
    assert_eq!(without_order(&text)[1..], kinds, "each hook has spoken once");
    let text = fs::read_to_string(&err).unwrap();
    assert_eq!(without_order(&text), kinds.map(|kind| format!("{kind} complains")), "{text}");
    // And where each command comes by itself.
    for file in [&out, &err] {
        fs::remove_file(file).unwrap();
    }
    let bundle = told(sandbox.bundle("steps").args(["true"]));
    sandbox.create(&bundle);
    let pid = sandbox.pid(&bundle);
    sandbox.start(&bundle);
    sandbox.wait_for_exit(pid);
    sandbox.delete(&bundle);
    assert_eq!(without_order(&fs::read_to_string(&out).unwrap()), kinds, "each hook has spoken once");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "what hooks print is nobody else's business");
}

#[test]
fn the_program_does_not_get_the_files_of_the_hooks() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let out = sandbox.directory().join("of-hooks");
    let bundle = with_speaking_hooks(sandbox.bundle("fds").script("ls -l /proc/$$/fd"));
    let bundle = bundle.annotation("run.oci.hooks.stdout", out.to_str().unwrap());
    let output = sandbox.run(&bundle).output().succeeds();
    assert!(!output.stdout.contains("of-hooks"), "{output}");
    assert!(
        fs::read_to_string(&out).unwrap().contains("startContainer"),
        "the hook in the container has spoken"
    );
}

#[test]
fn a_file_of_the_hooks_that_cannot_be_opened_is_named() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for kind in ["prestart", "startContainer"] {
        let bundle = sandbox.bundle(kind).args(["true"]).hook_script(kind, "true");
        let bundle = bundle.annotation("run.oci.hooks.stderr", "/no/such/directory/file");
        let output = sandbox.run(&bundle).output().exits_with(1);
        output.complains("open /no/such/directory/file").complains("no such file or directory");
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
    }
}

fn listen(path: &Path) -> std::thread::JoinHandle<Arrival> {
    let desk = Desk::at(path);
    std::thread::spawn(move || desk.takes())
}

#[test]
fn a_pidfd_goes_to_its_receiver() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let [path, other] = ["receiver", "other"].map(|name| sandbox.directory().join(name));
    let bundle = sandbox.bundle("pidfd").args(["sleep", "1000"]);
    let bundle = bundle.annotation("run.oci.pidfd_receiver", path.to_str().unwrap());
    let receivers = [listen(&path), listen(&other)];
    let create = sandbox.runtime().args(["create", "--pidfd-socket"]).arg(&other).arg("--bundle");
    create.arg(bundle.directory()).arg(bundle.id()).output().succeeds();
    let pid = sandbox.pid(&bundle);
    for receiver in receivers {
        let pidfd = receiver.join().unwrap().descriptor;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
        assert!(info.contains(&format!("Pid:\t{pid}\n")), "{info}");
    }
}

#[test]
fn a_seccomp_agent_can_be_named_by_annotation() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let [path, listed] = ["annotated", "listed"].map(|name| sandbox.directory().join(name));
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let annotated = |short: &str| {
        let bundle = sandbox.bundle(short).args(["true"]).seccomp(filter.clone());
        bundle.annotation("run.oci.seccomp.receiver", path.to_str().unwrap())
    };
    let agent = listen(&path);
    let bundle = annotated("annotated");
    sandbox.run(&bundle).output().succeeds();
    let document: Value = serde_json::from_slice(&agent.join().unwrap().bytes).unwrap();
    assert_eq!(document["state"]["id"], bundle.id(), "{document}");
    // The specification's own field comes first; nobody listens at the other socket any more.
    let agent = listen(&listed);
    let bundle = annotated("listed").edit(|c| c["linux"]["seccomp"]["listenerPath"] = json!(listed));
    sandbox.run(&bundle).output().succeeds();
    agent.join().unwrap();
}

#[test]
fn a_call_that_does_not_exist_can_be_an_error() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "make_coffee"], "action": "SCMP_ACT_ERRNO" }],
    });
    let bundle = sandbox.bundle("known").args(["true"]).seccomp(filter);
    sandbox.run(&bundle).output().succeeds();
    let bundle = bundle.annotation("run.oci.seccomp_fail_unknown_syscall", "1");
    let output = sandbox.run(&bundle).output().exits_with(1);
    output.complains("/linux/seccomp/syscalls/0/names: there is no system call");
}

#[test]
fn the_label_of_mounts_goes_by_the_option_that_is_asked_for() {
    let Some(strace) = find_program("strace") else { skip!("needs strace") };
    requires!(is_root(), "needs root");
    let own = sandbox();
    let trace = own.directory().join("trace");
    let words = ["-f", "-s", "4096", "-e", "trace=fsconfig,mount", "-o", trace.to_str().unwrap()];
    let sandbox = own.through([strace.to_str().unwrap()]).through(words);
    // Longer than what fsconfig(2) takes.
    let long = format!("mpol=bind:0{}", ",0".repeat(150));
    for (short, option) in [("new", "size=64k"), ("old", long.as_str())] {
        for (name, annotation) in [("context", None), ("rootcontext", Some("rootcontext"))] {
            let bundle = sandbox.bundle(&format!("{short}-{name}")).args(["true"]).edit(|config| {
                config["linux"]["mountLabel"] = "system_u:object_r:tmp_t:s0".into();
                let mount = json!({ "destination": "/label", "type": "tmpfs", "options": [option] });
                config["mounts"] = json!([mount]);
            });
            let bundle = match annotation {
                Some(value) => bundle.annotation("run.oci.mount_context_type", value),
                None => bundle,
            };
            // Whether the kernel knows labels is of no interest here.
            sandbox.run(&bundle).output();
            let calls = fs::read_to_string(&trace).unwrap();
            let expected = match short {
                "new" => format!("FSCONFIG_SET_STRING, \"{name}\", \"system_u:object_r:tmp_t:s0\""),
                _ => format!(",{name}=\\\"system_u:object_r:tmp_t:s0\\\"\""),
            };
            assert!(calls.contains(&expected), "{expected} in\n{calls}");
        }
    }
}

#[test]
fn a_handler_is_refused_but_for_a_pods_own_process() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("handler").args(["true"]).annotation("run.oci.handler", "wasm");
    let output = sandbox.run(&bundle).output().exits_with(1);
    output.complains("config.json: /annotations/run.oci.handler: there are no handlers");
    let bundle = bundle.annotation("io.kubernetes.cri.container-type", "sandbox");
    sandbox.run(&bundle).output().succeeds();
}

#[test]
fn an_annotation_that_nobody_knows_is_a_warning() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let log = sandbox.directory().join("log");
    let bundle = sandbox.bundle("typo").args(["true"]).annotation("run.oci.keep_orignal_groups", "1");
    let run = sandbox.runtime().arg("--log").arg(&log).args(["run", "--bundle"]).arg(bundle.directory());
    run.arg(bundle.id()).output().succeeds();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("ignoring unknown annotation run.oci.keep_orignal_groups"), "{log}");
}
