//! Containers without a mount namespace of their own: everything is as in others, and the host's table never changes.
//!
//! Each test runs in a mount namespace that nobody else uses, which is the runtime's, so that the smallest change is seen.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

use std::fs;
use std::path::Path;

use bulkhead_testkit::faults::linux_5_10;
use bulkhead_testkit::mounts::Table;
use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{
    Bundle, Sandbox, find_program, in_fresh_namespaces, is_root, requires, skip, wait_until,
};
use rustix::fs::inotify;
use serde_json::json;

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

fn sharing(sandbox: &Sandbox, short: &str) -> Bundle {
    sandbox.bundle(short).without_namespace("mount")
}

/// What a container prints that looks at what it has.
const LOOK: &str = "cat /image; mkdir /made 2>/dev/null; ls -d /made 2>/dev/null; \
    cat /proc/1/comm; ls /dev/pts; cat /proc/interrupts | wc -c; ls /sys/firmware | wc -l; \
    (echo x > /proc/sys/kernel/domainname) 2>&1 | grep -o Read-only; \
    cat /bound/file; touch /bound/new 2>/dev/null || echo closed; \
    stat -f -c %T /dev/shm; cat /proc/self/mountinfo | wc -l; pwd";

const SEEN: &str = "image\n/made\nsh\nptmx\n0\n0\nRead-only\nbound\nclosed\ntmpfs\n0\n/work\n";

fn looking(sandbox: &Sandbox, short: &str) -> Bundle {
    let bound = sandbox.directory().join(format!("{short}-bound"));
    fs::create_dir_all(&bound).unwrap();
    fs::write(bound.join("file"), "bound\n").unwrap();
    sharing(sandbox, short)
        .file("image", "image\n")
        .bind(&bound, "/bound", &["ro"])
        .script(LOOK)
        .edit(|config| config["process"]["cwd"] = "/work".into())
}

#[test]
fn everything_is_there_and_the_host_has_no_mount_more() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let table = Table::watch();
    let bundle = looking(&sandbox, "open");
    sandbox.run(&bundle).output().succeeds().prints(SEEN);
    let closed = SEEN.replace("/made\n", "");
    sandbox.run(&looking(&sandbox, "closed").readonly()).output().succeeds().prints(&closed);
    sandbox.run(&looking(&sandbox, "moved")).arg("--no-pivot").output().succeeds().prints(SEEN);
    let unbindable = looking(&sandbox, "unbindable").edit(|config| {
        config["linux"]["rootfsPropagation"] = "unbindable".into();
        for mount in config["mounts"].as_array_mut().unwrap() {
            mount["options"].as_array_mut().unwrap().push("unbindable".into());
        }
    });
    sandbox.run(&unbindable).output().succeeds().prints(SEEN);
    assert!(!table.has_changed(), "nothing was ever mounted or unmounted");
    // It would have been seen.
    sandbox.command("mount").args(["-t", "tmpfs", "none", "/mnt"]).output().succeeds();
    assert!(table.has_changed(), "a mount is a change");
}

#[test]
fn it_is_the_same_on_an_old_kernel() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN).without_calls(&linux_5_10());
    let table = Table::watch();
    sandbox.run(&looking(&sandbox, "open")).output().succeeds().prints(SEEN);
    let closed = SEEN.replace("/made\n", "");
    sandbox.run(&looking(&sandbox, "closed").readonly()).output().succeeds().prints(&closed);
    assert!(!table.has_changed(), "nothing was ever mounted or unmounted");
}

#[test]
fn an_overlay_is_the_root_of_one() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sharing(&sandbox, "overlay").script("echo new > /new; cat /new");
    let [upper, work] = ["upper", "work"].map(|name| sandbox.directory().join(name));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let overlay = json!({ "lower": [bundle.rootfs()], "upper": upper, "work": work });
    let bundle = bundle.annotation("org.bulkhead.rootfs.overlay", &overlay.to_string());
    let table = Table::watch();
    sandbox.run(&bundle).output().succeeds().prints("new\n");
    assert!(!table.has_changed(), "nothing was ever mounted or unmounted");
    assert!(upper.join("new").exists() && !bundle.rootfs().join("new").exists(), "it is in the upper layer");
}

#[test]
fn it_lives_and_ends_like_another() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let table = Table::watch();
    let bundle = sharing(&sandbox, "c").file("image", "image\n").args(["sleep", "1000"]);
    sandbox.create(&bundle);
    assert_eq!(sandbox.status(&bundle), "created");
    sandbox.exec(&bundle, ["cat", "/image"]).output().succeeds().prints("image\n");
    sandbox.start(&bundle);
    let namespace = fs::read_link("/proc/self/ns/mnt").unwrap();
    let inside = format!("{}\nimage\n/tmp\n1\n", namespace.display());
    let look = "readlink /proc/self/ns/mnt; cat /image; pwd; ls -d /proc/1 | wc -l";
    let exec = || ["exec", "--cwd", "/tmp", bundle.id(), "sh", "-c", look];
    sandbox.runtime().args(exec()).output().succeeds().prints(&inside);
    // The runtime that makes the second process need not be where the first was made.
    let elsewhere =
        ["unshare", "-m", BULKRUN, "--root", sandbox.state_directory().to_str().unwrap()].map(str::to_owned);
    sandbox.command(&elsewhere[0]).args(&elsewhere[1..]).args(exec()).output().succeeds().prints(&inside);
    sandbox.exec(&bundle, ["no-such-program"]).output().exits_with(255).complains("not found in $PATH");
    let seat = Seat::new(24, 80);
    let running = seat.spawn(sandbox.runtime().args(["exec", "--tty", bundle.id(), "tty"]));
    seat.screen.shows("/dev/pts/0\r\n");
    running.wait().succeeds();
    let init = sandbox.pid(&bundle);
    sandbox.kill(&bundle, "KILL");
    sandbox.wait_for_exit(init);
    assert_eq!(sandbox.status(&bundle), "stopped");
    sandbox.delete(&bundle);
    assert!(!table.has_changed(), "nothing was ever mounted or unmounted");
}

#[test]
fn its_terminal_has_its_name() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sharing(&sandbox, "c")
        .terminal()
        .script("tty; readlink /proc/self/fd/1; echo here > /dev/console; echo there > /dev/tty");
    let seat = Seat::new(24, 80);
    let running = seat.spawn(sandbox.run(&bundle));
    seat.screen.shows("/dev/pts/0\r\n/dev/pts/0\r\nhere\r\nthere\r\n");
    running.wait().succeeds();
}

/// `createContainer` and those that are older work on the mounts while these are made, and what they add comes along.
#[test]
fn hooks_see_the_mounts_and_may_add_to_them() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let table = Table::watch();
    let bundle = sharing(&sandbox, "c").script("cat /tmp/1/file /tmp/2/file /started");
    let root = bundle.rootfs().display().to_string();
    let add = |number: u32| {
        format!(
            "mkdir -p {root}/tmp/{number} && mount -t tmpfs add {root}/tmp/{number} && echo {number} > {root}/tmp/{number}/file"
        )
    };
    let from_outside = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); nsenter --target $pid --mount sh -c '{}'",
        add(2)
    );
    let unbindable = format!("{} && mount --make-unbindable {root}/tmp/1", add(1));
    let bundle = bundle
        .hook_script("createContainer", &unbindable)
        .hook_script("createRuntime", &from_outside)
        .hook_script("startContainer", "echo started > /started");
    sandbox.run(&bundle).output().succeeds().prints("1\n2\nstarted\n");
    assert!(!table.has_changed(), "nothing was ever mounted or unmounted");
}

/// What holds the mounts is who has the root; when the last of those is gone the file systems end.
#[test]
fn its_mounts_end_with_its_last_process() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sharing(&sandbox, "c").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    for path in ["dev", "dev/shm"] {
        let path = format!("/proc/{}/root/{path}", sandbox.pid(&bundle));
        inotify::add_watch(&watch, path, inotify::WatchFlags::DELETE_SELF).unwrap();
    }
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut ended = 0;
    let mut count = || {
        while let Ok(event) = reader.next() {
            ended += u32::from(event.events().contains(inotify::ReadFlags::UNMOUNT));
        }
        ended
    };
    assert_eq!(count(), 0, "they are there while it lives");
    sandbox.kill(&bundle, "KILL");
    wait_until("both file systems are gone", || count() == 2);
    sandbox.delete(&bundle);
}

/// Its process or the runtime is killed at some of the calls by which mounts are made and taken home.
#[test]
fn nothing_is_left_when_it_is_killed_in_the_middle() {
    let Some(strace) = find_program("strace") else { skip!("needs strace") };
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let strace = strace.to_str().unwrap();
    let table = Table::watch();
    for (call, when) in [
        ("move_mount", 1),
        ("move_mount", 5),
        ("open_tree", 3),
        ("setns", 1),
        ("fchdir", 1),
        ("chroot", 1),
        ("close_range", 1),
    ] {
        let sandbox = Sandbox::new(BULKRUN);
        let trace = sandbox.directory().join("trace").display().to_string();
        let inject = format!("inject={call}:signal=KILL:when={when}");
        let sandbox =
            sandbox.through([strace, "-f", "-e", &format!("trace={call}"), "-e", &inject, "-o", &trace]);
        let output = sandbox.run(&sharing(&sandbox, "c").args(["true"])).output();
        assert_ne!(output.code(), 0, "{call} {when}: {output}");
        let trace = fs::read_to_string(trace).unwrap();
        assert!(trace.contains("killed by SIGKILL"), "{call} {when}:\n{trace}");
        assert!(!table.has_changed(), "{call} {when}: nothing was mounted or unmounted\n{trace}");
    }
}

#[test]
fn nothing_is_left_when_a_hook_kills_the_runtime() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let table = Table::watch();
    let bundle = sharing(&sandbox, "c").args(["true"]).hook_script("createRuntime", "kill -KILL $PPID");
    sandbox.run(&bundle).output().exits_with(128 + 9);
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    assert!(!table.has_changed(), "nothing was ever mounted or unmounted");
}

#[test]
fn what_cannot_be_is_refused() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let user = sharing(&sandbox, "user").user_namespace(&[(0, 100_000, 65536)], &[(0, 100_000, 65536)]);
    sandbox.run(&user).output().exits_with(1).complains("/linux/namespaces: a user namespace");
    let bundle = sharing(&sandbox, "c").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let exec = sandbox.runtime().args(["exec", "--apparmor", "some", bundle.id(), "true"]);
    exec.output().exits_with(255).complains("/process/apparmorProfile: ");
    let images = sandbox.directory().join("images");
    let checkpoint = sandbox.runtime().args(["checkpoint", "--image-path"]).arg(&images).arg(bundle.id());
    checkpoint.output().exits_with(1).complains("criu cannot keep a container without a namespace of type");
    assert!(!Path::new(&images).exists(), "nothing is written");
    assert_eq!(sandbox.status(&bundle), "running");
    // Before anybody looks for CRIU.
    let other = sharing(&sandbox, "back");
    let restore =
        sandbox.runtime().env("PATH", "/nonexistent").args(["restore", "--image-path"]).arg(&images);
    let restore = restore.arg("--bundle").arg(other.directory()).arg(other.id());
    restore.output().exits_with(1).complains("criu cannot keep a container without a namespace of type");
    assert!(!sandbox.state_directory().join(other.id()).exists(), "nothing is made");
}

/// A runtime that is root of a user namespace only may enter none but that one's mount namespaces.
#[test]
fn a_runtime_without_rights_over_its_mount_namespace_says_so() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKRUN).through(["unshare", "--user", "--map-root-user"]);
    let bundle = sharing(&sandbox, "c").edit(|config| {
        config["linux"]["namespaces"] = json!([]);
        config["linux"]["resources"] = json!({});
        config["mounts"] = json!([]);
        for list in ["maskedPaths", "readonlyPaths"] {
            config["linux"][list] = json!([]);
        }
        config.as_object_mut().unwrap().remove("hostname");
    });
    let bundle = bundle.hook_script("createRuntime", "touch hooked");
    let run = sandbox.runtime().args(["--cgroup-manager", "disabled", "run", "--bundle"]);
    run.arg(bundle.directory()).arg(bundle.id()).output().exits_with(1).complains(
        "/linux/namespaces: the runtime has no rights over its own mount namespace, which a container without a namespace",
    );
    assert!(!bundle.directory().join("hooked").exists(), "before anything is done");
}

/// In a mount namespace the kernel keeps mount points where they are, and here it does not.
#[test]
fn what_could_be_moved_away_is_refused() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let [volume, keys] = ["volume", "keys"].map(|name| sandbox.directory().join(name));
    fs::create_dir_all(volume.join("keys")).unwrap();
    fs::create_dir(&keys).unwrap();
    let with = |short: &str, options: &[&str]| {
        let bundle = sharing(&sandbox, short).script("touch /volume/keys/new 2>&1 | grep -o Read-only");
        bundle.bind(&volume, "/volume", options).bind(&keys, "/volume/keys", &["ro"])
    };
    sandbox.run(&with("loose", &[])).output().exits_with(1).complains("/volume/keys lies on a mount that");
    sandbox.run(&with("fast", &["ro"])).output().succeeds().prints("Read-only\n");
    // Also where a link of the image leads to the volume, and where a path is to be read-only.
    let link = sharing(&sandbox, "link").bind(&volume, "/volume", &[]).bind(&keys, "/link/keys", &["ro"]);
    std::os::unix::fs::symlink("volume", link.rootfs().join("link")).unwrap();
    sandbox.run(&link).output().exits_with(1).complains("/volume/keys lies on a mount that");
    let path = sharing(&sandbox, "path").bind(&volume, "/volume", &[]);
    let path = path.edit(|config| config["linux"]["readonlyPaths"] = json!(["/volume/keys"]));
    sandbox.run(&path).output().exits_with(1).complains("/volume/keys lies on a mount that");
}

/// As in a container with a mount namespace, where joining it leads to its root directory.
#[test]
fn a_process_that_joins_has_the_whole_root_whatever_the_first_has_left_of_it() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = Sandbox::new(BULKRUN);
    let bundle = sharing(&sandbox, "c").file("image", "image\n");
    let bundle = bundle.script(
        "mkdir -p /tmp/jail/bin; cp /bin/busybox /tmp/jail/bin/sleep; exec chroot /tmp/jail /bin/sleep 1000",
    );
    sandbox.launch(&bundle);
    let jail = format!("/proc/{}/root", sandbox.pid(&bundle));
    wait_until("the first process is in its jail", || !Path::new(&jail).join("image").exists());
    sandbox.exec(&bundle, ["cat", "/image"]).output().succeeds().prints("image\n");
}
