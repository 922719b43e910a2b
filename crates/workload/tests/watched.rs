//! `bulkload mix` does its work when it is told to, and `bulkload held` stops before it becomes another program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testkit::Scratch;

const BULKLOAD: &str = env!("CARGO_BIN_EXE_bulkload");

fn started(words: &[&str]) -> Child {
    let mut command = Command::new(BULKLOAD);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn byte_of(child: &mut Child) -> u8 {
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    byte[0]
}

#[test]
fn the_mix_begins_when_it_is_told_to_and_leaves_no_file() {
    let scratch = Scratch::new();
    let place = scratch.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let mut child = started(&["mix", "--directory", &place.display().to_string()]);
    assert_eq!(byte_of(&mut child), b'R');
    child.stdin.as_mut().unwrap().write_all(b"g").unwrap();
    assert_eq!(byte_of(&mut child), b'D');
    assert!(child.try_wait().unwrap().is_none(), "it ended before its input");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let left = Vec::from_iter(place.read_dir().unwrap().flatten().map(|entry| entry.file_name()));
    assert!(left.is_empty(), "files are left: {left:?}");
}

#[test]
fn a_mix_that_is_never_told_to_begin_ends_with_its_input() {
    let mut child = started(&["mix", "--directory", "/nowhere"]);
    assert_eq!(byte_of(&mut child), b'R');
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_held_becomes_the_program_when_it_is_let_go() {
    let mut child = started(&["held", BULKLOAD, "ready"]);
    let status = format!("/proc/{}/status", child.id());
    let end = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&status).unwrap().contains("State:\tT") {
        assert!(Instant::now() < end, "it does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-CONT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(byte_of(&mut child), b'R');
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
