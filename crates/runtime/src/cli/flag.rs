//! What the flag table is made of.

use super::Command;
use super::build::Operated;
use super::error::Error;

/// A flag, as the parser, `--help`, the completions and the manual page know it.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name after `--`.
    pub long: &'static str,
    /// The letter after `-`, if it has one.
    pub short: Option<char>,
    /// What follows the name.
    pub takes: Takes,
    /// One fragment that fits beside the name on an 80 column screen.
    pub help: &'static str,
    /// Set for a flag that does nothing and is accepted for old callers: the warning that says so.
    pub deprecated: Option<&'static str>,
}

/// What follows the name of a flag.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// Nothing, or `=true` and `=false` as Go's flags have it.
    Nothing,
    /// A value, after `=` or as the next argument.
    Value {
        /// The placeholder in the help.
        name: &'static str,
        /// What a shell offers for it.
        offer: Offer,
    },
}

/// What a shell offers as a value.
#[derive(Debug, Clone, Copy)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// File names.
    File,
    /// Directory names.
    Directory,
    /// One of these words.
    Words(&'static [&'static str]),
}

impl Flag {
    /// A flag without a value.
    pub(super) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self { long, short: None, takes: Takes::Nothing, help, deprecated: None }
    }

    /// A flag with a value called `name`.
    pub(super) const fn value(
        long: &'static str,
        name: &'static str,
        offer: Offer,
        help: &'static str,
    ) -> Self {
        Self { long, short: None, takes: Takes::Value { name, offer }, help, deprecated: None }
    }

    /// Adds the one-letter name.
    pub(super) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// Hides the flag from people and has `warning` logged when it is used.
    pub(super) const fn deprecated(mut self, warning: &'static str) -> Self {
        self.deprecated = Some(warning);
        self
    }

    /// Returns whether `name`, without dashes, is this flag.
    pub(super) fn is_called(&self, name: &[u8]) -> bool {
        let letter = match (self.short, name) {
            (Some(short), [byte]) => short == char::from(*byte),
            _ => false,
        };
        letter || self.long.as_bytes() == name
    }
}

/// A verb of the program with all that belongs to it.
#[derive(Debug)]
pub struct Verb {
    /// The word typed.
    pub name: &'static str,
    /// Other words for it.
    pub aliases: &'static [&'static str],
    /// One fragment for the list of verbs.
    pub summary: &'static str,
    /// A few sentences for its own help and the manual page.
    pub about: &'static str,
    /// What it wants beside flags.
    pub operands: Operands,
    /// Its flags in the order of the help.
    pub flags: &'static [Flag],
    /// Makes its command of what was typed.
    pub(super) build: fn(&Operated<'_>) -> Result<Command, Error>,
}

/// What a verb wants beside flags.
#[derive(Debug)]
pub struct Operands {
    /// As the usage line shows them.
    pub usage: &'static str,
    /// How many there must be.
    pub least: usize,
    /// How many there may be.
    pub most: usize,
    /// Whether the first one ends the flags, because what follows belongs to another program.
    pub ends_flags: bool,
    /// What a shell offers for the first one.
    pub first: FirstOperand,
}

/// What a shell offers for the first operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstOperand {
    /// Nothing.
    Nothing,
    /// The ids that `list --quiet` prints.
    Container,
    /// The names of the verbs.
    Verb,
    /// The shells for which a completion can be written.
    Shell,
}
