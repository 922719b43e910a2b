//! What callers see of the program itself: exit codes, stdout, stderr and the log.

#![expect(clippy::expect_used, reason = "a test may panic, and its helpers too")]

use std::io::Read;
use std::process::{Command, Output, Stdio};

const BULKRUN: &str = env!("CARGO_BIN_EXE_bulkrun");

fn bulkrun(line: &str) -> Output {
    Command::new(BULKRUN).args(line.split_whitespace()).output().expect("bulkrun can be started")
}

fn stdout(line: &str) -> String {
    let output = bulkrun(line);
    assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    assert_eq!(output.stderr, b"", "{line} complains");
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

/// The message of the only line on stderr, and the exit code.
fn complaint(line: &str) -> (String, Option<i32>) {
    let output = bulkrun(line);
    assert_eq!(output.stdout, b"", "{line} prints something");
    let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
    let message = stderr.split_once(" level=error msg=").expect("the line is logrus's").1;
    (message.trim_end().to_owned(), output.status.code())
}

/// A directory that goes away.
struct Scratch(bulkhead_testkit::Scratch);

impl Scratch {
    fn new() -> Self {
        Self(bulkhead_testkit::Scratch::new())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).into_os_string().into_string().expect("the path is UTF-8")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).expect("the file can be read")
    }
}

#[test]
fn the_version_is_what_engines_read() {
    let expected = format!("bulkrun version {}\nspec: 1.3.0\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout("--version"), expected);
    assert_eq!(stdout("-v"), expected);
}

#[test]
fn help_goes_to_stdout_and_is_no_failure() {
    assert!(stdout("").starts_with("NAME:\n   bulkrun - "));
    assert_eq!(stdout("--help"), stdout(""));
    assert!(stdout("exec --help").contains("\nUsage: bulkrun exec [OPTIONS] CONTAINER"));
    assert!(stdout("completion bash").contains("complete -F _bulkrun bulkrun"));
    assert!(stdout("man").starts_with(".TH BULKRUN 8"));
}

#[test]
fn a_bad_command_line_ends_with_1_and_one_line() {
    assert_eq!(complaint("frobnicate"), (r#""unknown command \"frobnicate\"""#.to_owned(), Some(1)));
    assert_eq!(complaint("state a/b").1, Some(1));
    assert_eq!(complaint("exec").1, Some(1));
    assert_eq!(complaint("--root= list").1, Some(1));
}

#[test]
fn a_container_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    for verb in ["state", "start", "kill", "pause", "resume", "delete", "ps", "update", "events"] {
        let (message, code) = complaint(&format!("--root {root} {verb} nobody"));
        assert_eq!(message, r#""container does not exist: \"nobody\"""#, "{verb}");
        assert_eq!(code, Some(1), "{verb}");
    }
    let (message, code) = complaint(&format!("--root {root} exec nobody sh"));
    assert!(message.contains(r#"container does not exist: \"nobody\""#), "{message}");
    assert_eq!(code, Some(255), "a failure of exec itself is 255");
    let output = bulkrun(&format!("--root {root} delete --force nobody"));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(!scratch.0.path().join("root").exists(), "looking made a root");
}

#[test]
fn a_log_file_gets_json_lines_and_stderr_the_sentence() {
    let scratch = Scratch::new();
    let log = scratch.path("log.json");
    let root = scratch.path("root");
    for _ in 0..2 {
        let output = bulkrun(&format!("--log {log} --log-format json --root {root} state nobody"));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stderr, b"container does not exist: \"nobody\"\n");
    }
    let text = scratch.read("log.json");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "the log is appended to: {text}");
    for line in lines {
        let start = r#"{"level":"error","msg":"container does not exist: \"nobody\"","time":"20"#;
        assert!(line.starts_with(start) && line.ends_with("Z\"}"), "{line}");
    }
}

#[test]
fn with_a_log_alone_stderr_is_left_to_the_container() {
    let scratch = Scratch::new();
    let (log, root) = (scratch.path("log"), scratch.path("root"));
    let output = bulkrun(&format!("--log-only --log {log} --root {root} exec nobody true"));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(255), &b""[..]));
    assert!(scratch.read("log").contains("exec failed: container does not exist"), "it is told there");
    let output = bulkrun(&format!("--log-only --root {root} state nobody"));
    assert!(!output.stderr.is_empty(), "without a file there is no other place");
}

#[test]
fn a_log_file_gets_what_is_wrong_with_the_command_line_too() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    bulkrun(&format!("--log {log} create"));
    let text = scratch.read("log");
    assert!(text.contains(r#" level=error msg="\"create\" requires exactly 1 argument(s)"#), "{text}");
}

#[test]
fn a_log_that_cannot_be_opened_is_said_on_stderr() {
    let (message, code) = complaint("--log /nowhere/log --version");
    assert_eq!(message, r#""open log file /nowhere/log: the kernel says: no such file or directory""#);
    assert_eq!(code, Some(1));
}

#[test]
fn deprecated_flags_are_accepted_with_a_warning() {
    let output = bulkrun("--criu /x --version");
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(r#"level=warning msg="--criu ignored"#), "{stderr}");
    let quiet = bulkrun("--log-level error --criu /x --version");
    assert_eq!(quiet.stderr, b"", "the warning is below the level");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(BULKRUN)
        .arg("man")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bulkrun can be started");
    drop(child.stdout.take());
    let mut complaints = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut complaints).expect("messages are UTF-8");
    assert!(child.wait().expect("bulkrun ends").success(), "{complaints}");
    assert_eq!(complaints, "");
}

#[test]
fn features_are_json_that_engines_read() {
    let features: serde_json::Value = serde_json::from_str(&stdout("features")).expect("features are JSON");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}

#[test]
fn a_list_of_nothing_is_empty() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    assert_eq!(stdout(&format!("--root {root} list --quiet")), "");
    assert_eq!(
        stdout(&format!("--root {root} list")),
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    );
    assert_eq!(stdout(&format!("--root {root} list -f json")), "[]\n");
}

#[test]
fn spec_writes_a_configuration_once() {
    let scratch = Scratch::new();
    let bundle = scratch.path("");
    assert_eq!(stdout(&format!("spec --bundle {bundle}")), "");
    let first = scratch.read("config.json");
    let config: serde_json::Value = serde_json::from_str(&first).expect("the configuration is JSON");
    assert_eq!(config["process"]["args"][0], "sh");
    let (message, code) = complaint(&format!("spec --bundle {bundle}"));
    assert_eq!(message, r#""File config.json exists. Remove it first""#);
    assert_eq!(code, Some(1));
    assert_eq!(scratch.read("config.json"), first);
}

#[test]
fn spec_does_not_write_through_a_link() {
    let scratch = Scratch::new();
    std::os::unix::fs::symlink(scratch.path("elsewhere"), scratch.path("config.json")).expect("make a link");
    let (message, _) = complaint(&format!("spec --rootless --bundle {}", scratch.path("")));
    assert_eq!(message, r#""File config.json exists. Remove it first""#);
    assert!(!scratch.0.path().join("elsewhere").exists(), "the link was followed");
}
