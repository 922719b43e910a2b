//! `bulkload ready` says at once that it runs, and ends with its standard input.

use std::io::Read as _;
use std::process::{Command, Stdio};

const BULKLOAD: &str = env!("CARGO_BIN_EXE_bulkload");

#[test]
fn it_is_ready_and_waits() {
    let mut child =
        Command::new(BULKLOAD).arg("ready").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut byte = [0];
    output.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"R");
    assert!(child.try_wait().unwrap().is_none(), "it ended before its input");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
