//! A person at a terminal in which bash runs, in a container or beside it by `exec`.

use std::path::Path;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::{Bundle, Run, Running, Sandbox, is_root, requires, skip};

use crate::debian::{Debian, MISSING};
use crate::{eventually, is_gone, sandbox};

/// What a person types their commands into on the host: it says how the command ended, and goes on.
const HOST: &str = "\"$@\"; echo \"ended with $?\"; read -r line; echo \"host has <$line>\"";

/// A login at the host, whose foreground the runtime is in: the kernel tells it about changes of size.
struct Session<'a> {
    sandbox: &'a Sandbox,
    bundle: &'a Bundle,
    seat: Seat,
    login: Running,
}

impl Session<'_> {
    fn begin<'a>(sandbox: &'a Sandbox, bundle: &'a Bundle, verb: &[&str]) -> Session<'a> {
        let seat = Seat::new(30, 100);
        let login = seat.spawn(login(sandbox, verb));
        seat.screen.shows("> ");
        Session { sandbox, bundle, seat, login }
    }

    fn types(&self, text: &str) {
        self.seat.screen.type_in(text);
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        self.seat.screen.shows(text);
    }

    /// Waits until a program with this command line is in the foreground, so that keys are for it.
    #[track_caller]
    fn is_at_work(&self, command: &str) {
        eventually(&format!("{command} runs"), || {
            let find = ["pgrep", "--full", "--exact", command];
            self.sandbox.exec(self.bundle, find).output().code() == 0
        });
    }

    /// Uses all that a terminal is for.
    fn work(&self) {
        self.types("echo \"the sum is $((40 + 2))\"\n");
        // What is typed before bash asks is a matter of the kernel's, which knows no arrows.
        self.shows("the sum is 42\r\n\u{1b}[?2004h> ");
        self.types("\u{1b}[A\u{7f}\u{7f}\u{7f}\u{7f}5))\"\n");
        self.shows("the sum is 45");
        self.follows_size();
        self.controls_jobs();
        assert!(self.seat.is_raw(), "the host's terminal passes everything on");
    }

    fn follows_size(&self) {
        self.types("echo \"rows $(stty size | tr ' ' ,)\"\n");
        self.shows("rows 30,100");
        self.types(
            "sh -c 'trap \"stty size | tr \\  x\" WINCH; echo wait\"\"ing; while :; do sleep 0.05; done'\n",
        );
        self.shows("waiting");
        self.seat.resize(25, 71);
        self.shows("25x71");
        self.types("\u{3}");
        self.types("echo \"bash has $LINES lines of $COLUMNS\"\n");
        self.shows("bash has 25 lines of 71");
    }

    fn controls_jobs(&self) {
        self.types("sleep 777\n");
        self.is_at_work("sleep 777");
        self.types("\u{1a}");
        self.shows("Stopped");
        self.types("sleep 778 &\n");
        self.is_at_work("sleep 778");
        self.types("jobs -r | tr ' ' _\n");
        self.shows("sleep_778_&");
        self.types("fg %1\n");
        eventually("the first job goes on in the foreground", || {
            let find = ["sh", "-c", "ps -o stat= -p $(pgrep -fx 'sleep 777')"];
            // Between the two letters may stand one for its niceness.
            let state = self.sandbox.exec(self.bundle, find).output().stdout;
            state.starts_with('S') && state.trim_end().ends_with('+')
        });
        self.types("\u{3}");
        self.types("echo \"interrupted: $?\"\n");
        self.shows("interrupted: 130");
        self.types("kill %2; wait; echo \"no jobs: <$(jobs)>\"\n");
        self.shows("no jobs: <>");
    }

    /// Leaves bash with a code and finds the host's terminal as it was.
    fn end(self) {
        self.types("exit 7\n");
        self.shows("ended with 7\r\n");
        self.seat.is_restored();
        self.types("what is typed now\n");
        self.shows("host has <what is typed now>\r\n");
        self.login.wait().succeeds();
    }
}

/// Puts a session of the host together, in which a verb of the runtime runs.
fn login(sandbox: &Sandbox, verb: &[&str]) -> Run {
    let login = sandbox.command("setsid").args(["--ctty", "--wait", "sh", "-c", HOST, "sh"]);
    login.arg(sandbox.runtime_program()).arg("--root").arg(sandbox.state_directory()).args(verb)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_person_works_in_the_bash_of_a_container() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let bundle = debian.bundle(&sandbox, "desk").terminal().args(["bash", "--norc"]);
    let bundle = bundle.env("TERM=xterm").env("PS1=> ");
    let run = ["run", "--bundle", path(bundle.directory()), bundle.id()];
    let session = Session::begin(&sandbox, &bundle, &run);
    session.work();
    session.end();
    is_gone(&sandbox, &bundle);
}

#[test]
fn a_person_works_in_a_bash_beside_the_containers_program() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let bundle = debian.bundle(&sandbox, "desk").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let exec = ["exec", "--tty", "--env", "TERM=xterm", "--env", "PS1=> ", bundle.id(), "bash", "--norc"];
    let session = Session::begin(&sandbox, &bundle, &exec);
    session.work();
    session.end();
    assert_eq!(sandbox.status(&bundle), "running", "the container goes on");
}

#[test]
fn a_container_ends_with_the_terminal_that_it_was_run_in() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let bundle = debian.bundle(&sandbox, "desk").terminal().args(["bash", "--norc"]);
    let bundle = bundle.env("TERM=xterm").env("PS1=> ");
    let run = ["run", "--bundle", path(bundle.directory()), bundle.id()];
    let Session { seat, login, .. } = Session::begin(&sandbox, &bundle, &run);
    seat.screen.type_in("sleep 777\n");
    // As when a window is closed: the kernel sends SIGHUP to the foreground.
    drop(seat);
    login.wait();
    eventually("the container has ended", || !sandbox.state_directory().join(bundle.id()).exists());
    is_gone(&sandbox, &bundle);
}
