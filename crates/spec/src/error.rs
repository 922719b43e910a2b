//! What is wrong with a document, and where.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;

use crate::{locate, twins};

/// What a document of limits is called.
pub(crate) const RESOURCES: &str = "resources";

/// A document is not what the specification says.
///
/// Prints as one sentence: `config.json: /process/user/uid: invalid type: string "x", expected u32 (line 10 column 20)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    document: &'static str,
    pointer: String,
    reason: String,
    line: usize,
    column: usize,
}

impl ParseError {
    /// Returns the place as a JSON pointer (RFC 6901); empty when the document as a whole is wrong.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Returns what is wrong there, without the place.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the line in the text, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the column in that line, from 1, in bytes.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Builds the error from serde_json's, which knows line and column but not the way there.
    pub(crate) fn new(document: &'static str, text: &str, error: &serde_json::Error) -> ParseError {
        let (line, column) = (error.line(), error.column());
        let mut reason = error.to_string();
        if let Some(end) = reason.rfind(" at line ") {
            reason.truncate(end);
        }
        ParseError { document, pointer: locate::pointer(text, line, column), reason, line, column }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseError { document, pointer, reason, line, column } = self;
        write!(f, "{document}: ")?;
        if !pointer.is_empty() {
            write!(f, "{pointer}: ")?;
        }
        write!(f, "{reason} (line {line} column {column})")
    }
}

impl std::error::Error for ParseError {}

/// A string is none of the values that the specification lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownValue {
    pub(crate) noun: &'static str,
    pub(crate) value: String,
    pub(crate) expected: &'static [&'static str],
}

impl fmt::Display for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {} {:?}, expected one of {}", self.noun, self.value, self.expected.join(", "))
    }
}

impl std::error::Error for UnknownValue {}

/// Parses a document the fast way, and looks for the place only when that fails.
pub(crate) fn parse<T: DeserializeOwned>(document: &'static str, text: &str) -> Result<T, ParseError> {
    let mut reading = Reading { document, original: text, text: Cow::Borrowed(text), twins: 0 };
    loop {
        match serde_json::from_str(&reading.text) {
            Ok(parsed) => return Ok(parsed),
            Err(error) => reading.change(&error)?,
        }
    }
}

/// How many names of a document may be there twice. Every one takes another look at the whole.
const MOST_TWINS: usize = 64;

/// A document, in which names of limits that are there twice are united one after the other.
struct Reading<'a> {
    document: &'static str,
    original: &'a str,
    text: Cow<'a, str>,
    twins: usize,
}

impl Reading<'_> {
    /// Unites what is there twice, if that is what is wrong, and about limits.
    #[cold]
    fn change(&mut self, error: &serde_json::Error) -> Result<(), ParseError> {
        let error = ParseError::new(self.document, &self.text, error);
        self.twins += 1;
        let about_limits = self.document == RESOURCES || error.pointer.starts_with("/linux/resources/");
        let name = error.reason.strip_prefix("duplicate field `").and_then(|name| name.strip_suffix('`'));
        let name = name.filter(|_| about_limits && self.twins <= MOST_TWINS);
        let united = name.and_then(|name| twins::unite(&self.text, error.line, error.column, name));
        if let Some(united) = united {
            self.text = Cow::Owned(united);
            return Ok(());
        }
        let (line, column) = self.place(error.line, error.column);
        let more = if name.is_some() { ", which cannot be united with the first" } else { "" };
        let reason = error.reason + more;
        Err(ParseError { line, column, reason, ..error })
    }

    /// Returns line and column in the text as it was. What had not been read when the text was changed is as far from its
    /// end as before, and nothing else can still be wrong.
    fn place(&self, line: usize, column: usize) -> (usize, usize) {
        let start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let left = self.text.len().saturating_sub(start + column);
        let before = &self.original.as_bytes()[..self.original.len().saturating_sub(left)];
        let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        (before.iter().filter(|&&byte| byte == b'\n').count() + 1, before.len() - start)
    }
}
