//! The commands that make containers, run as a user would.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testkit::skip::find_program;
use bulkhead_testkit::{Scratch, is_root, requires};
use rustix::process::{Pid, Signal};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// The `bulkrun` of the same build; cargo builds it beside xtask when it builds the whole workspace.
fn bulkrun() -> Option<PathBuf> {
    let beside = Path::new(XTASK).with_file_name("bulkrun");
    beside.exists().then_some(beside)
}

/// Copies of both programs where every user may read them, removed at the end.
struct Programs(Scratch);

impl Programs {
    fn copied() -> Self {
        let scratch = Scratch::new();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for program in [PathBuf::from(XTASK), bulkrun().unwrap()] {
            fs::copy(&program, scratch.path().join(program.file_name().unwrap())).unwrap();
        }
        Self(scratch)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// `words` before the demo choose who runs it and where.
fn demo(before: &[&str], programs: &Programs, command: &[&str]) -> Output {
    demo_command(before, programs, command).output().unwrap()
}

fn demo_command(before: &[&str], programs: &Programs, command: &[&str]) -> Command {
    let xtask = programs.path("xtask");
    let bulkrun = programs.path("bulkrun");
    let words = [before, &[xtask.as_str(), "demo", "--runtime", bulkrun.as_str(), "--"], command].concat();
    let mut demo = Command::new(words[0]);
    demo.args(&words[1..]).current_dir("/");
    demo
}

/// A demo whose container says that it runs, and goes on until it is ended from outside.
struct Sleeping {
    xtask: Child,
    output: BufReader<ChildStdout>,
}

impl Sleeping {
    fn start(programs: &Programs) -> Self {
        let mut demo = demo_command(&["env"], programs, &["sh", "-c", "echo runs; sleep 1000; sleep 1000"]);
        // A group of its own, as under a shell: signals meant for the demo do not reach the test.
        let demo = demo.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut xtask = demo.spawn().unwrap();
        let mut output = BufReader::new(xtask.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "runs\n", "the demo's first line");
        Self { xtask, output }
    }

    fn layer(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/bh-demo-{}-0", self.xtask.id()))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.xtask)
    }

    /// Waits for its end; returns its code and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.xtask.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        self.output.read_to_string(&mut text).unwrap();
        (self.xtask.wait().unwrap().code(), text)
    }
}

/// Asserts success and returns what was printed.
fn printed(output: &Output) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the demo failed:\n{text}");
    text
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

const USER: &[&str] = &["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"];

#[test]
fn the_tour_shows_both_sides_and_leaves_nothing() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    let text = printed(&demo(&["env"], &programs, &[]));
    assert_has(&text, &["in the container", "its own cgroup ipc mnt net pid time uts", "512 MiB", "start: "]);
    assert_has(&text, &["left on the host: nothing"]);
    assert!(!Path::new("/etc/bulkhead-demo").exists(), "the container wrote to the host");
}

#[test]
fn an_ordinary_user_gets_a_user_namespace() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    let as_user = |command: &[&str]| demo(USER, &programs, command);
    requires!(
        Command::new(USER[0])
            .args(&USER[1..])
            .args(["unshare", "-r", "true"])
            .output()
            .unwrap()
            .status
            .success(),
        "needs user namespaces for ordinary users"
    );
    let text = printed(&as_user(&[]));
    assert_has(&text, &["0, which is 54321 outside", "net pid time user uts", "left on the host: nothing"]);
    let text = printed(&as_user(&["sh", "-c", ": > /etc/new && : > /usr/new && ls /etc/new /usr/new"]));
    assert_has(&text, &["/etc/new", "/usr/new", "left on the host: nothing"]);
}

#[test]
fn root_of_a_user_namespace_is_an_ordinary_user() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    let text = printed(&demo(&["unshare", "--user", "--map-root-user"], &programs, &["id", "-u"]));
    assert_has(&text, &["no cgroup limits", "left on the host: nothing"]);
}

#[test]
fn without_submounts_the_root_is_one_overlay() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    // Everything but /, /proc, /sys and /dev is unmounted in a mount namespace of its own.
    let script = r#"
while read -r id parent device root point rest; do
  case $point in /|/proc|/proc/*|/sys|/sys/*|/dev|/dev/*) ;; *) points="$point $points";; esac
done < /proc/self/mountinfo
for point in $points; do umount -l "$point"; done
exec "$0" "$@""#;
    let before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script];
    let text =
        printed(&demo(&before, &programs, &["sh", "-c", ": > /new-file && head -n 1 /proc/self/mounts"]));
    assert_has(&text, &["root: an overlay over /", "overlay / overlay", "left on the host: nothing"]);
    assert!(!Path::new("/new-file").exists(), "the container wrote to the host");
}

#[test]
fn the_commands_code_is_the_demos() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    let output = demo(&["env"], &programs, &["sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let output = demo(&["env"], &programs, &["/no/such/program"]);
    assert_ne!(output.status.code(), Some(0), "a program that is not there was run");
    assert_has(&String::from_utf8_lossy(&output.stderr), &["/no/such/program"]);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    for (signal, to_all, code) in
        [(Signal::INT, true, 130), (Signal::TERM, false, 143), (Signal::HUP, false, 129)]
    {
        // What nohup or a script's `&` makes the test ignore, the demo would ignore too.
        bulkhead_sys::signal::reset(signal.as_raw()).unwrap();
        let demo = Sleeping::start(&programs);
        let layer = demo.layer();
        assert!(layer.exists(), "{} is not there while the demo runs", layer.display());
        if to_all {
            rustix::process::kill_process_group(demo.pid(), signal).unwrap();
        } else {
            rustix::process::kill_process(demo.pid(), signal).unwrap();
        }
        let (ended, text) = demo.end();
        assert_eq!(ended, Some(code), "{signal:?}: {text}");
        assert_has(&text, &["left on the host: nothing", "error: interrupted by SIG"]);
        assert!(!layer.exists(), "{signal:?} leaves {}", layer.display());
    }
}

#[test]
fn a_demo_clears_away_what_a_killed_one_left() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    let killed = Sleeping::start(&programs);
    let layer = killed.layer();
    let id = layer.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(in_cgroups_of(&id) > 0, "the container runs in cgroups of its name");
    rustix::process::kill_process(killed.pid(), Signal::KILL).unwrap();
    let Sleeping { mut xtask, output } = killed;
    xtask.wait().unwrap();
    printed(&demo(&["env"], &programs, &["true"]));
    // A demo of another test may have been faster, and not be done yet.
    let end = Instant::now() + Duration::from_secs(60);
    while layer.exists() || in_cgroups_of(&id) > 0 {
        assert!(Instant::now() < end, "the container or {} is still there", layer.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(output);
}

/// How many processes are in cgroups that are named after the container.
fn in_cgroups_of(id: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let cgroups = processes.filter_map(|process| fs::read_to_string(process.path().join("cgroup")).ok());
    cgroups.filter(|cgroups| cgroups.contains(id)).count()
}

#[test]
fn the_demos_own_lines_stay_out_of_the_commands_output() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    let programs = Programs::copied();
    let output = demo(&["env"], &programs, &["echo", "hello"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    assert_has(&String::from_utf8_lossy(&output.stderr), &["root: ", "start: ", "left on the host: nothing"]);
    let output = demo(&["env"], &programs, &["sh", "-c", "exit 7"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("start: "), "the time of a start is no answer to a failure: {text}");
}

#[test]
fn the_host_is_out_of_reach_through_sockets() {
    requires!(is_root(), "needs root");
    requires!(bulkrun().is_some(), "needs bulkrun beside xtask: cargo build --workspace");
    requires!(find_program("python3").is_some(), "needs python3");
    let programs = Programs::copied();
    let socket = programs.0.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let connect = format!(
        "import socket; s = socket.socket(socket.AF_UNIX); print('errno', s.connect_ex('{}'))",
        socket.display()
    );
    let text = printed(&demo(&["env"], &programs, &["python3", "-c", &connect]));
    // Through an overlay a socket is another inode, on which nobody listens (ECONNREFUSED).
    assert_has(&text, &["errno 111"]);
}

/// Runs the benchmark on one platform and returns what it printed.
fn benchmark(platform: &str, blocks: &str) -> String {
    let words = ["bench", "start", "--blocks", blocks, "--only", platform];
    let text = printed(&Command::new(XTASK).args(words).output().unwrap());
    assert_has(&text, &[platform, &format!("{blocks} blocks isolated"), "raw data: "]);
    assert!(!text.contains("failed"), "{text}");
    text
}

/// What the benchmark needs, for `requires!`.
fn can_measure() -> bool {
    is_root() && ["gcc", "busybox", "strace"].iter().all(|program| find_program(program).is_some())
}

#[test]
fn the_benchmark_measures_the_floor() {
    requires!(can_measure(), "needs root, gcc, busybox and strace");
    benchmark("floor", "2");
}

/// What a start may cost at most, as far as that does not depend on how fast the machine is (docs/performance.md).
#[test]
fn a_start_keeps_within_its_budget() {
    requires!(can_measure(), "needs root, gcc, busybox and strace");
    let text = benchmark("bulkrun", "7");
    // Behind the times come CPU, peak RSS, system calls, tasks, and the least limits to create and to run.
    let row = text.lines().find(|line| line.starts_with("| bulkrun ") && line.contains('[')).unwrap();
    let numbers: Vec<_> = row.rsplit('|').skip(1).take(5).map(|cell| cell.trim().parse::<u64>()).collect();
    let [Ok(run), Ok(create), Ok(tasks), Ok(calls), Ok(peak)] = numbers[..] else { panic!("{row}") };
    let size = text.split_once("one static file of ").and_then(|(_, rest)| rest.split(' ').next()).unwrap();
    let size: u64 = size.parse().unwrap();
    for (what, found, most) in [
        ("KiB of the program", size, 2056),
        ("KiB of peak RSS", peak, 2048),
        ("system calls", calls, 450),
        ("tasks", tasks, 2),
        ("KiB to create", create, 256),
        ("KiB to run", run, 320),
    ] {
        assert!(found <= most, "{found} {what}, and at most {most} are allowed\n{text}");
    }
}

#[test]
fn help_names_every_command() {
    for arguments in [&["--help"][..], &["help"], &[]] {
        let output = Command::new(XTASK).args(arguments).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_has(&text, &["rustup", "bench start", "demo", "peers", "test [--yes]", "tidy"]);
    }
    let output = Command::new(XTASK).arg("nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_has(&String::from_utf8_lossy(&output.stderr), &["no command nonsense", "cargo xtask --help"]);
}

#[test]
fn every_command_helps() {
    for command in ["bench", "debian", "demo", "engines", "faults", "images", "peers", "test", "tidy", "vm"] {
        let output = Command::new(XTASK).args([command, "--help"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{command} refuses to help: {output:?}");
        assert!(text.contains(&format!("usage: cargo xtask {command}")), "{command} says {text:?}");
    }
}
