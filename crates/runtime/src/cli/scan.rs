//! Splits arguments into flags and operands by the grammar of Go's flag package with what people know from
//! getopt on top.
//!
//! `--name VALUE`, `--name=VALUE`, and the same with one dash, are Go's, as is `--switch=false`. Letters can
//! be clustered (`-td`) and a value may follow its letter (`-u0`) where no long name is spelled that way. `--`
//! ends the flags. (Crates for arguments know getopt's grammar only, in which `-bundle x` is `-b undle`.)

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::error::{Error, nearest};
use super::flag::{Flag, Takes, Verb};
use super::table;
use super::value::{self, Problem};

/// The flags and operands that were found, in the order typed.
#[derive(Debug, Default)]
pub(super) struct Typed {
    flags: Vec<(&'static Flag, Option<OsString>)>,
    /// What is no flag.
    pub(super) operands: Vec<OsString>,
}

/// Reads arguments for `verb`, or the global ones without it, until they end or, where an operand ends the
/// flags, up to that operand.
pub(super) fn scan(
    verb: Option<&'static Verb>,
    arguments: &mut dyn Iterator<Item = OsString>,
) -> Result<Typed, Error> {
    let flags = verb.map_or(table::GLOBAL, |verb| verb.flags);
    let ends_flags = verb.is_none_or(|verb| verb.operands.ends_flags);
    let mut typed = Typed::default();
    let mut flags_ended = false;
    while let Some(argument) = arguments.next() {
        let bytes = argument.as_bytes();
        if flags_ended || bytes.len() < 2 || bytes[0] != b'-' {
            typed.operands.push(argument);
            if ends_flags {
                break;
            }
        } else if bytes == b"--" {
            flags_ended = true;
        } else {
            typed.take_flag(verb, flags, bytes, arguments)?;
        }
    }
    Ok(typed)
}

impl Typed {
    fn take_flag(
        &mut self,
        verb: Option<&'static Verb>,
        flags: &'static [Flag],
        argument: &[u8],
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        let body = argument.strip_prefix(b"--").unwrap_or(&argument[1..]);
        let (name, value) = match body.iter().position(|&byte| byte == b'=') {
            Some(at) => (&body[..at], Some(OsString::from_vec(body[at + 1..].to_vec()))),
            None => (body, None),
        };
        if let Some(flag) = find(flags, name) {
            return self.push(flag, value, rest);
        }
        if argument.starts_with(b"--") || !self.take_cluster(flags, body, rest)? {
            return Err(unknown(verb, flags, argument, name));
        }
        Ok(())
    }

    /// Takes `-td` or `-u0`; false, with nothing taken, if the first letter is no flag.
    fn take_cluster(
        &mut self,
        flags: &'static [Flag],
        letters: &[u8],
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<bool, Error> {
        let mut found = Vec::new();
        for (at, letter) in letters.iter().enumerate() {
            let Some(flag) = find(flags, std::slice::from_ref(letter)) else { return Ok(false) };
            let value = match (flag.takes, &letters[at + 1..]) {
                (Takes::Value { .. }, value @ [_, ..]) => Some(OsStr::from_bytes(value).to_owned()),
                _ => None,
            };
            let ends = matches!(flag.takes, Takes::Value { .. });
            found.push((flag, value));
            if ends {
                break;
            }
        }
        for (flag, value) in found {
            self.push(flag, value, rest)?;
        }
        Ok(true)
    }

    fn push(
        &mut self,
        flag: &'static Flag,
        value: Option<OsString>,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        let value = match (flag.takes, value) {
            (Takes::Value { name, .. }, None) => {
                let missing = || Error::MissingValue { flag: format!("--{}", flag.long), name };
                Some(rest.next().ok_or_else(missing)?)
            }
            (_, value) => value,
        };
        self.flags.push((flag, value));
        Ok(())
    }

    /// Returns whether a switch was given and not taken back by `=false`.
    pub(super) fn switch(&self, flag: &Flag) -> Result<bool, Error> {
        match self.values(flag).next_back() {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(value)) => read(flag, value, value::boolean),
        }
    }

    /// Reads the last value of a flag. An empty one counts as not given, as in runc.
    pub(super) fn last<T>(
        &self,
        flag: &Flag,
        how: impl Fn(&OsStr) -> Result<T, Problem>,
    ) -> Result<Option<T>, Error> {
        let value = self.values(flag).next_back().flatten().filter(|value| !value.is_empty());
        value.map(|value| read(flag, value, how)).transpose()
    }

    /// Returns the last value of a flag that names a file.
    pub(super) fn path(&self, flag: &Flag) -> Option<PathBuf> {
        let value = self.values(flag).next_back().flatten();
        value.filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// Reads all values of a flag that may be repeated.
    pub(super) fn all<T>(
        &self,
        flag: &Flag,
        how: impl Fn(&OsStr) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Error> {
        self.values(flag).flatten().map(|value| read(flag, value, &how)).collect()
    }

    /// Returns which of two flags was given last, if any.
    pub(super) fn later<'a>(&self, one: &'a Flag, other: &'a Flag) -> Option<&'a Flag> {
        let latest = self.flags.iter().rev().map(|(given, _)| given.long);
        latest.filter_map(|long| [one, other].into_iter().find(|flag| flag.long == long)).next()
    }

    /// Returns what must be said about the deprecated flags that were used, each once.
    pub(super) fn warnings(&self) -> Vec<&'static str> {
        let mut warnings: Vec<_> = self.flags.iter().filter_map(|(flag, _)| flag.deprecated).collect();
        warnings.dedup();
        warnings
    }

    fn values(&self, flag: &Flag) -> impl DoubleEndedIterator<Item = Option<&OsString>> {
        self.flags.iter().filter(move |(given, _)| given.long == flag.long).map(|(_, value)| value.as_ref())
    }
}

fn read<T>(flag: &Flag, value: &OsStr, how: impl Fn(&OsStr) -> Result<T, Problem>) -> Result<T, Error> {
    how(value).map_err(|Problem(problem)| Error::Value {
        flag: format!("--{}", flag.long),
        value: value.to_string_lossy().into_owned(),
        problem: problem.into_owned(),
    })
}

fn find(flags: &'static [Flag], name: &[u8]) -> Option<&'static Flag> {
    static HELP: Flag = table::HELP;
    flags.iter().chain([&HELP]).find(|flag| flag.is_called(name))
}

fn unknown(verb: Option<&'static Verb>, flags: &'static [Flag], argument: &[u8], name: &[u8]) -> Error {
    if let (Some(verb), Some(flag)) = (verb, find(table::GLOBAL, name)) {
        return Error::Misplaced { verb: verb.name, flag: format!("--{}", flag.long) };
    }
    let dashes = if argument.starts_with(b"--") { "--" } else { "-" };
    let name = String::from_utf8_lossy(name);
    let known = flags.iter().filter(|flag| flag.deprecated.is_none()).map(|flag| flag.long);
    Error::UnknownFlag {
        place: verb.map(|verb| format!("{}: ", verb.name)).unwrap_or_default(),
        nearest: nearest(&name, known).map(|long| format!("--{long}")),
        flag: format!("{dashes}{name}"),
    }
}
