//! `exec`.

use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_engine::request::{self, UserSpec, Variable};
use bulkhead_engine::{Joined, Piped, Streams};
use clap::Args;

use super::options::environment;
use crate::failure::{Failure, NOT_STARTED};
use crate::home::Home;
use crate::terminal::{self, Ended, Keys, OnPipes, OnTerminal, Signals, Stdin};
use crate::verbs::Operation;

/// Run a command in a running container
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// Leave it by these keys; it goes on
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<Keys>,
    /// Keep the standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Lend it this terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; NAME alone takes the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<Variable>,
    /// Set the variables of a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run as this user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<UserSpec>,
    /// Begin in this directory of the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Give it all rights of root
    #[arg(long)]
    privileged: bool,
    /// The container, and the command in it
    #[arg(trailing_var_arg = true, hide = true, value_name = "CONTAINER COMMAND [ARG]")]
    words: Vec<String>,
}

impl Operation for Exec {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Exec { detach, detach_keys, interactive, tty, env, env_file, user, workdir, privileged, words } =
            self;
        let Some((container, command)) = words.split_first().filter(|(_, command)| !command.is_empty())
        else {
            let failure = Failure::new("a container and a command are meant").code(NOT_STARTED);
            return Err(failure.hint("`bulkhead exec -it CONTAINER sh` opens a shell in it"));
        };
        if tty && interactive && !detach {
            terminal::require()?;
        }
        let exec = request::Exec {
            command: command.to_vec(),
            environment: environment(env, &env_file)?,
            user,
            directory: workdir,
            terminal: tty,
            size: if tty { terminal::size() } else { None },
            privileged,
        };
        let engine = home.engine()?;
        match (detach, tty) {
            (true, false) => engine.exec_detached(container, &exec)?,
            (true, true) => engine.exec_on_terminal(container, &exec)?.leave()?,
            (false, true) => {
                let keys = Keys::or_configured(detach_keys)?;
                let stdin = if interactive { Stdin::Attached } else { Stdin::Left };
                return on_terminal(engine.exec_on_terminal(container, &exec)?, stdin, keys);
            }
            (false, false) => {
                let streams = if interactive { Streams::All } else { Streams::Output };
                return on_pipes(engine.exec(container, &exec, streams)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Stays with a process on its terminal. Whoever leaves it by his keys finds it going on; what else ends this program hangs
/// up on it, as any terminal does.
fn on_terminal(process: Joined<'_>, stdin: Stdin, keys: Keys) -> Result<ExitCode, Failure> {
    let mut peer = OnTerminal::new(process);
    match terminal::relay(&mut peer, stdin, keys, Signals::Own)? {
        Ended::Exited(code) => Ok(ExitCode::from(code)),
        Ended::Detached => {
            peer.process.leave()?;
            Ok(ExitCode::SUCCESS)
        }
        Ended::Gone => Ok(ExitCode::from(HUNG_UP)),
        Ended::Signalled(number) => Ok(ExitCode::from(of_signal(number))),
    }
}

/// Stays with a process that has none, and sends it what signals come.
fn on_pipes(process: Piped<'_>) -> Result<ExitCode, Failure> {
    let mut peer = OnPipes::new(process);
    let stdin = if peer.speaks() { Stdin::Attached } else { Stdin::Left };
    match terminal::relay(&mut peer, stdin, Keys::default(), Signals::Proxied)? {
        Ended::Exited(code) => Ok(ExitCode::from(code)),
        Ended::Detached | Ended::Gone => Ok(ExitCode::SUCCESS),
        Ended::Signalled(number) => Ok(ExitCode::from(of_signal(number))),
    }
}

/// As a shell tells of a program that SIGHUP ended.
const HUNG_UP: u8 = 128 + 1;

fn of_signal(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}
