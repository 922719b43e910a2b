//! The program `fake-enosys`.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};

fn fake_enosys(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fake-enosys")).args(arguments).output().unwrap()
}

#[test]
fn chosen_calls_fail_in_the_command_and_below() {
    let output = fake_enosys(&["mkdir,mkdirat", "--", "sh", "-c", "mkdir /tmp/never; echo survived"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "survived\n");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("Function not implemented"), "{complaint}");
}

#[test]
fn a_call_fails_with_the_errno_that_is_asked_for() {
    let output = fake_enosys(&["mkdir=EROFS,mkdirat=30", "--", "mkdir", "/tmp/never"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("Read-only file system"), "{complaint}");
}

#[test]
fn the_exit_code_is_the_commands() {
    assert_eq!(fake_enosys(&["clone3", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
}

#[test]
fn a_wrong_use_is_explained() {
    for (arguments, sentence) in [
        (&[][..], "usage: fake-enosys"),
        (&["clone3"], "usage: fake-enosys"),
        (&["clone3", "true", "true"], "usage: fake-enosys"),
        (&["clone4", "--", "true"], "unknown system call \"clone4\""),
        (&["clone3=ENOWAY", "--", "true"], "unknown errno \"ENOWAY\""),
        (&["clone3", "--", "/no/such/program"], "run /no/such/program: No such file or directory"),
    ] {
        let output = fake_enosys(arguments);
        assert_eq!(output.status.code(), Some(127), "for {arguments:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.starts_with(&format!("fake-enosys: {sentence}")), "{complaint}");
    }
}
