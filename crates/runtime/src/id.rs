//! The name of a container, fit to be a directory of the state root and a cgroup.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

/// The longest id in bytes: what one path component may have (`NAME_MAX`).
const LONGEST: usize = 255;

/// A container id: 1 to 255 letters, digits, `_`, `+`, `-` and `.`, the last not at the beginning.
///
/// The set is runc's, the rule for the beginning crun's. Whoever holds a value of this type may use it as one path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// Why a text is no container id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text has no character.
    #[error("container id cannot be empty")]
    Empty,
    /// The text has more bytes than a file name may have.
    #[error("invalid container id format: {0} bytes are too long, at most {LONGEST} are allowed")]
    TooLong(usize),
    /// The text has a character outside the set.
    #[error(
        "invalid container id format: invalid character `{}` in the ID {id:?}; it has only letters, digits, '_', '+', \
         '-' and '.'",
        found.escape_debug()
    )]
    Character {
        /// What was given, with bytes that are no UTF-8 replaced.
        id: String,
        /// The first that is not in the set.
        found: char,
    },
    /// The text names the state root, its parent or a hidden file.
    #[error("invalid container id format: {0:?} begins with a dot")]
    Dot(String),
}

impl ContainerId {
    /// Checks a text.
    ///
    /// # Errors
    /// [`InvalidId`] says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        text.parse()
    }

    /// Checks a text that may not be UTF-8, as the command line or a directory gives it.
    ///
    /// # Errors
    /// [`InvalidId`] says which rule the text breaks.
    pub fn from_os(text: &OsStr) -> Result<Self, InvalidId> {
        match text.to_str() {
            Some(text) => Self::new(text),
            None => Err(InvalidId::Character {
                id: text.to_string_lossy().into_owned(),
                found: char::REPLACEMENT_CHARACTER,
            }),
        }
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |found: char| found.is_ascii_alphanumeric() || matches!(found, '_' | '+' | '-' | '.');
        if text.is_empty() {
            Err(InvalidId::Empty)
        } else if text.len() > LONGEST {
            Err(InvalidId::TooLong(text.len()))
        } else if let Some(found) = text.chars().find(|found| !allowed(*found)) {
            Err(InvalidId::Character { id: text.to_owned(), found })
        } else if text.starts_with('.') {
            Err(InvalidId::Dot(text.to_owned()))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn ordinary_names_are_ids() {
        for text in ["a", "0", "web-1", "A.b_c+d", "a..", "-", "--all", &"x".repeat(255)] {
            assert_eq!(text.parse::<ContainerId>().map(|id| id.as_str().to_owned()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_could_leave_the_state_root_is_refused() {
        let hostile = [
            "",
            ".",
            "..",
            "...",
            ".hidden",
            "/",
            "../x",
            "a/b",
            "a/../../etc",
            "a\0b",
            "a\nb",
            "a b",
            "a\tb",
            "a:b",
            "é",
            "a\u{202e}b",
            "*",
            "$(id)",
            "a\\b",
            "a%2fb",
            &"x".repeat(256),
        ];
        for text in hostile {
            assert!(text.parse::<ContainerId>().is_err(), "{text:?} was accepted");
        }
        assert!(ContainerId::from_os(OsStr::from_bytes(b"a\xff")).is_err());
    }

    #[test]
    fn the_message_shows_control_characters_escaped() {
        let error = "a\u{1b}[2J".parse::<ContainerId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid container id format: invalid character `\u{1b}` in the ID "a\u{1b}[2J"; it has only letters, digits, '_', '+', '-' and '.'"#
        );
    }
}
