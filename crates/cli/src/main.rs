//! `bulkhead`: the command line that people type.
//!
//! It parses what was typed, calls the crate whose subject that is, and prints. Errors are said once, by [`failure`], with
//! what to do next.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::IN_USERS;
use bulkhead_engine::network::FOR_MONITOR;
use failure::Failure;
use home::Home;

mod confirm;
mod container;
mod document;
mod failure;
mod help;
mod home;
mod image;
mod inspect;
mod manual;
mod measure;
mod network;
mod output;
mod pod;
mod registry;
mod system;
mod template;
mod terminal;
mod verbs;
mod version;
mod volume;
mod when;

fn main() -> ExitCode {
    if bulkhead_measure::guest::is_guest() {
        bulkhead_measure::guest::live();
        return ExitCode::FAILURE;
    }
    let words = Vec::from_iter(std::env::args_os().skip(1));
    run(&words).unwrap_or_else(Failure::report)
}

fn run(words: &[OsString]) -> Result<ExitCode, Failure> {
    let (home, words) = Home::take(words)?;
    let Some(first) = words.first() else { return help::first() };
    match first.to_str() {
        Some("--help" | "-h") => help::whole(),
        Some("--version" | "-v" | "-V") => version::line(),
        Some(IN_USERS) => {
            let engine = home.entered_for(IN_USERS)?.engine()?;
            let said = engine.in_users(&words[1..].iter().map(OsString::as_os_str).collect::<Vec<_>>())?;
            io::stdout().write_all(&said)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(FOR_MONITOR) => {
            let engine = home.engine()?;
            engine.for_monitor(&words[1..].iter().map(OsString::as_os_str).collect::<Vec<_>>())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => verbs::run(words, home),
    }
}
