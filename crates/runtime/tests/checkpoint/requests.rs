//! What CRIU is asked, and what is done around it, whatever this machine's CRIU and kernel could do of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bulkhead_testkit::{
    Bundle, Network, Recorder, Run, Sandbox, cgroups, find_program, is_root, requires, wait_until,
};
use rustix::process::Signal;
use serde_json::json;

use crate::{COUNTER, count, end, has_python, images, sandbox, unconfigured};

const NEEDED: &str = "needs root and python3";

fn is_possible() -> bool {
    is_root() && find_program("python3").is_some()
}

/// Asks for the same again with an option, and tells what changes: what is there no more, and what is new.
fn change(plain: &BTreeSet<String>, other: &[String]) -> (Vec<String>, Vec<String>) {
    let other = BTreeSet::from_iter(other.iter().cloned());
    (plain.difference(&other).cloned().collect(), other.difference(plain).cloned().collect())
}

/// The options that both directions have, and what each changes in CRIU's `criu_opts`.
const BOTH: &[(&[&str], &[&str], &[&str])] = &[
    (&["--ext-unix-sk"], &["4=0"], &["4=1"]),
    (&["--tcp-established"], &["5=0"], &["5=1"]),
    (&["--shell-job"], &["7=0"], &["7=1"]),
    (&["--file-locks"], &["8=0"], &["8=1"]),
    (&["--auto-dedup"], &["16=0"], &["16=1"]),
    (&["--lazy-pages"], &["48=0"], &["48=1"]),
    (&["--manage-cgroups-mode", "ignore"], &["34=6"], &["34=0"]),
    (&["--manage-cgroups-mode", "soft"], &["34=6"], &["34=3"]),
    (&["--manage-cgroups-mode", "full"], &["34=6"], &["34=4"]),
    (&["--manage-cgroups-mode", "strict"], &["34=6"], &["34=5"]),
    (&["--empty-ns", "network"], &[], &[]),
];

const CHECKPOINT: &[(&[&str], &[&str], &[&str])] = &[
    (&["--leave-running"], &["3=0"], &["3=1"]),
    (&["--link-remap"], &["18=0"], &["18=1"]),
    (&["--tcp-skip-in-flight"], &["46=0"], &["46=1"]),
    // Only where there is something to compare with.
    (&["--parent-path", "."], &[], &["14=.", "15=1"]),
    (&["--page-server", "127.0.0.1:7"], &[], &[r"11=\n\t127.0.0.1\x10\x07"]),
];

const RESTORE: &[(&[&str], &[&str], &[&str])] = &[
    (&["--lsm-profile", "selinux:a"], &[], &["53=selinux:a"]),
    (&["--lsm-mount-context", "b"], &[], &["63=b"]),
];

/// A CRIU that refuses, and a container to checkpoint.
fn running(sandbox: &Sandbox) -> (Recorder, Bundle) {
    let recorder = Recorder::new(sandbox);
    let bundle = unconfigured(sandbox, "c").script(COUNTER);
    sandbox.launch(&bundle);
    count(sandbox, &bundle);
    (recorder, bundle)
}

fn refused(run: Run, kind: &str) -> bulkhead_testkit::Output {
    run.output().exits_with(1).complains(&format!("criu failed: type {kind}"))
}

#[test]
fn a_checkpoint_asks_for_what_was_typed() {
    requires!(is_possible(), "{NEEDED}");
    let sandbox = sandbox();
    let (recorder, bundle) = running(&sandbox);
    let ask = |options: &[&str], kind: &str| {
        let run = sandbox.runtime().arg("checkpoint").arg("--image-path").arg(images(&sandbox));
        refused(recorder.before(run.args(options).arg(bundle.id())), kind);
        recorder.request()
    };
    let request = ask(&[], "DUMP");
    assert_eq!(request.kind, 1);
    let plain = BTreeSet::from_iter(request.options);
    let always = [
        format!("2={}", sandbox.pid(&bundle)),
        "9=4".to_owned(),
        "10=dump.log".to_owned(),
        "12=1".to_owned(),
        format!("13={}", bundle.rootfs().canonicalize().unwrap().display()),
        "24=1".to_owned(),
        "38=1073741824".to_owned(),
        "50=1".to_owned(),
    ];
    for option in &always {
        assert!(plain.contains(option), "{option} is in {plain:?}");
    }
    let freezer = plain.iter().find_map(|option| option.strip_prefix("44=")).unwrap();
    assert!(freezer.ends_with(bundle.cgroups_path()), "CRIU freezes the container: {freezer}");
    for field in ["11=", "14=", "15=", "49=", "51="] {
        assert!(!plain.iter().any(|option| option.starts_with(field)), "{field} is not in {plain:?}");
    }
    for (options, gone, new) in BOTH.iter().chain(CHECKPOINT) {
        let request = ask(options, "DUMP");
        let expected = (gone.to_vec(), new.to_vec());
        let (gone, new) = change(&plain, &request.options);
        assert_eq!((gone, new), (owned(&expected.0), owned(&expected.1)), "{options:?}");
    }
    let ahead = ask(&["--pre-dump"], "PRE_DUMP");
    assert_eq!(ahead.kind, 4);
    let (gone, new) = change(&plain, &ahead.options);
    assert!(new.is_empty() && !gone.is_empty(), "{new:?}");
    assert!(gone.iter().all(|option| option.starts_with("23=")), "only mounts are left out: {gone:?}");
    assert_eq!(sandbox.status(&bundle), "running");
    end(&sandbox, &bundle);
    // Where no annotation says otherwise a file of the host's may change all that.
    let bundle = sandbox.bundle("configured").script(COUNTER);
    sandbox.launch(&bundle);
    let run = sandbox.runtime().arg("checkpoint").arg("--image-path").arg(images(&sandbox)).arg(bundle.id());
    refused(recorder.before(run), "DUMP");
    assert!(recorder.request().options.contains(&"51=/etc/criu/runc.conf".to_owned()));
    end(&sandbox, &bundle);
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Images of which a restore needs to know what the standard streams were.
fn prepare_images(sandbox: &Sandbox) {
    fs::create_dir(images(sandbox)).unwrap();
    let streams = json!(["/dev/null", "/dev/null", "pipe:[5]"]);
    fs::write(images(sandbox).join("descriptors.json"), streams.to_string()).unwrap();
}

fn restored(sandbox: &Sandbox, recorder: &Recorder, bundle: &Bundle, options: &[&str]) -> Run {
    let run = sandbox.runtime().args(["restore", "--detach", "--image-path"]).arg(images(sandbox));
    recorder.before(run.args(options).arg("--bundle").arg(bundle.directory()).arg(bundle.id()))
}

#[test]
fn a_restore_asks_for_what_was_typed() {
    requires!(is_possible(), "{NEEDED}");
    let sandbox = sandbox();
    let recorder = Recorder::new(&sandbox);
    prepare_images(&sandbox);
    let bundle = unconfigured(&sandbox, "c").without_namespace("network");
    let ask = |options: &[&str]| {
        refused(restored(&sandbox, &recorder, &bundle, options), "RESTORE");
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left of the container");
        recorder.request()
    };
    let request = ask(&[]);
    assert_eq!(request.kind, 2);
    let plain = BTreeSet::from_iter(request.options);
    let always = ["6=1", "9=4", "10=restore.log", "12=1", "24=1", "26=1", "38=1073741824", "50=1"];
    for option in always {
        assert!(plain.contains(option), "{option} is in {plain:?}");
    }
    for option in [r"23=\n\t/dev/null\x12\t/dev/null", r"27=\n\x08pipe:[5]\x10\x02"] {
        assert!(plain.contains(option), "{option} is in {plain:?}");
    }
    let root = plain.iter().find_map(|option| option.strip_prefix("13=")).unwrap();
    assert!(root.ends_with(&format!("{}/criu-root", bundle.id())), "{root}");
    let cgroups = plain.iter().filter(|option| option.starts_with("25="));
    let strays = Vec::from_iter(cgroups.clone().filter(|option| !option.ends_with(bundle.cgroups_path())));
    assert!(cgroups.count() > 0 && strays.is_empty(), "CRIU is in the container's cgroups: {strays:?}");
    for field in ["2=", "11=", "14=", "15=", "44=", "49=", "51=", "53=", "63="] {
        assert!(!plain.iter().any(|option| option.starts_with(field)), "{field} is not in {plain:?}");
    }
    for (options, gone, new) in BOTH.iter().chain(RESTORE) {
        let (left, came) = change(&plain, &ask(options).options);
        assert_eq!((left, came), (owned(gone), owned(new)), "{options:?}");
    }
}

#[test]
fn namespaces_that_are_joined_are_named_and_passed_to_nobody_else() {
    requires!(is_possible(), "{NEEDED}");
    let sandbox = sandbox();
    let recorder = Recorder::new(&sandbox);
    prepare_images(&sandbox);
    let (network, seen) = (Network::new(&sandbox), sandbox.directory().join("seen"));
    let bundle = unconfigured(&sandbox, "c")
        .namespace_at("uts", "/proc/1/ns/uts")
        .namespace_at("ipc", "/proc/1/ns/ipc")
        .namespace_at("network", network.path())
        .hook_script("createRuntime", &format!("ls /proc/self/fd > {}", seen.display()));
    refused(restored(&sandbox, &recorder, &bundle, &[]), "RESTORE");
    let options = recorder.request().options;
    for option in [r"39=\n\x03uts\x12\x0e/proc/1/ns/uts", r"39=\n\x03ipc\x12\x0e/proc/1/ns/ipc"] {
        assert!(options.contains(&option.to_owned()), "{option} is in {options:?}");
    }
    assert!(options.iter().any(|option| option.starts_with(r"27=\n\x0cextRootNetNS\x10")), "{options:?}");
    // The last is what ls reads.
    assert_eq!(fs::read_to_string(seen).unwrap(), "0\n1\n2\n3\n", "CRIU's descriptors are no hook's");
}

#[test]
fn the_network_is_locked_by_what_the_host_has() {
    requires!(is_root() && has_python(), "{NEEDED}");
    let sandbox = sandbox();
    let recorder = Recorder::new(&sandbox);
    prepare_images(&sandbox);
    let bundle = unconfigured(&sandbox, "c").without_namespace("network");
    let programs = sandbox.directory().join("programs");
    fs::create_dir(&programs).unwrap();
    symlink("/usr/bin/python3", programs.join("python3")).unwrap();
    let path = format!("{}:{}", sandbox.directory().join("recorder").display(), programs.display());
    let is_nftables = || {
        refused(restored(&sandbox, &recorder, &bundle, &[]).env("PATH", &path), "RESTORE");
        recorder.request().options.contains(&"64=2".to_owned())
    };
    assert!(is_nftables(), "without iptables-restore");
    fs::write(programs.join("iptables-restore"), "").unwrap();
    assert!(!is_nftables(), "CRIU's own way, or that of its configuration");
}

#[test]
fn an_old_criu_says_itself_when_pages_are_served() {
    requires!(is_possible(), "{NEEDED}");
    let sandbox = sandbox();
    let (recorder, bundle) = running(&sandbox);
    let program = sandbox.directory().join("recorder/criu");
    let new = fs::read_to_string(&program).unwrap();
    let old = new.replace(r"\x52\x04\x08\x04\x10\x01", r"\x52\x04\x08\x03\x10\x0e");
    for (program_of, is_told) in [(new.clone(), false), (old.clone(), true)] {
        fs::write(&program, program_of).unwrap();
        let run = sandbox.runtime().arg("checkpoint").arg("--image-path").arg(images(&sandbox));
        let run = run.args(["--lazy-pages", "--status-fd", "1", bundle.id()]);
        refused(recorder.before(run), "DUMP");
        let options = recorder.request().options;
        assert_eq!(options.iter().any(|option| option.starts_with("49=")), is_told, "{options:?}");
    }
    assert_ne!(new, old);
    end(&sandbox, &bundle);
}

/// One that answers but the question for its version.
#[test]
fn a_restore_that_hangs_in_criu_can_be_interrupted() {
    requires!(is_possible(), "{NEEDED}");
    let sandbox = sandbox();
    let recorder = Recorder::new(&sandbox);
    prepare_images(&sandbox);
    let (program, asked) = (sandbox.directory().join("recorder/criu"), sandbox.directory().join("asked"));
    let script = format!(
        "#!/usr/bin/env python3\nimport os, socket, sys, time\ns = socket.socket(fileno=int(sys.argv[2]))\n\
         if s.recv(1 << 16)[1] == 10:\n  s.send(b'\\x08\\x0a\\x10\\x01\\x52\\x04\\x08\\x04\\x10\\x01')\n  s.recv(1)\n\
         else:\n  open('{0}.new', 'w').write(str(os.getpid()))\n  os.rename('{0}.new', '{0}')\n  time.sleep(30)\n",
        asked.display()
    );
    fs::write(program, script).unwrap();
    let bundle = unconfigured(&sandbox, "c").without_namespace("network");
    let run = sandbox.runtime().args(["restore", "--image-path"]).arg(images(&sandbox));
    let run = recorder.before(run.arg("--bundle").arg(bundle.directory()).arg(bundle.id())).spawn();
    wait_until("CRIU is asked", || asked.exists());
    run.signal(Signal::TERM);
    run.wait().exits_with(1).complains("interrupted by SIGTERM");
    let criu = fs::read_to_string(asked).unwrap();
    assert!(!Path::new("/proc").join(criu).exists(), "CRIU has ended");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left of the container");
}

#[test]
fn devices_of_the_host_are_not_moved_into_a_container_that_is_restored() {
    requires!(is_possible(), "{NEEDED}");
    let sandbox = sandbox();
    let recorder = Recorder::new(&sandbox);
    prepare_images(&sandbox);
    let bundle = unconfigured(&sandbox, "c")
        .namespace("network")
        .edit(|config| config["linux"]["netDevices"] = json!({ "no-such-device": {} }));
    let output = refused(restored(&sandbox, &recorder, &bundle, &[]), "RESTORE");
    output.complains("/linux/netDevices: devices of the host are not moved");
    let bundle = unconfigured(&sandbox, "other").without_namespace("network");
    let output = refused(restored(&sandbox, &recorder, &bundle, &[]), "RESTORE");
    assert!(!output.stderr.contains("netDevices"), "{output}");
}

#[test]
fn a_restored_container_has_its_cgroup_again() {
    let has_v2 = cgroups::hierarchies().iter().any(|path| path.join("cgroup.controllers").exists());
    requires!(is_possible() && has_v2, "{NEEDED}; and cgroup v2");
    let sandbox = sandbox().v2_only();
    let recorder = Recorder::new(&sandbox);
    prepare_images(&sandbox);
    for (options, owner) in [(["rw", "nosuid"], 1000), (["ro", "nosuid"], 0)] {
        let bundle = unconfigured(&sandbox, options[0]).without_namespace("network").user(1000, 1000);
        let bundle = bundle.edit(|config| {
            for mount in config["mounts"].as_array_mut().unwrap() {
                if mount["type"] == "cgroup" {
                    mount["options"] = json!(options);
                }
            }
            // Nothing can be limited on some machines.
            config["linux"]["resources"] = json!({});
        });
        refused(restored(&sandbox, &recorder, &bundle, &[]), "RESTORE");
        assert_eq!(recorder.owner_of_cgroup(), owner, "with a mount that is {}", options[0]);
    }
}
