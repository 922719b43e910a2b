//! What runs, and as whom.

use std::path::PathBuf;

use bulkhead_engine::request::{Request, Ulimit, UserSpec, Variable, variable_file};
use clap::Args;

use crate::failure::{Failure, NOT_STARTED};
use crate::terminal;

#[derive(Args, Debug)]
pub(super) struct Process {
    /// Lend the container this terminal
    #[arg(short, long)]
    tty: bool,
    /// Keep the standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Set a variable; NAME alone takes the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<Variable>,
    /// Set the variables of a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run as this user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<UserSpec>,
    /// Be in this group too
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Begin in this directory of the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Run this program instead of the image's; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Have a small init reap processes that nobody waits for
    #[arg(long)]
    init: bool,
    /// Set a limit of the process, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<Ulimit>,
    /// Make files with these rights masked, in octal
    #[arg(long, value_name = "MASK", value_parser = umask)]
    umask: Option<u32>,
    /// Be killed earlier (to 1000) or later (to -1000) for want of memory
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    oom_score_adj: Option<i32>,
}

impl Process {
    pub(super) fn apply(self, request: &mut Request) -> Result<(), Failure> {
        let Process {
            tty,
            interactive,
            env,
            env_file,
            user,
            group_add,
            workdir,
            entrypoint,
            init,
            ulimit,
            umask,
            oom_score_adj,
        } = self;
        let process = &mut request.process;
        process.environment = environment(env, &env_file)?;
        process.entrypoint =
            entrypoint.map(|program| if program.is_empty() { Vec::new() } else { vec![program] });
        process.user = user;
        process.groups = group_add;
        process.umask = umask;
        process.directory = workdir;
        process.terminal = tty;
        process.size = if tty { terminal::size() } else { None };
        process.stdin = interactive;
        process.init = init;
        process.ulimits = ulimit;
        process.oom_score_adjust = oom_score_adj;
        Ok(())
    }
}

/// Variables of files and then those that were typed, with values from here where they have none.
pub(crate) fn environment(typed: Vec<Variable>, files: &[PathBuf]) -> Result<Vec<Variable>, Failure> {
    let mut variables = Vec::new();
    for file in files {
        let text = super::files::read(file)?;
        let of_file = variable_file(&text)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())).code(NOT_STARTED))?;
        variables.extend(of_file);
    }
    variables.extend(typed);
    let inherited = |variable: Variable| variable.inherit(|name| std::env::var(name).ok());
    Ok(variables.into_iter().map(inherited).collect())
}

fn umask(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| "three octal digits are meant, such as 022".to_owned())
}
