//! Containers that execute the runtime in order to overwrite it: CVE-2019-5736.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bulkhead_testkit::{Bundle, Sandbox, find_program, in_fresh_namespaces, is_root, requires, wait_until};
use serde_json::json;

use crate::attack::Attacker;
use crate::sandbox;

/// Returns the digest of the program that the sandbox runs.
fn digest(sandbox: &Sandbox) -> String {
    sandbox.command("sha256sum").arg(sandbox.runtime_program()).output().succeeds().stdout
}

/// An ELF program without code whose interpreter is `/proc/self/exe`: the kernel maps the runtime as that.
fn interpreted() -> Vec<u8> {
    const INTERPRETER: &[u8] = b"/proc/self/exe\0";
    let header_end = 64 + 2 * 56_u64;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend(value.to_le_bytes());
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
    let long = |bytes: &mut Vec<u8>, value: u64| bytes.extend(value.to_le_bytes());
    let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    half(&mut bytes, 2); // ET_EXEC
    half(&mut bytes, machine);
    word(&mut bytes, 1);
    for value in [0x40_0000, 64, 0] {
        long(&mut bytes, value); // entry, program headers, section headers
    }
    word(&mut bytes, 0);
    for value in [64, 56, 2, 0, 0, 0] {
        half(&mut bytes, value);
    }
    for (kind, offset, address, length) in
        [(3, header_end, 0x40_0000 + header_end, INTERPRETER.len() as u64), (1, 0, 0x40_0000, 0x1000)]
    {
        word(&mut bytes, kind); // PT_INTERP, PT_LOAD
        word(&mut bytes, 5);
        for value in [offset, address, address, length, length, 0x1000] {
            long(&mut bytes, value);
        }
    }
    bytes.extend(INTERPRETER);
    bytes.resize(0x1000, 0);
    bytes
}

fn with_capability(bundle: Bundle, name: &str) -> Bundle {
    bundle.edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!(name));
        }
    })
}

/// Puts programs into a container that are the runtime, in one way or another.
fn with_programs(attacker: &Attacker) -> Bundle {
    let bundle =
        attacker.bundle.clone().file("script", "#!/proc/self/exe\n").file("interpreted", interpreted());
    for program in ["script", "interpreted"] {
        fs::set_permissions(bundle.rootfs().join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    // It may open the files that a process has mapped, which is how an interpreter can be reached.
    with_capability(bundle, "CAP_CHECKPOINT_RESTORE")
}

/// Plays the attack with a program of the container that is the runtime, in one way or another.
fn the_runtime_survives(name: &str, command: &[&str]) {
    let sandbox = sandbox().with_own_runtime();
    let attacker = Attacker::new(&sandbox, "overwrite");
    let bundle = with_programs(&attacker);
    let before = digest(&sandbox);
    sandbox.launch(&bundle);
    attacker.wait_for("ready");
    for _ in 0..20 {
        // However it ends: `--help` and the like may even succeed.
        sandbox.exec(&bundle, command).output();
        if attacker.said("done") {
            break;
        }
    }
    attacker.stop();
    attacker.wait_for("done");
    assert_eq!(attacker.loot(), "", "{name}: the container never gets hold of the runtime for writing");
    assert_eq!(digest(&sandbox), before, "{name}: the runtime is as it was");
}

/// Needs the shield: the program that runs is not the file but a read-only mount of it that is attached nowhere. Seen
/// to fail without: the container's process opens the runtime for writing as soon as nobody executes it.
#[test]
fn a_program_that_is_proc_self_exe_cannot_overwrite_the_runtime() {
    requires!(is_root(), "needs root");
    the_runtime_survives("path", &["/proc/self/exe", "--help"]);
}

/// As above.
#[test]
fn a_script_whose_interpreter_is_proc_self_exe_cannot_overwrite_the_runtime() {
    requires!(is_root(), "needs root");
    the_runtime_survives("script", &["/script"]);
}

/// As above; a static program that is mapped as an ELF interpreter runs as if it had been started.
#[test]
fn a_program_whose_elf_interpreter_is_proc_self_exe_cannot_overwrite_the_runtime() {
    requires!(is_root(), "needs root");
    the_runtime_survives("interpreter", &["/interpreted"]);
}

/// Needs the shield to take the right to execute from the mount of the file: whoever holds the file can make it busy for
/// all by trying to open it for writing, although that is refused. Seen to fail without.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_runtime_is_no_program_of_a_container() {
    requires!(is_root(), "needs root");
    requires!(std::env::var_os("BULKHEAD_ATTACKED").is_none(), "another runtime is attacked");
    is_no_program_of_a_container(&sandbox().with_own_runtime());
}

/// As above, for a runtime that its host has mounted read-only: from there, too, it could be executed.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_runtime_on_a_read_only_mount_is_no_program_of_a_container() {
    requires!(is_root(), "needs root");
    requires!(std::env::var_os("BULKHEAD_ATTACKED").is_none(), "another runtime is attacked");
    in_fresh_namespaces!(Mount);
    let sandbox = sandbox().with_own_runtime();
    let program = sandbox.runtime_program();
    for options in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
        sandbox.command("mount").args(options).args([program, program]).output().succeeds();
    }
    is_no_program_of_a_container(&sandbox);
    sandbox.command("umount").arg(program).output().succeeds();
}

#[cfg(target_arch = "x86_64")]
fn is_no_program_of_a_container(sandbox: &Sandbox) {
    let attacker = Attacker::new(sandbox, "overwrite");
    let bundle = with_programs(&attacker);
    sandbox.launch(&bundle);
    attacker.wait_for("ready");
    for command in [&["/proc/self/exe", "--help"][..], &["/script"], &["/interpreted"]] {
        sandbox.exec(&bundle, command).output().exits_with(255).complains("permission denied");
    }
    attacker.stop();
    attacker.wait_for("done");
    assert!(!attacker.said("caught"), "the container never gets hold of the runtime");
    let first = sandbox.bundle("first").args(["/proc/self/exe", "--help"]);
    sandbox.run(&first).output().exits_with(1).complains("permission denied");
}

/// The runtime takes the right to execute from its own mount alone: one that is executed by a descriptor of a mount that
/// the host made leaves that as it is.
#[test]
fn a_mount_of_the_host_stays_executable() {
    requires!(is_root(), "needs root");
    requires!(find_program("python3").is_some(), "needs python3");
    let sandbox = sandbox();
    let mount = sandbox.directory().join("mounted");
    fs::write(&mount, "").unwrap();
    let script = "mount --bind \"$1\" \"$2\" && ! python3 -c \"$3\" \"$2\" && \"$2\" --version";
    for flag in ["O_RDONLY", "O_PATH"] {
        let by_descriptor = format!(
            "import os, sys; file = os.open(sys.argv[1], os.{flag}); os.set_inheritable(file, True); \
            os.execve(file, ['bulkrun', 'run', 'nobody'], os.environ)"
        );
        let output = sandbox
            .command("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([sandbox.runtime_program(), mount.as_path()])
            .arg(by_descriptor)
            .output();
        assert!(output.succeeds().stdout.contains("bulkrun version"), "{flag}: it can be executed still");
    }
}

/// A container with CAP_SYS_PTRACE may look at the runtime that waits at the gate, so that only the shield keeps it
/// from writing. Must fail without it.
#[test]
fn the_runtime_that_waits_for_start_cannot_be_overwritten() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox().with_own_runtime();
    let attacker = Attacker::new(&sandbox, "overwrite");
    let bundle = attacker.bundle.clone().args(["/bin/sleep", "1000"]);
    let bundle = with_capability(bundle, "CAP_SYS_PTRACE");
    let before = digest(&sandbox);
    sandbox.create(&bundle);
    let exec = sandbox.exec(&bundle, Attacker::command()).spawn();
    attacker.wait_for("caught");
    sandbox.start(&bundle);
    wait_until("the attacker gave up or won", || {
        attacker.loot() != "" || attacker.said("done") || {
            attacker.stop();
            false
        }
    });
    exec.wait();
    assert_eq!(attacker.loot(), "", "the container never gets hold of the runtime for writing");
    assert_eq!(digest(&sandbox), before, "the runtime is as it was");
}
