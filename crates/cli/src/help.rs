//! `bulkhead` alone, `--help` and `help`: what there is, on one screen.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;

use crate::failure::Failure;
use crate::home::Home;
use crate::verbs::{self, FAMILIES, Operation};

/// What this program is.
pub(crate) const ABOUT: &str = "Containers for Linux without a daemon, and numbers about their walls";

/// Width of the screen.
const COLUMNS: usize = 80;

/// The commands that matter first.
const FIRST: &[&str] = &["run", "ps", "exec", "logs", "images"];

/// Tell of a command and its options
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The command
    #[arg(value_name = "COMMAND", num_args = 0..)]
    command: Vec<OsString>,
}

impl Operation for Options {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Options { command } = self;
        if command.is_empty() { whole() } else { verbs::help(&command, home) }
    }
}

/// The few commands to begin with.
pub(crate) fn first() -> Result<ExitCode, Failure> {
    let mut text = format!("{ABOUT}\n\n");
    text.push_str(&described(FIRST));
    text.push_str("\n`bulkhead --help` lists all commands, `bulkhead COMMAND --help` tells of one.\n");
    print(&text)
}

/// All commands.
pub(crate) fn whole() -> Result<ExitCode, Failure> {
    let mut text = format!("{ABOUT}\n\nUsage: bulkhead [--root DIR] [--run DIR] COMMAND\n\n");
    text.push_str(&described(FIRST));
    for family in FAMILIES {
        let names = family.verbs.iter().flat_map(|verb| verb.names.first()).copied();
        let own = Vec::from_iter(names.filter(|name| !FIRST.contains(name)));
        if !own.is_empty() {
            text.push_str(&format!("\n{}:\n{}", family.title, wrapped(&own)));
        }
    }
    text.push_str("\n`bulkhead COMMAND --help` tells of one.\n");
    print(&text)
}

/// Names with what they do, a line each.
fn described(names: &[&str]) -> String {
    let mut text = String::new();
    for name in names {
        if let Some((verb, _)) = verbs::find(&[(*name).into()]) {
            text.push_str(&format!("  {name:<10} {}\n", verb.about()));
        }
    }
    text
}

/// Names in lines of the screen's width.
fn wrapped(names: &[&str]) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for name in names {
        let separator = if line.is_empty() { "  " } else { ", " };
        if line.len() + separator.len() + name.len() >= COLUMNS {
            text.push_str(&format!("{line},\n"));
            line = format!("  {name}");
        } else {
            line.push_str(separator);
            line.push_str(name);
        }
    }
    text + &line + "\n"
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
