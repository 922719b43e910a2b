//! Every verb of `bulkhead`, and how what was typed finds its one.
//!
//! Only the verb that was named is built as a parser: all of them together would cost more than a container's start. The
//! whole tree exists for help, completions and the manual.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command};

use crate::failure::Failure;
use crate::home::Home;

mod absent;
mod family;
mod flags;

pub(crate) use family::FAMILIES;

/// A verb: how it is called, what it takes, and what it does.
#[derive(Debug)]
pub(crate) struct Verb {
    /// What is typed; the first is its name, the others mean the same (`container run`).
    pub(crate) names: &'static [&'static str],
    define: fn(Command) -> Command,
    run: fn(&ArgMatches, &Home) -> Result<ExitCode, Failure>,
}

/// What was typed of a verb, and can be done.
pub(crate) trait Operation: Args {
    /// Does it.
    ///
    /// # Errors
    /// Why it is not done.
    fn run(self, home: &Home) -> Result<ExitCode, Failure>;
}

impl Verb {
    /// The verb whose options are `T`.
    const fn of<T: Operation>(names: &'static [&'static str]) -> Verb {
        Verb {
            names,
            define: |command| flags::with_help(T::augment_args(command)),
            run: |matches, home| T::from_arg_matches(matches)?.run(home),
        }
    }

    /// A verb with verbs of its own.
    pub(crate) const fn of_several(
        names: &'static [&'static str],
        define: fn(Command) -> Command,
        run: fn(&ArgMatches, &Home) -> Result<ExitCode, Failure>,
    ) -> Verb {
        Verb { names, define, run }
    }

    /// The parser, under one of the names.
    pub(crate) fn command(&self, name: &'static str) -> Command {
        let command = Command::new(name).bin_name(format!("bulkhead {name}")).disable_version_flag(true);
        (self.define)(command).term_width(0)
    }

    /// What it does, in a line.
    pub(crate) fn about(&self) -> String {
        self.command(self.names[0]).get_about().map(ToString::to_string).unwrap_or_default()
    }
}

/// Finds a verb by the words it was typed with; returns the name and how many words that is.
pub(crate) fn find(words: &[OsString]) -> Option<(&'static Verb, &'static str)> {
    let all = || FAMILIES.iter().flat_map(|family| family.verbs);
    let named = |typed: &str| {
        all().find_map(|verb| verb.names.iter().find(|name| **name == typed).map(|name| (verb, *name)))
    };
    let [first, second] = [words.first(), words.get(1)].map(|word| word.and_then(|word| word.to_str()));
    let first = first?;
    second.and_then(|second| named(&format!("{first} {second}"))).or_else(|| named(first))
}

/// Does what was typed behind `bulkhead`.
///
/// # Errors
/// Words that are no verb, options that it has not, and why it could not be done.
pub(crate) fn run(words: &[OsString], home: Home) -> Result<ExitCode, Failure> {
    let Some((verb, name)) = find(words) else { return Err(family::unknown(words)) };
    let rest = &words[name.split(' ').count()..];
    let command = flags::as_docker(verb.command(name));
    let typed = std::iter::once(OsStr::new("bulkhead")).chain(rest.iter().map(OsString::as_os_str));
    let matches = command.try_get_matches_from(typed).map_err(|error| flags::explain(error, verb, name))?;
    (verb.run)(&matches, &home.entered_for(verb.names[0])?)
}

/// Tells of everything that a verb takes.
///
/// # Errors
/// The help itself, which clap has for an error; words that are no verb.
pub(crate) fn help(words: &[OsString], home: &Home) -> Result<ExitCode, Failure> {
    match find(words) {
        Some((verb, name)) if name.split(' ').count() == words.len() => {
            flags::whole_help(verb, name).map_or(Ok(ExitCode::SUCCESS), Err)
        }
        // A verb with verbs of its own, or none.
        _ => run(&[words, &["--help".into()]].concat(), home.clone()),
    }
}

/// The whole as one parser: for completions and the manual.
pub(crate) fn tree() -> Command {
    let mut tree = Command::new("bulkhead")
        .disable_help_subcommand(true)
        .about(crate::help::ABOUT)
        .version(env!("CARGO_PKG_VERSION"));
    let mut groups: Vec<Command> = Vec::new();
    for verb in FAMILIES.iter().flat_map(|family| family.verbs) {
        for name in verb.names {
            match name.split_once(' ') {
                None => tree = tree.subcommand(verb.command(name)),
                Some((group, word)) => {
                    let command = verb.command(word).bin_name(format!("bulkhead {name}"));
                    let place = groups.iter().position(|known| known.get_name() == group);
                    let known = place.map(|place| groups.swap_remove(place));
                    let known = known.unwrap_or_else(|| Command::new(group).about(family::of_group(group)));
                    groups.push(known.subcommand(command));
                }
            }
        }
    }
    groups.sort_by(|one, other| one.get_name().cmp(other.get_name()));
    tree.subcommands(groups)
}
