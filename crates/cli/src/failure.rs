//! What went wrong, said once: the error with all that led to it, and what to do next.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use bulkhead_engine::store::layer;

use crate::output::escape;
use crate::output::listing::PrintError;
use crate::template;

/// Misuse of the command line, and what kept `run` from starting anything (docker's).
pub(crate) const NOT_STARTED: u8 = 125;

/// As a shell tells of a program that SIGPIPE ended.
const UNREAD: u8 = 128 + 13;

/// Why a verb did not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was typed cannot be understood.
    Misuse(Box<clap::Error>),
    /// It could not be done.
    Failed { text: String, hint: Option<String>, code: u8 },
    /// Nobody reads the output any more, as in `bulkhead ps | head -1`.
    Unread,
}

impl Failure {
    /// A failure in words: a fragment that names the object.
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure::Failed { text: text.into(), hint: None, code: 1 }
    }

    /// Adds what to do next.
    pub(crate) fn hint(self, next: impl Into<String>) -> Failure {
        match self {
            Failure::Failed { text, code, .. } => Failure::Failed { text, hint: Some(next.into()), code },
            other => other,
        }
    }

    /// Ends with another code.
    pub(crate) fn code(self, code: u8) -> Failure {
        match self {
            Failure::Failed { text, hint, .. } => Failure::Failed { text, hint, code },
            other => other,
        }
    }

    /// Tells whether it ends with the code of any failure.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Failure::Failed { code: 1, .. })
    }

    /// A failed call on something: what was done, and why it failed.
    pub(crate) fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let doing = doing.into();
        move |error| Failure::new(format!("{doing}: {error}"))
    }

    /// Says it on the standard error, and returns the code to end with.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::Misuse(error) => {
                // Help that was asked for goes to the standard output, and is no failure.
                let is_failure = error.use_stderr();
                match error.print() {
                    Ok(()) if !is_failure => ExitCode::SUCCESS,
                    _ => ExitCode::from(NOT_STARTED),
                }
            }
            Failure::Failed { text, hint, code } => {
                say("error", "\u{1b}[1;31m", &text);
                if let Some(hint) = hint {
                    say("hint", "\u{1b}[1;36m", &hint);
                }
                ExitCode::from(code)
            }
            Failure::Unread => ExitCode::from(UNREAD),
        }
    }
}

/// Joins an error and all that led to it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut told = error;
    while let Some(cause) = told.source() {
        // What was done to which file is said before it, and by which call is nothing to people.
        let plain = cause.downcast_ref::<bulkhead_sys::Error>().filter(|_| names_file(told));
        text.push_str(": ");
        text.push_str(&plain.map_or_else(|| cause.to_string(), bulkhead_sys::Error::text));
        told = cause;
    }
    text
}

/// Tells whether an error says which file was being copied, packed or unpacked, and what was done to it.
fn names_file(error: &(dyn Error + 'static)) -> bool {
    let of_layer = match error.downcast_ref::<bulkhead_engine::Error>() {
        Some(bulkhead_engine::Error::Layer(error)) => Some(error),
        _ => error.downcast_ref::<layer::Error>(),
    };
    matches!(of_layer, Some(layer::Error::Machine { .. }))
}

/// Says what people should know, though nothing stops for it.
pub(crate) fn warn(text: &str) {
    say("warning", "\u{1b}[1;33m", text);
}

fn say(kind: &str, colour: &str, text: &str) {
    let is_coloured =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (on, off) = if is_coloured { (colour, "\u{1b}[0m") } else { ("", "") };
    let text = without_numbers(text);
    // What images and registries say may be in it.
    let text = if io::stderr().is_terminal() { escape::lines(&text) } else { text };
    eprintln!("{on}{kind}:{off} {text}");
}

/// Leaves the numbers of errors out that the standard library puts behind their words.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| match part.split_once(')') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => text + rest,
        _ => text + " (os error " + part,
    })
}

impl From<bulkhead_measure::error::Error> for Failure {
    fn from(error: bulkhead_measure::error::Error) -> Failure {
        let code = error.interruption().map_or(1, |signal| signal.code());
        Failure::new(chain(&error)).code(code)
    }
}

impl From<bulkhead_engine::Error> for Failure {
    /// The runtime's word about a program that cannot be executed, or is not there, is also the code.
    fn from(error: bulkhead_engine::Error) -> Failure {
        let code = match error.exit_code() {
            NOT_STARTED => 1,
            code => code,
        };
        let failure = Failure::new(chain(&error)).code(code);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<bulkhead_engine::store::Error> for Failure {
    fn from(error: bulkhead_engine::store::Error) -> Failure {
        bulkhead_engine::Error::from(error).into()
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Failure {
        Failure::Misuse(Box::new(error))
    }
}

impl From<template::Error> for Failure {
    fn from(error: template::Error) -> Failure {
        Failure::new(error.to_string()).code(NOT_STARTED)
    }
}

impl From<PrintError> for Failure {
    fn from(error: PrintError) -> Failure {
        match error {
            PrintError::Template(error) => error.into(),
            PrintError::Output(error) => error.into(),
        }
    }
}

/// An error of the standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Unread,
            _ => Failure::new(format!("write to the standard output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_left_out() {
        let error = io::Error::from_raw_os_error(2);
        let text = without_numbers(&format!("read a: {error}, (os error x) and b: {error}"));
        assert_eq!(text, "read a: No such file or directory, (os error x) and b: No such file or directory");
    }
}
