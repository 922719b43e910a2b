//! Options as docker's users type them.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::Verb;
use crate::failure::{Failure, NOT_STARTED};

/// What is said of docker's flags, for people and for those who type one that is not there.
const TABLE: &str = include_str!("../../../../docs/docker-flags.md");

/// Gives a parser `--help`, and `-h` where that is nothing else.
pub(super) fn with_help(command: Command) -> Command {
    let has_short = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let help =
        Arg::new("help").long("help").action(ArgAction::Help).help("Tell of the command and its options");
    let help = if has_short { help } else { help.short('h') };
    command.disable_help_flag(true).arg(help)
}

/// Gives a parser docker's manners: `--rm=false`, and the last of an option that is typed twice counts. Its own help would
/// tell of a value for each switch.
pub(super) fn as_docker(command: Command) -> Command {
    command.args_override_self(true).mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => switch(arg),
        _ => arg,
    })
}

/// An option that is on when it is typed without a value.
fn switch(arg: Arg) -> Arg {
    let arg = if arg.get_default_values().is_empty() { arg.default_value("false") } else { arg };
    let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true");
    arg.value_parser(truth).value_name("BOOL")
}

/// As Go reads truth.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is meant".to_owned()),
    }
}

/// Prints help that was asked for, and says of an option that docker has and this verb has not why that is.
pub(super) fn explain(error: clap::Error, verb: &Verb, name: &'static str) -> Failure {
    if error.kind() == ErrorKind::DisplayHelp {
        return help(brief(verb.command(name), name)).unwrap_or_else(|| error.into());
    }
    let verb = verb.names[0];
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error.into() };
    if error.kind() != ErrorKind::UnknownArgument {
        return error.into();
    }
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    match absent(verb, flag) {
        Some(reason) => {
            Failure::new(format!("docker's {flag} is not there: {reason}")).code(NOT_STARTED).hint(format!(
                "`bulkhead {verb} --help` lists what is, docs/docker-flags.md says what becomes of docker's"
            ))
        }
        None => error.into(),
    }
}

/// All of a verb's help, however long.
pub(super) fn whole_help(verb: &Verb, name: &'static str) -> Option<Failure> {
    help(verb.command(name))
}

/// The help of a parser, which clap has for an error.
fn help(command: Command) -> Option<Failure> {
    command.try_get_matches_from(["bulkhead", "--help"]).err().map(Failure::from)
}

/// How many options fit a screen.
const FITTING: usize = 40;

/// What is shown of a verb that has more options than fit a screen.
const COMMON: &[&str] = &[
    "name",
    "detach",
    "rm",
    "interactive",
    "tty",
    "env",
    "env_file",
    "user",
    "workdir",
    "entrypoint",
    "init",
    "volume",
    "mount",
    "tmpfs",
    "read_only",
    "label",
    "network",
    "publish",
    "hostname",
    "privileged",
    "cap_add",
    "cap_drop",
    "device",
    "memory",
    "cpus",
    "restart",
    "pull",
    "runtime",
    "help",
];

/// Leaves what most people want of a help that would not fit a screen, and says where the rest is.
fn brief(command: Command, name: &str) -> Command {
    let count = command.get_arguments().count();
    if count <= FITTING {
        return command;
    }
    let command = command.mut_args(|arg| {
        let is_common = COMMON.contains(&arg.get_id().as_str());
        let hide = arg.is_hide_set() || !is_common;
        arg.hide(hide).help_heading(None::<&str>)
    });
    command.after_help(format!("These are used most. `bulkhead help {name}` tells of all {count} options."))
}

/// Finds why a flag of docker's is not there: its row in the section of its verb.
fn absent(verb: &str, flag: &str) -> Option<String> {
    rows(verb)?.find_map(|(flags, meaning)| {
        let is_it = flags.split(", ").any(|name| name.trim_matches('`') == flag);
        let reason = meaning.strip_prefix("not there: ")?;
        is_it.then(|| reason.to_owned())
    })
}

/// The rows of a verb's section: flags and what becomes of them.
fn rows(verb: &str) -> Option<impl Iterator<Item = (&'static str, &'static str)>> {
    let title = format!("## {verb}\n");
    let begin = TABLE.find(&title)? + title.len();
    let section = TABLE[begin..].split("\n## ").next()?;
    Some(section.lines().filter_map(|line| {
        let (flags, meaning) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        Some((flags, meaning))
    }))
}

#[cfg(test)]
mod tests;
