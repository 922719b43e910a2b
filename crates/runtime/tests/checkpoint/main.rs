//! Containers that CRIU writes to images and makes again.
#![expect(clippy::unwrap_used, reason = "a step of the preparation that fails ends the test")]

mod cgroups;
mod flags;
mod memory;
mod requests;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bulkhead_testkit::terminal::{Screen, Seat};
use bulkhead_testkit::{
    Bundle, Desk, Network, Run, Sandbox, find_criu, find_program, is_root, requires, skip, wait_until,
};

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

/// Why these tests skip themselves.
pub(crate) const MISSING: &str = "needs root and CRIU, which `cargo xtask peers` fetches";

/// A program whose memory is worth keeping: it counts, without a descriptor of the host's.
pub(crate) const COUNTER: &str = "exec </dev/null >/dev/null 2>&1; n=0; \
    while :; do n=$((n+1)); echo $n > /dev/shm/next; mv /dev/shm/next /dev/shm/n; sleep 0.05; done";

pub(crate) fn is_possible() -> bool {
    is_root() && find_criu().is_some()
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(BULKRUN)
}

/// A command of the runtime that finds CRIU.
pub(crate) fn runtime(sandbox: &Sandbox) -> Run {
    let criu = find_criu().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    sandbox.runtime().env("PATH", format!("{}:{path}:/usr/sbin:/sbin", criu.parent().unwrap().display()))
}

pub(crate) fn images(sandbox: &Sandbox) -> PathBuf {
    sandbox.directory().join("images")
}

pub(crate) fn checkpoint(sandbox: &Sandbox, bundle: &Bundle) -> Run {
    runtime(sandbox).arg("checkpoint").arg("--image-path").arg(images(sandbox)).arg(bundle.id())
}

pub(crate) fn restore(sandbox: &Sandbox, bundle: &Bundle, more: &[&str]) -> Run {
    let run = runtime(sandbox).arg("restore").arg("--image-path").arg(images(sandbox));
    run.arg("--bundle").arg(bundle.directory()).args(more).arg(bundle.id())
}

/// Makes a bundle that no configuration of CRIU on this machine changes.
pub(crate) fn unconfigured(sandbox: &Sandbox, short: &str) -> Bundle {
    sandbox.bundle(short).annotation("org.criu.config", "")
}

/// Lets a container run a script in this machine's Python, which can do what busybox cannot. Its output is `/tmp/said`.
pub(crate) fn python(bundle: Bundle, script: &str) -> Bundle {
    let parts = ["/usr", "/lib", "/lib64"].iter().filter(|part| Path::new(part).exists());
    // Without what is mounted there, and so plainly that CRIU can take it from the host again.
    let bundle = parts.fold(bundle, |bundle, part| bundle.mount("bind", part, part, &["bind", "ro"]));
    bundle.file("/script.py", script).script("exec /usr/bin/python3 -u /script.py </dev/null >/tmp/said 2>&1")
}

pub(crate) fn has_python() -> bool {
    Path::new("/usr/bin/python3").exists()
}

/// Waits until the last line that a Python script has written to its output holds this, and returns the whole.
#[track_caller]
pub(crate) fn says(bundle: &Bundle, text: &str) -> String {
    let said = || fs::read_to_string(bundle.rootfs().join("tmp/said")).unwrap_or_default();
    wait_until(&format!("the program says {text}"), || said().lines().any(|line| line == text));
    said()
}

/// Restores a container in the background, which is to succeed.
#[track_caller]
pub(crate) fn come_back(sandbox: &Sandbox, bundle: &Bundle, more: &[&str]) {
    restore(sandbox, bundle, &[&["--detach"], more].concat()).stdout(Stdio::null()).output().succeeds();
}

/// Waits for a container that another command is making.
fn wait_for_container(sandbox: &Sandbox, bundle: &Bundle) {
    let state = || sandbox.runtime().arg("state").arg(bundle.id()).output();
    wait_until("the container runs", || state().stdout.contains("\"running\""));
}

/// Reads the counter of a container.
pub(crate) fn count(sandbox: &Sandbox, bundle: &Bundle) -> u64 {
    let read = || sandbox.exec(bundle, ["cat", "/dev/shm/n"]).output().stdout.trim().parse().ok();
    wait_until("the container counts", || read().is_some());
    read().unwrap()
}

#[track_caller]
pub(crate) fn end(sandbox: &Sandbox, bundle: &Bundle) {
    sandbox.kill(bundle, "KILL");
    sandbox.wait_for_status(bundle, "stopped");
    sandbox.delete(bundle);
}

/// Checkpoints a container, restores and ends it. Whatever `look` tells of it stays the same.
#[track_caller]
fn comes_back_as_it_was(sandbox: &Sandbox, bundle: &Bundle, look: impl Fn() -> String) {
    let before = look();
    checkpoint(sandbox, bundle).output().succeeds();
    restore(sandbox, bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
    assert_eq!(look(), before, "a restored container is what it was");
    end(sandbox, bundle);
}

#[test]
fn a_container_goes_on_where_it_was() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let once = "read once </proc/sys/kernel/random/uuid; echo $once >/dev/shm/once; trap 'echo $once >/dev/shm/again' USR1";
    let bundle = unconfigured(&sandbox, "c").script(&format!("{once}; {COUNTER}"));
    sandbox.launch(&bundle);
    let first = sandbox.state(&bundle);
    wait_until("the container counts", || count(&sandbox, &bundle) >= 3);
    checkpoint(&sandbox, &bundle).output().succeeds().prints("");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "the container is removed");
    assert!(images(&sandbox).join("descriptors.json").exists());
    let mode = fs::metadata(images(&sandbox)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "what was in memory is nobody else's business");
    let pid_file = sandbox.directory().join("pid");
    let output = restore(&sandbox, &bundle, &["--detach", "--pid-file", pid_file.to_str().unwrap()])
        .stdout(Stdio::null())
        .output()
        .succeeds();
    assert_eq!(output.stderr, "", "there is nothing to say");
    let state = sandbox.state(&bundle);
    assert_eq!(state["status"], "running");
    assert_eq!(fs::read_to_string(pid_file).unwrap(), state["pid"].to_string());
    assert_ne!(state["created"], first["created"], "it is another container of the same name");
    let went_on = count(&sandbox, &bundle);
    assert!(went_on >= 3, "it should not begin at zero, but is at {went_on}");
    wait_until("the container counts on", || count(&sandbox, &bundle) > went_on);
    // A program that began anew would have drawn another number.
    sandbox.kill(&bundle, "USR1");
    let look = ["sh", "-c", "cmp /dev/shm/once /dev/shm/again"];
    wait_until("the program knows its number", || sandbox.exec(&bundle, look).output().code() == 0);
    // It is in each of its cgroups, with its limits.
    let (pid, path) = (sandbox.pid(&bundle), bundle.cgroups_path());
    let found = sandbox.cgroups(path);
    assert!(!found.is_empty(), "its cgroups are there");
    for cgroup in &found {
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
        assert!(processes.lines().any(|line| line == pid.to_string()), "{pid} is in {}", cgroup.display());
    }
    let limits =
        found.iter().flat_map(|cgroup| ["memory.max", "memory.limit_in_bytes"].map(|name| cgroup.join(name)));
    let limits = Vec::from_iter(limits.filter_map(|file| fs::read_to_string(file).ok()));
    assert_eq!(limits, ["268435456\n"], "the limit of memory is in force");
    for verb in ["pause", "resume"] {
        sandbox.runtime().arg(verb).arg(bundle.id()).output().succeeds();
    }
    end(&sandbox, &bundle);
}

#[test]
fn what_a_process_is_and_sees_is_restored() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let volume = sandbox.directory().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    let filter = serde_json::to_value(bulkhead_seccomp::default_profile()).unwrap();
    let bundle = unconfigured(&sandbox, "c")
        .script(COUNTER)
        .bind(&volume, "/new/volume", &["ro"])
        .bind(volume.join("file"), "/etc/file", &[])
        .mount("tmpfs", "tmpfs", "/new/volume2/deep", &["size=1m"])
        .seccomp(filter);
    sandbox.launch(&bundle);
    let look = || {
        let script = "grep -E '^(Uid|Cap|NoNewPrivs|Seccomp:)' /proc/1/status; cat /new/volume/file /etc/file; \
             touch /new/volume/x 2>&1; wc -c /proc/kcore; ls /sys/firmware; touch /proc/sys/kernel/x 2>&1; hostname; \
             cut -d' ' -f5,6 /proc/self/mountinfo | sort; id; ls -l /proc/1/fd | tr -s ' ' | cut -d' ' -f9-";
        sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds().stdout
    };
    count(&sandbox, &bundle);
    comes_back_as_it_was(&sandbox, &bundle, look);
}

#[test]
fn a_container_that_runs_on_and_one_that_is_paused() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    checkpoint(&sandbox, &bundle).arg("--leave-running").output().succeeds();
    assert_eq!(sandbox.status(&bundle), "running");
    let here = count(&sandbox, &bundle);
    wait_until("the container counts on", || count(&sandbox, &bundle) > here);
    sandbox.runtime().arg("pause").arg(bundle.id()).output().succeeds();
    let work = sandbox.directory().join("work");
    checkpoint(&sandbox, &bundle).arg("--work-path").arg(&work).output().succeeds();
    assert!(work.join("dump.log").exists(), "the log is where work files are");
    restore(&sandbox, &bundle, &["-d"]).stdout(Stdio::null()).output().succeeds();
    let here = count(&sandbox, &bundle);
    wait_until("the container counts on", || count(&sandbox, &bundle) > here);
    end(&sandbox, &bundle);
}

#[test]
fn in_the_foreground_the_exit_code_is_the_containers() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let script =
        "exec </dev/null >/dev/null 2>&1; echo > /ready; until test -e /go; do sleep 0.05; done; exit 7";
    let bundle = unconfigured(&sandbox, "c").script(script);
    sandbox.launch(&bundle);
    wait_until("the program runs", || bundle.rootfs().join("ready").exists());
    checkpoint(&sandbox, &bundle).output().succeeds();
    let running = restore(&sandbox, &bundle, &[]).spawn();
    wait_for_container(&sandbox, &bundle);
    fs::write(bundle.rootfs().join("go"), "").unwrap();
    running.wait().exits_with(7);
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "the container is removed");
}

#[test]
fn pipes_of_the_caller_are_exchanged() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c")
        .script("exec </dev/null 2>/dev/null; n=0; while echo $n; do n=$((n+1)); sleep 0.05; done");
    let lines =
        |reader| BufReader::new(File::from(reader)).lines().map(|line| line.unwrap().parse::<u64>().unwrap());
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    sandbox.run(&bundle).arg("--detach").stdout(Stdio::from(writer)).output().succeeds();
    let mut said = lines(reader);
    assert_eq!(said.by_ref().take(3).last(), Some(2));
    checkpoint(&sandbox, &bundle).output().succeeds();
    let last = said.last().unwrap_or(2);
    let descriptors = fs::read_to_string(images(&sandbox).join("descriptors.json")).unwrap();
    assert!(descriptors.starts_with("[\"/dev/null\",\"pipe:["), "{descriptors}");
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::from(writer)).output().succeeds();
    assert_eq!(lines(reader).next(), Some(last + 1), "what it says goes into the new pipe");
    sandbox.wait_for_status(&bundle, "stopped");
    sandbox.delete(&bundle);
}

/// Of logs and of the null device, which CRIU knows nothing of: they are on no mount of the container.
#[test]
fn files_of_the_host_are_the_callers_again() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script("while :; do echo line; sleep 0.05; done");
    let log = sandbox.directory().join("log");
    let open = || Stdio::from(File::options().create(true).append(true).open(&log).unwrap());
    let length = || fs::metadata(&log).map_or(0, |found| found.len());
    sandbox.run(&bundle).arg("--detach").stdin(Stdio::null()).stdout(open()).output().succeeds();
    wait_until("the log has lines", || length() > 10);
    checkpoint(&sandbox, &bundle).output().succeeds();
    let before = length();
    restore(&sandbox, &bundle, &["--detach"]).stdin(Stdio::null()).stdout(open()).output().succeeds();
    wait_until("the log has more lines", || length() > before);
    end(&sandbox, &bundle);
}

/// As where the image is another copy of what it was.
#[test]
fn mount_points_that_the_image_lacks_are_made_again() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let volume = sandbox.directory().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER).bind(&volume, "/new/volume", &[]).bind(
        volume.join("file"),
        "/new/file",
        &[],
    );
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    checkpoint(&sandbox, &bundle).output().succeeds();
    fs::remove_dir_all(bundle.rootfs().join("new")).unwrap();
    come_back(&sandbox, &bundle, &[]);
    let look = ["cat", "/new/volume/file", "/new/file"];
    sandbox.exec(&bundle, look).output().succeeds().prints("content\ncontent\n");
    end(&sandbox, &bundle);
}

#[test]
fn a_container_that_lacks_its_label_does_not_come_back() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    checkpoint(&sandbox, &bundle).output().succeeds();
    let bundle = bundle.edit(|config| config["process"]["selinuxLabel"] = "bh:no:such:label".into());
    let failed = restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().exits_with(1);
    failed.complains("the label bh:no:such:label");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left of the container");
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "nor of its cgroups");
}

#[test]
fn a_terminal_is_sent_to_the_console_socket_or_relayed() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c")
        .terminal()
        .script("echo ready; while read word; do echo \"<$word>\"; done");
    let receive = |socket: &Path, run: &dyn Fn(&str)| {
        let desk = Desk::at(socket);
        run(socket.to_str().unwrap());
        Screen::of(desk.takes().descriptor)
    };
    let socket = sandbox.directory().join("s");
    let screen = receive(&socket, &|socket| {
        sandbox.run(&bundle).args(["--detach", "--console-socket", socket]).output().succeeds();
    });
    screen.shows("ready");
    checkpoint(&sandbox, &bundle).arg("--shell-job").output().succeeds();
    drop(screen);
    let screen = receive(&socket, &|socket| {
        restore(&sandbox, &bundle, &["--shell-job", "--detach", "--console-socket", socket])
            .output()
            .succeeds();
    });
    screen.type_in("again\n");
    screen.shows("<again>");
    checkpoint(&sandbox, &bundle).arg("--shell-job").output().succeeds();
    drop(screen);
    let nobody = restore(&sandbox, &bundle, &["--shell-job", "--detach"]).output().exits_with(1);
    nobody.complains("a terminal needs --console-socket");
    let seat = Seat::new(24, 80);
    let running = seat.spawn(restore(&sandbox, &bundle, &["--shell-job"]));
    wait_for_container(&sandbox, &bundle);
    seat.screen.type_in("here\n");
    seat.screen.shows("<here>");
    sandbox.kill(&bundle, "KILL");
    running.wait().exits_with(128 + 9);
}

/// Makes a directory with a file of user 1000.
fn owned(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("file"), "").unwrap();
    for path in [path, &path.join("file")] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
}

/// Binds a directory twice, as it is and with the host's user 1000 as root.
fn bound(bundle: Bundle, source: &Path) -> Bundle {
    let map = serde_json::json!([{ "containerID": 1000, "hostID": 0, "size": 1 }]);
    bundle
        .mount("bind", source, "/plain", &["bind"])
        .mount("bind", source, "/mapped", &["bind", "idmap"])
        .edit(|config| {
            let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            mount["uidMappings"] = map.clone();
            mount["gidMappings"] = map;
        })
}

#[test]
fn mapped_ids_stay_mapped() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let volume = sandbox.directory().join("volume");
    owned(&volume);
    let bundle = bound(unconfigured(&sandbox, "c").script(COUNTER), &volume);
    let output = sandbox.run(&bundle).arg("--detach").stdout(Stdio::null()).output();
    if output.stderr.contains("its file system cannot") {
        skip!("the file system of the temporary directory cannot be idmapped");
    }
    output.succeeds();
    count(&sandbox, &bundle);
    let look = |name: &str| {
        let script = format!("touch /mapped/{name}; stat -c %u /plain/file /mapped/file /plain/{name}");
        sandbox.exec(&bundle, ["sh", "-c", &script]).output().succeeds().prints("1000\n0\n1000\n");
    };
    look("before");
    checkpoint(&sandbox, &bundle).output().succeeds();
    restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
    look("after");
    let left = sandbox.state_directory().join(bundle.id()).join("criu-mounts");
    assert!(!left.exists(), "what was there for CRIU is gone");
    end(&sandbox, &bundle);
}

#[test]
fn a_map_that_criu_would_lose_is_refused() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    let inside = bundle.rootfs().join("inside");
    owned(&inside);
    let bundle = bound(bundle, &inside);
    let output = sandbox.run(&bundle).arg("--detach").stdout(Stdio::null()).output();
    if output.stderr.contains("its file system cannot") {
        skip!("the file system of the temporary directory cannot be idmapped");
    }
    output.succeeds();
    count(&sandbox, &bundle);
    let at = bundle.config()["mounts"].as_array().unwrap().len() - 1;
    let lost = format!("config.json: /mounts/{at}: criu cannot keep the id mapping");
    checkpoint(&sandbox, &bundle).output().exits_with(1).complains(&lost);
    assert_eq!(sandbox.status(&bundle), "running");
    end(&sandbox, &bundle);
    restore(&sandbox, &bundle, &[]).output().exits_with(1).complains(&lost);
}

/// Makes the root of a bundle the lower layer of an overlay, where `/var/run` is a link, and binds behind it.
fn overlaid(sandbox: &Sandbox, bundle: Bundle, id: u32, mapped: bool) -> Bundle {
    let directory = |name: &str| sandbox.directory().join(name);
    fs::rename(bundle.rootfs(), directory("lower")).unwrap();
    for name in ["upper", "work", "volume", "lower/run", "lower/var"] {
        fs::create_dir_all(directory(name)).unwrap();
    }
    fs::create_dir(bundle.rootfs()).unwrap();
    symlink("../run", directory("lower/var/run")).unwrap();
    fs::write(directory("volume/file"), "content\n").unwrap();
    chown(directory("upper"), Some(id), Some(id)).unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(directory);
    let overlay = serde_json::json!({ "lower": [lower], "upper": upper, "work": work, "idmap": mapped });
    let bundle = bundle.annotation("org.bulkhead.rootfs.overlay", &overlay.to_string());
    bundle.bind(directory("volume"), "/var/run/volume", &[]).mount("tmpfs", "tmpfs", "/var/run/t", &[]).bind(
        directory("volume/file"),
        "/var/run/t/deep/file",
        &[],
    )
}

#[test]
fn an_overlay_and_links_on_the_way_to_mounts_are_found_again() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = overlaid(&sandbox, unconfigured(&sandbox, "c").script(COUNTER), 0, false);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let look = || {
        let script = "cat /run/volume/file /run/t/deep/file; cut -d' ' -f5,6 /proc/self/mountinfo | sort";
        sandbox.exec(&bundle, ["sh", "-c", script]).output().succeeds().stdout
    };
    comes_back_as_it_was(&sandbox, &bundle, look);
}

#[test]
fn mapped_layers_stay_mapped() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let maps = [(0, 100_000, 65536)];
    let bundle = unconfigured(&sandbox, "c").user_namespace(&maps, &maps).script(COUNTER);
    // On the disk the writable layer is root's, too: it is mapped like the others.
    let bundle = overlaid(&sandbox, bundle, 0, true);
    let output = sandbox.run(&bundle).arg("--detach").stdout(Stdio::null()).output();
    if output.stderr.contains("its file system cannot") {
        skip!("the file system of the temporary directory cannot be idmapped");
    }
    output.succeeds();
    count(&sandbox, &bundle);
    let look = || sandbox.exec(&bundle, ["stat", "-c", "%u", "/", "/bin", "/var/run/"]).output().succeeds();
    let before = look().stdout;
    assert_eq!(before, "0\n0\n0\n", "the layer is root's");
    checkpoint(&sandbox, &bundle).output().succeeds();
    restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
    look().prints(&before);
    end(&sandbox, &bundle);
}

/// Needs the namespace for CRIU, and that nothing in it reaches the host's mounts. Seen to fail where it stays shared.
#[test]
fn the_host_has_the_mounts_that_it_had() {
    requires!(is_possible(), "{MISSING}");
    let plain = sandbox();
    let count_in = |name: &str| plain.directory().join(name).display().to_string();
    let script = format!(
        "mount --make-rshared / && wc -l < /proc/self/mountinfo > {} && \"$@\"; code=$?; \
         wc -l < /proc/self/mountinfo > {}; exit $code",
        count_in("before"),
        count_in("after")
    );
    let sandbox = sandbox().through(["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let volume = sandbox.directory().join("volume");
    fs::create_dir(&volume).unwrap();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER).bind(&volume, "/volume", &[]);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    checkpoint(&sandbox, &bundle).output().succeeds();
    restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
    let [before, after] = ["before", "after"].map(|name| fs::read_to_string(count_in(name)).unwrap());
    assert_eq!(before, after, "mounts before and after");
    end(&sandbox, &bundle);
}

#[test]
fn hooks_run_as_for_a_new_container() {
    requires!(is_possible() && find_program("jq").is_some(), "needs root, CRIU and jq");
    let sandbox = sandbox();
    let log = sandbox.directory().join("hooks");
    let note = |kind: &str| format!("jq -c '[\"{kind}\", .status, .pid > 0]' >> {}", log.display());
    let bundle = unconfigured(&sandbox, "c")
        .script(COUNTER)
        .hook_script("prestart", &note("prestart"))
        .hook_script("createRuntime", &note("createRuntime"))
        .hook_script("poststop", &note("poststop"));
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    checkpoint(&sandbox, &bundle).output().succeeds();
    let made = "[\"prestart\",\"created\",true]\n[\"createRuntime\",\"creating\",true]\n";
    let removed = "[\"poststop\",\"stopped\",false]\n";
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{made}{removed}"));
    restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{made}{removed}{made}"));
    end(&sandbox, &bundle);
}

#[test]
fn a_new_network_has_its_loopback_and_one_that_is_joined_stays() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "new").namespace("network").script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    checkpoint(&sandbox, &bundle).output().succeeds();
    restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
    let output = sandbox.exec(&bundle, ["cat", "/sys/class/net/lo/flags"]).output().succeeds();
    assert_eq!(output.stdout, "0x9\n", "the interface is up");
    end(&sandbox, &bundle);
    let joined = Network::new(&sandbox);
    let path = joined.path();
    let bundle = unconfigured(&sandbox, "joined").namespace_at("network", path).script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    checkpoint(&sandbox, &bundle).output().succeeds();
    restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
    let network = fs::read_link(format!("/proc/{}/ns/net", sandbox.pid(&bundle))).unwrap();
    assert_eq!(network, fs::read_link(path).unwrap(), "it is in the network that it joined");
    end(&sandbox, &bundle);
}

#[test]
fn memory_is_written_ahead_where_the_kernel_tracks_it() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    sandbox.launch(&bundle);
    count(&sandbox, &bundle);
    let ahead = sandbox.directory().join("ahead");
    let output = runtime(&sandbox)
        .args(["checkpoint", "--pre-dump", "--image-path"])
        .arg(&ahead)
        .arg(bundle.id())
        .output();
    assert_eq!(sandbox.status(&bundle), "running", "it runs on in any case");
    if output.code() == 0 {
        checkpoint(&sandbox, &bundle).args(["--parent-path", "../ahead"]).output().succeeds();
        restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().succeeds();
        count(&sandbox, &bundle);
    } else {
        output
            .exits_with(1)
            .complains("criu is missing features: [MemTrack] (the kernel needs CONFIG_MEM_SOFT_DIRTY)");
        let absolute = checkpoint(&sandbox, &bundle).arg("--parent-path").arg(&ahead).output();
        absolute.exits_with(1).complains("--parent-path must be relative");
        let missing = checkpoint(&sandbox, &bundle).args(["--parent-path", "../none"]).output();
        missing.exits_with(1).complains("invalid --parent-path");
    }
    end(&sandbox, &bundle);
}

#[test]
fn what_fails_says_why_and_leaves_everything_as_it_was() {
    requires!(is_possible(), "{MISSING}");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    restore(&sandbox, &bundle, &["--detach"]).output().exits_with(1).complains("open the images in");
    sandbox.create(&bundle);
    checkpoint(&sandbox, &bundle)
        .output()
        .exits_with(1)
        .complains("cannot checkpoint a container that is created");
    sandbox.start(&bundle);
    count(&sandbox, &bundle);
    fs::write(sandbox.directory().join("file"), "").unwrap();
    for (parent, complaint) in [
        (images(&sandbox).to_str().unwrap(), "--parent-path must be relative"),
        ("../missing", "no such file or directory"),
        ("../file", "not a directory"),
    ] {
        let run = checkpoint(&sandbox, &bundle).args(["--parent-path", parent]);
        run.output().exits_with(1).complains(complaint);
    }
    checkpoint(&sandbox, &bundle).arg("--leave-running").output().succeeds();
    restore(&sandbox, &bundle, &["--detach"]).output().exits_with(1).complains("already exists");
    assert_eq!(sandbox.status(&bundle), "running", "a container that exists is not touched");
    checkpoint(&sandbox, &bundle).output().succeeds();
    // Without the memory nothing can be restored.
    let pages = fs::read_dir(images(&sandbox)).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<_> =
        pages.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("pages-")).collect();
    assert!(!pages.is_empty());
    pages.iter().for_each(|path| fs::remove_file(path).unwrap());
    let failed = restore(&sandbox, &bundle, &["--detach"]).stdout(Stdio::null()).output().exits_with(1);
    failed.complains("criu failed: type RESTORE").complains("restore.log says:");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left of the container");
    assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "nor of its cgroups");
    // Its log is still there, and has nothing to do with this.
    let other = restore(&sandbox, &bundle, &["--detach", "--console-socket", "/s"]).output().exits_with(1);
    let other = other.complains("--console-socket needs");
    assert_eq!(other.stderr.lines().count(), 1, "{other}");
}

#[test]
fn a_criu_that_is_killed_leaves_nothing() {
    requires!(is_possible(), "{MISSING}");
    // What CRIU has made of the images by then has its end of the socket, too.
    let hook = "sleep 1; for pid in $(cat /proc/$PPID/task/$PPID/children); do \
                if test $(cat /proc/$pid/comm) = criu; then kill -9 $pid; fi; done";
    for manager in ["disabled", "cgroupfs"] {
        let sandbox = sandbox();
        let bundle = unconfigured(&sandbox, "c").script(COUNTER).hook_script("createRuntime", hook);
        sandbox.launch(&bundle);
        count(&sandbox, &bundle);
        checkpoint(&sandbox, &bundle).output().succeeds();
        let run = runtime(&sandbox).args(["--cgroup-manager", manager, "restore", "--image-path"]);
        let run = run.arg(images(&sandbox)).arg("--bundle").arg(bundle.directory()).arg("--detach");
        let failed = run.arg(bundle.id()).stdout(Stdio::null()).output().exits_with(1);
        failed.complains("criu ended without an answer: killed by signal 9");
        assert!(!sandbox.state_directory().join(bundle.id()).exists(), "nothing is left of the container");
        assert!(sandbox.cgroups(bundle.cgroups_path()).is_empty(), "nor of its cgroups");
    }
}

#[test]
fn a_missing_and_an_old_criu_are_named() {
    requires!(is_root() && find_program("python3").is_some(), "needs root and python3");
    let sandbox = sandbox();
    let bundle = unconfigured(&sandbox, "c").script(COUNTER);
    sandbox.launch(&bundle);
    let with = |path: &Path| {
        let images = sandbox.directory().join("images");
        let run = sandbox.runtime().env("PATH", format!("{}:/usr/bin:/bin", path.display()));
        run.arg("checkpoint").arg("--image-path").arg(images).arg(bundle.id()).output().exits_with(1)
    };
    let place = sandbox.directory().join("bin");
    fs::create_dir(&place).unwrap();
    if !["/usr/bin/criu", "/bin/criu"].iter().any(|path| Path::new(path).exists()) {
        with(&place).complains("no program criu is in PATH");
    }
    // Nobody has one any more, so this one only tells its version.
    let say = |version: &str| {
        let script = format!(
            "#!/usr/bin/python3\nimport socket, sys\ns = socket.socket(fileno=int(sys.argv[2]))\ns.recv(4096)\n\
             s.send(b'\\x08\\x0a\\x10\\x01\\x52\\x04\\x08{version}')\ns.recv(4096)\n"
        );
        fs::write(place.join("criu"), script).unwrap();
        fs::set_permissions(place.join("criu"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    say(r"\x02\x10\x0c");
    with(&place).complains("criu is version 2.12.0, and this runtime needs at least 3.0");
    say(r"\x03\x10\x0f");
    for flag in ["--lsm-profile", "--lsm-mount-context"] {
        let run = sandbox.runtime().env("PATH", format!("{}:/usr/bin:/bin", place.display()));
        let run = run.args(["restore", flag, "selinux:a"]).arg("--bundle").arg(bundle.directory());
        let needs = format!("criu is version 3.15.0, and {flag} needs at least 3.16");
        run.arg("another").output().exits_with(1).complains(&needs);
    }
    fs::write(place.join("criu"), "#!/bin/sh\nexit 1\n").unwrap();
    with(&place).complains("criu ended without an answer: exit status 1");
    // Its end of the socket may be held by what it has made.
    let (flag, late) = (sandbox.directory().join("flag"), sandbox.directory().join("late"));
    let script = format!(
        "#!/usr/bin/python3\nimport os, signal, time\nif os.fork():\n  os.kill(os.getpid(), signal.SIGKILL)\n\
         for _ in range(600):\n  time.sleep(0.05)\n  if os.path.exists('{}'): break\nelse:\n  open('{}', 'w')\n",
        flag.display(),
        late.display()
    );
    fs::write(place.join("criu"), script).unwrap();
    with(&place).complains("criu ended without an answer: killed by signal 9");
    assert!(!late.exists(), "nobody waited for the other end of the socket");
    fs::write(flag, "").unwrap();
    end(&sandbox, &bundle);
}
