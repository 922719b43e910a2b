//! `bulkhead`: the command line that people type.
//!
//! It parses what was typed, calls the crate whose subject that is, and prints. Errors are said once, here, with what
//! to do next.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use bulkhead_measure::error::Error;
use clap::{Parser, Subcommand};

mod measure;

/// Containers for Linux, and numbers about their walls.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, term_width = 80)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure what walls hold and what they cost: bare, bulkrun, crun, runc, gVisor and others.
    #[command(subcommand)]
    Measure(measure::Verb),
}

fn main() -> ExitCode {
    if bulkhead_measure::guest::is_guest() {
        bulkhead_measure::guest::live();
        return ExitCode::FAILURE;
    }
    let Arguments { verb: Verb::Measure(verb) } = Arguments::parse();
    match measure::run(verb) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            error.interruption().map_or(ExitCode::FAILURE, |signal| ExitCode::from(signal.code()))
        }
    }
}

/// Says the error with all that led to it, in one line.
fn report(error: &Error) {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let (on, off) = if std::io::stderr().is_terminal() { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    eprintln!("{on}error:{off} {text}");
}
