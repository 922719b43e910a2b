//! Templates of `--format`: the part of Go's text/template that users of docker type.
//!
//! `{{.Field.Of.Field}}`, `{{json .}}`, pipelines, variables, `if`, `with`, `range` with `else`, `break` and `continue`,
//! `define`, `template` and `block`, comments, trimming (`{{-`, `-}}`), and the functions of [`functions`].
//! docs/decisions has why this is no crate.

use std::fmt;

use serde_json::{Map, Value};

mod evaluate;
mod functions;
mod parse;
mod scan;

/// A template that can be filled in.
#[derive(Debug)]
pub(crate) struct Template {
    parsed: parse::Parsed,
}

/// What a template is filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) value: &'a Value,
    pub(crate) labels: Labels<'a>,
}

/// What `{{.Label "name"}}` stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Labels<'a> {
    /// Nothing: it is a field like others.
    None,
    /// The label's value.
    Of(&'a Map<String, Value>),
    /// The title of a column: the last part of the label's name.
    Titles,
}

/// What is wrong with a template, or with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    /// The character it begins with, counted from 1.
    at: usize,
    text: String,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is not of the language, with its place.
    pub(crate) fn parse(text: &str) -> Result<Template, Error> {
        parse::parse(&scan::scan(text)?).map(|parsed| Template { parsed })
    }

    /// Fills it in.
    ///
    /// # Errors
    /// Fields that are not there, and functions that cannot take their arguments.
    pub(crate) fn render(&self, subject: Subject<'_>) -> Result<String, Error> {
        evaluate::render(&self.parsed, subject)
    }
}

impl Error {
    fn new(at: usize, text: impl Into<String>) -> Error {
        Error { at, text: text.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template, character {}: {}", self.at, self.text)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
