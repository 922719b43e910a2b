//! What is done inside a sandbox to measure it: the program `bulkload`.
//!
//! One static file, the same on every platform. It prints one line of JSON and ends with 0, or says on standard error why
//! not and ends with 1. [`work`] does a task and tells how fast; [`hog`] takes what it can get, within bounds; [`take`]
//! tells whether something is left; [`probe`] tries a wall; [`heavy`] has programs of others work; [`ready`] is there to be
//! started, [`mix`] to be watched, [`held`] to be watched from the first call. Everything is done by processes: the program
//! never has a second thread.

use std::io::Write as _;

use serde::Serialize;

use self::error::{Error, Result};
use self::options::Invocation;

mod error;
mod heavy;
mod held;
mod hog;
mod latency;
mod mix;
mod options;
mod pace;
mod probe;
mod processor;
mod random;
mod ready;
mod scratch;
mod take;
mod this_program;
mod work;

/// Runs the program and returns its exit status.
pub fn run() -> u8 {
    match answer() {
        Ok(()) => 0,
        Err(error) => {
            // Nobody is left to be told when this fails.
            let _ = writeln!(std::io::stderr(), "bulkload: {error}");
            1
        }
    }
}

fn answer() -> Result<()> {
    match options::parse(std::env::args_os().skip(1))? {
        Invocation::Take(order) => print_json(&take::run(&order)?),
        Invocation::Ready => ready::run(),
        Invocation::Nothing => Ok(()),
        Invocation::Hello => ready::say(b"H"),
        Invocation::Mix(directory) => mix::run(&directory),
        Invocation::Held(order) => held::run(&order),
        Invocation::Help => print(options::help().trim_end()),
        Invocation::Work(order) => print_json(&work::run(&order)?),
        Invocation::Hog(order) => print_json(&hog::run(&order)?),
        Invocation::Heavy(order) => print_json(&heavy::run(&order)?),
        Invocation::Probe(order) => print_json(&probe::run(&order)?),
    }
}

fn print_json(line: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string(line).map_err(|error| Error::io("write JSON")(error.into()))?)
}

fn print(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(Error::io("write to standard output"))
}
