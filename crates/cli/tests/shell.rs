//! The program as it meets people and their shells: help, mistakes, completions, the manual, the version.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

use std::process::{Command, Output, Stdio};

use bulkhead_testkit::skip::find_program;
use bulkhead_testkit::{Scratch, skip};

fn bulkhead(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead")).args(words).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn said(words: &[&str]) -> String {
    let output = bulkhead(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is said of a mistake, and the code.
#[track_caller]
fn refused(words: &[&str]) -> (String, Option<i32>) {
    let output = bulkhead(words);
    assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn help_fits_a_screen() {
    for words in [&[][..], &["--help"], &["-h"], &["help"]] {
        let text = said(words);
        assert!(text.lines().count() <= 40, "{words:?} is too long:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{words:?} is too wide:\n{text}");
        assert!(text.contains("--help"), "{words:?} leads nowhere:\n{text}");
    }
    assert_eq!(said(&["help", "version"]), said(&["version", "--help"]));
    for verb in [
        "run",
        "ps",
        "exec",
        "logs",
        "stop",
        "start",
        "restart",
        "rm",
        "create",
        "attach",
        "kill",
        "pause",
        "wait",
        "rename",
        "top",
        "stats",
        "diff",
        "export",
        "images",
        "pull",
        "push",
        "login",
        "load",
        "save",
        "tag",
        "rmi",
        "history",
        "inspect",
        "events",
        "version",
        "container prune",
        "volume create",
        "system prune",
    ] {
        let words = Vec::from_iter(verb.split(' ').chain(["--help"]));
        let text = said(&words);
        assert!(text.lines().count() <= 40, "the help of {verb} is too long:\n{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "the help of {verb} is too wide:\n{text}"
        );
    }
    let text = said(&["run", "--help"]);
    assert!(text.contains("--rm") && !text.contains("--blkio-weight"), "{text}");
    assert!(text.contains("`bulkhead help run` tells of all"), "{text}");
    let whole = said(&["help", "run"]);
    assert!(whole.contains("--blkio-weight-device") && whole.contains("Isolation:"), "{whole}");
    assert_eq!(said(&["help", "container", "run"]).lines().count(), whole.lines().count());
}

#[test]
fn five_commands_come_first() {
    let text = said(&[]);
    let names = Vec::from_iter(text.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()));
    assert_eq!(names, ["run", "ps", "exec", "logs", "images"]);
}

#[test]
fn colour_is_for_terminals_alone() {
    let red = "\u{1b}[1;31merror:\u{1b}[0m";
    let told = |environment: &[(&str, &str)]| {
        // script(1) runs it at a terminal.
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{} frobnicate", env!("CARGO_BIN_EXE_bulkhead")), "/dev/null"]);
        command.env_remove("NO_COLOR").envs(environment.iter().copied()).stdin(Stdio::null());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    if find_program("script").is_none() {
        skip!("there is no script(1), which makes terminals");
    }
    assert!(told(&[]).starts_with(red), "{:?}", told(&[]));
    assert!(told(&[("NO_COLOR", "1")]).starts_with("error: "), "{:?}", told(&[("NO_COLOR", "1")]));
    let (text, _) = refused(&["frobnicate"]);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let (text, _) = refused(&["version", "--no-such-flag"]);
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn mistyped_commands_are_met_with_what_was_meant() {
    let expected = "error: bulkhead has no command vresion\nhint: did you mean `bulkhead version`?\n";
    assert_eq!(refused(&["vresion"]), (expected.to_owned(), Some(125)));
    let (text, _) = refused(&["frobnicate"]);
    assert!(text.ends_with("hint: `bulkhead --help` lists the commands\n"), "{text}");
    // Of docker's own that are not there.
    for (words, expected) in [
        (&["build", "."][..], "error: bulkhead has no command build\nhint: another program builds images: "),
        (&["swarm", "init"], "error: bulkhead has no command swarm\nhint: this is one machine's engine"),
        (&["plugin", "ls"], "error: bulkhead has no command plugin\nhint: there are no plugins"),
    ] {
        let (text, code) = refused(words);
        assert!(text.starts_with(expected) && code == Some(125), "{text}");
    }
    let (text, code) = refused(&["version", "--frmat", "json"]);
    assert!(text.contains("'--frmat'") && text.contains("--format"), "{text}");
    assert_eq!(code, Some(125));
}

#[test]
fn the_version_is_told_as_is_asked_for() {
    let number = env!("CARGO_PKG_VERSION");
    assert_eq!(said(&["--version"]), format!("bulkhead {number}\n"));
    assert!(said(&["version"]).starts_with(&format!("bulkhead {number}\n")));
    for template in ["{{.Client.Version}}", "{{ .Server.Version | upper }}"] {
        assert_eq!(said(&["version", "--format", template]), format!("{number}\n"));
    }
    let json: serde_json::Value = serde_json::from_str(&said(&["version", "-f", "json"])).unwrap();
    assert_eq!(json["Client"]["Version"], number);
    let (text, code) = refused(&["version", "--format", "{{.Client.Nope}}"]);
    assert!(
        text.starts_with("error: template, character 10: there is no field Nope: there are APIVersion, "),
        "{text}"
    );
    assert_eq!(code, Some(125));
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&["completion", shell]);
        for word in ["version", "completion", "measure"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let Some(bash) = find_program("bash") else { skip!("there is no bash") };
    let words = "source /dev/stdin; COMP_WORDS=(bulkhead vers); COMP_CWORD=1; _bulkhead bulkhead vers bulkhead; echo ${COMPREPLY[@]}";
    let mut child = Command::new(bash);
    child.args(["--norc", "-c", words]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), said(&["completion", "bash"]).as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "version\n", "bash completes what was begun");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("man1");
    said(&["man", directory.to_str().unwrap()]);
    for page in ["bulkhead", "bulkhead-version", "bulkhead-measure", "bulkhead-measure-run"] {
        let text = std::fs::read_to_string(directory.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")), "{page} has no title:\n{text}");
        assert!(text.contains(".SH SYNOPSIS"), "{page} has no synopsis:\n{text}");
    }
}

#[test]
fn an_output_that_nobody_reads_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = child.args(["completion", "bash"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}
