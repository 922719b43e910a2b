//! The program `bulkrun`: parse, dispatch, say once what went wrong, and end with the right code.
#![no_main]

use std::error::Error;
use std::io::Write;

use bulkhead_runtime::cli::{self, Command, Global, Invocation, Stage};
use bulkhead_runtime::error::Doing;
use bulkhead_runtime::exit::ExitCode;
use bulkhead_runtime::log::Log;
use bulkhead_runtime::{activation, command, error, fds, query, shield};
use bulkhead_sys::signal;

/// What `exec` ends with when its process could not be run; lower codes are the process's own.
const EXEC_FAILED: u8 = 255;

bulkhead_sys::program!(begin);

fn begin() -> u8 {
    let code = match cli::parse(std::env::args_os().skip(1)) {
        Ok(invocation) => run(invocation),
        Err(rejected) => {
            if let Some(log) = open_log(&rejected.global) {
                say(&log, &rejected.error);
            }
            match rejected.stage {
                Stage::Values("exec") => ExitCode::from(EXEC_FAILED),
                _ => ExitCode::FAILURE,
            }
        }
    };
    code.number()
}

fn run(Invocation { global, command, warnings }: Invocation) -> ExitCode {
    // Before anything is opened: what is open now is the caller's.
    let missing = activation::check(&command);
    let failure = match command {
        Command::Exec(_) => ExitCode::from(EXEC_FAILED),
        _ => ExitCode::FAILURE,
    };
    let Some(log) = open_log(&global) else { return failure };
    for warning in warnings {
        log.warn(warning);
    }
    if let Some(warning) = missing {
        log.warn(warning);
    }
    let failed = failed(&command);
    dispatch(&global, command, &log).unwrap_or_else(|error| {
        say_that(failed, &log, &*error);
        failure
    })
}

/// What runc says first when these fail, in text that people look for in logs.
fn failed(command: &Command) -> &'static str {
    match command {
        Command::Create(_) => "create failed",
        Command::Run(_) => "run failed",
        Command::Exec(_) => "exec failed",
        _ => "",
    }
}

fn dispatch(global: &Global, command: Command, log: &Log) -> Result<ExitCode, Box<dyn Error>> {
    if matches!(command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
        shield::raise()?;
    }
    // Not before: the shield executes this program anew, which must find what it is to pass.
    fds::keep_from_programs()?;
    // Of a caller that ignores it we would have children that nobody can wait for.
    signal::reset(libc::SIGCHLD)?;
    match command {
        Command::Create(options) => Ok(command::create(global, &options, log)?),
        Command::Start(id) => Ok(command::start(global, &id, log)?),
        Command::Run(options) => Ok(command::run(global, &options, log)?),
        Command::Exec(options) => Ok(command::exec::exec(global, &options, log)?),
        Command::Kill(options) => Ok(command::kill(global, &options, log)?),
        Command::Delete(options) => Ok(command::delete(global, &options, log)?),
        Command::Pause(id) => Ok(command::pause(global, &id)?),
        Command::Resume(id) => Ok(command::resume(global, &id)?),
        Command::Checkpoint(options) => Ok(command::checkpoint::checkpoint(global, &options, log)?),
        Command::Restore(options) => Ok(command::checkpoint::restore(global, &options, log)?),
        Command::Update(options) => Ok(command::update::update(global, &options, log)?),
        Command::State(id) => print(query::state(global, &id)?),
        Command::List(options) => print(query::list(global, &options, log)?),
        Command::Ps(options) => print(query::ps(global, &options)?),
        Command::Events(options) => Ok(query::events(global, &options, log).map(|()| ExitCode::SUCCESS)?),
        Command::Spec(options) => Ok(query::spec(&options).map(|()| ExitCode::SUCCESS)?),
        Command::Features => print(query::features()?),
        Command::Completion(shell) => print(cli::completion(shell)),
        Command::Man => print(cli::man()),
        Command::Help(topic) => print(cli::help(topic, std::env::args_os().next().as_deref())),
        Command::Version => print(cli::version()),
    }
}

/// Opens the log before anything else can fail, so that an engine finds the reason in it; says so if it cannot.
fn open_log(global: &Global) -> Option<Log> {
    Log::open(global.log.as_deref(), global.log_format, global.log_level, global.log_echo)
        .map_err(|error| say(&Log::stderr(), &error))
        .ok()
}

/// Says why the program fails: the whole chain, once, in one line.
fn say(log: &Log, error: &(dyn Error + 'static)) {
    say_that("", log, error);
}

/// Says what fails, unless that is nothing, and why.
fn say_that(failed: &str, log: &Log, error: &(dyn Error + 'static)) {
    let plain = error.downcast_ref::<error::Error>().and_then(error::Error::of_program);
    let mut chain = error::chain(error);
    if failed.starts_with("exec") {
        chain.insert(0, failed.to_owned());
    } else if !failed.is_empty() {
        chain.insert(0, format!("{} {failed}", cli::called(std::env::args_os().next().as_deref())));
    }
    log.fatal(chain.join(": "), plain);
}

/// Writes to stdout. A reader that has seen enough (`bulkrun man | head`) is no failure.
fn print(text: impl AsRef<[u8]>) -> Result<ExitCode, Box<dyn Error>> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => Ok(written.doing(|| "write to standard output").map(|()| ExitCode::SUCCESS)?),
    }
}
