//! Labels of SELinux, in a domain whose policy is enforced.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_testkit::{Bundle, Sandbox, find_criu, find_program, is_root, requires};
use serde_json::json;

use super::{NO_CRIU, READER, answer, end, images, sandbox, script};

const NEEDED: &str = "needs root, and SELinux that enforces a policy for containers (container_t)";

const PROCESS: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILE: &str = "system_u:object_r:container_file_t:s0:c1,c2";
/// Of another container: the same types, other categories.
const OTHER: &str = "system_u:system_r:container_t:s0:c3,c4";
const OTHER_FILE: &str = "system_u:object_r:container_file_t:s0:c3,c4";

fn has_selinux() -> bool {
    let enforces = fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|mode| mode.trim() == "1");
    // Writing a label asks whether the policy knows it.
    is_root() && enforces && fs::write("/sys/fs/selinux/context", PROCESS).is_ok()
}

/// Gives everything below a path a label.
fn label(path: &Path, label: &str) {
    let chcon = find_program("chcon").unwrap();
    assert!(std::process::Command::new(chcon).args(["-R", label]).arg(path).status().unwrap().success());
}

/// A directory that is at `/out` in the container, which cannot print: a policy takes the descriptors of tests away.
struct Outbox(PathBuf);

impl Outbox {
    fn new(sandbox: &Sandbox, name: &str, file: &str) -> Self {
        let directory = sandbox.directory().join(name);
        fs::create_dir(&directory).unwrap();
        label(&directory, file);
        Self(directory)
    }

    /// Returns what a script has written.
    fn take(&self) -> String {
        let file = self.0.join("out");
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(file).unwrap();
        text.replace('\0', "\n")
    }
}

fn written(script: &str) -> String {
    format!("exec > /out/out 2>&1; {script}")
}

fn labelled(bundle: Bundle, outbox: &Outbox) -> Bundle {
    label(&bundle.rootfs(), FILE);
    bundle.bind(&outbox.0, "/out", &["rw"]).edit(|config| {
        config["process"]["selinuxLabel"] = PROCESS.into();
        config["linux"]["mountLabel"] = FILE.into();
    })
}

fn launched(sandbox: &Sandbox, outbox: &Outbox) -> Bundle {
    let bundle = labelled(sandbox.bundle("c").args(["sleep", "1000"]), outbox);
    sandbox.launch(&bundle);
    bundle
}

#[test]
fn a_container_and_what_joins_it_have_its_label() {
    requires!(has_selinux(), "{NEEDED}");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let show = written("cat /proc/self/attr/current");
    let bundle = labelled(sandbox.bundle("run").script(&show), &outbox);
    sandbox.run(&bundle).output().succeeds();
    assert_eq!(outbox.take().trim_end(), PROCESS);
    let bundle = launched(&sandbox, &outbox);
    script(&sandbox, &bundle, &[], &show).output().succeeds();
    assert_eq!(outbox.take().trim_end(), PROCESS, "exec has the container's");
    let process = fs::read_to_string(format!("/proc/{}/attr/current", sandbox.pid(&bundle))).unwrap();
    assert_eq!(process.trim_end_matches('\0'), PROCESS, "the host sees it, too");
}

#[test]
fn what_the_label_may_not_touch_is_denied() {
    requires!(has_selinux(), "{NEEDED}");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let foreign = sandbox.directory().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("file"), "told\n").unwrap();
    label(&foreign, OTHER_FILE);
    let bundle = labelled(sandbox.bundle("c"), &outbox).bind(&foreign, "/foreign", &["rw"]).script(&written(
        "cat /foreign/file; cat /foreign/file > /dev/null || echo $?; echo x > /foreign/new",
    ));
    sandbox.run(&bundle).output();
    let found = outbox.take();
    assert!(!found.contains("told"), "another container's file is not read: {found}");
    assert!(found.contains("Permission denied"), "{found}");
    assert!(!foreign.join("new").exists(), "and nothing is written there");
    // The same with a label that may.
    label(&foreign, FILE);
    sandbox.run(&bundle).output();
    assert!(outbox.take().starts_with("told\n"));
}

#[test]
fn a_process_that_joins_may_have_another_label() {
    requires!(has_selinux(), "{NEEDED}");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let bundle = launched(&sandbox, &outbox);
    // It may not even execute a program whose categories are the container's.
    let exec = script(&sandbox, &bundle, &["--process-label", OTHER], &written("true")).output();
    assert_ne!(exec.code(), 0, "{exec}");
    let all = "system_u:system_r:container_t:s0:c1,c2,c4";
    let show = written("cat /proc/self/attr/current");
    script(&sandbox, &bundle, &["--process-label", all], &show).output().succeeds();
    assert_eq!(outbox.take().trim_end(), all);
}

#[test]
fn mounts_have_the_mount_label() {
    requires!(has_selinux(), "{NEEDED}");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let bundle = labelled(sandbox.bundle("c"), &outbox)
        .mount("tmpfs", "tmpfs", "/scratch", &["size=64k"])
        .args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let pid = sandbox.pid(&bundle);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    let labelled = |point: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(point));
        line.unwrap_or_else(|| panic!("{point} is not mounted: {mounts}"))
            .contains(&format!("context=\"{FILE}\""))
    };
    for point in ["/dev", "/dev/pts", "/dev/shm", "/scratch"] {
        assert!(labelled(point), "{point} has the label: {mounts}");
    }
    for point in ["/proc", "/sys", "/out"] {
        assert!(!labelled(point), "{point} keeps its own: {mounts}");
    }
    let queues = format!("/proc/{pid}/root/dev/mqueue");
    let found = sandbox.command("stat").args(["-c", "%C", &queues]).output().succeeds();
    found.prints(&format!("{FILE}\n"));
    let write = written("echo x > /scratch/new && cat /scratch/new");
    script(&sandbox, &bundle, &[], &write).output().succeeds();
    assert_eq!(outbox.take(), "x\n", "the container may write where its label is");
}

#[test]
fn an_overlay_root_has_the_mount_label() {
    requires!(has_selinux(), "{NEEDED}");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let bundle = labelled(sandbox.bundle("c"), &outbox);
    // The layers have what anybody may read; the context stands for it. With another container's label a program could not
    // change its own memory: until it learns better, the kernel looks at the layer's label when that is asked for.
    label(&bundle.rootfs(), "system_u:object_r:container_file_t:s0");
    let layer = |name: &str| {
        let directory = sandbox.directory().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let overlay = json!({ "lower": [bundle.rootfs()], "upper": layer("upper"), "work": layer("work") });
    let bundle =
        bundle.annotation("org.bulkhead.rootfs.overlay", &overlay.to_string()).args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", sandbox.pid(&bundle))).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.contains(&format!("context=\"{FILE}\"")), "{root}");
    script(&sandbox, &bundle, &[], &written("echo x > /new && cat /new")).output().succeeds();
    assert_eq!(outbox.take(), "x\n");
}

/// keyctl(2) has no program here; only its number for x86-64 is known.
const SECURITY_OF_KEY: &str = "
import ctypes, sys
libc = ctypes.CDLL(None)
text = ctypes.create_string_buffer(256)
libc.syscall(250, 17, ctypes.c_int32(int(sys.argv[1], 16)), text, 256)
print(text.value.decode())
";

#[test]
fn the_keyring_has_the_label() {
    requires!(has_selinux(), "{NEEDED}");
    requires!(cfg!(target_arch = "x86_64") && find_program("python3").is_some(), "needs Python on x86-64");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let bundle = labelled(sandbox.bundle("c").args(["sleep", "1000"]), &outbox)
        .edit(|config| config["linux"]["maskedPaths"] = json!([]));
    sandbox.launch(&bundle);
    let name = format!("_ses.{}", bundle.id());
    let keys = fs::read_to_string("/proc/keys").unwrap();
    let line = keys.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{name}: {keys}"));
    let serial = line.split(' ').next().unwrap();
    let asked = sandbox.command("python3").args(["-c", SECURITY_OF_KEY, serial]).output().succeeds();
    asked.prints(&format!("{PROCESS}\n"));
}

#[test]
fn a_label_that_the_policy_does_not_know_is_named() {
    requires!(has_selinux(), "{NEEDED}");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let unknown = "system_u:system_r:no_such_domain_t:s0";
    let process = labelled(sandbox.bundle("process"), &outbox)
        .edit(|config| config["process"]["selinuxLabel"] = unknown.into());
    sandbox.run(&process).output().exits_with(1).complains("SELinux").complains(unknown);
    let mount = labelled(sandbox.bundle("mount"), &outbox)
        .edit(|config| config["linux"]["mountLabel"] = unknown.into());
    sandbox.run(&mount).output().exits_with(1).complains("/linux/mountLabel").complains("SELinux");
    for bundle in [process, mount] {
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "no state is left");
    }
    let bundle = launched(&sandbox, &outbox);
    let exec = script(&sandbox, &bundle, &["--process-label", unknown], "true");
    exec.output().exits_with(255).complains("SELinux").complains(unknown);
}

/// Debian builds CRIU without SELinux: it neither keeps nor restores labels, which must not end in a container without one.
/// The policy may stop it before, for the container maps memory and writes to a file that CRIU brings.
#[test]
fn a_container_comes_back_with_its_label_or_not_at_all() {
    requires!(has_selinux(), "{NEEDED}");
    requires!(find_criu().is_some(), "{NO_CRIU}");
    let sandbox = sandbox();
    let outbox = Outbox::new(&sandbox, "outbox", FILE);
    let bundle = sandbox.bundle("c").file("secret", "told\n").annotation("org.criu.config", "");
    let bundle = labelled(bundle, &outbox).script(READER);
    label(&bundle.rootfs().join("secret"), OTHER_FILE);
    sandbox.launch(&bundle);
    assert_eq!(answer(&sandbox, &bundle), "denied\n");
    let written = images(&sandbox, "checkpoint").arg(bundle.id()).output();
    if written.code() != 0 {
        written.exits_with(1).complains("criu failed: type DUMP");
        assert_eq!(answer(&sandbox, &bundle), "denied\n", "the container goes on");
        end(&sandbox, &bundle);
        return;
    }
    let run = images(&sandbox, "restore").arg("--detach").arg("--bundle").arg(bundle.directory());
    let back = run.arg(bundle.id()).stdout(std::process::Stdio::null()).output();
    if back.code() == 0 {
        let process = fs::read_to_string(format!("/proc/{}/attr/current", sandbox.pid(&bundle))).unwrap();
        assert_eq!(process.trim_end_matches('\0'), PROCESS);
        assert_eq!(answer(&sandbox, &bundle), "denied\n");
        end(&sandbox, &bundle);
    } else {
        back.exits_with(1).complains("criu has not restored the label");
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left");
    }
}
