//! `bulkhead measure doctor`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use bulkhead_measure::doctor::{self, Check, State};
use bulkhead_measure::error::Error;

use super::Format;

pub(super) fn run(format: Format) -> Result<ExitCode, Error> {
    let checks = doctor::examine(super::guard_program().as_deref())?;
    if format == Format::Json {
        super::print_json(&checks)?;
        return Ok(ExitCode::SUCCESS);
    }
    let colours = std::io::stdout().is_terminal();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, state, says } in checks {
        println!("{}  {name:width$}  {says}", mark(state, colours));
    }
    Ok(ExitCode::SUCCESS)
}

fn mark(state: State, colours: bool) -> String {
    let (word, colour) = match state {
        State::Good => ("good", 32),
        State::Less => ("less", 33),
        State::Missing => ("no  ", 31),
    };
    if colours { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
}
