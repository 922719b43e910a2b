//! Terminals: relayed in the foreground, handed over by `--console-socket`, and left as they were found.

use bulkhead_testkit::terminal::{Screen, Seat};
use bulkhead_testkit::{Bundle, Desk, Sandbox, is_root, requires, wait_until};
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde_json::json;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Makes a bundle whose container has a terminal in which a script runs.
fn with_terminal(sandbox: &Sandbox, script: &str) -> Bundle {
    sandbox.bundle("tty").terminal().script(script)
}

#[test]
fn what_is_typed_reaches_the_program_and_what_it_says_is_shown() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
    let bundle = with_terminal(&sandbox, "echo ready; read line; echo \"<$line>\"");
    let running = seat.spawn(sandbox.run(&bundle));
    seat.screen.shows("ready\r\n");
    seat.screen.type_in("hello\n");
    // The container's terminal echoes, the caller's does not: else the line would be shown twice.
    seat.screen.shows("ready\r\nhello\r\n<hello>\r\n");
    running.wait().succeeds();
}

#[test]
fn the_callers_terminal_is_raw_meanwhile_and_restored_at_the_end() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
    let bundle = with_terminal(&sandbox, "echo ready; read line; exit 3");
    let running = seat.spawn(sandbox.run(&bundle));
    seat.screen.shows("ready");
    assert!(seat.is_raw(), "the caller's terminal does nothing by itself");
    seat.screen.type_in("\n");
    running.wait().exits_with(3);
    seat.is_restored();
}

#[test]
fn the_callers_terminal_is_restored_when_the_container_is_killed() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
    let bundle = with_terminal(&sandbox, "echo ready; sleep 100");
    let running = seat.spawn(sandbox.run(&bundle));
    seat.screen.shows("ready");
    sandbox.kill(&bundle, "KILL");
    running.wait().exits_with(128 + 9);
    seat.is_restored();
}

#[test]
fn the_callers_terminal_is_restored_when_the_runtime_is_told_to_end() {
    requires!(is_root(), "needs root");
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
        // The first process of a pid namespace dies only of signals that it handles.
        let bundle = with_terminal(
            &sandbox,
            "trap 'exit 9' TERM HUP INT QUIT; echo ready; while :; do sleep 0.05; done",
        );
        let running = seat.spawn(sandbox.run(&bundle));
        seat.screen.shows("ready");
        running.signal(signal);
        running.wait().exits_with(9);
        seat.is_restored();
    }
}

#[test]
fn the_callers_terminal_is_as_before_when_the_container_cannot_start() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
    let bundle = sandbox.bundle("tty").terminal().args(["no-such-program"]);
    let running = seat.spawn(sandbox.run(&bundle));
    running.wait().exits_with(1).complains("executable file not found");
    seat.is_restored();
}

#[test]
fn the_containers_terminal_hangs_up_with_the_callers() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("box").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    // Deaf to SIGHUP, so that only the end of the input ends it.
    let script = "trap '' HUP; echo ready; read line; exit 3";
    let run = with_terminal(&sandbox, script);
    let exec = sandbox.runtime().args(["exec", "--tty", bundle.id(), "sh", "-c", script]);
    for command in [sandbox.run(&run), exec] {
        let seat = Seat::new(24, 80);
        let running = seat.spawn(command);
        seat.screen.shows("ready");
        drop(seat);
        running.wait().exits_with(3);
    }
}

#[test]
fn the_container_has_the_size_of_the_callers_terminal_and_follows_it() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(31, 91));
    let bundle = with_terminal(&sandbox, "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done");
    let running = seat.spawn(sandbox.run(&bundle));
    seat.screen.shows("31 91\r\n");
    seat.resize(17, 44);
    // The kernel sends this to the group in the terminal's foreground; the tests' group is in none.
    running.signal(Signal::WINCH);
    seat.screen.shows("17 44\r\n");
    sandbox.kill(&bundle, "KILL");
    running.wait().exits_with(128 + 9);
}

#[test]
fn without_a_terminal_of_the_callers_the_size_is_the_configurations() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_terminal(&sandbox, "stty size").edit(|config| {
        config["process"]["consoleSize"] = json!({ "height": 21, "width": 83 });
    });
    sandbox.run(&bundle).output().succeeds().prints("21 83\n");
}

#[test]
fn input_that_is_no_terminal_is_typed_in() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_terminal(&sandbox, "stty -echo; read line; echo \"<$line>\"");
    let output = sandbox.run(&bundle).input("from a file\n").output().succeeds();
    assert!(output.stdout.ends_with("<from a file>\n"), "{output}");
}

#[test]
fn lines_end_as_the_program_ends_them() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_terminal(&sandbox, "echo one; printf 'two\\r\\n'");
    sandbox.run(&bundle).output().succeeds().prints("one\ntwo\r\n");
    let bundle = sandbox.bundle("box").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let exec = sandbox.runtime().args(["exec", "--tty", bundle.id(), "echo", "one"]);
    exec.output().succeeds().prints("one\n");
}

#[test]
fn nothing_of_a_long_output_is_lost() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_terminal(&sandbox, "seq 1 30000");
    let output = sandbox.run(&bundle).output().succeeds();
    let expected: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    assert!(output.stdout == expected, "every line arrives once, and in order");
}

#[test]
fn a_reader_that_does_not_read_keeps_the_runtime_only_until_it_is_told_to_end() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    // More than the pipe takes, less than the pipe and the relay take together.
    let bundle = with_terminal(&sandbox, "seq 1 15000");
    let (_reader, writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::WRONLY | OFlags::NONBLOCK).unwrap();
    let running = sandbox.run(&bundle).stdout(writer).spawn();
    // The state is not there from the first moment on.
    let state = || sandbox.runtime().args(["state", bundle.id()]).output().stdout;
    wait_until("the program ends", || state().contains("\"stopped\""));
    let is = |letter: char| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
        stat.contains(&format!(") {letter} "))
    };
    wait_until("the runtime sleeps", || is('S'));
    // A signal that comes before the runtime has noticed the end is still the program's.
    wait_until("the runtime ends when it is told to", || {
        running.signal(Signal::TERM);
        is('Z')
    });
    running.wait().succeeds();
}

#[test]
fn control_c_interrupts_the_program_and_not_the_runtime() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
    let script = "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.05; done";
    let bundle = with_terminal(&sandbox, script);
    let running = seat.spawn(sandbox.run(&bundle));
    seat.screen.shows("ready");
    seat.screen.type_in("\u{3}");
    seat.screen.shows("interrupted");
    running.wait().exits_with(7);
}

#[test]
fn a_shell_controls_its_jobs() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
    let bundle = sandbox.bundle("tty").terminal().args(["sh", "-i"]).env("PS1=> ");
    let running = seat.spawn(sandbox.run(&bundle));
    seat.screen.shows("> ");
    seat.screen.type_in("sleep 77\n");
    wait_until("the job runs", || {
        let list = sandbox.exec(&bundle, ["ps", "-o", "args"]).output().stdout;
        list.lines().any(|line| line == "sleep 77")
    });
    seat.screen.type_in("\u{1a}");
    seat.screen.shows("Stopped");
    seat.screen.type_in("jobs; kill %1; fg; exit 5\n");
    seat.screen.shows("Terminated");
    running.wait().exits_with(5);
}

#[test]
fn the_terminal_is_the_containers_own() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let script = "tty; stat -c '%t:%T' /dev/console $(tty); echo again > /dev/tty; readlink /proc/self/fd/0";
    let bundle = with_terminal(&sandbox, script);
    let expected = "/dev/pts/0\n88:0\n88:0\nagain\n/dev/pts/0\n";
    sandbox.run(&bundle).output().succeeds().prints(expected);
}

#[test]
fn the_terminal_belongs_to_the_containers_user() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_terminal(&sandbox, "stat -c %u $(tty); echo again > $(tty)").user(1000, 1000);
    sandbox.run(&bundle).output().succeeds().prints("1000\nagain\n");
}

#[test]
fn a_terminal_without_devpts_is_a_sentence() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_terminal(&sandbox, "true").edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "devpts");
    });
    sandbox.run(&bundle).output().exits_with(1).complains("devpts mounted at /dev/pts");
}

/// Takes the terminal that arrives: one message with one descriptor, and the end of the stream.
fn terminal_at(desk: &Desk) -> Screen {
    let arrival = desk.takes();
    assert_eq!(String::from_utf8_lossy(&arrival.bytes), "/dev/pts/ptmx", "the message names the master");
    Screen::of(arrival.alone())
}

#[test]
fn create_hands_the_terminal_over() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let desk = Desk::at(sandbox.directory().join("console.sock"));
    let bundle = with_terminal(&sandbox, "stty size; read line; echo \"<$line>\"").edit(|config| {
        config["process"]["consoleSize"] = json!({ "height": 12, "width": 34 });
    });
    let create = sandbox.runtime().arg("create").arg("--console-socket").arg(desk.path());
    let create = create.arg("--bundle").arg(bundle.directory()).arg(bundle.id()).spawn();
    let screen = terminal_at(&desk);
    create.wait().succeeds();
    sandbox.start(&bundle);
    screen.shows("12 34\r\n");
    screen.type_in("hello\n");
    screen.shows("<hello>\r\n");
}

#[test]
fn a_detached_run_hands_the_terminal_over() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let desk = Desk::at(sandbox.directory().join("console.sock"));
    let bundle = with_terminal(&sandbox, "echo here; sleep 100");
    let run = sandbox.runtime().args(["run", "--detach", "--console-socket"]).arg(desk.path());
    let run = run.arg("--bundle").arg(bundle.directory()).arg(bundle.id()).spawn();
    terminal_at(&desk).shows("here\r\n");
    run.wait().succeeds();
}

#[test]
fn a_socket_that_nobody_listens_at_ends_the_creation() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = with_terminal(&sandbox, "true");
    let create =
        sandbox.runtime().arg("create").arg("--console-socket").arg(sandbox.directory().join("none"));
    create.arg("--bundle").arg(bundle.directory()).arg(bundle.id()).output().exits_with(1).complains("/none");
}

/// The hook holds the runtime up after the program has started, which must have found the size already.
#[test]
fn a_program_that_asks_at_once_is_told_the_size() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(17, 71));
    let asked = sandbox.directory().join("asked");
    let script = format!("stty size; touch {}", asked.display());
    let bundle = with_terminal(&sandbox, &script);
    let bundle = bundle.bind(sandbox.directory(), sandbox.directory().to_str().unwrap(), &["rw"]);
    let hook = format!("until test -e {}; do sleep 0.01; done", asked.display());
    let running =
        seat.spawn(sandbox.run(&bundle.hook_script("poststart", &format!("PATH=/bin:/usr/bin; {hook}"))));
    seat.screen.shows("17 71\r\n");
    running.wait().succeeds();
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(41, 99));
    let bundle = sandbox.bundle("box").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let script = "tty; stty size; read line; echo \"<$line>\"; exit 4";
    let running = seat.spawn(sandbox.runtime().args(["exec", "--tty", bundle.id(), "sh", "-c", script]));
    seat.screen.shows("/dev/pts/0\r\n41 99\r\n");
    assert!(seat.is_raw(), "the caller's terminal does nothing by itself");
    seat.screen.type_in("hello\n");
    seat.screen.shows("<hello>\r\n");
    running.wait().exits_with(4);
    seat.is_restored();
}

#[test]
fn exec_follows_the_size_and_is_interrupted_by_control_c() {
    requires!(is_root(), "needs root");
    let (sandbox, seat) = (sandbox(), Seat::new(24, 80));
    let bundle = sandbox.bundle("box").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let running = seat.spawn(sandbox.runtime().args(["exec", "-t", bundle.id(), "sh", "-c", script]));
    seat.screen.shows("ready");
    seat.resize(10, 20);
    running.signal(Signal::WINCH);
    seat.screen.shows("10 20\r\n");
    seat.screen.type_in("\u{3}");
    running.wait().exits_with(128 + 2);
    seat.is_restored();
}

#[test]
fn a_process_document_sets_the_size_of_execs_terminal() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("box").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let file = sandbox.directory().join("process.json");
    let process = json!({
        "terminal": true, "consoleSize": { "height": 5, "width": 6 },
        "args": ["stty", "size"], "cwd": "/", "env": ["PATH=/bin"],
    });
    std::fs::write(&file, process.to_string()).unwrap();
    let run = sandbox.runtime().arg("exec").arg("--process").arg(&file).arg(bundle.id());
    run.output().succeeds().prints("5 6\n");
}

#[test]
fn a_detached_exec_hands_the_terminal_over() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let desk = Desk::at(sandbox.directory().join("console.sock"));
    let bundle = sandbox.bundle("box").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let exec = sandbox.runtime().args(["exec", "--detach", "--tty", "--console-socket"]).arg(desk.path());
    let exec = exec.args([bundle.id(), "sh", "-c", "tty; read line; echo \"<$line>\""]).spawn();
    let screen = terminal_at(&desk);
    exec.wait().succeeds();
    screen.shows("/dev/pts/0\r\n");
    screen.type_in("hello\n");
    screen.shows("<hello>\r\n");
}

#[test]
fn a_detached_exec_with_a_terminal_needs_a_socket() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("box").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let exec = sandbox.runtime().args(["exec", "--detach", "--tty", bundle.id(), "true"]);
    exec.output().exits_with(255).complains("--console-socket");
}
