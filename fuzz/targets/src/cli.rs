//! No command line makes the parser panic, and what it accepts keeps what its types promise.
//!
//! The input is the arguments with a NUL between them, as in /proc/PID/cmdline.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bulkhead_runtime::cli::{self, Command, EventsOutput, ExecProcess, Targets};

/// Runs the target.
pub fn run(input: &[u8]) {
    let arguments = input.split(|&byte| byte == 0).map(|bytes| OsString::from_vec(bytes.to_vec()));
    match cli::parse(arguments) {
        Ok(invocation) => check(&invocation.command),
        Err(rejected) => {
            let sentence = rejected.error.to_string();
            assert!(!sentence.chars().any(char::is_control), "{sentence:?} could move a cursor");
        }
    }
}

fn check(command: &Command) {
    match command {
        Command::Create(options) => check_id(options.id.as_str()),
        Command::Run(options) => check_id(options.create.id.as_str()),
        Command::Kill(options) => {
            assert!((0..=64).contains(&options.signal.number()));
            check_targets(&options.targets);
        }
        Command::Delete(options) => check_targets(&options.targets),
        Command::Events(options) => {
            assert!(!matches!(options.output, EventsOutput::Stream(interval) if interval.is_zero()));
        }
        Command::Exec(options) => {
            check_id(options.id.as_str());
            if let ExecProcess::Command(process) = &options.process {
                assert!(!process.args.is_empty());
                let gid = process.user.and_then(|user| user.gid);
                let uid = process.user.map(|user| user.uid);
                let ids = process.additional_gids.iter().copied().chain(uid).chain(gid);
                assert!(ids.into_iter().all(|id| id != u32::MAX));
            }
        }
        Command::Help(topic) => assert!(!cli::help(*topic, None).is_empty()),
        _ => {}
    }
}

fn check_targets(targets: &Targets) {
    match targets {
        Targets::Matching(pattern) => {
            for id in ["", "web-1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x^]\\-.$"] {
                pattern.is_in(id);
            }
        }
        Targets::One(id) => check_id(id.as_str()),
    }
}

fn check_id(id: &str) {
    assert!((1..=255).contains(&id.len()) && !matches!(id, "." | "..") && !id.contains('/'), "{id:?}");
}
