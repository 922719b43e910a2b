//! The project's own commands: `cargo xtask COMMAND`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use bulkhead_measure::interrupt::Interrupted;
use lexopt::Parser;

mod apt;
mod bench;
mod cache;
mod conformance;
mod debian;
mod demo;
mod engines;
mod faults;
mod fuzz;
mod heavy;
mod images;
mod invoke;
mod marked;
mod networks;
mod packages;
mod peers;
mod run;
mod shipped;
mod survive;
mod test;
mod tidy;
mod tmpfs;
mod value;
mod vm;
mod workspace;

const HELP: &str = "\
Needs rustup's stable Rust (cargo 1.88 or newer; the cargo of a Debian release may be too old).

cargo xtask COMMAND

  bench start       measure what a container's start costs, ours and its peers'
  build [PROGRAM]…  build the programs as they are shipped: static, beside each other
  conformance       run the suites of others against ours, runc and crun
  debian            make the Debian that tests run in containers, in the cache
  demo [-- COMMAND] run a command in a container made of this machine's own files
  engines           unpack podman, docker and containerd, which tests run over bulkrun, or run these in a guest
  faults            make every system call of the runtime its last, then fail
  fuzz [TARGET]…    give fuzzers more time, and count all that they had
  heavy             unpack the programs of `bulkhead measure --heavy` into the cache
  images            unpack a registry, skopeo, umoci and a real image, which tests use, into the cache
  networks          unpack CNI plugins and firewalls, which tests use, into the cache
  run [-- WORDS]    build Bulkhead, and be `bulkhead run`
  survive           kill commands of the engine, and monitors, at a hundred moments of their lives each
  test [--yes]      install what tests need, then format, lint, tidy and all tests
  tidy [--list]     check what a program can check of the project's rules
  peers [--youki]   unpack the runtimes that ours is measured against into the cache
  vm -- COMMAND     run a command, or tests, in a guest with cgroup v2 and systemd
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            if asks_for_help(&error) {
                // What a command says about itself when it does not know an option.
                println!("{error}");
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error:#}");
            interruption(&error).map_or(ExitCode::FAILURE, |interrupted| ExitCode::from(interrupted.code()))
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut parser = Parser::from_env();
    let command = match parser.next()? {
        None => return Ok(help()),
        Some(lexopt::Arg::Short('h') | lexopt::Arg::Long("help")) => return Ok(help()),
        Some(lexopt::Arg::Value(command)) => command,
        Some(other) => return Err(other.unexpected()).context("a command comes first: cargo xtask --help"),
    };
    dispatch(&command, parser)
}

fn dispatch(command: &OsString, parser: Parser) -> Result<ExitCode> {
    match command.to_str() {
        Some("bench") => bench::run(parser),
        Some("build") => shipped::run(parser),
        Some("conformance") => conformance::run(parser),
        Some("debian") => debian::run(parser),
        Some("demo") => demo::run(parser),
        Some("engines") => engines::run(parser),
        Some("faults") => faults::run(parser),
        Some("fuzz") => fuzz::run(parser),
        Some("heavy") => heavy::run(parser),
        Some("images") => images::run(parser),
        Some("networks") => networks::run(parser),
        Some("peers") => peers::run(parser),
        Some("run") => run::run(parser),
        Some("survive") => survive::run(parser),
        Some("test") => test::run(parser),
        Some("tidy") => tidy::run(parser),
        Some("vm") => vm::run(parser),
        Some("help") => Ok(help()),
        _ => bail!("no command {}; cargo xtask --help lists them", command.display()),
    }
}

/// No command has an option for help, so each refuses it.
fn asks_for_help(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(lexopt::Error::UnexpectedOption(option)) => option == "--help" || option == "-h",
        _ => false,
    }
}

/// The signal that ended the command, if one did.
fn interruption(error: &anyhow::Error) -> Option<Interrupted> {
    let within = || error.downcast_ref::<bulkhead_measure::error::Error>()?.interruption();
    error.downcast_ref().copied().or_else(within)
}

fn help() -> ExitCode {
    print!("{HELP}");
    ExitCode::SUCCESS
}
