//! `exec`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_engine::Streams;
use bulkhead_engine::request::{self, UserSpec, Variable};
use clap::Args;

use super::options::environment;
use crate::failure::{Failure, NOT_STARTED};
use crate::home::Home;
use crate::verbs::Operation;

/// Run a command in a running container
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// Do not wait for it
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,
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
        let Exec { detach, interactive, tty, env, env_file, user, workdir, privileged, words } = self;
        let Some((container, command)) = words.split_first().filter(|(_, command)| !command.is_empty())
        else {
            let failure = Failure::new("a container and a command are meant").code(NOT_STARTED);
            return Err(failure.hint("`bulkhead exec -it CONTAINER sh` opens a shell in it"));
        };
        if tty && interactive && !io::stdin().is_terminal() {
            let failure = Failure::new("the standard input is no terminal").code(1);
            return Err(failure.hint("leave out -t"));
        }
        let exec = request::Exec {
            command: command.to_vec(),
            environment: environment(env, &env_file)?,
            user,
            directory: workdir,
            terminal: tty,
            privileged,
        };
        let streams = match (detach, interactive) {
            (true, _) => Streams::None,
            (false, true) => Streams::All,
            (false, false) => Streams::Output,
        };
        Ok(ExitCode::from(home.engine()?.exec(container, &exec, streams)?))
    }
}
