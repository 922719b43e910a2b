//! The program `bulkrun`: parse, dispatch, say once what went wrong, and end with the right code.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use bulkhead_runtime::cli::{self, Command, Global, Invocation};
use bulkhead_runtime::command;
use bulkhead_runtime::log::Log;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(invocation) => run(invocation),
        Err(rejected) => {
            open_log(&rejected.global).map_or_else(|code| code, |log| failed(&log, &rejected.error))
        }
    }
}

fn run(invocation: Invocation) -> ExitCode {
    let log = match open_log(&invocation.global) {
        Ok(log) => log,
        Err(code) => return code,
    };
    for warning in &invocation.warnings {
        log.warn(warning);
    }
    match dispatch(&invocation.global, invocation.command, &log) {
        Ok(code) => code,
        Err(error) => failed(&log, &*error),
    }
}

fn dispatch(global: &Global, command: Command, log: &Log) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Help(topic) => print(&cli::help(topic)),
        Command::Version => print(&cli::version()),
        Command::Completion(shell) => print(&cli::completion(shell)),
        Command::Man => print(&cli::man()),
        Command::Create(options) => Ok(command::create(global, &options, log)?),
        Command::Run(options) => Ok(command::run(global, &options, log)?),
        Command::Exec(options) => Ok(command::exec::exec(global, &options, log)?),
        Command::Start(id) => Ok(command::start(global, &id, log)?),
        Command::Kill(options) => Ok(command::kill(global, &options)?),
        Command::Delete(options) => Ok(command::delete(global, &options, log)?),
        Command::Pause(id) => Ok(command::pause(global, &id)?),
        Command::Resume(id) => Ok(command::resume(global, &id)?),
        other => Err(format!("{other:?} is not there yet").into()),
    }
}

/// Opens the log before anything else can fail, so that an engine finds the reason in it.
fn open_log(global: &Global) -> Result<Log, ExitCode> {
    Log::open(global.log.as_deref(), global.log_format, global.log_level)
        .map_err(|error| failed(&Log::stderr(), &error))
}

/// Says the whole chain of an error in one line.
fn failed(log: &Log, error: &dyn Error) -> ExitCode {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        line.push_str(": ");
        line.push_str(&source.to_string());
        next = source.source();
    }
    log.fatal(line);
    ExitCode::FAILURE
}

/// Writes to stdout. A reader that has seen enough (`bulkrun man | head`) is no failure.
fn print(text: &str) -> Result<ExitCode, Box<dyn Error>> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
