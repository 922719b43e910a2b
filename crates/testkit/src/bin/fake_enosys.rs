//! Runs a command in which chosen system calls fail: `fake-enosys open_tree,mount_setattr=EPERM -- COMMAND…`.

use std::env::ArgsOs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use bulkhead_testkit::faults::Faults;

/// What a shell returns for a command that cannot be run; the kit's own failures use it too.
const CANNOT_RUN: u8 = 127;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    arguments.next();
    let sentence = run(arguments);
    eprintln!("fake-enosys: {sentence}");
    ExitCode::from(CANNOT_RUN)
}

/// Becomes the command; returns only with the sentence that says why not.
fn run(mut arguments: ArgsOs) -> String {
    let (list, separator, program) = (arguments.next(), arguments.next(), arguments.next());
    let (Some(list), Some(program)) = (list, program) else { return usage() };
    if separator.is_none_or(|separator| separator != "--") {
        return usage();
    }
    let faults = match list.to_string_lossy().parse::<Faults>() {
        Ok(faults) => faults,
        Err(error) => return error.to_string(),
    };
    if let Err(error) = faults.load() {
        return error.to_string();
    }
    let error = Command::new(&program).args(arguments).exec();
    format!("run {}: {error}", program.display())
}

fn usage() -> String {
    "usage: fake-enosys CALL[=ERRNO][,CALL[=ERRNO]]… -- COMMAND [ARGUMENT]…".to_owned()
}
